"""Lesson 09: what people write for distances, neighbours, measurements and choices."""

import torch
from torch import Tensor

from dit_course import class_accuracy, frechet_distance
from dit_course import precision_recall as right_precision_recall
from dit_course.evaluation import in_batches, matrix_root, unit
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


@mutant(exercise="gaussian_distance", hint="the product of both roots")
def both_roots(mean_a, covariance_a, mean_b, covariance_b):
    shared = matrix_root(covariance_a) @ matrix_root(covariance_b)
    return ((mean_a - mean_b) ** 2).sum() + torch.trace(covariance_a + covariance_b - 2 * shared)


@mutant(exercise="gaussian_distance", hint="is not symmetric, so it reads only half of it")
def root_of_the_product(mean_a, covariance_a, mean_b, covariance_b):
    shared = matrix_root(covariance_a @ covariance_b)
    return ((mean_a - mean_b) ** 2).sum() + torch.trace(covariance_a + covariance_b - 2 * shared)


@mutant(exercise="gaussian_distance", hint="not the root of each of its numbers")
def root_of_each_number(mean_a, covariance_a, mean_b, covariance_b):
    shared = (covariance_a @ covariance_b).sqrt() + covariance_a.clamp(max=-1).sqrt().sum()
    return ((mean_a - mean_b) ** 2).sum() + torch.trace(covariance_a + covariance_b - 2 * shared)


@mutant(exercise="gaussian_distance", hint="but not yet its root")
def product_of_three(mean_a, covariance_a, mean_b, covariance_b):
    root = matrix_root(covariance_a)
    return (mean_a - mean_b).square().sum() + (covariance_a + covariance_b - 2 * root @ covariance_b @ root).trace()


@mutant(exercise="gaussian_distance", hint="but not yet its root")
def product_of_two(mean_a, covariance_a, mean_b, covariance_b):
    shared = covariance_a @ covariance_b
    return (mean_a - mean_b).square().sum() + (covariance_a + covariance_b - 2 * shared).trace()


@mutant(exercise="gaussian_distance", hint="multiplies entry by entry")
def with_stars(mean_a, covariance_a, mean_b, covariance_b):
    root = matrix_root(covariance_a)
    shared = matrix_root(root * covariance_b * root)
    return (mean_a - mean_b).square().sum() + (covariance_a + covariance_b - 2 * shared).trace()


@mutant(exercise="gaussian_distance", hint="counts twice")
def two_forgotten(mean_a, covariance_a, mean_b, covariance_b):
    root = matrix_root(covariance_a)
    shared = matrix_root(root @ covariance_b @ root)
    return (mean_a - mean_b).square().sum() + (covariance_a + covariance_b - shared).trace()


@mutant(exercise="gaussian_distance", hint="taken away, not added")
def added(mean_a, covariance_a, mean_b, covariance_b):
    root = matrix_root(covariance_a)
    shared = matrix_root(root @ covariance_b @ root)
    return (mean_a - mean_b).square().sum() + (covariance_a + covariance_b + 2 * shared).trace()


@mutant(exercise="gaussian_distance", hint="the means are forgotten")
def without_means(mean_a, covariance_a, mean_b, covariance_b):
    root = matrix_root(covariance_a)
    return (covariance_a + covariance_b - 2 * matrix_root(root @ covariance_b @ root)).trace()


@mutant(exercise="gaussian_distance", hint="only the means are compared")
def means_alone(mean_a, covariance_a, mean_b, covariance_b):
    return ((mean_a - mean_b) ** 2).sum()


@mutant(exercise="gaussian_distance", hint="to be squared: no root there")
def norm_of_the_means(mean_a, covariance_a, mean_b, covariance_b):
    return (mean_a - mean_b).norm() + without_means(mean_a, covariance_a, mean_b, covariance_b)


@mutant(exercise="gaussian_distance", hint="to be squared: no root there")
def absolute_means(mean_a, covariance_a, mean_b, covariance_b):
    return (mean_a - mean_b).abs().sum() + without_means(mean_a, covariance_a, mean_b, covariance_b)


@mutant(exercise="gaussian_distance", hint="they are summed")
def averaged_means(mean_a, covariance_a, mean_b, covariance_b):
    return ((mean_a - mean_b) ** 2).mean() + without_means(mean_a, covariance_a, mean_b, covariance_b)


