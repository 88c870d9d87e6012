"""Lesson 03, the stretch exercise: whether the blocks inside a model are really zero."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import OTHERWISE, Case, Draw, Exercise
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


class Nudge(nn.Module):
    """A block that changes one number far more than all others, and downwards."""

    def __init__(self, *place: int):
        super().__init__()
        self.place = place

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: (batch, tokens, width)."""
        change = (0.1 * condition[:, None]).expand_as(x).clone()
        change[self.place] -= 3
        return x + change


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
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
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
            if not all(parameter.grad is not None and parameter.grad.all() for parameter in model.parameters()):
                raise AnswerError(
                    "right, but the gradients of the model are gone: this is a look at it, leave it as it was"
                )
            if isinstance(model.blocks[0], Nudge):  # the last case, when all else is right
                self._look_again(answer, foreign, rest, result)
        return result, (foreign, *rest)

    def _look_again(self, answer: Callable, foreign: Foreign, rest: list[Tensor], result: Tensor) -> None:
        if result.requires_grad:
            raise AnswerError("right, but its history is kept, and all of the network's with it: `torch.no_grad()`")
        other = (rest[0] / 2, 1 - rest[1], rest[2])
        if not same(answer(foreign, *other), changes(self.args[0], *other)):
            raise AnswerError("right at first, but for other pictures and times it gives another result than it should")


def model_cases(draw: Draw) -> list[WholeModel]:
    """Models that are not zero anywhere, or in all blocks but one; and one with blocks of another kind."""
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
    model = copy.deepcopy(model)
    model.blocks = nn.ModuleList(Nudge(*place) for place in ((0, 0, 0), (-1, -1, -1), (0, -1, 3), (-1, 2, 5)))
    return [*cases, WholeModel((model, x, t, y), "a model of 4 blocks of another kind")]


def steps(model: nn.Module, x: Tensor, t: Tensor, y: Tensor) -> list[Tensor]:
    """The tokens before the first block, and after each."""
    seen = []
    hooks = [model.blocks[0].register_forward_pre_hook(lambda block, inputs: seen.append(inputs[0]))]
    hooks += [block.register_forward_hook(lambda block, inputs, output: seen.append(output)) for block in model.blocks]
    model(x, t, y)
    for hook in hooks:
        hook.remove()
    return seen


def measured(measure: Callable[..., Tensor], start: bool = False, sizes: bool = False):
    """A wrong `block_changes`: another measure of the change, against the very first tokens, or of bare sizes."""

    def wrong(*args) -> Tensor:
        seen = [tokens.abs() for tokens in steps(*args)] if sizes else steps(*args)
        return torch.stack([measure(after - (seen[0] if start else seen[i])) for i, after in enumerate(seen[1:])])

    return wrong


def alone(model: nn.Module, *_) -> Tensor:
    """New blocks, tried outside of the model."""
    return torch.zeros(len(model.blocks))


block_changes = Exercise(
    "block_changes",
    reference=changes,
    lesson="03",
    number=6,
    partly=OTHERWISE,
    cases=model_cases,
    mistakes=[
        "your numbers cancel: changes up and down add to about nothing. Take their sizes (`abs`) first",
        measured(torch.sum),
        measured(torch.mean),
        "that is the largest change *upwards*: one that goes down may be larger. Take the sizes (`abs`) first",
        measured(torch.max),
        "you compare sizes: a number that goes from 1 to -1 has changed, too. Subtract first, then take the size",
        measured(torch.max, sizes=True),
        measured(lambda change: change.abs().max(), sizes=True),
        "not all tokens of all pictures are looked at: the largest change of *any* number is wanted",
        *[
            measured(lambda change, part=part: change[part].abs().max())
            for part in (0, *((slice(None), tokens) for tokens in (0, -1, slice(-1), slice(4))))
        ],
        "the model runs with other inputs than it was given: hand on x, t and y as they are",
        *[
            lambda model, x, t, y, change=change: changes(model, *change(x, t, y))
            for change in (
                lambda x, t, y: (x, t, 0 * y),
                lambda x, t, y: (x, 0 * t, y),
                lambda x, t, y: (x, 0 * t + 1, y),
                lambda x, t, y: (torch.zeros_like(x), t, y),
            )
        ],
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
