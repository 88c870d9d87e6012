"""The measures, against closed forms, and the shipped judge."""

import math

import pytest
import torch

from dit_course import Classifier, class_accuracy, frechet_distance, load_classifier, load_dataset
from dit_course.classifier import ClassifierConfig, run, train_classifier
from dit_course.data import Dataset
from dit_course.evaluation import in_batches


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
    with pytest.raises(ValueError, match="at least two rows"):
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
    assert class_accuracy(load_classifier(tmp_path / "shades"), images, labels) == 1
