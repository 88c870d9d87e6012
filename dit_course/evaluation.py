"""What is a good sample? Class accuracy and the Frechet distance (lesson 09)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """A small convolutional network that judges pictures; trained on real ones only, it has never seen a
    sample.

    Takes pictures (batch, channels, height, width) in [0, 1]. `features` are what the Frechet distance
    compares.
    """

    def __init__(self, channels: int, num_classes: int, width: int = 32):
        super().__init__()
        self.config = {"channels": channels, "num_classes": num_classes, "width": width}
        self.body = nn.Sequential(
            _conv(channels, width), nn.MaxPool2d(2),
            _conv(width, 2 * width), _conv(2 * width, 2 * width), nn.MaxPool2d(2),
            _conv(2 * width, 4 * width), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(16 * width, 4 * width), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(4 * width, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) in [0, 1] -> (batch, 4 * width)."""
        return self.body(images * 2 - 1)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) in [0, 1] -> class logits (batch, num_classes)."""
        return self.head(self.features(images))


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    # no bias: the batch norm behind it has one
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], images: Tensor, batch_size: int = 250) -> Tensor:
    """function(images), a batch at a time and without gradients; bytes 0..255 are brought to [0, 1] first."""
    scale = 255 if images.dtype == torch.uint8 else 1
    return torch.cat([function(batch.float() / scale) for batch in images.split(batch_size)])


def class_accuracy(classifier: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images, uint8 or floats in [0, 1], that the classifier puts into the class asked for."""
    classifier.eval()
    return (in_batches(classifier, images).argmax(dim=1) == labels).float().mean().item()


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Distance between two Gaussians fitted to features (n, d) and (m, d): 0 when mean and covariance agree.

    |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (Heusel et al. 2017, arXiv 1706.08500, equation 6).
    It shrinks as n and m grow: compare only distances with the same features and the same numbers of samples.
    Raises ValueError for fewer than two rows, or features of two sizes.
    """
    if features_a.shape[1:] != features_b.shape[1:] or min(len(features_a), len(features_b)) < 2:
        raise ValueError(
            f"features of shape {tuple(features_a.shape)} and {tuple(features_b.shape)}: "
            "expected (n, d) and (m, d), the same d and at least two rows"
        )
    a, b = features_a.double(), features_b.double()
    mean_term = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    covariance_a, covariance_b = torch.cov(a.T), torch.cov(b.T)
    # the trace of a matrix root is the sum of the roots of its eigenvalues, which here are real and not
    # negative
    eigenvalues = torch.linalg.eigvals(covariance_a @ covariance_b).real.clamp(min=0)
    trace_term = covariance_a.trace() + covariance_b.trace() - 2 * eigenvalues.sqrt().sum()
    return (mean_term + trace_term).clamp(min=0).item()
