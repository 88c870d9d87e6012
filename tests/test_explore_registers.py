"""The sliders of lesson 04: the numbers are the network's own, and every move draws again."""

import pytest
import torch
from canvas_pixels import shown

from dit_course import explore
from dit_course.dit import DiT
from dit_course.explore.registers import STEPS, look_inside, states


@pytest.fixture
def model(small_config, perturbed):
    """A small network with weights, on 8x12 pictures, with two registers."""
    torch.manual_seed(0)
    return perturbed(DiT(small_config()), 0.2, 1)


def inputs(model, n=3):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, model.config.channels, *model.config.image_shape, generator=generator)
    return x, torch.rand(n, generator=generator), torch.arange(n)


def test_the_tokens_are_those_that_the_network_works_on(model):
    model.eval()
    x, t, y = inputs(model)
    inside = look_inside(model, x, t, y)
    seen = []
    hooks = [block.register_forward_hook(lambda _, __, out: seen.append(out.detach())) for block in model.blocks]
    with torch.no_grad():
        model(x, t, y)
        assert torch.equal(inside.tokens[0], model.embed(x))
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(inside.tokens[1:], torch.stack(seen))
    assert inside.norms.shape == (3, 3, 8)
    torch.testing.assert_close(inside.norms, inside.tokens.square().sum(-1).sqrt())


def test_to_registers_is_the_attention_of_patches_to_registers(model):
    model.eval()
    x, t, y = inputs(model)
    looks = look_inside(model, x, t, y).to_registers
    weights = []
    hooks = [
        block.attention.register_forward_pre_hook(lambda module, args: weights.append(module.attention_map(args[0])))
        for block in model.blocks
    ]
    with torch.no_grad():
        model(x, t, y)
    for hook in hooks:
        hook.remove()
    expected = torch.stack(weights).mean(dim=2)[
        :, :, :6, 6:
    ]  # (depth, b, heads, n, n) -> (depth, b, patches, registers)
    assert looks.shape == (2, 3, 6, 2)
    torch.testing.assert_close(looks, expected)


def test_a_network_without_classes(small_config, perturbed):
    model = perturbed(DiT(small_config(num_classes=None)), 0.2, 1)
    view = explore.registers(model, t=0.0)
    assert view.label.options == (("none", None),)
    assert view.status.startswith("t = 0.00, after block 1")
    with pytest.raises(ValueError, match="no classes: leave the label out"):
        explore.registers(model, label=1)


def test_states_lead_from_noise_to_the_sample(model):
    from dit_course.sampling import Sampler

    seen = states(model, 2, seed=5)
    assert len(seen) == STEPS + 1
    drawn = Sampler(model, steps=STEPS, cfg=1).sample(1, 2, seed=5)
    torch.testing.assert_close(((seen[-1] + 1) / 2).clamp(0, 1), drawn)
    noise = torch.randn(3, 8, 12, generator=torch.Generator().manual_seed(5))
    assert torch.equal(seen[0][0], noise)


def test_it_says_what_is_shown_and_every_move_draws_again(model):
    view = explore.registers(model, label=3, block=1, t=0.5)
    assert "t = 0.50, class 3, after block 1" in view.status
    seen = [shown(view).tobytes()]
    for control, value in ((view.block, 2), (view.t, 0.0), (view.label, 1), (view.block, 0)):
        control.value = value
        seen.append(shown(view).tobytes())
    assert len(set(seen)) == len(seen)
    assert "t = 0.00, class 1, before the first block" in view.status
    assert "attention" not in view.status
    assert view.canvas.alt == [view.picture.alt]
    view.block.value, view.t.value, view.label.value = 1, 0.5, 3
    assert shown(view).tobytes() == seen[0]


def test_the_numbers_on_show_are_those_of_the_network(model):
    view = explore.registers(model, label=3, block=2, t=0.25, seed=4)
    x = states(model, 3, seed=4)[15]
    model.eval()
    inside = look_inside(model, x, torch.tensor([0.25]), torch.tensor([3]))
    last = ", ".join(f"{value:.1f}" for value in inside.norms[2, 0, 6:])
    assert (
        f"registers {last}; they get {inside.to_registers[1, 0].sum(1).mean():.0%} of the attention" in view.picture.alt
    )
    assert "(an even share is 25.0%)" in view.picture.alt  # 2 of 8 tokens


def test_looking_leaves_the_network_as_it_was(model):
    model.train()
    explore.registers(model)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"block": 3}, "block = 3, but the slider goes from 0 to 2"),
        ({"t": 1.5}, "t = 1.5, but times lie in"),
        ({"label": "boot"}, "unknown class 'boot'; this model knows class 0, class 1"),
        ({"label": 5}, "unknown class 5"),
    ],
)
def test_wrong_places_are_named(model, wrong, problem):
    with pytest.raises(ValueError, match=problem):
        explore.registers(model, **wrong)


def test_a_network_without_registers_has_nothing_to_show(small_config):
    with pytest.raises(ValueError, match="no registers to look at"):
        explore.registers(DiT(small_config(registers=0)))


@pytest.mark.parametrize("registers", [1, 9])
def test_other_numbers_of_registers(small_config, registers):
    view = explore.registers(DiT(small_config(registers=registers)), block=2)
    assert f"an even share is {registers / (6 + registers):.1%}" in view.picture.alt


def test_names_of_classes_are_those_of_the_model(model):
    model.class_names = ("a", "b", "c", "d", "e")
    view = explore.registers(model, label="d")
    assert view.label.value == 3
    assert "t = 0.50, d, after block 1" in view.picture.alt
