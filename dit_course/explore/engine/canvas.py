"""The canvas that all explorers paint on: raw pixels to the browser, no file format and no output area between.

What stays (captions, frames, axes) is a paper, sent only when it changes; what moves is either a handful of small
pictures, enlarged by the browser with sharp edges, or the part of a drawing that differs from the paper. So a move of
a slider sends a few kilobytes.
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
    """What differs between a paper and a drawing: a PNG, and its top, left, height, width on the page.

    density: its pixels for each pixel of the page.
    """

    paper: np.ndarray
    png: bytes
    spot: list[float]
    density: int = DENSITY


class Canvas(anywidget.AnyWidget):
    """A picture in the browser, with its name for a screen reader and a line of text below.

    frame: the number of the last picture sent; painted: that of the last one the browser has put on screen, -1 while
    nobody watches; first_seen is called when somebody does. moment: which one of a film is shown; link a slider to it
    and the kernel is not asked at all. picked: called with (x, y), in pixels of the page, where the mouse clicks.
    density: the pixels sent for each pixel of the page, `DENSITY` or less: no more than that screen has.
    """

    _esm = Path(__file__).with_name("canvas.js")
    _css = Path(__file__).with_name("canvas.css")

    width = traitlets.Int(1).tag(sync=True)  # of the paper, in pixels of the page
    height = traitlets.Int(1).tag(sync=True)
    background = traitlets.Bytes(b"").tag(sync=True)  # the paper, a PNG
    tiles = traitlets.Bytes(b"").tag(sync=True)  # raw pixels: (moments, n, channels, height, width)
    size = traitlets.List([1, 0, 1, 1, 1]).tag(sync=True)  # their shape
    corners = traitlets.List().tag(sync=True)  # (top, left) of each on the page
    tile = traitlets.List([1, 1]).tag(sync=True)  # (height, width) of each on the page
    moment = traitlets.Int(0).tag(sync=True)
    patch = traitlets.Bytes(b"").tag(sync=True)  # a PNG that lies on the paper
    spot = traitlets.List([0, 0, 1, 1]).tag(sync=True)  # its top, left, height, width on the page
    alt = traitlets.List([""]).tag(sync=True)  # what is seen, in words, for each moment
    said = traitlets.List([""]).tag(sync=True)  # the line below, for each moment
    wrong = traitlets.Bool(False).tag(sync=True)  # the line below is an error
    rough = traitlets.Bool(False).tag(sync=True)  # a better picture follows
    frame = traitlets.Int(0).tag(sync=True)
    pickable = traitlets.Bool(False).tag(sync=True)  # clicks are listened to

    def __init__(
        self, first_seen: Callable[[], None] | None = None, picked: Callable[[float, float], None] | None = None
    ):
        super().__init__(pickable=picked is not None)
        self.painted, self._first_seen, self._picked = -1, first_seen, picked
        self.density = self._laid = DENSITY  # for the next picture, and of the paper in the browser
        self._sheet: ImageGrid | None = None
        self._paper: np.ndarray | None = None  # the drawing that `background` is
        self.on_msg(self._heard)

    @property
    def watched(self) -> bool:
        """Whether a browser has shown this canvas: a notebook that is only executed has none."""
        return self.painted >= 0

    def show(self, sheet: ImageGrid, pixels: Tensor, alt: str, said: str, rough: bool = False) -> None:
        """Put pictures onto a sheet.

        pixels: (n, channels, height, width) uint8, as many as the sheet has places. alt: what is seen, in words. said:
        the line below. rough: whether a better picture follows.
        """
        self.film(sheet, pixels[None], [alt], [said], rough)

    def film(
        self, sheet: ImageGrid, pixels: Tensor, alts: Sequence[str], saids: Sequence[str], rough: bool = False
    ) -> None:
        """Put a film onto a sheet: all its moments go to the browser, `moment` says which one is shown.

        pixels: (moments, n, channels, height, width) uint8. alts, saids: one for each moment.
        """
        with self.hold_sync():
            self._lay(sheet.blank, sheet)
            self.tiles = pixels.contiguous().numpy().tobytes()
            self.size = list(pixels.shape)
            self._said(alts, saids, rough)

    def draw(self, pixels: np.ndarray, alt: str, said: str, rough: bool = False, patch: "Patch | None" = None) -> None:
        """Show a whole drawing, of which only what differs from the first one travels.

        pixels: (height, width, 3) uint8, drawn at `DENSITY`. patch: what `patch_of` has made of them earlier.
        """
        with self.hold_sync():
            if patch is None or patch.paper is not self._paper or patch.density < self.density:
                patch = self.patch_of(pixels)
            if patch is None:
                self._lay(pixels, None)
            else:
                self.patch, self.spot = patch.png, patch.spot
            self._said([alt], [said], rough)

    def patch_of(self, pixels: np.ndarray) -> "Patch | None":
        """What would have to travel to show this drawing; None where the paper is no drawing of this size."""
        pixels, paper = np.ascontiguousarray(pixels), self._paper
        box = None if paper is None or self._sheet is not None else changed(paper, pixels)
        if box is None:
            return None
        top, left, height, width = box
        density = self.density
        part = thinned(pixels[top : top + height, left : left + width], DENSITY // density)
        return Patch(paper, quick_png(part) if height else b"", [side / DENSITY for side in box], density)

    def say(self, text: str, wrong: bool = False) -> None:
        """Change the line below the picture, and nothing else. wrong: it is an error."""
        with self.hold_sync():
            self.said, self.wrong = [text], wrong
            self.frame += 1

    def close(self) -> None:
        """Take it from the page, and let go of the memory."""
        super().close()
        self._sheet = self._paper = None

    def _lay(self, paper: np.ndarray, sheet: ImageGrid | None) -> None:
        """Change the paper, where it is another one."""
        density = self.density if sheet is not None else DENSITY  # a drawing stays, whatever the screen becomes
        if sheet is not None and sheet is self._sheet and density <= self._laid:
            return
        self._sheet, self._paper, self._laid = sheet, np.ascontiguousarray(paper).copy(), density
        self.width, self.height = paper.shape[1] // DENSITY, paper.shape[0] // DENSITY
        self.background, self.patch = quick_png(thinned(self._paper, DENSITY // density)), b""
        if sheet is not None:
            self.corners, self.tile = [list(corner) for corner in sheet.corners], list(sheet.tile)
        else:
            self.tiles, self.size = b"", [1, 0, 1, 1, 1]

    def _said(self, alts: Sequence[str], saids: Sequence[str], rough: bool) -> None:
        self.alt, self.said, self.wrong, self.rough = list(alts), list(saids), False, rough
        self.frame += 1

    def _heard(self, _widget, content, _buffers) -> None:
        if not isinstance(content, dict):
            return
        if isinstance(pixels := content.get("pixels"), int | float):  # of the screen, for each of the page
            self.density = 1 if pixels <= 1 else DENSITY
        if isinstance(content.get("painted"), int):
            first, self.painted = not self.watched, max(self.painted, content["painted"])
            if first and self._first_seen is not None:
                self._first_seen()
        if self._picked is not None and isinstance(content.get("picked"), list):
            self._picked(*map(float, content["picked"]))


def changed(before: np.ndarray, after: np.ndarray) -> tuple[int, int, int, int] | None:
    """Where two drawings (height, width, 3) differ: (top, left, height, width) of the smallest box, all 0 for nowhere.

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
    """A drawing (height, width, 3) uint8 at a fraction of its density: the mean of each `times` x `times` pixels."""
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
