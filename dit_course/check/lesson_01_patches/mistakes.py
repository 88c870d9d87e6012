"""Plausible wrong versions of lesson 01's exercises."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dit_course import patches
from dit_course.check.stretch_solutions import overlapping_patches


def cut(images: Tensor, p: int) -> Tensor:
    """(b, c, h, w) -> (b, c, rows, p, columns, p)."""
    batch, channels, height, width = images.shape
    return images.reshape(batch, channels, height // p, p, width // p, p)


def reordered(*order: int, flat: bool = True):
    """A wrong `patchify` that permutes the six axes of `cut` in another order."""

    def wrong(images: Tensor, p: int) -> Tensor:
        tokens = cut(images, p).permute(order)
        shape = patches.patchify(images, p).shape
        return tokens.reshape(shape) if flat else tokens

    return wrong


def joined(*order: int, token: str = "chw", down: bool = False):
    """A wrong `unpatchify`: another idea of a token's axes, of the grid's order, or another permutation."""

    def wrong(tokens: Tensor, p: int, channels: int, height: int, width: int) -> Tensor:
        sizes = {"c": channels, "h": p, "w": p}
        grid = (width // p, height // p) if down else (height // p, width // p)
        x = tokens.reshape(-1, *grid, *[sizes[axis] for axis in token])
        return x.permute(order).reshape(-1, channels, height, width)

    return wrong


def convolved(model: torch.nn.Module, images: Tensor, stride: int | None = None) -> Tensor:
    """The embedding as a convolution: (batch, width, rows, columns)."""
    p, weight = model.patch_size, model.projection.weight
    kernel = weight.reshape(len(weight), -1, p, p)
    return F.conv2d(images, kernel, model.projection.bias, stride=stride or p)


def waves(
    rows: int, columns: int, width: int, first="column", frequency=None, start=0, scale=1.0, order="sc"
) -> Tensor:
    """Positions with one thing done otherwise."""
    row, column = torch.meshgrid(torch.arange(rows) + start, torch.arange(columns) + start, indexing="ij")
    k = torch.arange(width // 4, dtype=torch.float64)
    frequencies = (frequency or (lambda k, n: 10000 ** (-k / n)))(k, width // 4)
    axes = (column, row) if first == "column" else (row, column)
    functions = [{"s": torch.sin, "c": torch.cos}[letter] for letter in order]
    angles = [scale * axis.reshape(-1, 1) * frequencies for axis in axes]
    return torch.cat([wave(angle) for angle in angles for wave in functions], dim=1).float()


def altered(**changes):
    """A wrong `sincos_position_embedding`."""
    return lambda rows, columns, width: waves(rows, columns, width, **changes)


def interleaved(rows: int, columns: int, width: int) -> Tensor:
    """Sine, cosine, sine, cosine, ... as in the first Transformer."""
    x = waves(rows, columns, width).reshape(-1, 2, 2, width // 4)  # (tokens, axis, wave, frequency)
    return x.transpose(2, 3).reshape(-1, width)


def one_dimensional(rows: int, columns: int, width: int) -> Tensor:
    """The number of the token only, as in a text."""
    k = torch.arange(width // 2, dtype=torch.float64)
    angles = torch.arange(rows * columns)[:, None] * 10000 ** (-k / (width // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def downwards(rows: int, columns: int, width: int) -> Tensor:
    """Tokens that run down the columns."""
    return waves(rows, columns, width).reshape(rows, columns, width).transpose(0, 1).reshape(-1, width)


def scaled_to_one(rows: int, columns: int, width: int, less: int) -> Tensor:
    """Places from 0 to 1."""
    row, column = torch.meshgrid(
        torch.arange(rows) / (rows - less), torch.arange(columns) / (columns - less), indexing="ij"
    )
    frequencies = 10000 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = [axis.reshape(-1, 1) * frequencies for axis in (column, row)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1).float()


def windows(images: Tensor, p: int, stride: int) -> Tensor:
    """(b, c, h, w) -> (b, c, rows, columns, p, p)."""
    return images.unfold(2, p, stride).unfold(3, p, stride)


def rearranged(*order: int):
    """A wrong `overlapping_patches` that permutes the axes of `windows` in another order."""

    def wrong(images: Tensor, p: int, stride: int) -> Tensor:
        shape = overlapping_patches(images, p, stride).shape
        return windows(images, p, stride).permute(order).reshape(shape)

    return wrong


def too_few(images: Tensor, p: int, stride: int) -> Tensor:
    """Patches that end at the edge are left out."""
    return overlapping_patches(images[:, :, :-1, :-1], p, stride)
