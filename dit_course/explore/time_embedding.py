"""Sliders for a time and for the factor in front of it: its sinusoids, and which other times they resemble."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dit_course.explore.engine.chart import Chart
from dit_course.explore.engine.controls import choice, slider
from dit_course.explore.engine.view import View
from dit_course.explore.engine.worker import Job
from dit_course.show import PALETTE, Picture
from dit_course.show.axes import add_axes, note
from dit_course.show.layout import MARGIN, TEXT, blank_figure
from dit_course.show.text import write

WIDTH, HEIGHT = 820, 300  # of the picture, in pixels of the page
FACTORS = (1, 10, 100, 1000)
FREQUENCIES, MAX_PERIOD = 256, 10000.0  # those of `TimestepEmbedder`
TIMES = torch.linspace(0, 1, 1001)  # that a time is compared with
LOWEST = -0.05  # of the axis: no two times are less similar than 0.1


@dataclass(frozen=True)
class Embedded:
    """The embedding of t. vector: (256,), cosines first. similar: (1001,), to each of `TIMES`, in [-1, 1]."""

    t: float
    factor: int
    vector: Tensor
    similar: Tensor

    @property
    def alike(self) -> float:
        """The share of all times whose vector is nearly this one: similarity above 0.99."""
        return float((self.similar > 0.99).float().mean())


def sinusoids(t: Tensor, factor: float) -> Tensor:
    """Times (n,) as vectors (n, 256): those of `TimestepEmbedder` when factor is 1000."""
    half = FREQUENCIES // 2
    frequencies = torch.exp(-math.log(MAX_PERIOD) * torch.arange(half, dtype=torch.float64) / half)
    angles = factor * t.double()[:, None] * frequencies  # (n, 1) * (half,) -> (n, half)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


@lru_cache(maxsize=len(FACTORS))
def _all_times(factor: float) -> Tensor:
    """The vectors of all `TIMES`, each of length 1: (1001, 256)."""
    return F.normalize(sinusoids(TIMES, factor), dim=1)


def compute(t: float, factor: int) -> Embedded:
    """The numbers of one state of the sliders."""
    vector = sinusoids(torch.tensor([t]), factor)
    similar = _all_times(factor) @ F.normalize(vector[0], dim=0)
    return Embedded(t, factor, vector[0], similar)


class SinusoidChart:
    """The sinusoids of a time, and which other times resemble it."""

    def __init__(self):
        figure = blank_figure(WIDTH, HEIGHT)
        name = "the vector: in each half high frequencies first"
        left = add_axes(figure, (0.06, 0.17, 0.42, 0.66), name, grid="y")
        half = FREQUENCIES // 2
        self.bars = [  # the cosines, the sines; a single line each, with gaps, is drawn much faster than 128
            left.plot(*_upright(start, torch.zeros(half)), color=PALETTE[color], linewidth=1.3)[0]
            for color, start in (("data", 0), ("guidance", half))
        ]
        for place, part, color in ((0.25, "cosines", "data"), (0.75, "sines", "guidance")):
            note(left, part, (place, 0.02), xycoords="axes fraction", ha="center", color=PALETTE[color])
        left.set(ylim=(-1.3, 1.1), xticks=[0, half, FREQUENCIES - 1])
        right = add_axes(figure, (0.57, 0.17, 0.41, 0.66), "other times", grid="y")
        (self.curve,) = right.plot(TIMES, TIMES, color=PALETTE["model"], linewidth=1.5)
        (self.here,) = right.plot([0], [1], "o", color=PALETTE["data"], markersize=8, clip_on=False)
        right.set(ylim=(LOWEST, 1.05), xlim=(0, 1))
        figure.text(0.57, 1 - 26 / HEIGHT, "how similar are other times?", **TEXT | {"fontsize": 14})
        self.chart = Chart(figure, [*self.bars, self.curve, self.here])

    def picture(self, t: float, factor: int) -> Picture:
        """The chart of one state."""
        found = compute(t, factor)
        half = FREQUENCIES // 2
        for bars, part, start in zip(self.bars, found.vector.split(half), (0, half), strict=True):
            bars.set_data(*_upright(start, part))
        self.curve.set_ydata(found.similar.numpy())
        self.here.set_xdata([t])
        pixels = self.chart.pixels()
        write(pixels, f"sinusoids of {factor:,} x t, t = {t:.2f}", MARGIN, 26, 14)
        alike = f"{found.alike:.1%} of all times look nearly the same (similarity above 0.99)"
        return Picture.of(pixels, f"t = {t:.2f}, factor {factor:,}: {alike}")


def _upright(start: int, ends: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """x and y (3 * n) of upright strokes from 0 to each end, NaN between two of them: no line."""
    x = np.arange(start, start + len(ends), dtype=float).repeat(3)
    y = np.stack([np.zeros(len(ends)), ends.double().numpy(), np.full(len(ends), np.nan)], axis=1)
    return x, y.reshape(-1)  # (n, 3) -> (3 * n)


class TimeEmbedding(View):
    """Sliders for t and for the factor that multiplies it before its sinusoids.

    t: in [0, 1], 0 = data, 1 = noise. factor: 1, 10, 100 or 1000 (the course's, and that of most networks).
    """

    def __init__(self, t: float = 0.3, factor: int = 1):
        self.chart = SinusoidChart()
        self.t = slider("t", t, 0, 1, 0.01)
        self.factor = choice("factor", FACTORS, factor)
        super().__init__([self.t, self.factor])

    def render(self, job: Job, state: tuple[float, int]) -> None:
        """Draw the sinusoids of this time, and what resembles it."""
        self.show(self.chart.picture(*state))
