"""Figures of lesson 05: curves, densities that are those of the samples, and points in the plane."""

import numpy as np
import pytest
import torch
from canvas_pixels import decoded
from scipy import integrate, stats

from dit_course import show
from dit_course.flow import logit_normal
from dit_course.show.layout import DENSITY
from dit_course.show.lesson_05_flow_loss import logit_normal_density, logit_normal_tail, share


def is_dark_blue(pixels):
    """Where a figure has the color of data."""
    red, green, blue = np.moveaxis(pixels.astype(int), -1, 0)
    return (blue - red > 60) & (blue - green > 30)


def test_curves_say_where_they_start_and_end():
    t = torch.linspace(0.1, 1, 10)
    picture = show.over_time(t, {"straight": t, "bent": t**2}, "size", "Two ways", marks={"the end": (1, 1.0)})
    assert picture.alt == "Two ways. Line chart over t: straight: from 0.1 to 1; bent: from 0.01 to 1"
    assert decoded(picture.png).shape == (DENSITY * picture.height, DENSITY * picture.width, 3)
    more = show.over_time(t, {"straight": t, "bent": t**2}, "size", "Two ways")
    assert (decoded(more.png) != decoded(picture.png)).any()  # the mark


def test_curves_can_be_logarithmic_or_below_zero():
    t = np.linspace(0.01, 1, 50)
    for curves, logarithmic in (({"a": 1 / t}, True), ({"a": np.log(t)}, False)):
        assert show.over_time(t, curves, "y", "t", logarithmic=logarithmic).alt.startswith("t. Line chart")


def test_the_ends_of_time_can_be_stretched():
    t = [0.001, 0.01, 0.5, 0.99, 0.999]
    marks = {"left": (0, 1.4), "right": (1, 0.3)}
    pictures = [
        show.over_time(t, {"a": [1.4, 1, 0.2, 0.2, 0.3]}, "y", "t", marks=marks, stretched=stretched)
        for stretched in (False, True)
    ]
    assert pictures[0].alt == pictures[1].alt
    plain, stretched = (decoded(picture.png) for picture in pictures)
    assert (plain != stretched).any()
    edges = [np.flatnonzero(is_dark_blue(pixels).any(axis=0))[[0, -1]].tolist() for pixels in (plain, stretched)]
    assert edges[0] == pytest.approx(edges[1], abs=4), "the marks must stay at the edges"


def test_a_curve_needs_a_value_for_each_time():
    with pytest.raises(ValueError, match=r"short: \(2,\) values for \(3,\) times"):
        show.over_time([0, 0.5, 1], {"short": [1, 2]}, "y", "t")


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.0, 0.6), (-1.0, 1.8)])
def test_the_density_is_that_of_the_samples(mean, std):
    density = lambda t: logit_normal_density(torch.tensor([t]), mean, std).item()  # noqa: E731
    below, above = logit_normal_tail(0.02, mean, std)
    area = integrate.quad(density, 1e-9, 0.02)[0]
    assert area == pytest.approx(below, rel=1e-3, abs=1e-12)
    assert integrate.quad(density, 0.02, 0.98)[0] + below + above == pytest.approx(1, abs=1e-4)
    t = logit_normal(100_000, torch.Generator().manual_seed(0), mean, std)
    for edge, chance in (((t < 0.02), below), ((t > 0.98), above)):
        low, high = stats.binom.interval(1 - 1e-6, len(t), chance) if chance > 0 else (0, 0)
        assert low <= edge.sum() <= high + 1


def test_the_ends_are_given_as_text():
    picture = show.densities()
    assert "1 in 20,000 of the times lie below 0.02, 1 in 20,000 above 0.98" in picture.alt
    assert show.densities(1.0, 0.6, title="Mine").alt.startswith("Mine: practically none")


def test_drawn_times_stand_behind_the_density():
    drawn = torch.sigmoid(1 + torch.randn(1000, generator=torch.Generator().manual_seed(0)))
    picture, plain = show.densities(1.0, samples=drawn), show.densities(1.0)
    assert picture.alt == f"{plain.alt}; as bars 1,000 sampled times, {drawn.mean():.2f} on average"
    assert (decoded(picture.png) != decoded(plain.png)).mean() > 0.02


@pytest.mark.parametrize(
    ("p", "text"), [(0.02, "2.0%"), (0.001, "0.1%"), (5e-5, "1 in 20,000"), (7.2e-7, "1 in 1,400,000"), (0.0, "none")]
)
def test_chances_that_can_be_imagined(p, text):
    assert share(p).endswith(text)


def test_points_paths_and_arrows_in_the_plane():
    points = torch.randn(20, 2, requires_grad=True)
    for picture in (
        show.plane({"one": points, "two": 2 * points}, "A title", behind=points),
        show.trajectories({"one": torch.stack([points, 2 * points]), "two": torch.stack([points] * 3)}, "A title"),
        show.field({"one": (points, points), "two": (points, -points)}, "A title", behind=points),
    ):
        assert picture.alt.startswith("A title. ")
        assert picture.alt.endswith(": one, two")
        assert len(np.unique(decoded(picture.png).reshape(-1, 3), axis=0)) > 5


def test_the_plane_has_two_coordinates():
    with pytest.raises(ValueError, match=r"are \(n, 2\), not \(5, 3\)"):
        show.plane({"a": torch.zeros(5, 3)}, "t")
    with pytest.raises(ValueError, match=r"are \(times, n, 2\), not \(5, 2\)"):
        show.trajectories({"a": torch.zeros(5, 2)}, "t")
