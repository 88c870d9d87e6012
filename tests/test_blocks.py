"""Lesson 03, second half: the block with adaLN-Zero, and the last layer."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dit_course.attention import RMSNorm
from dit_course.blocks import DiTBlock, FinalLayer, make_norm, zero_linear
from dit_course.dit import DiT

kinds = pytest.mark.parametrize("norm", ["rms", "layer"])


def test_make_norm_makes_norms_without_anything_to_learn(one_line_error):
    x = 3 * torch.randn(2, 5, 8) + 1
    torch.testing.assert_close(make_norm("rms", 8)(x), F.rms_norm(x, (8,), eps=1e-6))
    torch.testing.assert_close(make_norm("layer", 8)(x), F.layer_norm(x, (8,), eps=1e-6))
    assert not list(make_norm("rms", 8).parameters()) + list(make_norm("layer", 8).parameters())
    with one_line_error(ValueError, "batch", "rms", "layer"):
        make_norm("batch", 8)


def test_zero_linear_is_zero_and_learns():
    linear = zero_linear(4, 3)
    assert not linear.weight.any()
    assert not linear.bias.any()
    linear(torch.ones(2, 4)).sum().backward()
    assert linear.weight.grad.abs().min() > 0


def slow_block(block, x, condition):
    """The block of figure 3 of the DiT paper, written out; attention and norms are tested on their own."""
    condition = condition / (1 + torch.exp(-condition))  # SiLU
    modulation = condition @ block.modulation.weight.T + block.modulation.bias
    width = x.shape[-1]
    for branch, (norm, layer) in enumerate([(block.norm_1, block.attention), (block.norm_2, block.mlp)]):
        parts = modulation[:, 3 * branch * width : 3 * (branch + 1) * width]
        normed = norm(x)
        for i in range(len(x)):
            shift, scale, gate = parts[i, :width], parts[i, width : 2 * width], parts[i, 2 * width :]
            x = x.clone()
            x[i] = x[i] + gate * layer(normed[i : i + 1] * (1 + scale) + shift)[0]
    return x


@kinds
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 3), st.sampled_from([0.5, 2, 4]))
def test_block_is_the_figure_of_the_paper(perturbed, norm, batch, tokens, heads, mlp_ratio):
    width = 4 * heads
    block = perturbed(DiTBlock(width, heads, mlp_ratio, norm=norm).double())
    x = torch.randn(batch, tokens, width, dtype=torch.float64)
    condition = torch.randn(batch, width, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(block(x, condition), slow_block(block, x, condition), atol=1e-6, rtol=1e-5)


def test_order_of_the_six_modulations_is_that_of_the_official_weights():
    """shift, scale, gate of attention, then of the MLP: a bias of one thing at a time does that thing alone."""
    block = DiTBlock(4, 1).double()
    x, condition = torch.randn(1, 3, 4, dtype=torch.float64), torch.zeros(1, 4, dtype=torch.float64)
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = block.modulation.bias.data.chunk(6)  # views
    gate_1.fill_(1)
    torch.testing.assert_close(block(x, condition), x + block.attention(block.norm_1(x)))
    scale_1.fill_(-1)
    torch.testing.assert_close(block(x, condition), x + block.attention(torch.zeros_like(x)))
    shift_1.fill_(2)
    torch.testing.assert_close(block(x, condition), x + block.attention(torch.full_like(x, 2)))
    gate_1.zero_()
    gate_2.fill_(1)
    torch.testing.assert_close(block(x, condition), x + block.mlp(block.norm_2(x)))
    scale_2.fill_(-1)
    shift_2.fill_(3)
    torch.testing.assert_close(block(x, condition), x + block.mlp(torch.full_like(x, 3)))


def test_mlp_ratio_sets_the_hidden_width():
    assert DiTBlock(8, 2, mlp_ratio=4.0).mlp.up.weight.shape == (32, 8)
    assert DiTBlock(8, 2, mlp_ratio=1.5).mlp.up.weight.shape == (12, 8)


def test_qk_norm_reaches_the_attention():
    assert isinstance(DiTBlock(8, 2, qk_norm=True).attention.norm_q, RMSNorm)
    assert not isinstance(DiTBlock(8, 2, qk_norm=False).attention.norm_q, RMSNorm)


@kinds
def test_final_layer_is_its_formula(perturbed, norm):
    final = perturbed(FinalLayer(6, 5, norm).double())
    x = torch.randn(2, 4, 6, dtype=torch.float64)
    condition = torch.randn(2, 6, dtype=torch.float64)
    modulation = F.silu(condition) @ final.modulation.weight.T + final.modulation.bias
    shift, scale = modulation[:, :6], modulation[:, 6:]
    normed = F.rms_norm(x, (6,), eps=1e-6) if norm == "rms" else F.layer_norm(x, (6,), eps=1e-6)
    expected = (normed * (1 + scale[:, None]) + shift[:, None]) @ final.linear.weight.T + final.linear.bias
    torch.testing.assert_close(final(x, condition), expected, atol=1e-6, rtol=1e-5)


# Inside the whole model: a later init that undoes the zeros would go unseen in a block that is tested alone.


def watched(model, x, t, y):
    """Run the model; what went into each block and what came out."""
    seen = []
    hooks = [b.register_forward_hook(lambda _, args, out: seen.append((args[0], out))) for b in model.blocks]
    with torch.no_grad():
        model(x, t, y)
    for hook in hooks:
        hook.remove()
    assert len(seen) == len(model.blocks)
    return seen


def batch_for(model, n=3):
    classes = model.config.num_classes
    x = torch.randn(n, model.config.channels, *model.config.image_shape)
    return x, torch.rand(n), None if classes is None else torch.randint(classes, (n,))


variants = pytest.mark.parametrize(
    "changes",
    [{}, {"norm": "layer"}, {"qk_norm": False}, {"num_classes": None}, {"registers": 0}, {"out_channels": 6}],
    ids=str,
)


@variants
def test_each_block_of_a_new_model_is_the_identity(small_config, changes):
    model = DiT(small_config(depth=3, **changes))
    for before, after in watched(model, *batch_for(model)):
        assert before.abs().max() > 0.1
        assert torch.equal(before, after)


@variants
def test_no_block_of_a_perturbed_model_is_the_identity(small_config, perturbed, changes):
    model = perturbed(DiT(small_config(depth=3, **changes)))
    for before, after in watched(model, *batch_for(model)):
        assert ((after - before).abs().amax(dim=-1) > 0.01).all(), "some token passed through unchanged"


@variants
def test_a_new_model_answers_zero(small_config, changes):
    model = DiT(small_config(**changes))
    assert not model(*batch_for(model)).any()


def test_gates_open_in_the_first_steps_of_training(small_config):
    """Zeros that could never leave zero would be no beginning."""
    model = DiT(small_config(label_dropout=0.0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, t, y = batch_for(model)
    for _ in range(3):
        optimizer.zero_grad()
        (model(x, t, y) - torch.randn_like(x)).square().sum().backward()
        optimizer.step()
    for before, after in watched(model, x, t, y):
        assert not torch.equal(before, after)
