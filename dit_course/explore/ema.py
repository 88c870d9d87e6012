"""A slider for the decay of an average of weights: what is in the average, and what it draws."""

import html
import threading
from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache

import ipywidgets as widgets
import torch
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from dit_course.ema import profile, warmup_decays
from dit_course.explore.imageview import NamedImage, View
from dit_course.explore.keyboard import Accessible
from dit_course.sampling import Sampler
from dit_course.show import PALETTE, Picture, to_bytes
from dit_course.show.lesson_ema import draw_profile, plain
from dit_course.show.pixels import enlarge
from dit_course.show.sheet import DENSITY, TEXT, blank_figure, rendered

DECAYS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 0.9999)
WIDTH, HEIGHT, LEFT = 820, 290, 380  # of the drawing, and where its pictures begin, in pixels of the page
TILE, COLUMNS = 84, 5


def ema(
    model: nn.Module,
    snapshots: Tensor,
    decay: float = 0.95,
    warmup: bool = True,
    labels: Sequence[int | str] | None = None,
    seed: int = 1,
) -> "Average":
    """Sliders for the decay and the moment of an average of kept weights: what is in it, and what it draws.

    model: has the shape of the weights; it stays as it is. snapshots: (steps + 1, parameters), the start and the
        weights after each step, as `torch.nn.utils.parameters_to_vector` makes them.
    labels: of the five pictures; None takes the first classes.
    As the last line of a cell it is live in JupyterLab; where no kernel runs, a still picture says the same.
    """
    return Average(model, snapshots, decay, warmup, labels, seed)


def shares_of(steps: int, decay: float, warmup: bool) -> Tensor:
    """What is in the average after so many steps: (steps + 1,), the start first."""
    return profile(warmup_decays(decay, steps) if warmup else torch.full((steps,), decay, dtype=torch.float64))


@torch.no_grad()
def pictures_of(model: nn.Module, weights: Tensor, labels: Sequence[int | str] | None, seed: int) -> Tensor:
    """What a model draws with these weights (parameters,): (n, C, H, W) uint8. The model takes them over."""
    vector_to_parameters(weights.to(next(model.parameters()).dtype), model.parameters())
    cfg = 1.0 if model.config.num_classes is None else 1.5
    count = len(labels) if labels is not None else COLUMNS
    return to_bytes(Sampler(model, steps=8, solver="ab2", cfg=cfg).sample(count, labels, seed=seed))


def draw(shares: Tensor, raw: Tensor, averaged: Tensor, title: str) -> Picture:
    """What the sliders show: the shares of all steps, and the pictures of the newest weights and of the average.

    shares: (steps + 1,). raw, averaged: (n, C, H, W) uint8.
    """
    figure = blank_figure(WIDTH, HEIGHT)
    axes = figure.add_axes((0.085, 0.18, 0.29, 0.62), facecolor="white")
    plain(axes)
    top = float(shares[1:].max())
    draw_profile(axes, shares, "", PALETTE["model"], top if top > 0 else 1.0)
    figure.text(8 / WIDTH, 1 - 24 / HEIGHT, title, **TEXT | {"fontsize": 14})
    for pixels, high, name in ((raw, 130, "drawn by the newest weights (raw)"), (averaged, 6, "drawn by the average")):
        zoom = max(1, TILE // max(pixels.shape[-2:]))
        tiles = enlarge(pixels, zoom * DENSITY).expand(-1, 3, -1, -1).permute(0, 2, 3, 1)  # (n, h, w, 3)
        for number, tile in enumerate(tiles[:COLUMNS]):
            figure.figimage(tile.numpy(), DENSITY * (LEFT + number * (TILE + 4)), DENSITY * high)
        ink = "#555555" if high > 100 else PALETTE["model"]
        place = (LEFT / WIDTH, (high + zoom * pixels.shape[-2] + 7) / HEIGHT)
        figure.text(*place, name, **TEXT | {"fontsize": 12, "color": ink})
    alt = f"{title}: {float(shares[0]):.0%} of it is the start, {float(shares[-1]):.0%} the newest step"
    return Picture.of(rendered(figure), alt)


class Average(View):
    """The view that `ema` makes. `picture` is what it shows at the moment."""

    def __init__(self, model: nn.Module, snapshots: Tensor, decay: float, warmup: bool, labels, seed: int):
        count = sum(parameter.numel() for parameter in model.parameters())
        if snapshots.ndim != 2 or len(snapshots) < 2 or snapshots.shape[1] != count:
            raise ValueError(
                f"snapshots are (steps + 1, {count}) for this model, at least two of them, not {tuple(snapshots.shape)}"
            )
        if not 0 <= decay < 1:
            raise ValueError(f"decay = {decay!r}, but it must be at least 0 and below 1")
        self.model, self.snapshots = deepcopy(model).eval(), snapshots.detach()
        self.labels, self.seed = labels, seed
        self._drawing = threading.Lock()
        self._raw = lru_cache(maxsize=32)(lambda step: self._pictures(self.snapshots[step]))
        wide = {"style": {"description_width": "60px"}, "layout": {"width": "290px"}}
        steps = len(snapshots) - 1
        self.decay = widgets.SelectionSlider(options=sorted({*DECAYS, decay}), value=decay, description="decay", **wide)
        self.step = widgets.IntSlider(steps, min=1, max=steps, description="step", continuous_update=False, **wide)
        self.warmup = widgets.Checkbox(warmup, description="warm-up", indent=False, layout={"width": "110px"})
        self.image = NamedImage(format="png", layout={"max_width": "100%"})
        self.message = widgets.HTML()
        self.controls = (self.decay, self.step, self.warmup)
        for control in self.controls:
            control.observe(self._changed, "value")
        self._redraw()
        row = widgets.HBox(self.controls, layout={"flex_flow": "row wrap"})
        super().__init__([row, self.image, self.message, Accessible()])

    def _pictures(self, weights: Tensor) -> Tensor:
        return pictures_of(self.model, weights, self.labels, self.seed)

    def _redraw(self) -> None:
        with self._drawing:  # events may come in two threads at once
            decay, step, warmup = (control.value for control in self.controls)
            shares = shares_of(step, decay, warmup)
            averaged = self._pictures(shares.to(self.snapshots.dtype) @ self.snapshots[: step + 1])
            title = f"decay {decay:g}, {'with' if warmup else 'no'} warm-up, step {step}"
            self.picture = draw(shares, self._raw(step), averaged, title)
            with self.image.hold_sync():
                self.image.value = self.picture.png
                self.image.width = str(self.picture.width)
                self.image.tooltip = self.picture.alt
            self.message.value = f'<span role="status">{html.escape(self.picture.alt)}</span>'
