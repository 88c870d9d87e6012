"""Images to tokens and back (lesson 01).

A transformer reads a sequence of vectors. These functions cut an image into square patches, turn each patch into
a token, and tell every token where it stands (Dosovitskiy et al. 2020, arXiv 2010.11929, section 3.1).
"""

import math

import torch
from torch import Tensor, nn


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into square patches and flatten each into a token.

    images: (batch, channels, height, width); height and width are multiples of `patch_size`.
    Returns (batch, tokens, channels * patch_size**2), tokens in reading order: left to right, top to bottom.
    Raises ValueError when a side is not a multiple of `patch_size`.
    """
    batch, channels, height, width = images.shape
    rows, columns = patch_grid(height, width, patch_size)
    x = images.reshape(batch, channels, rows, patch_size, columns, patch_size)  # cut both sides
    x = x.permute(0, 2, 4, 1, 3, 5)  # (b, c, r, p, q, p) -> (b, r, q, c, p, p)
    return x.reshape(batch, rows * columns, channels * patch_size**2)  # -> (b, tokens, c * p * p)


def unpatchify(tokens: Tensor, patch_size: int, channels: int, height: int, width: int) -> Tensor:
    """Put the image back together: the inverse of `patchify`.

    tokens: (batch, tokens, channels * patch_size**2), in reading order.
    Returns (batch, channels, height, width).
    Raises ValueError when the tokens do not fill the image exactly.
    """
    rows, columns = patch_grid(height, width, patch_size)
    n, d = rows * columns, channels * patch_size**2
    if tokens.shape[1:] != (n, d):
        raise ValueError(f"{channels}x{height}x{width} images take tokens (batch, {n}, {d}), not {tuple(tokens.shape)}")
    x = tokens.reshape(-1, rows, columns, channels, patch_size, patch_size)  # (b, r * q, c * p * p) -> 6 axes
    x = x.permute(0, 3, 1, 4, 2, 5)  # (b, r, q, c, p, p) -> (b, c, r, p, q, p)
    return x.reshape(-1, channels, height, width)  # -> (b, c, r * p, q * p)


def patch_grid(height: int, width: int, patch_size: int) -> tuple[int, int]:
    """How many rows and columns of patches an image has; ValueError when it cannot be cut evenly."""
    for side in (height, width):
        if patch_size < 1 or side % patch_size:
            raise ValueError(
                f"a {height}x{width} image cannot be cut into patches of {patch_size}: "
                f"{side} is not a multiple of {patch_size} (try {_fitting(height, width, patch_size)})"
            )
    return height // patch_size, width // patch_size


def _fitting(height: int, width: int, patch_size: int) -> str:
    """The patch sizes that fit, and are nearest to this one: "4 or 7"."""
    fitting = [p for p in range(2, min(height, width) + 1) if height % p == 0 and width % p == 0]
    nearest = sorted(fitting, key=lambda p: abs(p - patch_size))[:2]
    return " or ".join(map(str, sorted(nearest))) or "1"


class PatchEmbed(nn.Module):
    """Images to tokens of the transformer's width: cut into patches, then one linear map for all patches.

    The same thing as a convolution whose kernel and stride are the patch size: the weight (width, c * p * p) is the
    kernel (width, c, p, p), flattened.
    """

    def __init__(self, patch_size: int, channels: int, width: int):
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Linear(channels * patch_size**2, width)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, images: Tensor) -> Tensor:
        """images: (batch, channels, height, width). Returns (batch, tokens, width)."""
        return self.projection(patchify(images, self.patch_size))


def sincos_position_embedding(rows: int, columns: int, width: int) -> Tensor:
    """Fixed sine-cosine positions on a grid, in reading order.

    The first half of the features encodes the column, the second half the row, each as sines and cosines of
    `width / 4` wavelengths from 2 pi towards 2 pi * 10000 patches (Vaswani et al. 2017, arXiv 1706.03762, section 3.5;
    in two dimensions as in MAE and DiT, whose layout this is).
    Returns (rows * columns, width), values in [-1, 1]. Raises ValueError when width is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"width {width} is not a multiple of 4: rows and columns need a sine and a cosine each")
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")  # (rows, columns) each
    frequencies = torch.exp(-math.log(10000) * torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = [axis.reshape(-1, 1) * frequencies for axis in (column, row)]  # (rows * columns, width / 4) each
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1).float()
