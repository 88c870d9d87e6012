"""Plausible wrong versions of lesson 08's exercises, and the velocities and models that they are told apart on."""

import contextlib
import itertools
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType, SimpleNamespace

import torch
from torch import Tensor, nn

from dit_course import sampling
from dit_course.check.engine.modules import AnswerError, explain_errors
from dit_course.flow import per_image, step
from dit_course.sampling import expand_time


class Gaussian:
    """The exact velocity of data from N(0, s^2)."""

    def __init__(self, s: float):
        self.s = s

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """(batch, ...), (batch,) -> (batch, ...)."""
        t = per_image(t, x)
        return (t - (1 - t) * self.s**2) / ((1 - t) ** 2 * self.s**2 + t**2) * x


def waves(x: Tensor, t: Tensor) -> Tensor:
    """A velocity that bends in x and in t."""
    return torch.sin(3 * x) + per_image(t, x) ** 2


class Formula(nn.Module):
    """A model that predicts by a formula, refuses nonsense, and counts calls and pictures. num_classes: or None."""

    def __init__(self, num_classes: int | None = 4, shape: tuple[int, int, int] = (1, 3, 2)):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.config = SimpleNamespace(num_classes=num_classes, channels=shape[0], image_shape=shape[1:])
        self.evaluated = self.calls = 0

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """x (batch, ...), t (batch,), y (batch,). Raises AnswerError when these do not belong together."""
        last = self.config.num_classes
        if y is None and last is not None:
            raise AnswerError(
                "the model is called without labels: it wants `y` or, where the label is to be hidden, `no_label`; and "
                "a solver does not integrate the model itself, but a velocity v(x, t), which `guided` makes of it"
            )
        if not isinstance(t, Tensor) or t.shape != x.shape[:1]:
            raise AnswerError(TIMES.format(len(x), tuple(t.shape) if isinstance(t, Tensor) else t))
        if y is None:
            y = torch.zeros(len(x))
        elif y.shape != x.shape[:1]:
            raise AnswerError(f"the model is given {len(x)} pictures and labels of shape {tuple(y.shape)}: one each")
        elif y.is_floating_point() or int(y.min()) < 0 or int(y.max()) > last:
            raise AnswerError(f'the model knows the labels 0 to {last - 1}, and {last} is its "no label": `no_label`')
        self.evaluated += len(x)
        self.calls += 1
        return self.weight * (torch.sin(2 * x) * (0.3 + 0.2 * per_image(y, x) ** 2) + per_image(t, x) * x - 0.4)


TIMES = "there are {} pictures and times of shape {}: each picture needs its time, in a tensor of shape (batch,)"


SLIPS = {  # words of an error in a solver, and what is said behind them
    "'function'": "`velocity` is a function here: call it first, with x and its time, and use what it returns",
    "'method'": "`velocity` is a function here: call it first, with x and its time, and use what it returns",
    "'NoneType'": "in the first step there is no past, and `past` is None: check that first",
    "Boolean value of Tensor": "a tensor is neither true nor false: check whether `past is None`",
    "len() of a 0-d tensor": "`velocity(x, t)` and `expand_time(t, x)`: are the two in the right order?",
    "has no attribute 'ndim'": "a solver wants a row of times, as torch.linspace makes it",
    "Tensors, not Tensor": "torch.cat takes one list: torch.cat([a, b])",
    "too many values to unpack": "`split` takes the length of a piece, `chunk` the number of pieces",
}
GUIDANCE_SLIPS = {
    "Boolean value of Tensor": "there may be one scale for each picture: check whether it is so for all of them",
    "must match the size": "`scale` may have one number for each picture: per_image(scale, x) shapes it for the batch",
}


def slips_explained(more: Mapping[str, str] = MappingProxyType({})) -> contextlib.AbstractContextManager[None]:
    """For errors that torch words for others than beginners. more: words that mean something else here."""
    return explain_errors({**SLIPS, **more})


IN_PLACE = (
    "the halves that `chunk` and `split` give are views of one batch, and are changed in place: make a new tensor "
    "(`a = a - b` does, `a -= b` does not)"
)


# -- solvers -----------------------------------------------------------------------------------------


def stepping(rule: Callable) -> Callable:
    """A wrong solver: rule(v, x, t, t_next, noise) gives the next state; v(x, t) takes one time."""

    def wrong(velocity, noise, ts):
        x = noise
        for t, t_next in pairwise(ts):
            x = rule(lambda x, t: velocity(x, expand_time(t, x)), x, t, t_next, noise)
        return x

    return wrong


