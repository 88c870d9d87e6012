"""Figures of lesson 03: sinusoids of the time, their principal components, and what blocks do with a condition."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dit_course.show.axes import LABEL, add_axes, bare_axes, chart, colors, end_label, finished, headline, note, spread
from dit_course.show.layout import INK, PALETTE, Picture, blank_figure

SHARE = 0.999  # of the variance, up to which components are counted
PARTS = ("shift", "scale", "gate")
WINDOW = 9  # steps of a running mean


def sinusoids(tables: Mapping[str, Tensor], title: str | None = None) -> Picture:
    """Show time embeddings side by side: a row for each time from 0 to 1, a column for each number.

    tables: for each name (times, features) in [-1, 1]; -1 is black, 1 is white.
    """
    title = title or "Every row is one time"
    figure = blank_figure(820, 300)
    for i, (name, table) in enumerate(tables.items()):
        box = (0.07 + i * 0.93 / len(tables), 0.16, 0.93 / len(tables) - 0.09, 0.62)
        axes = bare_axes(figure, box, "the numbers of the vector", "t", name)
        values = table.detach().cpu().float().numpy()
        axes.imshow(values, cmap="gray", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_yticks([0, (len(values) - 1) / 2, len(values) - 1], ["0", "0.5", "1"])
        axes.set_xticks([0, values.shape[1] - 1])
    headline(figure, title, 8.2, 24)
    return finished(figure, f"{title}: tables of grays for {', '.join(tables)}")


def components(tables: Mapping[str, Tensor], title: str | None = None) -> Picture:
    """Show the principal components of time embeddings: the variance that the first few hold, and their shape over t.

    tables: for each of two names (times, features), the times evenly spread from 0 to 1.
    """
    parts = {name: principal(table) for name, table in tables.items()}
    counts = {name: count_components(shares) for name, (shares, _) in parts.items()}
    summary = ", ".join(f"{count} for {name}" for name, count in counts.items())
    title = title or f"Directions that hold {SHARE:.1%} of the variance: {summary}"
    figure = blank_figure(820, 320)
    share_axes = add_axes(figure, (0.08, 0.17, 0.28, 0.6), grid="y")
    for (name, (shares, _)), color in zip(parts.items(), ("noise", "model"), strict=True):
        held = np.concatenate([[0], shares.cumsum(0).numpy()])
        share_axes.plot(100 * held, color=PALETTE[color], linewidth=2)
        count = counts[name]
        share_axes.plot(count, 100 * held[count], "o", color=PALETTE[color])
        note(share_axes, f"{name}: {count}", (count, 100 * held[count]), (6, -26))
    share_axes.set(xlim=(-2, 1.45 * max(counts.values())), ylim=(0, 105))
    share_axes.set_title("held by the first ... directions, %", loc="left", **LABEL)
    for i, (name, (_, scores)) in enumerate(parts.items()):
        axes = add_axes(figure, (0.43 + 0.295 * i, 0.17, 0.26, 0.6), grid="x")
        t = np.linspace(0, 1, len(scores))
        for k, color in enumerate(("data", "guidance", "model", "noise")):
            axes.plot(t, k * -2.6 + scores[:, k].numpy(), color=PALETTE[color], linewidth=1.5)
        axes.set_title(f"{name}: the first four over t,\neach drawn to one height", loc="left", **LABEL)
        axes.set_yticks([-2.6 * k for k in range(4)], ["1", "2", "3", "4"])
        axes.set_xticks([0, 0.5, 1])
    headline(figure, title, 8.2, 0.08 * 320)
    return finished(figure, f"{title}. Curves of the share held, and of the first four components over t")


def principal(table: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of the variance, and the first four components of a table (rows, features), scaled to [-1, 1]."""
    centered = table.detach().double() - table.detach().double().mean(dim=0)
    left, sizes, _ = torch.linalg.svd(centered, full_matrices=False)
    shares = sizes.square() / sizes.square().sum()
    scores = left[:, :4]
    return shares, scores / scores.abs().amax(dim=0)


def count_components(shares: Tensor, share: float = SHARE) -> int:
    """How many components together hold this share of the variance."""
    return int((shares.cumsum(0) < share).sum()) + 1


