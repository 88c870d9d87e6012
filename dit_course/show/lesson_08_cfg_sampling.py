"""Figures of lesson 08: trajectories and solver steps, accuracy against evaluations, images in a table."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from dit_course.show.arrays import enlarge, require_one_each, to_bytes
from dit_course.show.axes import chart, end_label, end_labels, finished, headline, log_ticks, spread
from dit_course.show.layout import CAPTION, DENSITY, GAP, LETTER, MARGIN, PAGE_WIDTH, PALETTE, TILE, TITLE, Picture
from dit_course.show.text import paste, wrapped, write

# the same color and marker for the same solver in every figure
STYLES = {"euler": ("noise", "o"), "heun": ("data", "s"), "ab2": ("model", "^"), "slipped": ("guidance", "D")}
STYLES |= {"repaired": STYLES["euler"], "suspect": STYLES["slipped"]}  # by their names in the lesson
NAME_GAP = 0.06  # between the names of two lines, as a share of the axis
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
    title = title or f"{exact[1].shape[-1]} trajectories from noise to data"
    figure, axes = chart(640, 330, (0.09, 0.16, 0.74, 0.72), "t: from noise (1) to data (0)", "x")
    headline(figure, title)
    parts = {captions[0]: (exact, PALETTE["data"], 2.0, "")}
    if steps is not None:
        parts[captions[1]] = (steps, PALETTE["guidance"], 1.5, "o")
    ends = []
    for (times, states), color, width, marker in parts.values():
        times, states = _checked(times, states)
        axes.plot(times, states, color=color, linewidth=width, marker=marker, markersize=5)
        ends.append(states[-1].max())
    low, high = axes.get_ylim()
    inks = [color for _, color, *_ in parts.values()]
    end_labels(axes, [f"  {name}" for name in parts], 0, ends, NAME_GAP * (high - low), inks)
    axes.set_xlim(1, 0)
    return finished(figure, f"{title}. Lines from t = 1 to t = 0: {' and '.join(parts)}")


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
    for name, reached in values.items():
        require_one_each(reached, evaluations[name], "values", "numbers of evaluations", name, least=2)
    from matplotlib.ticker import LogLocator, NullLocator

    title = title or f"What an evaluation buys: {', '.join(values)}"
    figure, axes = chart(640, 360, (0.11, 0.15, 0.66, 0.74), "evaluations of the network", y)
    headline(figure, title)
    names, ends, inks = {}, [], []
    for name, reached in values.items():
        kind, marker = STYLES.get(name, ("data", "x"))
        axes.loglog(evaluations[name], reached, color=PALETTE[kind], marker=marker, linewidth=2)
        slope = np.polyfit(np.log(evaluations[name]), np.log(reached), 1)[0]
        names[name] = f"{name}: slope {slope:.1f}" if slopes else name
        ends.append(np.log(reached[-1]))
        inks.append(DARK.get(kind, PALETTE[kind]))
    ticks = sorted({count for counts in evaluations.values() for count in counts})
    log_ticks(axes, ticks if len(ticks) < 8 else ticks[:: len(ticks) // 4])
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 200 * low else (1.0,), numticks=12))
    axes.yaxis.set_minor_locator(NullLocator())
    low, high = np.log(axes.get_ylim())
    for text, height, ink in zip(names.values(), _apart(ends, NAME_GAP * (high - low)), inks, strict=True):
        end_label(axes, f"   {text}", ticks[-1], np.exp(height), ink)
    last = ", ".join(f"{text} ends at {values[name][-1]:.2g}" for name, text in names.items())
    return finished(figure, f"{title}. Line chart with logarithmic axes: {last}")


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
    page_height = top + len(rows) * (zoom * height + GAP) - GAP + MARGIN
    page = np.full((DENSITY * page_height, DENSITY * page_width, 3), 255, dtype=np.uint8)
    write(page, title or "", MARGIN, MARGIN + TITLE, TITLE)
    for number, lines in enumerate(heads):
        middle = left + number * (zoom * width + GAP) + zoom * width / 2
        for above, line in enumerate(reversed(lines)):
            write(page, line, middle, top - 2 * GAP - 1.3 * CAPTION * above, align="center")
    for number, name in enumerate(rows):
        middle = top + number * (zoom * height + GAP) + zoom * height / 2
        write(page, name, left - 2 * GAP, middle + 0.36 * CAPTION, align="right")
    for number, tile in enumerate(enlarge(pixels, zoom * DENSITY).permute(0, 2, 3, 1).numpy()):  # -> (n, h, w, c)
        row, column = divmod(number, across)
        paste(page, tile, top + row * (zoom * height + GAP), left + column * (zoom * width + GAP))
    named = f"; columns: {', '.join(columns)}" if columns else ""
    return Picture.of(page, f"{title or 'Pictures'}. Table of pictures, rows: {', '.join(rows)}{named}")


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """Heights of labels, moved apart, upwards as much as downwards."""
    up, down = spread(heights, gap), spread([-height for height in heights], gap)
    return [(high - low) / 2 for high, low in zip(up, down, strict=True)]


def _checked(times: Tensor, states: Tensor) -> tuple[np.ndarray, np.ndarray]:
    times, states = np.asarray(times), np.asarray(states)
    if times.ndim != 1 or states.ndim != 2 or len(times) != len(states):
        raise ValueError(f"trajectories are times (n,) and states (n, count), not {times.shape} and {states.shape}")
    return times, states
