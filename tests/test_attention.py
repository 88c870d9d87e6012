"""Lesson 02: RMSNorm, attention and the MLP."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dit_course.attention import MLP, RMSNorm, SelfAttention, attention_weights, merge_heads, split_heads
from dit_course.check import stretch_solutions


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 33))
def test_rmsnorm_is_torchs(batch, tokens, width):
    norm = RMSNorm(width)
    nn.init.normal_(norm.weight)
    x = 3 * torch.randn(batch, tokens, width) + 1
    expected = F.rms_norm(x, (width,), norm.weight, eps=1e-6)
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(RMSNorm(width, scale=False)(x), F.rms_norm(x, (width,), eps=1e-6))


def test_rmsnorm_makes_the_mean_square_one():
    x = torch.tensor([[3.0, -4.0], [300.0, 400.0]])
    normed = RMSNorm(2, scale=False)(x)
    torch.testing.assert_close(normed.square().mean(dim=1), torch.ones(2))
    torch.testing.assert_close(normed[0], torch.tensor([3.0, -4.0]) / math.sqrt(12.5))


def test_rmsnorm_of_zeros_is_zero_and_has_finite_gradients():
    x = torch.zeros(2, 4, requires_grad=True)
    y = RMSNorm(4)(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(2, 4))
    assert x.grad.isfinite().all()


def test_rmsnorm_without_scale_has_nothing_to_learn():
    assert not list(RMSNorm(8, scale=False).parameters())
    assert [p.shape for p in RMSNorm(8).parameters()] == [(8,)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_rmsnorm_keeps_the_dtype_and_takes_the_mean_in_float32(dtype):
    x = torch.full((1, 8), 1000.0, dtype=dtype)  # 1000 squared is more than float16 can hold
    normed = RMSNorm(8)(x)
    assert normed.dtype == dtype
    torch.testing.assert_close(normed, torch.ones(1, 8, dtype=dtype), atol=1e-2, rtol=0)


@pytest.mark.parametrize("scale", [True, False])
def test_rmsnorm_is_the_one_built_by_hand(scale):
    torch.manual_seed(0)
    x = (3 * torch.randn(2, 5, 24) + 1).requires_grad_()
    outputs, gradients = [], []
    for kind in (RMSNorm, stretch_solutions.RMSNorm):
        norm = kind(24, scale=scale)
        if scale:
            norm.weight.data = torch.linspace(0.5, 2, 24)
        outputs.append(norm(x))
        gradients.append(torch.autograd.grad(outputs[-1].square().sum(), [x, *norm.parameters()]))
    torch.testing.assert_close(*outputs, atol=1e-6, rtol=0)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("scale", [1e-3, 1, 300])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rmsnorm_in_half_precision_is_exact_up_to_its_last_rounding(dtype, scale, autocast):
    """In its own dtype under autocast, too: float32 would be copied to and fro for nothing."""
    x = (scale * torch.randn(4, 7, 192)).to(dtype)
    exact = F.rms_norm(x.double(), (192,), eps=1e-6)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        normed, weighted = RMSNorm(192, scale=False)(x), RMSNorm(192)(x)
    assert normed.dtype == weighted.dtype == dtype
    half_a_digit = torch.finfo(dtype).eps / 2
    torch.testing.assert_close(normed.double(), exact, rtol=1.01 * half_a_digit, atol=1e-7)
    torch.testing.assert_close(weighted, normed, rtol=0, atol=0)


def slow_rmsnorm(vector, weight, eps=1e-6):
    return vector / torch.sqrt(sum(v * v for v in vector) / len(vector) + eps) * weight


def slow_attention(attention, x, qk_norm):
    """Self-attention with a loop for everything; returns outputs and weights."""
    batch, tokens, width = x.shape
    size = width // attention.heads
    w, b = attention.qkv.weight, attention.qkv.bias
    outputs = torch.zeros_like(x)
    weights = torch.zeros(batch, attention.heads, tokens, tokens, dtype=x.dtype)
    for i in range(batch):
        for h in range(attention.heads):
            part = slice(h * size, (h + 1) * size)
            q, k, v = (
                [w[s * width : (s + 1) * width][part] @ token + b[s * width : (s + 1) * width][part] for token in x[i]]
                for s in range(3)
            )
            if qk_norm:
                q = [slow_rmsnorm(token, attention.norm_q.weight) for token in q]
                k = [slow_rmsnorm(token, attention.norm_k.weight) for token in k]
            for n in range(tokens):
                logits = [torch.dot(q[n], k[m]) / math.sqrt(size) for m in range(tokens)]
                total = sum(torch.exp(logit) for logit in logits)
                for m in range(tokens):
                    weights[i, h, n, m] = torch.exp(logits[m]) / total
                    outputs[i, n, part] += weights[i, h, n, m] * v[m]
    return outputs @ attention.output.weight.T + attention.output.bias, weights


@pytest.mark.parametrize("qk_norm", [True, False])
@given(st.integers(1, 2), st.integers(1, 4), st.integers(1, 3), st.integers(1, 4))
def test_attention_is_the_slow_one(perturbed, qk_norm, batch, tokens, heads, size):
    attention = perturbed(SelfAttention(heads * size, heads, qk_norm).double(), std=0.5)
    x = torch.randn(batch, tokens, heads * size, dtype=torch.float64)
    with torch.no_grad():
        expected, weights = slow_attention(attention, x, qk_norm)
        torch.testing.assert_close(attention(x), expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(attention.attention_map(x), weights, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("batch", "tokens", "width", "heads"), [(2, 5, 12, 3), (3, 1, 8, 1), (1, 7, 16, 4)])
def test_attention_without_qk_norm_is_torchs(perturbed, batch, tokens, width, heads):
    ours = perturbed(SelfAttention(width, heads, qk_norm=False).double())
    theirs = nn.MultiheadAttention(width, heads, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.output.weight)
        theirs.out_proj.bias.copy_(ours.output.bias)
    x = torch.randn(batch, tokens, width, dtype=torch.float64)
    expected, weights = theirs(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(ours(x), expected)
    torch.testing.assert_close(ours.attention_map(x), weights)


@pytest.mark.parametrize("qk_norm", [True, False])
def test_weights_sum_to_one_and_reproduce_forward(perturbed, qk_norm):
    attention = perturbed(SelfAttention(12, 3, qk_norm).double())
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    weights = attention.attention_map(x)
    assert weights.shape == (2, 3, 5, 5)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3, 5, dtype=torch.float64))
    _, _, value = attention.project_qkv(x)
    mixed = torch.einsum("bhnm,bhmd->bnhd", weights, value).reshape(2, 5, 12)
    torch.testing.assert_close(attention.output(mixed), attention(x))


def logits(attention, x):
    query, key, _ = attention.project_qkv(x)
    return query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])


def test_qk_norm_bounds_the_logits():
    """Two vectors of length sqrt(d) have a product of at most d; divided by sqrt(d), that leaves sqrt(d)."""
    x = 1000 * torch.randn(2, 9, 24)
    assert logits(SelfAttention(24, 3, qk_norm=True), x).abs().max() <= math.sqrt(8) * 1.0001
    assert logits(SelfAttention(24, 3, qk_norm=False), x).abs().max() > 1000


def test_qk_norm_ignores_how_long_queries_and_keys_are():
    attention = SelfAttention(24, 3, qk_norm=True)
    x = torch.randn(2, 9, 24)
    torch.testing.assert_close(attention.attention_map(x), attention.attention_map(10 * x), atol=1e-4, rtol=0)


def test_qk_norm_learns_one_scale_for_each_feature_of_a_head():
    attention = SelfAttention(24, 3, qk_norm=True)
    assert attention.norm_q.weight.shape == attention.norm_k.weight.shape == (8,)
    assert attention.norm_q is not attention.norm_k


def test_attention_treats_tokens_as_a_set(perturbed):
    attention = perturbed(SelfAttention(12, 3).double())
    x, shuffle = torch.randn(2, 7, 12, dtype=torch.float64), torch.randperm(7)
    torch.testing.assert_close(attention(x)[:, shuffle], attention(x[:, shuffle]))


def test_pictures_of_a_batch_do_not_see_each_other(perturbed):
    attention = perturbed(SelfAttention(12, 3).double())
    x = torch.randn(3, 5, 12, dtype=torch.float64)
    torch.testing.assert_close(attention(x)[1:2], attention(x[1:2]))


def test_heads_must_share_the_width_evenly(one_line_error):
    with one_line_error(ValueError, "width of 10", "3 heads"):
        SelfAttention(10, 3)


def test_mlp_is_its_formula():
    mlp = MLP(3, 5).double()
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    hidden = x @ mlp.up.weight.T + mlp.up.bias
    # GELU in its tanh form, Hendrycks & Gimpel 2016
    hidden = 0.5 * hidden * (1 + torch.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
    torch.testing.assert_close(mlp(x), hidden @ mlp.down.weight.T + mlp.down.bias)


def test_mlp_treats_each_token_alone(perturbed):
    mlp = perturbed(MLP(6, 10))
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(mlp(x)[:, 3], mlp(x[:, 3]))


@given(st.integers(1, 2), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 6))
def test_attention_weights_are_a_softmax_for_each_query(batch, heads, n, m, d):
    query, key = torch.randn(batch, heads, n, d).double(), torch.randn(batch, heads, m, d).double()
    weights = attention_weights(query, key)
    for i in range(n):
        logits = torch.stack([(query[:, :, i] * key[:, :, j]).sum(-1) / math.sqrt(d) for j in range(m)], dim=-1)
        torch.testing.assert_close(weights[:, :, i], logits.exp() / logits.exp().sum(-1, keepdim=True))
    value = torch.randn(batch, heads, m, 3).double()
    torch.testing.assert_close(weights @ value, F.scaled_dot_product_attention(query, key, value))


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(1, 5))
def test_heads_get_neighbouring_features_and_give_them_back(batch, tokens, heads, size):
    x = torch.randn(batch, tokens, heads * size)
    split = split_heads(x, heads)
    assert split.shape == (batch, heads, tokens, size)
    for head in range(heads):
        assert torch.equal(split[:, head], x[:, :, head * size : (head + 1) * size])
    assert torch.equal(merge_heads(split), x)


def test_in_bfloat16_large_queries_and_keys_make_the_logits_coarse_and_qk_norm_mends_it():
    x = torch.randn(1, 16, 24)
    errors = {}
    for qk_norm in (True, False):
        attention = SelfAttention(24, 3, qk_norm)
        exact = logits(attention, 20 * x)
        errors[qk_norm] = (logits(attention.bfloat16(), (20 * x).bfloat16()).float() - exact).abs().max().item()
    assert errors[True] < 0.1 < 1 < errors[False]
