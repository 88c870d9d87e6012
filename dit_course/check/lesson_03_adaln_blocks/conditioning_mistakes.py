"""Wrong embedders of time and class that the checks of lesson 03 recognize."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dit_course.check.engine.compare import same

TIME_TOLERANCE = 2e-3  # 1000 t in float32, and every order of multiplying is fine


def waves(
    model: nn.Module, t: Tensor, factor: float = 1000, order: str = "cs", turns: bool = False, period: float = 0
) -> Tensor:
    """Sinusoids with one thing done otherwise; turns: cosine, sine, cosine, sine, ...; period: of all embedders."""
    half = len(model.frequencies)
    frequencies = period ** (-torch.arange(half) / half) if period else model.frequencies
    angles = factor * t[:, None] * frequencies
    parts = [{"c": angles.cos(), "s": angles.sin(), "a": angles}[letter] for letter in order]
    return torch.stack(parts, dim=2).flatten(1) if turns else torch.cat(parts, dim=1)


def embedded(model: nn.Module, features: Tensor, bend=F.silu) -> Tensor:
    """The embedder's MLP on other features."""
    return model.output(bend(model.input(features)))


def altered(**changes):
    """A wrong `TimestepEmbedder` whose sinusoids have one thing done otherwise."""
    return lambda model, t: embedded(model, waves(model, t, **changes))


def only_zero(got: Tensor, expected: Tensor) -> bool:
    """Whether the row of t = 0 is right, the first, and no other."""
    alike = got.shape == expected.shape and [same(g, e, TIME_TOLERANCE) for g, e in zip(got, expected, strict=True)]
    return bool(alike) and alike[0] and not any(alike[1:-1])  # t = 1 survives rounding


def inverted(model: nn.Module, t: Tensor, factor: float) -> Tensor:
    """Sinusoids whose angles are divided by the frequencies."""
    angles = factor * t[:, None] / model.frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def dropping(model: nn.Module, labels: Tensor, drop, row: int | None = None) -> Tensor:
    """The table's rows, with the labels that `drop` says replaced by another one."""
    drop = torch.as_tensor(drop, dtype=torch.bool).expand(labels.shape)
    return model.table(labels.masked_fill(drop, model.num_classes if row is None else row))


def chances(labels: Tensor) -> Tensor:
    """A random number for each label."""
    return torch.rand(labels.shape)


def normal_share(got: Tensor, expected: Tensor) -> bool:
    """Whether the share of dropped labels is that of normal numbers below `dropout`."""
    if got.shape != expected.shape or not same(got[2:], expected[2:]):
        return False
    wanted = expected[0].round(decimals=1).item()
    below = torch.distributions.Normal(0, 1).cdf(torch.tensor(wanted)).item()
    return abs(got[0].item() - below) < 0.1 and abs(got[0].item() - wanted) > 0.05
