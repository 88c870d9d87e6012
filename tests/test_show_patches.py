"""Figures of lesson 01: pixels arrive unchanged, the message is true, and wrong input is named."""

import re

import numpy as np
import pytest
import torch
from canvas_pixels import pixels_of

from dit_course import show
from dit_course.patches import patchify
from dit_course.show.layout import DENSITY
from dit_course.show.lesson_01_patches import FRAME, cut_up, one_image


@pytest.fixture
def image():
    """A picture in color that is not square."""
    return torch.randint(0, 255, (3, 12, 20), dtype=torch.uint8)


@pytest.mark.parametrize("patch_size", [1, 2, 4])
def test_a_picture_that_is_cut_up_is_its_patches_moved_apart(image, patch_size):
    cut = torch.from_numpy(np.array(cut_up(image, patch_size)))  # (h, w, 3)
    rows, columns = 12 // patch_size, 20 // patch_size
    tokens = patchify(image[None], patch_size)[0].reshape(-1, 3, patch_size, patch_size)
    gap = DENSITY * (6 if columns <= 7 else 3 if columns <= 14 else 1)
    step = (cut.shape[1] + gap) // columns
    zoom = (step - gap) // patch_size
    assert cut.shape == (rows * step - gap, columns * step - gap, 3)
    for number, patch in enumerate(tokens):
        top, left = number // columns * step, number % columns * step
        there = cut[top : top + step - gap, left : left + step - gap][::zoom, ::zoom]
        assert torch.equal(there.permute(2, 0, 1), patch)
    if columns > 1:
        assert (cut[:, step - gap : step] == 255).all()


def test_patches_say_how_many_there_are_and_are_numbered_where_there_is_room(image):
    picture = show.patches(image, 4)
    assert "3 x 5 = 15 patches of 4 x 4 pixels" in picture.alt
    black = torch.zeros(1, 28, 28)
    numbered, plain = (pixels_of(show.patches(black, p, title="t")) for p in (7, 1))
    white_in_patches = (numbered[60:600, 20:40] == 255).any(axis=1)
    assert white_in_patches.any()  # "0", "4", ... in the left column
    assert set(np.unique(plain[100:200, 16:60])) <= {0, 255}  # only pixels and gaps


def test_patches_take_one_picture_that_can_be_cut(image):
    assert torch.equal(one_image(image[None]), image)
    with pytest.raises(ValueError, match=r"one picture at a time.*images\[0\]"):
        show.patches(torch.zeros(2, 1, 8, 8), 4)
    with pytest.raises(ValueError, match="12x20 image cannot be cut into patches of 5"):
        show.patches(image, 5)


def test_tokens_are_a_table_with_a_row_for_each():
    table = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    picture = show.tokens(table)
    assert "2 tokens of 3 numbers each" in picture.alt
    pixels = pixels_of(picture)
    assert pixels.ndim == 2  # gray
    assert show.tokens(table[None]).alt == picture.alt
    assert show.tokens(table.requires_grad_()).alt == picture.alt
    for wrong in (torch.zeros(2, 3, 4), torch.zeros(5)):
        with pytest.raises(ValueError, match=r"\(tokens, features\).*pick one"):
            show.tokens(wrong)


def test_maps_are_gray_from_black_to_white_with_zero_in_the_middle():
    picture = show.heatmaps(torch.tensor([[[-2.0, 0.0], [1.0, 2.0]]]), ["a map"], title="Numbers")
    pixels = pixels_of(picture)
    assert picture.alt == "Numbers (1): a map"
    values, counts = np.unique(pixels, return_counts=True)
    frequent = set(values[counts > 5000])
    assert {0, 128, 191, 255} <= frequent
    assert (pixels == FRAME).sum() > 1000  # white maps do not melt into the page
    assert "black -2, white 2" not in picture.alt


def test_maps_of_other_kinds():
    grays = pixels_of(show.heatmaps([torch.ones(3, 5), -torch.ones(3, 5)], limit=2))
    assert {64, 191} <= set(np.unique(grays))
    assert show.heatmaps(torch.zeros(1, 2, 2)).alt == "Maps (1)"  # nothing but zeros is no division by zero
    assert show.heatmaps(torch.ones(2, 2, 2, requires_grad=True)).alt == "Maps (2)"
    with pytest.raises(ValueError, match=r"\(N, height, width\)"):
        show.heatmaps(torch.zeros(2, 3))


def test_a_difference_says_whether_there_is_one():
    x = torch.randn(1, 9, 4)
    assert show.difference(x, x + 1e-7, after="shuffling").alt.startswith("No difference after shuffling (3): before,")
    picture = show.difference(x, x + torch.eye(9, 4), after="a change")
    assert picture.alt.startswith("A difference after a change (3)")
    assert picture.alt.endswith("difference: at most 1")
    with pytest.raises(ValueError, match=r"one shape.*\(1, 9, 4\) and \(1, 4, 9\)"):
        show.difference(x, x.transpose(1, 2))


def test_costs_say_how_the_first_and_the_last_compare():
    picture = show.token_costs([10, 100, 1000], {"pairs": [1.0, 99.0, 9900.0], "rest": [0.1, 1.0, 11.0]})
    assert picture.alt.startswith("Tokens × 100: pairs × 9900, rest × 110")
    assert pixels_of(picture).ndim == 3
    for counts, times in (([1, 2], [1.0]), ([1], [1.0])):
        with pytest.raises(ValueError, match=re.escape(f"attention: {len(times)} times for {len(counts)} numbers")):
            show.token_costs(counts, {"attention": times})
