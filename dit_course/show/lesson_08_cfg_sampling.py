"""Figures of lesson 08: trajectories and solver steps, accuracy against evaluations, images in a table."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from dit_course.show.arrays import enlarge, to_bytes
from dit_course.show.axes import add_axes, end_label, log_ticks, spread
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
    rendered,
)
from dit_course.show.text import wrapped

# the same color and marker for the same solver in every figure
STYLES = {"euler": ("noise", "o"), "heun": ("data", "s"), "ab2": ("model", "^"), "slipped": ("guidance", "D")}
NAME_GAP = 0.075  # between the names of two lines, as a share of the axis
DARK = {"noise": "#5f5f5f"}  # a gray that is dark enough for text


def solver_trajectories(
    exact: tuple[Tensor, Tensor],
    steps: tuple[Tensor, Tensor] | None = None,
    title: str | None = None,
    captions: tuple[str, str] = ("exact", "steps"),
) -> Picture:
    """Draw trajectories of single numbers from noise (t = 1, on the left) to data (t = 0, on the right).

    exact: times (n,) and states (n, trajectories), drawn as lines. steps: the same of a solver, with its points.
    """
    figure = blank_figure(640, 330)
    axes = add_axes(figure, (0.09, 0.16, 0.74, 0.72), "t: from noise (1) to data (0)", "x")
    parts = [(exact, PALETTE["data"], "-", 2.0, "", captions[0])]
    if steps is not None:
        parts.append((steps, PALETTE["guidance"], "-", 1.5, "o", captions[1]))
    ends = []
    for (times, states), color, line, width, marker, name in parts:
        times, states = _checked(times, states)
        axes.plot(times, states, line, color=color, linewidth=width, marker=marker, markersize=5)
        ends.append((states[-1].max(), name, color))
    low, high = axes.get_ylim()
    heights = spread([end[0] for end in ends], NAME_GAP * (high - low))
    for (_, name, color), height in zip(ends, heights, strict=True):
        end_label(axes, f"  {name}", 0, height, color)
    axes.set_xlim(1, 0)
    title = title or f"{states.shape[1]} trajectories from noise to data"
    axes.set_title(title, loc="left", fontsize=TITLE, **TEXT)
    return Picture.of(rendered(figure), f"{title}. Lines from t = 1 to t = 0: {' and '.join(end[1] for end in ends)}")


def by_evaluations(
    evaluations: Mapping[str, Sequence[int]],
    values: Mapping[str, Sequence[float]],
    y: str = "error",
    title: str | None = None,
    slopes: bool = False,
) -> Picture:
    """Draw what each solver reaches against its number of function evaluations (NFE), on logarithmic axes.

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
    title = title or f"What an evaluation buys: {', '.join(values)}"
    axes = add_axes(figure, (0.11, 0.15, 0.66, 0.74), "evaluations of the network", y, title=title)
    names, ends = {}, []
    for name, reached in values.items():
        kind, marker = STYLES.get(name, ("data", "x"))
        axes.loglog(evaluations[name], reached, color=PALETTE[kind], marker=marker, linewidth=2)
        slope = np.polyfit(np.log(evaluations[name]), np.log(reached), 1)[0]
        names[name] = f"{name}: slope {slope:.1f}" if slopes else name
        ends.append((evaluations[name][-1], reached[-1]))
    ticks = sorted({count for counts in evaluations.values() for count in counts})
    log_ticks(axes, ticks if len(ticks) < 8 else ticks[:: len(ticks) // 4])
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 200 * low else (1.0,), numticks=12))
    axes.yaxis.set_minor_locator(NullLocator())
    low, high = np.log(axes.get_ylim())
    heights = spread([np.log(end[1]) for end in ends], NAME_GAP * (high - low))
    for (name, text), height in zip(names.items(), heights, strict=True):
        kind, _ = STYLES.get(name, ("data", "x"))
        end_label(axes, f"   {text}", ticks[-1], np.exp(height), DARK.get(kind, PALETTE[kind]))
    last = ", ".join(f"{text} ends at {values[name][-1]:.2g}" for name, text in names.items())
    return Picture.of(rendered(figure), f"{title}. Line chart with logarithmic axes: {last}")


def table(
    x: Tensor | Sequence[Tensor],
    rows: Sequence[str],
    columns: Sequence[str] | None = None,
    title: str | None = None,
    side: int = TILE,
) -> Picture:
    """Show images in a table, with the names of its rows at the left and those of its columns, if any, on top.

    x: (rows * columns, C, H, W) uint8 or floats in [0, 1], or a list, row by row. side: of an image, at most.
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
    page_width = left + across * (zoom * width + GAP) - GAP + MARGIN
    page_width = max(page_width, 2 * MARGIN + int(LETTER * TITLE * len(title or "")))
    figure = blank_figure(page_width, page_height := top + len(rows) * (zoom * height + GAP) - GAP + MARGIN)

    def write(place: float, line: float, text: str, size: int = CAPTION, **style) -> None:
        figure.text(place / page_width, 1 - line / page_height, text, fontsize=size, **TEXT, **style)

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


def _checked(times: Tensor, states: Tensor) -> tuple[np.ndarray, np.ndarray]:
    times, states = np.asarray(times), np.asarray(states)
    if times.ndim != 1 or states.ndim != 2 or len(times) != len(states):
        raise ValueError(f"trajectories are times (n,) and states (n, count), not {times.shape} and {states.shape}")
    return times, states
