"""The sliders for positions: the numbers are the table's own, on any grid, and a click picks a patch."""

import numpy as np
import pytest
import torch
from canvas_pixels import shown

from dit_course import explore
from dit_course.explore.positions import PositionMaps, wave_colors, wave_name
from dit_course.patches import sincos_position_embedding
from dit_course.show.layout import DENSITY


def at(view, patch, side):
    """The color in the middle of a patch, in the map at the left (0) or at the right (1); off its frame."""
    maps = view.drawing
    row, column = divmod(patch, maps.grid[1])
    top, left = (int(DENSITY * place) for place in (maps.bars[0][0], maps.lefts[side]))
    return shown(view)[top + int((row + 0.5) * maps.cell), left + int((column + 0.5) * maps.cell)].astype(int)


def test_a_map_is_darker_where_the_dot_product_is_larger():
    view = explore.positions((4, 7), 32, patch=9, feature=0)
    table = sincos_position_embedding(4, 7, 32)
    products = table @ table[9]
    torch.testing.assert_close(view.drawing.products[9], products)
    assert products.argmax() == 9
    assert products[9] == pytest.approx(16)  # sixteen pairs of sine and cosine
    shades = np.array([at(view, patch, 0).sum() for patch in range(28)])
    order = products.argsort(descending=True).numpy()
    assert (np.diff(shades[order]) >= -3).all()  # rounded to bytes
    assert "patch 9: row 1, column 2: 16.0 with itself" in view.status


def test_a_wave_is_shown_with_its_sign():
    view = explore.positions((4, 7), 32, feature=0)
    table = sincos_position_embedding(4, 7, 32)
    for patch in (0, 1, 4, 27):
        assert np.array_equal(at(view, patch, 1), wave_colors(table[patch, 0])), patch
    red, _, blue = at(view, 1, 1)  # sin 1 = 0.84
    assert blue > red
    red, _, blue = at(view, 4, 1)  # sin 4 = -0.76
    assert red > blue


@pytest.mark.parametrize("feature", range(16))
def test_the_name_of_a_wave_is_true(feature):
    """It comes back after as many patches as its name says, along the axis that it names and along no other."""
    name = wave_name(feature, 16)
    length = float(name.rsplit(" ", 2)[1].replace(",", ""))
    axis = 1 if "column" in name else 0
    steps = np.arange(64)
    wave = {"sine": np.sin, "cosine": np.cos}[name.split()[0]](2 * np.pi * steps / length)
    table = sincos_position_embedding(64, 64, 16)[:, feature].reshape(64, 64).numpy()
    assert np.allclose(table, wave if axis else wave[:, None], atol=0.9 if length < 10 else 0.05)  # 6.3 is rounded
    assert np.ptp(table, axis=1 - axis).max() < 1e-6


def test_a_click_picks_a_patch():
    view = explore.positions((3, 5), 16)
    maps = view.drawing
    for left in maps.lefts:
        x, y = left + 4.5 * maps.cell / DENSITY, maps.bars[0][0] + 1.5 * maps.cell / DENSITY
        view.patch.value = 0
        view.canvas._on_message(view.canvas, {"picked": [x, y]}, [])
        assert view.patch.value == 9
    for place in ([0, 0], [maps.lefts[0] + 5.5 * maps.cell / DENSITY, 100], [-5.0, 1e6]):
        view.canvas._on_message(view.canvas, {"picked": place}, [])
        assert view.patch.value == 9
    assert view.canvas.pickable
    assert not explore.timesteps().canvas.pickable


@pytest.mark.parametrize("changes", [{}, {"registers": 0}, {"num_classes": None}])
def test_it_shows_the_table_of_a_model(small_dit, changes):
    model = small_dit(**changes)  # 2 x 3 patches
    model.positions = torch.linspace(-3, 3, model.positions.numel()).reshape(model.positions.shape)  # a learned one
    view = explore.positions(model)
    assert view.drawing.grid == model.config.grid
    assert torch.equal(view.drawing.table, model.positions)
    assert view.drawing.limit == 3
    with pytest.raises(ValueError, match="a model has a width of its own"):
        explore.positions(model, 64)


@pytest.mark.parametrize("grid", [(1, 1), (1, 9), (40, 3), (32, 32)])
def test_any_grid_fits_the_page(grid):
    view = explore.positions(grid, 8)
    assert view.picture.width <= 820
    assert view.picture.height <= 340
    assert np.array_equal(shown(view), view.picture.pixels)


def test_the_bar_names_the_ends_of_the_scale():
    maps = PositionMaps(sincos_position_embedding(4, 7, 32), (4, 7))
    assert maps.highest == pytest.approx(16)
    assert maps.lowest == pytest.approx(float(maps.products.min()))
    top, left, height = maps.bars[0]
    bar = maps.blank[DENSITY * top : round(DENSITY * (top + height)), DENSITY * left + 8].astype(int)
    assert (np.diff(bar[2:-2].sum(axis=1)) >= 0).all()  # the largest number is on top, and dark
    numbers = maps.blank[DENSITY * top : round(DENSITY * (top + height)), DENSITY * (left + 14) :][:, :80]
    assert ((numbers < 128).any(axis=(1, 2)).reshape(-1)).sum() > 30  # three numbers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0, 3),), "a grid of 0 x 3 patches and a width of 64: each side must be at least 1"),
        (((3, 3), 6), "width 6 is not a multiple of 4"),
        (((3, 3), 0), "a width of 0"),
        ((7,), r"a grid is \(rows, columns\) of patches, such as \(7, 7\), or a DiT; not 7"),
        (("ab",), "not 'ab'"),
        (((3, 3), 8, 9), "patch = 9, but the choice is from 0 to 8"),
        (((3, 3), 8, 0, 8), "feature = 8, but the slider goes from 0 to 7"),
    ],
)
def test_what_it_cannot_show_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        explore.positions(*arguments)
