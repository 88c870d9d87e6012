"""What lesson 11's exercises are tried with: paths, average velocities that take notes, and a tiny student."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import Case, Draw
from dit_course.check.engine.modules import AnswerError, explain_errors, randomize_parameters
from dit_course.check.stretch_solutions import consistency_loss
from dit_course.dit import DiTConfig
from dit_course.few_steps import FewStepDiT, FewStepSampler
from dit_course.flow import per_image
from dit_course.generation import BaseSampler

TIMES = "`average` is called with {} pictures and {} of shape {}: each picture needs its own, in a tensor (batch,)"
SLIPS = {  # words of an error, and what is said behind them
    "'function'": "`average` is a function: call it with a state and two times, and use what it returns",
    "'Average'": "`average` is a function: call it with a state and two times, and use what it returns",
    "must match the size": "a time has one number for each picture: per_image(t, x_t) shapes it, and `step` does that",
    "has no attribute 'at'": "the student is `self.model`",
    "steps go from noise": "do your times run down, and does the time at which a step begins come first?",
    "Tensors, not Tensor": "torch.cat takes one list: torch.cat([a, b])",
    "values to unpack": "torch.func.jvp returns two things: the value, and how it changes",
    "primals and tangents": "each input of the function needs its own direction: two inputs, two directions",
}


class Average(nn.Module):
    """An average velocity that bends in x, in t and in t_next, refuses nonsense, and counts its calls."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.calls = 0

    def forward(self, x: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
        """x (batch, ...), t and t_next (batch,). Raises AnswerError for times of another shape."""
        for name, time in (("a time", t), ("a second time", t_next)):
            if not isinstance(time, Tensor) or time.shape != x.shape[:1]:
                raise AnswerError(TIMES.format(len(x), name, tuple(time.shape) if isinstance(time, Tensor) else time))
        self.calls += 1
        t, t_next = per_image(t, x), per_image(t_next, x)
        bent = torch.sin(2 * x + t) * (1 + t_next) + self.weight.to(x.dtype) * x * t**2
        return bent + t_next.square() - 0.4 * t


def steps(draw: Draw, *shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Times t and t_next, (batch,) each, with 0 < t_next < t <= 1, near both ends, all spans different."""
    batch = shape[0]
    t = 0.55 + 0.45 * torch.arange(1, batch + 1, dtype=torch.float64) / batch
    share = 0.15 + 0.6 * torch.sigmoid(draw.normal(batch, dtype=torch.float64))
    t[0], share[0], share[-1] = 0.012, 0.005, 0.99  # short steps, one beside each end
    return t.to(dtype), (share * t).to(dtype)


@contextmanager
def left_alone(*models: nn.Module, training: bool = True) -> Iterator[None]:
    """Networks in this mode, with gradients: raises AnswerError where they are left otherwise."""
    parameters = [parameter for model in models for parameter in model.parameters()]
    for model in models:
        model.train(training)
    for parameter in parameters:
        parameter.requires_grad_().grad = torch.ones_like(parameter)
    yield
    if any(model.training != training for model in models):
        raise AnswerError("your code leaves a network in another mode: `.train()` and `.eval()` are the caller's")
    if not all(parameter.requires_grad for parameter in parameters):
        raise AnswerError("your code leaves a network with another `requires_grad`, and the caller still trains it")
    if any(parameter.grad is None or (parameter.grad != 1).any() for parameter in parameters):
        raise AnswerError("your code changes the gradients in a network's `.grad`, which are the caller's")


def others(*inputs: Tensor) -> tuple[Tensor, ...]:
    """Other values of the same sizes, times in [0, 1] among them."""
    return tuple(x.detach() / 2 + 0.25 for x in inputs)


KEPT = "a second call, with other values of the same sizes, gives a wrong result: is something kept from the first?"


class PathCase(Case):
    """States and their times: an error is explained."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Measure."""
        with explain_errors(
            {"must match the size": "there is one time for each piece: per_image(sizes, ...) shapes them"}
        ):
            return super().use(answer, track)


# -- targets -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TargetCase(Case):
    """args: (None, x_t, t, t_next, ...), and `average` for None. reference: the course's version.

    most: evaluations that it may cost. constant: it must carry no gradient.
    """

    reference: Callable = None
    most: int = 2
    constant: bool = False

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """The target; raises AnswerError where it is right but too expensive, or carries a gradient."""
        average = Average()
        given = tuple(x.clone().requires_grad_(track and not self.constant) for x in self.args[1:])
        with explain_errors(SLIPS), left_alone(average):
            result = answer(average, *given)
        here = isinstance(result, Tensor) and result.device.type == "cpu"
        right = here and same(result, self.imitate(self.reference))
        if right and average.calls > self.most:
            raise AnswerError(
                f"`average` is evaluated {average.calls} times, and {self.most} are enough: each evaluation is a pass "
                "of the network, so keep what it returns"
            )
        if right:
            with left_alone(average, training=False):
                again = answer(average, *others(*given))
            if not same(again, self.reference(Average(), *others(*given))):
                raise AnswerError(KEPT)
        if right and self.constant and result.requires_grad:
            raise AnswerError(
                "the values are right, but gradients get through your target, and training would move it towards the "
                "student: a target is a constant, so make it under torch.no_grad()"
            )
        return result, (None, *given)

    def inputs(self) -> tuple:
        """The state and the times, behind the place of `average`."""
        return self.args

    def imitate(self, wrong: Callable) -> Tensor:
        """What a wrong version makes of it."""
        return wrong(Average(), *(x.clone() for x in self.args[1:])).detach()


# -- consistency_loss --------------------------------------------------------------------------------


@dataclass(frozen=True)
class LossCase(Case):
    """args: (x_t, t, t_next, velocity); some spans are 0. The student's gradient must be that of the course's loss."""

    alone: bool = False  # whether the student takes its own half steps

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """The loss; raises AnswerError where it is right and its gradient is not."""
        given = tuple(x.clone() for x in self.args)
        with explain_errors(SLIPS):
            loss, student, average = self._call(answer, *given)
            if same(loss, self.imitate(consistency_loss)):
                again = answer(student.train(), average.train(), *others(*given))
                if not same(again, consistency_loss(student, average, *others(*given))):
                    raise AnswerError(KEPT)
        if not isinstance(loss, Tensor) or loss.shape != () or loss.device.type != "cpu" or not loss.requires_grad:
            return loss, (None, None, *given)
        slopes = torch.autograd.grad(loss, [student.weight, average.weight], allow_unused=True, retain_graph=True)
        right, model, _ = self._call(consistency_loss, *self.args)
        (wanted,) = torch.autograd.grad(right, model.weight)
        if same(loss.detach(), right.detach()) and not (slopes[0] is not None and same(slopes[0], wanted)):
            if slopes[0] is not None and slopes[0].abs() > 0:
                raise AnswerError(
                    "the loss is right, but not its gradient: gradients get through the target, and both sides move. A "
                    "target is a constant: make it under torch.no_grad()"
                )
            raise AnswerError("the loss is right, but no gradient reaches the student: only the target is a constant")
        if same(loss.detach(), right.detach()) and not self.alone and slopes[1] is not None and slopes[1].abs() > 0:
            raise AnswerError(
                "the loss is right, but its gradient also reaches `average`, the network that takes the half steps: "
                "make the target under torch.no_grad()"
            )
        return loss, (None, None, *given)

    def inputs(self) -> tuple:
        """States, times and velocities, behind the places of both networks."""
        return None, None, *self.args

    def _call(self, answer: Callable, x_t: Tensor, t: Tensor, t_next: Tensor, velocity: Tensor) -> tuple:
        student, average = Average(), Average()
        with torch.no_grad():
            average.weight += 0.4
        if self.alone:
            average = student
        for training in (True, False):
            with left_alone(student, average, training=training):
                loss = answer(student, average, x_t, t, t_next, velocity)
        return loss, student, average

    def imitate(self, wrong: Callable) -> Tensor:
        """What a wrong version makes of it."""
        return self._call(wrong, *(x.clone() for x in self.args))[0].detach()


# -- the sampler -------------------------------------------------------------------------------------


class Integrated(Exception):
    """What `integrate` gave, before `sample` does anything with it."""


@dataclass(frozen=True)
class SamplerCase(Case):
    """args: (student, steps, cfg); pictures are sampled for `given`: (n, labels, seed)."""

    given: tuple = ()

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Sample, and see whether the callback is told and no evaluation is wasted."""
        student, steps, cfg = copy.deepcopy(self.args)
        n, labels, seed = self.given
        if not issubclass(answer, BaseSampler):
            raise AnswerError("let the class inherit from BaseSampler, which brings `sample`: leave its first line")
        seen, calls = [], []
        for training in (True, False):
            with left_alone(student, training=training):
                sampler = answer(student, steps, cfg)
        integrate = sampler.integrate

        def stop(*args):
            raise Integrated(integrate(*args))

        sampler.integrate = stop
        hook = student.register_forward_hook(lambda *_: calls.append(1))
        try:
            with explain_errors(SLIPS):
                pictures = sampler.sample(n, labels, seed=seed, callback=lambda index, t, x: seen.append(t))
        except Integrated as end:  # taken as it is: `sample` itself would stumble over a list, or nothing
            pictures = end.args[0]
        finally:
            hook.remove()
        here = isinstance(pictures, Tensor) and pictures.device.type == "cpu"
        right = here and same(pictures, self.imitate(FewStepSampler))
        if right and len(calls) > steps:
            raise AnswerError(f"the pictures are right, but cost {len(calls)} evaluations for {steps} steps: one each")
        if right and len(seen) != steps + 1:
            raise AnswerError("the pictures are right, but the callback is not told every state: report(x) in the loop")
        if right and not same(torch.tensor(seen), torch.linspace(1, 0, steps + 1)):
            raise AnswerError("the pictures are right, but the callback is told other times than those of the steps")
        if right:
            sampler.integrate = integrate
            again = [sampler.sample(n, labels, seed=seed + i) for i in (0, 1)]
            if not same(again[1], FewStepSampler(student, steps, cfg).sample(n, labels, seed=seed + 1)):
                raise AnswerError(KEPT)
        return pictures, ([*labels],)

    def inputs(self) -> tuple:
        """The labels."""
        return (self.given[1],)

    def imitate(self, wrong: Callable) -> Tensor:
        """What a wrong version samples."""
        student, steps, cfg = self.args
        n, labels, seed = self.given
        return wrong(student, steps, cfg).sample(n, labels, seed=seed)


def tiny_student(draw: Draw) -> FewStepDiT:
    """A student of three classes and 2x4x6 pixels, with all of its layers perturbed."""
    config = DiTConfig(image_size=(4, 6), patch_size=2, channels=2, width=8, depth=1, heads=2, num_classes=3)
    student = FewStepDiT(config).eval().requires_grad_(False)
    randomize_parameters(student, draw.normal)
    return student
