"""Lesson 03, first half: the time as a vector, and what a condition does to tokens; `labels` has the class."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dit_course import conditioning
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import Case, Draw, Exercise, ModuleCase
from dit_course.check.engine.mistakes import MatchesRule
from dit_course.check.engine.modules import AnswerError, load_reference_weights
from dit_course.check.lesson_03_adaln_blocks import conditioning_mistakes as wrong

FIRST_ONLY = "only the first of the batch is used: is there a 0 where all of them are meant?"

# -- TimestepEmbedder ------------------------------------------------------------------------------


@dataclass(frozen=True)
class TimeCase(ModuleCase):
    """An embedder whose `sinusoids` are looked at alone, too, once `forward` is right."""

    def use(self, answer, track: bool = False) -> tuple[object, tuple]:
        """Build, load, call `forward`; then `sinusoids`."""
        result, given = super().use(answer, track)
        if not track and same(result, self.module(*self.given), wrong.TIME_TOLERANCE):
            alone = getattr(load_reference_weights(answer, self.args, self.module), "sinusoids", lambda t: None)
            if not same(alone(self.given[0].clone()), self.module.sinusoids(*self.given), wrong.TIME_TOLERANCE):
                raise AnswerError(
                    "`forward` is right, but `sinusoids` alone is not, and the next cells ask for it: the "
                    "whole formula, with its factor 1000, belongs in there"
                )
        return result, given


def times(draw: Draw, count: int) -> Tensor:
    """Times in [0, 1]; the first is 0, the last 1."""
    inner = torch.rand(count - 2, generator=draw.generator)
    return torch.cat([torch.zeros(1), inner, torch.ones(1)])


def time_cases(draw: Draw) -> list[TimeCase]:
    """Embedders of several widths and numbers of sinusoids, and times for them."""
    cases = []
    for count, *args in ((5, 24, 256), (4, *[2 * n for n in draw.sizes(2, 3, 9)]), (3, 7, 12, 100.0)):
        label = f"{count} times, {args[1]} sinusoids, width {args[0]}" + (", max_period 100" if args[2:] else "")
        model = conditioning.TimestepEmbedder(*args)
        cases.append(TimeCase(tuple(args), label, (times(draw, count),), model, draw))
    return cases


TimestepEmbedder = Exercise(
    "TimestepEmbedder",
    reference=conditioning.TimestepEmbedder,
    exact=True,
    refused=lambda draw: [Case((8, 5), "5 sinusoids")],
    lesson="03",
    number=1,
    free=("t",),
    partly="are the frequencies those in `self.frequencies`, and is no size written into the code as a number?",
    cases=time_cases,
    mistakes=[
        "the factor 1000 is missing: with t in [0, 1] nearly all of the sinusoids stand still",
        wrong.altered(factor=1),
        "t is divided by 1000: it has to be multiplied, so that the fast waves turn many times",
        wrong.altered(factor=1e-3),
        "your waves turn 2 pi times too fast: multiply by 1000 and the frequency, nothing else",
        wrong.altered(factor=2000 * torch.pi),
        wrong.altered(factor=2 * torch.pi),
        "you divide by the frequencies: the angle is the time *times* the frequency",
        lambda m, t: wrong.embedded(m, wrong.inverted(m, t, 1000)),
        lambda m, t: wrong.embedded(m, wrong.inverted(m, t, 1)),
        "the frequencies are made anew: take those of `self.frequencies`, which know `max_period`",
        wrong.altered(period=10000),
        "sines and cosines are swapped: the cosines come first",
        wrong.altered(order="sc"),
        "cosines and sines take turns: here all cosines come first, then all sines",
        wrong.altered(turns=True),
        wrong.altered(order="sc", turns=True),
        "there are only cosines, or only sines: each wave comes as a cosine and as a sine",
        wrong.altered(order="cc"),
        wrong.altered(order="ss"),
        "there is no SiLU between the two linear layers, so they are one linear map",
        lambda m, t: wrong.embedded(m, m.sinusoids(t), lambda x: x),
        "the activation between the two linear layers is another one: F.silu is meant",
        *[
            lambda m, t, bend=bend: wrong.embedded(m, m.sinusoids(t), bend)
            for bend in (F.relu, F.gelu, torch.tanh, torch.sigmoid, lambda x: F.gelu(x, approximate="tanh"))
        ],
        "there is an activation after the last linear layer: it belongs between the two",
        lambda m, t: F.silu(m(t)),
        lambda m, t: F.silu(wrong.embedded(m, m.sinusoids(t), lambda x: x)),
        "there is an activation before the first linear layer: it belongs between the two",
        lambda m, t: wrong.embedded(m, F.silu(m.sinusoids(t))),
        lambda m, t: wrong.embedded(m, F.silu(m.sinusoids(t)), lambda x: x),
        "only one of the two linear layers is used: sinusoids, `input`, SiLU, `output`",
        lambda m, t: m.input(m.sinusoids(t)),
        lambda m, t: F.silu(m.input(m.sinusoids(t))),
        "the sinusoids themselves come back: `forward` sends them through `input`, SiLU and `output`",
        lambda m, t: m.sinusoids(t),
        FIRST_ONLY,
        lambda m, t: m(t[:1]).expand(len(t), -1),
        lambda m, t: m(t[:1]),
        MatchesRule(
            "only t = 0 comes out right, where every angle is 0 whatever it is multiplied by. So look "
            "at the angles: is the factor 1000, and are the times as they came, not rounded?",
            wrong.only_zero,
        ),
    ],
    tolerance=wrong.TIME_TOLERANCE,
)


# -- modulate --------------------------------------------------------------------------------------


def modulate_cases(draw: Draw) -> list[Case]:
    """Tokens of several shapes, with a shift and a scale for each picture."""
    cases = []
    for dtype in (torch.float32, torch.float64):
        batch, tokens, width = draw.sizes(3)
        x = draw.normal(batch, tokens, width, dtype=dtype)
        shift, scale = (draw.normal(batch, 1, width, dtype=dtype) for _ in range(2))
        cases.append(Case((x, shift, scale), f"{batch} pictures of {tokens} tokens, width {width}"))
    return cases


modulate = Exercise(
    "modulate",
    reference=conditioning.modulate,
    lesson="03",
    number=3,
    cases=modulate_cases,
    mistakes=[
        "the 1 is missing: a scale of zero must leave x as it is, so the factor is 1 + scale",
        lambda x, shift, scale: x * scale + shift,
        "shift and scale are swapped: shift is added, 1 + scale multiplies",
        lambda x, shift, scale: x * (1 + shift) + scale,
        lambda x, shift, scale: x * shift + scale,
        "the shift is scaled, too: first scale, then shift",
        lambda x, shift, scale: (x + shift) * (1 + scale),
        lambda x, shift, scale: (x + shift) * scale,
        "the shift is not added",
        lambda x, shift, scale: x * (1 + scale),
        "x is not scaled",
        lambda x, shift, scale: x + shift,
        "the shift is subtracted: it is added",
        lambda x, shift, scale: x * (1 + scale) - shift,
        "the factor is 1 - scale: it should be 1 + scale",
        lambda x, shift, scale: x * (1 - scale) + shift,
        "1 and scale are no longer one factor: what stands in brackets in the formula?",
        lambda x, shift, scale: x * 1 + scale + shift,
        "x is added once too often: the 1 in 1 + scale is already the x that stays",
        lambda x, shift, scale: x + x * (1 + scale) + shift,
    ],
)