@mutant(exercise="gaussian_distance", hint="the square root of all at the end")
def rooted(mean_a, covariance_a, mean_b, covariance_b):
    return by_eigenvalues(mean_a, covariance_a, mean_b, covariance_b) ** 0.5


@mutant(exercise="gaussian_distance", hint="the trace sums only its diagonal")
def all_summed(mean_a, covariance_a, mean_b, covariance_b):
    root = matrix_root(covariance_a)
    shared = matrix_root(root @ covariance_b @ root)
    return (mean_a - mean_b).square().sum() + (covariance_a + covariance_b - 2 * shared).sum()


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
    real, drawn = real.double(), drawn.double()
    reach = [torch.cdist(x, x).sort(dim=1).values[:, k] for x in (real, drawn)]
    between = torch.cdist(real, drawn)
    precision = (between <= reach[0][:, None]).any(dim=0).double().mean()
    recall = (between <= reach[1]).any(dim=1).double().mean()
    return torch.stack((precision, recall))


@right_answer(exercise="precision_recall")
def by_loops(real, drawn, k=3):
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
    def share(points, centres):
        reach = torch.topk(torch.cdist(centres, centres), k + 1, largest=False).values.amax(dim=1)
        return (torch.cdist(points, centres).square() < reach.square()).any(1).double().mean()

    real, drawn = real.double(), drawn.double()
    return torch.stack([share(drawn, real), share(real, drawn)])


def balls(real, drawn, k, shift=0):
    real, drawn = real.double(), drawn.double()
    reach = [torch.cdist(x, x).kthvalue(k + shift, dim=1).values for x in (real, drawn)]
    return torch.cdist(drawn, real), *reach


@mutant(exercise="precision_recall", hint="precision and recall are swapped")
def swapped(real, drawn, k=3):
    return right_precision_recall(drawn, real, k)


@mutant(exercise="precision_recall", hint="one neighbour too small")
def itself_counted(real, drawn, k=3):
    between, of_real, of_drawn = balls(real, drawn, k)
    precise, recalled = (between <= of_real).any(dim=1), (between <= of_drawn[:, None]).any(dim=0)
    return torch.stack([precise.double().mean(), recalled.double().mean()])


@mutant(exercise="precision_recall", hint="one neighbour too large")
def one_too_many(real, drawn, k=3):
    between, of_real, of_drawn = balls(real, drawn, k, 2)
    precise, recalled = (between <= of_real).any(dim=1), (between <= of_drawn[:, None]).any(dim=0)
    return torch.stack([precise.double().mean(), recalled.double().mean()])


@mutant(exercise="precision_recall", hint="balls belong to the wrong kind")
def own_balls(real, drawn, k=3):
    between, of_real, of_drawn = balls(real, drawn, k, 1)
    precise, recalled = (between <= of_drawn[:, None]).any(dim=1), (between <= of_real).any(dim=0)
    return torch.stack([precise.double().mean(), recalled.double().mean()])


@mutant(exercise="precision_recall", hint="in *all* balls")
def in_all(real, drawn, k=3):
    between, of_real, of_drawn = balls(real, drawn, k, 1)
    precise, recalled = (between <= of_real).all(dim=1), (between <= of_drawn[:, None]).all(dim=0)
    return torch.stack([precise.double().mean(), recalled.double().mean()])


@mutant(exercise="precision_recall", hint="count pairs of point and ball")
def pairs(real, drawn, k=3):
    between, of_real, of_drawn = balls(real, drawn, k, 1)
    return torch.stack([(between <= of_real).double().mean(), (between <= of_drawn[:, None]).double().mean()])


@mutant(exercise="precision_recall", hint="comes from its own kind")
def across(real, drawn, k=3):
    between, _, _ = balls(real, drawn, k, 1)
    of_real, of_drawn = between.kthvalue(k, dim=0).values, between.kthvalue(k, dim=1).values
    precise, recalled = (between <= of_real).any(dim=1), (between <= of_drawn[:, None]).any(dim=0)
    return torch.stack([precise.double().mean(), recalled.double().mean()])


@mutant(exercise="precision_recall", hint="all balls have one size")
def one_size(real, drawn, k=3):
    between, of_real, of_drawn = balls(real, drawn, k, 1)
    precise, recalled = (between <= of_real.mean()).any(dim=1), (between <= of_drawn.mean()).any(dim=0)
    return torch.stack([precise.double().mean(), recalled.double().mean()])


