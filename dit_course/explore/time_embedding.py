"""Sliders for a time and for the factor in front of it: its sinusoids, and which other times they resemble."""

import html
import math
import threading
from dataclasses import dataclass

import ipywidgets as widgets
import torch
import torch.nn.functional as F
from torch import Tensor

from dit_course.explore.imageview import NamedImage, View
from dit_course.explore.keyboard import Accessible
from dit_course.show import PALETTE, Picture
from dit_course.show.sheet import CAPTION, INK, MARGIN, TEXT, blank_figure, rendered

WIDTH, HEIGHT = 820, 300  # of the drawing, in pixels of the page
FACTORS = (1, 10, 100, 1000)
FREQUENCIES, MAX_PERIOD = 256, 10000.0  # those of `TimestepEmbedder`
TIMES = torch.linspace(0, 1, 1001)  # that a time is compared with
LABEL = {**TEXT, "fontsize": CAPTION}


def time_embedding(t: float = 0.3, factor: int = 1) -> "TimeEmbedding":
    """Sliders for t and for the factor that it is multiplied with before its sinusoids.

    t: in [0, 1], 0 = data, 1 = noise. factor: 1, 10, 100 or 1000 (the course's, and that of most networks).
    As the last line of a cell it is live in JupyterLab; where no kernel runs, a still picture says the same.
    """
    return TimeEmbedding(t, factor)


@dataclass(frozen=True)
class Embedded:
    """What the sliders compute. vector: (256,), cosines first. similar: (1001,), to each of `TIMES`, in [-1, 1]."""

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


def compute(t: float, factor: int) -> Embedded:
    """The numbers behind the drawing, for one place of both sliders."""
    vector = sinusoids(torch.tensor([t]), factor)
    similar = F.cosine_similarity(vector, sinusoids(TIMES, factor), dim=1)
    return Embedded(t, factor, vector[0], similar)


def draw(t: float, factor: int) -> Picture:
    """What the sliders show."""
    found = compute(t, factor)
    figure = blank_figure(WIDTH, HEIGHT)
    left = figure.add_axes((0.06, 0.17, 0.42, 0.66), facecolor="white")
    half = FREQUENCIES // 2
    for part, colour, start in ((found.vector[:half], "data", 0), (found.vector[half:], "guidance", half)):
        left.vlines(range(start, start + half), 0, part.tolist(), color=PALETTE[colour], linewidth=1.3)
    for place, name, colour in ((0.25, "cosines", "data"), (0.75, "sines", "guidance")):
        left.annotate(name, (place, 0.02), xycoords="axes fraction", ha="center", **{**LABEL, "color": PALETTE[colour]})
    left.set_ylim(-1.3, 1.1)
    left.set_xticks([0, half, FREQUENCIES - 1])
    left.set_xlabel("the numbers of the vector: in each half fast hands first", **LABEL)
    right = figure.add_axes((0.57, 0.17, 0.41, 0.66), facecolor="white")
    right.plot(TIMES, found.similar, color=PALETTE["model"], linewidth=1.5)
    right.plot([t], [1], "o", color=PALETTE["data"], markersize=8, clip_on=False)
    right.set_ylim(min(-0.05, float(found.similar.min()) - 0.05), 1.05)
    right.set_xlim(0, 1)
    right.set_xlabel("other times", **LABEL)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(INK)
        axes.tick_params(colors=INK, labelsize=CAPTION, labelfontfamily=TEXT["family"])
        axes.grid(axis="y", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
    captions = (f"sinusoids of {factor:,} x {t:.2f}", "how similar are other times?")
    for x, caption in zip((MARGIN / WIDTH, 0.57), captions, strict=True):
        figure.text(x, 1 - 26 / HEIGHT, caption, **TEXT | {"fontsize": 14})
    alt = f"t = {t:.2f}, factor {factor:,}: {found.alike:.1%} of all times look nearly the same (similarity above 0.99)"
    return Picture.of(rendered(figure), alt)


class TimeEmbedding(View):
    """The view that `time_embedding` makes. `picture` is what it shows at the moment."""

    def __init__(self, t: float, factor: int):
        if not 0 <= t <= 1:
            raise ValueError(f"t = {t}, but times lie in [0, 1]: 0 is data, 1 is noise")
        if factor not in FACTORS:
            raise ValueError(f"factor = {factor}, but the slider knows {', '.join(map(str, FACTORS))}")
        self._drawing = threading.Lock()
        wide = {"style": {"description_width": "60px"}, "layout": {"width": "380px"}}
        self.t = widgets.FloatSlider(t, min=0, max=1, step=0.01, description="t", readout_format=".2f", **wide)
        self.factor = widgets.SelectionSlider(options=FACTORS, value=factor, description="factor", **wide)
        self.image = NamedImage(format="png", layout={"max_width": "100%"})
        self.message = widgets.HTML()
        for control in (self.t, self.factor):
            control.observe(self._changed, "value")
        self._redraw()
        row = widgets.HBox([self.t, self.factor], layout={"flex_flow": "row wrap"})
        super().__init__([row, self.image, self.message, Accessible()])

    def _redraw(self) -> None:
        with self._drawing:  # events may come in two threads at once
            self.picture = draw(self.t.value, self.factor.value)
            with self.image.hold_sync():
                self.image.value = self.picture.png
                self.image.width = str(self.picture.width)
                self.image.tooltip = self.picture.alt
            self.message.value = f'<span role="status">{html.escape(self.picture.alt)}</span>'
