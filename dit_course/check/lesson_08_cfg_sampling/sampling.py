"""Lesson 08, second half: guidance, the Sampler, a grid of all classes, and inversion."""

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
from dit_course.check.engine.modules import AnswerError, said_instead
from dit_course.check.lesson_08_cfg_sampling.mistakes import (
    DOUBLED,
    GUIDANCE_SLIPS,
    IN_PLACE,
    Formula,
    Gaussian,
    guide,
    in_columns,
    in_one_go,
    in_rows,
    inside_or_nothing,
    mixed,
    one_pass,
    sampled_with,
    slips_explained,
    turned,
    waves,
)
from dit_course.generation import BaseSampler

# -- guided ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Guidance(Case):
    """args: (model, y, cfg, interval); the velocity is called at `given`, (x, t).

    passes: what it may cost. once: whether the network is to be called once, in the last case: values come first.
    """

    given: tuple = ()
    passes: int = 2
    once: bool = False

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Make the velocity, call it once, and count the network's calls and pictures."""
        model, y, cfg, interval = copy.deepcopy(self.args)
        x, t = (value.clone() for value in self.given)
        x.requires_grad_(track)
        model.weight.grad = torch.ones(())
        with contextlib.suppress(Exception):
            answer(model, y if y is None else y.flip(0), cfg, interval)  # nothing of it may be kept
        velocity = answer(model, y, cfg, interval)
        if not callable(velocity):
            raise AnswerError(
                "`guided` should return a function, the velocity v(x, t): leave the line `return velocity`"
            )
        with slips_explained(GUIDANCE_SLIPS), said_instead({"modified inplace": IN_PLACE}):
            result = velocity(x, t)
        seen, calls = model.evaluated, model.calls
        right = same(result, self.imitate(mixed(guide)))
        if right and seen > self.passes * len(x):
            raise AnswerError(
                f"the velocity is right, but on {self.label} the network saw {seen} pictures where {len(x)} are "
                "enough: where all scales are 1, the prediction without label is paid for and thrown away"
            )
        if right and self.once and calls > 1:
            raise AnswerError(
                f"the velocity is right, but the network is called {calls} times: one batch of double size is quicker. "
                "Join pictures, times and labels, and cut the result"
            )
        return result, (x, t, model)

    def inputs(self) -> tuple:
        """The pictures and times, and the model."""
        return *self.given, self.args[0]

    def imitate(self, wrong: Callable) -> Tensor:
        """What a wrong version makes of it."""
        return wrong(*copy.deepcopy(self.args), *self.given)


def guidance_cases(draw: Draw) -> list[Guidance]:
    """Strong guidance, weak, none; an interval that some, or none, of the times lie in; a model without classes."""
    everywhere, spread, batch = (0.0, 1.0), torch.tensor([1.0, 0.75, 0.0, 0.5, 0.25]), 5

    def case(cfg, interval, label, passes=2, times=spread, classes=4, once=False) -> Guidance:
        y = torch.randperm(4, generator=draw.generator)[torch.arange(batch) % 4]
        args = Formula(classes), y if classes else None, cfg, interval
        return Guidance(args, label, (draw.normal(batch, 1, 3, 2), times), passes, once)

    return [
        case(3.0, everywhere, "cfg 3"),
        case(4.0, (0.25, 0.75), "cfg 4, some of the times in the interval"),
        case(1.0, everywhere, "cfg 1", 1),
        case(3.0, (0.3, 0.7), "cfg 3, all of the times outside of the interval", 1, torch.linspace(0.75, 1.0, batch)),
        case(0.5, everywhere, "cfg 0.5"),
        case(0.0, (0.01, 0.99), "cfg 0, some of the times in the interval"),
        case(0.0, everywhere, "cfg 0"),
        case(1.0, everywhere, "a model without classes", 1, classes=None),
        case(2.0, everywhere, "cfg 2", once=True),
    ]


guided = Exercise(
    "guided",
    reference=sampling.guided,
    refused=lambda draw: [Case((Formula(None), None, 3.0), "cfg 3 and no labels")],
    lesson="08",
    partly=OTHERWISE,
    cases=guidance_cases,
    mistakes=[
        "where all scales are 1, you return the prediction *without* label: there the one with the label is meant",
        one_pass(lambda scale: scale == 1, hidden=True),
        "one pass is enough where all scales are *exactly* 1: with 0 or 0.5 the other prediction counts, too",
        one_pass(lambda scale: scale <= 1),
        (
            "pictures, times and labels must be doubled in one order, and the result cut in the same: `torch.cat` puts "
            "a batch behind itself, `repeat_interleave` each picture beside itself"
        ),
        *DOUBLED,
        "the two predictions are swapped: the first half of the doubled batch has the labels",
        mixed(lambda a, b, scale: guide(b, a, scale)),
        (
            "you start at the prediction *with* the label, so cfg 1 would already exaggerate: start at the one "
            "without, and go `scale` times the difference"
        ),
        mixed(lambda a, b, scale: a + scale * (a - b)),
        "that is only the difference, scaled: it has to be added to the prediction without the label",
        mixed(lambda a, b, scale: scale * (a - b)),
        "one picture inside of the interval is enough to guide all of them: `scale` tells them apart",
        mixed(guide, decide=torch.any),
        "one picture outside of the interval is enough to guide none of them: `scale` tells them apart",
        mixed(guide, decide=torch.all),
        "the label is there, but nothing is exaggerated: use `scale`",
        mixed(lambda a, b, scale: a),
        "only the prediction without the label is used",
        mixed(lambda a, b, scale: b),
        "the interval is ignored: `scale` is cfg inside of it and 1 outside, picture by picture",
        mixed(guide, decide=torch.ones_like),
        "outside of the interval the prediction *without* label is taken: there the one with the label is meant",
        inside_or_nothing,
        "`scale` stretches only the prediction with the label: put the whole difference in brackets",
        mixed(lambda a, b, scale: b + scale * a - b),
        "the shares of both predictions must add up to 1: what the label gains, the one without it loses",
        mixed(lambda a, b, scale: scale * a - b),
        mixed(lambda a, b, scale: scale * a + b),
        "the difference is turned around: it leads from the prediction without label to the one with it",
        mixed(lambda a, b, scale: b + scale * (b - a)),
        "you go `scale - 1` times the difference: from the prediction without label it is `scale` times",
        mixed(lambda a, b, scale: b + (scale - 1) * (a - b)),
        "you return both velocities, one after the other: mix them into one for each picture",
        mixed(lambda a, b, scale: torch.cat([a, b])),
    ],
    praise="Guided as it should be, for no more passes than needed,",
)


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
    """Three samplers with other settings each; one has its solver as a function."""
    cases = []
    for solver, steps, cfg, interval in (
        ("heun", 4, 3.0, (0.2, 0.8)),
        (sampling.ab2, 5, 2.5, (0.0, 0.7)),
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
