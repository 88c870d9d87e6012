"""Sliders for mean and width of the logit-normal: which times does the network get to see?"""

import html
import threading

import ipywidgets as widgets

from dit_course.explore.imageview import NamedImage, View
from dit_course.explore.keyboard import Accessible
from dit_course.show import Picture
from dit_course.show.lesson_flow import EDGE, densities, logit_normal_tail, share

WIDEST, FURTHEST = 2.5, 2.0


def timesteps(mean: float = 0.0, std: float = 1.0) -> "Timesteps":
    """Sliders for mean and std of logit-normal times: their density beside the uniform one, and how rare the ends are.

    mean, std: where they start. As the last line of a cell it is live in JupyterLab; where no kernel runs, a still
    picture says the same.
    """
    return Timesteps(mean, std)


def caption(mean: float, std: float) -> str:
    """How often the ends are drawn, in words."""
    below, above = logit_normal_tail(EDGE, mean, std)
    ends = f"t < {EDGE}: {share(below)}, t > {1 - EDGE}: {share(above)} of the draws"
    return f"mean {mean:.1f}, std {std:.1f}. {ends} (uniform: {EDGE:.0%} each)"


class Timesteps(View):
    """The view that `timesteps` makes. `picture` is what it shows at the moment."""

    def __init__(self, mean: float, std: float):
        if not 0.2 <= std <= WIDEST or not -FURTHEST <= mean <= FURTHEST:
            raise ValueError(
                f"mean {mean!r} and std {std!r}: the sliders go from {-FURTHEST} to {FURTHEST} and from 0.2 to {WIDEST}"
            )
        self._drawing = threading.Lock()
        wide = {"style": {"description_width": "50px"}, "layout": {"width": "340px"}, "readout_format": ".1f"}
        self.mean = widgets.FloatSlider(mean, min=-FURTHEST, max=FURTHEST, step=0.1, description="mean", **wide)
        self.std = widgets.FloatSlider(std, min=0.2, max=WIDEST, step=0.1, description="std", **wide)
        self.image = NamedImage(format="png", layout={"max_width": "100%"})
        self.message = widgets.HTML()
        for control in (self.mean, self.std):
            control.observe(self._changed, "value")
        self._redraw()
        row = widgets.HBox([self.mean, self.std], layout={"flex_flow": "row wrap"})
        super().__init__([row, self.image, self.message, Accessible()])

    def _redraw(self) -> None:
        with self._drawing:  # events may come in two threads at once
            mean, std = self.mean.value, self.std.value
            self.picture: Picture = densities(mean, std)
            with self.image.hold_sync():
                self.image.value = self.picture.png
                self.image.width = str(self.picture.width)
                self.image.tooltip = self.picture.alt
            self.message.value = f'<span role="status">{html.escape(caption(mean, std))}</span>'
