"""Lesson 06: overfitting one batch, the learning rate, clipping, the step, and gradients gathered from parts."""

import math
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from dit_course import training
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import OTHERWISE, Draw, Exercise
from dit_course.check.engine.mistakes import MatchesRule
from dit_course.check.lesson_06_training import mistakes as wrong
from dit_course.check.lesson_06_training.cases import Accumulating, Gradients, Overfitting, Schedule, Stepping, flat
from dit_course.check.stretch_solutions import accumulate_gradients as accumulated
from dit_course.check.stretch_solutions import clip_gradients as clipped


def seeds(draw: Draw, count: int) -> list[int]:
    """Seeds for cases that make their own numbers."""
    return torch.randint(2**31, (count,), generator=draw.generator).tolist()


# -- overfit ---------------------------------------------------------------------------------------


def overfit_cases(draw: Draw) -> list[Overfitting]:
    """Two batches and two learning rates."""
    first, second = seeds(draw, 2)
    return [
        Overfitting((first, (4, 1, 2, 3), 12, 0.05), "12 steps with 4 pictures"),
        Overfitting((second, (3, 2, 3, 2), 7, 0.02), "7 steps with 3 pictures in two colours"),
    ]


def does_not_move(got: Tensor, expected: Tensor) -> bool:
    """Whether all losses are the first."""
    return got.shape == expected.shape and bool((got == got[0]).all())


def one_late(got: Tensor, expected: Tensor) -> bool:
    """Whether each loss of the first call is that of the next step."""
    steps = len(expected) // 2
    return got.shape == expected.shape and same(got[: steps - 1], expected[1:steps])


overfit = Exercise(
    "overfit",
    reference=training.overfit,
    lesson="06",
    number=1,
    cases=overfit_cases,
    mistakes=[
        MatchesRule(
            "the loss does not move at all: when the optimizer steps, there is no gradient. Has it "
            "been erased, or not been computed yet?",
            does_not_move,
        ),
        "gradients of earlier steps are still there, and new ones are added to them: who sets them to zero?",
        wrong.overfits(order="back step"),
        "only the last layer learns: which parameters does the optimizer know?",
        wrong.overfits(part=lambda model: model.final),
        wrong.overfits(part=lambda model: model.final, order="back step"),
        "`lr` is not used: the optimizer goes by a rate of its own",
        wrong.overfits(rate=lambda lr: 1e-3),
        wrong.overfits(rate=lambda lr: 2e-3),
        "every step makes a new optimizer, which knows nothing of the steps before: make it once, before the loop",
        wrong.overfits(anew=True),
        "that is plain gradient descent: AdamW is wanted, as in the training",
        wrong.overfits(make=SGD),
        "that is Adam, which does not shrink the weights: AdamW is wanted, as in the training",
        wrong.overfits(make=Adam),
        "the losses fall, but the model that was handed over stays as it was: train it, not a copy of it",
        lambda model, *args: training.overfit(deepcopy(model), *args),
        MatchesRule("each loss is measured after its step: keep the one that the step began with", one_late),
    ],
    praise="The losses fall as they should",
)


# -- learning_rate ---------------------------------------------------------------------------------


def schedule_cases(draw: Draw) -> list[Schedule]:
    """A usual training, and those that leave something out."""
    warmup, decay, rest = draw.sizes(3, 3, 9)
    return [
        Schedule((40, 2.0, 7, 16), "40 steps: 7 of warm-up, 16 of decay"),
        Schedule((warmup + decay + rest, 3.0, warmup, decay), f"{warmup + decay + rest} steps"),
        Schedule((20, 2.0, 5, 0), "20 steps without decay"),
        Schedule((20, 2.0, 0, 8), "20 steps without warm-up"),
        Schedule((14.5, 2.0, 3, 6), "a training that will take about 14.5 steps"),
        Schedule((10, 2.0, 6, 8), "10 steps in which warm-up and decay overlap"),
        Schedule((math.inf, 2.0, 4, 0), "a training without an end"),
    ]


def curve(rates: Tensor) -> Tensor:
    """The rates as bars, (1, 60, 4 * steps)."""
    heights = (rates / 2.2 * 60).clamp(0, 59)
    bars = (torch.arange(59, -1, -1)[:, None] < heights).double()  # (60, steps)
    return 1 - 0.6 * bars.repeat_interleave(4, dim=1)[None]