def remembering(middle: Callable, first: Callable = lambda here: here) -> Callable:
    """A wrong `ab2`: middle(here, past, ratio of the steps' sizes) is the velocity it goes with."""
    return displaced(lambda here, past, t, size, past_size: size * middle(here, past, size / past_size), first)


def displaced(move: Callable, first: Callable = lambda here: here) -> Callable:
    """A wrong `ab2`: move(here, past, t, size, past_size) is how far a step goes, but for the first."""

    def wrong(velocity, noise, ts):
        x, past, past_size = noise, None, None
        for t, t_next in pairwise(ts):
            here, size = velocity(x, expand_time(t, x)), t_next - t
            x = x + (size * first(here) if past is None else move(here, past, t, size, past_size))
            past, past_size = here, size
        return x

    return wrong


def extrapolated(begin: Callable = sampling.euler, keeps_middle: bool = False) -> Callable:
    """A wrong `ab2`. begin: the solver of the first step. keeps_middle: whether it remembers the middle's velocity."""

    def wrong(velocity, noise, ts):
        x, past, past_size = noise, None, None
        for t, t_next in pairwise(ts):
            here, size = velocity(x, expand_time(t, x)), t_next - t
            middle = here if past is None else here + (here - past) * (size / past_size / 2)
            x = begin(velocity, x, torch.stack([t, t_next])) if past is None else step(x, middle, t, t_next)
            past, past_size = middle if keeps_middle else here, size
        return x

    return wrong


def equal_steps(velocity, noise: Tensor, ts: Tensor) -> Tensor:
    """Euler whose steps are all 1 / steps."""
    x = noise
    for t in ts[:-1]:
        x = x - velocity(x, expand_time(t, x)) / (len(ts) - 1)
    return x


def trapezoid(v: Callable, x: Tensor, t: Tensor, t_next: Tensor, ahead: Tensor, late: Tensor) -> Tensor:
    """Heun's mean, where the second velocity is taken at `ahead` and at the time `late`."""
    return step(x, (v(x, t) + v(ahead, late)) / 2, t, t_next)


def ahead(share: float, weight: float) -> Callable:
    """Another method of second order: it looks ahead by a share of the step, and gives that velocity a weight."""

    def rule(v, x, t, t_next, noise):
        later = t + share * (t_next - t)
        here = v(x, t)
        return step(x, (1 - weight) * here + weight * v(step(x, here, t, later), later), t, t_next)

    return stepping(rule)


def two_halves(velocity, noise: Tensor, ts: Tensor) -> Tensor:
    """Euler with steps of half the size."""
    middles = (ts[:-1] + ts[1:]) / 2
    return sampling.euler(velocity, noise, torch.cat([ts, middles]).sort(descending=True).values)


def reusing(velocity, noise: Tensor, ts: Tensor) -> Tensor:
    """Heun that takes the velocity of its trial for the first one of the next step."""
    x, here = noise, velocity(noise, expand_time(ts[0], noise))
    for t, t_next in pairwise(ts):
        there = velocity(step(x, here, t, t_next), expand_time(t_next, x))
        x, here = step(x, (here + there) / 2, t, t_next), there
    return x


def euler_at_the_end(velocity, noise: Tensor, ts: Tensor) -> Tensor:
    """Heun, but for the last step (Karras et al. 2022 need that; here nothing does)."""
    x = sampling.heun(velocity, noise, ts[:-1]) if len(ts) > 2 else noise
    return sampling.euler(velocity, x, ts[-2:])


# -- guidance ----------------------------------------------------------------------------------------


def mixed(mix: Callable, decide: Callable = lambda inside: inside) -> Callable:
    """A wrong `guided`: mix(with label, without, scale) is the velocity.

    decide: where guidance acts, from where t lies inside of the interval (batch,).
    """

    def wrong(model, y, cfg, interval, x, t):
        if y is None:
            return model(x, t)
        inside = decide((t >= interval[0]) & (t <= interval[1])).expand(len(x))
        scale = per_image(1 + (cfg - 1) * inside.to(x.dtype), x)
        no_label = torch.full_like(y, model.config.num_classes)
        return mix(model(x, t, y), model(x, t, no_label), scale)

    return wrong


def guide(with_label: Tensor, without: Tensor, scale: Tensor) -> Tensor:
    """The right mixture."""
    return without + scale * (with_label - without)


