"""Figures of lesson 04: how long tokens are, who looks at the registers, and what a network is made of."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from dit_course.show.layout import (
    CAPTION,
    DENSITY,
    INK,
    PALETTE,
    TEXT,
    TITLE,
    Picture,
    blank_figure,
    label_axes,
    rendered,
)
from dit_course.show.text import GRAYS, colour_bar, percent, write

LABEL = {**TEXT, "fontsize": CAPTION}
WIDTH, HEIGHT = 820, 268  # of the view inside a network, in pixels of the page
TOP, LEFTS = 36, (9, 240, 560)  # of its three parts
MOST_MAPS = 4


def token_norms(lengths: Tensor, registers: int, title: str | None = None) -> Picture:
    """Show how long the tokens of a network are, before its first block and after each.

    lengths: (depth + 1, tokens) or (depth + 1, batch, tokens); the last `registers` tokens are the registers.
    title: None says how registers and patches compare after the last block.
    """
    table = lengths.detach().cpu().float()
    table = table[:, None] if table.ndim == 2 else table  # -> (depth + 1, batch, tokens)
    patches = table.shape[-1] - registers
    if table.ndim != 3 or len(table) < 2 or patches < 1 or registers < 0:
        raise ValueError(
            f"lengths are (depth + 1, batch, tokens), {registers} of them registers; got {tuple(lengths.shape)}"
        )
    of_patches = table[..., :patches].flatten(1).numpy()  # (depth + 1, batch * patches)
    low, middle, high = np.quantile(of_patches, (0.01, 0.5, 0.99), axis=1)
    of_registers = table[..., patches:].mean(dim=1).numpy()  # (depth + 1, registers)
    if title is None and registers:
        title = f"In the end registers are {of_registers[-1].mean() / middle[-1]:.1f} times as long as patches"
    title = title or "How long the tokens are"
    figure = blank_figure(640, 320)
    axes = figure.add_axes((0.09, 0.16, 0.68, 0.72), facecolor="white")
    blocks = np.arange(len(table))
    axes.fill_between(blocks, low, high, color=PALETTE["data"], alpha=0.2, linewidth=0)
    axes.plot(blocks, middle, color=PALETTE["data"], linewidth=2, marker="o", markersize=4)
    axes.annotate("  patches\n  (98 % in\n  the band)", (blocks[-1], middle[-1]), va="center", **_far(PALETTE["data"]))
    for line in of_registers.T:
        axes.plot(blocks, line, color=PALETTE["model"], linewidth=1.5, marker="s", markersize=4)
    if registers:
        name = f"  {registers} register{'s' * (registers > 1)}"
        axes.annotate(name, (blocks[-1], of_registers[-1].mean()), va="center", **_far(PALETTE["model"]))
    axes.set_ylim(0, 1.08 * max(high.max(), of_registers.max(initial=0)))
    axes.set_xticks(blocks, ["before", *map(str, blocks[1:])])
    label_axes(axes, "after block", "length of a token", grid="y")
    axes.set_title(title, loc="left", fontsize=TITLE, **TEXT)
    said = f"patches from {middle[0]:.1f} to {middle[-1]:.1f} (median)"
    if registers:
        said += f", registers from {of_registers[0].mean():.1f} to {of_registers[-1].mean():.1f} (mean)"
    return Picture.of(rendered(figure), f"{title}. Line chart over the blocks: {said}")


def attention_shares(shares: Sequence[float] | Tensor, fair: float, title: str | None = None) -> Picture:
    """Show which share of the patches' attention goes to the registers, a bar for each block.

    shares: (depth,), in [0, 1]. fair: what registers would get if all tokens were looked at alike.
    """
    shares = np.asarray(shares, dtype=float)
    if shares.ndim != 1 or not len(shares) or (shares < 0).any() or (shares > 1).any():
        raise ValueError(f"shares are one number in [0, 1] for each block, not of shape {shares.shape}")
    title = title or f"Registers get {shares.min():.0%} to {shares.max():.0%} of the attention of the patches"
    figure = blank_figure(640, 280)
    axes = figure.add_axes((0.09, 0.18, 0.68, 0.68), facecolor="white")
    blocks = np.arange(1, len(shares) + 1)
    axes.bar(blocks, 100 * shares, color=PALETTE["model"], width=0.6)
    for block, share in zip(blocks, shares, strict=True):
        over = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center", "zorder": 3}
        back = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # the dashed line must not cross a number
        axes.annotate(f"{share:.0%}", (block, 100 * share), **over, bbox=back, **LABEL)
    axes.axhline(100 * fair, color=INK, linewidth=1.2, linestyle="--")
    axes.annotate(f"  even share:\n  {fair:.1%}", (blocks[-1] + 0.5, 100 * fair), va="center", **_far(INK))
    axes.set_xlim(0.5, blocks[-1] + 0.5)
    axes.set_ylim(0, 118 * max(shares.max(), fair))
    axes.set_xticks(blocks)
    label_axes(axes, "in block", "% of attention", grid="y")
    axes.set_title(title, loc="left", fontsize=TITLE, **TEXT)
    each = ", ".join(f"{share:.0%}" for share in shares)
    return Picture.of(rendered(figure), f"{title}. Bars for the blocks: {each}; an even share would be {fair:.1%}")


def parameter_shares(quantities: Mapping[str, Mapping[str, float]], title: str | None = None) -> Picture:
    """Show what each part has of two or more quantities: bars side by side, in percent of each quantity.

    quantities: for each name, numbers by part, as `count_parameters` gives them; a part that one lacks has 0 there.
    title: None names the part whose shares differ most.
    """
    names = list(dict.fromkeys(part for counts in quantities.values() for part in counts))
    totals = {name: sum(counts.values()) for name, counts in quantities.items()}
    if not names or not all(totals.values()):
        raise ValueError("there is nothing to compare: every quantity needs parts that add up to more than 0")
    shares = {name: [counts.get(part, 0) / totals[name] for part in names] for name, counts in quantities.items()}
    if title is None:
        spread = [max(column) - min(column) for column in zip(*shares.values(), strict=True)]
        widest = spread.index(max(spread))
        title = f"{names[widest]}: " + ", ".join(
            f"{_percent(each[widest])} of the {name}" for name, each in shares.items()
        )
    height = 90 + 30 * len(names)
    figure = blank_figure(720, height)
    step = 0.76 / len(shares)
    for number, ((name, each), colour) in enumerate(zip(shares.items(), ("model", "data", "guidance"), strict=False)):
        axes = figure.add_axes(
            (0.23 + number * step, 12 / height, step - 0.05, (height - 74) / height), facecolor="white"
        )
        axes.barh(range(len(names)), each, color=PALETTE[colour], height=0.62)
        for row, share in enumerate(each):
            axes.annotate(
                _percent(share), (share, row), xytext=(5, 0), textcoords="offset points", va="center", **LABEL
            )
        axes.set_xlim(0, 1.25 * max(map(max, shares.values())))
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), names if number == 0 else [""] * len(names))
        axes.set_xticks([])
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.spines["left"].set_color(INK)
        axes.tick_params(length=0, colors=INK, labelsize=CAPTION, labelfontfamily=TEXT["family"])
        axes.set_title(f"{name}: {short(totals[name])}", loc="left", **LABEL | {"color": PALETTE[colour]})
    figure.text(8 / 720, 1 - 22 / height, title, fontsize=TITLE, **TEXT)
    told = "; ".join(
        f"{part}: " + ", ".join(f"{_percent(each[i])} of the {name}" for name, each in shares.items())
        for i, part in enumerate(names)
    )
    return Picture.of(rendered(figure), f"{title}. Bars: {told}")


def draw_inside(inside, block: int, grid: tuple[int, int], what: str) -> Picture:
    """Draw one picture inside of a network: what comes in, the lengths of its tokens, who looks at the registers.

    inside: has x (1, C, H, W) in about [-1, 1], lengths (depth + 1, 1, tokens) and looks (depth, 1, patches,
    registers), as `dit_course.explore.registers.Inside`. block: 0 is before the first. what: said about the picture.
    Put together from pixels, for a slider: a figure of seven axes takes ten times as long.
    """
    sheet = np.full((DENSITY * HEIGHT, DENSITY * WIDTH, 3), 255, dtype=np.uint8)
    patches = grid[0] * grid[1]
    values = inside.lengths[block, 0].float().cpu()
    of_patches, of_registers = values[:patches].numpy(), values[patches:].numpy()
    looks = inside.looks[block - 1, 0].float().cpu().numpy() if block else None  # (patches, registers)
    where = "before the first block" if block == 0 else f"after block {block}"
    heads = what, f"lengths {where}", f"attention paid in block {block}"
    for left, text in zip(LEFTS, heads if block else (*heads[:2], "attention: choose a block"), strict=True):
        write(sheet, text, left, 22)
    pixels = ((inside.x[0].float().cpu() + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy()  # (c, h, w) -> (h, w, c)
    _paint(sheet, pixels if pixels.shape[2] == 3 else pixels[..., :1], (TOP, LEFTS[0]), 196)
    _paint_lengths(sheet, of_patches.reshape(grid), of_registers)
    if looks is not None:
        _paint_looks(sheet, looks, grid, len(values))
    said = f"{what}, {where}: patches {np.median(of_patches):.1f} long (median), registers "
    said += ", ".join(f"{value:.1f}" for value in of_registers)
    if looks is not None:
        fair = looks.shape[1] / len(values)
        said += f"; they get {looks.mean(axis=0).sum():.0%} of the attention (an even share is {fair:.1%})"
    return Picture.of(sheet, said)


def _paint(sheet: np.ndarray, shares: np.ndarray, corner: tuple[float, float], side: float) -> tuple[float, float]:
    """Paint a table (h, w) or a picture (h, w, 1 or 3) of numbers in [0, 1], in place, framed; returns its size.

    corner: (top, left); side: of the room for it; all in pixels of the page.
    """
    bytes_ = (255 * shares.clip(0, 1)).round().astype(np.uint8).reshape(*shares.shape[:2], -1)
    zoom = max(1, int(DENSITY * side) // max(shares.shape[:2]))
    large = bytes_.repeat(zoom, axis=1).repeat(zoom, axis=0)
    top, left = (round(DENSITY * place) for place in corner)
    sheet[top - 1 : top + large.shape[0] + 1, left - 1 : left + large.shape[1] + 1] = 0x8F
    sheet[top : top + large.shape[0], left : left + large.shape[1]] = large
    return large.shape[0] / DENSITY, large.shape[1] / DENSITY


def _paint_lengths(sheet: np.ndarray, of_patches: np.ndarray, of_registers: np.ndarray) -> None:
    top, left, longest = TOP, LEFTS[1], max(float(of_patches.max()), 1e-12)
    tall, wide = _paint(sheet, of_patches / longest, (top, left), 182)
    write(sheet, "patches", left + wide / 2, top + tall + 18, align="center")
    beside, height = left + wide + 10, max(tall, 100)
    count, width = len(of_registers), 48
    edges = [round(DENSITY * (top + height * row / count)) for row in range(count + 1)]
    first, last = round(DENSITY * beside), round(DENSITY * (beside + width))
    sheet[edges[0] - 1 : edges[-1] + 1, first - 1 : last + 1] = 0x8F
    for row, value in enumerate(of_registers.tolist()):
        sheet[edges[row] : edges[row + 1], first:last] = round(255 * min(value / longest, 1.0))
        if count <= 8:
            middle = (edges[row] + edges[row + 1]) / 2 / DENSITY + 4
            ink = INK if value > 0.5 * longest else "#ffffff"
            write(sheet, f"{value:.1f}", beside + width / 2, middle, ink=ink, align="center")
    write(sheet, "registers", beside + width / 2, top + height + 18, align="center")
    more = "≥ " if of_registers.max(initial=0) > longest else ""  # registers may be longer than white can say
    numbers = ["0", f"{longest / 2:.1f}", f"{more}{longest:.1f}"]
    colour_bar(sheet, GRAYS, (top, beside + width + 10, height), numbers)


def _paint_looks(sheet: np.ndarray, looks: np.ndarray, grid: tuple[int, int], tokens: int) -> None:
    shown = min(MOST_MAPS, looks.shape[1])
    top = max(float(looks[:, :shown].max()), 1 / tokens)
    for number in range(shown):
        row, column = divmod(number, 2)
        corner = TOP + 118 * row, LEFTS[2] + 104 * column
        tall, _ = _paint(sheet, looks[:, number].reshape(grid) / top, corner, 90)
        text = f"register {number + 1}: {_percent(float(looks[:, number].mean()))}"
        write(sheet, text, corner[1], corner[0] + tall + 13, 10)
    numbers = [percent(top * share) for share in (0, 0.5, 1)]
    colour_bar(sheet, GRAYS, (TOP, LEFTS[2] + 104 * min(shown, 2), 90), numbers)


def _far(colour: str) -> dict:
    return {**LABEL, "color": colour, "annotation_clip": False}


def _percent(share: float) -> str:
    if 0 < share < 0.0001:
        return "< 0.01%"
    return f"{share:.0%}" if share >= 0.0995 or share == 0 else f"{share:.1%}" if share >= 0.001 else f"{share:.2%}"


def short(count: float) -> str:
    """A large number in a few letters: 32.5 M."""
    for size, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return f"{count:.3g}"
