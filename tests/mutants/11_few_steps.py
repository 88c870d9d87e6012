"""Lesson 11: what people write for straightness, average velocities, targets, the loss and the few-step sampler."""

from itertools import pairwise

import torch
import torch.nn.functional as F

from dit_course import few_steps
from dit_course.check.stretch_solutions import consistency_loss, straightness
from dit_course.flow import per_image, step
from dit_course.generation import start
from dit_course.sampling import expand_time
from mutants import mutant, right_answer

# -- straightness ----------------------------------------------------------------------------------


@right_answer(exercise="straightness")
def piece_by_piece(states, ts):
    straight, total = (states[-1] - states[0]) / (ts[-1] - ts[0]), 0
    for (x, x_next), (t, t_next) in zip(pairwise(states), pairwise(ts), strict=True):
        apart = ((x_next - x) / (t_next - t) - straight).flatten(1).square().sum(dim=1).mean()
        total = total + apart * (t_next - t) / (ts[-1] - ts[0])
    return total


@right_answer(exercise="straightness")
def variance_of_the_velocity(states, ts):
    weights = ts.diff() / (ts[-1] - ts[0])
    velocities = states.diff(dim=0).flatten(2) / ts.diff()[:, None, None]
    mean = (weights[:, None, None] * velocities).sum(0)
    square = (weights[:, None, None] * velocities**2).sum(0)
    return (square - mean**2).sum(-1).mean()


@right_answer(exercise="straightness")
def by_einsum(states, ts):
    changes, sizes = states.diff(dim=0).flatten(2), ts.diff().abs()
    velocities = changes / sizes[:, None, None]
    away = velocities - torch.einsum("snd->nd", changes) / sizes.sum()
    return torch.einsum("snd,s->", away**2, sizes / sizes.sum()) / states.shape[1]


@mutant(exercise="straightness", hint="it should be a tensor")
def a_number(states, ts):
    return straightness(states, ts).item()


@mutant(exercise="straightness", hint="your answer has shape")
def one_for_each_path(states, ts):
    sizes = ts.diff()
    away = states.diff(dim=0) / per_image(sizes, states[1:]) - (states[-1] - states[0]) / sizes.sum()
    return (away.square().flatten(2).sum(2) * sizes[:, None]).sum(0) / sizes.sum()


@mutant(exercise="straightness", hint="per_image(sizes, ...) shapes them")
def sizes_not_shaped(states, ts):
    velocities = states.diff(dim=0) / ts.diff()
    straight = (states[-1] - states[0]) / (ts[-1] - ts[0])
    return (velocities - straight).square().sum(-1).mean()


# -- path_target -----------------------------------------------------------------------------------


@right_answer(exercise="path_target")
def both_turned(x_t, x_next, t, t_next):
    return (x_next - x_t) / per_image(t_next - t, x_t)


@right_answer(exercise="path_target")
def picture_by_picture(x_t, x_next, t, t_next):
    return torch.stack([(x_t[i] - x_next[i]) / (t[i] - t_next[i]) for i in range(len(t))])


@right_answer(exercise="path_target")
def by_view(x_t, x_next, t, t_next):
    span = (t - t_next).view(-1, *[1] * (x_t.ndim - 1))
    return x_t / span - x_next / span


@mutant(exercise="path_target", hint="does yours fit one number of axes only?")
def four_axes(x_t, x_next, t, t_next):
    return (x_t - x_next) / (t - t_next).reshape(-1, 1, 1, 1)


@mutant(exercise="path_target", hint="changes its input in place")
def in_place(x_t, x_next, t, t_next):
    x_t -= x_next
    return x_t / per_image(t - t_next, x_t)


@mutant(exercise="path_target", hint="no gradient gets through")
def detached(x_t, x_next, t, t_next):
    return few_steps.path_target(x_t, x_next, t, t_next).detach()


# -- shortcut_target -------------------------------------------------------------------------------


