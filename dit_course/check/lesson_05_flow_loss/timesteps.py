"""Lesson 05: times to train at, drawn from the logit-normal distribution, and shifted."""

import torch
from torch import Tensor

from dit_course import flow
from dit_course.check.engine.exercise import Case, Draw, Exercise
from dit_course.check.engine.mistakes import MatchesRule
from dit_course.check.lesson_05_flow_loss.cases import TimesCase, of_the_same_z
from dit_course.check.lesson_05_flow_loss.chance import is_cut_off
from dit_course.check.stretch_solutions import shift as shifted

# -- logit_normal ----------------------------------------------------------------------------------


def one_for_all(got: Tensor, expected: Tensor) -> bool:
    """Whether there is a single time, once or n times, and it is not 0."""
    return bool(got.numel() and got.any() and (got == got.flatten()[0]).all())


def logit_of_z(got: Tensor, expected: Tensor) -> bool:
    """Whether it is the logit of the normal numbers, where they have one, instead of their sigmoid."""
    fine = got.isfinite()
    if got.shape != expected.shape or fine.all() or not fine.any():
        return False
    return torch.allclose(got[fine].sigmoid().sigmoid(), expected[fine].to(got.dtype), atol=1e-4)


logit_normal = Exercise(
    "logit_normal",
    reference=flow.logit_normal,
    lesson="05",
    number=7,
    partly="what should mean and std do to the normal numbers?",
    cases=lambda draw: [
        TimesCase((4000, *shape), label, seed=int(draw.sizes(1, 0, 10_000)[0]), reference=flow.logit_normal)
        for shape, label in (
            ((), "4,000 times as they come"),
            ((1.0, 0.6), "mean 1 and std 0.6"),
            ((-0.5, 1.7), "mean -0.5 and std 1.7"),
        )
    ],
    mistakes=[
        "mean and std are not used: the numbers that the sigmoid gets have mean 0 and std 1 whatever is set",
        of_the_same_z(lambda z, mean, std: torch.sigmoid(z)),
        "the mean is not used",
        of_the_same_z(lambda z, mean, std: torch.sigmoid(std * z)),
        "the std is not used",
        of_the_same_z(lambda z, mean, std: torch.sigmoid(mean + z)),
        "the mean is multiplied by the std, too: first the spread, then the shift",
        of_the_same_z(lambda z, mean, std: torch.sigmoid(std * (mean + z))),
        "mean and std have changed places",
        of_the_same_z(lambda z, mean, std: torch.sigmoid(std + mean * z)),
        "mean and std come too late: they belong to the normal numbers, before the sigmoid",
        of_the_same_z(lambda z, mean, std: mean + std * torch.sigmoid(z)),
        "the std is squared: that would be the variance",
        of_the_same_z(lambda z, mean, std: torch.sigmoid(mean + std**2 * z)),
        "the mean has the wrong sign: a positive mean should favour large t, the noise",
        of_the_same_z(lambda z, mean, std: torch.sigmoid(std * z - mean)),
        "mean and std are taken out, as if z had them already: it has mean 0 and std 1, and is to get them",
        of_the_same_z(lambda z, mean, std: torch.sigmoid((z - mean) / std)),
        "the numbers are divided by the std: a large std should spread them",
        of_the_same_z(lambda z, mean, std: torch.sigmoid(mean + z / std)),
        "the std is added: it is a width, so it stretches the numbers",
        of_the_same_z(lambda z, mean, std: torch.sigmoid(mean + std + z)),
        MatchesRule("there is one time for all: each picture needs its own, so n numbers must be drawn", one_for_all),
        MatchesRule("torch.logit is the inverse, from times to normal numbers: the sigmoid is meant", logit_of_z),
        "time is reversed: a positive mean should favour large t, the noise",
        of_the_same_z(lambda z, mean, std: torch.sigmoid(-(mean + std * z))),
        "those are normal numbers, from minus to plus infinity: what squeezes them into the times from 0 to 1?",
        of_the_same_z(lambda z, mean, std: mean + std * z),
        "the sigmoid gets uniform numbers: torch.rand is uniform, torch.randn is normal",
        of_the_same_z(lambda z, mean, std: torch.sigmoid(mean + std * z), draw=torch.rand),
        "those are uniform times: every t is as likely as any other",
        of_the_same_z(lambda u, mean, std: u, draw=torch.rand),
        "that squeezes into another range, or by another curve: the sigmoid, 1 / (1 + exp(-z)), is meant",
        *[
            of_the_same_z(lambda z, mean, std, squeeze=squeeze: squeeze(mean + std * z))
            for squeeze in (
                torch.tanh,
                lambda z: torch.softmax(z, dim=0),
                torch.exp,
                lambda z: z.clamp(0, 1),
                torch.special.ndtr,
            )
        ],
        MatchesRule("times near 0 and 1 are cut off: is there a clamp? They are rare, but there", is_cut_off),
    ],
    praise="The logits of your times are normal, and the generator decides them",
    tolerance=1e-5,
)


