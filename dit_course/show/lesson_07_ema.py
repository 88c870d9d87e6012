"""Figures of lesson 07: running averages of a signal, a walk in a bowl, what is in an average, and what it buys."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from dit_course.show.layout import CAPTION, INK, PALETTE, TEXT, TITLE, Picture, blank_figure, rendered

LABEL = {**TEXT, "fontsize": CAPTION}
COLOURS = ("model", "guidance", "data")  # of averages, in the order in which they are given


def running_averages(values: Tensor, averages: Mapping[str, Tensor], title: str | None = None) -> Picture:
    """Show a noisy signal as dots, and averages of it as lines.

    values: (n,). averages: for each name (n,); at most three.
    """
    for name, average in averages.items():
        if average.shape != values.shape or values.ndim != 1:
            raise ValueError(f"{name}: {tuple(average.shape)} averages for a signal of shape {tuple(values.shape)}")
    title = title or "A running average is smoother, and later"
    figure, axes = _sheet(title, 640, 320)
    axes.plot(values, ".", color=PALETTE["noise"], markersize=4)
    for (name, average), colour in zip(averages.items(), COLOURS, strict=False):
        average = average.detach()
        axes.plot(average, color=PALETTE[colour], linewidth=2)
        place = (len(average) - 1, float(average[-1]))
        axes.annotate(f"  {name}", place, va="center", annotation_clip=False, **{**LABEL, "color": PALETTE[colour]})
    axes.set_xlabel("step", **LABEL)
    return Picture.of(rendered(figure), f"{title}: {len(values)} noisy values, and averages: {', '.join(averages)}")


def quadratic_trajectories(path: Tensor, averages: Tensor, title: str | None = None) -> Picture:
    """Show a walk in the plane around the bottom of a bowl at (0, 0), and the running average of its points.

    path, averages: (n, 2) each.
    """
    from matplotlib.patheffects import withStroke

    if path.shape != averages.shape or path.ndim != 2 or path.shape[1] != 2:
        raise ValueError(f"points in the plane are (n, 2), not {tuple(path.shape)} and {tuple(averages.shape)}")
    path, averages = path.detach(), averages.detach()
    far, near = (float(points[-len(points) // 2 :].norm(dim=1).mean()) for points in (path, averages))
    title = title or f"The walk stays {far / max(near, 1e-9):.1f} times as far from the bottom as its average"
    figure, axes = _sheet(title, 640, 400)
    reach = 1.1 * float(path.abs().max())
    wide = 1.45 * reach  # as the axes are wider than high
    across, down = np.linspace(-wide, wide, 120), np.linspace(-reach, reach, 80)
    heights = across**2 + down[:, None] ** 2
    axes.contour(across, down, heights, levels=14, colors="#dddddd", linewidths=0.8)
    axes.plot(*path.T, color=PALETTE["noise"], linewidth=0.8, marker=".", markersize=4)
    axes.plot(*averages.T, color=PALETTE["model"], linewidth=2)
    axes.plot(0, 0, "+", color=INK, markersize=12)
    side = {"textcoords": "offset points", "annotation_clip": False}
    furthest = path[path[len(path) // 2 :].norm(dim=1).argmax() + len(path) // 2].tolist()
    axes.annotate("the walk", furthest, xytext=(8, 8), **side, **{**LABEL, "color": "#555555"})
    edge = [withStroke(linewidth=4, foreground="white")]  # it stands among the lines
    style = {**LABEL, "color": PALETTE["model"], "fontweight": "bold", "path_effects": edge}
    axes.annotate("its average", averages[-1].tolist(), xytext=(10, -18), **side, **style)
    axes.set(xlim=(-wide, wide), ylim=(-reach, reach))
    axes.set_aspect("equal", adjustable="datalim")
    alt = f"{title}. A walk of {len(path)} points around the bottom of a bowl, and a line for its running average"
    return Picture.of(rendered(figure), alt)


def profiles(shares: Mapping[str, Tensor], title: str | None = None) -> Picture:
    """Show how much of the weights of each step is in an average.

    shares: for each name (steps + 1,), the share of the start first, as `averaging_weights` gives them; at most three.
    title: None says how much of the start is left in each.
    """
    shares = {name: share.detach().double() for name, share in shares.items()}
    left = ", ".join(f"{name} {_percent(float(share[0]))}" for name, share in shares.items())
    title = title or f"Left of the start: {left}"
    figure, axes = _sheet(title, 640, 300)
    top = max(float(share[1:].max()) for share in shares.values()) or 1.0
    for (name, share), colour in zip(shares.items(), COLOURS, strict=False):
        draw_profile(axes, share, name, PALETTE[colour], top)
    return Picture.of(rendered(figure), f"{title}. Line chart of the share of each step")


def draw_profile(axes, shares: Tensor, name: str, colour: str, top: float) -> None:
    """One line of `profiles`: the shares of the steps, and an arrow where the start's share is far above `top`."""
    steps = np.arange(1, len(shares))
    axes.plot(steps, shares[1:], color=colour, linewidth=2)
    axes.fill_between(steps, shares[1:], color=colour, alpha=0.12)
    place = (len(shares) - 1, float(shares[-1]))
    axes.annotate(f"  {name}", place, va="center", annotation_clip=False, **{**LABEL, "color": colour})
    if shares[0] > 0.005:
        axes.plot([0, 0], [0, min(float(shares[0]), 1.15 * top)], color=colour, linewidth=5, solid_capstyle="butt")
        above = " ↑" if shares[0] > 1.15 * top else ""
        text = f" start: {_percent(float(shares[0]))}{above}"
        axes.annotate(
            text,
            (0, min(float(shares[0]), 1.12 * top)),
            xytext=(4, 0),
            textcoords="offset points",
            va="top",
            **{**LABEL, "color": colour},
        )
    axes.set_ylim(0, 1.2 * top)
    axes.set_xlim(0, len(shares) - 1)
    axes.set_xlabel("step", **LABEL)
    axes.set_ylabel("share in the average", **LABEL)


