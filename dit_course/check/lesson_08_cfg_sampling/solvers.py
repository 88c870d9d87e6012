"""Lesson 08, first part: Euler, Heun and Adams-Bashforth."""

import contextlib
import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dit_course import sampling
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import OTHERWISE, Case, Draw, Exercise
from dit_course.check.engine.modules import AnswerError
from dit_course.check.lesson_08_cfg_sampling.mistakes import (
    TIMES,
    Gaussian,
    ahead,
    displaced,
    equal_steps,
    euler_at_the_end,
    extrapolated,
    remembering,
    reusing,
    slips_explained,
    stepping,
    trapezoid,
    two_halves,
    waves,
)
from dit_course.flow import step

# -- solvers -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SolverCase(Case):
    """A solver on a trajectory: args are (velocity, noise, ts). The velocity counts its calls."""

    right: Callable = sampling.euler
    cost: int = 1
    callback: bool = False  # whether what the callback gets is looked at, in the last case: values come first

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Integrate, and complain about what the end alone does not show."""
        velocity, noise, ts = copy.deepcopy(self.args)
        calls, seen = [], []

        def watched(x, t):
            if not isinstance(t, Tensor) or t.shape != x.shape[:1]:
                raise AnswerError(TIMES.format(len(x), tuple(t.shape) if isinstance(t, Tensor) else f"() ({t})"))
            calls.append(t)
            return velocity(x, t)

        def callback(index, t, x):
            seen.append((index, float(t), x.detach().clone()))

        with contextlib.suppress(Exception):
            answer(watched, noise.detach() / 2, ts, callback)  # nothing of it may be kept
        calls.clear(), seen.clear()
        with slips_explained():
            end = answer(watched, noise, ts, callback)
        count, told, expected = len(calls), list(seen), []
        right = self.right(*copy.deepcopy(self.args), lambda *state: expected.append(state))
        if same(end, right):
            self._complain(count, told, expected)
        return end, (velocity, noise, ts)

    def _complain(self, calls: int, seen: list, expected: list) -> None:
        steps = len(self.args[2]) - 1
        if calls > self.cost * steps:
            raise AnswerError(
                f"the end is right, but the velocity is evaluated {calls} times for {steps} steps, and "
                f"{self.cost * steps} are enough. Every evaluation is a pass of the network: keep what it returns"
            )
        states = itertools.zip_longest(seen, expected, fillvalue=(-1, -1.0, None))
        if self.callback and not all(
            index == i and abs(t - t_right) < 1e-6 and same(x, state) for (index, t, x), (i, t_right, state) in states
        ):
            raise AnswerError(
                "the end is right, but the callback does not get every state with its time: leave the lines with "
                "`start` and `report` as they are, and call the new state `x`"
            )


def solver_cases(right: Callable, cost: int = 1) -> Callable[[Draw], list[SolverCase]]:
    """Cases for a solver: a trajectory that bends, an exact one, and again the first with uneven steps in float64.

    On the Gaussian the velocity is proportional to x, and most mistakes look like a wrong factor: it is not the first.
    """

    def cases(draw: Draw) -> list[SolverCase]:
        batch, steps, height, width = draw.sizes(4, 3, 7)
        even = torch.linspace(1, 0, steps + 1)
        sizes = 0.3 + draw.normal(steps, dtype=torch.float64).abs()
        uneven = torch.cat([torch.ones(1, dtype=torch.float64), 1 - sizes.cumsum(0) / sizes.sum()])
        return [
            SolverCase(
                (waves, draw.normal(2, 3, height, width), torch.linspace(1, 0, 5)), "a bent trajectory", right, cost
            ),
            SolverCase((Gaussian(0.5), 1 + draw.normal(batch, 1), even), f"a Gaussian, {steps} steps", right, cost),
            SolverCase(
                (waves, draw.normal(batch, height, dtype=torch.float64), uneven), "uneven steps", right, cost, True
            ),
        ]

    return cases


SIGN = "you step the wrong way, towards more noise: from t to t_next time runs *down*, so t_next - t is negative"

euler = Exercise(
    "euler",
    reference=sampling.euler,
    lesson="08",
    number=1,
    partly=OTHERWISE,
    cases=solver_cases(sampling.euler),
    mistakes=[
        SIGN,
        stepping(lambda v, x, t, t_next, _: x - (t_next - t) * v(x, t)),
        "the velocity is taken at the time where the step ends (t_next): Euler takes it where the step begins, at t",
        stepping(lambda v, x, t, t_next, _: step(x, v(x, t_next), t, t_next)),
        "all your steps have one size, but the times in `ts` may be uneven: how long is the step from t to t_next?",
        equal_steps,
        "every step goes all the way to the data: it should only go from t to t_next",
        stepping(lambda v, x, t, t_next, _: x - t * v(x, t)),
        "the velocity is taken at the noise again and again: take it where you are now, at x",
        stepping(lambda v, x, t, t_next, noise: step(x, v(noise, t), t, t_next)),
        "every step starts from the noise again: start it where the last one ended, at x",
        stepping(lambda v, x, t, t_next, noise: step(noise, v(x, t), t, t_next)),
        "the velocity is a speed: multiply it by the time that the step takes, t_next - t",
        stepping(lambda v, x, t, t_next, _: x - v(x, t)),
        stepping(lambda v, x, t, t_next, _: x + v(x, t)),
        "the last step is missing: the trajectory ends at ts[-1]",
        lambda velocity, noise, ts: sampling.euler(velocity, noise, ts[:-1]),
    ],
    praise="Every step is Euler's, with one evaluation each,",
)


heun = Exercise(
    "heun",
    reference=sampling.heun,
    lesson="08",
    number=3,
    partly=OTHERWISE,
    cases=solver_cases(sampling.heun, cost=2),
    mistakes=[
        "that is Euler's step: the second velocity is not used",
        sampling.euler,
        "both velocities are added, which goes twice as far: take their mean",
        stepping(lambda v, x, a, b, _: step(x, v(x, a) + v(step(x, v(x, a), a, b), b), a, b)),
        "the second velocity is taken at the old time: looking ahead means at t_next",
        stepping(lambda v, x, a, b, _: trapezoid(v, x, a, b, step(x, v(x, a), a, b), a)),
        "the second velocity is taken at the old x: take an Euler step first, and evaluate it there",
        stepping(lambda v, x, a, b, _: trapezoid(v, x, a, b, x, b)),
        "your step starts from the place you looked ahead to: it was only a look, the step starts from x",
        stepping(lambda v, x, a, b, _: trapezoid(v, x, a, b, step(x, v(x, a), a, b), b) - x + step(x, v(x, a), a, b)),
        "only the second velocity is used: Heun goes with the mean of both",
        stepping(lambda v, x, a, b, _: step(x, v(step(x, v(x, a), a, b), b), a, b)),
        (
            "you look ahead by a part of the step, as the midpoint method and Ralston's do. They are of order 2 as "
            "well, but Heun looks a whole step ahead and takes the mean of both velocities"
        ),
        ahead(1 / 2, 1),
        ahead(2 / 3, 3 / 4),
        (
            "those are two steps of Euler's, of half the size, and their error halves, too: look ahead over the whole "
            "step, and go once, with the mean"
        ),
        two_halves,
        (
            "the next step begins with the velocity of the trial, but at another place than the trial's end: evaluate "
            "it there"
        ),
        reusing,
        "only one of the two velocities is halved: a division comes before a sum, unless there are brackets",
        stepping(lambda v, x, a, b, _: step(x, v(x, a) + v(step(x, v(x, a), a, b), b) / 2, a, b)),
        stepping(lambda v, x, a, b, _: step(x, v(x, a) / 2 + v(step(x, v(x, a), a, b), b), a, b)),
        "the mean is taken over everything, pixels and pictures too: only the two velocities are to be averaged",
        stepping(lambda v, x, a, b, _: x + (b - a) * (v(x, a) + v(step(x, v(x, a), a, b), b)).mean() / 2),
        "your last step is Euler's: here the velocity at t = 0 is fine, and Heun may look there, too",
        euler_at_the_end,
        SIGN,
        stepping(lambda v, x, a, b, _: x - (b - a) * (v(x, a) + v(x - (b - a) * v(x, a), b)) / 2),
    ],
    praise="Every step is Heun's, with two evaluations each,",
)

AB_FIRST = "the first step has no past: it is Euler's"

ab2 = Exercise(
    "ab2",
    reference=sampling.ab2,
    lesson="08",
    number=4,
    partly=OTHERWISE,
    cases=solver_cases(sampling.ab2),
    mistakes=[
        "that is Euler's step: `past`, the velocity of the step before, is not used",
        sampling.euler,
        (
            "right for equal steps; for uneven ones the line through both velocities must be drawn to scale: the last "
            "step was `past_size` long, and you read the line `size / 2` ahead"
        ),
        remembering(lambda here, past, ratio: 1.5 * here - 0.5 * past),
        "the past velocity is added, which gives two velocities in total: the weights must add up to 1",
        remembering(lambda here, past, ratio: 1.5 * here + 0.5 * past),
        remembering(lambda here, past, ratio: here + (here + past) * ratio / 2),
        "here and past are swapped: you extrapolate into the past",
        remembering(lambda here, past, ratio: 1.5 * past - 0.5 * here),
        remembering(lambda here, past, ratio: here + (past - here) * ratio / 2),
        "you take the mean of here and past, which lies *behind* you: the line must be read ahead",
        remembering(lambda here, past, ratio: (here + past) / 2),
        "you read the line a whole step ahead, at the end of the step: its middle is half a step ahead",
        remembering(lambda here, past, ratio: here + (here - past) * ratio),
        remembering(lambda here, past, ratio: 2 * here - past),
        "the ratio of the steps is upside down: a longer step to come reads the line further ahead",
        remembering(lambda here, past, ratio: here + (here - past) / ratio / 2),
        AB_FIRST,
        remembering(lambda here, past, ratio: here + (here - past) * ratio / 2, lambda h: 1.5 * h),
        "your line starts at `past`: the middle of the step lies half a step beyond `here`",
        remembering(lambda here, past, ratio: past + (here - past) * ratio / 2),
        "`a / 2 * b` multiplies by b: to divide by both, put brackets around their product, or divide twice",
        displaced(lambda here, past, t, size, old: size * (here + (here - past) * size / 2 * old)),
        "you read the line at a time of the clock: from `here` it is only `size / 2` to the middle of the step",
        displaced(lambda here, past, t, size, old: size * (here + (here - past) / old * (t + size / 2))),
        displaced(lambda here, past, t, size, old: size * (past + (here - past) / old * (t + size / 2))),
        "the change from past to here needs a ratio of two times, `size / 2` to `past_size`: one of them is missing",
        displaced(lambda here, past, t, size, old: size * (here + (here - past) * size / 2)),
        displaced(lambda here, past, t, size, old: size * (here + (here - past) / old / 2)),
        displaced(lambda here, past, t, size, old: size * (here + (here - past) / old)),
        "that is only the change up to the middle: it has to be added to `here`",
        remembering(lambda here, past, ratio: (here - past) * ratio / 2),
        "the velocity is that of the middle, but the step does not end there: it goes all the way to t_next",
        displaced(lambda here, past, t, size, old: size / 2 * (here + (here - past) * size / old / 2)),
        displaced(
            lambda here, past, t, size, old: size / 2 * (here + (here - past) * size / old / 2),
            lambda here: here / 2,
        ),
        AB_FIRST,
        remembering(lambda here, past, ratio: here + (here - past) * ratio / 2, torch.zeros_like),
        "your first step is Heun's, the usual start in textbooks: here it is Euler's, for one evaluation",
        extrapolated(begin=sampling.heun),
        (
            "what you remember is the velocity of the middle, so `here` has been overwritten or changed in place: give "
            "the middle a name of its own"
        ),
        extrapolated(keeps_middle=True),
        "that is Heun's step, with two evaluations: here the second one is remembered, and costs nothing",
        sampling.heun,
    ],
    praise="Every step remembers the last one, with one evaluation each,",
)
