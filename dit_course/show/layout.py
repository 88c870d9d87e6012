"""The layout of images in a grid, and the finished picture.

Drawn at twice the size and shown at half, so that it is sharp on every screen. Always on white: that reads well in
the light and the dark theme, and on a web page. No pyplot: figures can be made in any thread and leave nothing behind.
"""

import base64
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from dit_course.data import atomic_write
from dit_course.show.arrays import choose_columns, enlarge
from dit_course.show.text import CAPTION, DENSITY, INK, paste, wrapped, write

# The same color for the same thing in every lesson. Apart for color-blind eyes, and in gray: dark to light.
PALETTE = {"data": "#0b3c6f", "guidance": "#a63a03", "model": "#12836c", "noise": "#8f8f8f"}
# a font that comes with matplotlib; a class may be called "$5", and that is no formula
TEXT = {"color": INK, "family": "DejaVu Sans", "parse_math": False}

PAGE_WIDTH = 820  # what a notebook shows without shrinking it, in pixels of the page
TILE = 112  # the side that a picture is enlarged to where there is room
MARGIN, GAP = 8, 4  # around the grid, and between images
TITLE = 15  # size of the text of titles
LETTER = 0.6  # width of a letter, in sizes


class Picture:
    """A finished picture: the last line of a cell shows it, `save` writes it as PNG.

    png: the file. width, height: as shown on the page. alt: what it shows, as text, for those who cannot see it.
    pixels: (height, width, 3) uint8, drawn at `DENSITY`; None where only the file is known.
    """

    def __init__(self, png: bytes | None, width: int, height: int, alt: str, pixels: np.ndarray | None = None):
        self._png, self.width, self.height, self.alt, self.pixels = png, width, height, alt, pixels

    @classmethod
    def of(cls, pixels: np.ndarray, alt: str) -> "Picture":
        """A picture of (height, width, 3) uint8, drawn at `DENSITY`."""
        return cls(None, pixels.shape[1] // DENSITY, pixels.shape[0] // DENSITY, alt, pixels)

    @property
    def png(self) -> bytes:
        """The file, encoded at first use: that takes longer than the drawing."""
        if self._png is None:
            self._png = to_png(self.pixels)
        return self._png

    def __repr__(self) -> str:
        return f"<Picture: {self.alt}>"

    def save(self, path: str | Path) -> None:
        """Write a PNG file, whole or not at all."""
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise ValueError(f"pictures are saved as PNG: let the name end in .png, not {path.name!r}")
        atomic_write(path, self.png)

    def _repr_mimebundle_(self, include=None, exclude=None):
        data = {"image/png": base64.b64encode(self.png).decode(), "text/plain": repr(self)}
        return data, {"image/png": {"width": self.width, "height": self.height, "alt": self.alt}}


class ImageGrid:
    """A grid of images of one shape: captions and title are drawn once, the images as often as a slider moves.

    shape: (N, C, H, W) of the images. captions: one each, "" for none. columns: None chooses.
    """

    def __init__(
        self,
        shape: Sequence[int],
        captions: Sequence[str] | None = None,
        columns: int | None = None,
        title: str | None = None,
    ):
        n, _, height, width = shape
        fitting = max(1, (PAGE_WIDTH - 2 * MARGIN) // (width + GAP))  # large images: fewer in a row
        self.columns = choose_columns(n, columns or min(choose_columns(n), fitting))
        room = min(TILE if n > 1 else 2 * TILE, (PAGE_WIDTH - 2 * MARGIN) // self.columns - GAP)
        self.zoom = max(1, room // max(height, width))  # whole numbers keep every pixel a square
        self.tile = (self.zoom * height, self.zoom * width)
        self._lay_out(n, captions or [""] * n, title or "")
        self._draw_text()

    def paint(self, pixels: Tensor, frame: int | None = None) -> np.ndarray:
        """The grid with images (N, C, H, W) uint8: (height, width, 3) uint8, drawn at `DENSITY`. frame: its gray."""
        page = self.blank.copy()
        tiles = enlarge(pixels, self.zoom * DENSITY).permute(0, 2, 3, 1).numpy()  # (n, c, h, w) -> (n, h, w, c)
        for corner, tile in zip(self.corners, tiles, strict=True):
            paste(page, tile, *corner, frame)
        return page

    def _lay_out(self, n: int, captions: Sequence[str], title: str) -> None:
        """Find the place of everything, in pixels of the page, from the top left."""
        tile_height, tile_width = self.tile
        letters = max(4, int((tile_width + GAP) / (LETTER * CAPTION)))
        self.captions = [wrapped(caption, letters) for caption in captions]  # the lines of each
        self.width = 2 * MARGIN + self.columns * (tile_width + GAP) - GAP
        if title:  # a narrow grid grows a little for its title
            self.width = max(self.width, 2 * MARGIN + min(400, int(LETTER * TITLE * len(title))))
        self.title = textwrap.wrap(title, max(10, int((self.width - 2 * MARGIN) / (LETTER * TITLE))))
        top = MARGIN + int(1.3 * TITLE * len(self.title)) + (MARGIN if title else 0)
        self.corners = []  # (top, left) of each picture
        for first in range(0, n, self.columns):
            row = range(first, min(first + self.columns, n))
            self.corners += [(top, MARGIN + (i - first) * (tile_width + GAP)) for i in row]
            lines = max(len(self.captions[i]) for i in row)
            top += tile_height + GAP + (int(1.3 * CAPTION * lines) + 2 * GAP if lines else 0)
        self.height = top - GAP + MARGIN
        if max(self.width, self.height) * DENSITY >= 2**16:  # as far as matplotlib goes
            raise ValueError(f"{n} pictures do not fit into one figure: show fewer, such as x[:100]")

    def _draw_text(self) -> None:
        self.blank = np.full((DENSITY * self.height, DENSITY * self.width, 3), 255, dtype=np.uint8)

        def lines(x: float, y: float, texts: Sequence[str], size: int, align: str = "left") -> None:
            for number, text in enumerate(texts):
                write(self.blank, text, x, y + size + number * 1.3 * size, size, align=align)

        lines(MARGIN, MARGIN, self.title, TITLE)
        tile_height, tile_width = self.tile
        for (top, left), texts in zip(self.corners, self.captions, strict=True):
            lines(left + tile_width / 2, top + tile_height + GAP, texts, CAPTION, "center")


def blank_figure(width: float, height: float):
    """An empty matplotlib figure of this size on the page; a text size of 12 is 12 pixels high there."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72 * DENSITY, facecolor="white")  # 72 points are an inch
    FigureCanvasAgg(figure)
    return figure


def rendered(figure) -> np.ndarray:
    """The pixels of a figure: (height, width, 3) uint8, drawn at `DENSITY`."""
    figure.canvas.draw()
    return without_alpha(np.asarray(figure.canvas.buffer_rgba()))


def without_alpha(pixels: np.ndarray) -> np.ndarray:
    """A copy of (height, width, 4) without the last channel, its bytes in one row; a fifth of numpy's own time."""
    colors = np.empty((*pixels.shape[:2], 3), dtype=np.uint8)
    for channel in range(3):
        colors[..., channel] = pixels[..., channel]
    return colors


def to_png(pixels: np.ndarray, effort: int = 9) -> bytes:
    """Encode (height, width, 3) uint8, gray ones as gray. effort: zlib's, 1 is fast and 9 small."""
    from PIL import Image

    gray = (pixels == pixels[..., :1]).all()
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[..., 0] if gray else pixels)).save(buffer, "PNG", compress_level=effort)
    return buffer.getvalue()
