"""The course's own answers to stretch exercises, which no room of the package needs."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def overlapping_patches(images: Tensor, patch_size: int, stride: int) -> Tensor:
    """Cut images into patches that start every `stride` pixels, so that neighbours share some (lesson 01).

    images: (batch, channels, height, width). What is left over at the right and at the bottom is not looked at.
    Returns (batch, tokens, channels * patch_size**2) in reading order; with stride = patch_size that is `patchify`.
    """
    windows = images.unfold(2, patch_size, stride)  # (b, c, h, w) -> (b, c, rows, w, p)
    windows = windows.unfold(3, patch_size, stride)  # -> (b, c, rows, columns, p, p)
    windows = windows.permute(0, 2, 3, 1, 4, 5)  # -> (b, rows, columns, c, p, p)
    return windows.flatten(3).flatten(1, 2)  # -> (b, tokens, c * p * p)


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Shorten the gradient of all parameters together, in place, where its norm is above `most` (lesson 06).

    Returns the norm before. What torch.nn.utils.clip_grad_norm_ does, by hand.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    if norm > most:
        for gradient in gradients:
            gradient.mul_(most / norm)
    return norm


def accumulate_gradients(model: nn.Module, loss_of: Callable[..., Tensor], x: Tensor, y: Tensor, parts: int) -> Tensor:
    """Gradients of a batch that does not fit into memory: from its parts, one after the other (lesson 06).

    loss_of: (model, x, y) -> the mean loss of some pictures. Gradients are added to those that are there.
    Returns the loss of the whole batch, without history.
    """
    total = torch.zeros(())
    for some, labels in zip(x.chunk(parts), y.chunk(parts), strict=True):
        loss = loss_of(model, some, labels) * len(some) / len(x)
        loss.backward()
        total += loss.detach()
    return total