def raw_and_averaged(
    steps: Sequence[int],
    raw: Sequence[Sequence[float]],
    averaged: Sequence[Sequence[float]],
    names: Sequence[str] = ("class accuracy", "Fréchet distance"),
    title: str | None = None,
) -> Picture:
    """Show measures of samples over a training: of the raw weights and of their average, side by side.

    steps: (n,). raw, averaged: for each step one number for each of `names`.
    title: None says how the last measure compares in the mean over all steps.
    """
    raw, averaged = np.asarray(raw, dtype=float), np.asarray(averaged, dtype=float)
    if raw.shape != averaged.shape or raw.shape != (len(steps), len(names)):
        raise ValueError(
            f"{len(steps)} steps and {len(names)} measures need ({len(steps)}, {len(names)}) numbers each, "
            f"not {raw.shape} and {averaged.shape}"
        )
    means = [part[:, -1].mean() for part in (raw, averaged)]
    title = title or f"{names[-1]}, mean of {len(steps)} moments: raw {means[0]:.3g}, averaged {means[1]:.3g}"
    figure = blank_figure(760, 310)
    figure.text(0.015, 0.92, title, fontsize=TITLE, **TEXT)
    for number, name in enumerate(names):
        width = 0.86 / len(names)
        axes = figure.add_axes((0.07 + number * (width + 0.04), 0.16, width - 0.09, 0.6), facecolor="white")
        for values, colour, kind, marker in ((raw, "noise", "raw", "o"), (averaged, "model", "average", "s")):
            axes.plot(steps, values[:, number], color=PALETTE[colour], linewidth=2, marker=marker, markersize=5)
            ink = "#555555" if colour == "noise" else PALETTE[colour]
            place = (steps[-1], values[-1, number])
            axes.annotate(f"  {kind}", place, va="center", annotation_clip=False, **{**LABEL, "color": ink})
        axes.set_title(name, loc="left", **LABEL)
        axes.set_xlabel("step", **LABEL)
        plain(axes)
        low, high = axes.get_ylim()
        axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    return Picture.of(rendered(figure), f"{title}. Line charts over steps {steps[0]} to {steps[-1]}")


def _sheet(title: str, width: int, height: int):
    """A figure with one pair of axes, with room for labels at the right end of lines."""
    figure = blank_figure(width, height)
    axes = figure.add_axes((0.11, 46 / height, 0.7, 1 - 90 / height), facecolor="white")
    figure.text(8 / width, 1 - 23 / height, title, fontsize=TITLE, **TEXT)
    plain(axes)
    return figure, axes


def plain(axes) -> None:
    """Axes in the style of the course."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=CAPTION, labelfontfamily=TEXT["family"])
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.005 or share == 0 else "less than 1%"
