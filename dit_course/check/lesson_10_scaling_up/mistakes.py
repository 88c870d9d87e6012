"""Plausible wrong versions of lesson 10's exercises."""

import torch
from torch import Tensor

from dit_course.dit import DiTConfig
from dit_course.scaling import count_multiply_adds, count_parameters


def work(config: DiTConfig) -> int:
    """Multiply-adds of one picture, forward."""
    return sum(count_multiply_adds(config).values())


def weights(config: DiTConfig) -> int:
    """All parameters."""
    return sum(count_parameters(config).values())


def tokens(config: DiTConfig) -> int:
    """How many tokens a picture makes, registers included."""
    rows, columns = config.grid
    return rows * columns + config.registers


def even(attention: float = 4.0, layers: float = 2.0, pair: float = 2.0, ratio: float | None = None, more: float = 0.0):
    """A wrong `even_tokens`, with other counts of what a block does."""

    def wrong(width: int, mlp_ratio: float = 4.0) -> float:
        return (attention + layers * (mlp_ratio if ratio is None else ratio) + more) * width / pair

    return wrong


def line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares: where the line begins, and how steep it is."""
    away = x - x.mean()
    slope = (away * y).sum() / away.square().sum()
    return y.mean() - slope * x.mean(), slope


def fitted(before_x=torch.log, before_y=torch.log, after=torch.exp, fit=line):
    """A wrong `fit_power_law`: other things done before and after the fit, or another fit."""

    def wrong(x: Tensor, y: Tensor) -> Tensor:
        start, slope = fit(before_x(x.double()), before_y(y.double()))
        return torch.stack([after(start), slope])

    return wrong


def through_zero(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A line through the origin."""
    slope = (x * y).sum() / x.square().sum()
    return y.mean() - slope * x.mean(), slope


def through_ends(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The line through the first point and the last."""
    slope = (y[-1] - y[0]) / (x[-1] - x[0])
    return y[0] - slope * x[0], slope


def turned(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """x fitted by y."""
    return line(y, x)


def sloped(bottom):
    """A line with a slope that is divided by something else."""

    def fit(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        away = x - x.mean()
        slope = (away * y).sum() / bottom(x, y)
        return y.mean() - slope * x.mean(), slope

    return fit


def by_bits(add: int):
    """A wrong `to_bfloat16`: another number is added before the second half is cut off."""

    def wrong(x: Tensor) -> Tensor:
        return ((x.view(torch.int32) + add) >> 16 << 16).view(torch.float32)

    return wrong
