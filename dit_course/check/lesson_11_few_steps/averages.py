"""Lesson 11, first half: how straight paths are, average velocities, and two half steps as a target."""

import torch

from dit_course import few_steps
from dit_course.check import stretch_solutions
from dit_course.check.engine.exercise import OTHERWISE, Case, Draw, Exercise
from dit_course.check.lesson_11_few_steps import mistakes as wrong
from dit_course.check.lesson_11_few_steps.cases import PathCase, TargetCase, steps
from dit_course.flow import per_image, step

TIMES_ALONG_WIDTH = "times have one number for each picture, but here they meet another axis: per_image shapes them"

# -- straightness ------------------------------------------------------------------------------------


def bent_paths(draw: Draw) -> list[Case]:
    """Paths of points and of pictures, at equal and at uneven times, which do not take a time of 1."""
    cases = []
    for shape, uneven in (((6, 2), False), ((5, 3, 2), True), ((4, 1), True)):
        count = int(draw.sizes(1, 4, 7)[0])
        ts = 0.1 + 0.8 * torch.linspace(1, 0, count, dtype=torch.float64) ** (2 if uneven else 1)
        states = draw.normal(count, *shape, dtype=torch.float64)
        label = f"{count} states of {'x'.join(map(str, shape))}, {'uneven' if uneven else 'equal'} times"
        cases.append(PathCase((states, ts), label))
    return cases


straightness = Exercise(
    "straightness",
    reference=stretch_solutions.straightness,
    lesson="11",
    number=1,
    partly=OTHERWISE,
    cases=bent_paths,
    mistakes=[
        "pieces are changes of place, not velocities: divide each by the time that it takes",
        wrong.bent(velocities=lambda changes, sizes: changes),
        "all pieces count alike, and some take longer than others: weight each by its share of the time",
        wrong.bent(mean=lambda apart, sizes: apart.mean()),
        "the weights of the pieces do not add up to 1: divide by the time of the whole path",
        wrong.bent(mean=lambda apart, sizes: (apart * sizes.abs()).mean()),
        "that is the mean of all coordinates: sum over the coordinates of a path, and take means over time and paths",
        wrong.bent(distance=lambda x: x.square().flatten(2).mean(dim=2).mean(dim=1)),
        "you add up all paths: take their mean",
        wrong.bent(distance=lambda x: x.square().flatten(2).sum(dim=2).sum(dim=1)),
        "the distances are not squared",
        wrong.bent(distance=lambda x: x.square().flatten(2).sum(dim=2).sqrt().mean(dim=1)),
        "you compare with the velocity of the first piece: compare with that from end to end",
        wrong.bent(straight=lambda velocities, states, sizes: velocities[0]),
        "you compare with the displacement from end to end, whatever time it took: divide it by the time",
        wrong.bent(straight=lambda velocities, states, sizes: states[-1] - states[0]),
        "you compare the velocity from end to end with nothing: subtract it from each piece's velocity",
        wrong.bent(straight=lambda velocities, states, sizes: 0 * states[0]),
        "your pieces are compared with the mean of their velocities, which counts a short piece as much as a long one",
        wrong.bent(straight=lambda velocities, states, sizes: velocities.mean(dim=0)),
        "the velocity from end to end has the wrong sign: last state minus first, over last time minus first",
        wrong.bent(straight=lambda velocities, states, sizes: (states[0] - states[-1]) / sizes.sum()),
        "a mean of squares is never negative: `ts` runs down, so its differences are negative. Divide by their sum",
        wrong.bent(mean=lambda apart, sizes: (apart * sizes).sum()),
        wrong.bent(
            straight=lambda velocities, states, sizes: states[-1] - states[0],
            mean=lambda apart, sizes: (apart * sizes).sum(),
        ),
    ],
    praise="The same bend as the course's",
)


# -- path_target -------------------------------------------------------------------------------------


def path_steps(draw: Draw) -> list[Case]:
    """Two states of paths and their times: pictures, points, and a square batch that broadcasts along any axis."""
    batch, channels, height, width = draw.sizes(4)
    cases = []
    for shape in ((2, 1, 28, 28), (batch, channels, height, width), (7, 2), (4, 3, 5, 4)):
        x_t, x_next = (draw.normal(*shape, dtype=torch.float64) for _ in range(2))
        cases.append(Case((x_t, x_next, *steps(draw, *shape)), "x".join(map(str, shape))))
    return cases


