"""A slider for the decay of an average of weights: what is in the average, and what it samples."""

import contextlib
import time
from collections.abc import Callable, Sequence
from copy import deepcopy

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from dit_course.ema import averaging_weights, warmup_decays
from dit_course.explore.engine.controls import choice, slider
from dit_course.explore.engine.view import View, neighbors
from dit_course.explore.engine.worker import DEBOUNCE, INSTANT, Cache, Job
from dit_course.sampling import Sampler
from dit_course.show import PALETTE, Picture, to_bytes
from dit_course.show.arrays import enlarge
from dit_course.show.axes import chart
from dit_course.show.layout import DENSITY, TEXT, rendered
from dit_course.show.lesson_07_ema import draw_profile
from dit_course.show.text import paste

DECAYS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 0.9999)
WIDTH, HEIGHT, LEFT = 820, 290, 380  # of the picture, and where its samples begin, in pixels of the page
TILE, COLUMNS = 84, 5
ROWS, NAMES = (130, 6), ("drawn by the newest weights (raw)", "drawn by the average")  # from below; what they are
STEPS, PREVIEW_STEPS = 8, 2  # of the sampler
SIZE = (60, 290)  # of a control, in pixels


def shares_of(steps: int, decay: float, warmup: bool) -> Tensor:
    """The share of each step in the average after so many steps: (steps + 1,), the initial weights first."""
    return averaging_weights(
        warmup_decays(decay, steps) if warmup else torch.full((steps,), decay, dtype=torch.float64)
    )


@torch.no_grad()
def pictures_of(
    model: nn.Module,
    weights: Tensor,
    labels: Sequence[int | str] | None,
    seed: int,
    steps: int = STEPS,
) -> Tensor:
    """What a model samples with these weights (parameters,), which it takes over: (n, C, H, W) uint8."""
    vector_to_parameters(weights.to(next(model.parameters()).dtype), model.parameters())
    cfg = 1.0 if model.config.num_classes is None else 1.5
    count = len(labels) if labels is not None else COLUMNS
    sampler = Sampler(model, steps=steps, solver="ab2", cfg=cfg)
    return to_bytes(sampler.sample(count, labels, seed=seed))


def draw_shares(shares: Tensor, title: str) -> np.ndarray:
    """The chart on the left, and the names of the rows at its right: (height, width, 3) uint8."""
    figure, axes = chart(WIDTH, HEIGHT, (0.085, 0.18, 0.29, 0.62), "step", "share in the average", "y")
    top = float(shares[1:].max())
    draw_profile(axes, shares, "", PALETTE["model"], top if top > 0 else 1.0)
    figure.text(8 / WIDTH, 1 - 24 / HEIGHT, title, **TEXT | {"fontsize": 14})
    for high, name, ink in zip(ROWS, NAMES, ("#555555", PALETTE["model"]), strict=True):
        place = (LEFT / WIDTH, (high + TILE + 7) / HEIGHT)
        figure.text(*place, name, **TEXT | {"fontsize": 12, "color": ink})
    return rendered(figure)


