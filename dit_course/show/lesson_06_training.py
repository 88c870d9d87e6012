"""Figures of lesson 06: losses, learning rates, gradients, a training run with its samples, and recipes compared."""

import math
from collections.abc import Mapping, Sequence
from statistics import mean

import numpy as np
from torch import Tensor

from dit_course.show.arrays import enlarge, require_one_each
from dit_course.show.axes import LABEL, T_AXIS, add_axes, chart, colors, end_label, finished, headline, note, spread
from dit_course.show.figures import exponential_mean
from dit_course.show.layout import CAPTION, DENSITY, INK, PALETTE, TEXT, TITLE, Picture, blank_figure, rendered
from dit_course.show.text import paste, write

ORDER = ("model", "noise", "guidance", "data")  # colors of curves, in this order
DARK = {PALETTE["noise"]: "#6a6a6a"}  # for text, which needs more contrast than a line
PAGE, TILE, ROWS = 820, 42, 6  # of a training run: its width, a sample's side, and the number of rows of samples
MOST_POINTS = 1500  # that a loss curve is drawn with


def loss_curves(runs: Mapping[str, Sequence[float]], window: int = 9, title: str | None = None) -> Picture:
    """Show the losses of several training runs, each as its running median with its name at the end.

    runs: the losses by name, at most four. window: the number of last losses that the median is taken of; a median,
        because a mean remembers an explosion long after it is over.
    title: None states the last medians. The axis ends at about twice the first loss, even where one diverges.
    Raises ValueError for a run without losses.
    """
    _require_lines(runs)
    medians = {name: running_median(losses, window) for name, losses in runs.items()}
    ends = ", ".join(f"{name} {values[-1]:.3g}" for name, values in medians.items())
    title = title or f"The losses at the end: {ends}"
    figure, axes = _chart(680, 320, (0.09, 0.15, 0.66, 0.73), "step", "loss", title)
    styles = zip(medians.items(), colors(medians, *ORDER), _dashes(list(medians.values())), strict=True)
    for (name, values), color, dashes in styles:
        axes.plot(range(1, len(values) + 1), np.asarray(runs[name]), color=color, alpha=0.35, linewidth=0.8)
        axes.plot(range(1, len(values) + 1), values, color=color, linewidth=2, linestyle=dashes)
    everything = np.concatenate([values[np.isfinite(values)] for values in medians.values()])
    start = max(values[0] for values in medians.values())
    axes.set_ylim(0, 1.1 * min(everything.max(initial=1e-9), 2 * start if np.isfinite(start) else np.inf))
    axes.set_xlim(0, max(len(values) for values in medians.values()))
    _name_ends(axes, medians, max(map(len, medians.values())), colors(medians, *ORDER))
    return finished(figure, f"{title}. Line chart of the running medians of {len(runs)} losses; at the end {ends}")


def running_median(values: Sequence[float], window: int) -> np.ndarray:
    """The median of the last `window` values, after each: of fewer at the start."""
    values = np.asarray(values, dtype=float)
    return np.array([np.median(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)])


def _dashes(lines: Sequence[Sequence[float]]) -> list:
    """A line style each: dashed where a line runs along an earlier one, which can then be seen between the dashes."""

    def along(one: Sequence[float], other: Sequence[float]) -> bool:
        gaps = [abs(a - b) for a, b in zip(one, other, strict=False)]
        return sum(gap < 0.01 * abs(one[0]) for gap in gaps) > 0.3 * len(gaps)

    return [(0, (5, 4)) if any(along(other, one) for other in lines[:i]) else "-" for i, one in enumerate(lines)]


def rates(schedules: Mapping[str, Sequence[float]], title: str = "The learning rate, step by step") -> Picture:
    """Show learning-rate schedules, one line each with its name.

    schedules: the learning rates by name, at most four.
    """
    _require_lines(schedules)
    figure, axes = _chart(640, 260, (0.12, 0.19, 0.86, 0.66), "steps done", "learning rate", title)
    places = np.linspace(0.3, 0.7, len(schedules)) if len(schedules) > 1 else [0.5]
    styles = zip(schedules.items(), colors(schedules, *ORDER), places, _dashes(list(schedules.values())), strict=True)
    for (name, values), color, place, dashes in styles:
        axes.plot(range(len(values)), values, color=color, linewidth=2, linestyle=dashes)
        at = int(place * (len(values) - 1))
        note(axes, name, (at, values[at]), (5, 5), ha="left")
    axes.set_ylim(0, 1.25 * max(max(values) for values in schedules.values()))
    axes.set_xlim(0, max(len(values) for values in schedules.values()))
    tops = ", ".join(f"{name} up to {max(values):.2g}" for name, values in schedules.items())
    return finished(figure, f"{title}. Line chart: {tops}")


