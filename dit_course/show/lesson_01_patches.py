"""Figures of lesson 01: the patches of an image, its tokens, heatmaps, and what tokens cost."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dit_course.patches import patch_grid
from dit_course.show.arrays import enlarge, require_one_each, to_bytes
from dit_course.show.axes import bare_axes, chart, colors, end_label, finished, headline, log_ticks
from dit_course.show.layout import DENSITY, INK, LETTER, MARGIN, TEXT, TITLE, ImageGrid, Picture, blank_figure

FRAME = 0x8F  # the gray of a frame
ORDER = ("model", "noise", "guidance", "data")  # colors of curves, in this order
SIDE = 300  # of an image cut into patches, in pixels of the page


def patches(image: Tensor, patch_size: int, title: str | None = None) -> Picture:
    """Show an image cut into patches, moved apart and numbered in reading order.

    image: (C, H, W) or (1, C, H, W), uint8 or floats in [0, 1]. Raises ValueError when the patches do not fit.
    """
    pixels = one_image(image)
    rows, columns = patch_grid(*pixels.shape[-2:], patch_size)
    title = title or f"{rows} x {columns} = {rows * columns} patches of {patch_size} x {patch_size} pixels"
    cut = cut_up(pixels, patch_size)
    width = max(cut.shape[1] // DENSITY, int(LETTER * TITLE * len(title))) + 2 * MARGIN
    height = cut.shape[0] // DENSITY + 3 * MARGIN + TITLE
    figure = blank_figure(width, height)
    headline(figure, title)
    draw_cut(figure, cut, (rows, columns), (MARGIN, MARGIN))
    return finished(figure, f"{title}, numbered from left to right, top to bottom")


def tokens(tokens: Tensor, title: str | None = None) -> Picture:
    """Show tokens as a table of grays: a row for each token, a column for each of its numbers.

    tokens: (N, D) or (1, N, D), any numbers: the smallest is black, the largest white.
    """
    table = tokens.detach().cpu().float()
    table = table[0] if table.ndim == 3 and len(table) == 1 else table
    if table.ndim != 2:
        raise ValueError(f"the tokens of one picture are (tokens, features), not {tuple(tokens.shape)}: pick one")
    title = title or f"{table.shape[0]} tokens of {table.shape[1]} numbers each"
    height = min(420, max(120, 12 * len(table)))
    figure = blank_figure(640, height + 90)
    axes = draw_table(figure, (0.09, 46 / (height + 90), 0.88, height / (height + 90)), table)
    axes.set_title(title, loc="left", fontsize=TITLE, **TEXT)
    return finished(figure, f"{title}: a table of grays, one row per token")


def heatmaps(
    values: Tensor | Sequence[Tensor],
    captions: Sequence[str] | None = None,
    columns: int | None = None,
    title: str | None = None,
    limit: float | None = None,
) -> Picture:
    """Show tables of numbers as small gray pictures: -limit is black, 0 the gray in the middle, limit white.

    values: (N, H, W), or a list of (H, W), any numbers. limit: None takes the largest size among all of them.
    """
    values = torch.stack([torch.as_tensor(value).detach().cpu().float() for value in values])
    if values.ndim != 3 or not values.numel():
        raise ValueError(f"maps are (N, height, width), not {tuple(values.shape)}")
    limit = float(values.abs().max()) if limit is None else limit
    grays = (values / (2 * (limit or 1)) + 0.5).clamp(0, 1)[:, None]  # (n, h, w) -> (n, 1, h, w)
    grid = ImageGrid(grays.shape, captions, columns, f"{title or 'Maps'} (black {-limit:.2g}, white {limit:.2g})")
    page = grid.paint(to_bytes(grays), frame=FRAME)  # white maps would melt into the page
    named = ": " + ", ".join(captions) if captions else ""
    return Picture.of(page, f"{title or 'Maps'} ({len(values)}){named}")


def difference(first: Tensor, second: Tensor, after: str = "the change", title: str | None = None) -> Picture:
    """Show the tokens of two runs and their difference, all three on one scale, a column for each token.

    The mean token of the first run is subtracted from both, to make differences between tokens visible.
    first, second: (N, D) or (1, N, D), of one shape. after: what was done before the second run.
    """
    if first.shape != second.shape:
        raise ValueError(f"what is compared needs one shape, these have {tuple(first.shape)} and {tuple(second.shape)}")
    pair = [x.detach().cpu().float().reshape(-1, x.shape[-1]).T for x in (first, second)]  # (1, n, d) -> (d, n)
    shared = pair[0].mean(dim=1, keepdim=True)  # (d, 1)
    pair = [x - shared for x in pair]
    gap = float((pair[0] - pair[1]).abs().max())
    size = float(torch.stack(pair).abs().max())
    captions = ["before", f"after {after}", f"difference: at most {gap:.2g}"]
    same = "No difference" if gap <= 1e-5 * size else "A difference"
    zoom = max(1, min(330 // pair[0].shape[0], 260 // pair[0].shape[1]))  # there is room for three large ones
    three = [enlarge(x, zoom) for x in (*pair, pair[0] - pair[1])]
    return heatmaps(three, captions, columns=3, title=title or f"{same} after {after}")


def token_costs(counts: Sequence[int], seconds: Mapping[str, Sequence[float]], title: str | None = None) -> Picture:
    """Show the time that something takes against the number of tokens, on logarithmic axes.

    counts: numbers of tokens, increasing. seconds: for each name, as many times as counts.
    title: None states the factor from the first to the last.
    """
    for name, times in seconds.items():
        require_one_each(times, counts, "times", "numbers of tokens", name, least=2)
    factors = {name: times[-1] / times[0] for name, times in seconds.items()}
    factors_text = ", ".join(f"{name} × {factor:.0f}" for name, factor in factors.items())
    title = title or f"Tokens × {counts[-1] / counts[0]:.0f}: {factors_text}"
    figure, axes = chart(640, 340, (0.11, 0.15, 0.7, 0.74), "tokens", "milliseconds", title=title)
    for i, (times, color) in enumerate(zip(seconds.values(), colors(seconds, *ORDER), strict=True)):
        milliseconds = 1000 * np.asarray(times)
        axes.loglog(counts, milliseconds, color=color, marker="os^D"[i % 4], linewidth=2)
        end_label(axes, f"  {list(seconds)[i]}", counts[-1], milliseconds[-1])
    log_ticks(axes, counts)
    return finished(figure, f"{title}. Line chart with logarithmic axes")


def one_image(image: Tensor) -> Tensor:
    """One image as bytes, (C, H, W); ValueError when there are several."""
    pixels = to_bytes(image)
    if len(pixels) != 1:
        raise ValueError(f"one picture at a time, please, not {len(pixels)}: take images[0]")
    return pixels[0]


def cut_up(pixels: Tensor, patch_size: int, side: int = SIDE) -> np.ndarray:
    """Patches moved apart, about `side` wide on the page: (height, width, 3) uint8, drawn at `DENSITY`."""
    height, width = pixels.shape[1:]
    rows, columns = patch_grid(height, width, patch_size)
    gap = patch_gap(columns)
    zoom = max(1, (DENSITY * side - gap * (columns - 1)) // width)
    large, patch = enlarge(pixels, zoom).expand(3, -1, -1), zoom * patch_size
    page = torch.full((3, rows * (patch + gap) - gap, columns * (patch + gap) - gap), 255, dtype=torch.uint8)
    for i in range(rows):
        for j in range(columns):
            there = large[:, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
            page[:, i * (patch + gap) :, j * (patch + gap) :][:, :patch, :patch] = there
    return page.permute(1, 2, 0).numpy()  # (3, h, w) -> (h, w, 3)


def patch_gap(columns: int) -> int:
    """The gap between so many patches in a row, in pixels of the file."""
    return DENSITY * (6 if columns <= 7 else 3 if columns <= 14 else 1)


def draw_cut(figure, cut: np.ndarray, grid: tuple[int, int], corner: tuple[float, float]) -> None:
    """Put what `cut_up` made onto a figure, and number the patches where there is room.

    corner: (x, y) of its lower left, in pixels of the page.
    """
    from matplotlib.patheffects import withStroke

    rows, columns = grid
    left, bottom = corner
    figure.figimage(cut, DENSITY * left, DENSITY * bottom)  # pixel by pixel, never blurred
    width, height = (side / DENSITY for side in figure.canvas.get_width_height())
    gap = patch_gap(columns)
    step_y, step_x = ((side + gap) / DENSITY / count for side, count in zip(cut.shape, grid, strict=False))
    if step_x < 24:
        return
    size = 12 if step_x > 36 else 9
    for number in range(rows * columns):
        x = left + number % columns * step_x + 3
        y = bottom + cut.shape[0] / DENSITY - number // columns * step_y - size - 1
        edge = [withStroke(linewidth=2.5, foreground=INK)]
        figure.text(x / width, y / height, str(number), fontsize=size, **{**TEXT, "color": "white"}, path_effects=edge)


def draw_table(figure, box: tuple, table: Tensor):
    """Draw tokens (N, D) as grays, on new axes."""
    axes = bare_axes(figure, box, "the numbers of a token", "tokens")
    axes.imshow(table.numpy(), cmap="gray", aspect="auto", interpolation="nearest")
    for axis, count in ((axes.yaxis, table.shape[0]), (axes.xaxis, table.shape[1])):
        few = range(0, count - 2, 4) if axis is axes.yaxis and count <= 24 else ()
        axis.set_ticks(sorted({0, count - 1, *few}))
    return axes