@right_answer(exercise="shortcut_target")
def by_the_displacement(average, x_t, t, t_next):
    middle = torch.lerp(t, t_next, 0.5)
    first = average(x_t, t, middle)
    half = x_t - per_image(t - middle, x_t) * first
    return 0.5 * first + 0.5 * average(half, middle, t_next)


@right_answer(exercise="shortcut_target")
def in_a_loop(average, x_t, t, t_next):
    times = [t, t - (t - t_next) / 2, t_next]
    x, found = x_t, []
    for a, b in pairwise(times):
        found.append(average(x, a, b))
        x = step(x, found[-1], a, b)
    return torch.stack(found).mean(dim=0)


@right_answer(exercise="shortcut_target")
def with_axes(average, x_t, t, t_next):
    half = (t - t_next) / 2
    first = average(x_t, t, t_next + half)
    size = half.reshape(-1, *[1] * (x_t.ndim - 1))
    second = average(x_t - size * first, t_next + half, t_next)
    return first + (second - first) / 2


@mutant(exercise="shortcut_target", hint="is evaluated 3 times, and 2 are enough")
def evaluated_again(average, x_t, t, t_next):
    middle = (t + t_next) / 2
    half = step(x_t, average(x_t, t, middle), t, middle)
    return (average(x_t, t, middle) + average(half, middle, t_next)) / 2


@mutant(exercise="shortcut_target", hint="each picture needs its own")
def a_mean_time(average, x_t, t, t_next):
    return average(x_t, t, (t + t_next).mean() / 2)


@mutant(exercise="shortcut_target", hint="`average` is a function")
def never_called(average, x_t, t, t_next):
    return (average + average) / 2


@mutant(exercise="shortcut_target", hint="per_image(t, x_t) shapes it, and `step` does that")
def by_hand(average, x_t, t, t_next):
    middle = (t + t_next) / 2
    first = average(x_t, t, middle)
    return (first + average(x_t + (middle - t) * first, middle, t_next)) / 2


@mutant(exercise="shortcut_target", hint="no gradient gets through")
def without_gradient(average, x_t, t, t_next):
    with torch.no_grad():
        return few_steps.shortcut_target(average, x_t, t, t_next)


# -- consistency_loss ------------------------------------------------------------------------------


@right_answer(exercise="consistency_loss")
def in_two_parts(student, average, x_t, t, t_next, velocity):
    zero = t == t_next
    target = velocity.detach().clone()
    with torch.no_grad():
        target[~zero] = few_steps.shortcut_target(average, x_t[~zero], t[~zero], t_next[~zero])
    return F.mse_loss(student(x_t, t, t_next), target)


@right_answer(exercise="consistency_loss")
def with_detach(student, average, x_t, t, t_next, velocity):
    halves = few_steps.shortcut_target(average, x_t, t, t_next).detach()
    zero = per_image((t == t_next).to(x_t.dtype), x_t)
    target = zero * velocity + (1 - zero) * halves
    return ((target - student(x_t, t, t_next)) ** 2).mean()


@right_answer(exercise="consistency_loss")
@torch.no_grad()
def first_the_target(student, average, x_t, t, t_next, velocity):
    target = few_steps.shortcut_target(average, x_t, t, t_next)
    target = torch.stack([target[i] if t[i] > t_next[i] else velocity[i] for i in range(len(t))])
    with torch.enable_grad():
        return (student(x_t, t, t_next) - target).pow(2).mean()


@mutant(exercise="consistency_loss", hint="gradients get through the target, and both sides move")
def both_sides_move(student, average, x_t, t, t_next, velocity):
    """Right where another network takes the half steps, wrong where the student does."""
    frozen = average if average is student else lambda *given: average(*given).detach()
    halves = few_steps.shortcut_target(frozen, x_t, t, t_next)
    target = torch.where(per_image(t - t_next, x_t) == 0, velocity, halves)
    return (student(x_t, t, t_next) - target).square().mean()