def gradient_norms(norms: Mapping[str, Sequence[float]], most: float, title: str | None = None) -> Picture:
    """Show the norm of the gradient in each step, and where it is clipped.

    norms: by name, at most four, on a logarithmic axis. most: the norm that gradients are clipped to.
    """
    _require_lines(norms)
    summary = ", ".join(
        f"{name} {sum(norm > most for norm in values)} of {len(values)}" for name, values in norms.items()
    )
    title = title or f"Steps that were clipped: {summary}"
    figure, axes = _chart(680, 280, (0.1, 0.17, 0.7, 0.69), "step", "norm of the gradient", title)
    for (name, values), color in zip(norms.items(), colors(norms, *ORDER), strict=True):
        axes.semilogy(range(1, len(values) + 1), values, ".", color=color, markersize=5)
        end_label(axes, f"  {name}", len(values), np.median(values[-10:]))
    axes.axhline(most, color=PALETTE["guidance"], linewidth=1.5, linestyle="--")
    last = max(len(values) for values in norms.values())
    end_label(axes, f"  clip = {most:g}", last, most)
    for form in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        form(lambda value, _: f"{value:,.10g}" if f"{value:e}"[0] in "125" else "")
    axes.set_xlim(0, last)
    return finished(figure, f"{title}. Dots on a logarithmic axis, with a line at {most:g}")


def loss_by_time(
    times: Sequence[float],
    losses: Mapping[str, Sequence[float]],
    ends: tuple[float, float] | None = None,
    title: str = "The loss at each t",
) -> Picture:
    """Show the loss at each time t, one line for each network.

    times: in [0, 1], increasing. losses: by name, as many as times. ends: the least possible loss at t = 0 and t = 1.
    """
    for name, values in losses.items():
        require_one_each(values, times, "losses", "times", name)
    figure, axes = _chart(680, 330, (0.09, 0.15, 0.68, 0.74), T_AXIS, "loss", title)
    inks = colors(losses, "noise", "model", "data", "guidance")
    for values, color in zip(losses.values(), inks, strict=True):
        axes.plot(times, values, color=color, linewidth=2, marker="o", markersize=4)
    axes.set_ylim(0, 1.12 * max(max(values) for values in losses.values()))
    _name_ends(axes, losses, 1.02, inks)
    axes.set_xlim(-0.02, 1.02)
    summary = ""
    if ends is not None:
        axes.plot([0, 1], ends, "D", color=PALETTE["guidance"], markersize=8, clip_on=False, zorder=5)
        for t, shift, align in ((0, (10, 10), "left"), (1, (-10, -22), "right")):
            text = f"least possible: {ends[t]:.2f}"
            note(axes, text, (t, ends[t]), shift, ha=align, color=PALETTE["guidance"])
        summary = f"; the least possible is {ends[0]:.2f} at t = 0 and {ends[1]:.2f} at t = 1"
    lowest = ", ".join(f"{name} {min(values):.3g} to {max(values):.3g}" for name, values in losses.items())
    return finished(figure, f"{title}. Line chart against t: {lowest}{summary}")


