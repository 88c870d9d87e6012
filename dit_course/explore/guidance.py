"""A slider for classifier-free guidance: how strictly do the images follow their class?"""

import time
from dataclasses import replace
from functools import partial

import ipywidgets as widgets
import torch
from torch import Tensor, nn

from dit_course.explore.engine.classes import class_names, class_number
from dit_course.explore.engine.controls import class_menu, slider, styled
from dit_course.explore.engine.guidance_cache import (
    Guesser,
    Request,
    Trajectory,
    extrapolate,
    integrate,
    nearest_trajectory,
)
from dit_course.explore.engine.view import View
from dit_course.explore.engine.worker import DEBOUNCE, INSTANT, Cache, Job, Weights
from dit_course.sampling import Interval, Sampler
from dit_course.show import ImageGrid, Picture

MOST_PICTURES = 10
SIZE = (70, 290)  # of a control, in pixels
EVERY_CLASS = "every class"
STRONGEST = 8.0
MOST_GRIDS = 20  # classes whose captions are drawn and whose images are guessed by prefetching
MEMORY_OF_GUESSES = 8 * 2**20  # bytes
PREFETCH = 4.0  # seconds of prefetching after each update
HALFWAY = 0.5  # from this time t on, the predicted images are worth showing
FIRST_GUESS, PREDICTION = "a first guess, sampling ...", "predicted so far ..."


def cost(cfg: float, steps: int, interval: tuple[float, float] = (0.0, 1.0)) -> int:
    """Number of function evaluations (NFE) for one image: two in each guided step, else one."""
    low, high = interval
    ts = torch.linspace(1, 0, steps + 1)[:-1]
    inside = int(((ts >= low) & (ts <= high)).sum())
    return steps + (inside if cfg not in (0, 1) else 0)


