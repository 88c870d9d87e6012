"""The course's own answers to stretch exercises, which no room of the package needs."""

import torch
from torch import Tensor


def overlapping_patches(images: Tensor, patch_size: int, stride: int) -> Tensor:
    """Cut images into patches that start every `stride` pixels, so that neighbours share some (lesson 01).

    images: (batch, channels, height, width). What is left over at the right and at the bottom is not looked at.
    Returns (batch, tokens, channels * patch_size**2) in reading order; with stride = patch_size that is `patchify`.
    """
    windows = images.unfold(2, patch_size, stride)  # (b, c, h, w) -> (b, c, rows, w, p)
    windows = windows.unfold(3, patch_size, stride)  # -> (b, c, rows, columns, p, p)
    windows = windows.permute(0, 2, 3, 1, 4, 5)  # -> (b, rows, columns, c, p, p)
    return windows.flatten(3).flatten(1, 2)  # -> (b, tokens, c * p * p)


def power_decays(sigma_rel: float, updates: int) -> Tensor:
    """The decays of a power-function average, whose profile grows as t**gamma (lesson 07).

    Karras et al. 2023, arXiv 2312.02696, section 3.1. sigma_rel: the standard deviation of the profile, as a share of
    the training so far; above 0 and at most 0.2886, where all weights count alike. Update t = 1, 2, ... keeps
    (1 - 1/t)**(gamma + 1).
    Returns (updates,), float64.
    """
    low, high = 0.0, 1e6  # gamma lies between them; the profile grows narrower as gamma grows
    for _ in range(100):
        gamma = (low + high) / 2
        width = (gamma + 1) ** 0.5 / (gamma + 2) / (gamma + 3) ** 0.5
        low, high = (gamma, high) if width > sigma_rel else (low, gamma)
    t = torch.arange(1, updates + 1, dtype=torch.float64)
    return (1 - 1 / t) ** (gamma + 1)