def with_samples(background: np.ndarray, raw: Tensor, averaged: Tensor) -> np.ndarray:
    """Both rows of samples (n, C, H, W) uint8 beside the chart: (height, width, 3) uint8."""
    page = background.copy()
    for pixels, high in zip((raw, averaged), ROWS, strict=True):
        zoom = max(1, TILE // max(pixels.shape[-2:]))
        tiles = enlarge(pixels, zoom * DENSITY).permute(0, 2, 3, 1)  # (n, c, h, w) -> (n, h, w, c)
        for number, tile in enumerate(tiles[:COLUMNS].numpy()):
            paste(page, tile, HEIGHT - high - tile.shape[0] / DENSITY, LEFT + number * (TILE + 4))
    return page


def describe(shares: Tensor, title: str) -> str:
    """The picture as text."""
    return f"{title}: {float(shares[0]):.0%} of it is the start, {float(shares[-1]):.0%} the newest step"


class Ema(View):
    """Sliders for the decay and the step of an average of stored weights: what is in it, and what it samples.

    model: has the shape of the weights; it is not changed. snapshots: (steps + 1, parameters), the initial weights and
        those after each step, as `torch.nn.utils.parameters_to_vector` makes them.
    labels: of the five samples; None takes the first classes.
    """

    def __init__(
        self,
        model: nn.Module,
        snapshots: Tensor,
        decay: float = 0.95,
        warmup: bool = True,
        labels: Sequence[int | str] | None = None,
        seed: int = 1,
    ):
        count = sum(parameter.numel() for parameter in model.parameters())
        if snapshots.ndim != 2 or len(snapshots) < 2 or snapshots.shape[1] != count:
            raise ValueError(
                f"snapshots are (steps + 1, {count}) for this model, at least two of them, not {tuple(snapshots.shape)}"
            )
        if not 0 <= decay < 1:
            raise ValueError(f"decay = {decay!r}, but it must be at least 0 and below 1")
        self.model, self.snapshots = deepcopy(model).eval(), snapshots.detach()
        self.labels, self.seed = labels, seed
        self._samples, self._charts, self._seconds = Cache(), Cache(), 0.0
        steps = len(snapshots) - 1
        self.decay = choice("decay", sorted({*DECAYS, decay}), decay, SIZE)
        self.step = slider("step", steps, 1, steps, size=SIZE)
        self.warmup = widgets.Checkbox(warmup, description="warm-up", indent=False, layout={"width": "110px"})
        super().__init__([self.decay, self.step, self.warmup])

    def render(self, job: Job, state: tuple[float, int, bool]) -> None:
        """A preview in few steps, then the samples of the full number of steps."""
        if job.live and self._samples.get(state) is None and self._seconds > INSTANT:
            self._update(state, self._samples.get(("raw", state[1])), self._preview(state), rough=True)
            job.shown = True
            job.debounce(DEBOUNCE)
        self._update(state, self._raw(state[1], job), self._full(state, job))

    def prefetch(self, job: Job, state: tuple[float, int, bool]) -> None:
        """Sample the averages that are one move away: previews before those in full quality."""
        moves = [one for one in neighbors(self.controls, state) if one[1] == state[1]]
        for one in moves:
            self._chart(one)
            job.check()
            if self._samples.get(one) is None:
                self._preview(one, job)
        for one in moves:
            self._full(one, job)

    def _update(self, state, raw: Tensor | None, averaged: Tensor, rough: bool = False) -> None:
        shares, title, chart = self._chart(state)
        raw = raw if raw is not None else torch.full_like(averaged, 238)  # gray until it is sampled
        picture = Picture.of(with_samples(chart, raw, averaged), describe(shares, title))
        self.show(picture, picture.alt + (": preview, sampling ..." if rough else ""), rough)

    def _chart(self, state: tuple[float, int, bool]) -> tuple[Tensor, str, np.ndarray]:
        """All but the samples: the shares, the title, and their chart."""
        decay, step, warmup = state
        title = f"decay {decay:g}, {'with' if warmup else 'no'} warm-up, step {step}"
        shares = shares_of(step, decay, warmup)
        return shares, title, self._charts.fetch(state, lambda: draw_shares(shares, title))

    def _full(self, state: tuple[float, int, bool], job: Job) -> Tensor:
        return self._cached(state, lambda: self._average(state, STEPS, job))

    def _preview(self, state: tuple[float, int, bool], job: Job | None = None) -> Tensor:
        return self._samples.fetch(("preview", state), lambda: self._average(state, PREVIEW_STEPS, job))

    def _raw(self, step: int, job: Job) -> Tensor:
        return self._cached(("raw", step), lambda: self._pictures(self.snapshots[step], STEPS, job))

    def _cached(self, key, sample: Callable[[], Tensor]) -> Tensor:
        def timed() -> Tensor:
            start = time.perf_counter()
            pixels = sample()
            self._seconds = time.perf_counter() - start
            return pixels

        return self._samples.fetch(key, timed)

    def _average(self, state: tuple[float, int, bool], steps: int, job: Job | None = None) -> Tensor:
        decay, step, warmup = state
        shares = shares_of(step, decay, warmup)
        return self._pictures(shares.to(self.snapshots.dtype) @ self.snapshots[: step + 1], steps, job)

    def _pictures(self, weights: Tensor, steps: int, job: Job | None) -> Tensor:
        with job.within(self.model) if job else contextlib.nullcontext():
            return pictures_of(self.model, weights, self.labels, self.seed, steps)
