"""A slider for the patch size: the image, its tokens and their cost, side by side."""

import math

from torch import Tensor

from dit_course.explore.engine.controls import choice
from dit_course.explore.engine.view import DrawnView
from dit_course.explore.engine.worker import Job
from dit_course.patches import patch_grid, patchify
from dit_course.show import PALETTE, Picture
from dit_course.show.axes import add_axes, log_ticks, note
from dit_course.show.layout import DENSITY, MARGIN, TEXT, blank_figure, rendered
from dit_course.show.lesson_01_patches import cut_up, draw_cut, draw_table, one_image
from dit_course.show.text import GRAYS, color_bar, short

WIDTH, HEIGHT, SIDE = 820, 300, 230  # of the picture and of the image in it, in pixels of the page
MOST_TOKENS = 4096


def fitting(height: int, width: int) -> list[int]:
    """The patch sizes that divide an image, the largest first, without those of more than `MOST_TOKENS` tokens."""
    sizes = [p for p in range(1, min(height, width) + 1) if height % p == 0 and width % p == 0]
    few = [p for p in sizes if height * width // p**2 <= MOST_TOKENS]
    return sorted(few or sizes[-1:], reverse=True)


def block_cost(tokens: int, width: int) -> tuple[int, int]:
    """Multiply-adds of one transformer block (MLP four times as wide): (its linear layers, pairs of tokens)."""
    return 12 * tokens * width**2, 2 * tokens**2 * width


def draw(pixels: Tensor, patch_size: int, width: int) -> Picture:
    """The picture of one patch size.

    pixels: (C, H, W) uint8.
    """
    table = patchify(pixels[None], patch_size)[0]  # (tokens, c * p * p)
    count, numbers = table.shape
    linear, pairs = block_cost(count, width)
    figure = blank_figure(WIDTH, HEIGHT)
    cut = cut_up(pixels, patch_size, SIDE)
    tall = cut.shape[0] / DENSITY
    draw_cut(figure, cut, patch_grid(*pixels.shape[1:], patch_size), (MARGIN, HEIGHT - 34 - tall))
    draw_table(figure, (0.37, 0.17, 0.18, 0.71), table.float())
    cost_axes = add_axes(figure, (0.70, 0.17, 0.28, 0.71), "tokens", "multiply-adds")
    _draw_cost(cost_axes, pixels, patch_size, width)
    share = pairs / (linear + pairs)
    captions = (
        f"patches of {patch_size} x {patch_size}",
        f"{count:,} token{'s' * (count > 1)} of {numbers:,}",
        f"{short(linear + pairs)} multiply-adds per block",
    )
    for left, caption in zip((MARGIN / WIDTH, 0.37, 0.70), captions, strict=True):
        figure.text(left, 1 - 22 / HEIGHT, caption, **TEXT | {"fontsize": 14})
    alt = ", ".join(captions) + f", {share:.0%} of them where tokens look at each other"
    page = rendered(figure)
    low, high = (float(end) for end in table.aminmax())
    numbers = [f"{(low + share * (high - low)) / 255:.2g}" for share in (0, 0.5, 1)]  # bytes as floats
    color_bar(page, GRAYS, (0.12 * HEIGHT, 0.56 * WIDTH, 0.71 * HEIGHT), numbers)
    return Picture.of(page, alt)


class Patches(DrawnView):
    """A slider for the patch size, over all that fit: the patches, their tokens, and the cost of a block.

    image: (C, H, W) or (1, C, H, W), uint8 or floats in [0, 1]. patch_size: where the slider starts; None takes one in
    the middle. width: of the tokens inside the transformer whose cost is drawn.
    """

    def __init__(self, image: Tensor, patch_size: int | None = None, width: int = 128):
        self.pixels, self.width = one_image(image), width
        sizes = fitting(*self.pixels.shape[1:])
        if patch_size is not None:
            patch_grid(*self.pixels.shape[1:], patch_size)  # raises ValueError where it does not fit
        start = patch_size if patch_size in sizes else sizes[len(sizes) // 2]
        self.patch_size = choice("patch size", sizes, start, (80, 400))
        super().__init__([self.patch_size])

    def picture_of(self, state: tuple[int]) -> Picture:
        """The picture of one patch size."""
        return draw(self.pixels, state[0], self.width)

    def prefetch(self, job: Job, state: tuple[int]) -> None:
        """All sizes: there are few."""
        for size in sorted(self.patch_size.options, key=lambda size: abs(math.log(size / state[0]))):
            job.check()
            self._cached((size,))


def _draw_cost(axes, pixels: Tensor, patch_size: int, width: int) -> None:
    """Both parts of the cost at all patch sizes, the chosen one marked."""
    _, height, wide = pixels.shape
    counts = [height * wide // p**2 for p in fitting(height, wide)]
    parts = list(zip(*(block_cost(count, width) for count in counts), strict=True))
    here = counts.index(height * wide // patch_size**2)
    for part, color, name in zip(parts, ("noise", "model"), ("linear layers", "pairs of tokens"), strict=True):
        axes.loglog(counts, part, color=PALETTE[color], linewidth=1.5, marker="o", markersize=3)
        axes.plot(counts[here], part[here], color=PALETTE[color], marker="o", markersize=10)
        upper = part[0] == max(pair[0] for pair in parts)
        shift, side = ((-8, 10), "right") if upper else ((8, -16), "left")
        style = {"ha": side, "fontsize": 10, "color": "#555555" if color == "noise" else PALETTE[color]}
        note(axes, name, (counts[len(counts) // 2], part[len(counts) // 2]), shift, **style)
    axes.axvline(counts[here], color=PALETTE["data"], linewidth=1, linestyle=":")
    log_ticks(axes, [counts[0], counts[here], counts[-1]])
    axes.yaxis.set_major_formatter(lambda value, _: short(value))
