"""The course's own answers to stretch exercises, which no room of the package needs."""

from dataclasses import replace

from torch import Tensor

from dit_course import dit


def overlapping_patches(images: Tensor, patch_size: int, stride: int) -> Tensor:
    """Cut images into patches that start every `stride` pixels, so that neighbours share some (lesson 01).

    images: (batch, channels, height, width). What is left over at the right and at the bottom is not looked at.
    Returns (batch, tokens, channels * patch_size**2) in reading order; with stride = patch_size that is `patchify`.
    """
    windows = images.unfold(2, patch_size, stride)  # (b, c, h, w) -> (b, c, rows, w, p)
    windows = windows.unfold(3, patch_size, stride)  # -> (b, c, rows, columns, p, p)
    windows = windows.permute(0, 2, 3, 1, 4, 5)  # -> (b, rows, columns, c, p, p)
    return windows.flatten(3).flatten(1, 2)  # -> (b, tokens, c * p * p)


def resized(model: dit.DiT, image_size: int | tuple[int, int]) -> dit.DiT:
    """The same network for pictures of another size: a new model with the same weights, in eval mode (lesson 04).

    image_size: a side in pixels, or (height, width), multiples of the patch size.
    """
    other = dit.DiT(replace(model.config, image_size=image_size))
    other.load_state_dict(model.state_dict())
    return other.eval()
