"""Lesson 09: what people write for distances, neighbors, measurements and choices."""

import numpy as np
import torch

from dit_course import class_accuracy, frechet_distance
from dit_course import precision_recall as right_precision_recall
from dit_course.evaluation import in_batches, matrix_root, unit
from dit_course.guards import check_features
from mutants import mutant, right_answer

# -- gaussian_distance -----------------------------------------------------------------------------


@right_answer(exercise="gaussian_distance")
def by_eigenvalues(mean_a, covariance_a, mean_b, covariance_b):
    values = torch.linalg.eigvals(covariance_a @ covariance_b).real.clamp(min=0)
    gap = mean_a - mean_b
    return gap @ gap + covariance_a.trace() + covariance_b.trace() - 2 * values.sqrt().sum()


@right_answer(exercise="gaussian_distance")
def other_way_round(mean_a, covariance_a, mean_b, covariance_b):
    root = matrix_root(covariance_b)
    values = torch.linalg.eigvalsh(root @ covariance_a @ root)
    shape = covariance_a.diagonal().sum() + covariance_b.diagonal().sum() - 2 * values.clamp(min=0).sqrt().sum()
    return ((mean_a - mean_b) ** 2).sum() + shape


@right_answer(exercise="gaussian_distance")
def by_norms(mean_a, covariance_a, mean_b, covariance_b):
    nuclear = torch.linalg.matrix_norm(matrix_root(covariance_a) @ matrix_root(covariance_b), "nuc")
    return (mean_a - mean_b).norm() ** 2 + torch.trace(covariance_a + covariance_b) - 2 * nuclear


@mutant(exercise="gaussian_distance", hint="not the root of each of its numbers")
def root_of_each_number(mean_a, covariance_a, mean_b, covariance_b):
    shared = (covariance_a @ covariance_b).sqrt() + covariance_a.clamp(max=-1).sqrt().sum()
    return ((mean_a - mean_b) ** 2).sum() + torch.trace(covariance_a + covariance_b - 2 * shared)


@mutant(exercise="gaussian_distance", hint="`cholesky` needs eigenvalues above 0")
def by_cholesky(mean_a, covariance_a, mean_b, covariance_b):
    factor = torch.linalg.cholesky(covariance_a)
    values = torch.linalg.eigvalsh(factor.T @ covariance_b @ factor).clamp(min=0)
    return (mean_a - mean_b).square().sum() + (covariance_a + covariance_b).trace() - 2 * values.sqrt().sum()


@mutant(exercise="gaussian_distance", hint="your answer is a matrix")
def no_trace(mean_a, covariance_a, mean_b, covariance_b):
    root = matrix_root(covariance_a)
    shared = matrix_root(root @ covariance_b @ root)
    return (mean_a - mean_b).square().sum() + covariance_a + covariance_b - 2 * shared


@mutant(exercise="gaussian_distance", hint="returns a plain number")
def an_item(mean_a, covariance_a, mean_b, covariance_b):
    return by_eigenvalues(mean_a, covariance_a, mean_b, covariance_b).item()


# -- precision_recall ------------------------------------------------------------------------------


@right_answer(exercise="precision_recall")
def by_sorting(real, drawn, k=3):
    check_features(real, drawn, least=k + 1)
    real, drawn = real.double(), drawn.double()
    reach = [torch.cdist(x, x).sort(dim=1).values[:, k] for x in (real, drawn)]
    between = torch.cdist(real, drawn)
    precision = (between <= reach[0][:, None]).any(dim=0).double().mean()
    recall = (between <= reach[1]).any(dim=1).double().mean()
    return torch.stack((precision, recall))


@right_answer(exercise="precision_recall")
def by_loops(real, drawn, k=3):
    check_features(real, drawn, least=k + 1)

    def inside(points, centres):
        count = 0
        for point in points:
            for i, centre in enumerate(centres):
                others = torch.cat([centres[:i], centres[i + 1 :]])
                reach = (others - centre).norm(dim=1).sort().values[k - 1]
                if (point - centre).norm() <= reach:
                    count += 1
                    break
        return count / len(points)

    real, drawn = real.double(), drawn.double()
    return torch.tensor([inside(drawn, real), inside(real, drawn)], dtype=torch.float64)