path_target = Exercise(
    "path_target",
    reference=few_steps.path_target,
    lesson="11",
    number=2,
    partly="per_image(t, x_t) shapes times for pictures and for points: does yours fit one number of axes only?",
    cases=path_steps,
    mistakes=[
        "the sign is wrong: time runs down, so the velocity points from x_next to x_t",
        lambda x, x_next, t, t_next: few_steps.path_target(x_next, x, t, t_next),
        "that is the whole displacement: divide it by the time that it takes",
        lambda x, x_next, t, t_next: x - x_next,
        lambda x, x_next, t, t_next: x_next - x,
        "the displacement is multiplied by its time: a velocity is displacement over time",
        lambda x, x_next, t, t_next: (x - x_next) * per_image(t - t_next, x),
        "the time that the step takes is t - t_next; you divide by t, as if every step ended at 0",
        lambda x, x_next, t, t_next: few_steps.path_target(x, x_next, t, 0 * t),
        "the time that the step takes is t - t_next; you divide by t_next",
        lambda x, x_next, t, t_next: (x - x_next) / per_image(t_next, x),
        "you divide by the sum of the times: the step takes their difference",
        lambda x, x_next, t, t_next: (x - x_next) / per_image(t + t_next, x),
        "brackets are missing: the whole difference of the states is divided",
        lambda x, x_next, t, t_next: x - x_next / per_image(t - t_next, x),
        lambda x, x_next, t, t_next: (x - x_next) / per_image(t, x) - per_image(t_next, x),
        "each state is divided by its own time: take the difference of the states first, then divide once",
        lambda x, x_next, t, t_next: x / per_image(t, x) - x_next / per_image(t_next, x),
        TIMES_ALONG_WIDTH,
        lambda x, x_next, t, t_next: (x - x_next) / (t - t_next),
        "all pictures get the times of the first: each has its own",
        lambda x, x_next, t, t_next: (x - x_next) / (t - t_next)[0],
        "that is a mean of two states: an average *velocity* is a displacement over a time",
        lambda x, x_next, t, t_next: (x + x_next) / 2,
        lambda x, x_next, t, t_next: (x + x_next) / per_image(t - t_next, x),
    ],
    praise="The average velocity",
)


# -- shortcut_target ---------------------------------------------------------------------------------


def target_cases(draw: Draw, *more: str) -> list[TargetCase]:
    """A bent average velocity on pictures and points; in the last some spans are 0. more: names of further inputs."""
    batch, channels, height, width = draw.sizes(4)
    cases = []
    for shape, label in (
        ((batch, channels, height, width), "pictures"),
        ((6, 2), "points"),
        ((4, 3, 5, 4), "a square"),
    ):
        t, t_next = steps(draw, *shape)
        if label == "a square":
            t_next = torch.where(torch.arange(len(t)) == 1, t, t_next)  # a span of 0
        extra = tuple(draw.normal(*shape, dtype=torch.float64) for _ in more)
        x_t = draw.normal(*shape, dtype=torch.float64)
        reference = few_steps.mean_flow_target if more else few_steps.shortcut_target
        cases.append(TargetCase((None, x_t, t, t_next, *extra), label, reference, constant=bool(more)))
    return cases


shortcut_target = Exercise(
    "shortcut_target",
    reference=few_steps.shortcut_target,
    lesson="11",
    number=3,
    partly=OTHERWISE,
    cases=target_cases,
    mistakes=[
        "that is one whole step, what the student predicts anyway: take two half steps",
        lambda u, x, t, s: u(x, t, s),
        "the second half starts where the first one ends, not at x_t: take the step in between",
        wrong.halves(start=lambda x, first, t, m, s: x),
        "the step to the middle is as long as the whole span: it ends at the middle",
        wrong.halves(start=lambda x, first, t, m, s: step(x, first, t, s)),
        "the step to the middle leads the wrong way: from t down to the middle",
        wrong.halves(start=lambda x, first, t, m, s: step(x, first, m, t)),
        "the second half is told the times of the first: it begins in the middle and ends at t_next",
        wrong.halves(second=lambda t, m, s: (t, m)),
        "the second half begins in the middle, and is told t",
        wrong.halves(second=lambda t, m, s: (t, s)),
        "the second half is told the middle twice, a span of 0: it ends at t_next",
        wrong.halves(second=lambda t, m, s: (m, m)),
        "the second half ends at t_next, and is told 0",
        wrong.halves(second=lambda t, m, s: (m, 0 * s)),
        "the two times of the second half have changed places: where it begins comes first",
        wrong.halves(second=lambda t, m, s: (s, m)),
        "the two times of the first half have changed places: where it begins comes first",
        wrong.halves(first=lambda t, m, s: (m, t)),
        "the first half is told that it ends at t_next: it ends in the middle",
        wrong.halves(first=lambda t, m, s: (t, s)),
        "`average` takes the time at which a step *ends*, not how long it is",
        wrong.halves(first=lambda t, m, s: (t, t - m), second=lambda t, m, s: (m, m - s)),
        "the halves are told a span of 0, so they predict velocities at one moment: tell them where they end",
        wrong.halves(first=lambda t, m, s: (t, t), second=lambda t, m, s: (m, m)),
        "both velocities are added, which goes twice as far: take their mean",
        wrong.halves(join=lambda first, second: first + second),
        "only one of the two velocities is halved: a division comes before a sum, unless there are brackets",
        wrong.halves(join=lambda first, second: first + second / 2),
        wrong.halves(join=lambda first, second: first / 2 + second),
        "that is the first half only: the whole step needs the mean of both",
        wrong.halves(join=lambda first, second: first),
        "that is the second half only: the whole step needs the mean of both",
        wrong.halves(join=lambda first, second: second),
        "(t - t_next) / 2 is how long a half is: the middle of the step is at (t + t_next) / 2",
        wrong.halves(middle=lambda t, s: (t - s) / 2),
        "t / 2 is the middle only where the step ends at 0",
        wrong.halves(middle=lambda t, s: t / 2),
        "t + t_next / 2 lies beyond t: put the sum in brackets",
        wrong.halves(middle=lambda t, s: t + s / 2),
        "that is the state in which both steps end: the target is a velocity",
        wrong.ends,
        "that is the displacement of both steps: divide by the span, or take the mean of both velocities",
        lambda u, x, t, s: x - wrong.ends(u, x, t, s),
    ],
    praise="The mean of two half steps",
)