# -- stretch: shift --------------------------------------------------------------------------------


def shift_cases(draw: Draw) -> list[Case]:
    """Times from end to end, and factors above and below 1."""
    times = [torch.linspace(0, 1, 11), *(torch.sigmoid(draw.normal(size)) for size in draw.sizes(2, 5, 9))]
    factors = [3.0, 0.5, 1.7]
    return [Case((t, a), f"{len(t)} times, factor {a}") for t, a in zip(times, factors, strict=True)]


algebra = [  # plausible results, in which a sign or a bracket went wrong
    lambda t, a: a * t / (1 + (a + 1) * t),
    lambda t, a: a * t / (1 + (1 - a) * t),
    lambda t, a: a * t / (1 - (1 + a) * t),
    lambda t, a: a * t / (a + (1 - a) * t),
    lambda t, a: a * t / (1 + a),
]


def only_the_ends_differ(got: Tensor, expected: Tensor) -> bool:
    """Whether the times between the first and the last are right."""
    inside = (expected > 0) & (expected < 1)
    return got.shape == expected.shape and not inside.all() and torch.allclose(got[inside], expected[inside], atol=1e-4)


shift = Exercise(
    "shift",
    reference=shifted,
    lesson="05",
    number=8,
    free=("t",),
    partly="does the factor stand wherever it should?",
    cases=shift_cases,
    mistakes=[
        MatchesRule("right inside, but not at the ends: t = 0 must stay 0 and t = 1 must stay 1", only_the_ends_differ),
        "the times are multiplied, so that they leave [0, 1]: the *ratio* t / (1 - t) is what is multiplied",
        lambda t, a: a * t,
        lambda t, a: (a * t).clamp(0, 1),
        "that is the ratio t' / (1 - t') itself: it must be solved for t'",
        lambda t, a: a * t / (1 - t),
        "the shift goes the wrong way: a factor above 1 moves every time towards the noise",
        lambda t, a: shifted(t, 1 / a),
        "the factor is added to the logit itself: a ratio times a has a logit plus log(a)",
        lambda t, a: torch.sigmoid(torch.logit(t) + a),
        "the logit is multiplied by the factor: a ratio times a has a logit plus log(a)",
        lambda t, a: torch.sigmoid(a * torch.logit(t)),
        "below the line a 1 - t got lost: of 1 + r *both* parts are multiplied by 1 - t",
        lambda t, a: a * t / (1 + a * t),
        "that is 1 - t', the share of the picture: the share of the noise is wanted",
        lambda t, a: 1 - shifted(t, a),
        "something went wrong between r and t' = r / (1 + r): put r in, and multiply above and below by 1 - t",
        *algebra,
        "that bends the times by a power: both ends stay, but the ratio t / (1 - t) is not multiplied by the factor",
        lambda t, a: t**a,
        lambda t, a: t ** (1 / a),
    ],
    praise="Every ratio t / (1 - t) is multiplied by the factor",
)
