"""Figures of lesson 10: power laws, the scaling experiment, and rounding in bfloat16."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from dit_course.show.axes import chart, colors, end_labels, finished, headline, note, style_axes
from dit_course.show.layout import CAPTION, PALETTE, TITLE, Picture, blank_figure

METRICS = {
    "validation_loss": "loss on test pictures",
    "frechet_distance": "Fréchet distance (lower is better)",
    "class_accuracy": "share in the class asked for",
}


def scaling(
    rows: Sequence[Mapping], metric: str = "validation_loss", laws: Mapping[int, Tensor] | None = None,
    title: str | None = None,
) -> Picture:  # fmt: skip
    """Show a metric of the scaling experiment against the FLOPs of training, on logarithmic axes.

    rows: those of `load_experiment("scaling")`: a dot each; the lines join the means of the seeds at one patch
    size. laws: for a patch size the factor and the exponent of a power law, drawn dotted, and on to the right.
    Raises ValueError when the metric is in no row.
    """
    if not rows or any(metric not in row for row in rows):
        known = ", ".join(name for name in METRICS if rows and name in rows[0]) or "none"
        raise ValueError(f"no {metric!r} in these rows: there is {known}")
    from matplotlib.patheffects import Normal, Stroke

    figure, axes = _log_axes()
    patches = sorted({row["patch"] for row in rows}, reverse=True)
    summary, falls = [], True
    for number, (patch, color) in enumerate(zip(patches, colors(patches, "model", "data", "guidance"), strict=True)):
        of_patch = [row for row in rows if row["patch"] == patch]
        means: dict[float, list[float]] = {}
        for row in of_patch:
            means.setdefault(row["training_flops"], []).append(row[metric])
        flops = sorted(means)
        middle = [float(np.mean(means[x])) for x in flops]
        falls = falls and all(after < before for before, after in pairwise(middle))
        style = {"color": color, "marker": "os^"[number % 3]}
        dots = ([row[name] for row in of_patch] for name in ("training_flops", metric))
        axes.scatter(*dots, s=30, alpha=0.55, linewidths=0, **style)
        axes.plot(flops, middle, color=color, linewidth=2)
        _follow(axes, laws, patch, flops, color)
        for x, y in zip(flops, middle, strict=True):
            size = next(row.get("size", "") for row in of_patch if row["training_flops"] == x)
            _name(axes, size, (x, y), above=patch == patches[0], fontsize=10)
        up = 19 if patch == patches[0] else 2  # above the first line, the name of the last size comes first
        clear = [Stroke(linewidth=4, foreground="white"), Normal()]  # another size's law may pass behind the text
        end, shift, va = (flops[-1], middle[-1]), (7, up), "bottom"
        if laws and patch in laws:  # beside the end of its dotted line, which no other line touches
            factor, exponent = (float(value) for value in laws[patch])
            end, shift, va = (10 * flops[-1], factor * (10 * flops[-1]) ** exponent), (7, 0), "center"
        note(axes, f"patches of {patch}", end, shift, va=va, color=color, path_effects=clear)
        summary.append(f"patches of {patch}: from {middle[0]:.3g} to {middle[-1]:.3g} over {len(flops)} sizes")
    count = len({row["seed"] for row in rows})
    what = METRICS.get(metric, metric.replace("_", " ")).split(" (")[0]
    title = title or (f"More work, lower {what} at each patch size" if falls else f"More work, and the {what}")
    _style(axes, "FLOPs of the whole training run", METRICS.get(metric, metric.replace("_", " ")))
    headline(figure, title, size=TITLE if len(title) < 70 else CAPTION + 1)
    what = f"{len(rows)} trainings as dots, {count} seeds, against FLOPs, both axes logarithmic"
    return finished(figure, f"{title} {what}. {'; '.join(summary)}")


def power_law(
    points: Mapping[str, tuple[float, float]], law: Tensor, fitted: Sequence[str] | None = None,
    x: str = "work", y: str = "", title: str | None = None,
) -> Picture:  # fmt: skip
    """Show named points and a power law through them, on logarithmic axes.

    points: (x, y) by name. law: (2,), factor and exponent. fitted: the names that the law was fitted to, drawn full;
    the others are drawn hollow. None: all of them.
    """
    factor, exponent = (float(value) for value in law)
    figure, axes = _log_axes()
    places = np.array(list(points.values()), dtype=float)
    smooth = np.geomspace(places[:, 0].min() / 1.3, places[:, 0].max() * 1.3, 50)
    axes.plot(smooth, factor * smooth**exponent, color=PALETTE["noise"], linewidth=1.5, linestyle=":")
    for name, (at, value) in points.items():
        inside = fitted is None or name in fitted
        axes.plot(at, value, "o", color=PALETTE["data"], markersize=8, markerfacecolor=None if inside else "white")
        above = value > factor * at**exponent
        _name(axes, name if inside else f"{name} (not fitted)", (at, value), above=above)
    _style(axes, x, y)
    title = title or f"{y or 'y'} = {factor:.3g} · work ^ {exponent:.2f}"
    headline(figure, title, size=TITLE if len(title) < 70 else CAPTION + 1)
    summary = ", ".join(f"{name} {value:.3g}" for name, (_, value) in points.items())
    alt = f"{title}. Points on logarithmic axes: {summary}; the law's exponent {exponent:.2f}"
    return finished(figure, alt)


def step_phases(frequencies: Mapping[str, Tensor], title: str | None = None) -> Picture:
    """Show one sinusoid of the time embedding for several sets of frequencies f: cos(1000 t f) for t in [0, 1].

    frequencies: by name, (n,) each, from high to low; the first name is the exact one. Shown is the frequency where the
    sets differ most.
    """
    sets = {name: values.detach().double() for name, values in frequencies.items()}
    right, *others = sets.values()
    which = int(torch.stack([(other - right).abs() for other in others]).amax(dim=0).argmax())
    t = torch.linspace(0.94, 1, 1201, dtype=torch.float64)
    figure, axes = chart(760, 300, (0.07, 0.17, 0.76, 0.66), "t")
    ends, inks = [], colors(sets, "data", "guidance", "model")
    for values, color in zip(sets.values(), inks, strict=True):
        curve = (1000 * t * values[which]).cos()
        axes.plot(t, curve, color=color, linewidth=1.4 if ends else 2.4)
        ends.append(float(curve[-1]))
    end_labels(axes, sets, 1.001, ends, 0.22, inks)
    furthest = max((1000 * (other - right).abs().max() / (2 * np.pi)).item() for other in others)
    title = title or f"At t = 1, one of {len(right)} sinusoids is {furthest:.1g} turns off"
    axes.set_xlim(0.94, 1)
    headline(figure, title, size=TITLE if len(title) < 70 else CAPTION + 1)
    return finished(figure, f"{title}. Curves near t = 1: {', '.join(sets)}")


def _name(axes, name: str, at: tuple[float, float], above: bool, **style) -> None:
    """Write a name beside a point of a falling line, on the side where the line is not: above right, or below left."""
    place, ha, va = ((7, 5), "left", "bottom") if above else ((-7, -5), "right", "top")
    note(axes, name, at, place, ha=ha, va=va, **style)


def _log_axes():
    figure = blank_figure(740, 400)
    axes = figure.add_axes((0.11, 0.14, 0.74, 0.73), facecolor="white", xscale="log", yscale="log")
    axes.margins(0.06, 0.1)
    return figure, axes


def _follow(axes, laws: Mapping[int, Tensor] | None, patch: int, flops: Sequence[float], color: str) -> None:
    """Draw a law through the points, extended to ten times the FLOPs."""
    if laws and patch in laws:
        factor, exponent = (float(value) for value in laws[patch])
        smooth = np.geomspace(flops[0], 10 * flops[-1], 60)
        axes.plot(smooth, factor * smooth**exponent, color=color, linewidth=1.2, linestyle=":")


def _style(axes, x: str, y: str) -> None:
    """Names of the axes, and plain numbers at the ticks of y."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)))
    low, high = axes.get_ylim()
    if high / low < 2.2:  # less than a factor of two: the usual ticks would be one or two
        ticks = np.geomspace(low, high, 6)[1:-1]
        axes.set_yticks([float(f"{tick:.2g}") for tick in ticks])
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    style_axes(axes, x, y)
