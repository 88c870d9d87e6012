"""Figures of lesson 04: token norms, attention to registers, and what a network is made of."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dit_course.show.axes import LABEL, bar_axes, chart, colors, end_label, finished, headline, note
from dit_course.show.layout import CAPTION, DENSITY, INK, PALETTE, Picture, blank_figure
from dit_course.show.lesson_02_attention import heat
from dit_course.show.text import GRAYS, color_bar, paste, percent, short, write

WIDTH, HEIGHT = 820, 268  # of the picture of a network's activations, in pixels of the page
TOP, LEFTS = 36, (9, 240, 560)  # of its three parts
MOST_MAPS = 4
GREENS = heat(torch.linspace(0, 1, 256))  # of attention, from none to most


def token_norms(norms: Tensor, registers: int, title: str | None = None) -> Picture:
    """Show the norms of the tokens of a network, before its first block and after each.

    norms: (depth + 1, tokens) or (depth + 1, batch, tokens); the last `registers` tokens are the registers.
    title: None compares registers and patches after the last block.
    """
    table = norms.detach().cpu().float()
    table = table[:, None] if table.ndim == 2 else table  # -> (depth + 1, batch, tokens)
    patches = table.shape[-1] - registers
    if table.ndim != 3 or len(table) < 2 or patches < 1 or registers < 0:
        raise ValueError(
            f"norms are (depth + 1, batch, tokens), {registers} of them registers; got {tuple(norms.shape)}"
        )
    of_patches = table[..., :patches].flatten(1).numpy()  # (depth + 1, batch * patches)
    low, middle, high = np.quantile(of_patches, (0.01, 0.5, 0.99), axis=1)
    of_registers = table[..., patches:].mean(dim=1).numpy()  # (depth + 1, registers)
    if title is None and registers:
        title = f"In the end registers are {of_registers[-1].mean() / middle[-1]:.1f} times as long as patches"
    title = title or "How long the tokens are"
    figure, axes = chart(640, 320, (0.09, 0.16, 0.68, 0.72), "after block", "length of a token", "y", title)
    blocks = np.arange(len(table))
    axes.fill_between(blocks, low, high, color=PALETTE["data"], alpha=0.2, linewidth=0)
    axes.plot(blocks, middle, color=PALETTE["data"], linewidth=2, marker="o", markersize=4)
    end_label(axes, "  patches\n  (98% in\n  the band)", blocks[-1], middle[-1], PALETTE["data"])
    for line in of_registers.T:
        axes.plot(blocks, line, color=PALETTE["model"], linewidth=1.5, marker="s", markersize=4)
    if registers:
        name = f"  {registers} register{'s' * (registers > 1)}"
        end_label(axes, name, blocks[-1], of_registers[-1].mean(), PALETTE["model"])
    axes.set_ylim(0, 1.08 * max(high.max(), of_registers.max(initial=0)))
    axes.set_xticks(blocks, ["before", *map(str, blocks[1:])])
    summary = f"patches from {middle[0]:.1f} to {middle[-1]:.1f} (median)"
    if registers:
        summary += f", registers from {of_registers[0].mean():.1f} to {of_registers[-1].mean():.1f} (mean)"
    return finished(figure, f"{title}. Line chart over the blocks: {summary}")


def attention_shares(shares: Sequence[float] | Tensor, fair: float, title: str | None = None) -> Picture:
    """Show which share of the patches' attention goes to the registers, a bar for each block.

    shares: (depth,), in [0, 1]. fair: the share of the registers if all tokens got the same attention.
    """
    shares = np.asarray(shares, dtype=float)
    if shares.ndim != 1 or not len(shares) or (shares < 0).any() or (shares > 1).any():
        raise ValueError(f"shares are one number in [0, 1] for each block, not of shape {shares.shape}")
    title = title or f"Registers get {shares.min():.0%} to {shares.max():.0%} of the attention of the patches"
    figure, axes = chart(640, 280, (0.09, 0.18, 0.68, 0.68), "in block", "% of attention", "y", title)
    blocks = np.arange(1, len(shares) + 1)
    axes.bar(blocks, 100 * shares, color=PALETTE["model"], width=0.6)
    back = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # the dashed line must not cross a number
    for block, share in zip(blocks, shares, strict=True):
        note(axes, f"{share:.0%}", (block, 100 * share), (0, 4), ha="center", zorder=3, bbox=back)
    axes.axhline(100 * fair, color=INK, linewidth=1.2, linestyle="--")
    end_label(axes, f"  even share:\n  {fair:.1%}", blocks[-1] + 0.5, 100 * fair)
    axes.set_xlim(0.5, blocks[-1] + 0.5)
    axes.set_ylim(0, 118 * max(shares.max(), fair))
    axes.set_xticks(blocks)
    each = ", ".join(f"{share:.0%}" for share in shares)
    return finished(figure, f"{title}. Bars for the blocks: {each}; an even share would be {fair:.1%}")


def parameter_shares(quantities: Mapping[str, Mapping[str, float]], title: str | None = None) -> Picture:
    """Show the share of each part in one or more quantities: bars side by side, in percent of each quantity.

    quantities: for each name, numbers by part, as `count_parameters` returns them; a missing part counts 0.
    title: None names the part whose shares differ most.
    """
    names = list(dict.fromkeys(part for counts in quantities.values() for part in counts))
    totals = {name: sum(counts.values()) for name, counts in quantities.items()}
    if not names or not all(totals.values()):
        raise ValueError("there is nothing to compare: every quantity needs parts that add up to more than 0")
    shares = {name: [counts.get(part, 0) / totals[name] for part in names] for name, counts in quantities.items()}
    rows = [
        f"{part}: " + ", ".join(f"{_percent(each[i])} of the {name}" for name, each in shares.items())
        for i, part in enumerate(names)
    ]
    differences = [max(column) - min(column) for column in zip(*shares.values(), strict=True)]
    title = title or rows[differences.index(max(differences))]
    height, step = 90 + 30 * len(names), 0.76 / len(shares)
    figure = blank_figure(720, height)
    inks = colors(shares, "model", "data", "guidance")
    for number, (name, each) in enumerate(shares.items()):
        box = (0.23 + number * step, 12 / height, step - 0.05, (height - 74) / height)
        axes = bar_axes(figure, box, names if number == 0 else [""] * len(names), range(len(names)))
        axes.barh(range(len(names)), each, color=inks[number], height=0.62)
        for row, share in enumerate(each):
            note(axes, _percent(share), (share, row), (5, 0), va="center")
        axes.set_xlim(0, 1.25 * max(map(max, shares.values())))
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_title(f"{name}: {short(totals[name])}", loc="left", **LABEL | {"color": inks[number]})
    headline(figure, title, y=22)
    return finished(figure, f"{title}. Bars: {'; '.join(rows)}")


def draw_inside(inside, block: int, grid: tuple[int, int], what: str) -> Picture:
    """Draw the activations of a network: its input, the norms of its tokens, the attention to its registers.

    inside: has x (1, C, H, W) in about [-1, 1], norms (depth + 1, 1, tokens) and to_registers (depth, 1, patches,
    registers), as `dit_course.explore.registers.Inside`. block: 0 is before the first. what: the caption of the input.
    Composed from pixels, for a slider: a figure of seven axes takes ten times as long.
    """
    page = np.full((DENSITY * HEIGHT, DENSITY * WIDTH, 3), 255, dtype=np.uint8)
    patches = grid[0] * grid[1]
    values = inside.norms[block, 0].float().cpu()
    of_patches, of_registers = values[:patches].numpy(), values[patches:].numpy()
    attention = inside.to_registers[block - 1, 0].float().cpu().numpy() if block else None  # (patches, registers)
    where = "before the first block" if block == 0 else f"after block {block}"
    heads = what, f"lengths {where}", f"attention paid in block {block}"
    for left, text in zip(LEFTS, heads if block else (*heads[:2], "attention: choose a block"), strict=True):
        write(page, text, left, 22)
    pixels = ((inside.x[0].float().cpu() + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy()  # (c, h, w) -> (h, w, c)
    _paint(page, pixels if pixels.shape[2] == 3 else pixels[..., :1], (TOP, LEFTS[0]), 196)
    _paint_norms(page, of_patches.reshape(grid), of_registers)
    if attention is not None:
        _paint_attention(page, attention, grid, len(values))
    summary = f"{what}, {where}: patches {np.median(of_patches):.1f} long (median), registers "
    summary += ", ".join(f"{value:.1f}" for value in of_registers)
    if attention is not None:
        fair = attention.shape[1] / len(values)
        summary += f"; they get {attention.mean(axis=0).sum():.0%} of the attention (an even share is {fair:.1%})"
    return Picture.of(page, summary)


def _paint(page: np.ndarray, shares: np.ndarray, corner: tuple[float, float], side: float) -> tuple[float, float]:
    """Paint a table (h, w) or an image (h, w, 1 or 3) of numbers in [0, 1], in place, framed; returns its size.

    corner: (top, left); side: of the room for it; all in pixels of the page.
    """
    bytes_ = (255 * shares.clip(0, 1)).round().astype(np.uint8).reshape(*shares.shape[:2], -1)
    zoom = max(1, int(DENSITY * side) // max(shares.shape[:2]))
    large = bytes_.repeat(zoom, axis=1).repeat(zoom, axis=0)
    paste(page, large, *corner, frame=0x8F)
    return large.shape[0] / DENSITY, large.shape[1] / DENSITY


def _paint_norms(page: np.ndarray, of_patches: np.ndarray, of_registers: np.ndarray) -> None:
    top, left, longest = TOP, LEFTS[1], max(float(of_patches.max()), 1e-12)
    tall, wide = _paint(page, of_patches / longest, (top, left), 182)
    write(page, "patches", left + wide / 2, top + tall + 18, align="center")
    beside, height = left + wide + 10, max(tall, 100)
    count, width = len(of_registers), 48
    edges = [round(DENSITY * (top + height * row / count)) for row in range(count + 1)]
    first, last = round(DENSITY * beside), round(DENSITY * (beside + width))
    page[edges[0] - 1 : edges[-1] + 1, first - 1 : last + 1] = 0x8F
    for row, value in enumerate(of_registers.tolist()):
        page[edges[row] : edges[row + 1], first:last] = round(255 * min(value / longest, 1.0))
        if count <= 8:
            middle = (edges[row] + edges[row + 1]) / 2 / DENSITY + 4
            ink = INK if value > 0.5 * longest else "#ffffff"
            write(page, f"{value:.1f}", beside + width / 2, middle, ink=ink, align="center")
    write(page, "registers", beside + width / 2, top + height + 18, align="center")
    more = "≥ " if of_registers.max(initial=0) > longest else ""  # registers may be longer than white shows
    numbers = ["0", f"{longest / 2:.1f}", f"{more}{longest:.1f}"]
    color_bar(page, GRAYS, (top, beside + width + 10, height), numbers, CAPTION)


def _paint_attention(page: np.ndarray, attention: np.ndarray, grid: tuple[int, int], tokens: int) -> None:
    shown = min(MOST_MAPS, attention.shape[1])
    top = max(float(attention[:, :shown].max()), 1 / tokens)
    for number in range(shown):
        row, column = divmod(number, 2)
        corner = TOP + 118 * row, LEFTS[2] + 104 * column
        shares = (attention[:, number].reshape(grid) / top * (len(GREENS) - 1)).round().astype(int)
        tall, _ = _paint(page, GREENS[shares] / 255, corner, 90)
        text = f"register {number + 1}: {_percent(float(attention[:, number].mean()))}"
        write(page, text, corner[1], corner[0] + tall + 15)
    numbers = [percent(top * share) for share in (0, 0.5, 1)]
    height = corner[0] + tall - TOP  # down to the last map
    color_bar(page, GREENS, (TOP, LEFTS[2] + 104 * min(shown, 2), height), numbers, CAPTION)


def _percent(share: float) -> str:
    if 0 < share < 0.0001:
        return "< 0.01%"
    return f"{share:.0%}" if share >= 0.0995 or share == 0 else f"{share:.1%}" if share >= 0.001 else f"{share:.2%}"
