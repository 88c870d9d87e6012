"""Drawing with a memory: what a network answered on one way from noise to data foretells the ways beside it.

A slider that moves a little asks for nearly the same pictures. Which way they will go can be told from the answers that
the network gave last time, without asking it at all; the true way is walked afterwards. Where there is no such memory
(another seed), a single evaluation in the middle of the way gives a first guess.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dit_course.sampling import Callback, Interval, Sampler, ab2, guided
from dit_course.show import to_bytes

MIDDLE = 0.8  # the time of the one evaluation of a first guess


@dataclass(frozen=True)
class Request:
    """What is to be drawn. labels: the class of each picture. steps: of the solver "ab2"."""

    labels: tuple[int, ...]
    seed: int
    cfg: float
    steps: int
    interval: Interval = (0.0, 1.0)

    def far(self, other: "Request") -> float | None:
        """How different another way is; None when it starts at other noise, or leads to other classes."""
        if (self.labels, self.seed) != (other.labels, other.seed):
            return None
        ends = sum(abs(a - b) for a, b in zip(self.interval, other.interval, strict=True))
        return abs(self.cfg - other.cfg) + 2 * ends + abs(1 / self.steps - 1 / other.steps)


@dataclass
class Trajectory:
    """One way from noise to pictures, with all that the network has answered on it.

    noise: (n, C, H, W). times: of the answers, from 1 downwards. with_label, without: the velocities (n, C, H, W) at
    these times, None where the network was not asked. pictures: (n, C, H, W) uint8. seconds: that the walk took.
    """

    asked: Request
    noise: Tensor | None = None
    times: list[float] = field(default_factory=list)
    with_label: list[Tensor | None] = field(default_factory=list)
    without: list[Tensor | None] = field(default_factory=list)
    pictures: Tensor | None = None
    seconds: float = 0.0


class RecordingModel:
    """A model that writes what it answers into a road."""

    def __init__(self, model: nn.Module, path: Trajectory):
        self.model, self.config, self.path = model, model.config, path

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """(batch, C, H, W), (batch,), (batch,) -> (batch, C, H, W)."""
        answer = self.model(x, t, y)
        free = y == self.config.num_classes  # (batch,): asked without a label
        self.path.times.append(float(t[0]))
        self.path.with_label.append(None if free.all() else answer[~free])
        self.path.without.append(answer[free] if free.any() else None)
        return answer


class TrajectorySampler(Sampler):
    """A `Sampler` that draws the same pictures and keeps its last road."""

    def __init__(self, model: nn.Module, asked: Request):
        super().__init__(model, asked.steps, "ab2", asked.cfg, asked.interval)
        self.path = Trajectory(asked)

    def integrate(self, noise: Tensor, y: Tensor | None, callback: Callback | None = None) -> Tensor:
        """As in `Sampler`."""
        self.path.noise = noise
        ts = torch.linspace(1, 0, self.steps + 1, device=noise.device)
        x = self.solver(
            guided(RecordingModel(self.model, self.path), y, self.cfg, self.cfg_interval), noise, ts, callback
        )
        return ((x.float() + 1) / 2).clamp(0, 1)  # [-1, 1] -> [0, 1]


def integrate(model: nn.Module, asked: Request, progress: Callable[[float, Tensor], None] | None = None) -> Trajectory:
    """Draw in full quality, and remember the way. Same pictures as `Sampler` with solver "ab2".

    progress: called after each step but the last with the time and the pictures that the way seems to lead to; what it
        raises ends the walk.
    """
    sampler = TrajectorySampler(model, asked)
    path = sampler.path

    def on_the_way(index: int, t: float, x: Tensor) -> None:
        if progress is not None and 0 < index < asked.steps:
            progress(t, pictures_of(x - t * _velocity(path, len(path.times) - 1, asked.cfg, asked.interval)))

    start = time.perf_counter()
    # in one go, as the road is one: `sample` splits only what has no callback
    path.pictures = to_bytes(sampler.sample(len(asked.labels), asked.labels, asked.seed, on_the_way))
    path.seconds = time.perf_counter() - start
    return path


def extrapolate(path: Trajectory, asked: Request) -> Tensor | None:
    """The pictures at the end of a way near a known one, without asking the network: (n, C, H, W) uint8.

    The velocities are those of the known road, at its own places, put together with another scale. None when they are
    not known: guidance 0 and 1 ask the network only half of it.
    """
    if any(answer is None for answer in path.with_label):
        return None
    if asked.cfg != 1 and all(answer is None for answer in path.without):
        return None

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        time = float(t[0])
        later = next((k for k, known in enumerate(path.times) if known <= time + 1e-6), len(path.times) - 1)
        before = max(later - 1, 0)
        here = _velocity(path, later, asked.cfg, asked.interval, time)
        gap = path.times[before] - path.times[later]
        share = min(max((time - path.times[later]) / gap, 0.0), 1.0) if gap else 0.0
        if not share:
            return here
        return here + share * (_velocity(path, before, asked.cfg, asked.interval, time) - here)

    return pictures_of(ab2(velocity, path.noise, torch.linspace(1, 0, asked.steps + 1)))


class Guesser:
    """First guesses for ways that were never walked, from the places to which others pointed when they set out.

    At t = 1 all noise looks the same to the network: it points to the mean of the class. So the first part of the way
    is known once the class was drawn; one evaluation in the middle sees where it goes on.
    """

    def __init__(self):
        self.means: dict[int | None, Tensor] = {}  # where it points to at first, for each label; None: for no label

    def learn(self, path: Trajectory) -> None:
        """Keep to where a road has pointed at its start."""
        if path.with_label[0] is not None:
            for label, mean in zip(path.asked.labels, path.noise - path.with_label[0], strict=True):
                self.means[label] = mean
        if path.without[0] is not None:
            self.means[None] = (path.noise - path.without[0]).mean(dim=0)

    @torch.no_grad()
    def guess(self, model: nn.Module, asked: Request) -> Tensor:
        """Pictures (n, C, H, W) uint8 by a single evaluation of the network, with the label and without guidance.

        The guidance is in the place that it starts from: asking without the label, too, would cost as much again and
        was measured to come no nearer.
        """
        x, t = self._set_out(TrajectorySampler(model, asked), asked)
        labels = torch.tensor(asked.labels, device=x.device)
        labels = labels if asked.cfg else torch.full_like(labels, model.config.num_classes)
        return pictures_of(x - t * model(x, torch.full((len(x),), t, device=x.device, dtype=x.dtype), labels))

    def _set_out(self, sampler: TrajectorySampler, asked: Request) -> tuple[Tensor, float]:
        """The state from which to ask, and its time."""
        weight = next(sampler.model.parameters())
        noise = sampler._noise(len(asked.labels), asked.seed).to(weight.device, weight.dtype)
        scale = asked.cfg if asked.interval[1] >= 1 else 1.0
        needed = {*asked.labels} if scale else set()
        needed |= set() if scale == 1 else {None}
        if not needed <= set(self.means):
            return noise, 1.0
        free = self.means[None] if scale != 1 else 0.0
        mean = torch.stack([free + scale * (self.means[i] - free) if scale else free for i in asked.labels])
        return MIDDLE * noise + (1 - MIDDLE) * mean, MIDDLE


def pictures_of(x: Tensor) -> Tensor:
    """States in [-1, 1] and beyond as pictures: uint8, cut to what a screen can show."""
    return to_bytes(((x.detach().float().cpu() + 1) / 2).clamp(0, 1))


def _velocity(path: Trajectory, k: int, cfg: float, interval: Interval, time: float | None = None) -> Tensor:
    """The velocity at answer number k of a road, with any scale; the nearest difference where none was asked for."""
    time = path.times[k] if time is None else time
    scale = cfg if interval[0] <= time <= interval[1] else 1.0
    if scale == 1 and path.with_label[k] is not None:
        return path.with_label[k]
    if path.with_label[k] is None:
        return path.without[k]
    known = [i for i, answer in enumerate(path.without) if answer is not None and path.with_label[i] is not None]
    if not known:
        return path.with_label[k]
    nearest = min(known, key=lambda i: abs(i - k))
    difference = path.with_label[nearest] - path.without[nearest]
    return path.with_label[k] + (scale - 1) * difference


def nearest_trajectory(trajectories: Sequence[Trajectory], asked: Request) -> Trajectory | None:
    """The road that is most like what is asked for, of those with its noise and classes."""
    far = [(distance, i) for i, path in enumerate(trajectories) if (distance := asked.far(path.asked)) is not None]
    return trajectories[min(far)[1]] if far else None
