"""Lesson 03, the stretch exercise: whether the blocks inside a model are really zero."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import Case, Draw, Exercise
from dit_course.check.engine.modules import AnswerError, randomize_parameters
from dit_course.check.stretch_solutions import block_changes as changes
from dit_course.dit import DiT, DiTConfig


class Foreign(nn.Module):
    """A model that is known by its blocks only. It counts how often it runs."""

    def __init__(self, model: DiT):
        super().__init__()
        self.blocks = model.blocks
        self.__dict__.update(_whole=model, runs=0)  # no submodule: nobody finds the blocks' surroundings
        self.train(model.training)

    def __getattr__(self, name: str):
        if name in ("embed", "condition", "time_embed", "label_embed", "positions", "config", "final"):
            raise AnswerError(
                f"your function asks the model for `{name}`, which other models do not have: all it may count "
                "on is `model.blocks` and model(x, t, y). Listen in with hooks"
            )
        return super().__getattr__(name)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """The whole model, in which hooks may only listen."""
        self.__dict__["runs"] += 1
        for block in self.blocks:
            for key, hook in block._forward_hooks.items():
                block._forward_hooks[key] = _listening(hook)
        return self._whole(x, t, y)


def _listening(hook: Callable) -> Callable:
    def called(*args):
        if hook(*args) is not None:
            raise AnswerError(
                "your hook returns something, and PyTorch takes that for the block's new output: return nothing"
            )

    return called


@dataclass(frozen=True)
class WholeModel(Case):
    """A whole model, on which nothing may be left behind."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Call; then look for what is left behind, once the result is right."""
        model, *rest = copy.deepcopy(self.args)
        foreign = Foreign(model)
        result = answer(foreign, *rest)
        if same(result, changes(*self.args)):
            if any(module._forward_hooks for module in foreign.modules()):
                raise AnswerError(
                    "right, but your hooks are still on the model: `hook.remove()` each, or they run for ever"
                )
            if foreign.runs != 1:
                raise AnswerError(
                    f"right, but the model ran {foreign.runs} times: with a hook on every block, once is enough"
                )
            if foreign.training != self.args[0].training:
                raise AnswerError("right, but the model comes back in another mode (train or eval): leave it as it was")
        return result, (foreign, *rest)


def model_cases(draw: Draw) -> list[WholeModel]:
    """Models that are not zero anywhere, or in all blocks but one."""
    cases = []
    for depth, opened in ((3, None), (4, 2), (2, 0)):
        model = DiT(
            DiTConfig(
                image_size=8, patch_size=4, channels=1, width=8, depth=depth, heads=2, num_classes=3, label_dropout=0.0
            )
        )
        randomize_parameters(model, draw.normal)
        for number, block in enumerate(model.blocks):
            if opened not in (None, number):
                nn.init.zeros_(block.modulation.weight)
                nn.init.zeros_(block.modulation.bias)
        batch = draw.sizes(1)[0]
        x, t = draw.normal(batch, 1, 8, 8), torch.rand(batch, generator=draw.generator)
        y = torch.randint(3, (batch,), generator=draw.generator)
        what = "every block changes its tokens" if opened is None else f"only block {opened} does"
        cases.append(WholeModel((model.train(opened == 0), x, t, y), f"a model of {depth} blocks in which {what}"))
    return cases


def steps(model: nn.Module, x: Tensor, t: Tensor, y: Tensor) -> list[Tensor]:
    """The tokens before the first block, and after each."""
    seen = []
    hooks = [model.blocks[0].register_forward_pre_hook(lambda block, inputs: seen.append(inputs[0]))]
    hooks += [block.register_forward_hook(lambda block, inputs, output: seen.append(output)) for block in model.blocks]
    model(x, t, y)
    for hook in hooks:
        hook.remove()
    return seen


def measured(measure: Callable[[Tensor], Tensor], start: bool = False):
    """A wrong `block_changes` that takes another measure of the change, or compares with the very first tokens."""

    def wrong(*args) -> Tensor:
        seen = steps(*args)
        return torch.stack([measure(after - (seen[0] if start else seen[i])) for i, after in enumerate(seen[1:])])

    return wrong


def alone(model: nn.Module, *_) -> Tensor:
    """New blocks, tried outside of the model."""
    return torch.zeros(len(model.blocks))


block_changes = Exercise(
    "block_changes",
    reference=changes,
    lesson="03",
    cases=model_cases,
    mistakes=[
        "your numbers cancel: changes up and down add to about nothing. Take their sizes (`abs`) first",
        measured(torch.sum),
        measured(torch.mean),
        "that is the largest change *upwards*: one that goes down may be larger. Take the sizes (`abs`) first",
        measured(torch.max),
        "that is the mean of the changes: the largest is wanted, as one number that moves is enough",
        measured(lambda change: change.abs().mean()),
        "every block is compared with what went into the first: compare it with what went into itself",
        measured(lambda change: change.abs().max(), start=True),
        "that is how large the outputs are: compare them with the inputs",
        lambda *args: torch.stack([after.abs().max() for after in steps(*args)[1:]]),
        "that is one number for the whole model: each block has its own, in the order of the blocks",
        lambda *args: changes(*args).max(),
        "your answer is all zeros, and that of new blocks is: look at those of `model.blocks`, while it runs",
        alone,
    ],
)
