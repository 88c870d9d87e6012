"""Lesson 09, first half: the Frechet distance, precision and recall, nearest neighbors."""

from collections.abc import Callable

import torch
from torch import Tensor

from dit_course import evaluation
from dit_course.check.engine.exercise import OTHERWISE, Case, Draw, Exercise
from dit_course.check.engine.mistakes import MatchesRule
from dit_course.check.engine.modules import said_instead
from dit_course.check.lesson_09_evaluation import mistakes as wrong
from dit_course.check.lesson_09_evaluation.cases import ChosenCase, clouds, covariance, image_inputs
from dit_course.evaluation import matrix_root

# -- gaussian_distance -----------------------------------------------------------------------------


class GaussianCase(Case):
    """An error of `cholesky` is explained."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """The distance."""
        with said_instead({"positive-definite": FEW_POINTS}):
            return super().use(answer, track)


FEW_POINTS = (
    "`cholesky` needs eigenvalues above 0, and a covariance of fewer samples than features has some that are 0: "
    "`matrix_root` can do with them"
)


def gaussian_cases(draw: Draw) -> list[Case]:
    """Round ones, where all is easy, two that lie askew, and two of fewer points than dimensions."""
    size = 2
    first = (draw.normal(size, dtype=torch.float64), torch.eye(size, dtype=torch.float64))
    second = (draw.normal(size, dtype=torch.float64), 4 * torch.eye(size, dtype=torch.float64))
    cases = [GaussianCase((*first, *second), "two round Gaussians in 2 dimensions")]
    for size, count in [*((size, size + 4) for size in draw.sizes(2, 3, 7)), (7, 3)]:
        pair = [(draw.normal(size, dtype=torch.float64), covariance(draw, size, count)) for _ in range(2)]
        label = f"two Gaussians of {count} points each in {size} dimensions"
        cases.append(GaussianCase((*pair[0], *pair[1]), label))
    return cases


gaussian_distance = Exercise(
    "gaussian_distance",
    reference=evaluation.gaussian_distance,
    lesson="09",
    number=1,
    free=("covariance_a", "covariance_b"),
    partly=OTHERWISE,
    cases=gaussian_cases,
    mistakes=[
        (
            "the shared part is the product of both roots: that is right only where both Gaussians lie along the same "
            "axes. It is one root, of a product of three"
        ),
        wrong.gaussians(shared=lambda a, b: matrix_root(a) @ matrix_root(b)),
        (
            "`matrix_root` is given C_a C_b, which is not symmetric, so it reads only half of it: put a root of C_a "
            "on either side"
        ),
        wrong.gaussians(shared=lambda a, b: matrix_root(a @ b)),
        "the product of three is there, but not yet its root",
        wrong.gaussians(shared=lambda a, b: matrix_root(a) @ b @ matrix_root(a)),
        wrong.gaussians(shared=lambda a, b: a @ b),
        "`*` multiplies entry by entry: the product of matrices is `@`",
        wrong.gaussians(shared=lambda a, b: matrix_root(matrix_root(a) * b * matrix_root(a))),
        "the shared part counts twice: (x - y)² has a 2 in its middle, too",
        wrong.gaussians(shared=lambda a, b: matrix_root(matrix_root(a) @ b @ matrix_root(a)) / 2),
        "the shared part is taken away, not added",
        wrong.gaussians(shared=lambda a, b: -matrix_root(matrix_root(a) @ b @ matrix_root(a))),
        "the means are forgotten: two clouds of one shape in different places would be the same",
        wrong.gaussians(means=0),
        "only the means are compared: the covariances say how wide the clouds are, and in which directions",
        wrong.gaussians(covariances=0),
        "the distance of the means is to be squared: no root there",
        wrong.with_means(lambda gap: gap.norm()),
        wrong.with_means(lambda gap: gap.abs().sum()),
        "the squares of the means' differences are averaged: they are summed",
        wrong.with_means(lambda gap: gap.square().mean()),
        "the square root of all at the end is too much: this distance stays squared, as is usual",
        wrong.gaussians(finish=torch.sqrt),
        "all numbers of the matrix are summed: the trace sums only its diagonal",
        lambda mean_a, a, mean_b, b: _summed(mean_a, a, mean_b, b),
        MatchesRule(
            "your answer is a matrix: its trace is wanted, the sum of its diagonal",
            lambda got, expected: got.ndim == 2 and got.shape[0] == got.shape[1] > 1,
        ),
        MatchesRule(
            "your answer is NaN or infinite. The root of a matrix is not the root of each of its "
            "numbers, some of which are negative: `matrix_root` makes it",
            lambda got, expected: got.is_floating_point() and bool(got.isnan().any()),
        ),
    ],
    praise="The same distance",
)


def _summed(mean_a: Tensor, a: Tensor, mean_b: Tensor, b: Tensor) -> Tensor:
    shared = matrix_root(matrix_root(a) @ b @ matrix_root(a))
    return (mean_a - mean_b).square().sum() + (a + b - 2 * shared).sum()


# -- precision_recall ------------------------------------------------------------------------------


def cloud_cases(draw: Draw) -> list[Case]:
    """Two clouds in the plane, then in more dimensions and far from the origin, points that coincide, and a line."""
    cases = []
    for real, drawn, size, k, away in ((90, 60, 2, 3, 0), (50, 70, 3, 5, 0), (50, 70, 3, 5, 300)):
        label = f"{real} real and {drawn} drawn points in {size} dimensions{' far away' * (away > 0)}, k = {k}"
        cases.append(Case((*(cloud + away for cloud in clouds(draw, real, drawn, size)), k), label))
    real = draw.normal(12, 2)
    twins = torch.stack([real[0] + 0.05, torch.tensor([9.0, 9.0])]).repeat(6, 1)  # one of them among the real points
    cases.append(Case((real, twins, 3), "12 drawn points in two places"))
    line = torch.arange(20.0)[:, None] * torch.ones(2)
    return [*cases, Case((line[10:] + 0.5, line[:9], 8), "10 real and 9 drawn points on a line, k = 8")]


precision_recall = Exercise(
    "precision_recall",
    reference=evaluation.precision_recall,
    refused=lambda draw: [
        Case((draw.normal(n, 2), draw.normal(m, 2), 3), f"{n} real and {m} drawn points for k = 3")
        for n, m in ((3, 9), (9, 3))
    ],
    lesson="09",
    number=2,
    cases=cloud_cases,
    mistakes=[
        "precision and recall are swapped: precision asks how many of the *drawn* lie among the real",
        lambda *args: evaluation.precision_recall(*args).flip(0),
        "points that coincide are neighbors, too: only the point itself does not count, not all at distance 0",
        wrong.balls(lambda points, k: wrong.apart(points, lambda d: d == 0, k)),
        "each ball is one neighbor too small: the nearest point to a point is the point itself, at distance 0",
        wrong.balls(lambda points, k: wrong.nearest_of(points, k - 1)),
        "each ball is one neighbor too large: only the point itself is left out of the count",
        wrong.balls(lambda points, k: wrong.apart(points, lambda d: torch.eye(len(d), dtype=torch.bool), k + 1)),
        "the radius is the distance to the k-th nearest, not the mean over k of them",
        wrong.balls(lambda points, k: torch.cdist(points, points).sort(dim=1).values[:, 1 : k + 1].mean(dim=1)),
        "a point must lie in *all* balls with you: one of them is enough",
        wrong.balls(inside=lambda within, dim: within.all(dim=dim).double().mean()),
        "you count pairs of point and ball: what counts is whether a point lies in at least one",
        wrong.balls(inside=lambda within, dim: within.double().mean()),
        "the radius of a ball comes from its own kind: how far is a real point's k-th nearest *real* point?",
        wrong.balls(reaches=lambda between, k: _across(between, k)),
        wrong.balls(reaches=lambda between, k: _across(between, k + 1)),
        "all balls have one size with you: each point has a radius of its own, small where points are dense",
        wrong.balls(lambda points, k: wrong.nearest_of(points, k).mean().expand(len(points))),
        wrong.balls(lambda points, k: wrong.nearest_of(points, k).max().expand(len(points))),
        "column k is the distance to point number k, not to the k-th nearest one: kthvalue sorts",
        wrong.balls(lambda points, k: torch.cdist(points, points)[:, k]),
        "both of your numbers are the precision: for the recall real and drawn change places",
        lambda *args: evaluation.precision_recall(*args)[:1].expand(2),
        (
            "you ask along the wrong axis: in the table of drawn against real, a row is one drawn point and a column "
            "one real point"
        ),
        wrong.balls(inside=lambda within, dim: within.any(dim=1 - dim).double().mean()),
        "the recall, too, is taken from the balls around real points: it asks for those around *drawn* ones",
        lambda real, drawn, k: _real_balls(real, drawn, k),
        (
            "the balls belong to the wrong kind: a drawn point is tested against balls around *real* points, whose "
            "radius comes from real points"
        ),
        lambda real, drawn, k: _other_balls(real, drawn, k),
    ],
    praise="The same shares",
)


def _across(between: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return between.kthvalue(k, dim=0).values, between.kthvalue(k, dim=1).values


def _other_balls(real: Tensor, drawn: Tensor, k: int) -> Tensor:
    """Each point is tested with a ball around itself."""
    between = torch.cdist(drawn.double(), real.double())
    of_real, of_drawn = wrong.nearest_of(real.double(), k), wrong.nearest_of(drawn.double(), k)
    precise = (between <= of_drawn[:, None]).any(dim=1)
    return torch.stack([precise.double().mean(), (between <= of_real).any(dim=0).double().mean()])


def _real_balls(real: Tensor, drawn: Tensor, k: int) -> Tensor:
    """One table for both: whose balls a drawn point lies in, and which balls hold one."""
    within = torch.cdist(drawn.double(), real.double()) <= wrong.nearest_of(real.double(), k)
    return torch.stack([within.any(dim=1).double().mean(), within.any(dim=0).double().mean()])


# -- nearest_neighbours ----------------------------------------------------------------------------


def picture_cases(draw: Draw) -> list[Case]:
    """Floats and bytes, more than fit into one batch, the last batch smaller; nearly black ones; many large ones."""
    cases = []
    for count, known, batch, byte in ((7, 12, 3, False), (11, 8, 4, True)):
        args = (image_inputs(draw, count, byte), image_inputs(draw, known, byte), batch)
        kind = "bytes" if byte else "floats"
        cases.append(ChosenCase(args, f"{count} pictures of {kind} among {known}, {batch} at a time"))
    black = 0.02 * image_inputs(draw, 19, False)
    many = torch.randint(200, (1300, 1, 28, 28), dtype=torch.uint8, generator=draw.generator)
    many = torch.cat([many, many + 50])  # each one once more, and brighter
    some = many[torch.randperm(2600, generator=draw.generator)[:100]] + 2
    return [
        *cases,
        ChosenCase((black[:7], black[7:], 3), "7 nearly black pictures among 12"),
        ChosenCase((some, many, 100), "100 pictures of 28x28 among 2,600"),
    ]


nearest_neighbours = Exercise(
    "nearest_neighbours",
    reference=evaluation.nearest_neighbours,
    lesson="09",
    number=3,
    partly=OTHERWISE,
    cases=picture_cases,
    mistakes=[
        "you found the picture that is *least* like it: the smallest distance is wanted",
        wrong.looked_up(torch.cdist, largest=True),
        "these are the distances: wanted is the *number* of the picture at that distance, as argmin gives it",
        lambda a, b, size: _distances(a, b),
        "you have looked up each training picture among the drawn ones: it is the other way round",
        lambda a, b, size: evaluation.nearest_neighbours(b, a),
        lambda a, b, size: torch.cat([evaluation.nearest_neighbours(b, x) for x in a.split(size)]),
        "the largest product is not the smallest distance: bright pictures win it against all",
        wrong.looked_up(lambda a, b: a @ b.T, largest=True),
        "you sum absolute differences of pixels: the Euclidean distance sums their squares",
        wrong.looked_up(lambda a, b: torch.cdist(a, b, p=1)),
        "only the average brightness is compared: the distance compares pixel with pixel",
        wrong.looked_up(lambda a, b: (a.mean(1)[:, None] - b.mean(1)).abs()),
        "only the first batch comes back: does `return` stand inside the loop?",
        lambda a, b, size: evaluation.nearest_neighbours(a[:size], b),
        "only the last batch comes back: each must be kept, and all joined at the end",
        lambda a, b, size: evaluation.nearest_neighbours(a.split(size)[-1], b),
    ],
    praise="The same neighbors",
)


def _distances(images: Tensor, training: Tensor) -> Tensor:
    return torch.cdist(evaluation.unit(images).flatten(1), evaluation.unit(training).flatten(1)).min(dim=1).values
