"""Figures of lesson 05: curves over time, densities of timesteps, and trajectories in the plane."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dit_course.show.axes import LABEL, T_AXIS, chart, colors, headline, note, point_axes, spread
from dit_course.show.layout import DENSITY, PALETTE, Picture, blank_figure, rendered

ORDER = ("model", "noise", "guidance", "data")  # colors of curves, in this order
DARK = {**PALETTE, "noise": "#6a6a6a"}  # for text, which needs more contrast than a line
WIDTH, HEIGHT = 820, 330  # of figures with curves, in pixels of the page
STRETCHED = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)  # the ticks where both ends get more room
EDGE = 0.02  # the times that are hardly ever seen: this close to an end


def over_time(
    t: Sequence[float] | Tensor,
    curves: Mapping[str, Sequence[float] | Tensor],
    y: str,
    title: str,
    marks: Mapping[str, tuple[float, float]] | None = None,
    logarithmic: bool = False,
    stretched: bool = False,
) -> Picture:
    """Show curves over time, from data at t = 0 to noise at t = 1, each with its name at its end.

    t: (n,). curves: for each name n values. y: the name of the axis. marks: single points (t, value) with their names.
    stretched: both ends get more room, 0.001 to 0.01 as much as 0.1 to 0.5; marks at 0 and 1 stand at the very edges.
    """
    t = np.asarray(t, dtype=float)
    curves = {name: np.asarray(values, dtype=float) for name, values in curves.items()}
    for name, values in curves.items():
        if values.shape != t.shape or t.ndim != 1:
            raise ValueError(f"{name}: {values.shape} values for {t.shape} times, and each time needs one")
    figure, axes = chart(WIDTH, HEIGHT, (0.09, 0.16, 0.66, 0.72), T_AXIS, y, "y", title)
    for values, color in zip(curves.values(), colors(curves, *ORDER), strict=True):
        axes.plot(t, values, color=color, linewidth=2, marker="o" if len(t) <= 24 else "", markersize=4)
    for name, (when, value) in (marks or {}).items():
        at_an_edge = stretched and when in (0, 1)  # in shares of the axis, where 0 and 1 are the same places
        where = axes.get_yaxis_transform() if at_an_edge else axes.transData
        axes.plot(when, value, "D", color=PALETTE["data"], markersize=7, clip_on=False, zorder=5, transform=where)
        shift, ha = ((10, -24 if at_an_edge else 0), "left") if when < 0.5 else ((-8, -16), "right")
        note(axes, name, (when, value), shift, xycoords=where, va="center", ha=ha)
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    elif min(values.min() for values in curves.values()) > 0:
        axes.set_ylim(0)  # so that heights can be compared
    axes.set_xlim(0, 1)
    if stretched:
        axes.set_xscale("logit")
        axes.set_xlim(0.4 * t.min(), 1 - 0.4 * (1 - t.max()))
        axes.set_xticks(STRETCHED, [f"{tick:g}" for tick in STRETCHED])
        axes.minorticks_off()
    _name_the_ends(axes, curves)
    ends = "; ".join(f"{name}: from {values[0]:.3g} to {values[-1]:.3g}" for name, values in curves.items())
    return _picture(figure, f"{title}. Line chart over t: {ends}")


def logit_normal_density(t: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """The density of logit-normal times at t, inside (0, 1): a normal density of the logit, over t (1 - t)."""
    t = torch.as_tensor(t, dtype=torch.float64)
    z = (torch.logit(t) - mean) / std
    return torch.exp(-0.5 * z**2) / (std * (2 * torch.pi) ** 0.5 * t * (1 - t))


def logit_normal_tail(edge: float, mean: float = 0.0, std: float = 1.0) -> tuple[float, float]:
    """The share of logit-normal times below `edge`, and above 1 - `edge`."""
    low = torch.logit(torch.tensor(edge, dtype=torch.float64))
    below, above = torch.special.ndtr((low - mean) / std), torch.special.ndtr((low + mean) / std)
    return below.item(), above.item()


def densities(mean: float = 0.0, std: float = 1.0, title: str | None = None, samples: Tensor | None = None) -> Picture:
    """Show the density of timesteps: logit-normal beside uniform, and the shares within 0.02 of both ends.

    samples: sampled times (n,), shown as bars behind the curve.
    """
    t = np.linspace(0, 1, 501)[1:-1]
    density = logit_normal_density(torch.from_numpy(t), mean, std).numpy()
    below, above = logit_normal_tail(EDGE, mean, std)
    title = title or f"Logit-normal times, mean {mean:.1f} and std {std:.1f}"
    figure, axes = density_axes(title)
    if samples is None:
        axes.fill_between(t, density, color=PALETTE["model"], alpha=0.15, linewidth=0)
    else:
        times = torch.as_tensor(samples).detach().flatten().numpy()
        axes.hist(times, bins=50, range=(0, 1), density=True, color=PALETTE["data"], alpha=0.35)
    axes.plot(t, density, color=PALETTE["model"], linewidth=2)
    axes.set_ylim(0, min(6, max(2.2, 1.08 * density.max())))
    _beside(figure, 0.52, "model", f"t < {EDGE}: {share(below)}", f"t > {1 - EDGE}: {share(above)}")
    alt = f"{title}: {share(below)} of the times lie below {EDGE}, {share(above)} above {1 - EDGE}; uniform: 2% each"
    if samples is not None:
        _beside(figure, 0.30, "data", "sampled times")
        alt += f"; as bars {len(times):,} sampled times, {times.mean():.2f} on average"
    return _picture(figure, alt)


def density_axes(title: str = ""):
    """A figure for densities of times, with one pair of axes: the uniform density, and both ends marked."""
    figure, axes = chart(WIDTH, HEIGHT, (0.08, 0.16, 0.66, 0.72), T_AXIS, "density", "y", title)
    axes.plot([0, 1], [1, 1], color=PALETTE["noise"], linewidth=2, zorder=2.5)
    for left in (0, 1 - EDGE):
        axes.axvspan(left, left + EDGE, color=PALETTE["guidance"], alpha=0.25, linewidth=0)
    axes.set_xlim(0, 1)
    _beside(figure, 0.86, "noise", "uniform", f"t < {EDGE}: {EDGE:.1%}", f"t > {1 - EDGE}: {EDGE:.1%}")
    _beside(figure, 0.58, "model", "logit-normal")
    _beside(figure, 0.21, "guidance", "the bands:", f"t < {EDGE} and t > {1 - EDGE}")
    return figure, axes


def _beside(figure, top: float, color: str, *lines: str) -> None:
    for number, text in enumerate(lines):
        figure.text(0.765, top - 0.06 * number, text, **LABEL | {"color": DARK[color]})


def share(p: float) -> str:
    """A probability as text: "3.1%", or "1 in 20,000"."""
    if p >= 0.001:
        return f"{p:.1%}"
    if p < 1e-12:
        return "practically none"
    digits = max(0, len(f"{1 / p:.0f}") - 2)
    return f"1 in {round(1 / p, -digits):,.0f}"


def trajectories(paths: Mapping[str, Tensor], title: str) -> Picture:
    """Show trajectories in the plane from noise (gray dots) to data (blue dots), a panel for each name.

    paths: (times, n, 2) each, from noise to data.
    """
    figure, panels = _panels(list(paths), title)
    for axes, path in zip(panels, paths.values(), strict=True):
        path = _numbers(path, 3)
        axes.plot(path[:, :, 0], path[:, :, 1], color=PALETTE["model"], linewidth=0.9, alpha=0.8)
        axes.plot(*path[0].T, "o", color=PALETTE["noise"], markersize=4)
        axes.plot(*path[-1].T, "o", color=PALETTE["data"], markersize=4)
    return _picture(figure, f"{title}. Paths in the plane from noise to data: {', '.join(paths)}")


def plane(clouds: Mapping[str, Tensor], title: str, behind: Tensor | None = None) -> Picture:
    """Show clouds of points in the plane, a panel for each name.

    clouds: (n, 2) each. behind: points (n, 2) drawn faintly in every panel, such as the data.
    """
    figure, panels = _panels(list(clouds), title)
    for axes, points in zip(panels, clouds.values(), strict=True):
        if behind is not None:
            axes.plot(*_numbers(behind, 2).T, "o", color=PALETTE["data"], markersize=2, alpha=0.15, markeredgewidth=0)
        axes.plot(*_numbers(points, 2).T, "o", color=PALETTE["model"], markersize=2.5, alpha=0.7, markeredgewidth=0)
    return _picture(figure, f"{title}. Points in the plane: {', '.join(clouds)}")


def field(arrows: Mapping[str, tuple[Tensor, Tensor]], title: str, behind: Tensor | None = None) -> Picture:
    """Show velocities in the plane as arrows, a panel for each name.

    arrows: (places (n, 2), velocities (n, 2)) each; drawn against the velocity, the direction of sampling: to the data.
    """
    figure, panels = _panels(list(arrows), title)
    for axes, (places, velocities) in zip(panels, arrows.values(), strict=True):
        if behind is not None:
            axes.plot(*_numbers(behind, 2).T, "o", color=PALETTE["data"], markersize=2.5, alpha=0.4, markeredgewidth=0)
        back = -_numbers(velocities, 2)
        axes.quiver(*_numbers(places, 2).T, *back.T, color=PALETTE["model"], angles="xy", scale=32, width=0.005)
    return _picture(figure, f"{title}. Arrows in the plane: {', '.join(arrows)}")


def _picture(figure, alt: str) -> Picture:
    """A finished figure in 64 colors, which is plenty for lines and dots: a third of the size."""
    from PIL import Image

    pixels = rendered(figure)
    buffer = io.BytesIO()
    few = Image.fromarray(np.ascontiguousarray(pixels)).quantize(64, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", compress_level=9)
    return Picture(buffer.getvalue(), pixels.shape[1] // DENSITY, pixels.shape[0] // DENSITY, alt)


def _numbers(x: Tensor, axes: int) -> np.ndarray:
    """(..., 2) as numbers that matplotlib takes."""
    x = torch.as_tensor(x).detach().cpu().double()
    if x.ndim != axes or x.shape[-1] != 2:
        wanted = "(times, n, 2)" if axes == 3 else "(n, 2)"
        raise ValueError(f"points in the plane are {wanted}, not {tuple(x.shape)}")
    return x.numpy()


def _panels(names: Sequence[str], title: str, limit: float = 3.3):
    """A figure with a row of square panels of one scale, each with its name above."""
    count = len(names)
    side = min(360, (WIDTH - 16) // count)
    width, height = max(side * count + 16, 480), side + 62
    figure = blank_figure(width, height)
    headline(figure, title, y=22)
    panels = []
    for number, name in enumerate(names):
        left = 8 + number * side
        axes = figure.add_axes((left / width, 8 / height, (side - 10) / width, (side - 10) / height), facecolor="white")
        figure.text(left / width, 1 - 48 / height, name, **LABEL)
        point_axes(axes, (-limit, limit), (-limit, limit), "#cccccc")
        panels.append(axes)
    return figure, panels


def _name_the_ends(axes, curves: Mapping[str, np.ndarray]) -> None:
    """Write each name beside the right end of its curve, moved apart where two would overlap."""
    axes.figure.canvas.draw()  # the scale is settled now
    low, high = (axes.transAxes.transform((0, end))[1] for end in (0, 1))
    names = list(curves)
    ends = [axes.transData.transform((1, curves[name][-1]))[1] for name in names]
    heights = spread([(min(max(end, low), high) - low) / (high - low) for end in ends], 0.11)
    over = max(0.0, max(heights) - 1.0)
    for i, (name, height) in enumerate(zip(names, heights, strict=True)):
        style = LABEL | {"color": DARK[ORDER[i % len(ORDER)]]}
        axes.text(1.02, height - over, name, transform=axes.transAxes, va="center", **style)
