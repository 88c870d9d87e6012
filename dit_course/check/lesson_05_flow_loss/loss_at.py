"""Lesson 05: measuring the loss at one single time."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import Case, Draw, Exercise
from dit_course.check.engine.modules import AnswerError
from dit_course.check.stretch_solutions import loss_at as at_one_time
from dit_course.flow import RectifiedFlow, per_image, velocity_target


class Knows:
    """A model that finds the noise from x_t and t, and is off by more the larger t and the noise are; it learns."""

    def __init__(self, x: Tensor, y: Tensor, offset: Tensor):
        self.x, self.y, self.offset = x, y, offset.clone().requires_grad_()

    def __call__(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The velocity plus `offset * (1 + t + noise / 2)`."""
        if y is None or not same(y, self.y):
            raise AnswerError("the model does not get the labels y: hand them to `.loss` behind the pictures")
        if tuple(t.shape) != (len(self.x),):
            raise AnswerError(f"the model gets t of shape {tuple(t.shape)}: every picture needs its own, all the same")
        t = per_image(t, x_t)
        noise = (x_t - (1 - t) * self.x) / t
        return velocity_target(self.x, noise) + self.offset * (1 + t + noise / 2)


class TimeCase(Case):
    """What is right may carry no gradient, and keeps nothing for the next call."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Measure; where that is right, on other pictures, too."""
        result, given = super().use(answer, track)
        if isinstance(result, Tensor) and same(result.detach(), at_one_time(*self.args)):
            if result.requires_grad:
                raise AnswerError("the loss carries gradients, and nothing is trained here: use torch.no_grad()")
            t, model, x, *rest = given
            other = x.detach() / 2 + 0.25
            if not same(answer(t, model, other, *rest), at_one_time(t, model, other, *rest)):
                raise AnswerError("a second call, with other pictures, gives a wrong loss: is something kept?")
        return result, given

    def imitate(self, wrong: Callable) -> Tensor:
        """The wrong version's loss, without history."""
        return super().imitate(wrong).detach()


def time_cases(draw: Draw) -> list[Case]:
    """Pictures of several shapes at an early, a late and a middle time."""
    cases = []
    for t, seed in ((0.3, ()), (0.9, (7,)), (0.6, (3,))):
        n, height, width = draw.sizes(3)
        x, offset = draw.normal(n, 1, height, width), draw.normal(n, 1, height, width)
        y = torch.randint(10, (n,), generator=draw.generator)
        cases.append(TimeCase((t, Knows(x, y, offset), x, y, *seed), f"t = {t}"))
    return cases


def measured(timesteps: str | Callable, reduction: str = "mean") -> Callable:
    """A wrong version: the loss at other times, or another mean of it."""

    def wrong(t: float, model: Callable, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
        times = timesteps if isinstance(timesteps, str) else lambda n, generator: timesteps(t).expand(n)
        return RectifiedFlow(times).loss(model, x, y, Generator().manual_seed(seed), reduction)

    return wrong


loss_at = Exercise(
    "loss_at",
    reference=at_one_time,
    lesson="05",
    number=6,
    partly="your loss does not depend on `t` as it should: which times does your model see?",
    cases=time_cases,
    mistakes=[
        "your times are drawn at random, so this is the loss over all times: every picture should be at the one time t",
        measured("uniform"),
        measured("logit_normal"),
        "that is the loss at 1 - t: t = 0 is data and t = 1 is noise everywhere in this course",
        measured(lambda t: torch.tensor(1 - t)),
        "that is one loss for each picture: their mean is still missing",
        measured(lambda t: torch.tensor(t), reduction="none"),
        "that is the sum over the pictures: their mean is wanted",
        lambda *args: measured(lambda t: torch.tensor(t), reduction="none")(*args).sum(),
        "that is the root of the loss: the mean of the squares is wanted as it is",
        lambda *args: at_one_time(*args).sqrt(),
        "that is t times the loss: the time decides where it is measured, and weighs nothing",
        lambda t, *args: t * at_one_time(t, *args),
    ],
    praise="The loss at one time",
)
