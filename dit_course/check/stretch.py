"""The course's own answers to stretch exercises, which no room of the package needs."""

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


def shift(t: Tensor, factor: float) -> Tensor:
    """Move times towards the noise (factor above 1) or the data: t / (1 - t) is multiplied by the factor (lesson 05).

    t: times in [0, 1], any shape; 0 and 1 stay. Resolution shift of Stable Diffusion 3 (arXiv 2403.03206, 5.3.2).
    """
    return factor * t / (1 + (factor - 1) * t)
