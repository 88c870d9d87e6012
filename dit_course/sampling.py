"""From noise to pictures: solvers, guidance, and the `Sampler` that puts them together (lesson 08).

A solver follows any velocity v(x, t) from t = 1 (noise) to t = 0 (data) over `ts = linspace(1, 0, steps + 1)`. It knows
nothing of networks; guidance is a velocity made of two; so all of them compose.
"""

import math
import operator
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from dit_course.conditioning import check_labels
from dit_course.flow import per_image, step

Velocity = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[int, float, Tensor], None]
Model = Callable[..., Tensor]  # a DiT, or anything that is called like one
Interval = tuple[float, float]  # of times, (low, high)


def first_state(noise: Tensor, ts: Tensor, callback: Callback | None) -> Tensor:
    """Where every solver starts: the noise, as it is. Raises ValueError when ts is no row of times."""
    if ts.ndim != 1 or len(ts) < 2:
        raise ValueError(
            f"ts has shape {tuple(ts.shape)}, expected (steps + 1,), as in torch.linspace(1, 0, steps + 1)"
        )
    notify(callback, 0, ts[0], noise)
    return noise


def expand_time(t: Tensor, x: Tensor) -> Tensor:
    """The same time for every picture: () -> (batch,)."""
    return t.to(x.device, x.dtype).expand(len(x))


def notify(callback: Callback | None, index: int, t: Tensor, x: Tensor) -> None:
    """Tell the callback, where there is one, that state number `index` is x, at time t."""
    if callback is not None:
        callback(index, float(t), x)


def euler(velocity: Velocity, noise: Tensor, ts: Tensor, callback: Callback | None = None) -> Tensor:
    """Follow the velocity in straight steps: order 1, one evaluation a step.

    velocity: v(x, t) with x (batch, ...) and t (batch,). noise: the start, at time ts[0]. ts: (steps + 1,) times,
        downwards.
    callback: called with (index, t, x) before the first step and after each one, so steps + 1 times.
    Returns x at time ts[-1], the shape of noise.
    """
    x = first_state(noise, ts, callback)
    for index, (t, t_next) in enumerate(pairwise(ts), start=1):
        x = step(x, velocity(x, expand_time(t, x)), t, t_next)
        notify(callback, index, t_next, x)
    return x


def heun(velocity: Velocity, noise: Tensor, ts: Tensor, callback: Callback | None = None) -> Tensor:
    """Look ahead with an Euler step, then go with the mean of both velocities: order 2, two evaluations a step.

    The second velocity of the last step is taken at t = 0, where the network has been trained too (unlike in Karras et
    al. 2022, arXiv 2206.00364, algorithm 1, whose velocity has no value there). Arguments as in `euler`.
    """
    x = first_state(noise, ts, callback)
    for index, (t, t_next) in enumerate(pairwise(ts), start=1):
        here = velocity(x, expand_time(t, x))
        there = velocity(step(x, here, t, t_next), expand_time(t_next, x))
        x = step(x, (here + there) / 2, t, t_next)
        notify(callback, index, t_next, x)
    return x


def ab2(velocity: Velocity, noise: Tensor, ts: Tensor, callback: Callback | None = None) -> Tensor:
    """Adams-Bashforth: guess the velocity half a step ahead from the last two: order 2, one evaluation a step.

    v_mid = 1.5 v_k - 0.5 v_(k-1) for equal steps; in general the line through both, read at the middle of the step. The
    first step has no past and is Euler's. Arguments as in `euler`.
    """
    x = first_state(noise, ts, callback)
    past, past_size = None, None
    for index, (t, t_next) in enumerate(pairwise(ts), start=1):
        here, size = velocity(x, expand_time(t, x)), t_next - t
        middle = here if past is None else here + (here - past) * (size / past_size / 2)
        x = step(x, middle, t, t_next)
        past, past_size = here, size
        notify(callback, index, t_next, x)
    return x


SOLVERS = {"euler": euler, "heun": heun, "ab2": ab2}


