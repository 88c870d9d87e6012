"""Lesson 05: the path from data to noise, and the loss."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from dit_course.dit import DiT, DiTConfig
from dit_course.flow import (
    RectifiedFlow,
    data_from_velocity,
    interpolate,
    logit_normal,
    noise_from_velocity,
    per_image,
    step,
    uniform,
    velocity_target,
)

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


def path(shape):
    """Data, noise and times for a batch, in float64."""
    return (
        torch.randn(shape, dtype=torch.float64),
        torch.randn(shape, dtype=torch.float64),
        torch.rand(shape[0], dtype=torch.float64),
    )


@given(shapes)
def test_time_zero_is_data_and_time_one_is_noise(shape):
    x, noise, _ = path(shape)
    assert torch.equal(interpolate(x, noise, torch.zeros(shape[0])), x)
    assert torch.equal(interpolate(x, noise, torch.ones(shape[0])), noise)


def test_each_picture_has_a_time_of_its_own():
    x, noise = torch.zeros(3, 2, 2, 2), torch.ones(3, 2, 2, 2)
    x_t = interpolate(x, noise, torch.tensor([0.0, 0.25, 1.0]))
    assert x_t.flatten(1).unique(dim=1).tolist() == [[0.0], [0.25], [1.0]]


@given(st.integers(1, 20))
def test_velocity_is_the_derivative_of_interpolate(n):
    """By autograd: n pictures of one pixel each, so that the gradient of the sum holds every derivative."""
    x, noise, t = path((n,))
    t.requires_grad_()
    interpolate(x, noise, t).sum().backward()
    torch.testing.assert_close(t.grad, velocity_target(x, noise))


@given(shapes)
def test_a_velocity_knows_both_ends_of_its_path(shape):
    x, noise, t = path(shape)
    x_t, velocity = interpolate(x, noise, t), velocity_target(x, noise)
    torch.testing.assert_close(data_from_velocity(x_t, velocity, t), x)
    torch.testing.assert_close(noise_from_velocity(x_t, velocity, t), noise)


@given(shapes)
def test_step_follows_the_path(shape):
    """The step of the solvers agrees with the interpolation of the loss: from any time to any other."""
    x, noise, t = path(shape)
    t_next = torch.rand(shape[0], dtype=torch.float64)
    stepped = step(interpolate(x, noise, t), velocity_target(x, noise), t, t_next)
    torch.testing.assert_close(stepped, interpolate(x, noise, t_next))
    to_data = step(interpolate(x, noise, t), velocity_target(x, noise), t, torch.zeros_like(t))
    torch.testing.assert_close(to_data, x)


def test_one_time_may_serve_the_whole_batch():
    x, noise, _ = path((3, 2, 4))
    expected = interpolate(x, noise, torch.full((3,), 0.3))
    torch.testing.assert_close(interpolate(x, noise, torch.tensor(0.3)), expected)
    torch.testing.assert_close(interpolate(x, noise, 0.3), expected, atol=1e-7, rtol=0)


def test_per_image_keeps_the_dtype_of_the_pictures():
    x = torch.zeros(3, 2, 4, dtype=torch.float64)
    assert per_image(torch.rand(3), x).shape == (3, 1, 1)
    assert per_image(torch.rand(3), x).dtype == torch.float64
    assert per_image(torch.tensor(0.5), x).shape == ()


# timesteps


def source(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.5, 0.6), (-1.0, 2.0)])
def test_logit_normal_is_normal_after_the_logit(mean, std):
    t = logit_normal(20_000, source(), mean=mean, std=std).double()
    assert ((t > 0) & (t < 1)).all()
    assert stats.kstest(torch.logit(t).numpy(), stats.norm(mean, std).cdf).pvalue > 0.01
    # and the test can tell
    assert stats.kstest(torch.logit(t).numpy(), stats.norm(mean + 0.05 * std, std).cdf).pvalue < 0.01


def test_logit_normal_hardly_visits_the_noise():
    """P(t > 0.98) = 5e-5 at mean 0 and std 1."""
    chance = stats.norm.sf(math.log(0.98 / 0.02))
    assert chance == pytest.approx(5e-5, rel=0.02)
    low, high = stats.binom.interval(1 - 1e-6, 2_000_000, chance)
    assert low <= int((logit_normal(2_000_000, source()) > 0.98).sum()) <= high


def test_uniform_is_uniform():
    t = uniform(20_000, source()).numpy()
    assert stats.kstest(t, stats.uniform.cdf).pvalue > 0.01
    assert stats.kstest(t * 0.97, stats.uniform.cdf).pvalue < 0.01


@pytest.mark.parametrize("name", ["uniform", "logit_normal"])
def test_timesteps_by_name(name):
    function = {"uniform": uniform, "logit_normal": logit_normal}[name]
    t = RectifiedFlow(name).timesteps(7, source())
    assert torch.equal(t, function(7, source()))
    assert not torch.equal(t, function(7, source(1)))
    torch.manual_seed(3)
    expected = function(7)
    torch.manual_seed(3)
    assert torch.equal(RectifiedFlow(name).timesteps(7), expected)


def test_timesteps_are_logit_normal_unless_told():
    assert torch.equal(RectifiedFlow().timesteps(9, source()), logit_normal(9, source()))


def test_timesteps_by_a_function_of_ones_own():
    calls, seen = [], []

    def all_in_the_middle(n, generator):
        calls.append((n, generator))
        return torch.full((n,), 0.5)

    generator = source()
    RectifiedFlow(all_in_the_middle).loss(lambda x_t, t: seen.append(t) or x_t, torch.zeros(3, 2), generator=generator)
    assert calls == [(3, generator)]
    assert seen[0].tolist() == [0.5] * 3


@pytest.mark.parametrize("timesteps", ["cosine", "", None, 3])
def test_unknown_timesteps_are_refused(timesteps, one_line_error):
    with one_line_error(ValueError, repr(timesteps), "uniform", "logit_normal"):
        RectifiedFlow(timesteps)


@pytest.mark.parametrize("shape", [(2,), (3, 1)])
def test_times_of_another_shape_are_named(shape, one_line_error):
    with one_line_error(ValueError, str(shape), "(3,)"):
        RectifiedFlow(lambda n, generator: torch.rand(shape)).loss(lambda x_t, t: x_t, torch.zeros(3, 2, 4))


# the loss


def test_loss_of_a_new_model_is_one_plus_the_mean_square_of_the_data():
    model = DiT(DiTConfig(width=24, heads=3, depth=1))
    x = torch.empty(64, 3, 32, 32).uniform_(-1, 0.6)
    loss = RectifiedFlow().loss(model, x, torch.randint(10, (64,)))
    spread = (2 + 4 * x.square().mean()).sqrt() / math.sqrt(x.numel())  # of (noise - x)^2, over its mean
    assert abs(loss - (1 + x.square().mean())) < 4 * spread


def test_loss_is_its_definition():
    x = torch.randn(3, 2, 4, 5)
    t = torch.tensor([0.1, 0.5, 0.9])
    seen = {}

    def model(x_t, t, y):
        seen.update(x_t=x_t, t=t, y=y)
        return torch.sin(x_t)

    y = torch.tensor([2, 0, 1])
    loss = RectifiedFlow(lambda n, generator: t).loss(model, x, y, source(4))
    noise = torch.randn(x.shape, generator=source(4))
    total = 0.0
    for i in range(3):
        x_t = (1 - t[i]) * x[i] + t[i] * noise[i]
        torch.testing.assert_close(seen["x_t"][i], x_t)
        total += ((torch.sin(x_t) - (noise[i] - x[i])) ** 2).mean() / 3
    assert torch.equal(seen["t"], t)
    assert torch.equal(seen["y"], y)
    torch.testing.assert_close(loss, total)


class OnePoint:
    """The exact velocity when all data is one picture: (x_t - x) / t."""

    def __init__(self, x):
        self.x = x

    def __call__(self, x_t, t, y=None):
        return (x_t - self.x) / t.reshape(-1, 1, 1, 1)


def test_exact_velocity_of_one_picture_has_no_loss():
    picture = torch.randn(3, 4, 6, dtype=torch.float64)
    loss = RectifiedFlow().loss(OnePoint(picture), picture.expand(50, -1, -1, -1))
    assert loss < 1e-20


@pytest.mark.parametrize("s", [0.2, 0.5, 1.0])
def test_exact_velocity_of_a_gaussian_has_the_smallest_loss_there_is(s):
    """For data of std s the best velocity leaves s^2 / ((1 - t)^2 s^2 + t^2): over all t an area of s pi / 2."""

    def exact(x_t, t):
        t = t.reshape(-1, 1, 1, 1)
        return (t - (1 - t) * s**2) / ((1 - t) ** 2 * s**2 + t**2) * x_t

    generator = source(2)
    x = s * torch.randn(20_000, 1, 2, 2, generator=generator, dtype=torch.float64)
    loss = RectifiedFlow("uniform").loss(exact, x, generator=generator)
    assert loss.item() == pytest.approx(s * math.pi / 2, rel=0.03)
    worse = RectifiedFlow("uniform").loss(lambda x_t, t: 1.5 * exact(x_t, t), x, generator=generator)
    assert worse > 1.04 * loss


@pytest.mark.parametrize(
    "changes", [{}, {"num_classes": None}, {"registers": 0, "norm": "layer", "qk_norm": False}], ids=str
)
def test_gradient_of_the_loss_reaches_every_parameter(small_config, perturbed, changes):
    model = perturbed(DiT(small_config(**changes))).train()
    y = None if model.label_embed is None else torch.arange(20) % 6
    RectifiedFlow().loss(model, torch.rand(20, 3, 8, 12) * 2 - 1, y).backward()
    for name, parameter in model.named_parameters():
        assert parameter.numel() == 0 or (parameter.grad is not None and parameter.grad.abs().max() > 0), name


def test_gradient_of_the_loss_is_the_slope_of_the_loss(small_dit):
    model = small_dit()
    x, y = torch.randn(2, 3, 8, 12, dtype=torch.float64), torch.tensor([1, 3])

    def loss():
        return RectifiedFlow().loss(model, x, y, source(5), reduction="none").mean()

    loss().backward()
    bias = model.blocks[0].mlp.up.bias
    slope = bias.grad.sum()
    with torch.no_grad():
        bias += 0.01
        above = loss()
        bias -= 0.02
        below = loss()
    torch.testing.assert_close(((above - below) / 0.02).double(), slope, rtol=1e-2, atol=1e-4)


def test_loss_of_each_picture():
    x = torch.randn(4, 1, 3, 5)
    each = RectifiedFlow().loss(lambda x_t, t: x_t, x, generator=source(), reduction="none")
    assert each.shape == (4,)
    torch.testing.assert_close(each.mean(), RectifiedFlow().loss(lambda x_t, t: x_t, x, generator=source()))
    assert each.std() > 0


def test_a_generator_makes_the_loss_repeatable(small_dit):
    model = small_dit()
    x, y = torch.randn(2, 3, 8, 12, dtype=torch.float64), torch.tensor([1, 3])
    state = torch.get_rng_state()
    first = RectifiedFlow().loss(model, x, y, source())
    assert torch.equal(torch.get_rng_state(), state), "torch's own generator was used"
    assert torch.equal(RectifiedFlow().loss(model, x, y, source()), first)
    assert not torch.equal(RectifiedFlow().loss(model, x, y, source(1)), first)
    assert not torch.equal(RectifiedFlow().loss(model, x, y), RectifiedFlow().loss(model, x, y))


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))
def test_an_unconditional_model_on_pictures_of_any_shape(batch, channels, rows, columns):
    config = DiTConfig(
        image_size=(2 * rows, 2 * columns), patch_size=2, channels=channels, width=8, depth=1, heads=2, num_classes=None
    )
    loss = RectifiedFlow().loss(DiT(config), torch.zeros(batch, channels, 2 * rows, 2 * columns))
    assert loss.shape == ()
    assert loss > 0


def test_loss_is_summed_in_float32_when_the_model_predicts_in_less():
    x = torch.randn(2, 1, 4, 4)
    loss = RectifiedFlow().loss(lambda x_t, t: nn.Identity()(x_t).bfloat16(), x, generator=source())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, RectifiedFlow().loss(lambda x_t, t: x_t, x, generator=source()), rtol=0.02, atol=0)


def test_bytes_and_unknown_reductions_are_refused(one_line_error):
    with one_line_error(TypeError, "uint8", "127.5"):
        RectifiedFlow().loss(lambda x_t, t: x_t, torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    with one_line_error(ValueError, "sum", "mean", "none"):
        RectifiedFlow().loss(lambda x_t, t: x_t, torch.zeros(2, 1, 4, 4), reduction="sum")


def test_a_model_that_predicts_another_shape_is_refused(one_line_error):
    """With one channel the difference would broadcast, and train on nonsense."""
    model = DiT(DiTConfig(image_size=8, channels=1, out_channels=2, width=8, depth=1, heads=2, num_classes=None))
    with one_line_error(ValueError, "(2, 2, 8, 8)", "(2, 1, 8, 8)"):
        RectifiedFlow().loss(model, torch.zeros(2, 1, 8, 8))
