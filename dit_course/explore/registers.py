"""Sliders to look inside a network while it draws: how long its tokens are, and who looks at the registers."""

from dataclasses import dataclass

import ipywidgets as widgets
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dit_course.conditioning import modulate
from dit_course.explore.engine.view import DrawnView
from dit_course.explore.engine.worker import Cache, Job, Weights
from dit_course.sampling import Sampler
from dit_course.show import Picture
from dit_course.show.lesson_04_registers import draw_inside

STEPS = 20


@dataclass(frozen=True)
class Inside:
    """What happens to pictures inside of a network.

    x: (batch, C, H, W), what the network was given. tokens: (depth + 1, batch, tokens, width), before the first block
    and after each, the registers last. looks: (depth, batch, patches, registers), how much of its attention each patch
    pays to each register, the mean of all heads.
    """

    x: Tensor
    tokens: Tensor
    looks: Tensor

    @property
    def lengths(self) -> Tensor:
        """The length of each token: (depth + 1, batch, tokens)."""
        return self.tokens.norm(dim=-1)


def registers(
    model: nn.Module, label: int | str | None = None, block: int = 1, t: float = 0.5, seed: int = 0
) -> "Registers":
    """Sliders for the block, the time and the class: the lengths of all tokens, and who looks at the registers.

    The pictures are those that the model draws from a seed in 20 steps of Euler without guidance; t picks a moment.
    label, block, t, seed: where they start; block 0 shows the tokens before the first block.
    As the last line of a cell it is live in JupyterLab; where no kernel runs, a still picture says the same.
    """
    return Registers(model, label, block, t, seed)


@torch.no_grad()
def moments(model: nn.Module, label: int | None, seed: int, steps: int = STEPS) -> list[Tensor]:
    """All moments of a picture that is drawn, from noise to data: steps + 1 of (1, C, H, W), in [-1, 1]."""
    seen = []
    sampler = Sampler(model, steps=steps, cfg=1)
    sampler.sample(1, label, seed=seed, callback=lambda index, t, x: seen.append(x.clone()))
    return seen


@torch.no_grad()
def look_inside(model: nn.Module, x: Tensor, t: Tensor, y: Tensor | None = None) -> Inside:
    """Follow pictures through the network, block by block; x, t and y as for the model itself."""
    condition, tokens = model.condition(t, y), model.embed(x)
    patches = tokens.shape[1] - model.config.registers
    seen, looks = [tokens], []
    for block in model.blocks:
        shift, scale, *_ = block.modulation(F.silu(condition))[:, None].chunk(6, dim=-1)  # 6 x (b, 1, width)
        attended = modulate(block.norm_1(tokens), shift, scale)  # (b, tokens, width): what attention sees
        weights = block.attention.attention_map(attended)  # (b, heads, tokens, tokens)
        looks.append(weights.mean(dim=1)[:, :patches, patches:])  # -> (b, patches, registers)
        tokens = block(tokens, condition)
        seen.append(tokens)
    return Inside(x, torch.stack(seen), torch.stack(looks))


class Registers(DrawnView):
    """The view that `registers` makes. `picture` is what it shows at the moment."""

    def __init__(self, model: nn.Module, label: int | str | None, block: int, t: float, seed: int):
        config = model.config
        if not config.registers:
            raise ValueError("this model has no registers to look at: its configuration says registers = 0")
        if not 0 <= block <= config.depth:
            raise ValueError(f"block = {block}, but this model has {config.depth} blocks (0: before the first)")
        if not 0 <= t <= 1:
            raise ValueError(f"t = {t}, but times lie in [0, 1]")
        self.weights, self.start_seed = Weights(model), seed
        self._moments: dict[int | None, list[Tensor]] = {}
        self._insides = Cache(16 * 2**20)
        wide = {"style": {"description_width": "60px"}, "layout": {"width": "260px"}}
        self.block = widgets.IntSlider(block, min=0, max=config.depth, description="block", **wide)
        times = [round(1 - i / STEPS, 2) for i in range(STEPS + 1)]
        nearest = min(times, key=lambda time: abs(time - t))
        self.t = widgets.SelectionSlider(options=times, value=nearest, description="time", **wide)
        classes = self._classes(config.num_classes, model, label)
        self._names = {number: name for name, number in classes}
        self.label = widgets.Dropdown(options=classes, value=_number(classes, label), description="class", **wide)
        super().__init__([self.block, self.t, self.label])

    def inside(self, time: float, label: int | None) -> Inside:
        """The numbers at one time, for one class; computed once for all blocks."""
        model, key = self._model(), (time, label)
        found = self._insides.get(key)
        if found is None:
            found = self._look(model, time, label)
            self._insides.put(key, found)
        return found

    def _look(self, model: nn.Module, time: float, label: int | None) -> Inside:
        index = self.t.options.index(time)
        if label not in self._moments:  # drawn once for each class
            self._moments[label] = moments(model, label, self.start_seed)
        x, y = self._moments[label][index], None if label is None else torch.tensor([label])
        weight = next(model.parameters())
        y = None if y is None else y.to(weight.device)
        return look_inside(model, x, torch.full((1,), time).to(weight), y)

    def drawn(self, state: tuple[int, float, int | None]) -> Picture:
        """The drawing for a block, a time and a class."""
        block, time, label = state
        what = f"t = {time:.2f}" + ("" if label is None else f", {self._names[label]}")
        return draw_inside(self.inside(time, label), block, self.weights.model.config.grid, what)

    def answer(self, job: Job, state: tuple[int, float, int | None]) -> None:
        """Look inside and draw it."""
        self._model()
        super().answer(job, state)

    def _model(self) -> nn.Module:
        """The model as it is now; what was seen inside of other weights is forgotten."""
        model = self.weights.copy()
        if self.version != self.weights.version:
            self.version = self.weights.version
            self._moments.clear()
            self._insides.clear()
        return model

    @staticmethod
    def _classes(count: int | None, model: nn.Module, label: int | str | None) -> list[tuple[str, int | None]]:
        if count is None:
            if label is not None:
                raise ValueError("this model has no classes: leave the label out")
            return [("none", None)]
        names = list(getattr(model, "class_names", None) or [])
        names = names if len(names) == count else [f"class {number}" for number in range(count)]
        if label not in (None, *names, *range(count)):
            raise ValueError(f"unknown class {label!r}; this model knows {', '.join(names)}")
        return [(name, number) for number, name in enumerate(names)]


def _number(classes: list[tuple[str, int | None]], label: int | str | None) -> int | None:
    """The class at the start: the first one where none is named."""
    if isinstance(label, str):
        return dict(classes)[label]
    return classes[label or 0][1]
