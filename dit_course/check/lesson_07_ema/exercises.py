"""Lesson 07: the running average, what is in it, and the average of a model's weights."""

import torch

import dit_course.check.lesson_07_ema.mistakes as wrong
from dit_course import ema
from dit_course.check.engine.exercise import OTHERWISE, Case, Draw, Exercise
from dit_course.check.engine.mistakes import MatchesRule
from dit_course.check.lesson_07_ema.cases import AverageCase
from dit_course.check.stretch_solutions import power_decays as by_power

# -- running_average -------------------------------------------------------------------------------


def signals(draw: Draw) -> list[Case]:
    """A sequence of numbers, one of points in the plane, and one of whole tables."""
    cases = [Case((draw.normal(7), 0.5), "7 numbers, decay 0.5"), Case((draw.normal(9, 2), 0.9), "9 points, decay 0.9")]
    count, rows, columns = draw.sizes(3)
    label = f"{count} tables of {rows}x{columns}, decay 0.8"
    return [*cases, Case((draw.normal(count, rows, columns, dtype=torch.float64), 0.8), label)]


running_average = Exercise(
    "running_average",
    reference=ema.running_average,
    lesson="07",
    number=1,
    partly=OTHERWISE,
    cases=signals,
    mistakes=[
        "decay and 1 - decay are swapped: the *average* keeps the share `decay` of itself",
        lambda values, decay: ema.running_average(values, 1 - decay),
        "your average starts at zero, and needs a while to get away from there: it starts at the first value",
        lambda values, decay: wrong.averaged(values, decay, start=0),
        lambda values, decay: wrong.averaged(values, decay, start=0)[1:],
        "each value is averaged with the value before it: it is the *average* so far that is kept",
        wrong.of_two,
        "only the last average comes back: one after each value is wanted",
        lambda values, decay: ema.running_average(values, decay)[-1],
        "the first one is missing: the average starts at the first value, and that one counts, too",
        lambda values, decay: ema.running_average(values, decay)[1:],
        "the first value is counted twice: the average starts at it, so the loop begins with the second",
        lambda values, decay: torch.cat([values[:1], ema.running_average(values, decay)]),
        "that is the plain mean of all values so far: here old ones fade, by the factor `decay` at each step",
        wrong.plain_mean,
        "the new value is added whole: it comes in with the share 1 - decay",
        lambda values, decay: wrong.averaged(values, decay, new=1),
        "the old average is kept whole: it keeps the share `decay` of itself",
        lambda values, decay: wrong.averaged(values, decay, keep=1),
        (
            "your averages are all the last one: a tensor that is changed in place stands in the list n times, each "
            "time with its newest values. Make a new one at each value"
        ),
        lambda values, decay: ema.running_average(values, decay)[-1].expand(values.shape),
        "your averages are all the first value: does the new one replace the old one in the loop?",
        lambda values, decay: values[0].expand(values.shape),
        "each average stands one place too late: the value of its own place is in it already",
        lambda values, decay: ema.running_average(values, decay)[:-1],
        wrong.one_late,
        (
            "that is the average that starts at zero and is corrected by 1 - decay**n, as in Adam: this one starts at "
            "the first value, and needs no correction"
        ),
        wrong.corrected,
    ],
)


# -- half_life -------------------------------------------------------------------------------------


def decays_of_all_kinds(draw: Draw) -> list[Case]:
    """Decays that people use, and random ones."""
    usual = torch.tensor([0.9, 0.99, 0.999, 0.9999], dtype=torch.float64)
    rows, columns = draw.sizes(2)
    tables = 0.3 + 0.6 * torch.sigmoid(draw.normal(rows, columns))
    return [Case((usual,), "0.9, 0.99, 0.999, 0.9999"), Case((tables,), f"{rows}x{columns} random decays")]


half_life = Exercise(
    "half_life",
    reference=ema.half_life,
    lesson="07",
    number=2,
    free=("decay",),
    partly=OTHERWISE,
    cases=decays_of_all_kinds,
    mistakes=[
        "that is the window 1 / (1 - decay), in which the average forgets all but 37%: half is forgotten earlier",
        lambda decay: 1 / (1 - decay),
        "that is how long it takes until 37% (1 / e) are left: here it is one half",
        lambda decay: -1 / decay.log(),
        "your fraction stands upside down: decay**n = 1/2 means n log(decay) = log(1/2)",
        lambda decay: decay.log() / torch.tensor(0.5).log(),
        "your logarithms have different bases: take the same one above and below",
        lambda decay: torch.tensor(0.5).log() / decay.log2(),
        lambda decay: -1 / decay.log10(),
        lambda decay: torch.tensor(0.5).log() / decay.log10(),
        "that is nearly right when decay is close to 1, but not exact: take the logarithm of decay itself",
        lambda decay: torch.tensor(2.0).log() / (1 - decay),
        lambda decay: 0.69 / (1 - decay),
        lambda decay: 0.5 / (1 - decay),
        "that is what is left *after* so many updates: the question is after how many a half is left",
        lambda decay: 0.5**decay,
        lambda decay: decay**0.5,
        lambda decay: decay**2,
        "that is the half-life of 1 - decay, which is what comes in: take the logarithm of what is kept",
        lambda decay: torch.tensor(0.5).log() / (1 - decay).log(),
        "your result is rounded: a half-life need not be a whole number",
        *[lambda decay, f=f: f(ema.half_life(decay)) for f in (torch.ceil, torch.floor)],
        lambda decay: ema.half_life(decay).round(),
        "that is one logarithm alone: n is the ratio of two",
        torch.log,
        torch.log2,
    ],
    praise="Right",
)


