"""The slider for the patch size: its callback is a plain function, runs in any thread, and says what went wrong."""

import base64
import sys
import threading

import ipywidgets
import numpy as np
import pytest
import torch
from canvas_pixels import decoded, pasted

from dit_course import explore
from dit_course.authoring.notebooks import WIDGET_VIEW
from dit_course.dit import DiT, DiTConfig
from dit_course.explore.engine.keyboard import Accessible
from dit_course.explore.patches import MOST_TOKENS, block_cost, draw, fitting

MODULE = sys.modules["dit_course.explore.patches"]  # the name itself is the function


@pytest.fixture
def image():
    """A picture that is not square."""
    return torch.randint(0, 255, (1, 12, 20), dtype=torch.uint8)


def shown(view):
    """The pixels that the canvas paints."""
    return pasted(view.canvas)


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


def test_it_says_what_is_shown_and_every_move_draws_again(image):
    view = explore.patches(image, patch_size=2)
    assert "60 tokens of 4" in view.status
    seen = [shown(view).tobytes()]
    for size in (1, 4):
        view.patch_size.value = size
        seen.append(shown(view).tobytes())
    assert len(set(seen)) == 3
    assert "15 tokens of 16" in view.status
    assert view.canvas.alt == [view.picture.alt]
    view.patch_size.value = 2
    assert shown(view).tobytes() == seen[0]


def test_the_drawing_has_one_size_and_counts_right(image):
    pictures = [draw(image, p, 128) for p in (1, 2, 4)]
    assert len({(picture.width, picture.height) for picture in pictures}) == 1
    assert "patches of 4 x 4, 15 tokens of 16, 3.01 M multiply-adds a block, 2% of them" in pictures[2].alt
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


def test_the_control_has_a_name_and_keys(image):
    view = explore.patches(image)
    assert view.patch_size.description == "patch size"
    assert isinstance(view.patch_size, ipywidgets.SelectionSlider)
    assert isinstance(view.children[-1], Accessible)


def test_many_events_at_once_end_with_what_the_slider_says(image):
    view = explore.patches(image)
    threads = [threading.Thread(target=setattr, args=(view.patch_size, "value", p)) for p in (1, 2, 4, 1, 4, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    size = view.patch_size.value
    assert f"patches of {size} x {size}" in view.status
    assert np.array_equal(shown(view), shown(explore.patches(image, patch_size=size)))


def test_an_error_in_a_callback_is_shown_and_the_next_move_mends_it(image, monkeypatch):
    view = explore.patches(image)
    with monkeypatch.context() as patch:
        patch.setattr(MODULE, "draw", lambda *_: (_ for _ in ()).throw(RuntimeError("no <memory>")))
        view.patch_size.value = 4
    assert view.canvas.wrong
    assert "RuntimeError: no <memory>" in view.status
    view.patch_size.value = 1
    assert "240 tokens" in view.status


def test_it_is_live_in_jupyterlab_and_a_still_picture_elsewhere(image):
    view = explore.patches(image, patch_size=4)
    data, metadata = view._repr_mimebundle_()
    assert data[WIDGET_VIEW]["model_id"] == view.model_id
    assert np.array_equal(decoded(base64.b64decode(data["image/png"])), pasted(view.canvas))
    assert metadata["image/png"]["alt"].startswith("patches of 4 x 4, 15 tokens of 16")
