"""Lesson 01: patches, their embedding and their positions."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dit_course.patches import PatchEmbed, patch_grid, patchify, sincos_position_embedding, unpatchify

shapes = st.tuples(*[st.integers(1, 4)] * 5)  # batch, channels, rows, columns, patch size


def numbered(batch, channels, height, width):
    """An image whose every value is different."""
    return torch.arange(batch * channels * height * width).reshape(batch, channels, height, width)


@given(shapes)
def test_unpatchify_inverts_patchify(shape):
    batch, channels, rows, columns, p = shape
    images = numbered(batch, channels, rows * p, columns * p)
    tokens = patchify(images, p)
    assert tokens.shape == (batch, rows * columns, channels * p * p)
    assert torch.equal(unpatchify(tokens, p, channels, rows * p, columns * p), images)


@given(shapes)
def test_patchify_inverts_unpatchify(shape):
    batch, channels, rows, columns, p = shape
    tokens = torch.randn(batch, rows * columns, channels * p * p)
    assert torch.equal(patchify(unpatchify(tokens, p, channels, rows * p, columns * p), p), tokens)


@given(shapes)
def test_each_token_is_one_patch_in_reading_order(shape):
    batch, channels, rows, columns, p = shape
    images = numbered(batch, channels, rows * p, columns * p)
    tokens = patchify(images, p)
    for i in range(rows):
        for j in range(columns):
            patch = images[:, :, i * p : (i + 1) * p, j * p : (j + 1) * p]
            assert torch.equal(tokens[:, i * columns + j], patch.flatten(1))


def test_patchify_gives_the_tokens_of_a_hand_written_example():
    image = torch.tensor([[[[1, 2, 5, 6], [3, 4, 7, 8]]]])
    assert patchify(image, 2).tolist() == [[[1, 2, 3, 4], [5, 6, 7, 8]]]


def test_patchify_keeps_dtype_and_passes_gradients_straight_through():
    assert patchify(torch.zeros(1, 1, 4, 6, dtype=torch.uint8), 2).dtype == torch.uint8
    images = torch.randn(2, 3, 4, 6, requires_grad=True)
    weight = torch.randn(2, 6, 12)
    (patchify(images, 2) * weight).sum().backward()
    assert torch.equal(images.grad, unpatchify(weight, 2, 3, 4, 6))


def test_patchify_takes_pictures_whose_memory_is_in_another_order():
    images = torch.randn(2, 3, 4, 6)
    assert torch.equal(patchify(images.to(memory_format=torch.channels_last), 2), patchify(images, 2))


@pytest.mark.parametrize(("height", "width", "p"), [(28, 28, 5), (32, 30, 4), (30, 32, 4), (8, 8, 0), (8, 8, -2)])
def test_pictures_that_cannot_be_cut_are_refused(height, width, p, one_line_error):
    with one_line_error(ValueError, f"{height}x{width}", f"patches of {p}"):
        patchify(torch.zeros(1, 1, height, width), p)


def test_the_error_advises_patch_sizes_that_fit(one_line_error):
    with one_line_error(ValueError, "28 is not a multiple of 5", "try 4 or 7"):
        patch_grid(28, 28, 5)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12))
def test_the_advice_of_the_error_is_good(height, width, p):
    try:
        assert patch_grid(height, width, p) == (height / p, width / p)
    except ValueError as error:
        advice = str(error).rpartition("(try ")[2].rstrip(")")
        for fitting in map(int, advice.split(" or ")):
            assert patch_grid(height, width, fitting) == (height / fitting, width / fitting)


@pytest.mark.parametrize("shape", [(2, 5, 12), (2, 6, 16), (2, 6), (2, 3, 2, 12)])
def test_tokens_that_do_not_fill_the_picture_are_refused(shape, one_line_error):
    with one_line_error(ValueError, str(shape), "3x4x6"):
        unpatchify(torch.zeros(shape), 2, 3, 4, 6)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 9))
def test_patch_embed_is_a_convolution(channels, rows, columns, p, width):
    embed = PatchEmbed(p, channels, width).double()
    torch.nn.init.normal_(embed.projection.bias)
    images = torch.randn(2, channels, rows * p, columns * p, dtype=torch.float64)
    kernel = embed.projection.weight.reshape(width, channels, p, p)
    convolved = F.conv2d(images, kernel, embed.projection.bias, stride=p)  # (b, w, rows, columns)
    torch.testing.assert_close(embed(images), convolved.flatten(2).transpose(1, 2))


def slow_position(row, column, width):
    """One position, number by number, from the formula of the paper."""
    features = []
    for place in (column, row):
        for wave in (math.sin, math.cos):
            features += [wave(place / 10000 ** (k / (width / 4))) for k in range(width // 4)]
    return features


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([4, 8, 20, 48]))
def test_positions_follow_the_formula(rows, columns, width):
    expected = [slow_position(i, j, width) for i in range(rows) for j in range(columns)]
    positions = sincos_position_embedding(rows, columns, width)
    assert positions.dtype == torch.float32
    torch.testing.assert_close(positions, torch.tensor(expected), atol=1e-6, rtol=0)


def test_every_place_has_a_position_of_its_own():
    positions = sincos_position_embedding(7, 9, 16)
    distances = torch.cdist(positions, positions) + 10 * torch.eye(63)
    assert distances.min() > 0.1


def test_position_reads_columns_from_the_first_half_and_rows_from_the_second():
    positions = sincos_position_embedding(3, 5, 16).reshape(3, 5, 16)
    assert torch.equal(positions[0, :, :8], positions[2, :, :8])
    assert torch.equal(positions[:, 0, 8:], positions[:, 4, 8:])
    assert not torch.equal(positions[0, 1], positions[1, 0])


@pytest.mark.parametrize("width", [6, 10, 7])
def test_positions_need_four_features_for_each_wave(width, one_line_error):
    with one_line_error(ValueError, f"width {width}", "multiple of 4"):
        sincos_position_embedding(2, 2, width)