@mutant(exercise="consistency_loss", hint="also reaches `average`")
def no_constant(student, average, x_t, t, t_next, velocity):
    halves = few_steps.shortcut_target(average, x_t, t, t_next)
    target = torch.where(per_image(t - t_next, x_t) == 0, velocity, halves)
    return (student(x_t, t, t_next) - target).square().mean()


@mutant(exercise="consistency_loss", hint="no gradient")
def nothing_learns(student, average, x_t, t, t_next, velocity):
    with torch.no_grad():
        return consistency_loss(student, average, x_t, t, t_next, velocity)


@mutant(exercise="consistency_loss", hint="only the target is a constant")
def the_wrong_side(student, average, x_t, t, t_next, velocity):
    halves = few_steps.shortcut_target(average, x_t, t, t_next)
    target = torch.where(per_image(t - t_next, x_t) == 0, velocity, halves)
    return (student(x_t, t, t_next).detach() - target).square().mean()


@mutant(exercise="consistency_loss", hint="your answer has shape")
def not_reduced(student, average, x_t, t, t_next, velocity):
    halves = few_steps.shortcut_target(average, x_t, t, t_next).detach()
    target = torch.where(per_image(t - t_next, x_t) == 0, velocity, halves)
    return (student(x_t, t, t_next) - target).square()


# -- FewStepSampler --------------------------------------------------------------------------------


def sampler(integrate, name):
    """A sampler that integrates like this."""
    return type(name, (few_steps.FewStepSampler,), {"integrate": integrate})


def written(integrate):
    """A class for a wrong or right `integrate`, under its name."""
    return sampler(integrate, integrate.__name__)


def telling(velocity):
    """A class whose steps go along `velocity(average, x, noise, t, t_next)`, under its name."""

    def integrate(self, noise, y, callback=None):
        ts = torch.linspace(1, 0, self.steps + 1)
        average = self.model.at(y, expand_time(torch.tensor(self.cfg), noise))
        x, report = start(noise, ts, callback)
        for t, t_next in pairwise(ts):
            x = step(x, velocity(average, x, noise, expand_time(t, x), expand_time(t_next, x)), t, t_next)
            report(x)
        return ((x + 1) / 2).clamp(0, 1)

    return sampler(integrate, velocity.__name__)


@right_answer(exercise="FewStepSampler")
@written
def by_index(self, noise, y, callback=None):
    ts = torch.linspace(1, 0, self.steps + 1)
    x, report = start(noise, ts, callback)
    cfg = torch.full((len(x),), float(self.cfg))
    for i in range(self.steps):
        t, t_next = ts[i].repeat(len(x)), ts[i + 1].repeat(len(x))
        x = x - (ts[i] - ts[i + 1]) * self.model(x, t, y, t_next, cfg)
        report(x)
    return x.float().add(1).div(2).clamp(0, 1)


@right_answer(exercise="FewStepSampler")
@written
def counting_down(self, noise, y, callback=None):
    x, n = noise, len(noise)
    average = self.model.at(y, noise.new_full((n,), self.cfg))
    if callback:
        callback(0, 1.0, x)
    for k in range(self.steps, 0, -1):
        x = x - average(x, torch.full((n,), k / self.steps), torch.full((n,), (k - 1) / self.steps)) / self.steps
        if callback:
            callback(self.steps - k + 1, (k - 1) / self.steps, x)
    return torch.clip(0.5 + 0.5 * x, min=0, max=1)


@right_answer(exercise="FewStepSampler")
@written
def with_a_helper(self, noise, y, callback=None):
    ts = torch.linspace(1, 0, self.steps + 1)
    x, report = start(noise, ts, callback)
    for times in pairwise(ts):
        t, t_next = (expand_time(time, x) for time in times)
        x = step(x, self.model(x, t, y, t_next, torch.full_like(t, self.cfg)), t, t_next)
        report(x)
    return torch.clamp((x + 1) / 2, 0, 1)


@mutant(exercise="FewStepSampler", hint="callback is not told every state")
@written
def silent(self, noise, y, callback=None):
    return few_steps.FewStepSampler.integrate(self, noise, y)


