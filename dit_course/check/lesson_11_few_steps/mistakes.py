"""Plausible wrong versions of lesson 11's exercises: right but for the part that is given."""

import inspect
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from dit_course import few_steps
from dit_course.flow import per_image, step
from dit_course.generation import Callback, start
from dit_course.sampling import expand_time


def bent(
    velocities: Callable = lambda changes, sizes: changes / per_image(sizes, changes),
    straight: Callable = lambda velocities, states, sizes: (states[-1] - states[0]) / sizes.sum(),
    distance: Callable = lambda x: x.square().flatten(2).sum(dim=2).mean(dim=1),
    mean: Callable = lambda apart, sizes: (apart * sizes).sum() / sizes.sum(),
) -> Callable:
    """A wrong `straightness`."""

    def wrong(states, ts):
        sizes = ts.diff()
        pieces = velocities(states.diff(dim=0), sizes)
        return mean(distance(pieces - straight(pieces, states, sizes)), sizes)

    return wrong


def halves(
    middle: Callable = lambda t, s: (t + s) / 2,
    first: Callable = lambda t, m, s: (t, m),
    second: Callable = lambda t, m, s: (m, s),
    start: Callable = lambda x, first, t, m, s: step(x, first, t, m),
    join: Callable = lambda first, second: (first + second) / 2,
) -> Callable:
    """A wrong `shortcut_target`. first, second: what the halves are told."""

    def wrong(u, x, t, s):
        m = middle(t, s)
        one = u(x, *first(t, m, s))
        return join(one, u(start(x, one, t, m, s), *second(t, m, s)))

    return wrong


def ends(u: Callable, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Where two half steps end."""
    return step(x, few_steps.shortcut_target(u, x, t, s), t, s)


def loss(
    target: Callable = torch.where,
    student: Callable = lambda t, s: (t, s),
    half_steps: Callable = lambda student, average, x, t, s: few_steps.shortcut_target(average, x, t, s),
    reduce: Callable = lambda error: error.square().mean(),
    swapped: bool = False,
) -> Callable:
    """A wrong `consistency_loss`. student: what it is told."""

    def wrong(model, average, x, t, s, velocity):
        if swapped:
            model, average = average, model
        with torch.no_grad():
            zero = per_image(t - s, x) == 0
            wanted = target(zero, velocity, half_steps(model, average, x, t, s))
        return reduce(model(x, *student(t, s)) - wanted)

    return wrong


def both_losses(model: Callable, average: Callable, x: Tensor, t: Tensor, s: Tensor, velocity: Tensor) -> Tensor:
    """The error against the velocity, and that against two half steps, added."""
    with torch.no_grad():
        halves = few_steps.shortcut_target(average, x, t, s)
    predicted = model(x, t, s)
    return (predicted - velocity).square().mean() + (predicted - halves).square().mean()


def sampled(
    times: Callable = lambda t, t_next: (t, t_next),
    cfg: Callable = lambda cfg: cfg,
    end: Callable = lambda x: ((x + 1) / 2).clamp(0, 1),
    ts: Callable = lambda count: torch.linspace(1, 0, count + 1),
    move: Callable = step,
) -> type:
    """A wrong `FewStepSampler`. times: what the student is told."""

    class Wrong(few_steps.FewStepSampler):
        def integrate(self, noise: Tensor, y: Tensor | None, callback: Callback | None = None) -> Tensor:
            average = self.model.at(y, expand_time(torch.tensor(cfg(self.cfg)), noise))
            x, report = start(noise, ts(self.steps), callback)
            for t, t_next in pairwise(ts(self.steps)):
                u = average(x, *(expand_time(time, x) for time in times(t, t_next)))
                x = move(x, u, t, t_next)
                report(x)
            return end(x)

    return Wrong


def mean_flow(
    along: Callable = lambda v, t, u: (v, torch.ones_like(t)),
    join: Callable = lambda v, span, change: v - span * change,
    moving_end: bool = False,
) -> Callable:
    """A wrong `mean_flow_target`. along: the direction of the derivative."""

    def given(function: Callable, *values: Tensor, **more: Tensor) -> Tensor:
        wanted = inspect.signature(function).parameters
        return function(*values, **{name: value for name, value in more.items() if name in wanted})

    def wrong(average, x, t, s, velocity):
        with torch.no_grad():
            u = average(x, t, s)
            direction = given(along, velocity, t, u, x=x)
            ahead = (
                (lambda x, time: average(x, time, s + time - t)) if moving_end else lambda x, time: average(x, time, s)
            )
            _, change = torch.func.jvp(ahead, (x, t), direction)
        return given(join, velocity, per_image(t - s, x), change, u=u)

    return wrong
