"""Figures of lesson 07: running averages of a signal and of iterates, the weights in an average, and its effect."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from dit_course.show.axes import LABEL, add_axes, chart, colors, end_label, finished, headline, note
from dit_course.show.layout import INK, PALETTE, Picture, blank_figure

ORDER = ("model", "guidance", "data")  # colors of averages, in this order


def running_averages(values: Tensor, averages: Mapping[str, Tensor], title: str | None = None) -> Picture:
    """Show a noisy signal as dots, and averages of it as lines.

    values: (n,). averages: for each name (n,).
    """
    for name, average in averages.items():
        if average.shape != values.shape or values.ndim != 1:
            raise ValueError(f"{name}: {tuple(average.shape)} averages for a signal of shape {tuple(values.shape)}")
    title = title or "A running average is smoother, and later"
    figure, axes = _figure(title, 320, "step")
    axes.plot(values, ".", color=PALETTE["noise"], markersize=4)
    for (name, average), color in zip(averages.items(), colors(averages, *ORDER), strict=True):
        average = average.detach()
        axes.plot(average, color=color, linewidth=2)
        end_label(axes, f"  {name}", len(average) - 1, float(average[-1]), color)
    return finished(figure, f"{title}: {len(values)} noisy values, and averages: {', '.join(averages)}")


def quadratic_trajectories(path: Tensor, averages: Tensor, title: str | None = None) -> Picture:
    """Show noisy iterates around the minimum (0, 0) of a quadratic in the plane, and their running average.

    path, averages: (n, 2) each.
    """
    from matplotlib.patheffects import withStroke

    if path.shape != averages.shape or path.ndim != 2 or path.shape[1] != 2:
        raise ValueError(f"points in the plane are (n, 2), not {tuple(path.shape)} and {tuple(averages.shape)}")
    path, averages = path.detach(), averages.detach()
    far, near = (float(points[-len(points) // 2 :].norm(dim=1).mean()) for points in (path, averages))
    title = title or f"The iterates stay {far / max(near, 1e-9):.1f} times as far from the minimum as their average"
    figure, axes = _figure(title, 400, "weight 1", "weight 2")
    reach = 1.1 * float(path.abs().max())
    wide = 1.45 * reach  # as the axes are wider than high
    across, down = np.linspace(-wide, wide, 120), np.linspace(-reach, reach, 80)
    heights = across**2 + down[:, None] ** 2
    axes.contour(across, down, heights, levels=14, colors="#dddddd", linewidths=0.8)
    axes.plot(*path.T, color=PALETTE["noise"], linewidth=0.8, marker=".", markersize=4)
    axes.plot(*averages.T, color=PALETTE["model"], linewidth=2)
    axes.plot(0, 0, "+", color=INK, markersize=12)
    furthest = path[path[len(path) // 2 :].norm(dim=1).argmax() + len(path) // 2].tolist()
    note(axes, "iterates", furthest, (8, 8), color="#555555")
    style = {
        "color": PALETTE["model"],
        "fontweight": "bold",
        "path_effects": [withStroke(linewidth=4, foreground="white")],
    }
    note(axes, "their average", averages[0].tolist(), (10, -4), **style)
    axes.set(xlim=(-wide, wide), ylim=(-reach, reach))
    axes.set_aspect("equal", adjustable="datalim")
    alt = f"{title}. {len(path)} iterates around the minimum of a quadratic, and a line for their running average"
    return finished(figure, alt)


def profiles(shares: Mapping[str, Tensor], title: str | None = None) -> Picture:
    """Show the share of each step's weights in an average.

    shares: for each name (steps + 1,), the share of the initial weights first, as `averaging_weights` returns them.
    title: None states the shares of the initial weights.
    """
    shares = {name: share.detach().double() for name, share in shares.items()}
    left: dict[str, list[str]] = {}  # names by what is left of the start
    for name, share in shares.items():
        left.setdefault(_percent(float(share[0])), []).append(name)
    parts = (f"{share} with {' or '.join(names)}" for share, names in left.items())
    title = title or f"Share of the random start: {', '.join(parts)}"
    figure, axes = _figure(title, 300, "step", "share in the average")
    top = max(float(share[1:].max()) for share in shares.values()) or 1.0
    for (name, share), color in zip(shares.items(), colors(shares, *ORDER), strict=True):
        draw_profile(axes, share, name, color, top)
    return finished(figure, f"{title}. Line chart of the share of each step")


def draw_profile(axes, shares: Tensor, name: str, color: str, top: float) -> None:
    """One line of `profiles`: the shares of the steps, and an arrow where the start's share is far above `top`."""
    steps = np.arange(1, len(shares))
    axes.plot(steps, shares[1:], color=color, linewidth=2)
    axes.fill_between(steps, shares[1:], color=color, alpha=0.12)
    end_label(axes, f"  {name}", len(shares) - 1, float(shares[-1]), color)
    if shares[0] > 0.005:
        axes.plot([0, 0], [0, min(float(shares[0]), 1.15 * top)], color=color, linewidth=5, solid_capstyle="butt")
        above = " ↑" if shares[0] > 1.15 * top else ""
        text, place = f" start: {_percent(float(shares[0]))}{above}", (0, min(float(shares[0]), 1.12 * top))
        note(axes, text, place, (4, 0), va="top", color=color)
    axes.set(xlim=(0, len(shares) - 1), ylim=(0, 1.2 * top))


def raw_and_averaged(
    steps: Sequence[int],
    raw: Sequence[Sequence[float]],
    averaged: Sequence[Sequence[float]],
    names: Sequence[str] = ("class accuracy", "Fréchet distance"),
    title: str | None = None,
) -> Picture:
    """Show metrics of samples over a training run: of the raw weights and of their average, side by side.

    steps: (n,). raw, averaged: for each step one number for each of `names`.
    title: None compares the last metric in the mean over all steps.
    """
    raw, averaged = np.asarray(raw, dtype=float), np.asarray(averaged, dtype=float)
    if raw.shape != averaged.shape or raw.shape != (len(steps), len(names)):
        raise ValueError(
            f"{len(steps)} steps and {len(names)} measures need ({len(steps)}, {len(names)}) numbers each, "
            f"not {raw.shape} and {averaged.shape}"
        )
    means = [part[:, -1].mean() for part in (raw, averaged)]
    title = title or f"{names[-1]}, mean of {len(steps)} steps: raw {means[0]:.3g}, averaged {means[1]:.3g}"
    figure = blank_figure(760, 310)
    headline(figure, title, 11.4, 0.08 * 310)
    for number, name in enumerate(names):
        width = 0.86 / len(names)
        axes = add_axes(figure, (0.07 + number * (width + 0.04), 0.16, width - 0.09, 0.6), "step", grid="y")
        for values, color, kind, marker in ((raw, "noise", "raw", "o"), (averaged, "model", "average", "s")):
            axes.plot(steps, values[:, number], color=PALETTE[color], linewidth=2, marker=marker, markersize=5)
            ink = "#555555" if color == "noise" else PALETTE[color]
            end_label(axes, f"  {kind}", steps[-1], values[-1, number], ink)
        axes.set_title(name, loc="left", **LABEL)
        low, high = axes.get_ylim()
        axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    return finished(figure, f"{title}. Line charts over steps {steps[0]} to {steps[-1]}")


def _figure(title: str, height: int, x: str = "", y: str = ""):
    """A figure with one pair of axes, with room for names at the right end of lines."""
    figure, axes = chart(640, height, (0.11, 46 / height, 0.7, 1 - 90 / height), x, y, "y")
    headline(figure, title)
    return figure, axes


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.005 or share == 0 else "less than 1%"
