"""Lesson 01: measuring whether a layer notices the order of its tokens."""

from collections.abc import Callable

import torch
from torch import Tensor

from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import Case, Draw, Exercise
from dit_course.check.engine.modules import AnswerError
from dit_course.check.stretch_solutions import order_gap as gap


def running_sum(tokens: Tensor) -> Tensor:
    """Each token with all before it."""
    return tokens.cumsum(dim=1)


def by_place(tokens: Tensor) -> Tensor:
    """Each token times the number of its place."""
    return tokens * torch.arange(tokens.shape[1])[:, None]  # (b, n, w) * (n, 1)


def first_token(tokens: Tensor) -> Tensor:
    """Each token plus the first."""
    return tokens + tokens[:, :1]


class GapCase(Case):
    """Nothing may be kept for the next call with tokens of the same sizes."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Measure; where that is right, with other tokens, too."""
        result, given = super().use(answer, track)
        if same(result, gap(*self.args)):
            layer, tokens, order = given
            if not same(answer(layer, tokens.detach() / 2, order), gap(layer, tokens / 2, order)):
                raise AnswerError("a second call, with other tokens, gives a wrong gap: is something kept?")
        return result, given


def order_cases(draw: Draw) -> list[Case]:
    """Three layers that notice the order, each in its own way; no order is its own inverse."""
    cases = []
    for layer in (running_sum, by_place, first_token):
        n = 5 + draw.sizes(1)[0]
        order = torch.arange(n)
        while order[0] == 0 or torch.equal(order[order], torch.arange(n)):
            order = torch.randperm(n, generator=draw.generator)
        batch, width = draw.sizes(2)
        cases.append(GapCase((layer, draw.normal(batch, n, width), order), f"{layer.__name__} over {n} tokens"))
    layer, tokens, order = cases[0].args
    return [
        *cases,
        GapCase((layer, -tokens, order), "the negative tokens"),
    ]  # where the largest difference changes its sign


def back(layer, tokens: Tensor, order: Tensor) -> Tensor:
    """The outputs of the shuffled tokens, back at their places."""
    return layer(tokens[:, order])[:, order.argsort()]


order_gap = Exercise(
    "order_gap",
    reference=gap,
    lesson="01",
    number=4,
    cases=order_cases,
    mistakes=[
        "you compare outputs of different tokens: after the shuffle, place i belongs to token order[i]",
        lambda layer, x, order: (layer(x[:, order]) - layer(x)).abs().max(),
        "one output is moved the wrong way: undo the shuffle in the second (`order.argsort()`), or shuffle the first",
        lambda layer, x, order: (layer(x[:, order])[:, order] - layer(x)).abs().max(),
        "that is the mean of the differences: the largest is wanted",
        lambda layer, x, order: (back(layer, x, order) - layer(x)).abs().mean(),
        "that is one number for each output: the largest of them is wanted",
        lambda layer, x, order: (back(layer, x, order) - layer(x)).abs(),
        "that is the square of the difference: take its size (`abs`)",
        lambda layer, x, order: (back(layer, x, order) - layer(x)).square().max(),
        "the outputs are compared with the tokens that went in: compare them with the outputs in the given order",
        lambda layer, x, order: (back(layer, x, order) - x).abs().max(),
        "that is the sum of the differences: the largest is wanted",
        lambda layer, x, order: (back(layer, x, order) - layer(x)).abs().sum(),
        "differences can be negative, too: take their size before the largest",
        lambda layer, x, order: (back(layer, x, order) - layer(x)).max(),
        lambda layer, x, order: (layer(x) - back(layer, x, order)).max(),
        "only the first picture of the batch is compared",
        lambda layer, x, order: (back(layer, x, order) - layer(x))[0].abs().max(),
    ],
    praise="The same gap",
)
