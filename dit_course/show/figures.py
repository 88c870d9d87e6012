"""Figures, one call each: images in rows, a trajectory from noise to data, the loss while training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dit_course.show.arrays import to_bytes
from dit_course.show.axes import chart, end_label, finished
from dit_course.show.layout import PALETTE, ImageGrid, Picture


def images(
    x: Tensor | Sequence[Tensor],
    labels: Sequence[int | str] | Tensor | None = None,
    class_names: Sequence[str] | None = None,
    columns: int | None = None,
    title: str | None = None,
) -> Picture:
    """Show pictures in rows, crisp, with their labels beneath.

    x: (N, C, H, W) or (C, H, W), or a list of the latter; uint8, or floats in [0, 1].
    labels: one per picture: texts, or class numbers that `class_names` names. columns: None chooses.
    """
    pixels = to_bytes(x)
    captions = _captions(labels, class_names, len(pixels))
    grid = ImageGrid(pixels.shape, captions, columns, title)
    named = ": " + ", ".join(captions) if captions else ""
    return Picture.of(grid.paint(pixels), f"{title or 'Pictures'} ({len(pixels)}){named}")


def save_image(x: Tensor | Sequence[Tensor], path: str | Path, **figure) -> None:
    """Write what `images` shows as a PNG file, whole or not at all; the other arguments are those of `images`."""
    images(x, **figure).save(path)


def trajectory(
    frames: Sequence[Tensor],
    times: Sequence[float],
    columns: int = 9,
    title: str = "From noise (t = 1) to a picture (t = 0)",
) -> Picture:
    """Show a trajectory from noise to images: a row for each image, a column for each time t.

    frames: the states, each (N, C, H, W) in [0, 1] or uint8. times: t of each. A `Recorder` has both.
    columns: at most so many states are shown, evenly spread, the first and the last among them.
    """
    if len(frames) != len(times) or not len(frames):
        raise ValueError(f"{len(frames)} frames and {len(times)} times: there must be some, and a time for each frame")
    chosen = _spread(len(frames), columns)
    pixels = torch.stack([to_bytes(frames[i]) for i in chosen], dim=1)  # (n, times, c, h, w)
    rows = len(pixels)
    pixels = pixels.flatten(0, 1)  # -> (n * times, c, h, w)
    captions = [""] * (rows - 1) * len(chosen) + [f"t = {float(times[i]):.2f}" for i in chosen]
    grid = ImageGrid(pixels.shape, captions, len(chosen), title)
    shown = ", ".join(f"{float(times[i]):.2f}" for i in chosen)
    return Picture.of(grid.paint(pixels), f"{title}: {rows} picture(s) at t = {shown}")


def loss_curve(steps: Sequence[float], losses: Sequence[float], ema: float = 0.95, title: str | None = None) -> Picture:
    """Show the loss while training: every step faint, the running mean strong.

    steps, losses: as many of one as of the other. ema: how much of the running mean stays at each step, in [0, 1).
    title: None states where the running mean begins and ends.
    """
    steps, losses = np.asarray(steps, dtype=float), np.asarray(losses, dtype=float)
    if steps.shape != losses.shape or steps.ndim != 1 or not len(steps):
        raise ValueError(f"a loss curve needs a loss for each step: got {steps.shape} steps and {losses.shape} losses")
    if not 0 <= ema < 1:
        raise ValueError(f"ema = {ema}, but the running mean keeps a share in [0, 1) of itself (0.95 is usual)")
    finite = np.isfinite(losses)
    if not finite.any():
        raise ValueError("no loss is finite: look for the first step at which the numbers blow up")
    mean = exponential_mean(losses[finite], ema)
    title = title or f"The loss went from {mean[0]:.3g} to {mean[-1]:.3g}"
    alt = f"{title}. Line chart of {len(steps)} steps; the running mean goes from {mean[0]:.3g} to {mean[-1]:.3g}"
    if not finite.all():
        alt += f"; {(~finite).sum()} losses are not finite"
    figure, axes = chart(640, 320, (0.09, 0.15, 0.78, 0.74), "step", "loss", "y", title)
    axes.plot(steps, losses, color=PALETTE["model"], alpha=0.35, linewidth=0.8)
    axes.plot(steps[finite], mean, color=PALETTE["model"], linewidth=2)
    end_label(axes, f" {mean[-1]:.3g}" + (ema > 0) * "\n running\n mean", steps[finite][-1], mean[-1])
    # from 0, to show how far there is to go; and one spike must not flatten the rest
    axes.set_ylim(0, 1.08 * max(np.quantile(losses[finite], 0.995), mean.max(), 1e-12))
    axes.set_xlim(steps.min(), max(steps.max(), steps.min() + 1e-9))
    return finished(figure, alt)


def _captions(labels, class_names: Sequence[str] | None, n: int) -> list[str] | None:
    if labels is None:
        if class_names is not None:
            raise ValueError("class_names without labels do not say which picture is which: give labels, too")
        return None
    labels = labels.tolist() if isinstance(labels, Tensor | np.ndarray) else list(labels)
    if len(labels) != n:
        raise ValueError(f"{n} picture(s) need {n} label(s), not {len(labels)}")
    if class_names is None:
        return [str(label) for label in labels]
    wrong = [label for label in labels if not isinstance(label, str) and not 0 <= label < len(class_names)]
    if wrong:
        raise ValueError(f"label {wrong[0]} has no name: there are {len(class_names)} class names, counted from 0")
    return [label if isinstance(label, str) else class_names[int(label)] for label in labels]


def _spread(n: int, most: int) -> np.ndarray:
    """At most so many of n indices, from the first to the last; in equal steps, unless that costs half of them."""
    if most < 2:
        raise ValueError(f"columns = {most!r}, but a trajectory has two ends: take at least 2")
    even = [m for m in range(2, most + 1) if n > 1 and (n - 1) % (m - 1) == 0]
    count = even[-1] if even and 2 * even[-1] >= min(most, n) else min(most, n)
    return np.linspace(0, n - 1, count).round().astype(int)


def exponential_mean(values: np.ndarray, keep: float) -> np.ndarray:
    """Exponential mean, without the pull towards zero at its start (corrected as in Adam)."""
    means, mean = np.empty_like(values), 0.0
    for i, value in enumerate(values):
        mean = keep * mean + (1 - keep) * value
        means[i] = mean / (1 - keep ** (i + 1))
    return means