@mutant(exercise="FewStepSampler", hint="which state, and which times, does each further step get?")
@telling
def always_from_the_noise(average, x, noise, t, t_next):
    return average(noise, t, t_next)


@mutant(exercise="FewStepSampler", hint="which state, and which times, does each further step get?")
@telling
def always_to_the_end(average, x, noise, t, t_next):
    return average(x, t, torch.zeros(len(x)))


@mutant(exercise="FewStepSampler", hint="does the time at which a step begins come first?")
@telling
def swapped_times(average, x, noise, t, t_next):
    return average(x, t_next, t)


@mutant(exercise="FewStepSampler", hint="do your times run down")
@written
def upwards(self, noise, y, callback=None):
    average = self.model.at(y, expand_time(torch.tensor(self.cfg), noise))
    x, report = start(noise, torch.linspace(0, 1, self.steps + 1), callback)
    for t, t_next in pairwise(torch.linspace(0, 1, self.steps + 1)):
        x = step(x, average(x, expand_time(t, x), expand_time(t_next, x)), t, t_next)
        report(x)
    return ((x + 1) / 2).clamp(0, 1)


@mutant(exercise="FewStepSampler", hint="evaluations for 1 steps: one each")
@written
def evaluated_twice(self, noise, y, callback=None):
    self.model(noise, torch.ones(len(noise)), y)
    return few_steps.FewStepSampler.integrate(self, noise, y, callback)


@mutant(exercise="FewStepSampler", hint="leave its first line")
class OnItsOwn:
    def __init__(self, student, steps=1, cfg=2.5):
        self.model, self.steps, self.cfg = student, steps, cfg

    def integrate(self, noise, y, callback=None):
        return few_steps.FewStepSampler.integrate(self, noise, y, callback)


# -- mean_flow_target ------------------------------------------------------------------------------


@right_answer(exercise="mean_flow_target")
@torch.no_grad()
def along_a_line(average, x_t, t, t_next, velocity):
    def u(s):
        return average(x_t + per_image(s, x_t) * velocity, t + s, t_next)

    _, change = torch.func.jvp(u, (torch.zeros_like(t),), (torch.ones_like(t),))
    return velocity - per_image(t - t_next, x_t) * change


@right_answer(exercise="mean_flow_target")
def with_three_inputs(average, x_t, t, t_next, velocity):
    directions = (velocity, torch.ones_like(t), torch.zeros_like(t_next))
    with torch.no_grad():
        change = torch.func.jvp(average, (x_t, t, t_next), directions)[1]
    return (velocity + per_image(t_next - t, x_t) * change).detach()


@right_answer(exercise="mean_flow_target")
def by_a_difference(average, x_t, t, t_next, velocity):
    tiny = 1e-4
    with torch.no_grad():
        ahead = average(x_t + tiny * velocity, t + tiny, t_next)
        behind = average(x_t - tiny * velocity, t - tiny, t_next)
        return velocity - per_image(t - t_next, x_t) * (ahead - behind) / (2 * tiny)


@mutant(exercise="mean_flow_target", hint="gradients get through your target")
def with_history(average, x_t, t, t_next, velocity):
    along = (velocity, torch.ones_like(t))
    _, change = torch.func.jvp(lambda x, time: average(x, time, t_next), (x_t, t), along)
    return velocity - per_image(t - t_next, x_t) * change


@mutant(exercise="mean_flow_target", hint="the value, and how it changes")
def three_results(average, x_t, t, t_next, velocity):
    _, change, _ = torch.func.jvp(lambda x, s: average(x, s, t_next), (x_t, t), (velocity, torch.ones_like(t)))
    return velocity - per_image(t - t_next, x_t) * change


@mutant(exercise="mean_flow_target", hint="each picture needs its own")
def one_time(average, x_t, t, t_next, velocity):
    return velocity - average(x_t, t.mean(), t_next)
