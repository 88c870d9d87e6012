"""A slider for the decay of an average of weights: what is in the average, and what it draws."""

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
from dit_course.explore.engine.view import View, beside
from dit_course.explore.engine.worker import Cache, Job
from dit_course.sampling import Sampler
from dit_course.show import PALETTE, Picture, to_bytes
from dit_course.show.arrays import enlarge
from dit_course.show.layout import DENSITY, TEXT, blank_figure, rendered
from dit_course.show.lesson_07_ema import draw_profile, plain

DECAYS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 0.9999)
WIDTH, HEIGHT, LEFT = 820, 290, 380  # of the drawing, and where its pictures begin, in pixels of the page
TILE, COLUMNS = 84, 5
ROWS, NAMES = (130, 6), ("drawn by the newest weights (raw)", "drawn by the average")  # from below; what they are
STEPS, FEW = 8, 2  # of the sampler, for the pictures that count and for the first guess
AT_ONCE = 0.1  # seconds: what is drawn as fast as this needs no first guess
RESTING = 0.08  # seconds without a move: the hand rests


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
    """What a model draws with these weights (parameters,): (n, C, H, W) uint8. The model takes them over."""
    vector_to_parameters(weights.to(next(model.parameters()).dtype), model.parameters())
    cfg = 1.0 if model.config.num_classes is None else 1.5
    count = len(labels) if labels is not None else COLUMNS
    sampler = Sampler(model, steps=steps, solver="ab2", cfg=cfg)
    return to_bytes(sampler.sample(count, labels, seed=seed))


def draw_shares(shares: Tensor, title: str) -> np.ndarray:
    """The left of the drawing, and the names of the rows at its right: (height, width, 3) uint8."""
    figure = blank_figure(WIDTH, HEIGHT)
    axes = figure.add_axes((0.085, 0.18, 0.29, 0.62), facecolor="white")
    plain(axes)
    top = float(shares[1:].max())
    draw_profile(axes, shares, "", PALETTE["model"], top if top > 0 else 1.0)
    figure.text(8 / WIDTH, 1 - 24 / HEIGHT, title, **TEXT | {"fontsize": 14})
    for high, name, ink in zip(ROWS, NAMES, ("#555555", PALETTE["model"]), strict=True):
        place = (LEFT / WIDTH, (high + TILE + 7) / HEIGHT)
        figure.text(*place, name, **TEXT | {"fontsize": 12, "color": ink})
    return rendered(figure)


