"""A larger judge than `evaluation.Classifier`, for colour, and the table of both by name."""

from typing import Any

from torch import Tensor, nn

from dit_course.evaluation import Classifier, conv, unit
from dit_course.guards import known


class ResidualClassifier(nn.Module):
    """A judge with residual connections: nine layers, 1.9 M parameters at width 56 (He et al. 2015, arXiv 1512.03385).

    Takes pictures (batch, channels, height, width), floats in [0, 1] or bytes; `features` are what the Frechet distance
    compares. The shape is the "ResNet-9" of small image benchmarks (Page 2018, "How to train your ResNet").
    """

    def __init__(self, channels: int, num_classes: int, width: int = 56):
        super().__init__()
        self.config = {
            "architecture": "residual", "channels": channels, "num_classes": num_classes, "width": width,
        }  # fmt: skip
        self.body = nn.Sequential(
            conv(channels, width),
            conv(width, 2 * width), nn.MaxPool2d(2), Residual(2 * width),
            conv(2 * width, 4 * width), nn.MaxPool2d(2),
            conv(4 * width, 4 * width), nn.MaxPool2d(2), Residual(4 * width),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(4 * width, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) in [0, 1] -> (batch, 4 * width)."""
        return self.body(unit(images) * 2 - 1)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) in [0, 1] -> class logits (batch, num_classes)."""
        return self.head(self.features(images))


class Residual(nn.Module):
    """x + f(x), f two convolutions."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(conv(width, width), conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, width, height, width). Returns the same shape."""
        return x + self.body(x)


CLASSIFIERS = {"plain": Classifier, "residual": ResidualClassifier}


def make_classifier(config: dict[str, Any]) -> nn.Module:
    """The judge that a JSON describes, without weights: config["architecture"] names its class, "plain" unless told."""
    config = dict(config)
    return known(CLASSIFIERS, config.pop("architecture", "plain"), "judge")(**config)
