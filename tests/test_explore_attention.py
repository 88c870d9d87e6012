"""The sliders for attention: the weights are those of the model's real inputs, whatever the model."""

import sys

import numpy as np
import pytest
import torch
from canvas_pixels import shown

from dit_course import explore
from dit_course.blocks import modulate
from dit_course.explore.attention import AVERAGE, NO_CLASS, AttentionLayout, attention_maps
from dit_course.flow import interpolate
from dit_course.show.layout import PALETTE
from dit_course.show.lesson_02_attention import rgb

MODULE = sys.modules["dit_course.explore.attention"]  # the name itself is the function


@pytest.fixture
def model(small_dit):
    """A DiT on 8 x 12 pictures in color, in patches of 4, two registers, five classes, in single precision."""
    return small_dit().float()


@pytest.fixture
def image():
    return torch.randint(0, 255, (3, 8, 12), dtype=torch.uint8)


def test_the_maps_are_those_of_the_modulated_inputs(model):
    x, t, y = torch.randn(3, 3, 8, 12), torch.rand(3), torch.tensor([0, 4, 5])
    maps = attention_maps(model, x, t, y)
    assert maps.shape == (2, 3, 3, 8, 8)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(2, 3, 3, 8))
    with torch.no_grad():
        condition, tokens = model.condition(t, y), model.embed(x)
        for block, seen in zip(model.blocks, maps, strict=True):
            modulation = block.modulation(torch.nn.functional.silu(condition))[:, None]
            shift, scale = modulation.chunk(6, dim=-1)[:2]
            inside = modulate(block.norm_1(tokens), shift, scale)
            torch.testing.assert_close(seen, block.attention.attention_map(inside))
            tokens = block(tokens, condition)


def test_looking_leaves_the_model_as_it_was(model):
    x, t, y = torch.randn(1, 3, 8, 12), torch.rand(1), torch.tensor([1])
    model.train()
    first = attention_maps(model, x, t, y)
    assert model.training
    assert torch.equal(first, attention_maps(model, x, t, y))  # no label dropout
    assert not any(block.attention._forward_pre_hooks for block in model.blocks)
    with pytest.raises(ValueError, match="x has shape"):
        attention_maps(model, x[:, :1], t, y)
    assert model.training
    assert not any(block.attention._forward_pre_hooks for block in model.blocks)
    assert not first.requires_grad


def test_the_view_shows_what_the_sliders_say(model, image):
    view = explore.attention(model, image, label=2, t=0.25, block=1, head=2, patch=4, seed=3)
    clean = image[None].float() / 127.5 - 1
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(3))
    x = interpolate(clean, noise, torch.tensor([0.25]))
    maps = attention_maps(model, x, torch.tensor([0.25]), torch.tensor([2]))[:, 0]
    seen = (255 * (x[0] / 2 + 0.5).clamp(0, 1)).round().byte()
    drawing = AttentionLayout((2, 3), 4, blocks=2, heads=3, tokens=8)
    assert np.array_equal(shown(view), drawing.paint(seen, maps, 1, 2, 4))
    row = maps[1, 2, 4]
    assert f"{float(row.max()):.0%}; equal shares would be 12%" in view.picture.alt
    assert view.picture.alt.startswith("patch 4: row 1, column 1 looks, block 1, head 2, t = 0.25: most at")
    assert f"registers get {float(row[6:].sum()):.0%}" in view.picture.alt
    view.head.value = AVERAGE
    assert np.array_equal(shown(view), drawing.paint(seen, maps, 1, None, 4))
    assert "all heads on average" in view.picture.alt
    view.label.value = NO_CLASS
    other = attention_maps(model, x, torch.tensor([0.25]), torch.tensor([5]))[:, 0]
    assert np.array_equal(shown(view), drawing.paint(seen, other, 1, None, 4))


def test_the_chosen_head_is_framed_in_the_overview(model, image):
    drawing = AttentionLayout((2, 3), 4, blocks=2, heads=3, tokens=8)
    maps, picture = torch.rand(2, 3, 8, 8), image
    orange = rgb(PALETTE["guidance"])

    def framed(head):
        overview = drawing.paint(picture, maps, 1, head, 0)[:, 2 * drawing.maps_left - 4 :]
        return (overview == orange).all(axis=2).sum()

    assert 0 < framed(0) < framed(None)


@pytest.mark.parametrize("changes", [{"num_classes": None}, {"registers": 0}, {"channels": 1}, {"heads": 1}])
def test_any_dit_will_do(small_dit, changes):
    model = small_dit(**changes)  # in float64
    view = explore.attention(model)  # it draws its own picture
    assert view.clean.shape == (1, model.config.channels, 8, 12)
    assert len(view.controls) == (4 if changes.get("num_classes", 5) is None else 5)
    assert ("registers" in view.picture.alt) == (model.config.registers > 0)
    assert len(view.patch.options) == 6 + model.config.registers
    assert shown(view).shape[1] == 2 * view.drawing.width


def test_wrong_input_is_named(model, image):
    with pytest.raises(ValueError, match=r"pictures of shape \(3, 8, 12\), this one has \(3, 8, 8\)"):
        explore.attention(model, image[:, :, :8])
    with pytest.raises(ValueError, match="unknown class 'sock'; this model knows class 0, class 1"):
        explore.attention(model, image, label="sock")
    with pytest.raises(ValueError, match=r"images\[0\]"):
        explore.attention(model, torch.stack([image, image]))


def test_classes_go_by_name_where_they_have_one(model, image):
    model.class_names = ("a", "b", "c", "d", "e")
    view = explore.attention(model, image, label="c")
    assert view.label.value == 2
    assert view.label.options[0] == (NO_CLASS, NO_CLASS)


def test_a_moment_that_was_seen_is_not_computed_again(model, image, monkeypatch):
    view = explore.attention(model, image, t=0.5)
    calls = []
    monkeypatch.setattr(MODULE, "attention_maps", lambda *args: calls.append(args) or attention_maps(*args))
    view.block.value, view.patch.value = 0, 2
    assert not calls
    view.t.value = 0.6
    view.t.value = 0.5
    assert len(calls) == 1
