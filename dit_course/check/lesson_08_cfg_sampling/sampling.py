"""Lesson 08, third part: the Sampler, a grid of all classes, and inversion."""

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dit_course import sampling
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import OTHERWISE, Case, Draw, Exercise
from dit_course.check.engine.mistakes import MatchesRule
from dit_course.check.engine.modules import AnswerError
from dit_course.check.lesson_08_cfg_sampling.mistakes import (
    Formula,
    Gaussian,
    in_columns,
    in_one_go,
    in_rows,
    sampled_with,
    slips_explained,
    turned,
    waves,
)
from dit_course.generation import BaseSampler

# -- Sampler -----------------------------------------------------------------------------------------


class Integrated(Exception):
    """What `integrate` gave, before `sample` does anything with it."""


@dataclass(frozen=True)
class Sampling(Case):
    """A Sampler is made of a model and settings, args, and samples `given`: (n, labels, seed)."""

    given: tuple = ()

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Sample, and see whether the callback is told."""
        model, settings = copy.deepcopy(self.args)
        n, labels, seed = self.given
        if not issubclass(answer, BaseSampler):
            raise AnswerError("let the class inherit from BaseSampler, which brings `sample`: leave its first line")
        model.weight.grad, seen = torch.ones(()), []
        sampler = answer(model, **settings)
        integrate = sampler.integrate

        def callback(index, t, x):
            seen.append(t)

        def stop(*args):
            raise Integrated(integrate(*args))

        with contextlib.suppress(Exception):
            sampler.sample(n, labels, seed=seed + 1, callback=callback)  # nothing of it may be kept
        seen.clear()
        sampler.integrate = stop
        try:
            pictures = sampler.sample(n, labels, seed=seed, callback=callback)
        except Integrated as end:  # taken as it is: `sample` itself would stumble over a list, or nothing
            pictures = end.args[0]
        right = sampling.Sampler(model, **settings).sample(n, labels, seed=seed)
        if same(pictures, right) and len(seen) != settings["steps"] + 1:
            raise AnswerError("the pictures are right, but the callback is never called: hand it on to the solver")
        return pictures, ([*labels], model)

    def inputs(self) -> tuple:
        """The labels, and the model."""
        return self.given[1], self.args[0]

    def imitate(self, wrong: Callable) -> Tensor:
        """What a wrong version samples."""
        return wrong(*copy.deepcopy(self.args), *self.given)


def samplings(draw: Draw) -> list[Sampling]:
    """Four samplers with other settings each; one has its solver as a function."""
    cases = []
    for solver, steps, cfg, interval in (
        ("heun", 4, 3.0, (0.2, 0.8)),
        (sampling.ab2, 5, 2.5, (0.0, 0.7)),
        ("ab2", 3, 2.0, (0.3, 1.0)),
        ("euler", 6, 1.0, (0.0, 1.0)),
    ):
        labels = torch.randint(4, (3,), generator=draw.generator).tolist()
        seed = int(torch.randint(1000, (), generator=draw.generator))
        settings = {"steps": steps, "solver": solver, "cfg": cfg, "cfg_interval": interval}
        label = f"{steps} steps of {getattr(solver, '__name__', solver)} with cfg {cfg}"
        cases.append(Sampling((Formula(4), settings), label, (3, labels, seed)))
    return cases


Sampler = Exercise(
    "Sampler",
    reference=sampling.Sampler,
    refused=lambda draw: [Case((Formula(4), 2, "never heard of"), "a solver that has no such name")],
    lesson="08",
    number=7,
    partly=OTHERWISE,
    cases=samplings,
    mistakes=[
        "your pictures are still in [-1, 1], as inside of the network: outside they lie in [0, 1]",
        sampled_with(end=lambda x: x),
        sampled_with(end=lambda x: x.clamp(-1, 1)),
        sampled_with(end=lambda x: x.clamp(0, 1)),
        "some values lie beyond [0, 1]: noise and guidance overshoot a little, and a screen shows nothing there: clamp",
        sampled_with(end=lambda x: (x + 1) / 2),
        "halve after adding, not before: -1 must become 0, and 1 must stay 1",
        sampled_with(end=lambda x: (x / 2 + 1).clamp(0, 1)),
        "only the 1 is halved: a division comes before a sum, unless there are brackets",
        sampled_with(end=lambda x: x + 1 / 2),
        sampled_with(end=lambda x: (x + 1 / 2).clamp(0, 1)),
        "clamp after halving, not before: inside of the network a picture reaches from -1 to 1",
        sampled_with(end=lambda x: (x.clamp(0, 1) + 1) / 2),
        "your times run from 0 to 1: sampling begins at t = 1, with noise",
        sampled_with(ts=lambda steps: torch.linspace(0, 1, steps + 1)),
        "your row of times is one too short: for `steps` steps there are steps + 1 times, both ends counted",
        sampled_with(ts=lambda steps: torch.linspace(1, 0, steps)),
        "your times end a little before 0: the velocity has a value there, and the data lie at exactly 0",
        sampled_with(ts=lambda steps: torch.linspace(1, 1e-3, steps + 1)),
        sampled_with(ts=lambda steps: torch.linspace(1, 1e-2, steps + 1)),
        "the guidance scale of this sampler is not used: it is in `self.cfg`",
        sampled_with(guide=lambda cfg, interval: (2.0, interval)),
        sampled_with(guide=lambda cfg, interval: (1.0, interval)),
        sampled_with(guide=lambda cfg, interval: (2.0, (0.0, 1.0))),
        "the interval of this sampler is not used: it is in `self.cfg_interval`",
        sampled_with(guide=lambda cfg, interval: (cfg, (0.0, 1.0))),
        "your sampler always takes Euler's steps: its own solver is in `self.solver`",
        sampled_with(solver=sampling.euler),
    ],
    praise="Samples what the course's sampler samples",
    picture=lambda pictures: pictures[0],
)


# -- class_grid --------------------------------------------------------------------------------------


def grid_cases(draw: Draw) -> list[Case]:
    """Samplers of a few classes; more pictures a class than classes, and fewer."""
    cases = []
    for classes, per_class in ((3, 4), (5, 2)):
        seed = int(torch.randint(1000, (), generator=draw.generator))
        sampler = sampling.Sampler(Formula(classes), steps=2, cfg=2.0)
        cases.append(Case((sampler, per_class, seed), f"{classes} classes, {per_class} pictures each"))
    return cases


class_grid = Exercise(
    "class_grid",
    reference=sampling.class_grid,
    lesson="08",
    cases=grid_cases,
    mistakes=[
        (
            "the classes are right, but every picture has a noise of its own: a column should share one, so use the "
            "seed again for every row"
        ),
        in_one_go,
        "every row has other noises: the seed should be the same for all of them",
        lambda *args: in_rows(*args, another=1),
        "`seed` is not used: your noises are those of another seed",
        lambda sampler, per_class, seed: in_rows(sampler, per_class, 0),
        "every column has a seed of its own: one seed makes all the noises of a row",
        lambda sampler, per_class, seed: in_columns(sampler, per_class, seed),
        "your classes run along the columns: a *row* should be one class",
        turned,
        "your classes change from picture to picture: a row should be one class (labels=... says which)",
        lambda *args: in_one_go(*args, order="turns"),
        lambda *args: in_rows(*args, labelled=False),
        "the rows are still an axis of their own: put them one after the other, (classes * per_class, ...)",
        lambda *args: sampling.class_grid(*args).unflatten(0, (-1, args[1])),
        MatchesRule(
            "only one row comes back: let the loop go through all classes before you return",
            lambda got, expected: got.shape[1:] == expected.shape[1:] and len(got) in (4, 2),
        ),
        MatchesRule(
            "there is only one picture of each class: a row has `per_class`",
            lambda got, expected: got.shape[1:] == expected.shape[1:] and len(got) in (3, 5),
        ),
        MatchesRule(
            "each row has as many pictures as there are classes: it should have `per_class`",
            lambda got, expected: got.ndim == 4 and len(got) in (9, 25),
        ),
    ],
    praise="A row for every class, a noise for every column,",
)


# -- stretch: invert ---------------------------------------------------------------------------------


class Inversion(Case):
    """From images to noise: an error is explained."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Integrate."""
        with slips_explained():
            return super().use(answer, track)


