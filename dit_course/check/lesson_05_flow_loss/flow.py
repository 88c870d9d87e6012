"""Lesson 05: the path from data to noise, its velocity, and the loss; `timesteps` has the times."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dit_course import flow
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import Case, Draw, Exercise
from dit_course.check.engine.mistakes import MatchesRule
from dit_course.check.lesson_01_patches.cases import flag_image
from dit_course.check.lesson_05_flow_loss.cases import LossCase, loss_of, reduced, weighted

# -- what the exercises are tried on ---------------------------------------------------------------


def flow_inputs(draw: Draw) -> list[tuple[Tensor, Tensor, Tensor, str]]:
    """Data, noise, times and a label, four times: two drawings, a random shape, points in the plane, a square batch.

    Among the times of the points are 0 and 1, and the numbers of the random shape are large.

    In the last, times that are not shaped for each picture broadcast without an error, and along the wrong axis.
    """
    batch, channels, height, width = draw.sizes(4)
    shapes = [(2, 1, 28, 28), (batch, channels, height, width), (7, 2), (4, 3, 5, 4)]
    made = []
    for shape in shapes:
        dtype = torch.float64 if shape == shapes[1] else torch.float32
        x, noise = ((3 if shape == shapes[1] else 1) * draw.normal(*shape, dtype=dtype) for _ in range(2))
        t = 0.15 + 0.2 * torch.sigmoid(draw.normal(shape[0], dtype=dtype)) + 0.5 * torch.arange(shape[0]) / shape[0]
        if shape == (7, 2):
            t[0], t[-1] = 0, 1
        made.append((x, noise, t.to(dtype), "x".join(map(str, shape))))
    made[0] = (2 * torch.stack([flag_image(), flag_image().flip(2)]) - 1, *made[0][1:])
    return made


def squeezed(got: Tensor, expected: Tensor) -> bool:
    """Whether an axis of size 1 has gone."""
    return got.shape == expected.squeeze().shape != expected.shape


def cut_off(got: Tensor, expected: Tensor) -> bool:
    """Whether large numbers, and nothing else, are cut off."""
    low, high = got.min().item(), got.max().item()
    inside = (expected > low) & (expected < high)
    return got.shape == expected.shape and 0.1 < inside.float().mean() < 1 and same(got[inside], expected[inside])


def ends_cut_off(got: Tensor, expected: Tensor) -> bool:
    """Whether the first and the last of seven, at t = 0 and t = 1, are a little off, and nothing else."""
    return got.shape == expected.shape and len(got) == 7 and same(got[1:-1], expected[1:-1], 1e-3)


SHARED = [
    MatchesRule("an axis of size 1 is gone, as `.squeeze()` makes it: the result has the shape of x", squeezed),
    MatchesRule(
        "only t = 0 and t = 1 come out wrong: t may be 0 or 1: do not divide by t or 1 - t, and clamp nothing",
        ends_cut_off,
    ),
    MatchesRule("large numbers are cut off: is there a clamp? Noise has no bounds, and what it is mixed with", cut_off),
]

# -- interpolate -----------------------------------------------------------------------------------

ONE_T = "all pictures get the time of the first: each has its own"
ANY_AXES = "per_image(t, x) shapes t for pictures and for points: does yours fit one number of axes only?"

interpolate = Exercise(
    "interpolate",
    reference=flow.interpolate,
    lesson="05",
    number=1,
    partly=ANY_AXES,
    cases=lambda draw: [Case((x, noise, t), label) for x, noise, t, label in flow_inputs(draw)],
    mistakes=[
        "data and noise have changed places: at t = 0 everything is data, at t = 1 everything is noise",
        lambda x, noise, t: flow.interpolate(noise, x, t),
        "the data never fades: its share must shrink from 1 to 0 while that of the noise grows",
        weighted(lambda t: 1 + 0 * t, lambda t: t),
        "the noise is there in full at every t: its share must grow from 0 to 1",
        weighted(lambda t: 1 - t, lambda t: 1 + 0 * t),
        "that path is curved, as in DDPM, where the squares of both shares add up to 1: here the shares themselves do",
        weighted(lambda t: (1 - t).sqrt(), lambda t: t.sqrt()),
        weighted(lambda t: (1 - t**2).sqrt(), lambda t: t),
        weighted(lambda t: (math.pi / 2 * t).cos(), lambda t: (math.pi / 2 * t).sin()),
        "t has one number for each picture, but here it meets another axis: per_image(t, x) shapes it for the batch",
        lambda x, noise, t: (1 - t) * x + t * noise,
        lambda x, noise, t: (1 - flow.per_image(t, x)) * x + t * noise,
        lambda x, noise, t: (1 - t) * x + flow.per_image(t, x) * noise,
        ONE_T,
        lambda x, noise, t: flow.interpolate(x, noise, t[0]),
        "brackets are missing: the share of the picture is 1 - t, all of it",
        lambda x, noise, t: 1 - flow.per_image(t, x) * (x - noise),
        "the noise is mixed in with the wrong sign: the path leads from the data towards the noise",
        weighted(lambda t: 1 - t, lambda t: -t),
        weighted(lambda t: 1 + t, lambda t: -t),
        "that is the velocity, not a point on the path: where is the picture at time t?",
        lambda x, noise, t: noise - x,
        *SHARED,
    ],
    praise="Right on the path",
    picture=lambda x_t: x_t[0],
)


# -- velocity_target -------------------------------------------------------------------------------


velocity_target = Exercise(
    "velocity_target",
    reference=flow.velocity_target,
    lesson="05",
    number=2,
    cases=lambda draw: [Case((x, noise), label) for x, noise, _, label in flow_inputs(draw)[:3]],
    mistakes=[
        "the sign is wrong: as t grows the picture moves towards the noise, and a velocity points where it goes",
        lambda x, noise: x - noise,
        "that is the noise alone, another target that networks can have: here the velocity is meant",
        lambda x, noise: noise,
        "that is the sum: a velocity is a difference, end minus start",
        lambda x, noise: noise + x,
        *SHARED[::2],
    ],
    praise="The velocity of the straight path",
    picture=lambda velocity: velocity[0],
)


# -- data_from_velocity and noise_from_velocity ----------------------------------------------------

TIMES_ALONG_WIDTH = "t has one number for each picture, but here it meets another axis: shape it with per_image(t, x_t)"
DIVIDED = "a distance is velocity times time: nothing has to be divided here"
SHRUNK = "x_t must not shrink: start at x_t itself, and step from there"
ONLY_THE_WAY = "that is only the displacement, not the point that it leads to: it starts at x_t"

data_from_velocity = Exercise(
    "data_from_velocity",
    reference=flow.data_from_velocity,
    lesson="05",
    number=3,
    partly=ANY_AXES,
    cases=lambda draw: [Case((x, v, t), label) for x, v, t, label in flow_inputs(draw)],
    mistakes=[
        "you move the wrong way: the data lies at the start of the path, against the velocity",
        lambda x_t, v, t: flow.data_from_velocity(x_t, -v, t),
        "you follow the whole path, but x_t lies at time t: how much of the path is between there and the data?",
        lambda x_t, v, t: x_t - v,
        "that is the other end of the path: with the velocity you reach the noise, and the rest of the path is 1 - t",
        flow.noise_from_velocity,
        "the part of the path that is meant is the one from the data to x_t, t long, not the rest of it",
        lambda x_t, v, t: flow.noise_from_velocity(x_t, -v, t),
        TIMES_ALONG_WIDTH,
        lambda x_t, v, t: x_t - t * v,
        ONE_T,
        lambda x_t, v, t: flow.data_from_velocity(x_t, v, t[0]),
        DIVIDED,
        lambda x_t, v, t: x_t - v / flow.per_image(t, x_t),
        lambda x_t, v, t: (x_t - v) / flow.per_image(t, x_t),
        SHRUNK,
        lambda x_t, v, t: flow.interpolate(x_t, -v, t),
        flow.interpolate,
        ONLY_THE_WAY,
        lambda x_t, v, t: flow.per_image(t, x_t) * v,
        lambda x_t, v, t: -flow.per_image(t, x_t) * v,
        "dividing by 1 - t would be right if the noise were known: here the velocity is",
        lambda x_t, v, t: flow.data_from_velocity(x_t, v, t) / (1 - flow.per_image(t, x_t)),
        *SHARED,
    ],
    praise="Back at the data",
    picture=lambda x: x[0],
)


noise_from_velocity = Exercise(
    "noise_from_velocity",
    reference=flow.noise_from_velocity,
    lesson="05",
    number=4,
    partly=ANY_AXES,
    cases=lambda draw: [Case((x, v, t), label) for x, v, t, label in flow_inputs(draw)],
    mistakes=[
        "you move the wrong way: the noise lies at the end of the path, where the velocity points",
        lambda x_t, v, t: flow.noise_from_velocity(x_t, -v, t),
        "you follow the whole path, but x_t lies at time t already: how much of the path is left?",
        lambda x_t, v, t: x_t + v,
        "t is the part of the path behind x_t: the part ahead of it is meant",
        lambda x_t, v, t: flow.data_from_velocity(x_t, -v, t),
        "that is the data, at the start of the path: the noise lies at its end",
        flow.data_from_velocity,
        TIMES_ALONG_WIDTH,
        lambda x_t, v, t: x_t + (1 - t) * v,
        ONE_T,
        lambda x_t, v, t: flow.noise_from_velocity(x_t, v, t[0]),
        DIVIDED,
        lambda x_t, v, t: x_t + v / (1 - flow.per_image(t, x_t)),
        SHRUNK,
        lambda x_t, v, t: (1 - flow.per_image(t, x_t)) * (x_t + v),
        ONLY_THE_WAY,
        lambda x_t, v, t: (1 - flow.per_image(t, x_t)) * v,
        *SHARED,
    ],
    praise="Arrived at the noise",
    picture=lambda noise: noise[0],
)


# -- RectifiedFlow ---------------------------------------------------------------------------------


def loss_cases(draw: Draw) -> list[LossCase]:
    """Pictures with labels and without, the loss of each and of all; none of the shapes has two equal sides."""
    cases = []
    for labels, reduction in ((True, "none"), (True, "mean"), (False, "mean")):
        batch, channels, height, width = (size + 3 for size in draw.sizes(4))
        x = torch.tanh(draw.normal(batch, channels, height, width))
        offset = (0.5 + 0.3 * torch.arange(batch)) * (-1) ** torch.arange(batch)  # one a picture, below and above
        y = torch.arange(batch) % 3 if labels else None
        label = f"{batch} pictures {'with' if labels else 'without'} labels, reduction {reduction!r}"
        seed = int(draw.sizes(1, 0, 10_000)[0])
        cases.append(LossCase((), label, x=x, y=y, offset=offset.reshape(-1, 1, 1, 1), reduction=reduction, seed=seed))
    return cases


RectifiedFlow = Exercise(
    "RectifiedFlow",
    reference=flow.RectifiedFlow,
    refused=lambda draw: [Case(("never heard of",), "timesteps that have no such name")],
    lesson="05",
    number=5,
    partly='one number is wanted for "mean" and one for each picture for "none": over which axes?',
    cases=loss_cases,
    mistakes=[
        "the sign of the target is wrong: velocity_target(x, noise) leads from the data to the noise",
        loss_of(lambda r: (r.predicted + r.target).square()),
        "your target is the noise: this network predicts the velocity, and velocity_target(x, noise) makes it",
        loss_of(lambda r: (r.predicted - r.noise).square()),
        "your target is the picture: this network predicts the velocity, and velocity_target(x, noise) makes it",
        loss_of(lambda r: (r.predicted - r.x).square()),
        "your target is x_t, which the network is given anyway: it should predict the velocity",
        loss_of(lambda r: (r.predicted - r.x_t).square()),
        "your target is a part of the path, to x_t or from it: the velocity is all of it, from the data to the noise",
        loss_of(lambda r: (r.predicted - (r.noise - r.x_t)).square()),
        loss_of(lambda r: (r.predicted - (r.x_t - r.x)).square()),
        "you compare the ends that the velocities lead to: compare the velocities themselves",
        loss_of(lambda r: (r.t * r.error).square()),
        loss_of(lambda r: ((1 - r.t) * r.error).square()),
        "the errors are not squared, only made positive: the *squared* error is meant",
        loss_of(lambda r: r.error.abs()),
        "the errors are not squared, so that too high and too low cancel",
        loss_of(lambda r: r.error),
        loss_of(lambda r: -r.error),
        "beyond 1 the errors are not squared, as F.huber_loss and F.smooth_l1_loss do it: the squared error is meant",
        loss_of(lambda r: F.huber_loss(r.predicted, r.target, reduction="none")),
        "the squared error is halved",
        loss_of(lambda r: r.error.square() / 2),
        "there is a root over the mean: the squared error itself is meant",
        lambda r: reduced(r.error.square(), r.reduction).sqrt(),
        "the squared errors are summed: their mean is meant",
        lambda r: r.error.square().sum(),
        lambda r: reduced(r.error.square().flatten(1).sum(1)[:, None], r.reduction),
        'the reduction is ignored: "mean" should give one number, and "none" one for each picture',
        lambda r: r.error.square().mean(),
        lambda r: r.error.square().flatten(1).mean(1),
        'every pixel keeps its own error: take the mean of all, or of each picture for "none"',
        lambda r: r.error.square(),
    ],
    praise="A model that is off by a known amount has exactly that loss",
)
