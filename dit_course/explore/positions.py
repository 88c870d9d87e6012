"""Sliders for position embeddings: how similar they are, and the waves that they are made of."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from dit_course.explore.engine.controls import choice, slider
from dit_course.explore.engine.maps import Maps, MapView, middle, place_name
from dit_course.explore.engine.worker import Job
from dit_course.patches import sincos_position_embedding
from dit_course.show import PALETTE, Picture
from dit_course.show.layout import CAPTION, DENSITY, INK, MARGIN
from dit_course.show.lesson_02_attention import cell_side, cells, frame, heat, rgb
from dit_course.show.text import BAR_ROOM, color_bar, paste, write

TOP = 2 * (CAPTION + MARGIN) + MARGIN  # above the maps: two lines of text each
SIDE = 260  # of a map, in pixels of the page
WIDEST = 4096  # features
LINES = 380  # room for a line of text, in pixels of the page


def positions(
    where: nn.Module | tuple[int, int], width: int | None = None, patch: int | None = None, feature: int = 0
) -> "Positions":
    """Sliders for a patch and for a feature: how similar are all position embeddings to its own, and one wave.

    where: a DiT, whose own position embedding is shown, or the (rows, columns) of a grid of patches. width: of the
    embedding of such a grid, a multiple of 4; None takes 64. patch: where the slider starts, in reading order; None
    takes the one in the middle. feature: the number of the wave on screen, from 0 to width - 1. A click on a map picks
    a patch, too.
    """
    if isinstance(where, nn.Module):
        if width is not None:
            raise ValueError("a model has a width of its own: leave the width out, or give a grid, such as (7, 7)")
        return Positions(where.positions.detach().float().cpu(), where.config.grid, patch, feature)
    try:
        rows, columns = (int(side) for side in where)
    except (TypeError, ValueError):
        raise ValueError(f"a grid is (rows, columns) of patches, such as (7, 7), or a DiT; not {where!r}") from None
    width = 64 if width is None else width
    if rows < 1 or columns < 1 or not 4 <= width <= WIDEST:
        raise ValueError(
            f"a grid of {rows} x {columns} patches and a width of {width}: "
            f"each side must be at least 1, the width from 4 to {WIDEST}"
        )
    return Positions(sincos_position_embedding(rows, columns, width), (rows, columns), patch, feature)


def wave_name(feature: int, width: int) -> str:
    """What a feature of the sine-cosine table is: "sine of the column, a wave every 6.3 patches"."""
    part, number = divmod(feature, width // 4)
    what = ("sine of the column", "cosine of the column", "sine of the row", "cosine of the row")[part]
    length = 2 * math.pi * 10000 ** (number / (width // 4))
    return f"{what}, a wave every {length:,.{1 if length < 100 else 0}f} patches"


def wave_colors(values: Tensor) -> np.ndarray:
    """-1 is orange, 0 white, 1 blue: (...) -> (..., 3) uint8."""
    share = values.detach().clamp(-1, 1).cpu().numpy()[..., None]
    ends = np.where(share < 0, rgb(PALETTE["guidance"]).astype(float), rgb(PALETTE["data"]).astype(float))
    return np.round(255 + np.abs(share) * (ends - 255)).astype(np.uint8)


class PositionMaps(Maps):
    """Two maps: the similarities of a patch's position embedding to all others, and one feature of the table.

    table: (rows * columns, width), the embedding. grid: (rows, columns).
    """

    def __init__(self, table: Tensor, grid: tuple[int, int]):
        self.table, self.grid = table, grid
        self.products = table @ table.T  # (patches, patches)
        self.lowest, self.highest = float(self.products.min()), float(self.products.max())
        self.limit = max(1.0, float(table.abs().max()))  # of the numbers in the table
        self.cell = cell_side(grid, side=SIDE)
        tall, wide = (side * self.cell // DENSITY for side in grid)
        step = max(wide + MARGIN + BAR_ROOM + 2 * MARGIN, LINES)
        self.top, self.lefts = TOP, [MARGIN, MARGIN + step]
        self.bars = [(TOP, left + wide + MARGIN, min(max(tall, 40), SIDE)) for left in self.lefts]
        self.width, self.height = 2 * step + MARGIN, TOP + max(tall, 40) + 2 * MARGIN
        self.blank = np.full((DENSITY * self.height, DENSITY * self.width, 3), 255, dtype=np.uint8)
        shades = heat(torch.linspace(0, 1, 64)), wave_colors(torch.linspace(-1, 1, 64))
        scales = (self.lowest, self.highest), (-self.limit, self.limit)
        for bar, colors, (low, high) in zip(self.bars, shades, scales, strict=True):
            color_bar(self.blank, colors, bar, [_number(low + share * (high - low)) for share in (0, 0.5, 1)])

    def paint(self, patch: int, feature: int) -> np.ndarray:
        """The picture of a state: (height, width, 3) uint8, drawn at `DENSITY`."""
        page = self.blank.copy()
        spread = max(self.highest - self.lowest, 1e-12)
        alike = (self.products[patch] - self.lowest) / spread  # (patches), from 0 to 1
        # `heat` puts its green at the largest of what it gets: the last number is 1, as in the bar
        colors = heat(torch.cat([alike, torch.ones(1)]))[:-1], wave_colors(self.table[:, feature] / self.limit)
        texts = (
            (f"how alike is patch {patch} to all others?", "dot products of their positions"),
            (f"feature {feature} of {self.table.shape[1]}", wave_name(feature, self.table.shape[1])),
        )
        for left, color, lines in zip(self.lefts, colors, texts, strict=True):
            pixels = cells(color.reshape(*self.grid, 3), self.cell)
            frame(pixels, patch, self.grid, self.cell, 3 * DENSITY, "#ffffff")  # dark on light: seen on every color
            frame(pixels, patch, self.grid, self.cell, 2 * DENSITY, INK)
            paste(page, pixels, TOP, left)
            for number, (line, ink) in enumerate(zip(lines, (INK, "#555555"), strict=True)):
                write(page, line, left, MARGIN + CAPTION + number * (CAPTION + MARGIN), ink=ink)
        return page

    def describe(self, patch: int, feature: int) -> str:
        """The picture as text."""
        row, others = self.products[patch], self.products[patch].clone()
        others[patch] = -math.inf
        text = f"patch {place_name(patch, self.grid)}: {_number(row[patch])} with itself"
        if len(row) > 1:
            nearest, far = int(others.argmax()), int(row.argmin())
            text += f", {_number(row[nearest])} with patch {nearest}, at least {_number(row[far])} (patch {far})"
        value = float(self.table[patch, feature])
        return f"{text}. Feature {feature}, {wave_name(feature, self.table.shape[1])}: {value:.2f} here"


class Positions(MapView):
    """The view that `positions` makes. `picture` is what it shows at the moment."""

    def __init__(self, table: Tensor, grid: tuple[int, int], patch: int | None, feature: int):
        count, width = table.shape
        self.drawing = PositionMaps(table, grid)
        places = [(place_name(number, grid), number) for number in range(count)]
        self.patch = choice("patch", places, middle(grid) if patch is None else patch)
        self.feature = slider("feature", feature, 0, width - 1)
        super().__init__([self.patch, self.feature])

    def render(self, job: Job, state: tuple[int, int]) -> None:
        """Paint both maps."""
        self.show(Picture.of(self.drawing.paint(*state), self.drawing.describe(*state)))


def _number(value: float) -> str:
    return f"{float(value):.1f}".replace("-0.0", "0.0")
