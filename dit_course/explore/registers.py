"""Sliders to look inside a network while it samples: the norms of its tokens, and the attention to its registers."""

from dataclasses import dataclass

import ipywidgets as widgets
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dit_course.conditioning import modulate
from dit_course.explore.engine.classes import class_names, class_number
from dit_course.explore.engine.controls import choice, slider
from dit_course.explore.engine.view import DrawnView
from dit_course.explore.engine.worker import Cache, Job, Weights
from dit_course.sampling import Sampler
from dit_course.show import Picture
from dit_course.show.lesson_04_registers import draw_inside

STEPS, SIZE = 20, (60, 260)  # of the sampler; of a control, in pixels


@dataclass(frozen=True)
class Inside:
    """The activations of a network.

    x: (batch, C, H, W), its input. tokens: (depth + 1, batch, tokens, width), before the first block and after each,
    the registers last. to_registers: (depth, batch, patches, registers), the share of its attention that each patch
    pays to each register, the mean of all heads.
    """

    x: Tensor
    tokens: Tensor
    to_registers: Tensor

    @property
    def norms(self) -> Tensor:
        """The norm of each token: (depth + 1, batch, tokens)."""
        return self.tokens.norm(dim=-1)


@torch.no_grad()
def states(model: nn.Module, label: int | None, seed: int, steps: int = STEPS) -> list[Tensor]:
    """All states of a sampling run, from noise to data: steps + 1 of (1, C, H, W), in [-1, 1]."""
    found = []
    sampler = Sampler(model, steps=steps, cfg=1)
    sampler.sample(1, label, seed=seed, callback=lambda index, t, x: found.append(x.clone()))
    return found


@torch.no_grad()
def look_inside(model: nn.Module, x: Tensor, t: Tensor, y: Tensor | None = None) -> Inside:
    """The activations of a network, block by block; x, t and y as for the model itself."""
    condition, tokens = model.condition(t, y), model.embed(x)
    patches = tokens.shape[1] - model.config.registers
    seen, to_registers = [tokens], []
    for block in model.blocks:
        shift, scale, *_ = block.modulation(F.silu(condition))[:, None].chunk(6, dim=-1)  # 6 x (b, 1, width)
        attended = modulate(block.norm_1(tokens), shift, scale)  # (b, tokens, width): what attention sees
        weights = block.attention.attention_map(attended)  # (b, heads, tokens, tokens)
        to_registers.append(weights.mean(dim=1)[:, :patches, patches:])  # -> (b, patches, registers)
        tokens = block(tokens, condition)
        seen.append(tokens)
    return Inside(x, torch.stack(seen), torch.stack(to_registers))


class Registers(DrawnView):
    """Sliders for the block, the time and the class: the norms of all tokens, and the attention to the registers.

    The states are those that the model samples from a seed in 20 steps of Euler without guidance; t picks one of them.
    label, block, t, seed: where they start; block 0 shows the tokens before the first block.
    """

    def __init__(self, model: nn.Module, label: int | str | None = None, block: int = 1, t: float = 0.5, seed: int = 0):
        config = model.config
        if not config.registers:
            raise ValueError("this model has no registers to look at: its configuration says registers = 0")
        if not 0 <= t <= 1:
            raise ValueError(f"t = {t}, but times lie in [0, 1]")
        self.weights, self.start_seed = Weights(model, renewed=self._forget), seed
        self._states: dict[int | None, list[Tensor]] = {}
        self._insides = Cache(16 * 2**20)
        self.block = slider("block", block, 0, config.depth, size=SIZE)
        times = [round(1 - i / STEPS, 2) for i in range(STEPS + 1)]
        nearest = min(times, key=lambda time: abs(time - t))
        self.t = choice("time", times, nearest, SIZE)
        if config.num_classes is None and label is not None:
            raise ValueError("this model has no classes: leave the label out")
        self._names = class_names(model)
        start = class_number(self._names, label)
        classes = [(name, number) for number, name in enumerate(self._names)] or [("none", None)]
        self.label = choice("class", classes, classes[start or 0][1], SIZE, widgets.Dropdown)
        super().__init__([self.block, self.t, self.label])

    def inside(self, time: float, label: int | None) -> Inside:
        """The activations at one time, for one class; computed once for all blocks."""
        model = self.weights.copy()
        return self._insides.fetch((time, label), lambda: self._look(model, time, label))

    def _look(self, model: nn.Module, time: float, label: int | None) -> Inside:
        index = self.t.options.index(time)
        if label not in self._states:  # sampled once for each class
            self._states[label] = states(model, label, self.start_seed)
        x, y = self._states[label][index], None if label is None else torch.tensor([label])
        weight = next(model.parameters())
        y = None if y is None else y.to(weight.device)
        return look_inside(model, x, torch.full((1,), time).to(weight), y)

    def picture_of(self, state: tuple[int, float, int | None]) -> Picture:
        """The picture of a block, a time and a class."""
        block, time, label = state
        what = f"t = {time:.2f}" + ("" if label is None else f", {self._names[label]}")
        return draw_inside(self.inside(time, label), block, self.weights.model.config.grid, what)

    def render(self, job: Job, state: tuple[int, float, int | None]) -> None:
        """Show the activations of the model as it is now."""
        self.weights.copy()
        super().render(job, state)

    def _forget(self) -> None:
        """Forget what was computed with other weights."""
        self.version += 1
        self._states.clear()
        self._insides.clear()
