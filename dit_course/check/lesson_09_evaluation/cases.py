"""What lesson 09's exercises are tried on."""

import torch
from torch import Tensor

from dit_course.check.engine.exercise import Draw
from dit_course.evaluation import Classifier


def covariance(draw: Draw, size: int) -> Tensor:
    """Of some random points (size, size), with axes that are not the coordinates'."""
    points = draw.normal(size + 4, size, dtype=torch.float64) @ draw.normal(size, size, dtype=torch.float64)
    return torch.cov(points.T)


def clouds(draw: Draw, real: int, drawn: int, size: int) -> tuple[Tensor, Tensor]:
    """Two clouds of points that cover each other in part, the second one narrower."""
    return draw.normal(real, size), 0.7 * draw.normal(drawn, size) + 0.5


def trained_judge(draw: Draw, classes: int = 10) -> Classifier:
    """A small judge that has seen something: its batch norms have statistics, and it is in training mode."""
    judge = Classifier(1, classes, width=4)
    with torch.no_grad():
        for name, x in judge.state_dict().items():
            if x.is_floating_point():
                noise = draw.normal(*x.shape)
                x.copy_(noise.abs() + 0.5 if "var" in name else 0.5 * noise)
    return judge.train()


def image_inputs(draw: Draw, count: int, byte: bool) -> Tensor:
    """Blobs (count, 1, 8, 8), brighter on their left."""
    x = (0.4 + 0.25 * draw.normal(count, 1, 8, 8) + torch.linspace(0.3, -0.3, 8)).clamp(0, 1)
    return (255 * x).round().byte() if byte else x