def one_pass(where: Callable, hidden: bool = False) -> Callable:
    """A wrong `guided`: where all scales are so, one prediction is taken. hidden: the one without the label."""

    def wrong(model, y, cfg, interval, x, t):
        if y is None or not where(sampling.guidance_scale(t, cfg, interval)).all():
            return sampling.guided(model, y, cfg, interval)(x, t)
        return model(x, t, torch.full_like(y, model.config.num_classes) if hidden else y)

    return wrong


def each_twice(a: Tensor, b: Tensor) -> Tensor:
    """Pairs beside each other, as repeat_interleave makes them: (batch, ...) -> (2 * batch, ...)."""
    return torch.stack([a, b], dim=1).flatten(0, 1)


def doubled(*joined: Callable) -> Callable:
    """A wrong `guided`: how pictures, times and labels are doubled."""

    def wrong(model, y, cfg, interval, x, t):
        scale = 1 if y is None else sampling.guidance_scale(t, cfg, interval)
        if y is None or (scale == 1).all():
            return sampling.guided(model, y, 1.0)(x, t)
        pairs = (x, x), (t, t), (y, torch.full_like(y, model.config.num_classes))
        with_label, without = model(*(join(*pair) for join, pair in zip(joined, pairs, strict=True))).chunk(2)
        return guide(with_label, without, per_image(scale, x))

    return wrong


def batch_twice(a: Tensor, b: Tensor) -> Tensor:
    """One batch behind the other."""
    return torch.cat([a, b])


DOUBLED = [
    doubled(*joined)
    for joined in itertools.product((batch_twice, each_twice), repeat=3)
    if joined != (batch_twice, batch_twice, batch_twice)
]


def inside_or_nothing(model, y: Tensor, cfg: float, interval: tuple, x: Tensor, t: Tensor) -> Tensor:
    """Outside of the interval without the label, instead of with it."""
    inside = per_image((t >= interval[0]) & (t <= interval[1]), x).bool()
    no_label = torch.full_like(y, model.config.num_classes)
    without = model(x, t, no_label)
    return torch.where(inside, guide(model(x, t, y), without, torch.tensor(cfg)), without)


# -- the Sampler -------------------------------------------------------------------------------------


def sampled_with(**changes) -> Callable:
    """A wrong `Sampler`: one thing of `integrate` done otherwise."""

    def wrong(model, settings, n, labels, seed):
        class Wrong(sampling.Sampler):
            def integrate(self, noise, y, callback=None):
                ts = changes.get("ts", lambda steps: torch.linspace(1, 0, steps + 1))(self.steps)
                cfg, interval = changes.get("guide", lambda cfg, interval: (cfg, interval))(self.cfg, self.cfg_interval)
                x = changes.get("solver", self.solver)(sampling.guided(self.model, y, cfg, interval), noise, ts)
                return changes.get("end", clip)(x)

        return Wrong(model, **settings).sample(n, labels, seed=seed)

    return wrong


def clip(x: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]."""
    return ((x + 1) / 2).clamp(0, 1)


# -- class_grid --------------------------------------------------------------------------------------


def in_one_go(sampler: sampling.Sampler, per_class: int, seed: int, order: str = "rows") -> Tensor:
    """All pictures at once, so that each has a noise of its own."""
    classes = torch.arange(sampler.model.config.num_classes)
    labels = classes.repeat_interleave(per_class) if order == "rows" else classes.repeat(per_class)
    return sampler.sample(len(labels), labels, seed=seed)


def in_rows(sampler: sampling.Sampler, per_class: int, seed: int, another: int = 0, labelled: bool = True) -> Tensor:
    """Row by row. another: how much the seed grows from row to row. labelled: whether a row is one class."""
    classes = range(sampler.model.config.num_classes)
    rows = [sampler.sample(per_class, i if labelled else None, seed=seed + another * i) for i in classes]
    return torch.cat(rows)


def in_columns(sampler: sampling.Sampler, per_class: int, seed: int) -> Tensor:
    """Picture by picture, with a seed for every column."""
    classes = range(sampler.model.config.num_classes)
    return torch.cat([sampler.sample(1, i, seed=seed + column) for i in classes for column in range(per_class)])


def turned(sampler: sampling.Sampler, per_class: int, seed: int) -> Tensor:
    """A column for every class."""
    pictures = sampling.class_grid(sampler, per_class, seed)
    return pictures.unflatten(0, (-1, per_class)).transpose(0, 1).flatten(0, 1)
