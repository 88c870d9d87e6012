"""Sliders for mean and std of the logit-normal distribution: which times is the network trained on?"""

import numpy as np
import torch

from dit_course.explore.engine.chart import Chart
from dit_course.explore.engine.controls import slider
from dit_course.explore.engine.view import View
from dit_course.explore.engine.worker import Job
from dit_course.show import PALETTE, Picture
from dit_course.show.layout import TITLE
from dit_course.show.lesson_05_flow_loss import (
    EDGE,
    HEIGHT,
    WIDTH,
    density_axes,
    logit_normal_density,
    logit_normal_tail,
    share,
)
from dit_course.show.text import write

TOP = 4.0  # of the axis for the density
WIDEST, FURTHEST = 2.5, 2.0


def caption(mean: float, std: float) -> str:
    """How often the ends are sampled, as text."""
    below, above = logit_normal_tail(EDGE, mean, std)
    ends = f"t < {EDGE}: {share(below)}, t > {1 - EDGE}: {share(above)} of the draws"
    return f"mean {mean:.1f}, std {std:.1f}. {ends} (uniform: {EDGE:.0%} each)"


class DensityChart:
    """The density of the times beside the uniform one, and the shares at the ends."""

    def __init__(self):
        self.t = np.linspace(0, 1, 501)[1:-1]
        figure, axes = density_axes()
        axes.set_ylim(0, TOP)
        (self.line,) = axes.plot(self.t, self.t, color=PALETTE["model"], linewidth=2)
        self.area = axes.fill_between(self.t, self.t, color=PALETTE["model"], alpha=0.15, linewidth=0)
        self.chart = Chart(figure, [self.area, self.line])

    def picture(self, mean: float, std: float) -> Picture:
        """The chart of one state."""
        density = logit_normal_density(torch.from_numpy(self.t), mean, std).clamp(max=2 * TOP).numpy()
        below, above = logit_normal_tail(EDGE, mean, std)
        self.line.set_ydata(density)
        self.area.set_data(self.t, density, 0)
        title = f"Logit-normal times, mean {mean:.1f} and std {std:.1f}"
        pixels = self.chart.pixels()
        write(pixels, title, 8, 22, TITLE)
        for text, high in ((f"t < {EDGE}: {share(below)}", 0.52), (f"t > {1 - EDGE}: {share(above)}", 0.46)):
            write(pixels, text, 0.765 * WIDTH, (1 - high) * HEIGHT, ink=PALETTE["model"])
        rare = f"{share(below)} of the times lie below {EDGE}, {share(above)} above {1 - EDGE}"
        return Picture.of(pixels, f"{title}: {rare}; uniform: 2% each")


class Timesteps(View):
    """Sliders for mean and std of logit-normal times: their density beside the uniform one, and how rare the ends are.

    mean, std: where they start.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0):
        self.chart = DensityChart()
        self.mean = slider("mean", mean, -FURTHEST, FURTHEST, 0.1, (50, 340))
        self.std = slider("std", std, 0.2, WIDEST, 0.1, (50, 340))
        super().__init__([self.mean, self.std])

    def render(self, job: Job, state: tuple[float, float]) -> None:
        """Draw the density for these sliders."""
        self.show(self.chart.picture(*state), caption(*state))
