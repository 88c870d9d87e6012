"""Sliders for attention: pick a block, a head and a patch, and see what it attends to at any time t."""

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from dit_course.explore.engine.classes import class_names, class_number
from dit_course.explore.engine.controls import choice, class_menu, slider
from dit_course.explore.engine.maps import Maps, MapView, middle, place_name
from dit_course.explore.engine.worker import Cache, Job, Weights
from dit_course.flow import interpolate
from dit_course.sampling import Sampler
from dit_course.show import PALETTE, Picture
from dit_course.show.layout import CAPTION, DENSITY, MARGIN
from dit_course.show.lesson_01_patches import one_image
from dit_course.show.lesson_02_attention import cell_side, frame, heat, map_pixels, picture_pixels, rgb
from dit_course.show.text import BAR_ROOM, color_bar, paste, percent, write

AVERAGE, NO_CLASS = "average", "no class"
SMALL = 330  # least height of the overview of all heads, in pixels of the page
TOP = MARGIN + CAPTION + MARGIN  # above the maps: their captions
SHADES = heat(torch.linspace(0, 1, 64))  # of a map, from the lowest weight to the highest


@torch.no_grad()
def attention_maps(model: nn.Module, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
    """The attention weights of all blocks for an input x: (blocks, batch, heads, tokens, tokens), rows sum to 1.

    x: (batch, C, H, W), noisy images; t: (batch,); y: (batch,) or None: as for the model itself. A hook records the
    input of each attention layer; the weights are computed from it. The registers come last among the tokens.
    """
    caught: dict[int, Tensor] = {}

    def record(number: int, _layer: nn.Module, inputs: tuple) -> None:
        caught[number] = inputs[0]

    layers = [block.attention for block in model.blocks]
    hooks = [layer.register_forward_pre_hook(partial(record, number)) for number, layer in enumerate(layers)]
    was_training = model.training
    model.eval()  # label dropout is for training
    try:
        model(x, t, y)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return torch.stack([layer.attention_map(caught[number]).float() for number, layer in enumerate(layers)])


class AttentionLayout(Maps):
    """Where the maps go: captions are drawn once, maps painted at every move of a slider.

    grid: (rows, columns) of patches. blocks, heads, tokens: how many there are.
    """

    def __init__(self, grid: tuple[int, int], patch_size: int, blocks: int, heads: int, tokens: int):
        self.grid, self.patch_size, self.blocks, self.heads = grid, patch_size, blocks, heads
        self.cell = cell_side(grid, patch_size)
        empty = map_pixels(torch.zeros(tokens), grid, self.cell)
        tall, wide = (side // DENSITY for side in empty.shape[:2])
        self.tiny = max(1, DENSITY * max(tall, SMALL) // (blocks * (-(-tokens // grid[1]) + 2)))
        small = map_pixels(torch.zeros(tokens), grid, self.tiny).shape
        self.step = (small[0] + self.tiny + 2, small[1] + self.tiny + 2)  # from one tiny map to the next
        self.lefts, self.maps_left = [MARGIN, 3 * MARGIN + wide], 6 * MARGIN + 2 * wide + 60 + BAR_ROOM
        self.top = TOP
        self.width = self.maps_left + heads * self.step[1] // DENSITY + 2 * MARGIN
        self.height = TOP + max(tall, blocks * self.step[0] // DENSITY + CAPTION) + 2 * MARGIN
        self.bar = (TOP, self.lefts[1] + wide + MARGIN, grid[0] * self.cell // DENSITY)  # top, left, height
        self.blank = self._captions(tall, wide, tokens > grid[0] * grid[1])

    def paint(self, picture: Tensor, maps: Tensor, block: int, head: int | None, query: int) -> np.ndarray:
        """The picture of a state: (height, width, 3) uint8, drawn at `DENSITY`.

        picture: (C, H, W) uint8. maps: (blocks, heads, tokens, tokens). head: None for the average.
        """
        page = self.blank.copy()
        row = maps[block].mean(dim=0)[query] if head is None else maps[block, head, query]
        image = picture_pixels(picture, self.patch_size, self.cell)
        for left, pixels in ((self.lefts[0], image), (self.lefts[1], map_pixels(row, self.grid, self.cell))):
            frame(pixels, query, self.grid, self.cell)
            paste(page, pixels, TOP, left)
        most = float(row.max())
        color_bar(page, SHADES, self.bar, [percent(most * share) for share in (0, 0.5, 1)])
        for b in range(self.blocks):
            for h in range(self.heads):
                pixels = map_pixels(maps[b, h, query], self.grid, self.tiny)
                edge = rgb(PALETTE["guidance"]) if b == block and head in (None, h) else 0xBB
                boxed = np.full((pixels.shape[0] + 4, pixels.shape[1] + 4, 3), edge, dtype=np.uint8)
                boxed[2:-2, 2:-2] = pixels
                top, left = b * self.step[0] - 2, h * self.step[1] - 2  # in pixels of the file
                paste(page, boxed, TOP + top / DENSITY, self.maps_left + left / DENSITY)
        return page

    def _captions(self, tall: int, wide: int, registers: bool) -> np.ndarray:
        blank = np.full((DENSITY * self.height, DENSITY * self.width, 3), 255, dtype=np.uint8)
        texts = "what it sees", "where it looks", "all heads (own scales)"
        for left, text in zip((*self.lefts, self.maps_left), texts, strict=True):
            write(blank, text, left, MARGIN + CAPTION)
        for block in range(self.blocks):
            middle = TOP + (block * self.step[0] + self.step[0] / 2) / DENSITY
            write(blank, f"block {block}", self.maps_left - MARGIN, middle + 0.36 * CAPTION, align="right")
        if registers:
            write(blank, "registers", self.lefts[0] + wide, TOP + tall - 2, align="right")
        return blank


class Attention(MapView):
    """Sliders for the block, the head, the query patch, the time and the class: what does a model attend to?

    model: any DiT, yours or the shipped one. image: (C, H, W) or (1, C, H, W), uint8 or floats in [0, 1], clean: noise
    for the time t is added (seed: which noise); None lets the model sample one. label: the class that the model gets,
    None for none. block, head, patch: where the sliders start, counted from 0; None takes the middle block, the average
    of all heads, the middle patch.
    """

    def __init__(
        self,
        model: nn.Module,
        image: Tensor | None = None,
        label: int | str | None = None,
        t: float = 0.5,
        block: int | None = None,
        head: int | None = None,
        patch: int | None = None,
        seed: int = 0,
    ):
        self.weights = Weights(model)
        grid, heads, blocks = model.config.grid, model.config.heads, model.config.depth
        count = grid[0] * grid[1]
        names = class_names(model)
        label = class_number(names, label)
        self.clean = _clean(model, image, label, seed)
        self.noise = torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(seed))
        tokens = count + model.config.registers
        self.drawing = AttentionLayout(grid, model.config.patch_size, blocks, heads, tokens)
        self._maps = Cache()
        places = [(place_name(i, grid), i) for i in range(count)]
        places += [(f"register {i}", count + i) for i in range(model.config.registers)]
        self._places = [name for name, _ in places]
        every_head = [(AVERAGE, AVERAGE), *((str(i), i) for i in range(heads))]
        self.block = slider("block", blocks // 2 if block is None else block, 0, blocks - 1)
        self.head = choice("head", every_head, AVERAGE if head is None else head)
        self.patch = choice("patch", places, middle(grid) if patch is None else patch)
        self.t = slider("time t", t, 0, 1, 0.05)
        self.label = class_menu(names, label, NO_CLASS)
        controls = (self.block, self.head, self.patch, self.t) + ((self.label,) if names else ())
        super().__init__(controls)

    def maps_at(self, t: float, label: int | None) -> tuple[Tensor, Tensor]:
        """The model's input at t, (C, H, W) uint8, and all its attention weights, (blocks, heads, tokens, tokens)."""
        model = self.weights.copy()

        def compute() -> tuple[Tensor, Tensor]:
            weight = next(model.parameters())
            x = interpolate(self.clean, self.noise, torch.tensor([t])).to(weight.device, weight.dtype)
            y = None
            if model.config.num_classes is not None:
                y = torch.tensor([model.config.num_classes if label is None else label], device=weight.device)
            maps = attention_maps(model, x, torch.tensor([t]).to(weight), y)[:, 0].cpu()
            return (255 * (x[0].float() / 2 + 0.5).clamp(0, 1)).round().byte().cpu(), maps

        return self._maps.fetch((self.weights.version, round(t, 4), label), compute)

    def render(self, job: Job, state: tuple) -> None:
        """Draw what the chosen patch attends to."""
        block, head, query, t, *label = state
        head = None if head == AVERAGE else head
        seen, maps = self.maps_at(t, None if label in ([], [NO_CLASS]) else label[0])
        pixels = self.drawing.paint(seen, maps, block, head, query)
        row = maps[block].mean(dim=0)[query] if head is None else maps[block, head, query]
        caption = _describe(row, query, self._places[query], block, head, t, self.drawing.grid)
        self.show(Picture.of(pixels, caption))

    def prefetch(self, job: Job, state: tuple) -> None:
        """Compute the maps of the neighboring times."""
        label = None if state[4:] in ((), (NO_CLASS,)) else state[4]
        for t in (state[3] + self.t.step, state[3] - self.t.step):
            job.check()
            if 0 <= t <= 1:
                self.maps_at(round(t, 10), label)


def _describe(row: Tensor, query: int, name: str, block: int, head: int | None, t: float, grid) -> str:
    """The picture as text."""
    count = grid[0] * grid[1]
    best = int(row.argmax())
    where = f"patch {best}" if best < count else f"register {best - count}"
    itself = " (itself)" if best == query else ""
    who = "all heads on average" if head is None else f"head {head}"
    shares = f"most at {where}{itself}, {float(row[best]):.0%}; equal shares would be {1 / len(row):.0%}"
    kept = f"; registers get {float(row[count:].sum()):.0%}" if len(row) > count else ""
    looker = f"patch {name}" if query < count else name
    return f"{looker} looks, block {block}, {who}, t = {t:.2f}: {shares}{kept}"


def _clean(model: nn.Module, image: Tensor | None, label: int | None, seed: int) -> Tensor:
    """The image without noise, (1, C, H, W) in [-1, 1]; sampled from the model when there is none."""
    if image is None:
        labels = None if model.config.num_classes is None else [0 if label is None else label]
        image = Sampler(model, steps=10, solver="ab2").sample(1, labels, seed=seed)[0].cpu()
    pixels = one_image(image)
    expected = (model.config.channels, *model.config.image_shape)
    if tuple(pixels.shape) != expected:
        raise ValueError(f"this model looks at pictures of shape {expected}, this one has {tuple(pixels.shape)}")
    return pixels[None].float() / 127.5 - 1
