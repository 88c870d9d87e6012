"""What lesson 09's exercises are tried on."""

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dit_course.check.engine.exercise import Case, Draw
from dit_course.evaluation import Classifier


@dataclass(frozen=True)
class ChosenCase(Case):
    """A case whose result is a row of numbers of pictures or rows."""

    def words(self, got: Tensor, expected: Tensor) -> str:
        """Which are wrong: by how much has no meaning."""
        if got.shape != expected.shape or got.ndim != 1:
            return ""
        wrong = (got != expected).nonzero().flatten().tolist()
        first = f"the first, at [{wrong[0]}], is {got[wrong[0]].item():g} instead of {expected[wrong[0]].item()}"
        return f"{len(wrong)} of {len(expected)} numbers are wrong; {first}"


@dataclass(frozen=True)
class MeasuredCase(Case):
    """A case of `measure`. twice: whether it is called a second time, with the same judge: nothing may be kept."""

    twice: bool = False

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """The last result."""
        args = copy.deepcopy(self.args)
        with contextlib.suppress(Exception):
            if self.twice:
                answer(args[0], args[1].flip(0), *args[2:])
        return answer(*args), args

    def imitate(self, wrong: Callable) -> object:
        """What a wrong version makes of it."""
        return self.use(wrong)[0]

    def words(self, got: Tensor, expected: Tensor) -> str:
        """What is wrong, by its name."""
        names = "class accuracy", "Frechet distance", "precision", "recall"
        rows = zip(names, got.tolist(), expected.tolist(), strict=False)
        return "; ".join(f"{name} is {a:.4g} instead of {b:.4g}" for name, a, b in rows if abs(a - b) > 1e-4)


def covariance(draw: Draw, size: int, count: int) -> Tensor:
    """Of `count` random points (size, size), with axes that are not the coordinates'."""
    points = draw.normal(count, size, dtype=torch.float64) @ draw.normal(size, size, dtype=torch.float64)
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
