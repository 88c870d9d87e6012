"""Lesson 01: what people write for patches, embedding and positions."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from mutants import mutant, right_answer

# -- patchify --------------------------------------------------------------------------------------


@right_answer(exercise="patchify")
def by_unfold(images, patch_size):
    return F.unfold(images, patch_size, stride=patch_size).transpose(1, 2)


@right_answer(exercise="patchify")
def by_loops(images, patch_size):
    tokens = []
    for top in range(0, images.shape[2], patch_size):
        for left in range(0, images.shape[3], patch_size):
            tokens.append(images[:, :, top : top + patch_size, left : left + patch_size].flatten(1))
    return torch.stack(tokens, dim=1)


@right_answer(exercise="patchify")
def by_windows(images, patch_size):
    x = images.unfold(2, patch_size, patch_size).unfold(3, patch_size, patch_size)
    return x.permute(0, 2, 3, 1, 4, 5).reshape(len(images), -1, images.shape[1] * patch_size**2)


@right_answer(exercise="patchify")
def by_filling(images, patch_size):
    batch, channels, height, width = images.shape
    columns = width // patch_size
    out = images.new_zeros(batch, height // patch_size * columns, channels * patch_size**2)
    for token in range(out.shape[1]):
        y, x = patch_size * (token // columns), patch_size * (token % columns)
        out[:, token] = images[:, :, y : y + patch_size, x : x + patch_size].reshape(batch, -1)
    return out


@right_answer(exercise="patchify")
def by_chunks(images, patch_size):
    rows = images.split(patch_size, dim=2)
    return torch.stack([patch.flatten(1) for row in rows for patch in row.split(patch_size, dim=3)], 1)


@mutant(exercise="patchify", hint="the pixels inside each patch are transposed")
def transposed_pixels(images, patch_size):
    x = images.unfold(2, patch_size, patch_size).unfold(3, patch_size, patch_size)
    return x.permute(0, 2, 3, 1, 5, 4).flatten(3).flatten(1, 2)


@mutant(exercise="patchify", hint="rows and columns of patches are swapped")
def swapped_grid(images, patch_size):
    columns = images.split(patch_size, dim=3)
    return torch.stack([patch.flatten(1) for column in columns for patch in column.split(patch_size, dim=2)], 1)


@mutant(exercise="patchify", hint="channels come last in each token")
def channels_last(images, patch_size):
    b, c, h, w = images.shape
    x = images.permute(0, 2, 3, 1).reshape(b, h // patch_size, patch_size, w // patch_size, patch_size, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(b, -1, patch_size * patch_size * c)


@mutant(exercise="patchify", hint="one token holds pieces of several patches")
def channels_before_grid(images, patch_size):
    b, c, h, w = images.shape
    x = images.reshape(b, c, h // patch_size, patch_size, w // patch_size, patch_size).transpose(3, 4)
    return x.reshape(b, -1, c * patch_size * patch_size)


@mutant(exercise="patchify", hint="the picture is only reshaped")
def only_reshape(images, patch_size):
    return images.reshape(len(images), -1, images.shape[1] * patch_size**2)


@mutant(exercise="patchify", hint="is a size written into the code as a number")
def hard_coded_channels(images, patch_size):
    return by_unfold(images, patch_size).reshape(len(images), -1, 1 * patch_size**2)


@mutant(exercise="patchify", hint="is a size written into the code as a number")
def hard_coded_28(images, patch_size):
    side = 28 // patch_size
    x = images.reshape(len(images), images.shape[1], side, patch_size, side, patch_size)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(len(images), side * side, -1)


@mutant(exercise="patchify", hint="one size taken for another")
def square_only(images, patch_size):
    batch, channels, height, _ = images.shape
    side = height // patch_size
    x = images.reshape(batch, channels, side, patch_size, side, patch_size)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, side * side, -1)


@mutant(exercise="patchify", hint="one size taken for another")
def patch_size_of_four(images, patch_size):
    return by_unfold(images, 4)


@mutant(exercise="patchify", hint="they are torch.float32 and should be torch.float64")
def filled_in_single_precision(images, patch_size):
    out = torch.zeros(by_unfold(images, patch_size).shape)
    out[:] = by_unfold(images, patch_size)
    return out


@mutant(exercise="patchify", hint="moved by one place along axis 2")
def rolled_features(images, patch_size):
    return by_unfold(images, patch_size).roll(1, dims=2)


@mutant(exercise="patchify", hint="another order")
def shuffled_features(images, patch_size):
    return by_unfold(images, patch_size).roll(2, dims=2)


# -- unpatchify ------------------------------------------------------------------------------------


def guard(tokens, p, channels, height, width):
    """The given lines."""
    if tokens.shape[1:] != (height // p * (width // p), channels * p**2):
        raise ValueError(f"{height}x{width} images do not take tokens {tuple(tokens.shape)}")


@right_answer(exercise="unpatchify")
def by_fold(tokens, patch_size, channels, height, width):
    guard(tokens, patch_size, channels, height, width)
    return F.fold(tokens.transpose(1, 2), (height, width), patch_size, stride=patch_size)


@right_answer(exercise="unpatchify")
def by_pasting(tokens, patch_size, channels, height, width):
    guard(tokens, patch_size, channels, height, width)
    images = tokens.new_empty(len(tokens), channels, height, width)
    for i, patch in enumerate(tokens.unbind(1)):
        y, x = divmod(i, width // patch_size)
        square = patch.view(-1, channels, patch_size, patch_size)
        images[..., y * patch_size : (y + 1) * patch_size, x * patch_size : (x + 1) * patch_size] = square
    return images


@right_answer(exercise="unpatchify")
def by_cat(tokens, patch_size, channels, height, width):
    guard(tokens, patch_size, channels, height, width)
    patches = tokens.reshape(len(tokens), -1, channels, patch_size, patch_size).unbind(1)
    columns = width // patch_size
    rows = [torch.cat(patches[i : i + columns], dim=3) for i in range(0, len(patches), columns)]
    return torch.cat(rows, dim=2)


@right_answer(exercise="unpatchify")
def by_einsum(tokens, patch_size, channels, height, width):
    guard(tokens, patch_size, channels, height, width)
    x = tokens.reshape(len(tokens), height // patch_size, width // patch_size, channels, patch_size, patch_size)
    return torch.einsum("bijcyx->bciyjx", x).reshape(len(tokens), channels, height, width)


def assembled(tokens, order, p, channels, height, width, grid=None):
    grid = grid or (height // p, width // p)
    x = tokens.reshape(len(tokens), *grid, channels, p, p)
    return torch.einsum(f"bijcyx->{order}", x).reshape(len(tokens), channels, height, width)


@mutant(exercise="unpatchify", hint="your picture comes back transposed")
def transposed_result(tokens, patch_size, channels, height, width):
    return by_fold(tokens, patch_size, channels, height, width).mT


@mutant(exercise="unpatchify", hint="channels come last in your picture")
def channels_last_picture(tokens, patch_size, channels, height, width):
    return by_fold(tokens, patch_size, channels, height, width).permute(0, 2, 3, 1)


@mutant(exercise="unpatchify", hint="one size taken for another")
def square_grid(tokens, patch_size, channels, height, width):
    side = int(tokens.shape[1] ** 0.5)
    return assembled(tokens, "bciyjx", patch_size, channels, height, width, (side, side))


@mutant(exercise="unpatchify", hint="one size taken for another")
def one_channel(tokens, patch_size, channels, height, width):
    return by_fold(tokens, patch_size, channels, height, width).reshape(len(tokens), 1, height, width)


# -- PatchEmbed ------------------------------------------------------------------------------------


@right_answer(exercise="PatchEmbed")
class Convolution(nn.Module):
    def __init__(self, patch_size, channels, width):
        super().__init__()
        self.convolution = nn.Conv2d(channels, width, patch_size, stride=patch_size)
        nn.init.xavier_uniform_(self.convolution.weight.data.flatten(1))
        nn.init.constant_(self.convolution.bias, 0)

    def forward(self, images):
        return self.convolution(images).flatten(2).transpose(1, 2)


@right_answer(exercise="PatchEmbed")
class ByHand(nn.Module):
    def __init__(self, patch_size, channels, width):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))
        numbers = channels * patch_size**2
        self.matrix = nn.Parameter(torch.randn(numbers, width) * (2 / (numbers + width)) ** 0.5)
        self.patch_size = patch_size

    def forward(self, images):
        return by_unfold(images, self.patch_size) @ self.matrix + self.bias


@right_answer(exercise="PatchEmbed")
class InSequence(nn.Sequential):
    def __init__(self, patch_size, channels, width):
        super().__init__(nn.Unfold(patch_size, stride=patch_size), Turn(), nn.Linear(channels * patch_size**2, width))
        nn.init.xavier_normal_(self[2].weight)
        self[2].bias.data.zero_()


class Turn(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


class Linear(nn.Module):
    """The frame of many wrong answers."""

    def __init__(self, patch_size, channels, width):
        super().__init__()
        self.patch_size = patch_size
        self.linear = nn.Linear(channels * patch_size**2, width)


@mutant(exercise="PatchEmbed", hint="the pixels inside each patch are transposed")
class TransposedPixels(Linear):
    def forward(self, images):
        return self.linear(transposed_pixels(images, self.patch_size))


@mutant(exercise="PatchEmbed", hint="rows and columns of patches are swapped")
class SwappedGrid(Linear):
    def forward(self, images):
        return self.linear(swapped_grid(images, self.patch_size))


@mutant(exercise="PatchEmbed", hint="rows and columns are swapped, of the patches and of the pixels in them")
class TransposedPicture(Convolution):
    def forward(self, images):
        return self.convolution(images.mT).flatten(2).mT


@mutant(exercise="PatchEmbed", hint="channels come last in each token")
class ChannelsLast(Linear):
    def forward(self, images):
        return self.linear(channels_last(images, self.patch_size))


@mutant(exercise="PatchEmbed", hint="the picture is only reshaped")
class OnlyReshape(Linear):
    def forward(self, images):
        return self.linear(only_reshape(images, self.patch_size))


@mutant(exercise="PatchEmbed", hint="one token holds pieces of several patches")
class ChannelsBeforeGrid(Linear):
    def forward(self, images):
        return self.linear(channels_before_grid(images, self.patch_size))


@mutant(exercise="PatchEmbed", hint="run backwards")
class Backwards(Convolution):
    def forward(self, images):
        return self.convolution(images).flatten(2).flip(2).mT


@mutant(exercise="PatchEmbed", hint="the tokens are normalized")
class Normalized(Convolution):
    def forward(self, images):
        tokens = super().forward(images)
        return F.layer_norm(tokens, tokens.shape[-1:])


@mutant(exercise="PatchEmbed", hint="only the first picture of the batch comes back")
class FirstPicture(Convolution):
    def forward(self, images):
        return self.convolution(images[0]).flatten(1).T


@mutant(exercise="PatchEmbed", hint="batch and tokens have become one axis")
class MergedBatch(Convolution):
    def forward(self, images):
        return super().forward(images).flatten(0, 1)


@mutant(exercise="PatchEmbed", hint="width comes before the tokens")
class NoTranspose(Convolution):
    def forward(self, images):
        return self.convolution(images).flatten(2)


@mutant(exercise="PatchEmbed", hint="still has the grid's two axes")
class NotFlattened(Convolution):
    def forward(self, images):
        return self.convolution(images)


@mutant(exercise="PatchEmbed", hint="what must the stride be")
class NoStride(Convolution):
    def __init__(self, patch_size, channels, width):
        super().__init__(patch_size, channels, width)
        self.convolution.stride = (1, 1)


@mutant(exercise="PatchEmbed", hint="no bias")
class WithoutBias(Linear):
    def __init__(self, patch_size, channels, width):
        super().__init__(patch_size, channels, width)
        self.linear = nn.Linear(channels * patch_size**2, width, bias=False)

    def forward(self, images):
        return self.linear(by_unfold(images, self.patch_size))


@mutant(exercise="PatchEmbed", hint="the bias is not added")
class BiasForgotten(ByHand):
    def forward(self, images):
        return by_unfold(images, self.patch_size) @ self.matrix


@mutant(exercise="PatchEmbed", hint="an activation bends the result")
class WithActivation(Linear):
    def forward(self, images):
        return F.gelu(self.linear(by_unfold(images, self.patch_size)))


@mutant(exercise="PatchEmbed", hint="the linear map is not applied")
class NotApplied(Linear):
    def forward(self, images):
        return by_unfold(images, self.patch_size)


@mutant(exercise="PatchEmbed", hint="parameters that it does not need: norm.weight")
class WithNorm(Linear):
    def __init__(self, patch_size, channels, width):
        super().__init__(patch_size, channels, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, images):
        return self.norm(self.linear(by_unfold(images, self.patch_size)))


@mutant(exercise="PatchEmbed", hint="your module has no parameters")
class Unregistered(nn.Module):
    def __init__(self, patch_size, channels, width):
        super().__init__()
        self.patch_size, self.weights = patch_size, [torch.randn(channels * patch_size**2, width), torch.zeros(width)]

    def forward(self, images):
        return by_unfold(images, self.patch_size) @ self.weights[0] + self.weights[1]


@mutant(exercise="PatchEmbed", hint="your module has no weight of shape")
class OneChannel(Linear):
    def __init__(self, patch_size, channels, width):
        super().__init__(patch_size, 1, width + 1)

    def forward(self, images):
        return self.linear(by_unfold(images, self.patch_size))


@mutant(exercise="PatchEmbed", hint="before Module.__init__() call")
class NoSuper(nn.Module):
    def __init__(self, patch_size, channels, width):
        self.linear = nn.Linear(channels * patch_size**2, width)


@mutant(exercise="PatchEmbed", hint='missing the required "forward" function')
class NoForward(Linear):
    pass


@mutant(exercise="PatchEmbed", hint="let the class inherit from nn.Module")
class NoModule:
    def __init__(self, patch_size, channels, width):
        self.linear = nn.Linear(channels * patch_size**2, width)


@mutant(exercise="PatchEmbed", hint="should be a class")
def a_function(patch_size, channels, width):
    return Convolution(patch_size, channels, width)


@mutant(exercise="PatchEmbed", hint="no gradient gets through")
class WithoutGradient(Linear):
    @torch.no_grad()
    def forward(self, images):
        return self.linear(by_unfold(images, self.patch_size))


# -- sincos_position_embedding ---------------------------------------------------------------------


def quarter(width):
    """With the given guard."""
    if width % 4:
        raise ValueError("no multiple of 4")
    return width // 4


@right_answer(exercise="sincos_position_embedding")
def number_by_number(rows, columns, width):
    n = quarter(width)
    table = []
    for row in range(rows):
        for column in range(columns):
            angles = [place / 10000 ** (k / n) for place in (column, row) for k in range(n)]
            x, y = angles[:n], angles[n:]
            table.append([f(a) for part in (x, y) for f in (math.sin, math.cos) for a in part])
    return torch.tensor(table)


def axis_table(places, n, base=10000.0):
    """(len(places), 2 n): sines, then cosines."""
    angles = torch.outer(places.float(), base ** -(torch.arange(n) / n))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@right_answer(exercise="sincos_position_embedding")
def by_broadcasting(rows, columns, width):
    x = axis_table(torch.arange(columns), quarter(width))[None].expand(rows, -1, -1)
    y = axis_table(torch.arange(rows), width // 4)[:, None].expand(-1, columns, -1)
    return torch.cat([x, y], dim=2).flatten(0, 1)


@right_answer(exercise="sincos_position_embedding")
def by_counting(rows, columns, width):
    token = torch.arange(rows * columns)
    parts = [token % columns, token // columns]
    return torch.cat([axis_table(place, quarter(width)) for place in parts], dim=1)


@mutant(exercise="sincos_position_embedding", hint="only place (0, 0) is right")
def counting_from_one(rows, columns, width):
    token, n = torch.arange(rows * columns), width // 4
    speeds = 10000.0 ** -((torch.arange(n) + 1) / n)
    angles = [torch.outer(place.float(), speeds) for place in (token % columns, token // columns)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)


@mutant(exercise="sincos_position_embedding", hint="only place (0, 0) is right")
def the_column_twice(rows, columns, width):
    column = axis_table(torch.arange(rows * columns) % columns, width // 4)
    return torch.cat([column, column], dim=1)


@mutant(exercise="sincos_position_embedding", hint=".float() converts")
def in_double(rows, columns, width):
    return by_counting(rows, columns, width).double()


@mutant(exercise="sincos_position_embedding", hint="the halves are swapped")
def row_first(rows, columns, width):
    token = torch.arange(rows * columns)
    return torch.cat([axis_table(place, width // 4) for place in (token // columns, token % columns)], dim=1)


@mutant(exercise="sincos_position_embedding", hint="run down the columns")
def down_the_columns(rows, columns, width):
    token = torch.arange(rows * columns)
    return torch.cat([axis_table(place, width // 4) for place in (token // rows, token % rows)], dim=1)


@mutant(exercise="sincos_position_embedding", hint="one size taken for another")
def rows_for_columns(rows, columns, width):
    token = torch.arange(rows * columns)
    return torch.cat([axis_table(place, width // 4) for place in (token % rows, token // rows)], 1)


@mutant(exercise="sincos_position_embedding", hint="plain number")
def a_number(rows, columns, width):
    return rows


# -- overlapping_patches ---------------------------------------------------------------------------


@right_answer(exercise="overlapping_patches")
def unfold_with_stride(images, patch_size, stride):
    return F.unfold(images, patch_size, stride=stride).transpose(1, 2)


@right_answer(exercise="overlapping_patches")
def loops_with_stride(images, patch_size, stride):
    tops = range(0, images.shape[2] - patch_size + 1, stride)
    lefts = range(0, images.shape[3] - patch_size + 1, stride)
    cut = [images[:, :, y : y + patch_size, x : x + patch_size].flatten(1) for y in tops for x in lefts]
    return torch.stack(cut, 1)


@right_answer(exercise="overlapping_patches")
def by_one_hot_kernels(images, patch_size, stride):
    features = images.shape[1] * patch_size**2
    kernels = torch.eye(features, dtype=images.dtype).reshape(features, -1, patch_size, patch_size)
    return F.conv2d(images, kernels, stride=stride).flatten(2).mT


@mutant(exercise="overlapping_patches", hint="the stride is not used")
def no_overlap(images, patch_size, stride):
    return F.unfold(images, patch_size, stride=patch_size).mT


@mutant(exercise="overlapping_patches", hint="some pieces run over the edge")
def over_the_edge(images, patch_size, stride):
    height, width = images.shape[2:]
    corners = [(y, x) for y in range(0, height, stride) for x in range(0, width, stride)]
    return torch.stack([images[:, :, y : y + patch_size, x : x + patch_size].flatten(1) for y, x in corners], dim=1)


@mutant(exercise="overlapping_patches", hint="stride and patch size are swapped")
def swapped_arguments(images, patch_size, stride):
    return F.unfold(images, stride, stride=patch_size).mT
