"""The course's own answers to stretch exercises, which no room of the package needs."""

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


@torch.no_grad()
def block_changes(model: nn.Module, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """How far each block of a DiT changes its tokens while the whole model runs (lesson 03).

    x, t, y: what the model takes. Returns (depth,): the largest change of any number; in a new model with adaLN-Zero
    every one is 0.
    """
    found = []

    def compare(block, inputs, output):
        found.append((output - inputs[0]).abs().max())

    hooks = [block.register_forward_hook(compare) for block in model.blocks]
    model(x, t, y)
    for hook in hooks:
        hook.remove()
    return torch.stack(found)
