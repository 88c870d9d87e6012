"""A slider for classifier-free guidance: how strictly do the pictures follow their class?"""

import html
import threading
import time

import ipywidgets as widgets
import torch
from torch import Tensor, nn

from dit_course.explore.keyboard import Accessible
from dit_course.explore.view import NamedImage, View
from dit_course.sampling import Sampler
from dit_course.show import Picture, Sheet, to_bytes, to_png

MOST_PICTURES = 10
EVERY_CLASS = "every class"
STRONGEST = 8.0


def guidance(
    model: nn.Module,
    cfg: float = 2.5,
    label: int | str | None = None,
    seed: int = 0,
    steps: int = 8,
    interval: tuple[float, float] | None = None,
) -> "Guidance":
    """Sliders for the guidance scale, the class, the seed and the steps of a model with classes.

    cfg, label, seed, steps: where they start; label None draws one picture of every class (of the first ten).
    interval: the times between which guidance acts, with a slider of its own (lesson 08); None shows no such slider.
    Drawn with the solver "ab2", which needs half of Euler's steps. As the last line of a cell it is live in JupyterLab;
    where no kernel runs, a still picture says the same.
    """
    return Guidance(model, cfg, label, seed, steps, interval)


def draw(
    model: nn.Module,
    cfg: float,
    label: int | None,
    seed: int,
    steps: int,
    interval: tuple[float, float] = (0.0, 1.0),
) -> tuple[Tensor, list[int]]:
    """What the sliders show: ten pictures of one class, or with label None one of every class (of the first ten).

    Returns the pictures (n, C, H, W) uint8 and their classes.
    """
    every = list(range(min(model.config.num_classes, MOST_PICTURES)))
    labels = every if label is None else [label] * MOST_PICTURES
    # `sample` switches gradients off itself: a slider's callback runs in a thread of its own, where they are on
    sampler = Sampler(model, steps=steps, solver="ab2", cfg=cfg, cfg_interval=interval)
    return to_bytes(sampler.sample(len(labels), labels, seed=seed)), labels


def cost(cfg: float, steps: int, interval: tuple[float, float] = (0.0, 1.0)) -> int:
    """Evaluations of the network for one picture: two in each step that is guided, else one."""
    low, high = interval
    ts = torch.linspace(1, 0, steps + 1)[:-1]
    inside = int(((ts >= low) & (ts <= high)).sum())
    return steps + (inside if cfg not in (0, 1) else 0)


class Guidance(View):
    """The view that `guidance` makes. `picture` is what it shows at the moment."""

    def __init__(self, model: nn.Module, cfg: float, label: int | str | None, seed: int, steps: int, interval=None):
        if model.config.num_classes is None:
            raise ValueError("this model has no classes, so there is nothing to guide it with: load one that has")
        Sampler(
            model, steps=steps, cfg=cfg, cfg_interval=interval or (0.0, 1.0)
        )  # says what is wrong with these before a slider bends them
        self.model = model
        self.names = _class_names(model)
        self._drawing = threading.Lock()
        self._sheets: dict[tuple[int, ...], Sheet] = {}
        wide = {"style": {"description_width": "70px"}, "layout": {"width": "290px"}}
        classes = [(EVERY_CLASS, EVERY_CLASS), *((name, number) for number, name in enumerate(self.names))]
        if label not in (None, *self.names, *range(len(self.names))):
            raise ValueError(f"unknown class {label!r}; this model knows {', '.join(self.names)}")
        label = self.names.index(label) if isinstance(label, str) else label
        self.cfg = widgets.FloatSlider(
            cfg, min=0, max=max(STRONGEST, cfg), step=0.5, description="guidance", readout_format=".1f", **wide
        )
        self.label = widgets.Dropdown(
            options=classes, value=EVERY_CLASS if label is None else label, description="class", **wide
        )
        self.seed = widgets.IntSlider(seed, min=0, max=max(99, seed), description="seed", **wide)
        self.steps = widgets.IntSlider(steps, min=1, max=max(50, steps), description="steps", **wide)
        self.image = NamedImage(format="png", layout={"max_width": "100%"})
        self.message = widgets.HTML()
        self.interval = widgets.FloatRangeSlider(
            value=interval or (0.0, 1.0), min=0, max=1, step=0.05, description="interval", readout_format=".2f", **wide
        )
        self.controls = (self.cfg, self.label, self.seed, self.steps, *([self.interval] if interval else []))
        for control in self.controls:
            control.observe(self._changed, "value")
        pairs = [self.controls[i : i + 2] for i in range(0, len(self.controls), 2)]
        rows = [widgets.HBox(pair, layout={"flex_flow": "row wrap"}) for pair in pairs]
        self._redraw()
        super().__init__([*rows, self.image, self.message, Accessible()])

    @property
    def picture(self) -> Picture:
        """The pictures on show, with what was asked for as their title: the still for where no kernel runs."""
        pixels, labels = self._shown
        sheet = Sheet(pixels.shape, [self.names[i] for i in labels], 5, self.caption)
        return Picture.of(sheet.paint(pixels), self.caption)

    def _redraw(self) -> None:
        with self._drawing:  # events may come in two threads at once
            cfg, label, seed, steps = (control.value for control in self.controls[:4])
            interval = self.interval.value
            label = None if label == EVERY_CLASS else label
            start = time.perf_counter()
            pixels, labels = draw(self.model, cfg, label, seed, steps, interval)
            seconds = time.perf_counter() - start
            what = EVERY_CLASS if label is None else self.names[label]
            self.caption = f"{what}, guidance {cfg:.1f}, seed {seed}, {steps} steps"
            if self.interval in self.controls:
                low, high = interval
                count = cost(cfg, steps, interval)
                self.caption += f", guided from t = {high:.2f} to {low:.2f}, {count} evaluations a picture"
            self._shown = pixels, labels
            sheet = self._sheet(pixels, labels)
            with self.image.hold_sync():
                self.image.value = to_png(sheet.paint(pixels), effort=1)
                self.image.width = str(sheet.width)
                self.image.tooltip = f"{len(labels)} pictures: {self.caption}"
            self.message.value = f'<span role="status">{html.escape(self.caption)}: drawn in {seconds:.2f} s</span>'

    def _sheet(self, pixels: Tensor, labels: list[int]) -> Sheet:
        """The captions are drawn once for each choice of the class."""
        key = tuple(labels)
        if key not in self._sheets:
            self._sheets[key] = Sheet(pixels.shape, [self.names[i] for i in labels], columns=5)
        return self._sheets[key]


def _class_names(model: nn.Module) -> list[str]:
    count = model.config.num_classes
    names = list(getattr(model, "class_names", None) or [])
    return names if len(names) == count else [f"class {number}" for number in range(count)]
