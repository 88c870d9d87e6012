"""Figures of lesson 02: attention maps, tables of weights, and curves side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from dit_course.patches import patch_grid
from dit_course.show.arrays import enlarge, require_one_each
from dit_course.show.axes import add_axes, bare_axes, colors, finished, headline, log_ticks, note
from dit_course.show.layout import CAPTION, DENSITY, INK, LETTER, MARGIN, PALETTE, TEXT, TITLE, Picture, blank_figure
from dit_course.show.lesson_01_patches import one_image
from dit_course.show.text import percent

SIDE = 224  # of an image and of a map, in pixels of the page
LINE = (0xDD, 0xDD, 0xDD)  # between the cells of a map


def rgb(color: str) -> np.ndarray:
    """A color such as "#12836c" as three bytes."""
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.uint8)


def heat(weights: Tensor) -> np.ndarray:
    """Weights as colors: 0 is white, the largest the green of the model: (...) -> (..., 3) uint8."""
    share = (weights.detach().float() / weights.max().clamp(min=1e-12)).clamp(0, 1).cpu().numpy()[..., None]
    return np.round(255 + share * (rgb(PALETTE["model"]).astype(float) - 255)).astype(np.uint8)


def map_pixels(weights: Tensor, grid: tuple[int, int], cell: int) -> np.ndarray:
    """The attention of one token: a cell for each patch, and beneath them one for each further token (register).

    weights: (tokens,), the patches first. cell: side of a cell in pixels. Returns (height, width, 3) uint8.
    """
    rows, columns = grid
    count, colors = rows * columns, heat(weights)
    extra = -(-(len(weights) - count) // columns)  # rows of registers
    gap = register_gap(cell) if extra else 0
    panel = np.full(((rows + extra) * cell + gap, columns * cell, 3), 255, dtype=np.uint8)
    panel[: rows * cell] = cells(colors[:count].reshape(rows, columns, 3), cell)
    for row in range(extra):
        few = colors[count + row * columns :][:columns][None]  # (1, columns or fewer, 3)
        top = (rows + row) * cell + gap
        panel[top : top + cell, : few.shape[1] * cell] = cells(few, cell)
    return panel


def register_gap(cell: int) -> int:
    """The gap between patches and registers, in pixels of the file."""
    return max(4, cell // 4)


def cells(colors: np.ndarray, cell: int) -> np.ndarray:
    """A square for each color, with lines between where there is room: (rows, columns, 3) -> (height, width, 3)."""
    panel = colors.repeat(cell, axis=1).repeat(cell, axis=0)  # whole rows last: twice as fast
    if cell > 16:
        for first in (0, cell - 1):
            panel[first::cell] = panel[:, first::cell] = LINE
    return panel


def frame(
    panel: np.ndarray,
    number: int,
    grid: tuple[int, int],
    cell: int,
    thick: int = 2 * DENSITY,
    ink: str = PALETTE["guidance"],
) -> None:
    """Draw a frame around one cell of an image or a map, in place; a token that is no patch stands beneath."""
    rows, columns = grid
    top, left = (cell * place for place in divmod(number, columns))
    top += register_gap(cell) if number >= rows * columns else 0
    if top + cell > len(panel):
        return  # an image has no registers
    thick = min(thick, max(1, cell // 4))
    color = rgb(ink)
    inside = panel[top : top + cell, left : left + cell]
    inside[:thick] = inside[-thick:] = inside[:, :thick] = inside[:, -thick:] = color


def cell_side(grid: tuple[int, int], patch_size: int = 1, side: int = SIDE) -> int:
    """How large a patch is drawn, in pixels of the file: a multiple of the patch size, so that pixels stay squares."""
    return max(1, DENSITY * side // (max(grid) * patch_size)) * patch_size


def picture_pixels(image: Tensor, patch_size: int, cell: int) -> np.ndarray:
    """An image (C, H, W) uint8, enlarged until a patch is `cell` wide: (height, width, 3) uint8."""
    return enlarge(image, cell // patch_size).expand(3, -1, -1).permute(1, 2, 0).numpy().copy()


def attention_map(image: Tensor, weights: Tensor, query: int, patch_size: int, title: str | None = None) -> Picture:
    """Show what one patch of an image attends to: the patch in a frame, and its weights for all patches.

    image: (C, H, W) or (1, C, H, W), uint8 or floats in [0, 1]. weights: (tokens,), patches in reading order, and
    after them any registers. query: the number of the patch.
    """
    pixels = one_image(image)
    grid = patch_grid(*pixels.shape[-2:], patch_size)
    count = grid[0] * grid[1]
    if weights.ndim != 1 or len(weights) < count:
        raise ValueError(f"the weights of one token are ({count},) or more, not {tuple(weights.shape)}: pick a row")
    if not 0 <= query < len(weights):
        raise ValueError(f"there is no token {query}: they are counted from 0 to {len(weights) - 1}")
    cell = cell_side(grid, patch_size)
    pair = [picture_pixels(pixels, patch_size, cell), map_pixels(weights, grid, cell)]
    for panel in pair:
        frame(panel, query, grid, cell)
    title = title or f"Where patch {query} looks"
    most = f"green: {percent(float(weights.max()))}, white: 0"
    return _panels(pair, ["the picture", most], title, f"{title}: a picture, and beside it a map of weights, {most}")


def attention_from_patch(
    weights: Sequence[Tensor],
    captions: Sequence[str],
    grid: tuple[int, int],
    query: int | None = None,
    title: str | None = None,
) -> Picture:
    """Show what one token attends to, in maps side by side: each from white (0) to green (its largest weight).

    weights: up to five rows of weights, (tokens,) each, patches first. grid: (rows, columns) of patches. query: the
    token whose attention it is, to be framed.
    """
    if not 0 < len(weights) == len(captions) <= 5:
        raise ValueError(f"{len(weights)} rows of weights and {len(captions)} captions: one each, and at most five")
    cell = cell_side(grid, side=144)
    maps = [map_pixels(row, grid, cell) for row in weights]
    for panel in maps:
        if query is not None:
            frame(panel, query, grid, cell, ink=INK)
    title = title or f"Where token {query} looks"
    return _panels(maps, captions, title, f"{title}: maps of weights: {', '.join(captions)}")


def attention_table(weights: Tensor, title: str | None = None) -> Picture:
    """Show an attention matrix: a row for each query, a column for each key.

    weights: (N, M), or with axes of size 1 in front.
    """
    table = weights.detach().cpu().float()
    while table.ndim > 2 and len(table) == 1:
        table = table[0]
    if table.ndim != 2 or not table.numel():
        raise ValueError(f"a table of weights is (queries, keys), not {tuple(weights.shape)}: pick one")
    title = title or f"{table.shape[0]} x {table.shape[1]} weights: each row sums to 1"
    height, width = table.shape
    zoom = max(1, DENSITY * 330 // max(height, width))
    panel = heat(table).repeat(zoom, axis=0).repeat(zoom, axis=1)
    wide, tall = max(panel.shape[1] // DENSITY + 60, int(LETTER * TITLE * len(title))), panel.shape[0] // DENSITY
    figure = blank_figure(wide + 2 * MARGIN, tall + 82)
    box = (50 / (wide + 16), 42 / (tall + 82), panel.shape[1] / DENSITY / (wide + 16), tall / (tall + 82))
    axes = bare_axes(figure, box, "is looked at (key)", "looks (query)")
    axes.imshow(panel, interpolation="nearest", aspect="auto", extent=(0, width, height, 0))
    axes.set_xticks([0.5, width - 0.5], [0, width - 1])
    axes.set_yticks([0.5, height - 0.5], [0, height - 1])
    headline(figure, title)
    return finished(figure, f"{title}. A table of weights, white 0, green {table.max():.2g}")


def side_by_side(
    x: Sequence[float], panels: Mapping[str, Mapping[str, Sequence[float]]], x_name: str, title: str
) -> Picture:
    """Show curves over one x in one to three panels, on logarithmic axes.

    panels: title of each panel -> name of each curve -> its values, as many as x, all above 0.
    """
    if not 1 <= len(panels) <= 3:
        raise ValueError(f"there is room for one to three panels, not {len(panels)}")
    names = dict.fromkeys(name for curves in panels.values() for name in curves)
    inks = dict(zip(names, colors(names, "guidance", "model", "noise", "data"), strict=True))
    width = {1: 560, 2: 700, 3: 820}[len(panels)]
    figure = blank_figure(width, 330)
    headline(figure, title)
    for number, (name, curves) in enumerate(panels.items()):
        share = (1 - 16 / width) / len(panels)
        box = (number * share + 58 / width, 50 / 330, share - 78 / width, 208 / 330)
        _curves(add_axes(figure, box, x_name), x, name, curves, inks)
    every = [(name, curve, y) for name, curves in panels.items() for curve, y in curves.items()]
    ends = [f"{name}, {curve}: from {_number(y[0]):.2g} to {_number(y[-1]):.2g}" for name, curve, y in every]
    return finished(figure, f"{title}. Line charts over {x_name}. {'; '.join(ends)}")


def _curves(axes, x: Sequence[float], name: str, curves: Mapping[str, Sequence[float]], inks) -> None:
    """One panel: its curves with their names, on logarithmic axes."""
    rows = {curve: np.asarray([_number(value) for value in values]) for curve, values in curves.items()}
    for curve, y in rows.items():
        require_one_each(y, x, "values", "places", f"{name}, {curve}")
        axes.loglog(x, y, color=inks[curve], marker="o", markersize=4, linewidth=2)
    log_ticks(axes, [x[0], x[len(x) // 2], x[-1]])
    axes.set_title(name, loc="left", fontsize=CAPTION + 1, **TEXT)
    low, high = min(y.min() for y in rows.values()), max(y.max() for y in rows.values())
    room = max(1.6, (high / low) ** 0.13)  # for the names of the curves
    axes.set_ylim(low / room, high * room)
    if np.allclose(np.diff(x), x[1] - x[0]):
        axes.set_xscale("linear")
        axes.set_xticks(x)
    if high / low < 30:  # powers of ten are too far apart
        steps = [round(m * 10.0**e, 9) for e in range(-6, 7) for m in (1, 2, 5)]
        axes.set_yticks([step for step in steps if low / 1.3 <= step <= high * 1.3] or [low])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(
        lambda value, _: f"{value:,.10g}" if value > 1e-4 else f"{value:.0e}".replace("e-0", "e-")
    )
    upper = max(rows, key=lambda curve: rows[curve][-1])
    here = len(x) // 2
    for curve, y in rows.items():
        above, slope = curve == upper, np.log(y[-1] / y[0])
        side = "center" if abs(slope) < 0.2 else "right" if above == (slope > 0) else "left"
        shift = ({"center": 0, "right": -7, "left": 7}[side], 7 if above else -7)
        note(axes, curve, (x[here], y[here]), shift, ha=side, va="bottom" if above else "top", color=inks[curve])


def _number(value: float | Tensor) -> float:
    """A plain number, of a tensor with history, too."""
    return float(value.detach() if isinstance(value, Tensor) else value)


def _panels(maps: Sequence[np.ndarray], captions: Sequence[str], title: str, alt: str) -> Picture:
    """Pixels side by side, a caption beneath each, a title above."""
    tall = max(len(panel) for panel in maps) // DENSITY
    gap = 4 * MARGIN
    wide = sum(panel.shape[1] // DENSITY + gap for panel in maps) - gap
    width, height = max(wide, int(LETTER * TITLE * len(title))) + 2 * MARGIN, tall + TITLE + CAPTION + 6 * MARGIN
    figure = blank_figure(width, height)
    headline(figure, title)
    left, top = MARGIN, TITLE + 3 * MARGIN
    for panel, caption in zip(maps, captions, strict=True):
        bottom = height - top - len(panel) / DENSITY
        figure.figimage(panel, DENSITY * left, DENSITY * bottom)  # pixel by pixel, never blurred
        figure.text(left / width, (bottom - CAPTION - MARGIN) / height, caption, fontsize=CAPTION, **TEXT)
        left += panel.shape[1] // DENSITY + gap
    return finished(figure, alt)
