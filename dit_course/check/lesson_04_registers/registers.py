"""Lesson 04: registers, put behind the patches and taken off again. The rest is in `whole_dit.py`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from dit_course import dit
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import Case, Draw, Exercise
from dit_course.check.engine.mistakes import MatchesRule
from dit_course.check.engine.modules import AnswerError, explain_errors

# -- append_registers and drop_registers -----------------------------------------------------------


APPEND_ERRORS = {
    "must have same number of dimensions": "the registers lack the axis of the batch",
    "Sizes of tensors must match": "along which axis do they join? 0 is the batch, 1 the tokens, 2 the features",
}


@dataclass(frozen=True)
class AppendCase(Case):
    """Tokens and registers, both of which learn by what becomes of them."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Raises AnswerError when only the dtype is wrong, or no gradient gets through to one of the two."""
        with explain_errors(APPEND_ERRORS):
            result, given = super().use(answer, track)
        (tokens, registers), right = self.args, dit.append_registers(*self.args)
        if not track and same(result, right):
            if result.dtype == registers.dtype != tokens.dtype:
                values = f"your values are right, but they are {result.dtype} and should be {tokens.dtype}"
                raise AnswerError(f"{values}: give the registers the dtype of the tokens before you join them")
            self._try_gradients(answer)
        return result, given

    def _try_gradients(self, answer: Callable) -> None:
        for name, learns in (("tokens", (True, False)), ("registers", (False, True))):
            given = [x.clone().requires_grad_(wanted) for x, wanted in zip(self.args, learns, strict=True)]
            if not answer(*given).requires_grad:
                advice = ".detach(), .data and torch.tensor(...) cut it off"
                raise AnswerError(f"your values are right, but no gradient gets through to the {name}: {advice}")


def append_cases(draw: Draw) -> list[AppendCase]:
    """Other numbers of pictures, patches, features and registers; none of them, too, and half precision."""
    cases = []
    for dtype, also in ((torch.float32, ""), (torch.bfloat16, ", tokens in bfloat16")):
        batch, patches, width, count = draw.sizes(4, 2, 9)
        tokens, registers = draw.normal(batch, patches, width, dtype=dtype), draw.normal(count, width, dtype=dtype)
        label = f"{batch} pictures of {patches} patches, {count} registers{also}"
        cases.append(AppendCase((tokens, registers.float()), label))
    tokens = draw.normal(3, 5, 8)
    return [*cases, AppendCase((tokens, draw.normal(0, 8)), "3 pictures of 5 patches, no registers")]


RANDOM = "the registers come out as other numbers than they went in: they are learned, and the same at every call"

append_registers = Exercise(
    "append_registers",
    reference=dit.append_registers,
    lesson="04",
    number=1,
    cases=append_cases,
    mistakes=[
        "the registers stand in front: here they go behind the patches, so that `[:, :patches]` stays the picture",
        lambda x, r: torch.cat([r.to(x).expand(len(x), -1, -1), x], dim=1),
        "your answer is its input, unchanged: the registers are not joined to the tokens",
        lambda x, r: x,
        "the registers are added to the patches: they are tokens of their own, so the sequence grows longer",
        lambda x, r: x + r.sum(dim=0),
        lambda x, r: x + r.to(x.dtype).sum(dim=0),
        RANDOM,
        lambda x, r: dit.append_registers(x, 0 * r),
        "the registers come out in another order: row 0 of the table stays the first behind the patches",
        lambda x, r: dit.append_registers(x, r.flip(0)),
        "only the first picture has the registers: each picture needs all of them",
        lambda x, r: torch.cat([dit.append_registers(x[:1], r), dit.append_registers(x[1:], 0 * r)]),
        MatchesRule(RANDOM, lambda got, expected: got.shape == expected.shape and same(got[:, 0], expected[:, 0])),
    ],
)


def drop_cases(draw: Draw) -> list[Case]:
    """Some registers, one, and none at all. Few pictures, many features: no axis is as long as another."""
    cases = []
    for count in (4, 1, 0):
        (batch,), (patches,), (width,) = draw.sizes(1, 2, 4), draw.sizes(1, 5, 9), draw.sizes(1, 14, 19)
        patches += 50 if count == 4 else 0
        name = "no registers" if count == 0 else f"{count} register{'s' * (count > 1)}"
        tokens = draw.normal(batch, patches + count, width)
        cases.append(Case((tokens, count), f"{batch} pictures of {patches} patches and {name}"))
    return cases


drop_registers = Exercise(
    "drop_registers",
    reference=dit.drop_registers,
    lesson="04",
    number=2,
    cases=drop_cases,
    mistakes=[
        "your answer is its input, unchanged: the registers are still there",
        lambda x, count: x,
        (
            "right as long as there are registers. With count = 0 nothing is left: `x[:, :-0]` is `x[:, :0]`, as -0 "
            "is 0. Count from the front instead: how many tokens stay?"
        ),
        lambda x, count: x[:, :-count] if count == 0 else x,
        "you keep the registers and drop the patches",
        lambda x, count: x[:, x.shape[1] - count :],
        lambda x, count: x[:, -count:],
        "the first tokens are gone: the registers stand at the end",
        lambda x, count: x[:, count:],
        "your code cuts another axis: the tokens are axis 1",
        lambda x, count: x[:, :, : x.shape[2] - count],
        lambda x, count: x[..., :-count],
        lambda x, count: x[: len(x) - count],
        lambda x, count: x[:-count],
        "four tokens are dropped, always: how many it should be is `count`, not a number in your code",
        lambda x, count: x[:, :-4],
        "49 tokens are kept, always: how many there are and how many go, `tokens.shape` and `count` say",
        lambda x, count: x[:, :49],
        "one token too many or too few is left",
        lambda x, count: x[:, : x.shape[1] - count - 1],
        lambda x, count: x[:, : x.shape[1] - count + 1],
    ],
)
