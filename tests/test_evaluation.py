"""The measures, against closed forms, and the shipped judge."""

import json
import math

import pytest
import torch

from dit_course import (
    Classifier,
    class_accuracy,
    extrapolate,
    frechet_distance,
    gaussian_distance,
    kernel_distance,
    load_classifier,
    load_dataset,
    matrix_root,
    measure,
    nearest_neighbours,
    pareto_front,
    pixel_distance,
    precision_recall,
)
from dit_course.data import Dataset, data_root
from dit_course.evaluation import in_batches
from dit_course.studies.classifier import ClassifierConfig, run, train_classifier


def gaussian(n: int, mean: torch.Tensor, root: torch.Tensor, seed: int) -> torch.Tensor:
    """n points whose mean and covariance are exactly `mean` and root @ root.T, not only on average."""
    z = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z = z - z.mean(dim=0)
    z = z @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(z.T))).T
    return mean + z @ root.T


def test_frechet_distance_of_known_gaussians():
    mean = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    diagonal = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    a = gaussian(50, torch.zeros_like(mean), torch.eye(3, dtype=torch.float64), 0)
    b = gaussian(70, mean, diagonal, 1)
    expected = mean.square().sum() + ((torch.tensor([1.0, 2.0, 3.0]) - 1) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected.item())
    assert frechet_distance(b, a) == pytest.approx(expected.item())
    assert frechet_distance(b, b) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_covariances_that_do_not_commute():
    """Against the definition with scipy's matrix square root."""
    import numpy as np
    from scipy.linalg import sqrtm

    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(40, 5, generator=generator) @ torch.randn(5, 5, generator=generator) for _ in range(2))
    covariances = [np.cov(x.double().numpy().T) for x in (a, b)]
    mean_term = (a.double().mean(0) - b.double().mean(0)).square().sum().item()
    expected = mean_term + np.trace(covariances[0] + covariances[1] - 2 * sqrtm(covariances[0] @ covariances[1]).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_with_fewer_points_than_features_is_finite():
    x = torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
    assert math.isfinite(frechet_distance(x, x + 1))


@pytest.mark.parametrize(("a", "b"), [((1, 3), (4, 3)), ((4, 3), (4, 2))])
def test_frechet_distance_says_what_it_needs(a: tuple, b: tuple):
    with pytest.raises(ValueError, match="at least 2 rows"):
        frechet_distance(torch.zeros(a), torch.zeros(b))


def test_bytes_and_floats_are_judged_alike_and_in_batches():
    torch.manual_seed(0)
    classifier = Classifier(1, 10).eval()
    images = torch.randint(256, (7, 1, 28, 28), dtype=torch.uint8)
    whole = in_batches(classifier, images)
    torch.testing.assert_close(in_batches(classifier, images.float() / 255, batch_size=3), whole)
    predicted = whole.argmax(dim=1)
    wrong = predicted.clone()
    wrong[:2] = (wrong[:2] + 1) % 10
    assert class_accuracy(classifier, images, predicted) == 1
    assert class_accuracy(classifier, images, wrong) == pytest.approx(5 / 7)


def test_the_shipped_judge_is_right_on_at_least_92_percent_of_the_test_pictures():
    classifier = load_classifier("fashion-mnist")
    assert class_accuracy(classifier, *load_dataset("fashion-mnist", "test")) >= 0.92


def test_the_judge_learns(tmp_path):
    labels = torch.arange(64) % 2
    images = (labels * 200).to(torch.uint8)[:, None, None, None].expand(64, 1, 8, 8).clone()
    data = Dataset(images, labels, ("dark", "light"), "shades")
    config = ClassifierConfig(epochs=20, batch_size=16, width=4)
    accuracies = [accuracy for _, accuracy, _ in train_classifier(data, data, config)]
    assert accuracies[-1] == 1
    run(data, data, config, tmp_path / "shades-classifier")
    judge = load_classifier(tmp_path / "shades")
    assert class_accuracy(judge, images, labels) == 1
    more = ClassifierConfig(epochs=1, batch_size=config.batch_size, lr=1e-9)  # so small a rate changes next to nothing
    run(data, data, more, tmp_path / "more-classifier", start=tmp_path / "shades")
    again = load_classifier(tmp_path / "more")
    torch.testing.assert_close(again.head.weight, judge.head.weight, rtol=1e-4, atol=1e-6)
    about = json.loads((tmp_path / "more-classifier.json").read_text())
    assert about["training"]["width"] == judge.config["width"]
    assert about["before"]["epochs"] == config.epochs


CIFAR10 = data_root() / "cifar10" / "test"


@pytest.mark.skipif(
    not CIFAR10.is_dir(), reason="the pictures of CIFAR-10 are not in data/cifar10: they may not be shipped"
)
def test_the_shipped_colour_judge_is_right_on_real_pictures():
    """On 2,000 of them, drawn once, within three standard errors of what was measured on all of them."""
    judge, (images, labels) = load_classifier("cifar10"), load_dataset("cifar10", "test")
    about = json.loads((data_root() / "checkpoints" / "cifar10-classifier.json").read_text())
    stated, some = about["test_accuracy"], torch.randperm(len(images))[:2000]
    assert stated >= 0.91
    error = (stated * (1 - stated) / len(some)) ** 0.5
    assert class_accuracy(judge, images[some], labels[some]) == pytest.approx(stated, abs=3 * error)


# -- lesson 09 -----------------------------------------------------------------------------------------


def test_the_root_of_a_matrix():
    a = torch.randn(6, 4, dtype=torch.float64)
    matrix = a @ a.T  # two eigenvalues are zero
    root = matrix_root(matrix)
    torch.testing.assert_close(root @ root, matrix)
    torch.testing.assert_close(root, root.T)


def test_a_gaussian_distance_moves_and_stretches():
    mean, eye = torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    assert gaussian_distance(mean, eye, mean + 2, eye).item() == pytest.approx(12)
    assert gaussian_distance(mean, eye, mean, 9 * eye).item() == pytest.approx(3 * (3 - 1) ** 2)
    turned = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    wide = turned @ torch.diag(torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)) @ turned.T
    assert gaussian_distance(mean, wide, mean, wide).item() == pytest.approx(0, abs=1e-9)
    assert gaussian_distance(mean, eye, mean, wide).item() == pytest.approx(0 + 1 + 4)