class Guidance(View):
    """Sliders for the guidance scale, the class, the seed and the steps of a model with classes.

    cfg, label, seed, steps: where they start; label None samples one image of every class (of the first ten).
    interval: the times between which guidance acts, with a slider of its own (lesson 08); None shows no such slider.
    Sampled with the solver "ab2", which needs half of Euler's steps.
    """

    def __init__(
        self,
        model: nn.Module,
        cfg: float = 2.5,
        label: int | str | None = None,
        seed: int = 0,
        steps: int = 8,
        interval: Interval | None = None,
    ):
        if model.config.num_classes is None:
            raise ValueError("this model has no classes, so there is nothing to guide it with: load one that has")
        # invalid values are an error here, before a slider clamps them
        Sampler(model, steps=steps, cfg=cfg, cfg_interval=interval or (0.0, 1.0))
        self.weights = Weights(model, renewed=self._forget)
        self.names = class_names(model)
        label = class_number(self.names, label)
        self.trajectories, self.guesser = Cache(), Guesser()
        self.guesses = Cache(MEMORY_OF_GUESSES)  # prefetched
        self._seconds = 0.0  # that an integration took
        self._grids: dict[tuple[int, ...], ImageGrid] = {}
        self.cfg = slider("guidance", cfg, 0, max(STRONGEST, cfg), 0.5, SIZE)
        self.label = class_menu(self.names, label, EVERY_CLASS, SIZE)
        self.seed = slider("seed", seed, 0, max(99, seed), size=SIZE)
        self.steps = slider("steps", steps, 1, max(50, steps), size=SIZE)
        span = {"value": interval or (0.0, 1.0), "min": 0, "max": 1, "step": 0.05, "readout_format": ".2f"}
        self.interval = widgets.FloatRangeSlider(**span, description="interval", **styled(SIZE))
        controls = (self.cfg, self.label, self.seed, self.steps, *([self.interval] if interval else []))
        pairs = [controls[i : i + 2] for i in range(0, len(controls), 2)]
        super().__init__(controls, [widgets.HBox(pair, layout={"flex_flow": "row wrap"}) for pair in pairs])

    @property
    def picture(self) -> Picture:
        """The images on screen, titled with their settings, for where no kernel runs."""
        self.wait_idle()
        pixels, labels, caption = self._shown
        grid = ImageGrid(pixels.shape, [self.names[i] for i in labels], 5, caption)
        return Picture.of(grid.paint(pixels), caption)

    def state(self) -> Request:
        """The values of all controls, as a request for samples."""
        label = self.label.value
        every = tuple(range(min(len(self.names), MOST_PICTURES)))
        labels = every if label == EVERY_CLASS else (label,) * MOST_PICTURES
        return Request(labels, self.seed.value, self.cfg.value, self.steps.value, tuple(self.interval.value))

    def render(self, job: Job, state: Request) -> None:
        """First a guess from cached trajectories, then predictions of later steps, then the images in full quality."""
        model = self.weights.copy()
        path, start = self.trajectories.get(state), time.perf_counter()
        if path is None:
            if job.live and self._seconds > INSTANT:
                self._show_first_guess(job, model, state)
            with job.within(model):
                path = integrate(model, state, partial(self._progress, job, state))
            self._seconds = time.perf_counter() - start
            self._keep(path)
        self._update(state, path.pictures, f"sampled in {path.seconds:.2f} s")

    def prefetch(self, job: Job, state: Request) -> None:
        """Sample the states that are one move away, as far as that takes little time."""
        model, until = self.weights.copy(), time.perf_counter() + PREFETCH
        seeds = [seed for seed in (state.seed + 1, state.seed - 1) if 0 <= seed <= self.seed.max]
        classes = _nearest_first(state.labels[0], len(self.names))[:MOST_GRIDS]
        others = [replace(state, labels=(number,) * MOST_PICTURES) for number in classes]
        for other in others:
            self._grid(self._shown[0], other.labels)  # other captions
            job.check()
        seeds = [replace(state, seed=seed) for seed in seeds]
        scales = [replace(state, cfg=cfg) for cfg in (state.cfg + 0.5, state.cfg - 0.5) if 0 <= cfg <= self.cfg.max]
        with job.within(model):
            for request in (*seeds, *others):  # first guesses are cheap
                job.check()
                if self.trajectories.get(request) is None and time.perf_counter() < until:
                    self._guess(model, request)
            for request in (*scales, *seeds):
                job.check()
                if self.trajectories.get(request) is None and time.perf_counter() + self._seconds < until:
                    self._keep(integrate(model, request))

    def _forget(self) -> None:
        """Forget what was sampled with other weights."""
        self.trajectories.clear()
        self.guesses.clear()
        self.guesser = Guesser()

    def _keep(self, path: Trajectory) -> None:
        self.trajectories.put(path.request, path)
        self.guesser.learn(path)

    def _show_first_guess(self, job: Job, model: nn.Module, state: Request) -> None:
        """A quick result; the exact one waits until the slider rests."""
        path = nearest_trajectory([path for _, path in self.trajectories.items()], state)
        pixels = None if path is None else extrapolate(path, state)
        known = pixels is not None
        self._update(state, pixels if known else self._guess(model, state), FIRST_GUESS, rough=True)
        job.shown = True
        job.debounce(DEBOUNCE if known else 0.0)

    def _guess(self, model: nn.Module, state: Request) -> Tensor:
        return self.guesses.fetch(state, lambda: self.guesser.guess(model, state))

    def _progress(self, job: Job, state: Request, t: float, pixels: Tensor) -> None:
        job.check()
        if job.live and t <= HALFWAY:
            self._update(state, pixels, PREDICTION, rough=True)
            job.shown = True

    def _update(self, state: Request, pixels: Tensor, remark: str, rough: bool = False) -> None:
        label = self.names[state.labels[0]] if len(set(state.labels)) == 1 and len(self.names) > 1 else EVERY_CLASS
        caption = f"{label}, guidance {state.cfg:.1f}, seed {state.seed}, {state.steps} steps"
        if self.interval in self.controls:
            low, high = state.interval
            count = cost(state.cfg, state.steps, state.interval)
            caption += f", guided t {high:.2f}-{low:.2f}, {count} evaluations"
        self._shown = pixels, state.labels, caption
        alt = f"{len(state.labels)} pictures: {caption}"
        self.canvas.show(self._grid(pixels, state.labels), pixels, alt, f"{caption}: {remark}", rough)

    def _grid(self, pixels: Tensor, labels: tuple[int, ...]) -> ImageGrid:
        """The grid of these classes, its captions drawn once. pixels: (..., C, H, W), as large as the rest."""
        if labels not in self._grids:
            shape = (len(labels), *pixels.shape[1:])
            self._grids[labels] = ImageGrid(shape, [self.names[i] for i in labels], columns=5)
        return self._grids[labels]


def _nearest_first(start: int, count: int) -> list[int]:
    """All numbers below `count`, those next to `start` first: classes are often tried in order."""
    return sorted(range(count), key=lambda number: abs(number - start))
