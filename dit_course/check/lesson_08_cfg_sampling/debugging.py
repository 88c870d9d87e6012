"""Lesson 08, measuring and debugging: the order of a solver, and a sampler from a repository."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from dit_course.check import stretch_solutions
from dit_course.check.engine.exercise import OTHERWISE, Case, Draw, Exercise
from dit_course.check.engine.modules import AnswerError
from dit_course.check.lesson_08_cfg_sampling.mistakes import Gaussian, slips_explained, waves
from dit_course.flow import step
from dit_course.sampling import expand_time

# -- convergence_order ---------------------------------------------------------------------------------


def order_cases(draw: Draw) -> list[Case]:
    """Errors that follow a power: of either sign, where the steps double, and where they do not; one grows."""
    cases = []
    for steps, sign, label in (
        ([3, 8, 10, 31, 50], 1, "errors above 0"),
        ([10, 20, 40, 80], -1, "errors below 0"),
        ([5, 7, 100], 1, "three counts"),
        ([4, 6, 30], 1, "errors that grow"),
    ):
        order, constant = 1 + 2 * torch.rand(2, generator=draw.generator, dtype=torch.float64)
        order = -order if label == "errors that grow" else order
        counts = torch.tensor(steps, dtype=torch.float64)
        cases.append(Case((counts, sign * constant / counts**order), label))
    return cases


def slope(x: Tensor, y: Tensor) -> Tensor:
    """Of the best line through points."""
    away = x - x.mean()
    return (away * y).sum() / away.square().sum()


convergence_order = Exercise(
    "convergence_order",
    reference=stretch_solutions.convergence_order,
    lesson="08",
    number=5,
    partly=OTHERWISE,
    cases=order_cases,
    mistakes=[
        "the sign is wrong: an error that falls has an order above 0, and the slope of its line is below 0",
        lambda n, e: slope(n.log(), e.abs().log()),
        "that is the slope without logarithms: only on logarithmic axes is a power a straight line",
        lambda n, e: -slope(n, e.abs()),
        lambda n, e: -slope(n, e),
        "only the errors are in logarithms: the numbers of steps must be, too",
        lambda n, e: -slope(n, e.abs().log()),
        "only the numbers of steps are in logarithms: the errors must be, too",
        lambda n, e: -slope(n.log(), e.abs()),
        "two logarithms of different bases: take the same one for steps and errors",
        lambda n, e: -slope(n.log(), e.abs().log2()),
        lambda n, e: -slope(n.log2(), e.abs().log()),
        lambda n, e: -slope(n.log(), e.abs().log10()),
        lambda n, e: -slope(n.log10(), e.abs().log()),
        "you divide steps by errors: the slope is the change of the errors over that of the steps",
        lambda n, e: -1 / slope(n.log(), e.abs().log()),
        "the constant c is taken for 1: compare errors with one another, so that it drops out",
        lambda n, e: -(e.abs().log() / n.log()).mean(),
        lambda n, e: -(e.abs().log() / n.log())[-1],
        lambda n, e: -(n.log() * e.abs().log()).sum() / n.log().square().sum(),
        "right where the steps double, but these do not: divide by the logarithm of *their* ratio",
        lambda n, e: (e[:-1] / e[1:]).log2().mean(),
        lambda n, e: (e[-2] / e[-1]).log2(),
        lambda n, e: (e[0] / e[1]).log2(),
    ],
    free=("steps", "errors"),
    praise="The order comes out, whatever the constant,",
)


# -- repaired ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Repair(Case):
    """A sampler on a trajectory: an error is explained."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Integrate."""
        with slips_explained():
            return super().use(answer, track)


def for_each(velocity: Callable) -> Callable:
    """A velocity that wants a time for every image, as a network does."""

    def checked(x: Tensor, t: Tensor) -> Tensor:
        if not isinstance(t, Tensor) or t.shape != x.shape[:1]:
            raise AnswerError("the velocity gets one time for all: expand_time(time, x) gives each image its own")
        return velocity(x, t)

    return checked


def repairs(draw: Draw) -> list[Repair]:
    """A bent trajectory, an exact one, and uneven steps."""
    uneven = torch.tensor([1, 0.7, 0.65, 0.2, 0], dtype=torch.float64)
    return [
        Repair((for_each(waves), draw.normal(2, 3, 4), torch.linspace(1, 0, 6)), "a bent trajectory"),
        Repair((for_each(Gaussian(0.5)), 1 + draw.normal(4, 1), torch.linspace(1, 0, 8)), "a Gaussian, 7 steps"),
        Repair((for_each(waves), draw.normal(3, 5, dtype=torch.float64), uneven), "uneven steps"),
    ]


def told(times: Callable[[Tensor], Tensor]) -> Callable:
    """Euler's steps with other times for the velocity: from `ts`, one for each step."""

    def solver(velocity, noise, ts):
        x = noise
        for time, (t, t_next) in zip(times(ts), pairwise(ts), strict=True):
            x = step(x, velocity(x, expand_time(time, x)), t, t_next)
        return x

    return solver


repaired = Exercise(
    "repaired",
    reference=stretch_solutions.repaired,
    lesson="08",
    number=6,
    partly=OTHERWISE,
    cases=repairs,
    mistakes=[
        "the bug is still there: print, for five steps, the times that the velocity gets, and those where x is",
        told(lambda ts: torch.linspace(1, 0, len(ts) - 1)),
        "the velocity gets the time where the step ends: x is still where it begins",
        told(lambda ts: ts[1:]),
        "the velocity gets the time in the middle of the step, but x is where it begins",
        told(lambda ts: (ts[1:] + ts[:-1]) / 2),
        "right for equal steps only: the times of the steps stand in `ts`, so take them from there",
        told(lambda ts: torch.linspace(1, 0, len(ts))[:-1]),
        "the times are right now, but every step has the same size: it should go from t to t_next",
        lambda velocity, noise, ts: told(lambda _: ts[:-1])(velocity, noise, torch.linspace(1, 0, len(ts))),
        "now the steps are fewer and longer: they should go from each time in `ts` to the next",
        lambda velocity, noise, ts: told(lambda x: x[:-1])(velocity, noise, torch.linspace(1, 0, len(ts) - 1)),
    ],
    free=("ts",),
    praise="Velocity and state agree about the time",
)