def has_labels(model: Model, y: Tensor | None, cfg: float, interval: Interval) -> bool:
    """Whether there are labels to guide with. Raises ValueError for guidance that makes no sense."""
    _check_guidance(cfg, interval)
    if y is None and cfg != 1:
        raise ValueError(f"cfg = {cfg} has nothing to guide with: without labels only cfg = 1 makes sense")
    if y is not None and model.config.num_classes is None:
        raise ValueError("this model has no classes: leave y out, and take cfg = 1")
    return y is not None


def guided(model: Model, y: Tensor | None = None, cfg: float = 2.0, interval: Interval = (0.0, 1.0)) -> Velocity:
    """Classifier-free guidance as a velocity v(x, t): v_no_label + cfg (v_label - v_no_label).

    Ho & Salimans 2022, arXiv 2207.12598. cfg 1 is the conditional velocity and 0 the unconditional one: one pass of the
    network each; any other scale costs two, done as one batch of double size. Outside of `interval` the velocity is
    the plain conditional one, for one pass (Kynkaanniemi et al. 2024, arXiv 2404.07724).

    model: a DiT, or any callable (x, t, y) with `config.num_classes`. y: (batch,) labels; None for a model without
        classes.
    interval: (low, high) with 0 <= low <= high <= 1, in t.
    """
    if not has_labels(model, y, cfg, interval):
        return lambda x, t: model(x, t)
    no_label = torch.full_like(y, model.config.num_classes)  # (batch,)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        inside = (t >= interval[0]) & (t <= interval[1])  # (batch,)
        scale = per_image(1 + (cfg - 1) * inside.to(x.dtype), x)  # (batch, 1, 1, 1): cfg inside, 1 outside
        if (scale == 1).all():
            return model(x, t, y)
        if (scale == 0).all():
            return model(x, t, no_label)
        both = model(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, no_label]))  # (2 * batch, ...)
        with_label, without = both.chunk(2)
        return without + scale * (with_label - without)

    return velocity