def block_changes(runs: Mapping[str, Sequence[float]], title: str | None = None) -> Picture:
    """Show how far each block changes its tokens, for several models of one depth.

    runs: for each name, the largest change of each block.
    """
    runs = {name: [float(value) for value in values] for name, values in runs.items()}
    depth, *others = sorted({len(values) for values in runs.values()})
    if others:
        raise ValueError(f"models of one depth are compared, these have {[depth, *others]} blocks")
    title = title or "How far does each block change its tokens?"
    figure, axes = chart(640, 300, (0.1, 0.17, 0.66, 0.68), "block", "largest change", "y", title)
    wide = 0.8 / len(runs)
    highest = max(map(max, runs.values()))
    inks = colors(runs, "model", "guidance", "data")
    for i, (name, values) in enumerate(runs.items()):
        places = np.arange(depth) + (i - (len(runs) - 1) / 2) * wide
        axes.bar(places, values, 0.9 * wide, color=inks[i])
        for place, value in zip(places, values, strict=True):
            if value == 0:
                note(axes, "0", (place, 0), (0, 2), ha="center", color=inks[i])
        note(axes, name, (1.02, 0.9 - 0.12 * i), xycoords="axes fraction", color=inks[i])
    axes.set_xticks(range(depth), [str(number) for number in range(1, depth + 1)])
    axes.set_ylim(0, 1.1 * highest or 1)
    summary = "; ".join(f"{name}: {', '.join(f'{v:.2g}' for v in values)}" for name, values in runs.items())
    return finished(figure, f"{title} {summary}")


def init_race(runs: Mapping[str, Sequence[float]], title: str | None = None) -> Picture:
    """Show the losses of several training runs, step by step, as running means with the steps faint behind them.

    runs: for each name its losses, all as long. A mean is drawn in the middle of the steps that it is taken over. The
    axis reaches as high as the highest mean: single steps may leave it.
    """
    title = title or "The loss while training"
    figure, axes = chart(640, 320, (0.09, 0.15, 0.62, 0.74), "step", "loss", "y", title)
    means = [running_mean(losses) for losses in runs.values()]
    low, high = min(np.min(losses) for losses in runs.values()), max(mean.max() for mean in means)
    margin = 0.06 * (high - low) or 1
    ends = [float(np.mean(losses[-WINDOW:])) for losses in runs.values()]
    places = spread(ends, 1.1 * margin)
    inks = colors(runs, "model", "guidance", "data", "noise")
    for i, (name, losses) in enumerate(runs.items()):
        axes.plot(losses, color=inks[i], alpha=0.3, linewidth=0.8)
        middles = np.arange(len(means[i])) + (len(losses) - len(means[i])) / 2
        axes.plot(middles, means[i], color=inks[i], linewidth=2)
        end_label(axes, f"  {name}: {ends[i]:.2f}", len(losses) - 1, places[i], inks[i])
    axes.set_ylim(low - margin, high + margin)
    legend = f"thin: every step\nthick: mean of {WINDOW} steps\nnumber: mean of last {WINDOW}"
    note(axes, legend, (1.03, 0.98), xycoords="axes fraction", va="top")
    summary = ", ".join(f"{name} ends at {end:.2f}" for name, end in zip(runs, ends, strict=True))
    return finished(figure, f"{title}. Line chart: {summary}")


def running_mean(losses: Sequence[float]) -> np.ndarray:
    """The means of WINDOW losses in a row, or one mean of all where there are fewer."""
    window = min(WINDOW, len(losses))
    return np.convolve(np.asarray(losses, dtype=float), np.ones(window) / window, mode="valid")


def modulations(sizes: Tensor, title: str | None = None) -> Picture:
    """Show how large shifts, scales and gates are over t, in every block, for the attention and for the MLP.

    sizes: (blocks, 6, times), in the order of the block's six parts, the times evenly spread from 0 to 1.
    """
    if sizes.ndim != 3 or sizes.shape[1] != 6:
        raise ValueError(f"sizes are (blocks, 6, times), not {tuple(sizes.shape)}")
    values = sizes.detach().cpu().float().numpy()
    title = title or "Shifts, scales and gates over time, block by block"
    figure = blank_figure(820, 430)
    t, depth = np.linspace(0, 1, values.shape[2]), len(values)
    for part in range(6):
        row, column = divmod(part, 3)
        axes = add_axes(figure, (0.08 + 0.315 * column, 0.53 - 0.41 * row, 0.235, 0.31), grid="y")
        for block in range(depth):
            strength = 0.25 + 0.75 * block / max(depth - 1, 1)
            axes.plot(t, values[block, part], color=PALETTE["model"], alpha=strength, linewidth=2)
        places = np.array(spread(values[:, part, -1].tolist(), 0.085 * values.max()))
        places -= min((places - values[:, part, -1]).mean(), places.min())  # as far down as up, but not below 0
        for block, place in enumerate(places):
            axes.plot((1, 1.06), (values[block, part, -1], place), color=INK, linewidth=0.5, clip_on=False)
            note(axes, f" {block + 1}", (1.06, place), va="center", fontsize=10)
        axes.set_title(f"{('attention', 'MLP')[row]}: {PARTS[column]}", loc="left", **LABEL)
        axes.set(xlim=(0, 1), ylim=(0, 1.05 * values.max()))
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"] if row == 0 else ["0\npicture", "0.5\nt", "1\nnoise"])
    headline(figure, title, 8.2, 0.06 * 430)
    figure.text(0.99, 0.945, f"at the lines: the block, 1 to {depth}", ha="right", **LABEL)
    return finished(figure, f"{title}. Six line charts over t, a line for each of {depth} blocks")