def inversions(draw: Draw) -> list[Inversion]:
    """Pictures on a bent trajectory and on an exact one."""
    batch, height, width = draw.sizes(3, 2, 5)
    return [
        Inversion((waves, draw.normal(batch, 1, height, width, dtype=torch.float64), 4), "a bent trajectory, 4 steps"),
        Inversion((Gaussian(0.5), 0.5 * draw.normal(batch, 1), 6), "a Gaussian, 6 steps"),
    ]


invert = Exercise(
    "invert",
    reference=sampling.invert,
    lesson="08",
    number=8,
    partly=OTHERWISE,
    cases=inversions,
    mistakes=[
        "you integrate from t = 1 to t = 0, as if the pictures were noise: at which t do pictures lie?",
        lambda v, x, steps: sampling.heun(v, x, torch.linspace(1, 0, steps + 1)),
        "one step is missing: for `steps` steps there are steps + 1 times, both ends counted",
        lambda v, x, steps: sampling.heun(v, x, torch.linspace(0, 1, steps)),
        "that is where Euler's steps end: take those of `heun`",
        lambda v, x, steps: sampling.euler(v, x, torch.linspace(0, 1, steps + 1)),
        "that is where the steps of `ab2` end: take those of `heun`",
        lambda v, x, steps: sampling.ab2(v, x, torch.linspace(0, 1, steps + 1)),
        "the velocity is turned around, and the times are, too: one of the two is enough, and the times do it",
        lambda v, x, steps: sampling.heun(lambda x, t: -v(x, t), x, torch.linspace(0, 1, steps + 1)),
        "the times that the velocity is called with run the wrong way: pictures lie at t = 0",
        lambda v, x, steps: sampling.heun(lambda x, t: v(x, 1 - t), x, torch.linspace(0, 1, steps + 1)),
    ],
    praise="Your noise is the course's",
)