# -- profile ---------------------------------------------------------------------------------------


def schedules(draw: Draw) -> list[Case]:
    """A constant decay, a warm-up, and random decays, with a tiny one at first and a large one at the end."""
    constant = torch.full((3,), 0.5, dtype=torch.float64)
    decays = torch.sigmoid(draw.normal(draw.sizes(1, 5, 9)[0]))
    decays[0], decays[-1] = 0.01, 0.995
    return [
        Case((constant,), "3 updates, decay 0.5"),
        Case((ema.warmup_decays(0.6, 12),), "12 updates with a warm-up to 0.6"),
        Case((decays,), f"{len(decays)} updates with random decays"),
    ]


averaging_weights = Exercise(
    "averaging_weights",
    reference=ema.averaging_weights,
    lesson="07",
    number=3,
    partly=OTHERWISE,
    cases=schedules,
    mistakes=[
        "the start is missing: it comes first, with what all updates have left of it",
        lambda decays: ema.averaging_weights(decays)[1:],
        lambda decays: torch.cat([0 * decays[:1], ema.averaging_weights(decays)[1:]]),
        "your shares run backwards: the start comes first, the newest last",
        lambda decays: ema.averaging_weights(decays).flip(0),
        lambda decays: ema.averaging_weights(decays)[1:].flip(0),
        (
            "each value is shrunk by its own update, too: `decay` is what *older* content keeps, and only later "
            "updates count"
        ),
        wrong.with_own,
        "only what is left by the later updates is there: a value came in with the share 1 - decay to begin with",
        lambda decays: ema.averaging_weights(decays) / wrong.taken(decays),
        "only what came in is there: each later update has shrunk it by its own decay",
        wrong.taken,
        lambda decays: 1 - decays,
        "the products run from the wrong side: a value is shrunk by the updates *after* it, the start by all",
        *wrong.FORWARD,
        "your products still stand in the order in which they were made, newest first: flip them back",
        lambda decays: wrong.taken(decays) * (ema.averaging_weights(decays) / wrong.taken(decays)).flip(0),
        "one decay is used for all updates: each has its own",
        *[lambda decays, i=i: ema.averaging_weights(decays[i].expand(len(decays))) for i in (0, -1)],
        lambda decays: ema.averaging_weights(decays.mean().expand(len(decays))),
        "the start still counts whole: every update has shrunk it",
        lambda decays: torch.cat([torch.ones_like(decays[:1]), ema.averaging_weights(decays)[1:]]),
        "your shares are scaled so that they add up to 1: they do so by themselves when each is right",
        lambda decays: wrong.scaled(wrong.with_own(decays)),
        lambda decays: wrong.scaled(ema.averaging_weights(decays) / wrong.taken(decays)),
        lambda decays: wrong.scaled(ema.averaging_weights(decays)[1:]),
        MatchesRule(
            "your shares do not add up to 1: whatever the average keeps (decay) and takes in (1 - "
            "decay), the two make 1",
            wrong.not_one,
        ),
    ],
)


# -- EMA -------------------------------------------------------------------------------------------


def trainings(draw: Draw) -> list[AverageCase]:
    """A few updates without warm-up, a warm-up that ends, and one that does not."""
    return [
        AverageCase(((0.75, False), 4), "4 updates, decay 0.75, no warm-up", draw.normal),
        AverageCase(((0.5, True), 12), "12 updates, warm-up to decay 0.5", draw.normal),
        AverageCase(((0.999, True), 5), "5 updates, warm-up to decay 0.999", draw.normal),
    ]


