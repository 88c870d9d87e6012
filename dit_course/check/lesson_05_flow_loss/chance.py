"""What random numbers may well be, for lesson 05: each test calls right numbers wrong about once in a million."""

import math

import torch
from torch import Tensor


def is_table(x: object, shape: tuple[int, ...]) -> bool:
    """Whether it is a tensor of floats on this machine, of this shape, without NaN."""
    fits = isinstance(x, Tensor) and tuple(x.shape) == shape and x.is_floating_point() and x.device.type == "cpu"
    return fits and bool(x.isfinite().all())


def is_normal(z: Tensor, mean: float = 0.0, std: float = 1.0) -> bool:
    """Whether numbers may well be normal with this mean and std (Kolmogorov and Smirnov's test, at about 1e-6)."""
    z = ((z.detach().double().flatten() - mean) / std).sort().values
    if not z.isfinite().all():
        return False
    if min(-z[0], z[-1]) < -torch.special.ndtri(torch.tensor(14 / len(z))):  # both tails are there, at about 1e-6
        return False
    steps = torch.arange(len(z) + 1, dtype=torch.float64) / len(z)
    expected = torch.special.ndtr(z)
    furthest = torch.maximum((expected - steps[:-1]).abs().max(), (expected - steps[1:]).abs().max())
    return bool(furthest * math.sqrt(len(z)) < 2.7)


def is_independent(z: Tensor) -> bool:
    """Whether normal numbers know nothing of those 1, 2, ... further on, along each axis."""
    for axis in range(z.ndim):
        for lag in range(1, min(z.shape[axis], 9)) if z.ndim > 1 else (1, 2, (len(z) + 1) // 2):
            product = z.narrow(axis, lag, z.shape[axis] - lag) * z.narrow(axis, 0, z.shape[axis] - lag)
            if abs(product.sum()) > 6.5 * math.sqrt(product.numel()):
                return False
    return True


def is_cut_off(x: Tensor, expected: Tensor | None = None) -> bool:
    """Whether many numbers are the largest or the smallest of all, as a clamp leaves them."""
    return any(3 < (x == bound).sum() < x.numel() for bound in (x.max(), x.min()))


def is_noise(noise: Tensor, x: Tensor) -> bool:
    """Whether numbers (batch, ...) may well be standard normal, in each picture too, and know nothing of x."""
    size = noise[0].numel()
    spread = noise.square().flatten(1).sum(dim=1)  # (batch,), chi-squared
    alike = (noise * x).sum() / (noise.norm() * x.norm())
    even = ((spread - size).abs() < 6 * math.sqrt(2 * size)).all()
    return is_normal(noise) and bool(even) and abs(alike) * math.sqrt(noise.numel()) < 6


def has_no_mean(noise: Tensor) -> bool:
    """Whether the mean of all, or of each picture, is far nearer to 0 than chance brings it."""
    each = noise.flatten(1).sum(dim=1).abs().max() / math.sqrt(noise[0].numel())
    return bool(each < 1e-3) or abs(noise.sum()) / math.sqrt(noise.numel()) < 3e-6
