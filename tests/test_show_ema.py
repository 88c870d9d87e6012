"""Figures of lesson 07: the message is true, and wrong input is named."""

import pytest
import torch
from canvas_pixels import pixels_of

from dit_course import show
from dit_course.ema import averaging_weights, running_average, warmup_decays


def test_running_averages_are_drawn_over_their_signal():
    values = torch.randn(50)
    averages = {"short": running_average(values, 0.5), "long": running_average(values, 0.9)}
    picture = show.running_averages(values, averages)
    assert picture.alt.startswith("A running average is smoother, and later: 50 noisy values")
    assert picture.alt.endswith("short, long")
    assert show.running_averages(values, {"one": averages["long"]}, title="Mine").alt.startswith("Mine")
    with pytest.raises(ValueError, match=r"late: \(49,\) averages for a signal of shape \(50,\)"):
        show.running_averages(values, {"late": values[1:]})


def test_iterates_say_how_much_closer_their_average_is():
    path = torch.tensor([[4.0, 0.0], [0.0, 4.0]]).repeat(10, 1)
    picture = show.quadratic_trajectories(path, path / 2)
    assert picture.alt.startswith("The iterates stay 2.0 times as far from the minimum as their average")
    assert pixels_of(picture).ndim == 3
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        show.quadratic_trajectories(path, path[1:])


def test_profiles_say_what_is_left_of_the_start():
    shares = {"0.5": averaging_weights(torch.full((50,), 0.9)), "warm-up": averaging_weights(warmup_decays(0.9999, 50))}
    assert show.profiles({"all": torch.tensor([1.0, 0.0])}).alt.startswith("Share of the random start: 100% with all")
    assert show.profiles(shares).alt.startswith("Share of the random start: 1% with 0.5, less than 1% with warm-up")
    assert show.profiles(shares, title="Three").alt.startswith("Three.")
    show.profiles(shares)


def test_measures_of_raw_and_averaged_weights_say_their_means():
    raw, averaged = [(0.5, 20.0), (0.6, 30.0)], [(0.7, 10.0), (0.7, 12.0)]
    picture = show.raw_and_averaged([10, 20], raw, averaged)
    assert "mean of 2 steps: raw 25, averaged 11" in picture.alt
    assert picture.alt.endswith("steps 10 to 20")
    with pytest.raises(ValueError, match=r"3 steps and 2 measures need \(3, 2\)"):
        show.raw_and_averaged([1, 2, 3], raw, averaged)