class BaseSampler:
    """All about drawing pictures but the drawing: settings, labels, noise, batches. A subclass brings `draw`.

    model: a DiT; it is put into eval mode while it draws, and back afterwards.
    steps: how many steps from noise to data. solver: "euler", "heun", "ab2", or a function like them.
    cfg, cfg_interval: see `guided`. A model without classes takes cfg 1 whatever is said.
    Raises ValueError at once when a setting makes no sense.
    """

    def __init__(
        self,
        model: nn.Module,
        steps: int = 20,
        solver: str | Callable[..., Tensor] = "euler",
        cfg: float = 2.0,
        cfg_interval: Interval = (0.0, 1.0),
    ):
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps = {steps!r}, but it must be a whole number, at least 1 (20 is usual)")
        if not callable(solver) and solver not in SOLVERS:
            raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, or a function like them, not {solver!r}")
        _check_guidance(cfg, cfg_interval)
        self.model = model
        self.steps = steps
        self.solver = solver if callable(solver) else SOLVERS[solver]
        self.cfg = cfg if model.config.num_classes is not None else 1.0
        self.cfg_interval = cfg_interval

    @torch.no_grad()
    def sample(
        self,
        n: int,
        labels: Tensor | Sequence[int | str] | int | str | None = None,
        seed: int | None = None,
        callback: Callback | None = None,
        batch_size: int = 250,
    ) -> Tensor:
        """Draw n pictures.

        labels: a class for all, or one for each: numbers, or names where the model knows them; None goes through the
            classes in turn.
        seed: the same seed gives the same pictures, and picture i does not depend on n. None takes a new one.
        callback: called with (index, t, x), x in [-1, 1], before the first step and after each.
        batch_size: how many are drawn at once (with a callback: all).
        Returns (n, channels, height, width) on the model's device, in [0, 1].
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"n = {n!r}, but it must be a whole number of pictures, at least 1")
        if batch_size < 1:
            raise ValueError(f"batch_size = {batch_size!r}, but at least 1 picture must be drawn at once")
        weight = next(self.model.parameters())
        noise = self._noise(n, seed).to(weight.device, weight.dtype)
        y = self._labels(n, labels)
        y = None if y is None else y.to(weight.device)
        batches = torch.arange(n).split(n if callback else batch_size)
        was_training = self.model.training
        self.model.eval()  # label dropout is for training
        try:
            pictures = [self.draw(noise[i], None if y is None else y[i], callback) for i in batches]
        finally:
            self.model.train(was_training)
        return torch.cat(pictures)

    def draw(self, noise: Tensor, y: Tensor | None, callback: Callback | None = None) -> Tensor:
        """From noise (batch, channels, height, width) and labels (batch,) to pictures of this shape in [0, 1]."""
        raise NotImplementedError

    def _noise(self, n: int, seed: int | None) -> Tensor:
        """One picture after the other and on the CPU, so that picture i is the same for every n and device."""
        generator = torch.Generator()
        generator.seed() if seed is None else generator.manual_seed(seed)
        shape = (self.model.config.channels, *self.model.config.image_shape)
        return torch.stack([torch.randn(shape, generator=generator) for _ in range(n)])

    def _labels(self, n: int, labels) -> Tensor | None:
        num_classes = self.model.config.num_classes
        if num_classes is None:
            if labels is not None:
                raise ValueError("this model has no classes: leave labels out")
            return None
        if labels is None:
            return torch.arange(n) % num_classes
        if isinstance(labels, str) or not hasattr(labels, "__len__"):
            labels = [labels] * n
        if not isinstance(labels, Tensor):
            labels = torch.tensor([self._class_number(label) for label in labels])
        if labels.shape != (n,):
            raise ValueError(f"{n} pictures need {n} labels (or one for all), not shape {tuple(labels.shape)}")
        labels = labels.cpu()
        check_labels(labels, num_classes)
        return labels

    def _class_number(self, label: int | str) -> int:
        names = getattr(self.model, "class_names", None) or ()
        if isinstance(label, str) and label not in names:
            known = ", ".join(names) or "none by name: use numbers"
            raise ValueError(f"unknown class {label!r}; this model knows {known}")
        if isinstance(label, str):
            return names.index(label)
        try:
            return operator.index(label)
        except TypeError:
            raise TypeError(f"labels are whole numbers or names of classes, not {label!r}") from None


class Sampler(BaseSampler):
    """Draw pictures: noise, a solver, guidance, and back to [0, 1]. Settings as in `BaseSampler`."""

    def draw(self, noise: Tensor, y: Tensor | None, callback: Callback | None = None) -> Tensor:
        """From noise (batch, channels, height, width) and labels (batch,) to pictures of this shape in [0, 1]."""
        ts = torch.linspace(1, 0, self.steps + 1)
        velocity = guided(self.model, y, self.cfg, self.cfg_interval)
        x = self.solver(velocity, noise, ts, callback)
        return ((x.float() + 1) / 2).clamp(0, 1)  # [-1, 1] -> [0, 1]


def class_grid(sampler: BaseSampler, per_class: int, seed: int) -> Tensor:
    """A row of pictures for every class, from the same noises in every row: what a column shares is its noise.

    Returns (classes * per_class, channels, height, width), row by row, in [0, 1].
    """
    classes = range(sampler.model.config.num_classes)
    rows = [sampler.sample(per_class, labels=label, seed=seed) for label in classes]
    return torch.cat(rows)  # classes x (per_class, c, h, w) -> (classes * per_class, c, h, w)


def invert(velocity: Velocity, pictures: Tensor, steps: int) -> Tensor:
    """The noise that leads to these pictures: the same road, walked from t = 0 to t = 1, in steps of `heun`.

    pictures: (batch, ...) in [-1, 1]. Returns noise of the same shape (Song et al. 2020, arXiv 2010.02502, section
    4.3, do it with DDIM).
    """
    return heun(velocity, pictures, torch.linspace(0, 1, steps + 1))


def _check_guidance(cfg: float, interval: Interval) -> None:
    if not math.isfinite(cfg) or cfg < 0:
        raise ValueError(f"cfg = {cfg}, but the guidance scale must be a finite number, at least 0 (1 to 5 is usual)")
    low, high = interval
    if not 0 <= low <= high <= 1:
        raise ValueError(f"cfg interval ({low}, {high}) must be two times with 0 <= low <= high <= 1")
