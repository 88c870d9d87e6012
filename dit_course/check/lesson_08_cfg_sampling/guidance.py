"""Lesson 08, second part: guidance."""

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dit_course import sampling
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import OTHERWISE, Case, Draw, Exercise
from dit_course.check.engine.modules import AnswerError, said_instead
from dit_course.check.lesson_08_cfg_sampling.mistakes import (
    DOUBLED,
    GUIDANCE_SLIPS,
    IN_PLACE,
    Formula,
    guide,
    inside_or_nothing,
    mixed,
    one_pass,
    slips_explained,
)


@dataclass(frozen=True)
class Guidance(Case):
    """args: (model, y, cfg, interval); the velocity is called at `given`, (x, t).

    passes: what it may cost. once: whether the network is to be called once, in the last case: values come first.
    """

    given: tuple = ()
    passes: int = 2
    once: bool = False

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Make the velocity, call it once, and count the network's calls and pictures."""
        model, y, cfg, interval = copy.deepcopy(self.args)
        x, t = (value.clone() for value in self.given)
        x.requires_grad_(track)
        model.weight.grad = torch.ones(())
        with contextlib.suppress(Exception):
            answer(model, y if y is None else y.flip(0), cfg, interval)  # nothing of it may be kept
        velocity = answer(model, y, cfg, interval)
        if not callable(velocity):
            raise AnswerError(
                "`guided` should return a function, the velocity v(x, t): leave the line `return velocity`"
            )
        with slips_explained(GUIDANCE_SLIPS), said_instead({"modified inplace": IN_PLACE}):
            result = velocity(x, t)
        seen, calls = model.evaluated, model.calls
        right = same(result, self.imitate(mixed(guide)))
        if right and seen > self.passes * len(x):
            raise AnswerError(
                f"the velocity is right, but on {self.label} the network saw {seen} pictures where {len(x)} are "
                "enough: where all scales are 1, the prediction without label is paid for and thrown away"
            )
        if right and self.once and calls > 1:
            raise AnswerError(
                f"the velocity is right, but the network is called {calls} times: one batch of double size is quicker. "
                "Join pictures, times and labels, and cut the result"
            )
        return result, (x, t, model)

    def inputs(self) -> tuple:
        """The pictures and times, and the model."""
        return *self.given, self.args[0]

    def imitate(self, wrong: Callable) -> Tensor:
        """What a wrong version makes of it."""
        return wrong(*copy.deepcopy(self.args), *self.given)


def guidance_cases(draw: Draw) -> list[Guidance]:
    """Strong guidance, weak, none; an interval that some, or none, of the times lie in; a model without classes."""
    everywhere, spread, batch = (0.0, 1.0), torch.tensor([1.0, 0.75, 0.0, 0.5, 0.25]), 5

    def case(cfg, interval, label, passes=2, times=spread, classes=4, once=False) -> Guidance:
        y = torch.randperm(4, generator=draw.generator)[torch.arange(batch) % 4]
        args = Formula(classes), y if classes else None, cfg, interval
        return Guidance(args, label, (draw.normal(batch, 1, 3, 2), times), passes, once)

    return [
        case(3.0, everywhere, "cfg 3"),
        case(4.0, (0.25, 0.75), "cfg 4, some of the times in the interval"),
        case(1.0, everywhere, "cfg 1", 1),
        case(3.0, (0.3, 0.7), "cfg 3, all of the times outside of the interval", 1, torch.linspace(0.75, 1.0, batch)),
        case(0.5, everywhere, "cfg 0.5"),
        case(0.0, (0.01, 0.99), "cfg 0, some of the times in the interval"),
        case(0.0, everywhere, "cfg 0"),
        case(1.0, everywhere, "a model without classes", 1, classes=None),
        case(2.0, everywhere, "cfg 2", once=True),
    ]


guided = Exercise(
    "guided",
    reference=sampling.guided,
    refused=lambda draw: [Case((Formula(None), None, 3.0), "cfg 3 and no labels")],
    lesson="08",
    number=2,
    partly=OTHERWISE,
    cases=guidance_cases,
    mistakes=[
        "where all scales are 1, you return the prediction *without* label: there the one with the label is meant",
        one_pass(lambda scale: scale == 1, hidden=True),
        "one pass is enough where all scales are *exactly* 1: with 0 or 0.5 the other prediction counts, too",
        one_pass(lambda scale: scale <= 1),
        (
            "pictures, times and labels must be doubled in one order, and the result cut in the same: `torch.cat` puts "
            "a batch behind itself, `repeat_interleave` each picture beside itself"
        ),
        *DOUBLED,
        "the two predictions are swapped: the first half of the doubled batch has the labels",
        mixed(lambda a, b, scale: guide(b, a, scale)),
        (
            "you start at the prediction *with* the label, so cfg 1 would already exaggerate: start at the one "
            "without, and go `scale` times the difference"
        ),
        mixed(lambda a, b, scale: a + scale * (a - b)),
        "that is only the difference, scaled: it has to be added to the prediction without the label",
        mixed(lambda a, b, scale: scale * (a - b)),
        "one picture inside of the interval is enough to guide all of them: `scale` tells them apart",
        mixed(guide, decide=torch.any),
        "one picture outside of the interval is enough to guide none of them: `scale` tells them apart",
        mixed(guide, decide=torch.all),
        "the label is there, but nothing is exaggerated: use `scale`",
        mixed(lambda a, b, scale: a),
        "only the prediction without the label is used",
        mixed(lambda a, b, scale: b),
        "the interval is ignored: `scale` is cfg inside of it and 1 outside, picture by picture",
        mixed(guide, decide=torch.ones_like),
        "outside of the interval the prediction *without* label is taken: there the one with the label is meant",
        inside_or_nothing,
        "`scale` stretches only the prediction with the label: put the whole difference in brackets",
        mixed(lambda a, b, scale: b + scale * a - b),
        "the shares of both predictions must add up to 1: what the label gains, the one without it loses",
        mixed(lambda a, b, scale: scale * a - b),
        mixed(lambda a, b, scale: scale * a + b),
        "the difference is turned around: it leads from the prediction without label to the one with it",
        mixed(lambda a, b, scale: b + scale * (b - a)),
        "you go `scale - 1` times the difference: from the prediction without label it is `scale` times",
        mixed(lambda a, b, scale: b + (scale - 1) * (a - b)),
        "you return both velocities, one after the other: mix them into one for each picture",
        mixed(lambda a, b, scale: torch.cat([a, b])),
    ],
    praise="Guided as it should be, for no more passes than needed,",
)
