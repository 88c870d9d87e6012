"""The canvas of all explorers: raw pixels to the browser, with no file format and no output area between.

What stays (captions, frames, axes) is the background, sent only when it changes. What moves is either a few small
images, enlarged by the browser with sharp edges, or a patch: the part of a picture that differs from the background.
So a move of a slider sends a few kilobytes.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from torch import Tensor

from dit_course.show.layout import DENSITY, ImageGrid


@dataclass(frozen=True)
class Patch:
    """Where a picture differs from a background: a PNG, and its (top, left, height, width) on the page.

    density: its pixels for each pixel of the page.
    """

    background: np.ndarray
    png: bytes
    box: list[float]
    density: int = DENSITY


class Canvas(anywidget.AnyWidget):
    """An image in the browser, with its alt text and a status line below.

    sequence: the number of the last picture sent; acknowledged: that of the last one the browser has put on screen, -1
    while nobody watches; first_seen is called at the first one. frame_index: which frame of an animation is shown; link
    a slider to it, and no message reaches the kernel. picked: called with (x, y), in pixels of the page, at a click.
    density: the pixels sent for each pixel of the page, `DENSITY` or less: no more than that screen has.
    """

    _esm = Path(__file__).with_name("canvas.js")
    _css = Path(__file__).with_name("canvas.css")

    width = traitlets.Int(1).tag(sync=True)  # of the background, in pixels of the page
    height = traitlets.Int(1).tag(sync=True)
    background = traitlets.Bytes(b"").tag(sync=True)  # a PNG
    tiles = traitlets.Bytes(b"").tag(sync=True)  # raw pixels: (frames, n, channels, height, width)
    size = traitlets.List([1, 0, 1, 1, 1]).tag(sync=True)  # their shape
    corners = traitlets.List().tag(sync=True)  # (top, left) of each on the page
    tile = traitlets.List([1, 1]).tag(sync=True)  # (height, width) of each on the page
    frame_index = traitlets.Int(0).tag(sync=True)
    patch = traitlets.Bytes(b"").tag(sync=True)  # a PNG that lies on the background
    patch_box = traitlets.List([0, 0, 1, 1]).tag(sync=True)  # its top, left, height, width on the page
    alt = traitlets.List([""]).tag(sync=True)  # the alt text of each frame
    status = traitlets.List([""]).tag(sync=True)  # the line below, for each frame
    wrong = traitlets.Bool(False).tag(sync=True)  # the line below is an error
    rough = traitlets.Bool(False).tag(sync=True)  # a preview: full quality follows
    sequence = traitlets.Int(0).tag(sync=True)
    pickable = traitlets.Bool(False).tag(sync=True)  # whether clicks are sent

    def __init__(
        self, first_seen: Callable[[], None] | None = None, picked: Callable[[float, float], None] | None = None
    ):
        super().__init__(pickable=picked is not None)
        self.acknowledged, self._first_seen, self._picked = -1, first_seen, picked
        self.density = self._background_density = DENSITY  # of the next picture; of the background in the browser
        self._grid: ImageGrid | None = None
        self._background_pixels: np.ndarray | None = None  # what `background` encodes
        self.on_msg(self._on_message)

    @property
    def watched(self) -> bool:
        """Whether a browser has shown this canvas: a notebook that is only executed has none."""
        return self.acknowledged >= 0

    def show(self, grid: ImageGrid, pixels: Tensor, alt: str, status: str, rough: bool = False) -> None:
        """Show images in a grid.

        pixels: (n, channels, height, width) uint8, as many as the grid has places. rough: whether full quality follows.
        """
        self.show_frames(grid, pixels[None], [alt], [status], rough)

    def show_frames(
        self, grid: ImageGrid, pixels: Tensor, alts: Sequence[str], statuses: Sequence[str], rough: bool = False
    ) -> None:
        """Show an animation in a grid: the browser gets all frames, `frame_index` says which one it shows.

        pixels: (frames, n, channels, height, width) uint8. alts, statuses: one for each frame.
        """
        with self.hold_sync():
            self._set_background(grid.blank, grid)
            self.tiles = pixels.contiguous().numpy().tobytes()
            self.size = list(pixels.shape)
            self._set_text(alts, statuses, rough)

    def draw(
        self, pixels: np.ndarray, alt: str, status: str, rough: bool = False, patch: "Patch | None" = None
    ) -> None:
        """Show a whole picture, of which only the difference from the first one travels.

        pixels: (height, width, 3) uint8, drawn at `DENSITY`. patch: what `patch_of` has returned for them earlier.
        """
        with self.hold_sync():
            if patch is None or patch.background is not self._background_pixels or patch.density < self.density:
                patch = self.patch_of(pixels)
            if patch is None:
                self._set_background(pixels, None)
            else:
                self.patch, self.patch_box = patch.png, patch.box
            self._set_text([alt], [status], rough)

    def patch_of(self, pixels: np.ndarray) -> "Patch | None":
        """What would have to travel to show this picture; None where the background has another size."""
        pixels, background = np.ascontiguousarray(pixels), self._background_pixels
        box = None if background is None or self._grid is not None else changed(background, pixels)
        if box is None:
            return None
        top, left, height, width = box
        density = self.density
        part = thinned(pixels[top : top + height, left : left + width], DENSITY // density)
        return Patch(background, quick_png(part) if height else b"", [side / DENSITY for side in box], density)

    def set_status(self, text: str, wrong: bool = False) -> None:
        """Change the line below the picture, and nothing else. wrong: it is an error."""
        with self.hold_sync():
            self.status, self.wrong = [text], wrong
            self.sequence += 1

    def close(self) -> None:
        """Take it from the page, and free its memory."""
        super().close()
        self._grid = self._background_pixels = None

    def _set_background(self, pixels: np.ndarray, grid: ImageGrid | None) -> None:
        """Change the background, if it is another one."""
        density = self.density if grid is not None else DENSITY  # a picture stays, whatever the screen becomes
        if grid is not None and grid is self._grid and density <= self._background_density:
            return
        self._grid, self._background_density = grid, density
        self._background_pixels = np.ascontiguousarray(pixels).copy()
        self.width, self.height = pixels.shape[1] // DENSITY, pixels.shape[0] // DENSITY
        self.background, self.patch = quick_png(thinned(self._background_pixels, DENSITY // density)), b""
        if grid is not None:
            self.corners, self.tile = [list(corner) for corner in grid.corners], list(grid.tile)
        else:
            self.tiles, self.size = b"", [1, 0, 1, 1, 1]

    def _set_text(self, alts: Sequence[str], statuses: Sequence[str], rough: bool) -> None:
        self.alt, self.status, self.wrong, self.rough = list(alts), list(statuses), False, rough
        self.sequence += 1

    def _on_message(self, _widget, content, _buffers) -> None:
        if not isinstance(content, dict):
            return
        if isinstance(pixels := content.get("pixels"), int | float):  # of the screen, for each of the page
            self.density = 1 if pixels <= 1 else DENSITY
        if isinstance(content.get("acknowledged"), int):
            first, self.acknowledged = not self.watched, max(self.acknowledged, content["acknowledged"])
            if first and self._first_seen is not None:
                self._first_seen()
        if self._picked is not None and isinstance(content.get("picked"), list):
            self._picked(*map(float, content["picked"]))


def changed(before: np.ndarray, after: np.ndarray) -> tuple[int, int, int, int] | None:
    """Where two pictures (height, width, 3) differ: (top, left, height, width) of the smallest box, all 0 for nowhere.

    None when they have different shapes. The box begins and ends on whole pixels of the page.
    """
    if before.shape != after.shape:
        return None
    height, width, channels = after.shape
    differs = before.reshape(height, -1) != after.reshape(height, -1)  # (h, w * c): rows are searched fast
    rows = np.flatnonzero(differs.any(axis=1))
    if not len(rows):
        return 0, 0, 0, 0
    within = differs[rows[0] : rows[-1] + 1].any(axis=0)  # (w * c)
    columns = np.flatnonzero(within.reshape(width, channels).any(axis=1))
    top, left = (int(line[0]) // DENSITY * DENSITY for line in (rows, columns))
    bottom, right = (-(-int(line[-1] + 1) // DENSITY) * DENSITY for line in (rows, columns))
    return top, left, min(bottom, height) - top, min(right, width) - left


def thinned(pixels: np.ndarray, times: int) -> np.ndarray:
    """A picture (height, width, 3) uint8 at a fraction of its density: the mean of each `times` x `times` pixels."""
    if times == 1 or not pixels.size:
        return pixels
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).reduce(times))


def quick_png(pixels: np.ndarray) -> bytes:
    """Encode (height, width, 3) uint8 in a quarter of Pillow's time: no filters, little compression."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 3 * width + 1), dtype=np.uint8)  # each begins with its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),  # 8 bits, RGB
        (b"IDAT", zlib.compress(rows, 1)),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part)) for kind, part in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
