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
class Asked:
    """What is to be drawn. labels: the class of each picture. steps: of the solver "ab2"."""

    labels: tuple[int, ...]
    seed: int
    cfg: float
    steps: int
    interval: Interval = (0.0, 1.0)

    def far(self, other: "Asked") -> float | None:
        """How different another way is; None when it starts at other noise, or leads to other classes."""
        if (self.labels, self.seed) != (other.labels, other.seed):
            return None
        ends = sum(abs(a - b) for a, b in zip(self.interval, other.interval, strict=True))
        return abs(self.cfg - other.cfg) + 2 * ends + abs(1 / self.steps - 1 / other.steps)


@dataclass
class Road:
    """One way from noise to pictures, with all that the network has answered on it.

    noise: (n, C, H, W). times: of the answers, from 1 downwards. with_label, without: the velocities (n, C, H, W) at
    these times, None where the network was not asked. pictures: (n, C, H, W) uint8. seconds: that the walk took.
    """

    asked: Asked
    noise: Tensor | None = None
    times: list[float] = field(default_factory=list)
    with_label: list[Tensor | None] = field(default_factory=list)
    without: list[Tensor | None] = field(default_factory=list)
    pictures: Tensor | None = None
    seconds: float = 0.0


class Listening:
    """A model that writes what it answers into a road."""

    def __init__(self, model: nn.Module, road: Road):
        self.model, self.config, self.road = model, model.config, road

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """(batch, C, H, W), (batch,), (batch,) -> (batch, C, H, W)."""
        answer = self.model(x, t, y)
        free = y == self.config.num_classes  # (batch,): asked without a label
        self.road.times.append(float(t[0]))
        self.road.with_label.append(None if free.all() else answer[~free])
        self.road.without.append(answer[free] if free.any() else None)
        return answer


class RoadSampler(Sampler):
    """A `Sampler` that draws the same pictures and keeps its last road."""

    def __init__(self, model: nn.Module, asked: Asked):
        super().__init__(model, asked.steps, "ab2", asked.cfg, asked.interval)
        self.road = Road(asked)

    def draw(self, noise: Tensor, y: Tensor | None, callback: Callback | None = None) -> Tensor:
        """As in `Sampler`."""
        self.road.noise = noise
        ts = torch.linspace(1, 0, self.steps + 1)
        x = self.solver(guided(Listening(self.model, self.road), y, self.cfg, self.cfg_interval), noise, ts, callback)
        return ((x.float() + 1) / 2).clamp(0, 1)  # [-1, 1] -> [0, 1]


def walk(model: nn.Module, asked: Asked, progress: Callable[[float, Tensor], None] | None = None) -> Road:
    """Draw in full quality, and remember the way. Same pictures as `Sampler` with solver "ab2".

    progress: called after each step but the last with the time and the pictures that the way seems to lead to; what it
        raises ends the walk.
    """
    sampler = RoadSampler(model, asked)
    road = sampler.road

    def on_the_way(index: int, t: float, x: Tensor) -> None:
        if progress is not None and 0 < index < asked.steps:
            progress(t, pictures_of(x - t * _velocity(road, len(road.times) - 1, asked.cfg, asked.interval)))

    start = time.perf_counter()
    # in one go, as the road is one: `sample` splits only what has no callback
    road.pictures = to_bytes(sampler.sample(len(asked.labels), asked.labels, asked.seed, on_the_way))
    road.seconds = time.perf_counter() - start
    return road


def foresee(road: Road, asked: Asked) -> Tensor | None:
    """The pictures at the end of a way near a known one, without asking the network: (n, C, H, W) uint8.

    The velocities are those of the known road, at its own places, put together with another scale. None when they are
    not known: guidance 0 and 1 ask the network only half of it.
    """
    if any(answer is None for answer in road.with_label):
        return None
    if asked.cfg != 1 and all(answer is None for answer in road.without):
        return None

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        time = float(t[0])
        later = next((k for k, known in enumerate(road.times) if known <= time + 1e-6), len(road.times) - 1)
        before = max(later - 1, 0)
        here = _velocity(road, later, asked.cfg, asked.interval, time)
        gap = road.times[before] - road.times[later]
        share = min(max((time - road.times[later]) / gap, 0.0), 1.0) if gap else 0.0
        if not share:
            return here
        return here + share * (_velocity(road, before, asked.cfg, asked.interval, time) - here)

    return pictures_of(ab2(velocity, road.noise, torch.linspace(1, 0, asked.steps + 1)))


class Guesser:
    """First guesses for ways that were never walked, from the places to which others pointed when they set out.

    At t = 1 all noise looks the same to the network: it points to the mean of the class. So the first part of the way
    is known once the class was drawn; one evaluation in the middle sees where it goes on.
    """

    def __init__(self):
        self.means: dict[int | None, Tensor] = {}  # where it points to at first, for each label; None: for no label

    def learn(self, road: Road) -> None:
        """Keep to where a road has pointed at its start."""
        if road.with_label[0] is not None:
            for label, mean in zip(road.asked.labels, road.noise - road.with_label[0], strict=True):
                self.means[label] = mean
        if road.without[0] is not None:
            self.means[None] = (road.noise - road.without[0]).mean(dim=0)

    @torch.no_grad()
    def guess(self, model: nn.Module, asked: Asked) -> Tensor:
        """Pictures (n, C, H, W) uint8 by a single evaluation of the network, with the label and without guidance.

        The guidance is in the place that it starts from: asking without the label, too, would cost as much again and
        was measured to come no nearer.
        """
        x, t = self._set_out(RoadSampler(model, asked), asked)
        labels = torch.tensor(asked.labels, device=x.device)
        labels = labels if asked.cfg else torch.full_like(labels, model.config.num_classes)
        return pictures_of(x - t * model(x, torch.full((len(x),), t, device=x.device, dtype=x.dtype), labels))

    def _set_out(self, sampler: RoadSampler, asked: Asked) -> tuple[Tensor, float]:
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


def _velocity(road: Road, k: int, cfg: float, interval: Interval, time: float | None = None) -> Tensor:
    """The velocity at answer number k of a road, with any scale; the nearest difference where none was asked for."""
    time = road.times[k] if time is None else time
    scale = cfg if interval[0] <= time <= interval[1] else 1.0
    if scale == 1 and road.with_label[k] is not None:
        return road.with_label[k]
    if road.with_label[k] is None:
        return road.without[k]
    known = [i for i, answer in enumerate(road.without) if answer is not None and road.with_label[i] is not None]
    if not known:
        return road.with_label[k]
    nearest = min(known, key=lambda i: abs(i - k))
    difference = road.with_label[nearest] - road.without[nearest]
    return road.with_label[k] + (scale - 1) * difference


def nearest_road(roads: Sequence[Road], asked: Asked) -> Road | None:
    """The road that is most like what is asked for, of those with its noise and classes."""
    far = [(distance, i) for i, road in enumerate(roads) if (distance := asked.far(road.asked)) is not None]
    return roads[min(far)[1]] if far else None