def put(paper: np.ndarray, raw: Tensor, averaged: Tensor) -> np.ndarray:
    """Both rows of pictures (n, C, H, W) uint8 on such a paper: (height, width, 3) uint8."""
    sheet = paper.copy()
    for pixels, high in zip((raw, averaged), ROWS, strict=True):
        zoom = max(1, TILE // max(pixels.shape[-2:])) * DENSITY
        tiles = enlarge(pixels, zoom).expand(-1, 3, -1, -1).permute(0, 2, 3, 1)  # (n, h, w, 3)
        bottom = DENSITY * (HEIGHT - high)
        for number, tile in enumerate(tiles[:COLUMNS].numpy()):
            left = DENSITY * (LEFT + number * (TILE + 4))
            sheet[bottom - tile.shape[0] : bottom, left : left + tile.shape[1]] = tile
    return sheet


def said(shares: Tensor, title: str) -> str:
    """What there is to see, in words."""
    return f"{title}: {float(shares[0]):.0%} of it is the start, {float(shares[-1]):.0%} the newest step"


def draw(shares: Tensor, raw: Tensor, averaged: Tensor, title: str) -> Picture:
    """What the sliders show: the shares of all steps, and the pictures of the newest weights and of the average.

    shares: (steps + 1,). raw, averaged: (n, C, H, W) uint8.
    """
    return Picture.of(put(draw_shares(shares, title), raw, averaged), said(shares, title))


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
        self._drawn, self._papers, self._seconds = Cache(), Cache(), 0.0
        wide = {"style": {"description_width": "60px"}, "layout": {"width": "290px"}}
        steps = len(snapshots) - 1
        self.decay = widgets.SelectionSlider(options=sorted({*DECAYS, decay}), value=decay, description="decay", **wide)
        self.step = widgets.IntSlider(steps, min=1, max=steps, description="step", **wide)
        self.warmup = widgets.Checkbox(warmup, description="warm-up", indent=False, layout={"width": "110px"})
        super().__init__([self.decay, self.step, self.warmup])

    @property
    def picture(self) -> Picture:
        """What is on show: the still for where no kernel runs."""
        self.settle()
        return self._shown

    def answer(self, job: Job, state: tuple[float, int, bool]) -> None:
        """Rough pictures in few steps, then those of the full number of steps."""
        if job.live and self._drawn.get(state) is None and self._seconds > AT_ONCE:
            self._show(state, self._drawn.get(("raw", state[1])), self._rough(state), rough=True)
            job.answered = True
            job.rest(RESTING)
        self._show(state, self._raw(state[1], job), self._full(state, job))

    def ahead(self, job: Job, state: tuple[float, int, bool]) -> None:
        """Draw with the averages that one move leads to: first guesses before those in full."""
        moves = [one for one in beside(self.controls, state) if one[1] == state[1]]
        for one in moves:
            self._paper(one)
            job.check()
            if self._drawn.get(one) is None:
                self._rough(one, job)
        for one in moves:
            self._full(one, job)

    def _show(self, state, raw: Tensor | None, averaged: Tensor, rough: bool = False) -> None:
        shares, title, paper = self._paper(state)
        raw = raw if raw is not None else torch.full_like(averaged, 238)  # a gray place for what is still drawn
        self._shown = Picture.of(put(paper, raw, averaged), said(shares, title))
        remark = ": a first guess, drawing ..." if rough else ""
        self.canvas.draw(self._shown.pixels, self._shown.alt, self._shown.alt + remark, rough)

    def _paper(self, state: tuple[float, int, bool]) -> tuple[Tensor, str, np.ndarray]:
        """All but the pictures: the shares, the title, and their drawing."""
        found = self._papers.get(state)
        if found is None:
            decay, step, warmup = state
            title = f"decay {decay:g}, {'with' if warmup else 'no'} warm-up, step {step}"
            shares = shares_of(step, decay, warmup)
            found = shares, title, draw_shares(shares, title)
            self._papers.put(state, found)
        return found

    def _full(self, state: tuple[float, int, bool], job: Job) -> Tensor:
        return self._kept(state, lambda: self._average(state, STEPS, job))

    def _rough(self, state: tuple[float, int, bool], job: Job | None = None) -> Tensor:
        pixels = self._drawn.get(("rough", state))
        if pixels is None:
            pixels = self._average(state, FEW, job)
            self._drawn.put(("rough", state), pixels)
        return pixels

    def _raw(self, step: int, job: Job) -> Tensor:
        return self._kept(("raw", step), lambda: self._pictures(self.snapshots[step], STEPS, job))

    def _kept(self, key, drawn: Callable[[], Tensor]) -> Tensor:
        pixels = self._drawn.get(key)
        if pixels is None:
            start = time.perf_counter()
            pixels = drawn()
            self._seconds = time.perf_counter() - start
            self._drawn.put(key, pixels)
        return pixels

    def _average(self, state: tuple[float, int, bool], steps: int, job: Job | None = None) -> Tensor:
        decay, step, warmup = state
        shares = shares_of(step, decay, warmup)
        return self._pictures(shares.to(self.snapshots.dtype) @ self.snapshots[: step + 1], steps, job)

    def _pictures(self, weights: Tensor, steps: int, job: Job | None) -> Tensor:
        with job.within(self.model) if job else contextlib.nullcontext():
            return pictures_of(self.model, weights, self.labels, self.seed, steps)
