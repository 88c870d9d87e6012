"""Figures of lesson 09: clouds of features, distances, k-NN balls, nearest neighbors, and the guidance trade-off."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dit_course.show.arrays import require_one_each
from dit_course.show.axes import LABEL, add_axes, bar_axes, chart, end_label, finished, headline, note, point_axes
from dit_course.show.layout import INK, PALETTE, Picture, blank_figure

GOALS = {
    "class_accuracy": ("in the class asked for", "{:.0%}"),
    "frechet_distance": ("Fréchet distance", "{:.1f}"),
    "precision": ("precision", "{:.0%}"),
    "recall": ("recall", "{:.0%}"),
}


def feature_clouds(real: Tensor, sets: Mapping[str, Tensor], title: str | None = None) -> Picture:
    """Show sets of features in the first two principal components of the real ones: a panel each, real ones in gray.

    real: (n, d). sets: by name, (m, d) each.
    """
    center, real = real.mean(dim=0), real.double()
    _, _, directions = torch.linalg.svd(real[:2000] - center, full_matrices=False)
    there = [(x.double() - center) @ directions[:2].T for x in (real[:1000], *sets.values())]  # (m, 2) each
    title = title or f"The real cloud (gray) and {len(sets)} others, in two of {real.shape[1]} dimensions"
    columns = min(3, len(sets))
    height = 40 + 235 * -(-len(sets) // columns)
    figure = blank_figure(780, height)
    low, high = np.quantile(there[0].numpy(), [0.001, 0.999], axis=0)
    pad = 0.16 * (high - low)
    for number, (name, points) in enumerate(zip(sets, there[1:], strict=True)):
        row, column = divmod(number, columns)
        axes = figure.add_axes((0.015 + column * 0.33, 1 - (60 + 235 * row + 195) / height, 0.31, 195 / height))
        axes.scatter(*there[0].T, s=16, color="#cfcfcf", linewidths=0)
        axes.scatter(*points.T, s=4, color=PALETTE[_color(name)], linewidths=0)
        point_axes(axes, *np.stack([low - pad, high + pad], axis=1), "#bbbbbb")
        axes.set_title(name, loc="left", pad=4, **LABEL)
    headline(figure, title)
    return finished(figure, f"{title}: {', '.join(sets)}")


def distances(values: Mapping[str, float], title: str | None = None) -> Picture:
    """Show a distance for each name as a bar; 0 is the best. The first name is the one to compare with."""
    title = title or "Fréchet distances: lower is better"
    height = 60 + 30 * len(values)
    figure = blank_figure(680, height)
    values = {name: float(value) for name, value in values.items()}
    places = range(len(values), 0, -1)
    axes = bar_axes(figure, (0.33, 14 / height, 0.58, 1 - 56 / height), list(values), places)
    axes.barh(places, values.values(), color=[PALETTE[_color(name)] for name in values], height=0.7)
    for place, value in zip(places, values.values(), strict=True):
        end_label(axes, f" {value:.2f}", value, place)
    axes.axvline(next(iter(values.values())), color=PALETTE["data"], linewidth=1, linestyle=":")
    axes.set_xlim(0, 1.02 * max(*values.values(), 1e-9))
    headline(figure, title)
    summary = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
    return finished(figure, f"{title}. Bars: {summary}")


def frechet_bias(
    counts: Sequence[int], values: Sequence[float], limit: float, slope: float, title: str | None = None
) -> Picture:
    """Show distances against the number of samples, and the fitted curve limit + slope / N.

    counts, values: as many of one as of the other.
    """
    require_one_each(values, counts, "distances", "numbers of samples", least=2)
    values = [float(value) for value in values]
    ends = f"{values[0]:.1f} with {counts[0]} samples, {values[-1]:.1f} with {counts[-1]:,}"
    title = title or f"Real against real: {ends}"
    figure, axes = chart(660, 340, (0.09, 0.15, 0.72, 0.74), "samples N", "Fréchet distance")
    smooth = np.geomspace(counts[0], 4 * counts[-1], 200)
    fitted = limit + slope / smooth
    axes.plot(smooth, fitted, color=PALETTE["noise"], linewidth=1.5)
    axes.plot(counts, values, "o", color=PALETTE["data"], markersize=7)
    axes.axhline(limit, color=PALETTE["noise"], linewidth=1, linestyle=":")
    note(axes, f"{limit:.2f} + {slope:.0f} / N", (smooth[-1], fitted[-1]), (0, 8), ha="right")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.1 * max(values))
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    headline(figure, title)
    return finished(figure, f"{title}. The fitted curve ends at {limit:.2f}")


def knn_balls(real: Tensor, drawn: Tensor, k: int = 3, title: str | None = None) -> Picture:
    """Show points in the plane with their k-NN balls: left precision (balls of real points), right recall (of samples).

    real, drawn: (n, 2) and (m, 2). What lies in no ball of the other kind is drawn hollow.
    """
    from matplotlib.patches import Circle

    figure = blank_figure(780, 400)
    shares = []
    panels = (
        (real, drawn, "data", "model", "precision", "drawn points lie in a real ball"),
        (drawn, real, "model", "data", "recall", "real points lie in a drawn ball"),
    )
    for column, (centers, points, around, kind, name, what) in enumerate(panels):
        reach = torch.cdist(centers, centers).kthvalue(k + 1, dim=1).values
        inside = (torch.cdist(points, centers) <= reach).any(dim=1)
        shares.append(inside.float().mean().item())
        axes = figure.add_axes((0.01 + 0.5 * column, 0.01, 0.48, 0.80), aspect="equal")
        for center, radius in zip(centers.tolist(), reach.tolist(), strict=True):
            axes.add_patch(Circle(center, radius, color=PALETTE[around], alpha=0.10, linewidth=0))
        axes.scatter(*centers.T, s=8, color=PALETTE[around])
        axes.scatter(*points[inside].T, s=34, color=PALETTE[kind], edgecolors="white", linewidths=0.8)
        axes.scatter(*points[~inside].T, s=34, facecolors="none", edgecolors=PALETTE[kind], linewidths=1.5)
        axes.set(xlim=(-1.95, 1.95), ylim=(-1.5, 1.8))  # an outermost ball must not be cut
        axes.axis("off")
        axes.set_title(f"{name}: {shares[-1]:.0%} of the {what}", loc="left", **LABEL)
    title = title or f"Precision {shares[0]:.0%}, recall {shares[1]:.0%}"
    headline(figure, title)
    return finished(figure, f"{title}. Two panels of points with balls around one kind each")


def nearest_distances(sets: Mapping[str, Tensor], title: str | None = None) -> Picture:
    """Show the distances of images to their nearest training image: a row of dots for each set, and its median.

    sets: by name, (n,) distances each; the first is the one to compare with.
    """
    medians = {name: float(x.median()) for name, x in sets.items()}
    summary = ", ".join(f"{name} {value:.2f}" for name, value in medians.items())
    title = title or f"Distance to the nearest training picture, medians: {summary}"
    title = "To the nearest training picture" if len(title) > 95 else title
    height = 110 + 62 * len(sets)
    name = "root of the mean squared difference of pixels; the line is the median"
    figure, axes = chart(740, height, (0.21, 52 / height, 0.70, 1 - 98 / height), name)
    jitter = torch.Generator().manual_seed(0)
    for place, (name, x) in zip(range(len(sets), 0, -1), sets.items(), strict=True):
        heights = place + 0.5 * (torch.rand(len(x), generator=jitter) - 0.5)
        axes.scatter(x, heights, s=5, color=PALETTE[_color(name)], alpha=0.5, linewidths=0)
        axes.plot([medians[name]] * 2, [place - 0.36, place + 0.36], color=INK, linewidth=2)
        note(axes, f"{medians[name]:.2f}", (medians[name], place + 0.40), ha="center")
    axes.set_yticks(range(len(sets), 0, -1), list(sets))
    axes.set_ylim(0.4, len(sets) + 0.75)
    axes.set_xlim(left=-0.008)
    headline(figure, title)
    return finished(figure, f"{title}: medians {summary}")


def trade_off(rows: Sequence[Mapping[str, float]], title: str | None = None) -> Picture:
    """Show the four metrics against the guidance scale: a dot for each seed, a line through their means.

    rows: with the keys cfg, class_accuracy, frechet_distance, precision and recall.
    """
    from matplotlib.ticker import MaxNLocator

    scales = sorted({row["cfg"] for row in rows})
    by_scale = [[row for row in rows if row["cfg"] == scale] for scale in scales]
    means = {goal: [np.mean([row[goal] for row in same]).item() for same in by_scale] for goal in GOALS}
    lowest = scales[int(np.argmin(means["frechet_distance"]))]
    title = title or f"More guidance: more in their class, less variety; the distance is lowest at {lowest:g}"
    figure = blank_figure(780, 470)
    for number, (goal, (name, form)) in enumerate(GOALS.items()):
        row, column = divmod(number, 2)
        box = (0.07 + 0.5 * column, 0.57 - 0.47 * row, 0.41, 0.30)
        axes = add_axes(figure, box, "guidance scale (cfg)" if row else "")
        axes.plot(scales, means[goal], color=PALETTE["guidance"], linewidth=2)
        dots = ([r[key] for r in rows] for key in ("cfg", goal))
        axes.plot(*dots, "o", color=PALETTE["guidance"], markersize=5, alpha=0.6)
        axes.yaxis.set_major_formatter(lambda value, _, form=form: form.format(value))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.set_xticks(scales, [f"{scale:g}" for scale in scales])
        arrow = "lower is better" if goal == "frechet_distance" else "higher is better"
        axes.set_title(f"{name} ({arrow})", loc="left", **LABEL)
    headline(figure, title)
    ends = "; ".join(f"{goal} from {x[0]:.3g} to {x[-1]:.3g}" for goal, x in means.items())
    return finished(figure, f"{title}. Four charts over cfg {scales[0]:g} to {scales[-1]:g}: {ends}")


def _color(name: str) -> str:
    """Real images are blue, strong guidance and tricks orange, other samples green."""
    if "real" in name or "test" in name:
        return "data"
    return "guidance" if name.startswith(("cfg 5", "cheater", "memori")) else "model"
