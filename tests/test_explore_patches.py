"""The slider for the patch size: its callback is a plain function, runs in any thread, and says what went wrong."""

import pytest
import torch

from dit_course import explore
from dit_course.dit import DiT, DiTConfig
from dit_course.explore.patches import MOST_TOKENS, block_cost, draw, fitting


@pytest.fixture
def image():
    """A picture that is not square."""
    return torch.randint(0, 255, (1, 12, 20), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("height", "width", "sizes"),
    [(28, 28, [28, 14, 7, 4, 2, 1]), (12, 20, [4, 2, 1]), (5, 7, [1]), (128, 128, [128, 64, 32, 16, 8, 4, 2])],
)
def test_the_slider_offers_what_fits(height, width, sizes):
    assert fitting(height, width) == sizes
    assert explore.patches(torch.zeros(1, height, width)).patch_size.options == tuple(sizes)


def test_a_picture_of_any_size_can_be_shown():
    assert MOST_TOKENS < 101 * 103
    assert fitting(101, 103) == [1]  # too many tokens, but there is nothing else


def test_the_cost_is_that_of_a_block():
    """Counted on a block itself: multiply-adds of every linear layer and of both products in attention."""
    n, width = 9, 24
    block = DiT(DiTConfig(image_size=6, patch_size=2, channels=1, width=width, depth=1, heads=2)).blocks[0]
    inside = [
        layer for name, layer in block.named_modules() if isinstance(layer, torch.nn.Linear) and name != "modulation"
    ]
    linear = n * sum(layer.weight.numel() for layer in inside)
    assert block_cost(n, width) == (linear, 2 * n * n * width)


def test_the_drawing_has_one_size_and_counts_right(image):
    pictures = [draw(image, p, 128) for p in (1, 2, 4)]
    assert len({(picture.width, picture.height) for picture in pictures}) == 1
    assert "patches of 4 x 4, 15 tokens of 16, 3.01 M multiply-adds per block, 2% of them" in pictures[2].alt
    assert "1 token of 784," in draw(torch.zeros(1, 28, 28, dtype=torch.uint8), 28, 64).alt


def test_it_takes_what_a_learner_has(image):
    for picture in (image, image[None], image / 255, image.expand(3, -1, -1)):
        assert explore.patches(picture).patch_size.value == 2
    with pytest.raises(ValueError, match="one picture at a time"):
        explore.patches(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match="12x20 image cannot be cut into patches of 5"):
        explore.patches(image, patch_size=5)
    with pytest.raises(ValueError, match=r"\(\(x \+ 1\) / 2\)"):
        explore.patches(image / 127.5 - 1)