def loss_and_pictures(
    minutes: Sequence[float], losses: Sequence[float], accuracies: Sequence[float], title: str | None = None
) -> Picture:
    """Show, side by side, the loss and the class accuracy of samples, at some times of a training run.

    minutes, losses, accuracies: as many of each; accuracies in [0, 1]. title: None states where both begin and end.
    """
    if not len(minutes) == len(losses) == len(accuracies) >= 2:
        raise ValueError(
            f"{len(minutes)} times, {len(losses)} losses and {len(accuracies)} shares: as many of each, and two"
        )
    shares = f"{accuracies[0]:.0%} to {accuracies[-1]:.0%}"
    title = title or f"The loss goes from {losses[0]:.3f} to {losses[-1]:.3f}, recognized pictures from {shares}"
    figure = blank_figure(720, 290)
    headline(figure, title, 14.4, 0.08 * 290, TITLE if len(title) < 72 else 13)
    panels = (
        (0.085, losses, "noise", "loss", lambda value, _: f"{value:.2f}"),
        (0.575, accuracies, "model", "in the class asked for", lambda value, _: f"{value:.0%}"),
    )
    for left, values, color, name, form in panels:
        axes = add_axes(figure, (left, 0.18, 0.4, 0.66), "minutes of training", name)
        axes.plot(minutes, values, color=PALETTE[color], linewidth=2, marker="o")
        axes.set(xlim=(0, 1.05 * max(minutes)), ylim=(0, 1.15 * max(values) if name == "loss" else 1))
        axes.yaxis.set_major_formatter(form)
    rows = "; ".join(
        f"{m:.2g} min: loss {loss:.3f}, {share:.0%}" for m, loss, share in zip(minutes, losses, accuracies, strict=True)
    )
    return finished(figure, f"{title}. Two line charts. {rows}")


def training(
    losses: Sequence[float],
    strips: Sequence[tuple[str, Tensor]] = (),
    captions: Sequence[str] | None = None,
    title: str | None = None,
) -> Picture:
    """Show a training run: the loss so far, and beside it samples of the network, a row for each time.

    losses: of every step. strips: at most six pairs of a time ("1:30") and samples (n, C, H, W) uint8, n at most ten.
    captions: one per column.
    """
    figure, height = blank_figure(PAGE, 352), 352
    title = title or (f"{len(losses):,} steps" if len(losses) else "Before the first step")
    headline(figure, title, 10, 22)
    wide = 0.35 if strips else 0.86
    axes = add_axes(figure, (0.065, 48 / height, wide - 0.06, (height - 96) / height), "step", "loss")
    _draw_losses(axes, np.asarray(losses, dtype=float))
    page = rendered(figure)
    left, top, step = PAGE - 10 * (TILE + 4) + 4 - 8, 44, TILE + 4
    for row, (time, pictures) in enumerate(strips[:ROWS]):
        write(page, time, left - 8, top + row * step + TILE / 2 + 4, align="right")
        for column, pixels in enumerate(tiles(pictures)):
            paste(page, pixels, top + row * step, left + column * step)
    for column, caption in enumerate((captions or ())[: len(strips[0][1]) if strips else 0]):
        for number, line in enumerate(caption.replace("/", "/\n", 1).replace(" ", "\n", 1).splitlines()):
            below = top + min(len(strips), ROWS) * step + 10 + 11 * number
            write(page, line, left + column * step + TILE / 2, below, 9, align="center")
    times = f"; pictures drawn after {', '.join(time for time, _ in strips)}" if strips else ""
    return Picture.of(page, f"{title}. The loss in each of {len(losses):,} steps{times}")


