"""What the charts of all lessons share: styled axes, titles, colors of curves, names at their ends."""

from collections.abc import Collection, Sequence

import numpy as np

from dit_course.show.layout import CAPTION, INK, PALETTE, TEXT, TITLE

LABEL = {**TEXT, "fontsize": CAPTION}


def add_axes(figure, box: tuple, x: str = "", y: str = "", grid: str = "both", title: str = ""):
    """New axes in the style of the course. box: left, bottom, width, height as shares of the figure."""
    axes = figure.add_axes(box, facecolor="white")
    style_axes(axes, x, y, grid)
    if title:
        axes.set_title(title, loc="left", fontsize=TITLE, **TEXT)
    return axes


def style_axes(axes, x: str = "", y: str = "", grid: str = "both") -> None:
    """Style the axes of a chart: names, no frame at the top and the right, faint lines. grid: "both", "x" or "y"."""
    axes.set_xlabel(x, **LABEL)
    axes.set_ylabel(y, **LABEL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    style_ticks(axes)
    axes.grid(axis=grid, color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)


def style_ticks(axes, **more) -> None:
    """The numbers at the ticks, in the course's font."""
    axes.tick_params(colors=INK, labelsize=CAPTION, labelfontfamily=TEXT["family"], **more)


def log_ticks(axes, ticks: Sequence[int]) -> None:
    """Plain numbers on logarithmic axes, with these ticks on x."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def headline(figure, title: str, x: float = 8, y: float = 23, size: float = TITLE) -> None:
    """The title of a whole figure. x, y: of its baseline, in pixels of the page from the top left."""
    width, height = (float(side) * 72 for side in figure.get_size_inches())
    figure.text(x / width, 1 - y / height, title, fontsize=size, **TEXT)


def colors(curves: Collection, *order: str) -> list[str]:
    """A color for each curve, by their names in `PALETTE`; with more curves than names the order starts again."""
    return [PALETTE[order[i % len(order)]] for i in range(len(curves))]


def end_label(axes, text: str, x: float, y: float, color: str = INK) -> None:
    """Write a name beside the end of a curve, which may lie at the edge of the axes."""
    axes.annotate(text, (x, y), va="center", annotation_clip=False, **LABEL | {"color": color})


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights of labels, moved upwards where two would lie closer together than `gap`."""
    placed, last = [float(height) for height in heights], -np.inf
    for i in sorted(range(len(placed)), key=placed.__getitem__):
        placed[i] = last = max(placed[i], last + gap)
    return placed
