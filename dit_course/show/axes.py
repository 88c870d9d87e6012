"""What the charts of all lessons share: styled axes, titles, colors of curves, names beside points and at ends."""

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from dit_course.show.layout import CAPTION, INK, PALETTE, TEXT, TITLE, Picture, blank_figure, rendered

LABEL = {**TEXT, "fontsize": CAPTION}
T_AXIS = "t (0 is data, 1 is noise)"


def chart(width: float, height: float, box: tuple, x: str = "", y: str = "", grid: str = "both", title: str = ""):
    """A figure of this size on the page, with one pair of axes: see `add_axes`. Returns both."""
    figure = blank_figure(width, height)
    return figure, add_axes(figure, box, x, y, grid, title)


def finished(figure, alt: str) -> Picture:
    """The picture of a figure; alt: what it shows, as text."""
    return Picture.of(rendered(figure), alt)


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


def bare_axes(figure, box: tuple, x: str = "", y: str = "", title: str = ""):
    """New axes for images and bars: the course's font, but no grid lines. title: in small letters."""
    axes = figure.add_axes(box, facecolor="white")
    axes.set_xlabel(x, **LABEL)
    axes.set_ylabel(y, **LABEL)
    axes.set_title(title, loc="left", **LABEL)
    style_ticks(axes)
    return axes


def bar_axes(figure, box: tuple, names: Sequence[str], places: Sequence[float]):
    """New axes for bars that lie: their names at the left, no numbers beneath."""
    axes = bare_axes(figure, box)
    axes.set_yticks(places, names)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(INK)
    axes.tick_params(length=0)
    return axes


def point_axes(axes, x: tuple[float, float], y: tuple[float, float], frame: str) -> None:
    """Points in the plane: these limits, no numbers, a frame of this color."""
    axes.set(xlim=x, ylim=y, xticks=[], yticks=[])
    axes.spines[:].set_color(frame)


def note(axes, text: str, at: tuple[float, float], shift: tuple[float, float] = (0, 0), **style) -> None:
    """Write text at a point of the axes, moved by `shift` pixels of the page; it may lie outside."""
    axes.annotate(text, at, shift, textcoords="offset points", **{**LABEL, "annotation_clip": False, **style})


def end_label(axes, text: str, x: float, y: float, color: str = INK) -> None:
    """Write a name beside the end of a curve, which may lie at the edge of the axes."""
    axes.annotate(text, (x, y), va="center", annotation_clip=False, **LABEL | {"color": color})


def end_labels(axes, texts: Iterable[str], x: float, heights: Sequence[float], gap: float, inks=None) -> None:
    """Write names at the ends of curves at `x`, moved upwards where two would lie closer together than `gap`."""
    for text, y, ink in zip(texts, spread(heights, gap), inks or [INK] * len(heights), strict=True):
        end_label(axes, text, x, y, ink)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights of labels, moved upwards where two would lie closer together than `gap`."""
    placed, last = [float(height) for height in heights], -np.inf
    for i in sorted(range(len(placed)), key=placed.__getitem__):
        placed[i] = last = max(placed[i], last + gap)
    return placed