learning_rate = Exercise(
    "learning_rate",
    reference=training.learning_rate,
    lesson="06",
    number=2,
    partly=OTHERWISE,
    cases=schedule_cases,
    mistakes=[
        "your warm-up starts at 0, so the first step moves nothing: of warmup + 1 parts, it should go the first",
        wrong.schedule(up=lambda done, warmup: done / warmup if warmup else 1.0),
        wrong.schedule(up=lambda done, warmup: done / (warmup + 1)),
        wrong.schedule(up=lambda done, warmup: done / warmup if warmup else 1.0, join=wrong.warmup_first),
        "your warm-up is one step too short: in step number `warmup` (counted from 0) the rate is the highest",
        wrong.schedule(up=lambda done, warmup: (done + 1) / warmup if warmup else 1.0),
        "there is no warm-up: the first steps take the highest rate",
        wrong.schedule(up=lambda done, warmup: 1.0),
        "there is no decay: at the end the rate should fall to 0 in a straight line",
        wrong.schedule(down=lambda done, total, decay: 1.0),
        "your decay starts at the first step: only the last `decay` steps go down",
        wrong.schedule(down=lambda done, total, decay: (total - done) / total),
        "during the warm-up your rate does not ask the decay: where both hold, the smaller one counts",
        wrong.schedule(join=wrong.warmup_first),
        wrong.schedule(cap=False, join=lambda up, down: up if up <= 1 else min(down, 1.0)),
        "the rate grows beyond the highest: warm-up ends where it is reached",
        wrong.schedule(cap=False),
        wrong.schedule(cap=False, join=lambda up, down: up * min(down, 1.0)),
        wrong.schedule(cap=False, join=lambda up, down: up if up < 1 else down),
        "the last step has the rate 0 and moves nothing: that is for the step after it",
        wrong.schedule(down=lambda done, total, decay: (total - done - 1) / decay),
        "your decay begins a step too early: the first of the last `decay` steps still has the highest rate",
        wrong.schedule(down=lambda done, total, decay: (total - done) / (decay + 1)),
        "your decay comes a step too late: the step *after* the last one would have the rate 0",
        wrong.schedule(down=lambda done, total, decay: (total - done + 1) / decay),
        wrong.schedule(down=lambda done, total, decay: (total - done + 1) / (decay + 1)),
        "your answer is a share of the highest rate: multiply it with `highest`",
        lambda *args: training.learning_rate(*args) / args[2],
        "where warm-up and decay overlap, the smaller one counts, not their product",
        wrong.schedule(join=lambda up, down: up * down),
        "your decay follows a cosine, as many do: here it is a straight line",
        wrong.schedule(down=wrong.cosine),
        "your rate jumps: // divides whole numbers and throws the rest away",
        wrong.schedule(up=lambda done, warmup: (done + 1) // (warmup + 1)),
        "at its end your rate goes up: how many steps are *left* after `done` of them?",
        wrong.schedule(down=lambda done, total, decay: max(0.0, 1 - (total - done) / decay)),
        wrong.schedule(down=lambda done, total, decay: 1 - (total - done) / decay),
    ],
    praise="Up, along, and down",
    picture=curve,
    tolerance=1e-6,
)


# -- clip_gradients --------------------------------------------------------------------------------


def gradient_cases(draw: Draw) -> list[Gradients]:
    """Too long, much too long, short enough, and none at all."""
    first, second, third, fourth = seeds(draw, 4)
    return [
        Gradients((first, 1.5, 1.0), "a gradient of length 1.5 that may have 1"),
        Gradients((second, 40.0, 2.5), "one of length 40 that may have 2.5"),
        Gradients((third, 0.8, 1.0), "one of length 0.8 that may have 1"),
        Gradients((fourth, 0.0, 1.0), "one of length 0"),
    ]


clip_gradients = Exercise(
    "clip_gradients",
    reference=clipped,
    lesson="06",
    number=3,
    partly=OTHERWISE,
    cases=gradient_cases,
    mistakes=[
        (
            "the gradients come out as they went in: change them where they are (`p.grad.mul_(...)` or `p.grad = "
            "...`; `g = g * scale` only makes something new). And `parameters` may be a generator, which can be "
            "walked over only once: make a list first"
        ),
        wrong.clipping(change="none"),
        "each parameter's gradient is shortened by itself, which turns the whole: one norm, and one factor, for all",
        wrong.clipping(change="each"),
        "every number of the gradient is cut off by itself, which turns its direction: scale all by one factor",
        wrong.clamped,
        "the root is missing: the norm is the root of the sum of all squares",
        wrong.clipping(norm_of=lambda gradients: flat(gradients).square().sum()),
        "the norms of the parts are added up: add their *squares*, and take the root at the end",
        wrong.clipping(norm_of=lambda gradients: sum(g.double().norm() for g in gradients)),
        "the norm is that of the largest number: all of them count, squared",
        wrong.clipping(norm_of=lambda gradients: flat(gradients).abs().max()),
        "the norm is a mean over all numbers: it is a sum of squares, and then the root",
        wrong.clipping(norm_of=lambda gradients: flat(gradients).square().mean().sqrt()),
        "short gradients are made longer: only what is too long is scaled",
        wrong.clipping(scale=lambda norm, most: most / norm if norm else 1.0),
        wrong.clipping(scale=lambda norm, most: most / norm),
        "the factor stands on its head: too long a gradient must get shorter",
        wrong.clipping(scale=lambda norm, most: norm / most if norm > most else 1.0),
        wrong.clipping(scale=lambda norm, most: norm / most),
        "the gradients are multiplied by `most`: the factor is `most` divided by the norm",
        wrong.clipping(scale=lambda norm, most: most if norm > most else 1.0),
        "the norm that comes back is that after clipping: the one before is wanted, since it tells how wild it was",
        wrong.clipping(said=lambda norm, most: norm.clamp(max=most)),
        "the weights are scaled: it is their gradients (.grad) that are too long",
        wrong.clipping(change="weights"),
    ],
    praise="Only what is too long gets shorter",
)


# -- training_step ---------------------------------------------------------------------------------


def step_cases(draw: Draw) -> list[Stepping]:
    """Three steps with much clipping, and with hardly any."""
    first, second = seeds(draw, 2)
    return [
        Stepping((first, (4, 1, 2, 3), 0.1), "three steps with 4 pictures"),
        Stepping((second, (3, 2, 3, 2), 0.4), "three steps with 3 pictures in two colours"),
    ]


def swapped(*args) -> tuple[Tensor, Tensor]:
    """The norm first."""
    return training.training_step(*args)[::-1]


def by_value(parameters, clip: float) -> Tensor:
    """Clip every number by itself; returns the norm before, as the right one does."""
    parameters = list(parameters)
    norm = flat(p.grad for p in parameters).norm().float()
    nn.utils.clip_grad_value_(parameters, clip)
    return norm


training_step = Exercise(
    "training_step",
    reference=training.training_step,
    lesson="06",
    number=4,
    cases=step_cases,
    mistakes=[
        "gradients of earlier steps are still there in the next one, and new ones are added to them",
        wrong.stepping("back clip guard step"),
        "the optimizer gets the whole gradient, however long it is: clip it, and do so before the step",
        wrong.stepping(clipper=lambda parameters, clip: nn.utils.clip_grad_norm_(parameters, 1e9)),
        "every number of the gradient is cut off by itself: clip the norm of the whole",
        wrong.stepping(clipper=by_value),
        "the norm that comes back is that after clipping: nn.utils.clip_grad_norm_ returns the one before",
        wrong.stepping(said=lambda norm, clip: norm.clamp(max=clip)),
        "loss and norm are swapped: the loss comes first",
        swapped,
        "you clip before there is a gradient: `backward` makes it, and `step` uses it",
        wrong.stepping("clip back guard step zero"),
        "the optimizer steps twice with one gradient: once is enough",
        wrong.stepping("back clip guard step step zero"),
        "`clip` is not used: your limit is another number",
        wrong.stepping(clipper=lambda parameters, clip: nn.utils.clip_grad_norm_(parameters, 1.0)),
        "your step is taken or not by what `guard` returns: ignore that, it raises an error when something is wrong",
        *[wrong.stepping(heeds=heeds) for heeds in (bool, lambda told: not told)],
        MatchesRule(
            "`guard` gets other numbers than you return: it wants the loss, and then the norm from before clipping",
            lambda got, expected: got.shape == expected.shape and same(got[:6], expected[:6]),
        ),
    ],
    praise="Three steps go where they should",
)


# -- stretch: accumulate_gradients -----------------------------------------------------------------


def part_cases(draw: Draw) -> list[Accumulating]:
    """Parts that are all equal, and parts of which the last is smaller."""
    first, second, third = seeds(draw, 3)
    return [
        Accumulating((first, 8, 4), "8 pictures in 4 equal parts"),
        Accumulating((second, 7, 3), "7 pictures in parts of 3, 3 and 1"),
        Accumulating((third, 5, 1), "5 pictures in one part"),
    ]


accumulate_gradients = Exercise(
    "accumulate_gradients",
    reference=accumulated,
    lesson="06",
    number=5,
    partly=OTHERWISE,
    cases=part_cases,
    mistakes=[
        "each part counts as much as the whole batch: the loss is a mean, so a part counts by its share of pictures",
        wrong.accumulating(lambda part, batch, parts: 1),
        wrong.accumulating(lambda part, batch, parts: 1, said=lambda losses, _: sum(losses) / len(losses)),
        "the loss is right, but the gradients are not: weigh each part's loss *before* `backward`, not after it",
        wrong.weighing(gradient=False),
        "the gradients are right, but in the loss that comes back each part counts whole: weigh it there, too",
        wrong.weighing(loss=False),
        "all parts count the same, but the last one may have fewer pictures: a part counts by its share of them",
        wrong.accumulating(lambda part, batch, parts: 1 / parts),
        "only the last part's gradient is left: those before it were set to zero",
        wrong.accumulating(lambda part, batch, parts: part / batch, forget=True),
        "the gradients that were there are gone: they stay, and yours are added to them",
        lambda model, *args: model.zero_grad() or accumulated(model, *args),
        "the loss that comes back is only the last part's",
        wrong.accumulating(lambda part, batch, parts: part / batch, said=lambda losses, _: losses[-1]),
        MatchesRule(
            "the gradients are right, but the loss that you return is not: it is the mean over all pictures",
            lambda got, expected: got.shape == expected.shape and same(got[2:], expected[2:]),
        ),
        MatchesRule(
            "the loss is right, but the gradients are not: each part should go backward once, weighed by its pictures",
            lambda got, expected: got.shape == expected.shape and same(got[:2], expected[:2]),
        ),
    ],
    praise="The gradients are those of the whole batch",
)
