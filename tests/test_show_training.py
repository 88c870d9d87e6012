"""Figures of lesson 06: the message is true, pixels arrive unchanged, and wrong input is named."""

import numpy as np
import pytest
import torch
from canvas_pixels import pixels_of

from dit_course import show
from dit_course.show.axes import add_axes
from dit_course.show.layout import DENSITY, PAGE_WIDTH, PALETTE, blank_figure
from dit_course.show.lesson_06_training import TILE, _dashes, _name_ends, running_median, tiles


def has_color(picture, name):
    """Whether a figure draws something in this color of the palette."""
    color = [int(PALETTE[name][i : i + 2], 16) for i in (1, 3, 5)]
    pixels = pixels_of(picture)
    return pixels.ndim == 3 and bool((pixels == color).all(axis=2).any())


def test_loss_curves_say_where_they_end():
    picture = show.loss_curves({"slow": [2.0] * 30, "fast": [2.0 / (i + 1) for i in range(30)]})
    assert "slow 2, fast 0." in picture.alt
    assert "running medians of 2 losses" in picture.alt
    assert picture.width <= PAGE_WIDTH
    assert has_color(picture, "model")


def test_an_explosion_is_forgotten_once_it_is_over():
    losses = [1.7, 4000.0, 800.0, 90.0] + [1.3] * 16
    assert running_median(losses, 9)[-1] == 1.3
    assert list(running_median([3.0, 1.0, 2.0, 9.0], 3)) == [3.0, 2.0, 2.0, 2.0]


def test_a_line_along_another_is_dashed():
    falling = [2.0, 1.5, 1.0, 0.5]
    assert _dashes([falling, [2.0, 1.5, 1.0, 0.1], [9.0, 8.0, 7.0, 6.0]]) == ["-", (0, (5, 4)), "-"]


def test_loss_curves_stand_what_explodes():
    for bad in ([1.0, 50.0, 1e9], [1.0, float("nan"), float("nan")], [1.0, float("inf"), 3.0]):
        assert "calm" in show.loss_curves({"wild": bad, "calm": [1.0, 0.9, 0.8]}).alt


@pytest.mark.parametrize("draw", [show.loss_curves, show.rates])
def test_there_must_be_something_to_draw(draw):
    for nothing in ({}, {"a": []}):
        with pytest.raises(ValueError, match="nothing to draw"):
            draw(nothing)
    with pytest.raises(ValueError, match="5 lines in one figure: at most 4"):
        draw({str(i): [1.0] for i in range(5)})


def test_names_at_the_ends_do_not_touch():
    axes = add_axes(blank_figure(400, 300), (0.1, 0.1, 0.8, 0.8), "x")
    axes.set_ylim(0, 1)
    _name_ends(axes, {"a": [0.5], "b": [0.5], "c": [0.501], "d": [7.0]}, 1, ["#123456"] * 4)
    heights = sorted(text.xy[1] for text in axes.texts)
    assert len(heights) == 4
    assert min(np.diff(heights)) >= 0.075 - 1e-9
    assert heights[-1] <= 1.01
    assert abs(np.mean(heights[:3]) - 0.5) < 0.01  # as far down as up


def test_rates_and_norms_and_what_they_say():
    assert "flat up to 0.002" in show.rates({"flat": [0.002] * 5, "up": [0.0, 0.001]}).alt
    picture = show.gradient_norms({"training": [0.5, 2.0, 3.0, 0.1]}, most=1.0)
    assert "Steps that were clipped: training 2 of 4" in picture.alt
    assert has_color(picture, "guidance")


def test_the_loss_by_time_marks_what_is_possible():
    picture = show.loss_by_time([0.1, 0.5, 0.9], {"new": [1.5, 1.5, 1.5], "old": [0.9, 0.1, 0.3]}, ends=(1.0, 0.21))
    assert "old 0.1 to 0.9" in picture.alt
    assert "1.00 at t = 0 and 0.21 at t = 1" in picture.alt
    assert has_color(picture, "guidance")
    assert not has_color(show.loss_by_time([0.1, 0.9], {"new": [1.5, 1.5]}), "guidance")
    with pytest.raises(ValueError, match="new: 3 losses for 2 times"):
        show.loss_by_time([0.1, 0.9], {"new": [1.5, 1.5, 1.5]})


def test_loss_and_pictures_stand_side_by_side():
    picture = show.loss_and_pictures([0, 1, 3], [1.6, 0.25, 0.2], [0.1, 0.5, 0.85])
    assert "from 1.600 to 0.200, recognized pictures from 10% to 85%" in picture.alt
    assert "1 min: loss 0.250, 50%" in picture.alt
    for wrong in (([0], [1], [1]), ([0, 1], [1], [1, 1])):
        with pytest.raises(ValueError, match="as many of each, and two"):
            show.loss_and_pictures(*wrong)


@pytest.mark.parametrize("shape", [(10, 1, 28, 28), (3, 3, 32, 32), (2, 1, 8, 12), (1, 3, 300, 200)])
def test_pictures_of_a_training_are_enlarged_by_whole_numbers_or_thinned_but_never_blurred(shape):
    pictures = torch.randint(0, 255, shape, dtype=torch.uint8)
    drawn = tiles(pictures)
    assert drawn.shape[0] == shape[0]
    assert max(drawn.shape[1:3]) <= DENSITY * TILE
    assert set(np.unique(drawn)) <= set(pictures.unique().tolist())
    if max(shape[2:]) <= DENSITY * TILE:
        zoom = drawn.shape[1] // shape[2]
        assert np.array_equal(drawn[:, ::zoom, ::zoom], pictures.permute(0, 2, 3, 1).numpy())


def test_a_training_is_drawn_from_its_first_moment_on():
    empty = show.training([])
    assert "Before the first step" in empty.alt
    strip = torch.full((10, 3, 28, 28), 77, dtype=torch.uint8)
    strip[:, 0] = 200
    picture = show.training([1.6, 1.2, 0.9], [("0:05", strip), ("0:10", strip)], [str(i) for i in range(10)], "Three")
    assert "Three. The loss in each of 3 steps; pictures drawn after 0:05, 0:10" in picture.alt
    assert picture.width == empty.width == PAGE_WIDTH
    assert picture.height == empty.height
    count = (pixels_of(picture) == [200, 77, 77]).all(axis=2).sum()
    assert count == 20 * (DENSITY * TILE // 28 * 28) ** 2  # every pixel of both rows, and none covered by another
    assert "not" not in show.training([1.0, float("nan"), 0.5] * 900).alt


def row(name, accuracy, seed, **changes):
    """One invented training."""
    row = {"name": name, "patch_size": 4, "width": 96, "depth": 4, "batch_size": 64, "lr": 2e-3, "seed": seed}
    return (
        row | {"images_per_second": 700.0, "steps": 2000, "class_accuracy": accuracy, "frechet_distance": 9.0} | changes
    )


def test_recipes_name_the_best_and_all_means():
    rows = [row("usual", 0.8 + 0.02 * seed, seed) for seed in range(3)]
    rows += [row("wider", 0.7, seed, width=128, steps=900) for seed in range(3)]
    picture = show.recipes(rows)
    assert "The best of 2 recipes: usual, 82% in the class asked for" in picture.alt
    assert picture.alt.endswith("Means of 6 training runs: usual 82%; wider 70%")
    assert show.recipes(rows * 3).height == picture.height < show.recipes([*rows, row("third", 0.1, 0)]).height
    with pytest.raises(ValueError, match="no training runs"):
        show.recipes([])
