"""Figures of lesson 08: trajectories and the steps that follow them, what an evaluation buys, tables of pictures."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from dit_course.show.arrays import enlarge, to_bytes
from dit_course.show.layout import (
    CAPTION,
    DENSITY,
    GAP,
    LETTER,
    MARGIN,
    PAGE_WIDTH,
    PALETTE,
    TEXT,
    TILE,
    TITLE,
    Picture,
    blank_figure,
    label_axes,
    rendered,
)
from dit_course.show.lesson_01_patches import LABEL, plain_axes
from dit_course.show.text import wrapped

# the same colour and marker for the same solver in every figure
STYLES = {"euler": ("noise", "o"), "heun": ("data", "s"), "ab2": ("model", "^"), "slipped": ("guidance", "D")}
DARK = {"noise": "#5f5f5f"}  # a gray that can be read as text


def solver_trajectories(
    exact: tuple[Tensor, Tensor],
    stepped: tuple[Tensor, Tensor] | None = None,
    title: str | None = None,
    captions: tuple[str, str] = ("the trajectory", "the steps"),
) -> Picture:
    """Draw single numbers on their way from noise (t = 1, on the left) to data (t = 0, on the right).

    exact: times (n,) and places (n, trajectories), drawn as lines. stepped: the same for steps, drawn as corners.
    """
    figure = blank_figure(640, 330)
    axes = figure.add_axes((0.09, 0.16, 0.74, 0.72), facecolor="white")
    parts = [(exact, PALETTE["data"], "-", 2.0, "", captions[0])]
    if stepped is not None:
        parts.append((stepped, PALETTE["guidance"], "-", 1.5, "o", captions[1]))
    ends = []
    for (times, places), colour, line, width, marker, name in parts:
        times, places = _checked(times, places)
        axes.plot(times, places, line, color=colour, linewidth=width, marker=marker, markersize=5)
        ends.append((places[-1].max(), name, colour))
    for (_, name, colour), shown in zip(ends, _apart([end[0] for end in ends], *axes.get_ylim()), strict=True):
        axes.annotate(f"  {name}", (0, shown), va="center", annotation_clip=False, **LABEL | {"color": colour})
    axes.set_xlim(1, 0)
    label_axes(axes, "t: from noise (1) to data (0)", "x")
    title = title or f"{places.shape[1]} numbers on their way from noise to data"
    axes.set_title(title, loc="left", fontsize=TITLE, **TEXT)
    return Picture.of(rendered(figure), f"{title}. Lines from t = 1 to t = 0: {' and '.join(end[1] for end in ends)}")


def by_evaluations(
    evaluations: Mapping[str, Sequence[int]],
    values: Mapping[str, Sequence[float]],
    y: str = "error",
    title: str | None = None,
    slopes: bool = False,
) -> Picture:
    """Draw what each solver achieves against its number of function evaluations (NFE), both axes in factors.

    evaluations, values: for each solver as many of one as of the other, all above 0.
    slopes: write the slope of each line beside its name: -1 means twice the evaluations, half the value.
    """
    for name in values:
        if len(evaluations[name]) != len(values[name]) or len(values[name]) < 2:
            raise ValueError(
                f"{name}: {len(values[name])} values for {len(evaluations[name])} numbers of evaluations; "
                "it needs one each, and 2"
            )
    from matplotlib.ticker import LogLocator, NullLocator

    figure = blank_figure(640, 360)
    axes = figure.add_axes((0.11, 0.15, 0.66, 0.74), facecolor="white")
    names, ends = {}, []
    for name, reached in values.items():
        kind, marker = STYLES.get(name, ("data", "x"))
        axes.loglog(evaluations[name], reached, color=PALETTE[kind], marker=marker, linewidth=2)
        slope = np.polyfit(np.log(evaluations[name]), np.log(reached), 1)[0]
        names[name] = f"{name}: slope {slope:.1f}" if slopes else name
        ends.append((evaluations[name][-1], reached[-1]))
    ticks = sorted({count for counts in evaluations.values() for count in counts})
    plain_axes(axes, ticks if len(ticks) < 8 else ticks[:: len(ticks) // 4], "evaluations of the network", y)
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 200 * low else (1.0,), numticks=12))
    axes.yaxis.set_minor_locator(NullLocator())
    heights = _apart([np.log(end[1]) for end in ends], *np.log(axes.get_ylim()))
    for (name, text), height in zip(names.items(), heights, strict=True):
        kind, _ = STYLES.get(name, ("data", "x"))
        colour = DARK.get(kind, PALETTE[kind])
        axes.annotate(
            f"   {text}", (ticks[-1], np.exp(height)), va="center", annotation_clip=False, **LABEL | {"color": colour}
        )
    title = title or f"What an evaluation buys: {', '.join(values)}"
    axes.set_title(title, loc="left", fontsize=TITLE, **TEXT)
    last = ", ".join(f"{text} ends at {values[name][-1]:.2g}" for name, text in names.items())
    return Picture.of(rendered(figure), f"{title}. Line chart with logarithmic axes: {last}")


def table(
    x: Tensor | Sequence[Tensor],
    rows: Sequence[str],
    columns: Sequence[str] | None = None,
    title: str | None = None,
    side: int = TILE,
) -> Picture:
    """Show pictures in a table: the names of its rows at the left, those of its columns, where there are some, on top.

    x: (rows * columns, C, H, W) uint8 or floats in [0, 1], or a list, row by row. side: of a picture, at most.
    """
    pixels = to_bytes(x)
    across = len(pixels) // len(rows) if columns is None else len(columns)
    if len(rows) * across != len(pixels):
        raise ValueError(f"{len(pixels)} pictures do not fill {len(rows)} rows of {across}")
    height, width = pixels.shape[-2:]
    left = MARGIN + int(LETTER * CAPTION * max(map(len, rows))) + 2 * GAP
    zoom = max(1, min(side, (PAGE_WIDTH - left - MARGIN) // across - GAP) // max(height, width))
    letters = max(4, int((zoom * width + GAP) / (LETTER * CAPTION)))
    heads = [wrapped(name, letters) for name in columns or [""] * across]
    top = MARGIN + (2 * TITLE if title else 0) + int(1.3 * CAPTION * max(map(len, heads))) + 2 * GAP
    full_width = left + across * (zoom * width + GAP) - GAP + MARGIN
    full_width = max(full_width, 2 * MARGIN + int(LETTER * TITLE * len(title or "")))
    figure = blank_figure(full_width, full_height := top + len(rows) * (zoom * height + GAP) - GAP + MARGIN)

    def write(place: float, line: float, text: str, size: int = CAPTION, **style) -> None:
        figure.text(place / full_width, 1 - line / full_height, text, fontsize=size, **TEXT, **style)

    write(MARGIN, MARGIN + TITLE, title or "", TITLE, va="baseline")
    for number, lines in enumerate(heads):
        middle = left + number * (zoom * width + GAP) + zoom * width / 2
        for above, line in enumerate(reversed(lines)):
            write(middle, top - 2 * GAP - 1.3 * CAPTION * above, line, ha="center", va="baseline")
    for number, name in enumerate(rows):
        write(left - 2 * GAP, top + number * (zoom * height + GAP) + zoom * height / 2, name, ha="right", va="center")
    page = rendered(figure)
    for number, tile in enumerate(enlarge(pixels, zoom * DENSITY).permute(0, 2, 3, 1).numpy()):  # -> (n, h, w, c)
        y = DENSITY * (top + number // across * (zoom * height + GAP))
        x = DENSITY * (left + number % across * (zoom * width + GAP))
        page[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    named = f"; columns: {', '.join(columns)}" if columns else ""
    return Picture.of(page, f"{title or 'Pictures'}. Table of pictures, rows: {', '.join(rows)}{named}")


def _checked(times: Tensor, places: Tensor) -> tuple[np.ndarray, np.ndarray]:
    times, places = np.asarray(times), np.asarray(places)
    if times.ndim != 1 or places.ndim != 2 or len(times) != len(places):
        raise ValueError(f"expected times (n,) and places (n, trajectories), not {times.shape} and {places.shape}")
    return times, places


def _apart(heights: Sequence[float], low: float, high: float, least: float = 0.075) -> list[float]:
    """Heights for labels: near their lines, but never on top of each other."""
    gap, placed = least * (high - low), {}
    for place in np.argsort(heights):
        below = max(placed.values(), default=-np.inf)
        placed[int(place)] = max(heights[place], below + gap)
    return [float(placed[i]) for i in range(len(heights))]
