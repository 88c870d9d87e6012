"""Text and color bars put straight into pixels: what changes with every move of a slider is not worth a figure.

Same font and sizes as in the figures, drawn by Pillow in a tenth of the time that matplotlib takes for a line.
"""

import textwrap
from functools import lru_cache
from pathlib import Path

import numpy as np

DENSITY = 2  # pixels of the file for one pixel of the page
INK, CAPTION = "#222222", 12  # color of the text and its usual size
BAR = 12  # width of a color bar, in pixels of the page
GRAYS = np.linspace(0, 255, 64).round().astype(np.uint8)[:, None].repeat(3, axis=1)  # black is the lowest number
BAR_ROOM = BAR + 44  # with its numbers


@lru_cache(maxsize=32)
def _font(size: float):
    import matplotlib
    from PIL import ImageFont

    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(file), round(DENSITY * size))


@lru_cache(maxsize=1024)
def _covered(text: str, size: float) -> tuple[np.ndarray, int, int]:
    """How much of each pixel a line of text covers, (height, width) from 0 to 255, and where its top left lies
    as seen from the start of its baseline (down, right)."""
    from PIL import Image, ImageDraw

    font = _font(size)
    left, top, right, bottom = font.getbbox(text, anchor="ls")
    image = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(image).text((-left, -top), text, fill=255, font=font, anchor="ls")
    return np.asarray(image), top, left


def write(
    image: np.ndarray, text: str, x: float, y: float, size: float = CAPTION, ink: str = INK, align: str = "left"
) -> None:
    """Write a line of text into an image, in place; what lies outside is cut off.

    image: (height, width, 3) uint8, drawn at `DENSITY`. x, y: of the baseline's start, middle or end, as align says
    ("left", "center", "right"), in pixels of the page from the top left. ink: a color such as "#222222".
    """
    if not text:
        return
    covered, top, left = _covered(text, size)
    shift = {"left": 0.0, "center": 0.5, "right": 1.0}[align] * _font(size).getlength(text)
    top, left = round(DENSITY * y) + top, round(DENSITY * x - shift) + left
    bottom, right = top + covered.shape[0], left + covered.shape[1]
    there = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    inside = covered[max(-top, 0) :, max(-left, 0) :][: there.shape[0], : there.shape[1], None].astype(np.uint16)
    color = np.array([int(ink[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.uint16)
    there[:] = ((255 - inside) * there + inside * color + 127) // 255


def color_bar(
    image: np.ndarray, colors: np.ndarray, place: tuple[float, float, float], numbers: list[str], size: float = 10
) -> None:
    """Draw a color bar, in place.

    colors: (n, 3) uint8, from the lowest to the highest number. place: top, left and height of the bar, in pixels of
    the page. numbers: written beside it at even distances, the lowest first.
    """
    top, left, height = place
    rows = np.linspace(len(colors) - 1, 0, round(DENSITY * height)).round().astype(int)
    y, x = round(DENSITY * top), round(DENSITY * left)
    bar = np.repeat(colors[rows][:, None], DENSITY * BAR, axis=1)  # (h, 3) -> (h, w, 3)
    bar[:1] = bar[-1:] = bar[:, :1] = bar[:, -1:] = 0x8F  # a frame: white would melt into the page
    image[y : y + len(bar), x : x + bar.shape[1]] = bar
    for number, text in enumerate(numbers):
        middle = top + height * (1 - number / max(len(numbers) - 1, 1))
        middle = min(max(middle, top + size / 2), top + height - size / 2)
        write(image, text, left + BAR + 4, middle + 0.36 * size, size)


def paste(page: np.ndarray, tile: np.ndarray, top: float, left: float, frame: int | None = None) -> None:
    """Put a tile (height, width, 3 or 1) into a page, in place. top, left: in pixels of the page. frame: its gray."""
    y, x = round(DENSITY * top), round(DENSITY * left)
    bottom, right = y + tile.shape[0], x + tile.shape[1]
    if frame is not None:
        page[y - 1 : bottom + 1, x - 1 : right + 1] = frame
    page[y:bottom, x:right] = tile


def wrapped(text: str, letters: int) -> list[str]:
    """A caption in lines of so many letters; a word that is too long is broken at a slash, by one letter not at all."""
    if max(map(len, text.split()), default=0) > letters + 1:
        text = text.replace("/", "/ ")  # "t-shirt/top"
    long = max(map(len, text.split()), default=0) > letters + 1
    return textwrap.wrap(text, letters, break_long_words=long, break_on_hyphens=long)


def short(count: float) -> str:
    """A large number in a few letters: 32.5 M."""
    for size, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return f"{count:.3g}"


def percent(share: float) -> str:
    """A share in at most two digits that count: 12%, 1.4%, 0.06%."""
    return f"{100 * share:.0f}%" if share >= 0.0995 or share == 0 else f"{100 * share:.2g}%"