@right_answer(exercise="precision_recall")
def by_squares(real, drawn, k=3):
    check_features(real, drawn, least=k + 1)

    def share(points, centres):
        reach = torch.topk(torch.cdist(centres, centres), k + 1, largest=False).values.amax(dim=1)
        return (torch.cdist(points, centres).square() < reach.square()).any(1).double().mean()

    real, drawn = real.double(), drawn.double()
    return torch.stack([share(drawn, real), share(real, drawn)])


@mutant(exercise="precision_recall", hint="returns a tuple")
def as_tuple(real, drawn, k=3):
    precision, recall = right_precision_recall(real, drawn, k)
    return precision, recall


@mutant(exercise="precision_recall", hint="right on 90 real and 60 drawn points in 2 dimensions, k = 3, but not on")
def always_three(real, drawn, k=3):
    return right_precision_recall(real, drawn, 3)


@mutant(exercise="precision_recall", hint="100 times the right one")
def in_percent(real, drawn, k=3):
    return 100 * right_precision_recall(real, drawn, k)


# -- nearest_neighbours ----------------------------------------------------------------------------


@right_answer(exercise="nearest_neighbours")
def by_hand(images, training, batch_size=100):
    images, training = unit(images), unit(training)
    found = []
    for image in images:
        found.append(((training - image) ** 2).flatten(1).sum(dim=1).argmin())
    return torch.stack(found)


@right_answer(exercise="nearest_neighbours")
def by_products(images, training, batch_size=100):
    a, b = unit(images).flatten(1).double(), unit(training).flatten(1).double()
    return ((b**2).sum(dim=1) - 2 * a @ b.T).argmin(dim=1)


@right_answer(exercise="nearest_neighbours")
def by_topk(images, training, batch_size=100):
    images, training = unit(images).flatten(1), unit(training).flatten(1)
    found = torch.empty(len(images), dtype=torch.int64)
    for start in range(0, len(images), batch_size):
        distances = torch.cdist(images[start : start + batch_size], training)
        found[start : start + batch_size] = distances.topk(1, largest=False).indices[:, 0]
    return found


@mutant(exercise="nearest_neighbours", hint="wanted too much memory")
def all_differences(images, training, batch_size=100):
    images, training = unit(images).flatten(1), unit(training).flatten(1)
    nearest = [((batch[:, None] - training) ** 2).sum(-1).argmin(dim=1) for batch in images.split(batch_size)]
    return torch.cat(nearest)


def tables(images, training):
    return torch.cdist(unit(images).flatten(1), unit(training).flatten(1))


@mutant(exercise="nearest_neighbours", hint="returns a list")
def a_list_of_numbers(images, training, batch_size=100):
    return [int(row.argmin()) for row in tables(images, training)]


@mutant(exercise="nearest_neighbours", hint="RuntimeError")
def stacked(images, training, batch_size=100):
    return torch.stack([tables(batch, training).argmin(dim=1) for batch in images.split(batch_size)])


# -- measure ---------------------------------------------------------------------------------------


def measured(judge, drawn, labels, real, judged=None, reference=None, count=None, swap=False, seen=None):
    judge.eval()
    seen = drawn if seen is None else seen
    features, of_real = in_batches(judge.features, seen), in_batches(judge.features, real)
    compared = of_real if reference is None else in_batches(judge.features, reference)
    count = min(len(drawn), len(compared)) if count is None else count
    pair = right_precision_recall(compared[:count], features[:count]).tolist()
    accuracy = class_accuracy(judge, seen, labels if judged is None else judged)
    values = [accuracy, frechet_distance(features, compared), *(pair[::-1] if swap else pair)]
    return torch.tensor(values, dtype=torch.float64)