def test_extrapolation_finds_the_line_and_its_end():
    counts = [100, 200, 500]
    assert extrapolate(counts, [2 + 300 / n for n in counts]) == pytest.approx((2, 300))
    with pytest.raises(ValueError, match="two different counts"):
        extrapolate([5, 5], [1.0, 1.0])


def test_the_frechet_distance_of_one_source_falls_like_one_over_n_and_the_kernels_does_not():
    points = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    few, many = (frechet_distance(points[:n], points[2000:]) for n in (50, 800))
    assert few > 5 * many > 0
    draws = [kernel_distance(points[i : i + 50], points[2000:3000]) for i in range(0, 2000, 50)]
    mean = torch.stack(draws)
    assert mean.mean().abs() < 3 * mean.std() / len(draws) ** 0.5


def test_precision_and_recall_of_clouds_that_are_known():
    generator = torch.Generator().manual_seed(0)
    ring = torch.nn.functional.normalize(torch.randn(400, 2, generator=generator))
    half = ring[ring[:, 0] > 0]
    precision, recall = precision_recall(ring, half)
    assert precision == 1  # its points are real ones
    assert recall == pytest.approx(len(half) / 400, abs=0.03)
    assert torch.equal(precision_recall(half, ring), torch.stack([recall, precision]))
    assert precision_recall(ring, ring + 10).tolist() == [0, 0]
    with pytest.raises(ValueError, match="at least 4 rows"):
        precision_recall(ring, ring[:3])


def test_the_nearest_training_picture_of_bytes_and_floats():
    training = torch.randint(256, (30, 1, 4, 6), dtype=torch.uint8)
    order = torch.randperm(30)[:7]
    assert torch.equal(nearest_neighbours(training[order], training, batch_size=3), order)
    assert torch.equal(nearest_neighbours(training[order] / 255, training), order)
    assert pixel_distance(training[order], training[order] / 255).abs().max() == 0
    black, white = torch.zeros(2, 1, 4, 4), torch.full((2, 1, 4, 4), 255, dtype=torch.uint8)
    assert pixel_distance(black, white).tolist() == [1, 1]


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, lambda judge: torch.compile(judge, backend="eager")])
def test_a_wrapped_judge_measures_the_same(wrap):
    judge, labels = Classifier(1, 3, width=2), torch.arange(12) % 3
    drawn, real = torch.rand(2, 12, 1, 8, 8)
    expected = measure(judge, drawn, labels, real)
    torch.testing.assert_close(measure(wrap(judge), drawn, labels, real), expected)


def test_a_measurement_of_real_against_real_and_of_a_set_against_itself():
    judge, test = load_classifier("fashion-mnist").train(), load_dataset("fashion-mnist", "test")
    images, labels = test.images[:200], test.labels[:200]
    accuracy, distance, precision, recall = measure(judge, images, labels, images).tolist()
    assert not judge.training
    assert accuracy > 0.85
    assert distance == pytest.approx(0, abs=1e-3)
    assert (precision, recall) == (1, 1)
    assert measure(judge, images, labels, test.images[200:500])[1] > 1


def test_the_front_is_what_nothing_beats():
    scores = torch.tensor([[1.0, 5], [2, 5], [3, 1], [0, 0], [3, 1], [2, 4]])
    assert pareto_front(scores).tolist() == [1, 2, 4]
    assert pareto_front(torch.zeros(3, 2)).tolist() == [0, 1, 2]
