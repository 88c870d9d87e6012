"""From noise to images: solvers, guidance, and the `Sampler` that puts them together (lesson 08).

A solver integrates any velocity v(x, t) from t = 1 (noise) to t = 0 (data) over `ts = linspace(1, 0, steps + 1)`. It
knows nothing of networks; guidance is a velocity made of two; so all of them compose. `generation.py` has the rest:
settings, labels, seeds, batches.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from dit_course.flow import per_image, step
from dit_course.generation import BaseSampler, Callback, Interval, check_guidance, start

Velocity = Callable[[Tensor, Tensor], Tensor]


def expand_time(t: Tensor, x: Tensor) -> Tensor:
    """The same time for every image: () -> (batch,)."""
    return t.to(x.device, x.dtype).expand(len(x))


def euler(velocity: Velocity, noise: Tensor, ts: Tensor, callback: Callback | None = None) -> Tensor:
    """Follow the velocity in straight steps: order 1, one evaluation a step.

    velocity: v(x, t) with x (batch, ...) and t (batch,). noise: the start, at time ts[0]. ts: (steps + 1,) times,
        downwards.
    callback: called with (index, t, x) before the first step and after each one, so steps + 1 times.
    Returns x at time ts[-1], the shape of noise.
    """
    x, report = start(noise, ts, callback)
    for t, t_next in pairwise(ts):
        x = step(x, velocity(x, expand_time(t, x)), t, t_next)
        report(x)
    return x


def heun(velocity: Velocity, noise: Tensor, ts: Tensor, callback: Callback | None = None) -> Tensor:
    """Look ahead with an Euler step, then go with the mean of both velocities: order 2, two evaluations a step.

    The second velocity of the last step is taken at t = 0, where the network has been trained too (unlike in Karras et
    al. 2022, arXiv 2206.00364, algorithm 1, whose velocity has no value there). Arguments as in `euler`.
    """
    x, report = start(noise, ts, callback)
    for t, t_next in pairwise(ts):
        here = velocity(x, expand_time(t, x))
        there = velocity(step(x, here, t, t_next), expand_time(t_next, x))
        x = step(x, (here + there) / 2, t, t_next)
        report(x)
    return x


def ab2(velocity: Velocity, noise: Tensor, ts: Tensor, callback: Callback | None = None) -> Tensor:
    """Adams-Bashforth: extrapolate the velocity half a step ahead from the last two: order 2, one evaluation a step.

    v_mid = 1.5 v_k - 0.5 v_(k-1) for equal steps; in general the line through both, read at the middle of the step. The
    first step has no past and is Euler's. Arguments as in `euler`.
    """
    x, report = start(noise, ts, callback)
    past, past_size = None, None
    for t, t_next in pairwise(ts):
        here, size = velocity(x, expand_time(t, x)), t_next - t
        middle = here if past is None else here + (here - past) * (size / past_size / 2)
        x = step(x, middle, t, t_next)
        past, past_size = here, size
        report(x)
    return x


SOLVERS = {"euler": euler, "heun": heun, "ab2": ab2}


def guidance_scale(t: Tensor, cfg: float, interval: Interval) -> Tensor:
    """How strongly images at times t (batch,) are guided: cfg inside of the interval, 1 outside.

    Returns (batch,), or () where all are equal, on the CPU: whether it is 1 can be seen without waiting for a GPU (only
    a true interval has to wait for t, once).
    """
    low, high = interval
    everywhere = cfg == 1 or (low, high) == (0, 1)
    inside = torch.ones(1) if everywhere else ((t >= low) & (t <= high)).cpu()
    scale = 1 + (cfg - 1) * inside.double()
    return scale[0] if (scale == scale[0]).all() else scale.to(t.device, t.dtype)


def guided(model: Callable, y: Tensor | None = None, cfg: float = 2.0, interval: Interval = (0.0, 1.0)) -> Velocity:
    """Classifier-free guidance as a velocity v(x, t): v_no_label + cfg (v_label - v_no_label).

    Ho & Salimans 2022, arXiv 2207.12598. cfg 1 is the conditional velocity and 0 the unconditional one: one pass of the
    network each; any other scale costs two, done as one batch of double size. Outside of `interval` the velocity is
    the plain conditional one, for one pass (Kynkaanniemi et al. 2024, arXiv 2404.07724).

    model: a DiT, bare or wrapped (`EMA`, torch.compile, ...), or any callable (x, t, y) with `config.num_classes`.
    y: (batch,) labels; None for a model without classes.
    interval: (low, high) with 0 <= low <= high <= 1, in t.
    """
    model = check_guidance(model, y, cfg, interval)
    if y is None:
        return lambda x, t: model(x, t)
    no_label = torch.full_like(y, model.config.num_classes)  # (batch,)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        scale = guidance_scale(t, cfg, interval)  # (batch,) or (): cfg inside of the interval, 1 outside
        if (scale == 1).all():
            return model(x, t, y)
        if (scale == 0).all():
            return model(x, t, no_label)
        both = model(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, no_label]))  # (2 * batch, ...)
        with_label, without = both.chunk(2)
        return without + per_image(scale, x) * (with_label - without)

    return velocity


class Sampler(BaseSampler):
    """Sample images: noise, a solver, guidance, and back to [0, 1]. Its method `sample` is that of `BaseSampler`.

    model: a DiT, bare or wrapped; it is put into eval mode while it samples, and back afterwards.
    steps: how many steps from noise to data. solver: "euler", "heun", "ab2", or a function like them.
    cfg, cfg_interval: see `guided`. A model without classes takes cfg 1 whatever is set.
    """

    def __init__(
        self,
        model: nn.Module,
        steps: int = 20,
        solver: str | Callable = "euler",
        cfg: float = 2.0,
        cfg_interval: Interval = (0.0, 1.0),
    ):
        super().__init__(model, steps, cfg, cfg_interval)
        self.solver = SOLVERS.get(solver, solver)
        if not callable(self.solver):
            raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, or a function like them, not {solver!r}")

    def integrate(self, noise: Tensor, y: Tensor | None, callback: Callback | None = None) -> Tensor:
        """From noise (batch, channels, height, width) and labels (batch,) to images of this shape in [0, 1]."""
        ts = torch.linspace(1, 0, self.steps + 1, device=noise.device)
        velocity = guided(self.model, y, self.cfg, self.cfg_interval)
        x = self.solver(velocity, noise, ts, callback)
        return ((x.float() + 1) / 2).clamp(0, 1)  # [-1, 1] -> [0, 1]


def class_grid(sampler: BaseSampler, per_class: int, seed: int) -> Tensor:
    """A row of images for every class, from the same noises in every row: what a column shares is its noise.

    Returns (classes * per_class, channels, height, width), row by row, in [0, 1].
    """
    rows = [sampler.sample(per_class, labels=label, seed=seed) for label in sampler.classes]
    return torch.cat(rows)  # classes x (per_class, c, h, w) -> (classes * per_class, c, h, w)


def invert(velocity: Velocity, images: Tensor, steps: int) -> Tensor:
    """The noise that leads to these images: the same ODE, integrated from t = 0 to t = 1 in steps of `heun`.

    images: (batch, ...) in [-1, 1]. Returns noise of the same shape. (Song et al. 2020, arXiv 2010.02502, section
    4.3, do it with DDIM.)
    """
    return heun(velocity, images, torch.linspace(0, 1, steps + 1))