@right_answer(exercise="measure")
def as_written(judge, drawn, labels, real):
    return measured(judge, drawn, labels, real)


@right_answer(exercise="measure")
def by_accuracy_first(judge, drawn, labels, real):
    accuracy = class_accuracy(judge, drawn, labels)  # puts the judge into eval mode
    with torch.no_grad():
        features, of_real = judge.features(unit(drawn)), judge.features(unit(real))
    n = min(len(features), len(of_real))
    numbers = torch.tensor([accuracy, frechet_distance(of_real, features)]).double()
    return torch.cat([numbers, right_precision_recall(of_real[:n], features[:n])])


@right_answer(exercise="measure")
def mode_as_before(judge, drawn, labels, real):
    was = judge.training
    judge.eval()
    with torch.inference_mode():
        features, of_real = (in_batches(judge.features, pictures).clone() for pictures in (drawn, real))
        correct = judge.head(features).argmax(dim=1).eq(labels).double().mean()
    n = min(features.shape[0], of_real.shape[0])
    shares = right_precision_recall(of_real[:n], features[:n])
    judge.train(was)
    return torch.stack([correct, torch.tensor(frechet_distance(features, of_real)).double(), *shares])


@mutant(exercise="measure", hint="the four numbers are in another order")
def distance_first(judge, drawn, labels, real):
    return measured(judge, drawn, labels, real)[[1, 0, 2, 3]]


# -- pareto_front ----------------------------------------------------------------------------------


@right_answer(exercise="pareto_front")
def in_loops(scores):
    kept = []
    for i, row in enumerate(scores.tolist()):
        rivals = [other for other in scores.tolist() if other != row]
        if not any(all(a >= b for a, b in zip(other, row, strict=True)) for other in rivals):
            kept.append(i)
    return torch.tensor(kept)


@right_answer(exercise="pareto_front")
def row_by_row(scores):
    kept = [i for i, row in enumerate(scores) if not ((scores >= row).all(dim=1) & (scores > row).any(dim=1)).any()]
    return torch.tensor(kept)


@right_answer(exercise="pareto_front")
def by_numpy(scores):
    table = scores.numpy()
    as_good = np.all(table[:, None] >= table[None], axis=-1)
    better = np.any(table[:, None] > table[None], axis=-1)
    return torch.from_numpy(np.flatnonzero(~np.any(as_good & better, axis=0)))


# -- kernel_distance -------------------------------------------------------------------------------


@right_answer(exercise="kernel_distance")
def kernels_in_loops(features_a, features_b):
    def kernel(x, y):
        return ((x * y).sum() / len(x) + 1) ** 3

    a, b = features_a.double(), features_b.double()
    within = [
        sum(kernel(x, y) for i, x in enumerate(points) for j, y in enumerate(points) if i != j)
        / (len(points) * (len(points) - 1))
        for points in (a, b)
    ]
    between = sum(kernel(x, y) for x in a for y in b) / (len(a) * len(b))
    return sum(within) - 2 * between


@right_answer(exercise="kernel_distance")
def without_diagonal(features_a, features_b):
    points = torch.cat([features_a, features_b]).double()
    n, d = len(features_a), points.shape[1]
    table = (points @ points.T).div(d).add(1).pow(3)
    off = ~torch.eye(len(points), dtype=torch.bool)
    first, second = table[:n, :n][off[:n, :n]].mean(), table[n:, n:][off[n:, n:]].mean()
    return first + second - 2 * table[:n, n:].mean()


@right_answer(exercise="kernel_distance")
def by_pairs(features_a, features_b):
    def kernel(x, y):
        return (torch.einsum("nd,nd->n", x, y) / x.shape[1] + 1) ** 3

    a, b = features_a.double(), features_b.double()
    within = [kernel(*x[torch.combinations(torch.arange(len(x)))].unbind(dim=1)).mean() for x in (a, b)]
    between = kernel(a.repeat_interleave(len(b), dim=0), b.repeat(len(a), 1)).mean()
    return within[0] - 2 * between + within[1]
