"""Guidance sliders for any model: with a few-step student every event paints the final images."""

import ipywidgets as widgets
from torch import Tensor, nn

from dit_course.explore.engine.classes import class_names, class_number
from dit_course.explore.engine.controls import choice, class_menu, slider
from dit_course.explore.engine.view import View, neighbors
from dit_course.explore.engine.worker import Cache, Job, Weights
from dit_course.explore.guidance import EVERY_CLASS, MOST_PICTURES, Guidance
from dit_course.few_steps import CFG_RANGE, FewStepDiT, FewStepSampler
from dit_course.show import ImageGrid, Picture, to_bytes
from dit_course.wrappers import unwrap

EVALUATIONS = (1, 2, 4, 8)
SIZE = (80, 300)  # of a control, in pixels


def guidance(
    model: nn.Module,
    cfg: float = 2.5,
    label: int | str | None = None,
    seed: int = 0,
    steps: int | None = None,
    interval: tuple[float, float] | None = None,
) -> View:
    """Sliders for the guidance scale, the class, the seed and the steps of a model with classes.

    cfg, label, seed, steps: where they start; label None samples one image of every class (of the first ten).
    A few-step student samples in 1, 2, 4 or 8 evaluations, as fast as the sliders move. Other models take the solver
    "ab2", which needs half of Euler's steps, from 8 steps on.
    interval: the times between which guidance acts, with a slider of its own (lesson 08); None shows no such slider.
    As the last line of a cell it is live in JupyterLab; where no kernel runs, a static picture shows the same.
    """
    if not isinstance(unwrap(model), FewStepDiT):
        return Guidance(model, cfg, label, seed, 8 if steps is None else steps, interval)
    if interval is not None:
        raise ValueError("a few-step student has its guidance built in, at all times: leave interval out")
    return FewSteps(unwrap(model), cfg, label, seed, 1 if steps is None else steps)


class FewSteps(View):
    """The view that `guidance` makes for a student. `picture` is what it shows at the moment."""

    def __init__(self, student: FewStepDiT, cfg: float, label: int | str | None, seed: int, steps: int):
        if student.config.num_classes is None:
            raise ValueError("this model has no classes, so there is nothing to guide it with: load one that has")
        FewStepSampler(student, steps, cfg)  # invalid values are an error here, before a slider clamps them
        self.weights, self.names, self.samples = Weights(student), class_names(student), Cache()
        label = class_number(self.names, label)
        self._grids: dict[tuple[int, ...], ImageGrid] = {}
        self.cfg = slider("guidance", cfg, *CFG_RANGE, 0.5, SIZE)
        self.label = class_menu(self.names, label, EVERY_CLASS, SIZE)
        self.seed = slider("seed", seed, 0, max(99, seed), size=SIZE)
        self.steps = choice("evaluations", sorted({*EVALUATIONS, steps}), steps, SIZE)
        controls = (self.cfg, self.label, self.seed, self.steps)
        rows = [widgets.HBox(controls[i : i + 2], layout={"flex_flow": "row wrap"}) for i in (0, 2)]
        super().__init__(controls, rows)

    def labels_of(self, label: int | str) -> tuple[int, ...]:
        """The class of each image."""
        every = tuple(range(min(len(self.names), MOST_PICTURES)))
        return every if label == EVERY_CLASS else (label,) * MOST_PICTURES

    def sample(self, state: tuple) -> Tensor:
        """The images of a state, (n, C, H, W) uint8, from the cache if it has them."""
        model, (cfg, label, seed, steps) = self.weights.copy(), state
        labels = self.labels_of(label)
        sampler = FewStepSampler(model, steps, cfg)
        return self.samples.fetch(
            (self.weights.version, state), lambda: to_bytes(sampler.sample(len(labels), labels, seed))
        )

    def render(self, job: Job, state: tuple) -> None:
        """The images in full quality: there is nothing to wait for."""
        pixels, (cfg, label, seed, steps) = self.sample(state), state
        labels = self.labels_of(label)
        name = label if label == EVERY_CLASS else self.names[label]
        caption = f"{name}, guidance {cfg:.1f}, seed {seed}, {steps} evaluation{'s' * (steps > 1)} per picture"
        self._shown = pixels, labels, caption
        if labels not in self._grids:  # its captions are drawn once
            self._grids[labels] = ImageGrid(pixels.shape, [self.names[i] for i in labels], columns=5)
        self.canvas.show(self._grids[labels], pixels, f"{len(labels)} pictures: {caption}", caption, False)

    def prefetch(self, job: Job, state: tuple) -> None:
        """Sample the states that are one move away."""
        with job.within(self.weights.copy()):
            for one in neighbors(self.controls, state):
                job.check()
                self.sample(one)

    @property
    def picture(self) -> Picture:
        """The images on screen, titled with their settings, for where no kernel runs."""
        self.wait_idle()
        pixels, labels, caption = self._shown
        return Picture.of(ImageGrid(pixels.shape, [self.names[i] for i in labels], 5, caption).paint(pixels), caption)
