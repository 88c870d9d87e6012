"""The sliders for time and factor: their numbers are the network's, and errors are shown."""

import pytest
import torch

from dit_course import explore
from dit_course.conditioning import TimestepEmbedder
from dit_course.explore.time_embedding import FACTORS, TIMES, SinusoidChart, compute, sinusoids


def test_its_sinusoids_are_those_of_the_network():
    t = torch.rand(9)
    torch.testing.assert_close(sinusoids(t, 1000).float(), TimestepEmbedder(4).sinusoids(t), atol=3e-4, rtol=0)
    torch.testing.assert_close(sinusoids(t, 1).float(), TimestepEmbedder(4).sinusoids(t / 1000), atol=3e-4, rtol=0)


def test_a_time_is_like_itself_and_the_factor_sharpens():
    found = {factor: compute(0.3, factor) for factor in FACTORS}
    for one in found.values():
        assert one.vector.shape == (256,)
        assert one.similar.shape == TIMES.shape
        assert one.similar.argmax() == 300
        assert one.similar.max() == pytest.approx(1)
    shares = [found[factor].alike for factor in FACTORS]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.8
    assert shares[-1] < 0.01


def test_the_drawing_has_one_size_at_every_place():
    pictures = [SinusoidChart().picture(t, factor) for t in (0.0, 0.5, 1.0) for factor in FACTORS]
    assert len({(picture.width, picture.height) for picture in pictures}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5, 1), "t = 1.5, but the slider goes from 0 to 1"),
        ((0.5, 7), "factor = 7, but the choice is from 1 to 1000"),
    ],
)
def test_what_the_sliders_cannot_show_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        explore.time_embedding(*arguments)
