"""Figures of lesson 02: weights arrive unchanged, the framed patch is the right one, and wrong input is named."""

import re

import numpy as np
import pytest
import torch
from canvas_pixels import decoded

from dit_course import show
from dit_course.show.layout import INK, PALETTE
from dit_course.show.lesson_02_attention import cell_side, frame, heat, map_pixels, picture_pixels, rgb

GREEN, ORANGE = rgb(PALETTE["model"]), rgb(PALETTE["guidance"])


def test_heat_goes_from_white_to_green():
    colors = heat(torch.tensor([0.0, 0.25, 0.5]))
    assert (colors[0] == 255).all()
    assert (colors[2] == GREEN).all()
    assert np.abs(colors[1].astype(int) - (255 + GREEN.astype(int)) / 2).max() <= 1
    assert (heat(torch.zeros(3)) == 255).all()  # nothing but zeros is no division by zero


@pytest.mark.parametrize("grid", [(2, 3), (3, 2), (1, 4)])
def test_a_map_has_a_cell_for_each_patch_in_reading_order(grid):
    rows, columns = grid
    for token in range(rows * columns):
        weights = torch.zeros(rows * columns)
        weights[token] = 0.3
        pixels = map_pixels(weights, grid, cell=8)
        assert pixels.shape == (8 * rows, 8 * columns, 3)
        green = (pixels == GREEN).all(axis=2)
        top, left = 8 * (token // columns), 8 * (token % columns)
        assert green[top : top + 8, left : left + 8].all()
        assert green.sum() == 64


def test_registers_stand_beneath_the_patches():
    weights = torch.tensor([0.0] * 6 + [0.0, 1.0, 0.0, 0.5])  # 2 x 3 patches and four registers
    pixels = map_pixels(weights, (2, 3), cell=8)
    assert pixels.shape == (8 * 4 + 4, 24, 3)
    green = (pixels == GREEN).all(axis=2)
    assert green[20:28, 8:16].all()
    assert green.sum() == 64
    assert not (pixels[28:36, :8] == 255).all()  # the fourth, in the next row


def test_a_frame_is_drawn_around_one_cell_only_and_a_picture_has_no_registers():
    pixels = map_pixels(torch.zeros(8), (2, 3), cell=12)
    frame(pixels, 4, (2, 3), 12)
    orange = (pixels == ORANGE).all(axis=2)
    assert orange[12, 12:24].all()
    assert orange[12:24, 12:24].sum() == orange.sum()
    assert not orange[16:20, 16:20].any()
    picture = picture_pixels(torch.zeros(1, 4, 6, dtype=torch.uint8), patch_size=2, cell=12)
    before = picture.copy()
    frame(picture, 7, (2, 3), 12)
    assert (picture == before).all()


@pytest.mark.parametrize(("grid", "patch_size"), [((7, 7), 4), ((3, 5), 2), ((16, 16), 2), ((1, 1), 3)])
def test_every_pixel_of_a_picture_is_a_square(grid, patch_size):
    cell = cell_side(grid, patch_size)
    assert cell % patch_size == 0
    image = torch.randint(0, 255, (3, grid[0] * patch_size, grid[1] * patch_size), dtype=torch.uint8)
    pixels = picture_pixels(image, patch_size, cell)
    zoom = cell // patch_size
    assert np.array_equal(pixels[::zoom, ::zoom], image.permute(1, 2, 0).numpy())
    assert np.array_equal(pixels[zoom - 1 :: zoom, zoom - 1 :: zoom], image.permute(1, 2, 0).numpy())


def test_an_attention_map_shows_the_picture_the_weights_and_the_frames():
    image, weights = torch.zeros(1, 8, 12), torch.linspace(0, 0.2, 8)  # 2 x 3 patches of 4, and two registers
    picture = show.attention_map(image, weights, query=4, patch_size=4)
    assert picture.alt.startswith("Where patch 4 looks")
    assert "green: 20%, white: 0" in picture.alt
    pixels = decoded(picture.png)
    assert (pixels == ORANGE).all(axis=2).sum() > 1000
    assert (pixels == GREEN).all(axis=2).sum() > 1000
    for wrong, message in (
        ((torch.zeros(5), 0), r"are \(6,\) or more, not \(5,\)"),
        ((torch.zeros(6, 6), 0), "pick a row"),
        ((torch.zeros(6), 6), "no token 6"),
    ):
        with pytest.raises(ValueError, match=message):
            show.attention_map(image, *wrong, patch_size=4)


def test_looks_stand_side_by_side():
    rows = [torch.rand(6), torch.rand(6), torch.rand(8)]
    picture = show.attention_from_patch(rows, ["left", "up", "both"], grid=(2, 3), query=1)
    assert picture.alt == "Where token 1 looks: maps of weights: left, up, both"
    framed, plain = (
        (decoded(show.attention_from_patch(rows, ["a", "b", "c"], (2, 3), query, "t").png) == rgb(INK))
        .all(axis=2)
        .sum()
        for query in (1, None)
    )
    assert framed > plain + 1000
    with pytest.raises(ValueError, match="3 rows of weights and 2 captions"):
        show.attention_from_patch(rows, ["left", "up"], grid=(2, 3))


def test_a_table_has_a_row_for_each_query():
    weights = torch.eye(5)[None].requires_grad_()
    picture = show.attention_table(weights)
    assert "5 x 5 weights: each row sums to 1" in picture.alt
    green = (decoded(picture.png) == GREEN).all(axis=2)
    places = np.argwhere(green)
    assert np.corrcoef(places.T)[0, 1] > 0.95  # from the top left to the bottom right
    for wrong in (torch.zeros(2, 3, 3), torch.zeros(4), torch.zeros(0, 3)):
        with pytest.raises(ValueError, match=r"\(queries, keys\).*pick one"):
            show.attention_table(wrong)


def test_curves_side_by_side_say_where_they_begin_and_end():
    panels = {"size": {"with": [1, 1, 1], "without": torch.tensor([1.0, 10, 100])}, "rest": {"with": [3, 2, 1]}}
    picture = show.side_by_side([1, 4, 16], panels, "factor", "A title")
    assert picture.alt == (
        "A title. Line charts over factor. size, with: from 1 to 1; size, without: from 1 to 1e+02; "
        "rest, with: from 3 to 1"
    )
    for count in (1, 2, 3):
        many = {f"panel {i}": {"a": [1.0, 2.0]} for i in range(count)}
        show.side_by_side([1, 2], many, "x", "t")
    history = [torch.tensor(2.0, requires_grad=True)] * 3
    assert show.side_by_side([1, 2, 3], {"p": {"c": history}}, "x", "t").alt.endswith("from 2 to 2")
    with pytest.raises(ValueError, match=re.escape("size, a: 2 values for 3 places")):
        show.side_by_side([1, 2, 3], {"size": {"a": [1, 2]}}, "x", "t")
    with pytest.raises(ValueError, match="one to three panels, not 0"):
        show.side_by_side([1, 2, 3], {}, "x", "t")
