"""Plausible wrong versions of lesson 09's exercises."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dit_course.evaluation import (
    class_accuracy,
    frechet_distance,
    in_batches,
    matrix_root,
    precision_recall,
    unit,
)


def gaussians(covariances=1.0, means=1.0, shared=None, finish=None):
    """A wrong `gaussian_distance`: other weights, another idea of the shared part, or something done at the end."""
    shared = shared or (lambda a, b: matrix_root(matrix_root(a) @ b @ matrix_root(a)))

    def wrong(mean_a: Tensor, a: Tensor, mean_b: Tensor, b: Tensor) -> Tensor:
        total = means * (mean_a - mean_b).square().sum() + covariances * (a + b - 2 * shared(a, b)).trace()
        return finish(total) if finish else total

    return wrong


def with_means(distance):
    """A wrong `gaussian_distance` that compares the means in another way."""

    def wrong(mean_a: Tensor, a: Tensor, mean_b: Tensor, b: Tensor) -> Tensor:
        return distance(mean_a - mean_b) + gaussians(means=0)(mean_a, a, mean_b, b)

    return wrong


def nearest_of(points: Tensor, k: int) -> Tensor:
    """How far each point's k-th neighbor is, itself not counted: (n,)."""
    return torch.cdist(points, points).kthvalue(k + 1, dim=1).values


def apart(points: Tensor, leave_out: Callable, k: int) -> Tensor:
    """How far each point's k-th neighbor is, where some of the distances (n, n) do not count: (n,)."""
    distances = torch.cdist(points, points)
    return distances.masked_fill(leave_out(distances), torch.inf).kthvalue(k, dim=1).values


def balls(reach=nearest_of, inside=None, reaches=None):
    """A wrong `precision_recall`: other radii, or another idea of lying inside."""
    inside = inside or (lambda within, dim: within.any(dim=dim).double().mean())

    def wrong(real: Tensor, drawn: Tensor, k: int = 3) -> Tensor:
        real, drawn = real.double(), drawn.double()
        between = torch.cdist(drawn, real)  # (m, n)
        of_real, of_drawn = reaches(between, k) if reaches else (reach(real, k), reach(drawn, k))
        precise = inside(between <= of_real, 1)
        return torch.stack([precise, inside(between <= of_drawn[:, None], 0)])

    return wrong


def looked_up(compare, largest: bool = False):
    """A wrong `nearest_neighbours` that compares in another way."""

    def wrong(images: Tensor, training: Tensor, batch_size: int = 100) -> Tensor:
        table = compare(unit(images).flatten(1), unit(training).flatten(1))  # (n, m)
        return table.argmax(dim=1) if largest else table.argmin(dim=1)

    return wrong


MISTAKES = ("training", "mirrored", "bytes", "few", "swapped", "unequal", "labels", "bytes again")  # as they are read


def careless(mistakes: Sequence[str]):
    """The measurement that lesson 09 shows, with some of its mistakes left in."""

    def wrong(judge: nn.Module, drawn: Tensor, labels: Tensor, real: Tensor) -> Tensor:
        judge = judge.train("training" in mistakes)
        real = real.flip(3) if "mirrored" in mistakes else real
        reference = real[: len(drawn) // 2] if "few" in mistakes else real
        seen = drawn.float() if "bytes" in mistakes else drawn
        features, of_real = in_batches(judge.features, seen), in_batches(judge.features, reference)
        distance = frechet_distance(features, of_real)
        count = min(len(features), len(of_real))
        if "unequal" not in mistakes:
            features, of_real = features[:count], of_real[:count]
        pair = precision_recall(of_real, features)
        pair = pair.flip(0) if "swapped" in mistakes else pair
        wanted = torch.arange(len(drawn)) % judge.config["num_classes"] if "labels" in mistakes else labels
        accuracy = class_accuracy(judge, drawn.float() if "bytes again" in mistakes else drawn, wanted)
        return torch.tensor([accuracy, distance, *pair.tolist()], dtype=torch.float64)

    return wrong


def still_training(judge: nn.Module, drawn: Tensor, labels: Tensor, real: Tensor) -> Tensor:
    """Right but for the judge's mode, which the accuracy feels, too, since it is taken from the features."""
    features, of_real = in_batches(judge.train().features, drawn), in_batches(judge.features, real)
    accuracy, distance = class_accuracy(judge.head, features, labels), frechet_distance(features, of_real)
    count = min(len(features), len(of_real))
    return torch.tensor([accuracy, distance, *precision_recall(of_real[:count], features[:count])], dtype=torch.float64)


def cut(which: str):
    """A wrong `measure` that cuts the real or the drawn pictures to equal numbers before anything is measured."""

    def wrong(judge: nn.Module, drawn: Tensor, labels: Tensor, real: Tensor) -> Tensor:
        count = min(len(drawn), len(real))
        if "drawn" in which:
            drawn, labels = drawn[:count], labels[:count]
        return careless(())(judge, drawn, labels, real[:count] if "real" in which else real)

    return wrong


def front(beats):
    """A wrong `pareto_front`, with another idea of when one row beats another."""

    def wrong(scores: Tensor) -> Tensor:
        return (~beats(scores[:, None], scores).any(dim=0)).nonzero().flatten()

    return wrong


def kernel(
    power: int = 3,
    scaled: bool = True,
    itself: bool = False,
    plus: float = 1.0,
    between: float = 2.0,
    divisor=None,
    share: float = 1.0,
):
    """A wrong `kernel_distance`. divisor: of two sets, by what products are divided. share: of what lies within."""

    def wrong(features_a: Tensor, features_b: Tensor) -> Tensor:
        a, b = features_a.double(), features_b.double()
        size = divisor or (lambda x, y: x.shape[1] if scaled else 1)
        table = lambda x, y: (x @ y.T / size(x, y) + plus) ** power  # noqa: E731

        def within(x: Tensor) -> Tensor:
            values = table(x, x)
            return values.mean() if itself else (values.sum() - values.trace()) / (len(x) * (len(x) - 1))

        return share * (within(a) + within(b)) - between * table(a, b).mean()

    return wrong