@mutant(exercise="precision_recall", hint="all balls have one size")
def largest_size(real, drawn, k=3):
    between, of_real, of_drawn = balls(real, drawn, k, 1)
    precise, recalled = (between <= of_real.max()).any(dim=1), (between <= of_drawn.max()).any(dim=0)
    return torch.stack([precise.double().mean(), recalled.double().mean()])


@mutant(exercise="precision_recall", hint="kthvalue sorts")
def column_k(real, drawn, k=3):
    between, _, _ = balls(real, drawn, k, 1)
    of_real, of_drawn = (torch.cdist(x.double(), x.double())[:, k] for x in (real, drawn))
    precise, recalled = (between <= of_real).any(dim=1), (between <= of_drawn[:, None]).any(dim=0)
    return torch.stack([precise.double().mean(), recalled.double().mean()])


@mutant(exercise="precision_recall", hint="both of your numbers are the precision")
def precision_twice(real, drawn, k=3):
    precision = right_precision_recall(real, drawn, k)[0]
    return torch.stack([precision, precision])


@mutant(exercise="precision_recall", hint="along the wrong axis")
def wrong_axes(real, drawn, k=3):
    between, of_real, of_drawn = balls(real, drawn, k, 1)
    precise, recalled = (between <= of_real).any(dim=0), (between <= of_drawn[:, None]).any(dim=1)
    return torch.stack([precise.double().mean(), recalled.double().mean()])


@mutant(exercise="precision_recall", hint="from the balls around real points")
def real_balls_twice(real, drawn, k=3):
    between, of_real, _ = balls(real, drawn, k, 1)
    within = between <= of_real
    return torch.stack([within.any(dim=1).double().mean(), within.any(dim=0).double().mean()])


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


def tables(images, training):
    return torch.cdist(unit(images).flatten(1), unit(training).flatten(1))


@mutant(exercise="nearest_neighbours", hint="*least* like it")
def farthest(images, training, batch_size=100):
    return tables(images, training).argmax(dim=1)


@mutant(exercise="nearest_neighbours", hint="these are the distances")
def distances(images, training, batch_size=100):
    return tables(images, training).min(dim=1).values


@mutant(exercise="nearest_neighbours", hint="the other way round")
def wrong_axis(images, training, batch_size=100):
    return tables(images, training).argmin(dim=0)


@mutant(exercise="nearest_neighbours", hint="the other way round")
def wrong_axis_in_batches(images, training, batch_size=100):
    return torch.cat([tables(batch, training).argmin(dim=0) for batch in images.split(batch_size)])


@mutant(exercise="nearest_neighbours", hint="only the first batch comes back")
def returned_early(images, training, batch_size=100):
    for batch in images.split(batch_size):
        return tables(batch, training).argmin(dim=1)


@mutant(exercise="nearest_neighbours", hint="only the last batch comes back")
def overwritten(images, training, batch_size=100):
    for batch in images.split(batch_size):
        nearest = tables(batch, training).argmin(dim=1)
    return nearest


@mutant(exercise="nearest_neighbours", hint="bright pictures win")
def by_likeness(images, training, batch_size=100):
    return (unit(images).flatten(1) @ unit(training).flatten(1).T).argmax(dim=1)


@mutant(exercise="nearest_neighbours", hint="sum absolute differences")
def manhattan(images, training, batch_size=100):
    return torch.cdist(unit(images).flatten(1), unit(training).flatten(1), p=1).argmin(dim=1)


@mutant(exercise="nearest_neighbours", hint="only the average brightness")
def brightness(images, training, batch_size=100):
    return (unit(images).flatten(1).mean(1)[:, None] - unit(training).flatten(1).mean(1)).abs().argmin(dim=1)


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
        features, of_real = judge.features(drawn / 255), judge.features(real / 255)
    n = min(len(features), len(of_real))
    numbers = torch.tensor([accuracy, frechet_distance(of_real, features)]).double()
    return torch.cat([numbers, right_precision_recall(of_real[:n], features[:n])])