def tiles(pictures: Tensor) -> np.ndarray:
    """Images (n, C, H, W) uint8, enlarged by a whole number to about `TILE`: (n, height, width, C)."""
    side = max(pictures.shape[-2:])
    shrink = math.ceil(side / (DENSITY * TILE))  # large images lose pixels rather than be blurred
    pictures = pictures[..., ::shrink, ::shrink]
    zoom = max(1, DENSITY * TILE // max(pictures.shape[-2:]))
    return enlarge(pictures, zoom).permute(0, 2, 3, 1).numpy()  # (n, c, h, w) -> (n, h, w, c)


def recipes(rows: Sequence[dict], goal: float = 0.8, title: str | None = None) -> Picture:
    """Show what other recipes reach in the same time: a row for each, a dot for each training run.

    rows: dicts with name, patch_size, width, depth, lr, steps, class_accuracy, frechet_distance.
    goal: the place of a vertical line. title: None names the best. Raises ValueError when there are none.
    """
    if not rows:
        raise ValueError("there are no training runs to show: was the table of experiments empty?")
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["name"], []).append(row)
    order = sorted(groups, key=lambda name: mean(row["class_accuracy"] for row in groups[name]))
    best = mean(row["class_accuracy"] for row in groups[order[-1]])
    title = title or f"The best of {len(groups)} recipes: {order[-1]}, {best:.0%} in the class asked for"
    height = 108 + 26 * len(order)
    figure = blank_figure(PAGE, height)
    headline(figure, title, 10, 22, TITLE if len(title) < 72 else CAPTION)
    box = (0.585, 40 / height, 0.39, (height - 108) / height)
    axes = add_axes(figure, box, "in the class asked for")
    columns = (("recipe", 10), ("patch", 178), ("width x depth", 225), ("rate", 322), ("steps", 366), ("Fréchet", 418))
    for name, x in columns:
        figure.text(x / PAGE, 1 - 56 / height, name, **{**LABEL, "color": "#555555"})
    for number, name in enumerate(order):
        row, y = groups[name][0], 40 + (height - 108) * (number + 0.5) / len(order) - 4
        steps, distance = (mean(row[key] for row in groups[name]) for key in ("steps", "frechet_distance"))
        cells = (name, row["patch_size"], f"{row['width']} x {row['depth']}", f"{row['lr']:g}")
        for cell, (_, x) in zip((*cells, f"{steps:,.0f}", f"{distance:.1f}"), columns, strict=True):
            figure.text(x / PAGE, y / height, str(cell), **LABEL)
        values = [row["class_accuracy"] for row in groups[name]]
        axes.plot(values, [number] * len(values), "o", color=PALETTE["model"], markersize=7, clip_on=False)
        if len(values) > 1:
            axes.plot([mean(values)] * 2, [number - 0.3, number + 0.3], color=INK, linewidth=2)
    axes.axvline(goal, color=PALETTE["guidance"], linewidth=1.5, linestyle="--")
    axes.set_ylim(-0.5, len(order) - 0.5)
    axes.set_yticks([])
    axes.set_xlim(min(0.5, *(row["class_accuracy"] for row in rows)) - 0.02, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    summary = "; ".join(f"{name} {mean(row['class_accuracy'] for row in groups[name]):.0%}" for name in reversed(order))
    return finished(figure, f"{title}. Means of {len(rows)} training runs: {summary}")


def _chart(width: float, height: float, box: tuple, x: str, y: str, title: str):
    """A figure and its axes, with smaller letters for a long title."""
    figure, axes = chart(width, height, box, x, y)
    axes.set_title(title, loc="left", fontsize=TITLE if len(title) < 66 else CAPTION, **TEXT)
    return figure, axes


def _draw_losses(axes, losses: np.ndarray) -> None:
    """All losses faint, their running mean strong; one spike must not flatten the rest."""
    finite = np.isfinite(losses)
    if not finite.any():
        axes.set_ylim(0, 1)
        return
    keep = 1 - 1 / np.clip(len(losses) / 20, 2, 50)  # the mean of about the last twentieth, fifty at most
    steps, means = np.arange(1, len(losses) + 1)[finite], exponential_mean(losses[finite], keep)
    every = max(1, len(steps) // MOST_POINTS)
    axes.plot(steps[::every], losses[finite][::every], color=PALETTE["model"], alpha=0.3, linewidth=0.7)
    axes.plot(steps[::every], means[::every], color=PALETTE["model"], linewidth=2)
    back = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}  # the faint line passes behind
    note(axes, f"{means[-1]:.3f}", (steps[-1], means[-1]), (-2, 9), ha="right", bbox=back)
    axes.set_ylim(0, 1.08 * max(np.quantile(losses[finite], 0.995), means[-1], 1e-9))
    axes.set_xlim(0, max(10, steps[-1]))


def _name_ends(axes, lines: Mapping[str, Sequence[float]], x: float, inks: Sequence[str]) -> None:
    """Write the names of lines beside their right ends, in their colors, moved apart where they would touch."""
    low, high = axes.get_ylim()
    ends = [min(values[-1], high) if math.isfinite(values[-1]) else high for values in lines.values()]
    gap = 0.075 * (high - low)
    upwards, downwards = spread(ends, gap), spread([-end for end in reversed(ends)], gap)[::-1]
    for name, up, down, ink in zip(lines, upwards, downwards, inks, strict=True):
        end_label(axes, f"  {name}", x, (up - down) / 2, DARK.get(ink, ink))


def _require_lines(lines: Mapping[str, Sequence[float]]) -> None:
    empty = [name for name, values in lines.items() if not len(values)]
    if empty or not lines:
        raise ValueError(f"there is nothing to draw{' for ' + empty[0] if empty else ''}: it needs at least one number")
    if len(lines) > len(ORDER):
        raise ValueError(f"{len(lines)} lines in one figure: at most {len(ORDER)} can be told apart")