EMA = Exercise(
    "EMA",
    reference=ema.EMA,
    refused=lambda draw: [Case((torch.nn.Linear(2, 2), decay), f"a decay of {decay}") for decay in (1.0, -0.1)],
    lesson="07",
    number=4,
    partly=OTHERWISE,
    cases=trainings,
    mistakes=[
        "decay and 1 - decay are swapped: the average keeps the share `current_decay()` of itself",
        wrong.Swapped,
        (
            "the weights of `self.model` never change: `average = ...` in a loop only renames; change the tensor "
            "itself (methods whose names end in _ do)"
        ),
        wrong.Frozen,
        "the average is only a copy of the newest weights: what it was before must count, too",
        wrong.Copied,
        "`current_decay` is right, but `update` does not use it: it takes `self.decay`, warm-up or not",
        wrong.Constant,
        "there is no warm-up: with `warmup=True` the decay of update n is at most (1 + n) / (10 + n)",
        wrong.Cold,
        "there is a warm-up even when `warmup=False`",
        wrong.AlwaysWarm,
        "of the two decays the larger is taken: the warm-up holds the decay *down*, until it has grown",
        wrong.Larger,
        "the warm-up never ends: its decay grows past `self.decay`",
        wrong.Endless,
        "`self.updates` is never counted up, so the warm-up does not end",
        wrong.Uncounted,
        "`self.updates` is counted up before the decay is asked for: the first update keeps 1/10",
        wrong.Early,
        "`self.updates` is counted up too often: once an update, not once a tensor",
        wrong.Twice,
        wrong.TwiceMore,
        "`current_decay` counts: it only says what the decay is, as often as it is called; `update` counts",
        wrong.CountsInDecay,
        wrong.CountsPerTensor,
        "your warm-up is off by one: before the first update n = `self.updates` is 0, and the decay 1/10",
        *wrong.OFFSETS,
        "the first update takes the weights over whole: it, too, keeps the share `current_decay()`",
        wrong.FirstCopied,
        "the weights are right, but buffers (here of a batch norm) stay what they were at the start: copy them",
        wrong.NoBuffers,
        "buffers of whole numbers, here a counter, stay what they were at the start: copy every buffer",
        wrong.NoCounters,
        "the weights are right, but the buffers are averaged, too: copy them as they are",
        wrong.MixedBuffers,
        wrong.MixedFloats,
        "only matrices are averaged: every parameter counts, biases too",
        wrong.NoBias,
    ],
    praise="Average, decay and count are the course's",
)


# -- stretch: power_decays -------------------------------------------------------------------------


def widths(draw: Draw) -> list[Case]:
    """The profile of the usual warm-up, a narrow one, and a random one."""
    sigma_rel = 0.04 + 0.2 * torch.sigmoid(draw.normal(1)).item()
    usual = 3 / 10 / 11**0.5
    return [
        Case((usual, 20), "sigma_rel 0.0905, 20 updates"),
        Case((0.05, 7), "sigma_rel 0.05, 7 updates"),
        Case((sigma_rel, 9), f"sigma_rel {sigma_rel:.3f}, 9 updates"),
    ]


def far_too_large(got: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether even the second update keeps next to nothing."""
    return got.shape == expected.shape and bool((got[1] >= 0) & (got[1] < 1e-30) & (got.diff() >= 0).all())


power_decays = Exercise(
    "power_decays",
    reference=by_power,
    lesson="07",
    number=5,
    partly=OTHERWISE,
    cases=widths,
    mistakes=[
        "the exponent is one too small: it is gamma + 1",
        lambda sigma_rel, n: wrong.powered(wrong.gamma_of(sigma_rel) - 1, n),
        "the exponent is one too large: it is gamma + 1",
        lambda sigma_rel, n: wrong.powered(wrong.gamma_of(sigma_rel) + 1, n),
        "the exponent is missing: update t keeps 1 - 1/t, to the power of gamma + 1",
        lambda sigma_rel, n: wrong.powered(0, n),
        "sigma_rel itself stands where gamma belongs: find the gamma with this width first",
        lambda sigma_rel, n: wrong.powered(sigma_rel, n),
        lambda sigma_rel, n: wrong.powered(1 / sigma_rel, n),
        "the updates are counted from 2: the first is t = 1, and keeps nothing of the start",
        lambda sigma_rel, n: wrong.powered(wrong.gamma_of(sigma_rel), n, first=2),
        "that is what each update takes in: its decay is what it keeps",
        lambda sigma_rel, n: 1 - by_power(sigma_rel, n),
        "that is a profile, proportional to t**gamma: what is asked for are the decays that lead to it",
        wrong.power_profile,
        MatchesRule(
            "your gamma is near, but not near enough: halve the interval more often, or search in it more finely",
            wrong.nearly,
        ),
        MatchesRule(
            "your decays are all zeros, or nearly so: your gamma is far too large. Does the search go "
            "the right way (too wide a profile asks for a larger gamma), and is the interval halved "
            "often enough?",
            far_too_large,
        ),
    ],
)