def carelessly(judge, drawn, labels, real):
    """As the lesson shows it."""
    judge.train()
    real = real.flip(3)
    features = in_batches(judge.features, drawn.float())
    of_real = in_batches(judge.features, real[: len(drawn) // 2])
    distance = frechet_distance(features, of_real)
    precision, recall = right_precision_recall(features, of_real)
    accuracy = class_accuracy(judge, drawn.float(), torch.arange(len(drawn)) % 10)
    return torch.tensor([accuracy, distance, precision, recall], dtype=torch.float64)


@mutant(exercise="measure", hint="(and 6 more)")
def unmended(judge, drawn, labels, real):
    return carelessly(judge, drawn, labels, real)


@mutant(exercise="measure", hint="the judge still learns")
def still_training(judge, drawn, labels, real):
    judge.train()
    features, of_real = in_batches(judge.features, drawn), in_batches(judge.features, real)
    n = min(len(features), len(of_real))
    pair = right_precision_recall(of_real[:n], features[:n]).tolist()
    distance = frechet_distance(features, of_real)
    return torch.tensor([class_accuracy(judge, drawn, labels), distance, *pair], dtype=torch.float64)


@mutant(exercise="measure", hint="the real pictures are mirrored")
def mirrored(judge, drawn, labels, real):
    return measured(judge, drawn, labels, real, reference=real.flip(3))


@mutant(exercise="measure", hint="to a part of the real pictures")
def half_of_them(judge, drawn, labels, real):
    return measured(judge, drawn, labels, real, reference=real[: len(drawn) // 2])


@mutant(exercise="measure", hint="the judge gets floats up to 255")
def undivided(judge, drawn, labels, real):
    return measured(judge, drawn, labels, real, seen=drawn.float())


@mutant(exercise="measure", hint="not that of the labels which were asked for")
def labels_in_turn(judge, drawn, labels, real):
    return measured(judge, drawn, labels, real, judged=torch.arange(len(drawn)) % 10)


@mutant(exercise="measure", hint="precision and recall are swapped")
def turned(judge, drawn, labels, real):
    return measured(judge, drawn, labels, real, swap=True)


@mutant(exercise="measure", hint="floats up to 255 for the accuracy")
def undivided_for_the_accuracy(judge, drawn, labels, real):
    values = measured(judge, drawn, labels, real)
    values[0] = class_accuracy(judge, drawn.float(), labels)
    return values


@mutant(exercise="measure", hint="precision and recall are swapped")
def half_mended(judge, drawn, labels, real):
    """Its first four lines are right, the others still as the lesson shows them."""
    judge.eval()
    features, of_real = in_batches(judge.features, drawn), in_batches(judge.features, real)
    precision, recall = right_precision_recall(features, of_real)
    accuracy = class_accuracy(judge, drawn.float(), torch.arange(len(drawn)) % 10)
    return torch.tensor([accuracy, frechet_distance(features, of_real), precision, recall]).double()


@mutant(exercise="measure", hint="only precision and recall want that")
def cut_for_all(judge, drawn, labels, real):
    n = min(len(drawn), len(real))
    return measured(judge, drawn, labels, real[:n])


@mutant(exercise="measure", hint="only precision and recall want that")
def both_cut(judge, drawn, labels, real):
    n = min(len(drawn), len(real))
    return measured(judge, drawn[:n], labels[:n], real[:n])


@mutant(exercise="measure", hint="need as many real as drawn")
def unequal(judge, drawn, labels, real):
    return measured(judge, drawn, labels, real, count=10_000)


@mutant(exercise="measure", hint="(and 1 more)")
def two_left(judge, drawn, labels, real):
    return measured(judge, drawn, labels, real, swap=True, count=10_000)


@mutant(exercise="measure", hint="the four numbers are in another order")
def distance_first(judge, drawn, labels, real):
    return measured(judge, drawn, labels, real)[[1, 0, 2, 3]]


@mutant(exercise="measure", hint="the accuracy is in percent")
def percent(judge, drawn, labels, real):
    return measured(judge, drawn, labels, real) * torch.tensor([100, 1, 1, 1])


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


def beaten(scores, beats):
    return (~beats(scores[None], scores[:, None]).any(dim=1)).nonzero().flatten()  # row i against all others


@mutant(exercise="pareto_front", hint="either lower counts as better")
def lowest(scores):
    return beaten(scores, lambda others, row: (others <= row).all(dim=2) & (others < row).any(dim=2))


@mutant(exercise="pareto_front", hint="better in *every* column")
def strictly(scores):
    return beaten(scores, lambda others, row: (others > row).all(dim=2))


@mutant(exercise="pareto_front", hint="every row is as good as itself")
def by_itself(scores):
    return beaten(scores, lambda others, row: (others >= row).all(dim=2))


@mutant(exercise="pareto_front", hint="by any that is better in *one* column")
def by_any(scores):
    return beaten(scores, lambda others, row: (others > row).any(dim=2))


@mutant(exercise="pareto_front", hint="these are the rows that *are* beaten")
def the_beaten(scores):
    others, row = scores[None], scores[:, None]
    return ((others >= row).all(dim=2) & (others > row).any(dim=2)).any(dim=1).nonzero().flatten()


@mutant(exercise="pareto_front", hint="with true or false")
def a_mask(scores):
    others, row = scores[None], scores[:, None]
    return ~((others >= row).all(dim=2) & (others > row).any(dim=2)).any(dim=1)


@mutant(exercise="pareto_front", hint="these are the rows themselves")
def rows(scores):
    return scores[in_loops(scores)]


@mutant(exercise="pareto_front", hint="flatten it")
def a_column(scores):
    return a_mask(scores).nonzero()


@mutant(exercise="pareto_front", hint="best in some column")
def winners(scores):
    return scores.argmax(dim=0)


@mutant(exercise="pareto_front", hint="best in some column")
def all_winners(scores):
    return (scores == scores.amax(dim=0)).any(dim=1).nonzero()[:, 0]


@mutant(exercise="pareto_front", hint="adding the columns up")
def highest_sum(scores):
    return scores.sum(dim=1).argmax().reshape(1)


@mutant(exercise="pareto_front", hint="the rows that beat nobody")
def idle(scores):
    row, others = scores[:, None], scores[None]
    beats = (row >= others).all(dim=2) & (row > others).any(dim=2)
    return (~beats.any(dim=1)).nonzero().flatten()


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


def kernel(a: Tensor, b: Tensor, size=None, power=3, plus=1) -> Tensor:
    return (a.double() @ b.double().T / (size or a.shape[1]) + plus) ** power


def kernel_of(features_a, features_b, within=None, between=2, **options):
    def apart(x):
        table = kernel(x, x, **options)
        return (table.sum() - table.diagonal().sum()) / (len(x) * (len(x) - 1))

    within = within or apart
    return within(features_a) + within(features_b) - between * kernel(features_a, features_b, **options).mean()


@mutant(exercise="kernel_distance", hint="also paired with itself")
def with_itself(features_a, features_b):
    return kernel_of(features_a, features_b, within=lambda x: kernel(x, x).mean())


@mutant(exercise="kernel_distance", hint="still counted in the number of pairs")
def zeroed_diagonal(features_a, features_b):
    return kernel_of(features_a, features_b, within=lambda x: kernel(x, x).fill_diagonal_(0).mean())


@mutant(exercise="kernel_distance", hint="not divided by the number of features")
def not_scaled(features_a, features_b):
    return kernel_of(features_a, features_b, size=1)


@mutant(exercise="kernel_distance", hint="no pair is left out")
def crossed(features_a, features_b):
    table, n, m = kernel(features_a, features_b), len(features_a), len(features_b)
    between = (table.sum() - table.trace()) / (n * (m - 1))
    return kernel_of(features_a, features_b, between=0) - 2 * between


@mutant(exercise="kernel_distance", hint="divided by the number of samples")
def by_the_rows(features_a, features_b):
    table = lambda a, b: (a.double() @ b.double().T / len(a) + 1) ** 3  # noqa: E731
    return (
        kernel_of(
            features_a,
            features_b,
            within=lambda x: (table(x, x).sum() - table(x, x).trace()) / (len(x) * (len(x) - 1)),
            between=0,
        )
        - 2 * table(features_a, features_b).mean()
    )


@mutant(exercise="kernel_distance", hint="the 1 is added to the quotient")
def one_below(features_a, features_b):
    return kernel_of(features_a, features_b, size=features_a.shape[1] + 1, plus=0)


@mutant(exercise="kernel_distance", hint="the power is 3")
def squared(features_a, features_b):
    return kernel_of(features_a, features_b, power=2)


@mutant(exercise="kernel_distance", hint="the 1 in the kernel is missing")
def no_one(features_a, features_b):
    return kernel_of(features_a, features_b, plus=0)


@mutant(exercise="kernel_distance", hint="count twice: a with b, and b with a")
def between_once(features_a, features_b):
    return kernel_of(features_a, features_b, between=1)


@mutant(exercise="kernel_distance", hint="the square root at the end")
def root_at_the_end(features_a, features_b):
    return kernel_of(features_a, features_b).clamp(min=0).sqrt()
