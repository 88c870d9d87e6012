"""Lesson 03, first half: the time and the class as a vector."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dit_course.conditioning import LabelEmbedder, TimestepEmbedder, modulate


def test_modulate_scales_by_one_plus_scale_and_shifts_every_token():
    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    shift = torch.tensor([[[10.0, 20.0]], [[0.0, 0.0]]])
    scale = torch.tensor([[[0.0, 1.0]], [[-1.0, 0.5]]])
    expected = [[[11.0, 24.0], [13.0, 28.0]], [[0.0, 9.0], [0.0, 12.0]]]
    assert modulate(x, shift, scale).tolist() == expected


def test_zero_shift_and_zero_scale_change_nothing():
    x = torch.randn(2, 3, 4)
    assert torch.equal(modulate(x, torch.zeros(2, 1, 4), torch.zeros(2, 1, 4)), x)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=4), st.sampled_from([2, 8, 256]))
def test_sinusoids_follow_the_formula(times, frequencies):
    """cos and sin of 1000 t w, w = 10000^(-k / half): the factor 1000 is part of the course's convention."""
    features = TimestepEmbedder(4, frequencies).sinusoids(torch.tensor(times))
    half = frequencies // 2
    angles = [[1000 * t * 10000 ** (-k / half) for k in range(half)] for t in times]
    expected = [[math.cos(a) for a in row] + [math.sin(a) for a in row] for row in angles]
    torch.testing.assert_close(features, torch.tensor(expected), atol=3e-4, rtol=0)


def test_time_zero_is_cosines_of_one_and_sines_of_zero():
    features = TimestepEmbedder(4).sinusoids(torch.zeros(1))
    assert torch.equal(features, torch.cat([torch.ones(1, 128), torch.zeros(1, 128)], dim=1))


def test_factor_1000_keeps_the_frequencies_busy():
    """How many principal components hold 99.9 % of the variance over t in [0, 1]: 96, and 2 without the factor."""

    def components(t):
        features = TimestepEmbedder(4).sinusoids(t).double()
        variances = torch.linalg.svdvals(features - features.mean(dim=0)).square()
        return int((variances.cumsum(0) / variances.sum() < 0.999).sum()) + 1

    t = torch.linspace(0, 1, 2001)
    assert 95 <= components(t) <= 97
    assert components(t / 1000) == 2


def test_timestep_embedder_is_its_formula(perturbed):
    embedder = perturbed(TimestepEmbedder(6).double())
    t = torch.rand(5, dtype=torch.float64)
    hidden = embedder.sinusoids(t).double() @ embedder.input.weight.T + embedder.input.bias
    hidden = hidden / (1 + torch.exp(-hidden))  # SiLU
    expected = hidden @ embedder.output.weight.T + embedder.output.bias
    torch.testing.assert_close(embedder(t), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_sinusoids_are_taken_in_float32_whatever_the_weights_are(dtype):
    """1000 t in bfloat16 would be off by up to 2 in angle."""
    embedder, t = TimestepEmbedder(6), torch.rand(50)
    exact = embedder.sinusoids(t)
    # in bfloat16 the frequencies themselves are rounded: only what they are multiplied with is tested
    embedder.input.to(dtype)
    embedder.output.to(dtype)
    assert torch.equal(embedder.sinusoids(t), exact)
    assert embedder(t).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_times_of_another_dtype_are_multiplied_in_float32(dtype):
    embedder, t = TimestepEmbedder(6), torch.rand(50).to(dtype)
    assert torch.equal(embedder.sinusoids(t), embedder.sinusoids(t.float()))


def test_odd_numbers_of_sinusoids_are_refused(one_line_error):
    with one_line_error(ValueError, "7 sinusoids", "even"):
        TimestepEmbedder(4, frequencies=7)


def test_label_embedder_looks_up_its_table():
    embedder = LabelEmbedder(5, 4).eval()
    labels = torch.tensor([3, 0, 5, 3])
    assert embedder.table.weight.shape == (6, 4)
    assert torch.equal(embedder(labels), embedder.table.weight[labels])
    assert torch.equal(embedder(labels), F.one_hot(labels, 6).float() @ embedder.table.weight)


def dropped(embedder, n):
    """How many of n labels 0 came out as "no label"."""
    with torch.no_grad():
        embedder.table.weight.zero_()
        embedder.table.weight[embedder.num_classes] = 1
        return int(embedder(torch.zeros(n, dtype=torch.int64))[:, 0].sum())


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_labels_are_dropped_at_the_rate_asked_for(rate):
    embedder = LabelEmbedder(5, 2, rate).train()
    n = 20_000
    low, high = stats.binom.interval(1 - 1e-6, n, rate)
    assert low <= dropped(embedder, n) <= high


def test_labels_are_dropped_one_by_one():
    """Not the whole batch at once: over many batches of 10 the share varies as independent draws do."""
    embedder = LabelEmbedder(5, 2, 0.5).train()
    counts = torch.tensor([dropped(embedder, 10) for _ in range(500)], dtype=torch.float64)
    assert 1.9 < counts.var() < 3.2  # 10 * 0.5 * 0.5 = 2.5


def test_no_label_is_dropped_outside_training_or_at_rate_zero():
    assert dropped(LabelEmbedder(5, 2, 1.0).eval(), 1000) == 0
    assert dropped(LabelEmbedder(5, 2, 0.0).train(), 1000) == 0


def test_every_label_is_dropped_at_rate_one():
    assert dropped(LabelEmbedder(5, 2, 1.0).train(), 1000) == 1000


def test_dropping_leaves_the_callers_labels_alone():
    labels = torch.zeros(100, dtype=torch.int64)
    LabelEmbedder(5, 2, 0.5).train()(labels)
    assert torch.equal(labels, torch.zeros(100, dtype=torch.int64))


@pytest.mark.parametrize("labels", [[0, 6], [-1, 2], [10**6]])
def test_labels_out_of_range_are_named(labels, one_line_error):
    with one_line_error(ValueError, min(labels), max(labels), "0 to 4", "no label"):
        LabelEmbedder(5, 4)(torch.tensor(labels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.uint8, torch.bool])
def test_labels_of_another_dtype_are_refused(dtype, one_line_error):
    with one_line_error(TypeError, "int64", dtype):
        LabelEmbedder(5, 4)(torch.zeros(3, dtype=dtype))


def test_an_empty_batch_of_labels_is_fine():
    assert LabelEmbedder(5, 4)(torch.zeros(0, dtype=torch.int64)).shape == (0, 4)
