"""Cached trajectories for the guidance explorer: stored velocities predict the images of a nearby guidance scale.

A slider that moves a little needs nearly the same images. They are extrapolated from the velocities that the network
predicted along a cached trajectory, with no evaluation at all; the exact trajectory is integrated afterwards. Where
nothing is cached (another seed), a single evaluation in the middle of the trajectory gives a first guess.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dit_course.sampling import Callback, Interval, Sampler, ab2, guided
from dit_course.show import to_bytes

MIDDLE = 0.8  # the time t of the one evaluation of a first guess


@dataclass(frozen=True)
class Request:
    """What is to be sampled. labels: the class of each image. steps: of the solver "ab2"."""

    labels: tuple[int, ...]
    seed: int
    cfg: float
    steps: int
    interval: Interval = (0.0, 1.0)

    def distance(self, other: "Request") -> float | None:
        """How far another request is from this one; None when its noise or its classes differ."""
        if (self.labels, self.seed) != (other.labels, other.seed):
            return None
        ends = sum(abs(a - b) for a, b in zip(self.interval, other.interval, strict=True))
        return abs(self.cfg - other.cfg) + 2 * ends + abs(1 / self.steps - 1 / other.steps)


@dataclass
class Trajectory:
    """One trajectory from noise to images, with all velocities that the network has predicted along it.

    noise: (n, C, H, W). times: of the evaluations, from 1 downwards. with_label, without_label: the velocities
    (n, C, H, W) at these times, None where there was no such evaluation. pictures: (n, C, H, W) uint8. seconds: that
    the integration took.
    """

    request: Request
    noise: Tensor | None = None
    times: list[float] = field(default_factory=list)
    with_label: list[Tensor | None] = field(default_factory=list)
    without_label: list[Tensor | None] = field(default_factory=list)
    pictures: Tensor | None = None
    seconds: float = 0.0


class RecordingModel:
    """A model that records its predictions in a trajectory."""

    def __init__(self, model: nn.Module, path: Trajectory):
        self.model, self.config, self.path = model, model.config, path

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """(batch, C, H, W), (batch,), (batch,) -> (batch, C, H, W)."""
        velocity = self.model(x, t, y)
        free = y == self.config.num_classes  # (batch,): evaluated without a label
        self.path.times.append(float(t[0]))
        self.path.with_label.append(None if free.all() else velocity[~free])
        self.path.without_label.append(velocity[free] if free.any() else None)
        return velocity


class TrajectorySampler(Sampler):
    """A `Sampler` that keeps its last trajectory."""

    def __init__(self, model: nn.Module, request: Request):
        super().__init__(model, request.steps, "ab2", request.cfg, request.interval)
        self.path = Trajectory(request)

    def integrate(self, noise: Tensor, y: Tensor | None, callback: Callback | None = None) -> Tensor:
        """As in `Sampler`."""
        self.path.noise = noise
        ts = torch.linspace(1, 0, self.steps + 1, device=noise.device)
        x = self.solver(
            guided(RecordingModel(self.model, self.path), y, self.cfg, self.cfg_interval), noise, ts, callback
        )
        return ((x.float() + 1) / 2).clamp(0, 1)  # [-1, 1] -> [0, 1]


def integrate(
    model: nn.Module, request: Request, progress: Callable[[float, Tensor], None] | None = None
) -> Trajectory:
    """Sample in full quality, and keep the trajectory. Same images as `Sampler` with solver "ab2".

    progress: called after each step but the last with the time and the images predicted from there; what it raises ends
        the integration.
    """
    sampler = TrajectorySampler(model, request)
    path = sampler.path

    def after_step(index: int, t: float, x: Tensor) -> None:
        if progress is not None and 0 < index < request.steps:
            progress(t, pictures_of(x - t * _velocity(path, len(path.times) - 1, request.cfg, request.interval)))

    start = time.perf_counter()
    # in one batch, as the trajectory is one: `sample` splits only what has no callback
    path.pictures = to_bytes(sampler.sample(len(request.labels), request.labels, request.seed, after_step))
    path.seconds = time.perf_counter() - start
    return path


def extrapolate(path: Trajectory, request: Request) -> Tensor | None:
    """The images at the end of a trajectory near a cached one, without an evaluation: (n, C, H, W) uint8.

    The velocities are those of the cached trajectory, at its own states, combined with another guidance scale. None
    when they were not recorded: guidance 0 and 1 evaluate only one of the two predictions.
    """
    if any(velocity is None for velocity in path.with_label):
        return None
    if request.cfg != 1 and all(velocity is None for velocity in path.without_label):
        return None

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        time = float(t[0])
        later = next((k for k, known in enumerate(path.times) if known <= time + 1e-6), len(path.times) - 1)
        before = max(later - 1, 0)
        here = _velocity(path, later, request.cfg, request.interval, time)
        gap = path.times[before] - path.times[later]
        share = min(max((time - path.times[later]) / gap, 0.0), 1.0) if gap else 0.0
        if not share:
            return here
        return here + share * (_velocity(path, before, request.cfg, request.interval, time) - here)

    return pictures_of(ab2(velocity, path.noise, torch.linspace(1, 0, request.steps + 1)))


class Guesser:
    """First guesses for new trajectories, from the data that the network predicted at the start of others.

    At t = 1 the input is pure noise, and the network predicts the mean of the class. So the first part of a trajectory
    is known once its class was sampled; one evaluation in the middle predicts the rest.
    """

    def __init__(self):
        self.means: dict[int | None, Tensor] = {}  # the data predicted at t = 1, by label; None: without a label

    def learn(self, path: Trajectory) -> None:
        """Keep the data that a trajectory predicts at its start."""
        if path.with_label[0] is not None:
            for label, mean in zip(path.request.labels, path.noise - path.with_label[0], strict=True):
                self.means[label] = mean
        if path.without_label[0] is not None:
            self.means[None] = (path.noise - path.without_label[0]).mean(dim=0)

    @torch.no_grad()
    def guess(self, model: nn.Module, request: Request) -> Tensor:
        """Images (n, C, H, W) uint8 by a single evaluation of the network, with the label and without guidance.

        The guidance is in the state that it starts from: a second evaluation, without the label, would double the cost
        and was measured to come no nearer.
        """
        x, t = self._start(TrajectorySampler(model, request), request)
        labels = torch.tensor(request.labels, device=x.device)
        labels = labels if request.cfg else torch.full_like(labels, model.config.num_classes)
        return pictures_of(x - t * model(x, torch.full((len(x),), t, device=x.device, dtype=x.dtype), labels))

    def _start(self, sampler: TrajectorySampler, request: Request) -> tuple[Tensor, float]:
        """The state that is evaluated, and its time."""
        weight = next(sampler.model.parameters())
        noise = sampler._noise(len(request.labels), request.seed).to(weight.device, weight.dtype)
        scale = request.cfg if request.interval[1] >= 1 else 1.0
        needed = {*request.labels} if scale else set()
        needed |= set() if scale == 1 else {None}
        if not needed <= set(self.means):
            return noise, 1.0
        free = self.means[None] if scale != 1 else 0.0
        mean = torch.stack([free + scale * (self.means[i] - free) if scale else free for i in request.labels])
        return MIDDLE * noise + (1 - MIDDLE) * mean, MIDDLE


def pictures_of(x: Tensor) -> Tensor:
    """States as images: [-1, 1] and beyond -> uint8, clamped."""
    return to_bytes(((x.detach().float().cpu() + 1) / 2).clamp(0, 1))


def _velocity(path: Trajectory, k: int, cfg: float, interval: Interval, time: float | None = None) -> Tensor:
    """The velocity at evaluation k of a trajectory, at any scale; with the nearest difference where k has none."""
    time = path.times[k] if time is None else time
    scale = cfg if interval[0] <= time <= interval[1] else 1.0
    if scale == 1 and path.with_label[k] is not None:
        return path.with_label[k]
    if path.with_label[k] is None:
        return path.without_label[k]
    known = [i for i, free in enumerate(path.without_label) if free is not None and path.with_label[i] is not None]
    if not known:
        return path.with_label[k]
    nearest = min(known, key=lambda i: abs(i - k))
    difference = path.with_label[nearest] - path.without_label[nearest]
    return path.with_label[k] + (scale - 1) * difference


def nearest_trajectory(trajectories: Sequence[Trajectory], request: Request) -> Trajectory | None:
    """The trajectory nearest to a request, among those with its noise and classes."""
    distances = [(request.distance(path.request), i) for i, path in enumerate(trajectories)]
    found = [pair for pair in distances if pair[0] is not None]
    return trajectories[min(found)[1]] if found else None
