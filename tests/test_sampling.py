"""Lesson 08: solvers, guidance and the Sampler."""

import functools
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dit_course.dit import DiT
from dit_course.ema import EMA
from dit_course.flow import RectifiedFlow, interpolate
from dit_course.sampling import SOLVERS, Sampler, ab2, class_grid, euler, guidance_scale, guided, heun

solvers = pytest.mark.parametrize("solver", [euler, heun, ab2])
uneven = st.lists(st.floats(0.05, 0.95), max_size=8, unique_by=lambda t: round(t, 2)).map(
    lambda middle: torch.tensor([1.0, *sorted(middle, reverse=True), 0.0], dtype=torch.float64)
)


def grid(steps):
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64)


def column(t, x):
    return t.reshape(-1, *[1] * (x.ndim - 1))


class OnePoint:
    """The exact velocity when all data is one point: (x_t - x) / t, on the path from `noise` to it.

    At t = 0 that is 0 / 0. The path is straight, so its velocity there is the one it had before: noise - x.
    """

    def __init__(self, point, noise):
        self.point, self.noise = point, noise
        self.evaluations = 0

    def __call__(self, x_t, t):
        self.evaluations += 1
        t = column(t, x_t)
        return torch.where(t > 0, (x_t - self.point) / t, self.noise - self.point)


@solvers
@given(uneven)
def test_exact_velocity_of_one_point_leads_to_that_point(solver, ts):
    point, noise = torch.randn(2, 3, 2, 4, 5, dtype=torch.float64)
    states = []
    end = solver(OnePoint(point, noise), noise, ts, lambda index, t, x: states.append((t, x)))
    torch.testing.assert_close(end, point, atol=1e-10, rtol=0)
    for t, x in states:
        torch.testing.assert_close(
            x, interpolate(point, noise, torch.tensor(t, dtype=torch.float64)), atol=1e-10, rtol=0
        )


@solvers
def test_one_step_is_enough_for_one_point(solver):
    point, noise = torch.randn(2, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(solver(OnePoint(point, noise), noise, grid(1)), point)


@solvers
@given(uneven)
def test_a_constant_field_is_exact(solver, ts):
    noise, speed = torch.randn(2, 3, 2, 4, dtype=torch.float64)
    end = solver(lambda x, t: speed, noise, ts)
    torch.testing.assert_close(end, noise - speed, atol=1e-12, rtol=0)


@given(uneven, st.floats(-3, 3), st.floats(-3, 3))
def test_second_order_is_exact_when_the_velocity_grows_evenly(ts, a, b):
    """v = a + b t has the integral a t + b t^2 / 2. AB2 is right from its second step on, also with uneven steps."""
    noise = torch.randn(2, 3, dtype=torch.float64)

    def velocity(x, t):
        return (a + b * column(t, x)).expand_as(x)

    torch.testing.assert_close(heun(velocity, noise, ts), noise - a - b / 2, atol=1e-12, rtol=0)
    states = []
    ab2(velocity, noise, ts, lambda index, t, x: states.append((t, x)))
    (t_1, x_1), (t_2, x_2) = states[1], states[-1]
    torch.testing.assert_close(x_1, noise + (t_1 - 1) * (a + b), atol=1e-12, rtol=0)  # Euler's
    expected = x_1 + a * (t_2 - t_1) + b * (t_2**2 - t_1**2) / 2
    torch.testing.assert_close(x_2, expected, atol=1e-9, rtol=0)


def waves(x, t):
    """Some velocity that depends on both."""
    return torch.sin(3 * x) + column(t, x) ** 2


def test_ab2_with_equal_steps_is_the_formula_of_the_textbook():
    """v_mid = 1.5 v_k - 0.5 v_(k-1), and Euler's step first."""
    x = torch.randn(2, 3, dtype=torch.float64)
    end, past, h = ab2(waves, x, grid(5)), None, 0.2
    for k in range(5):
        here = waves(x, torch.full((2,), 1 - k * h, dtype=torch.float64))
        x = x - h * (here if past is None else 1.5 * here - 0.5 * past)
        past = here
    torch.testing.assert_close(end, x)


def test_heun_is_the_trapezoidal_rule():
    x = torch.randn(2, 3, dtype=torch.float64)
    end, h = heun(waves, x, grid(4)), 0.25
    for k in range(4):
        t, t_next = (torch.full((2,), 1 - n * h, dtype=torch.float64) for n in (k, k + 1))
        here = waves(x, t)
        x = x - h * (here + waves(x - h * here, t_next)) / 2
    torch.testing.assert_close(end, x)


class Gaussian:
    """The exact velocity when the data is normal with std s; noise z ends at s z."""

    def __init__(self, s):
        self.s = s

    def __call__(self, x, t):
        t = column(t, x)
        return (t - (1 - t) * self.s**2) / ((1 - t) ** 2 * self.s**2 + t**2) * x


def final_std(solver, s, ts):
    """The velocity is linear in x: where 1 ends is the std of all samples."""
    return solver(Gaussian(s), torch.ones(1, dtype=torch.float64), ts).item()


def alternating(steps):
    """Steps of sizes 3 : 1 : 3 : 1 ..., where AB2 with the coefficients of equal steps is of first order only."""
    sizes = torch.tensor([3.0, 1.0], dtype=torch.float64).repeat(steps // 2)
    return torch.cat([torch.ones(1, dtype=torch.float64), 1 - sizes.cumsum(0) / sizes.sum()])


@pytest.mark.parametrize("make_ts", [grid, alternating])
@pytest.mark.parametrize("s", [0.5, 0.2, 2.0])
@pytest.mark.parametrize(("solver", "order"), [(euler, 1), (heun, 2), (ab2, 2)])
def test_order_of_convergence(solver, order, s, make_ts):
    steps = [200, 400, 800, 1600]
    errors = [abs(final_std(solver, s, make_ts(n)) - s) for n in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.12)


@pytest.mark.parametrize(
    ("solver", "s", "expected"), [(euler, 0.5, 0.4712), (ab2, 0.5, 0.4988), (euler, 0.1, 0.0835), (ab2, 0.1, 0.0950)]
)
def test_final_std_after_25_steps_is_the_known_one(solver, s, expected):
    assert final_std(solver, s, grid(25)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("s", "ending_as_euler", "ours"), [(0.5, 0.4938, 0.5013), (0.1, 0.0769, 0.1060)])
def test_heun_with_half_the_steps(s, ending_as_euler, ours):
    """12 steps cost 24 evaluations. Ended by Euler's step, as Karras et al. must, it is the worse one."""
    ts = grid(12)
    almost = heun(Gaussian(s), torch.ones(1, dtype=torch.float64), ts[:-1])
    assert euler(Gaussian(s), almost, ts[-2:]).item() == pytest.approx(ending_as_euler, abs=1e-4)
    assert final_std(heun, s, ts) == pytest.approx(ours, abs=1e-4)


@pytest.mark.parametrize(("solver", "evaluations"), [(euler, 7), (heun, 14), (ab2, 7)])
def test_cost_of_a_step(solver, evaluations):
    noise = torch.randn(3, 2)
    velocity = OnePoint(torch.zeros(3, 2), noise)
    solver(velocity, noise, torch.linspace(1, 0, 8))
    assert velocity.evaluations == evaluations


@solvers
def test_velocity_is_called_with_one_time_for_each_picture(solver):
    seen = []

    def velocity(x, t):
        seen.append((t.shape, t.dtype, t.unique().numel()))
        return x

    solver(velocity, torch.randn(3, 2, 2, dtype=torch.float64), torch.linspace(1, 0, 4))
    assert set(seen) == {((3,), torch.float64, 1)}


@solvers
def test_callback_sees_every_state_and_its_time(solver):
    seen = []
    noise = torch.randn(2, 3)
    ts = torch.tensor([1.0, 0.7, 0.2, 0.0])
    before = noise.clone()
    end = solver(Gaussian(0.5), noise, ts, lambda index, t, x: seen.append((index, t, x)))
    assert [index for index, _, _ in seen] == [0, 1, 2, 3]
    assert [t for _, t, _ in seen] == ts.tolist()
    assert all(type(t) is float for _, t, _ in seen)
    assert torch.equal(seen[0][2], noise)
    assert torch.equal(seen[-1][2], end)
    assert torch.equal(noise, before), "the noise was changed in place"


@solvers
def test_states_are_not_overwritten_later(solver):
    """A film of the trajectory keeps references, not copies."""
    states, copies = [], []

    def callback(index, t, x):
        states.append(x)
        copies.append(x.clone())

    solver(Gaussian(0.5), torch.randn(2, 3), grid(4), callback)
    assert all(torch.equal(a, b) for a, b in zip(states, copies, strict=True))


@solvers
@pytest.mark.parametrize("ts", [torch.tensor(1.0), torch.tensor([1.0]), torch.zeros(2, 2), torch.zeros(0)])
def test_times_that_are_no_row_are_refused(solver, ts, one_line_error):
    with one_line_error(ValueError, "ts", tuple(ts.shape), "linspace(1, 0"):
        solver(Gaussian(0.5), torch.zeros(1, 2), ts)


# guidance


class Counting(nn.Module):
    """A model that predicts by a formula and remembers its calls; 3 classes."""

    def __init__(self, num_classes=3, shape=(1, 2, 3)):
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.config = SimpleNamespace(num_classes=num_classes, channels=shape[0], image_shape=shape[1:])
        self.calls = []

    def forward(self, x, t, y=None):
        self.calls.append((len(x), None if y is None else y.tolist()))
        label = 0 if y is None else column((y + 1.0) ** 2, x)
        return self.weight * (torch.sin(x) * label + column(t, x))

    @property
    def evaluated(self):
        return [size for size, _ in self.calls]


def inputs(n=4):
    x = torch.randn(n, 1, 2, 3, dtype=torch.float64)
    return x, torch.linspace(0.1, 0.9, n, dtype=torch.float64), torch.arange(n) % 3


def test_guidance_1_is_the_conditional_velocity_and_0_the_unconditional_one_for_one_pass():
    for cfg, labels in ((1.0, inputs()[2]), (0.0, torch.full((4,), 3))):
        model, (x, t, y) = Counting(), inputs()
        assert torch.equal(guided(model, y, cfg)(x, t), model(x, t, labels))
        assert model.calls[0] == (4, labels.tolist())
        assert len(model.calls) == 2  # ours and the test's own


@pytest.mark.parametrize("cfg", [0.5, 1.5, 2, 7.5])
def test_guidance_extrapolates_from_no_label_through_the_label(cfg):
    model, (x, t, y) = Counting(), inputs()
    velocity = guided(model, y, cfg)(x, t)
    assert model.calls == [(8, [*y.tolist(), 3, 3, 3, 3])]  # both in one batch
    with_label, without = model(x, t, y), model(x, t, torch.full((4,), 3))
    torch.testing.assert_close(velocity, (1 - cfg) * without + cfg * with_label)


@pytest.mark.parametrize("cfg", [0.0, 3.0])
def test_guidance_interval_is_honoured_for_each_time_of_a_batch(cfg):
    model, (x, t, y) = Counting(), inputs(5)
    t = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    velocity = guided(model, y, cfg, interval=(0.3, 0.7))(x, t)
    with_label, without = model(x, t, y), model(x, t, torch.full((5,), 3))
    for i, inside in enumerate([False, True, True, True, False]):
        expected = without[i] + cfg * (with_label[i] - without[i]) if inside else with_label[i]
        torch.testing.assert_close(velocity[i], expected)


@pytest.mark.parametrize(
    ("cfg", "time", "cost"),
    [(3.0, 0.5, 8), (3.0, 0.1, 4), (3.0, 0.9, 4), (0.0, 0.5, 4), (0.0, 0.9, 4), (1.0, 0.5, 4), (1.0, 0.9, 4)],
)
def test_outside_of_the_interval_guidance_costs_nothing(cfg, time, cost):
    model, (x, t, y) = Counting(), inputs()
    velocity = guided(model, y, cfg, interval=(0.3, 0.7))(x, t.fill_(time))
    assert model.evaluated == [cost]
    if not 0.3 <= time <= 0.7:
        torch.testing.assert_close(velocity, model(x, t, y))


def test_the_whole_interval_is_both_ends():
    model, (x, t, y) = Counting(), inputs()
    for time in (0.0, 1.0):
        guided(model, y, cfg=2.0)(x, t.fill_(time))
    assert model.evaluated == [8, 8]


@pytest.mark.parametrize("cfg", [0.0, 1.0, 2.5])
def test_guidance_of_a_dit(small_dit, cfg):
    model = small_dit()
    x = torch.randn(3, 3, 8, 12, dtype=torch.float64)
    t, y = torch.rand(3, dtype=torch.float64), torch.tensor([0, 4, 2])
    with_label, without = model(x, t, y), model(x, t, torch.full((3,), 5))
    assert (with_label - without).abs().max() > 0.01
    torch.testing.assert_close(guided(model, y, cfg)(x, t), without + cfg * (with_label - without))


@pytest.mark.parametrize("cfg", [0.0, 1.0, 1.7, 3.0])
@solvers
def test_guidance_between_two_points_leads_beyond_the_second(solver, cfg):
    """If the class is one point and all data another, guided samples end at all + cfg (class - all)."""
    everything, of_class, noise = torch.randn(3, 2, 1, 2, 3, dtype=torch.float64)
    end = everything + cfg * (of_class - everything)

    def model(x, t, y):
        point = torch.where(column(y, x) == 3, *[p.repeat(len(x) // 2, 1, 1, 1) for p in (everything, of_class)])
        where_from = noise.repeat(len(x) // 2, 1, 1, 1)
        return torch.where(column(t, x) > 0, (x - point) / column(t, x), where_from - point)

    model.config = SimpleNamespace(num_classes=3)
    velocity = guided(model, torch.tensor([0, 1]), cfg)
    torch.testing.assert_close(solver(velocity, noise, grid(6)), end, atol=1e-10, rtol=0)


def test_without_labels_there_is_nothing_to_guide(one_line_error):
    model, (x, t, y) = Counting(num_classes=None), inputs()
    assert torch.equal(guided(model, cfg=1.0)(x, t), model(x, t))
    assert model.calls == [(4, None)] * 2
    with one_line_error(ValueError, "cfg = 2", "label"):
        guided(model, cfg=2.0)
    with one_line_error(ValueError, "no classes"):
        guided(model, y, cfg=2.0)


BAD_GUIDANCE = [
    *[(cfg, (0.0, 1.0), "cfg") for cfg in (float("nan"), float("inf"), -1.0, -0.001)],
    *[(2.0, i, "interval") for i in ((0.7, 0.3), (-0.1, 1.0), (0.0, 1.1), (float("nan"), 1.0), (0.0, float("nan")))],
]


@pytest.mark.parametrize(("cfg", "interval", "word"), BAD_GUIDANCE)
def test_guidance_that_makes_no_sense_is_refused_at_once(small_dit, cfg, interval, word, one_line_error):
    with one_line_error(ValueError, word):
        guided(Counting(), torch.zeros(2, dtype=torch.int64), cfg, interval)
    with one_line_error(ValueError, word):
        Sampler(small_dit(), cfg=cfg, cfg_interval=interval)


# the sampler


@pytest.fixture(scope="module")
def dit(small_config, perturbed):
    """A float32 model with gradients, in training mode, as it stands in the middle of training."""
    torch.manual_seed(0)
    return perturbed(DiT(small_config())).train()


class PointOfClass(nn.Module):
    """The exact velocity of data with one picture a class; "no label" is a picture of its own."""

    def __init__(self, points):
        super().__init__()
        self.points = nn.Parameter(points)
        self.config = SimpleNamespace(
            num_classes=len(points) - 1, channels=points.shape[1], image_shape=points.shape[2:]
        )

    def forward(self, x, t, y):
        velocity = (x - self.points[y]) / column(t, x)
        self.before = (
            velocity if bool((t > 0).all()) else self.before
        )  # at t = 0 as fast as before: the path is straight
        return self.before


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("cfg", [0.0, 1.0, 1.5])
def test_what_has_no_loss_samples_the_data(solver, cfg):
    """Loss and sampler agree about time: one model has no loss on pictures and draws those very pictures."""
    points = torch.rand(4, 2, 3, 5, dtype=torch.float64) - 0.5  # in [-0.5, 0.5]: guidance stays in [-1, 1]
    model = PointOfClass(points)
    y = torch.arange(30) % 4
    assert RectifiedFlow().loss(model, points[y], y) < 1e-10
    drawn = Sampler(model, steps=5, solver=solver, cfg=cfg).sample(6, seed=0)
    y = torch.arange(6) % 3
    expected = points[3] + cfg * (points[y] - points[3])
    torch.testing.assert_close(drawn.double(), (expected + 1) / 2, atol=1e-6, rtol=0)


def test_sampler_is_solver_and_guidance_put_together(small_dit):
    model = small_dit()
    noise = torch.stack(
        [torch.randn(3, 8, 12, generator=g) for g in [torch.Generator().manual_seed(5)] for _ in range(3)]
    )
    y = torch.tensor([4, 0, 2])
    for name, cfg, interval in itertools.product(SOLVERS, (0.0, 1.0, 3.0), ((0.0, 1.0), (0.3, 0.7))):
        with torch.no_grad():
            x = SOLVERS[name](guided(model, y, cfg, interval), noise.double(), torch.linspace(1, 0, 5))
        drawn = Sampler(model, steps=4, solver=name, cfg=cfg, cfg_interval=interval).sample(3, labels=y, seed=5)
        torch.testing.assert_close(drawn, ((x + 1) / 2).clamp(0, 1).float())


def test_sampler_takes_a_solver_of_ones_own(dit):
    def lazy(velocity, noise, ts, callback=None):
        assert ts.tolist() == pytest.approx([1, 0.5, 0])
        return torch.full_like(noise, 0.5)

    assert Sampler(dit, steps=2, solver=lazy).sample(2).unique().tolist() == [0.75]


def test_pictures_lie_between_0_and_1(small_config, perturbed):
    wild = perturbed(DiT(small_config()), std=1.0)
    pictures = Sampler(wild, steps=3).sample(4, seed=0)
    assert pictures.shape == (4, 3, 8, 12)
    assert pictures.dtype == torch.float32
    assert pictures.min() == 0  # clipped, on both sides
    assert pictures.max() == 1


def test_a_seed_gives_the_same_pictures(dit):
    sampler = Sampler(dit, steps=3)
    first = sampler.sample(4, seed=3)
    torch.rand(5)
    assert torch.equal(sampler.sample(4, seed=3), first)
    assert not torch.equal(sampler.sample(4, seed=4), first)
    assert not torch.equal(sampler.sample(4), sampler.sample(4))
    torch.manual_seed(0)
    one = sampler.sample(2)
    torch.manual_seed(0)
    assert not torch.equal(sampler.sample(2), one), "without a seed pictures are new, whatever torch's own seed is"


@given(st.integers(1, 7), st.integers(1, 7))
def test_picture_i_does_not_depend_on_how_many_are_drawn(dit, n, batch_size):
    sampler = Sampler(dit, steps=2)
    all_seven = sampler.sample(7, seed=3)
    torch.testing.assert_close(sampler.sample(n, seed=3, batch_size=batch_size), all_seven[:n], atol=1e-5, rtol=0)


def test_pictures_differ_from_each_other(dit):
    pictures = Sampler(dit, steps=2).sample(4, labels=1, seed=0)
    assert torch.pdist(pictures.flatten(1)).min() > 0.1


def test_sampler_leaves_torchs_random_numbers_alone(dit):
    state = torch.get_rng_state()
    Sampler(dit, steps=2).sample(2)
    Sampler(dit, steps=2).sample(2, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("training", [True, False])
def test_sampler_restores_the_mode_and_draws_in_eval_mode(dit, training):
    modes = []
    dit.train(training)
    try:
        Sampler(dit, steps=2).sample(1, callback=lambda index, t, x: modes.append(dit.training))
        assert dit.training == training
        assert modes == [False, False, False]
    finally:
        dit.train()


def test_sampler_restores_the_mode_when_the_callback_raises(dit):
    def interrupt(index, t, x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Sampler(dit, steps=2).sample(1, callback=interrupt)
    assert all(module.training for module in dit.modules())
    assert torch.is_grad_enabled()


def test_sampler_needs_no_gradients_and_leaves_none(dit):
    states = []
    pictures = Sampler(dit, steps=2).sample(2, callback=lambda index, t, x: states.append(x))
    assert torch.is_grad_enabled()
    assert not pictures.requires_grad
    assert not any(x.requires_grad for x in states)
    assert all(p.grad is None and p.requires_grad for p in dit.parameters())
    with torch.inference_mode():
        Sampler(dit, steps=2).sample(2)


@pytest.mark.parametrize("solver", SOLVERS)
def test_sampler_calls_back_steps_plus_one_times(dit, solver):
    seen = []
    drawn = Sampler(dit, steps=4, solver=solver).sample(
        3, seed=0, batch_size=2, callback=lambda index, t, x: seen.append((index, t, x))
    )
    assert [index for index, _, _ in seen] == [0, 1, 2, 3, 4]
    assert [t for _, t, _ in seen] == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    assert all(x.shape == (3, 3, 8, 12) for _, _, x in seen)
    torch.testing.assert_close(drawn, ((seen[-1][2] + 1) / 2).clamp(0, 1))


def test_labels_by_number_name_list_and_tensor(small_config, perturbed):
    model = perturbed(DiT(small_config()))
    model.class_names = ("shirt", "shoe", "bag", "hat", "dress")
    sampler = Sampler(model, steps=2)
    bags = sampler.sample(3, labels=2, seed=0)
    one_for_all = ("bag", np.int64(2), np.array(2), torch.tensor(2), torch.tensor([2, 3])[0])
    for same in (*one_for_all, [2, 2, 2], ["bag", 2, "bag"], torch.tensor([2, 2, 2]), np.array([2, 2, 2]), (2, 2, 2)):
        assert torch.equal(sampler.sample(3, labels=same, seed=0), bags)
    assert not torch.allclose(sampler.sample(3, labels="hat", seed=0), bags)
    in_turn = sampler.sample(7, seed=0)
    assert torch.equal(sampler.sample(7, labels=[0, 1, 2, 3, 4, 0, 1], seed=0), in_turn)
    unlabelled = sampler.sample(2, labels=5, seed=0)
    torch.testing.assert_close(Sampler(model, steps=2, cfg=0.0).sample(2, seed=0), unlabelled)


@pytest.mark.parametrize(("solver", "cost"), [("euler", 1), ("heun", 2), ("ab2", 1)])
def test_cost_of_a_picture(solver, cost):
    model = Counting()
    Sampler(model, steps=6, solver=solver, cfg=1.0).sample(2)
    assert sum(model.evaluated) == 2 * 6 * cost
    model.calls.clear()
    Sampler(model, steps=6, solver=solver, cfg=2.0).sample(2)
    assert sum(model.evaluated) == 2 * 2 * 6 * cost


def test_cost_of_guidance_in_an_interval():
    model = Counting()
    Sampler(model, steps=10, cfg=2.0, cfg_interval=(0.25, 0.75)).sample(1)  # t = 0.7, 0.6, 0.5, 0.4, 0.3 are inside
    assert model.evaluated == [1, 1, 1, 2, 2, 2, 2, 2, 1, 1]


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.sampled_from(sorted(SOLVERS)))
def test_an_unconditional_model_draws_pictures_of_any_shape(small_config, perturbed, channels, rows, columns, solver):
    config = small_config(
        image_size=(2 * rows, 2 * columns), patch_size=2, channels=channels, num_classes=None, registers=0
    )
    model = perturbed(DiT(config))
    for cfg in (1.0, 2.0):  # without classes there is nothing to guide with
        pictures = Sampler(model, steps=2, solver=solver, cfg=cfg).sample(2, seed=0)
        assert pictures.shape == (2, channels, 2 * rows, 2 * columns)
        assert pictures.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_models_of_other_dtypes_draw_too(small_config, perturbed, dtype):
    model = perturbed(DiT(small_config()))
    expected = Sampler(model, steps=3).sample(2, seed=0)
    drawn = Sampler(model.to(dtype), steps=3).sample(2, seed=0)
    assert drawn.dtype == torch.float32
    if dtype == torch.float64:
        torch.testing.assert_close(drawn, expected, atol=1e-4, rtol=0)


def test_whole_numbers_of_numpy_and_torch_are_whole_numbers(dit):
    sampled = Sampler(dit, steps=np.int64(2)).sample(np.int32(3), seed=0, batch_size=torch.tensor(2))
    torch.testing.assert_close(sampled, Sampler(dit, steps=2).sample(3, seed=0))


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "20", True, None, np.float64(4), np.int64(0)])
def test_steps_n_and_batch_size_must_be_whole_numbers(dit, wrong, one_line_error):
    with one_line_error(ValueError, "steps", repr(wrong)):
        Sampler(dit, steps=wrong)
    with one_line_error(ValueError, "n =", repr(wrong)):
        Sampler(dit, steps=1).sample(wrong)
    with one_line_error(ValueError, "batch_size", repr(wrong)):
        Sampler(dit, steps=1).sample(2, batch_size=wrong)


@pytest.mark.parametrize("solver", ["rk4", "", None, 3])
def test_unknown_solvers_are_refused(dit, solver, one_line_error):
    with one_line_error(ValueError, repr(solver), "euler, heun, ab2"):
        Sampler(dit, solver=solver)


@pytest.mark.parametrize("labels", [6, -1, [0, 7], torch.tensor([0, -2])])
def test_labels_out_of_range_are_refused_before_anything_is_drawn(dit, labels, one_line_error):
    with one_line_error(ValueError, "label", "0 to 4"):
        Sampler(dit, steps=1).sample(2, labels=labels, callback=lambda *_: pytest.fail("drawn"))


def test_unknown_classes_are_refused(small_config, one_line_error):
    model = DiT(small_config())
    with one_line_error(ValueError, "'sandal'", "numbers"):
        Sampler(model).sample(1, labels="sandal")
    model.class_names = ("shirt", "shoe", "bag", "hat", "dress")
    with one_line_error(ValueError, "'sandal'", "shirt, shoe, bag"):
        Sampler(model).sample(2, labels=["shoe", "sandal"])


@pytest.mark.parametrize("labels", [[0], [0, 1, 2], torch.zeros(2, 1, dtype=torch.int64), []])
def test_as_many_labels_as_pictures(dit, labels, one_line_error):
    with one_line_error(ValueError, "2 images need 2 labels"):
        Sampler(dit, steps=1).sample(2, labels=labels)


@pytest.mark.parametrize("labels", [[0.5, 1.0], torch.tensor([0.5, 1.0]), 1.5, torch.tensor(0.5), np.array(1.5)])
def test_labels_must_be_whole_numbers(dit, labels, one_line_error):
    with one_line_error(TypeError, "label"):
        Sampler(dit, steps=1).sample(2, labels=labels)


def test_a_model_without_classes_takes_no_labels_and_makes_no_grid_of_them(small_config, one_line_error):
    sampler = Sampler(DiT(small_config(num_classes=None)))
    with one_line_error(ValueError, "no classes"):
        sampler.sample(2, labels=1)
    with one_line_error(ValueError, "no classes"):
        class_grid(sampler, per_class=2, seed=0)


# wrapped models

compiled = functools.partial(torch.compile, backend="eager", dynamic=True)
WRAPPERS = {
    "EMA": EMA,
    "DataParallel": nn.DataParallel,
    "compiled": compiled,
    "compiled DataParallel": lambda model: compiled(nn.DataParallel(model)),
    "EMA of DataParallel": lambda model: EMA(nn.DataParallel(model)),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapped_models_sample_what_the_bare_one_samples(small_config, perturbed, name):
    model = perturbed(DiT(small_config()))
    model.class_names = ("shirt", "shoe", "bag", "hat", "dress")
    wrapped = WRAPPERS[name](model)
    expected = Sampler(model, steps=2).sample(2, "bag", seed=0)
    torch.testing.assert_close(Sampler(wrapped, steps=2).sample(2, "bag", seed=0), expected)
    x, t, y = torch.randn(2, 3, 8, 12), torch.tensor([0.2, 0.7]), torch.tensor([1, 4])
    with torch.no_grad():
        model.eval()
        torch.testing.assert_close(guided(wrapped, y, 3.0)(x, t), guided(model, y, 3.0)(x, t))


def test_a_compiled_model_stays_compiled(small_config):
    """Calls go through the wrapper, which is what makes them quick."""
    model = compiled(DiT(small_config()))
    assert Sampler(model).model is model
    assert Sampler(nn.DataParallel(model)).model is model


# no waiting for the GPU: to look at a value of a tensor is to wait for it


@pytest.mark.parametrize(
    ("cfg", "interval", "looks"), [(1.0, (0.3, 0.7), 0), (2.5, (0.0, 1.0), 0), (0.0, (0, 1), 0), (2.5, (0.3, 0.7), 1)]
)
def test_guidance_looks_at_the_times_only_for_an_interval(monkeypatch, cfg, interval, looks):
    model, (x, t, y) = Counting(), inputs()
    seen, compare = [], torch.Tensor.__ge__
    monkeypatch.setattr(torch.Tensor, "__ge__", lambda self, other: seen.append(self is t) or compare(self, other))
    guided(model, y, cfg, interval)(x, t)
    assert sum(seen) == looks


def test_the_scale_of_guidance_is_one_number_where_all_are_equal():
    t = torch.tensor([0.1, 0.4, 0.6])
    for cfg, interval, expected in ((3.0, (0.0, 1.0), 3.0), (1.0, (0.2, 0.5), 1.0), (3.0, (0.7, 0.9), 1.0)):
        assert guidance_scale(t, cfg, interval).tolist() == expected
    torch.testing.assert_close(guidance_scale(t, 3.0, (0.2, 0.5)), torch.tensor([1.0, 3.0, 1.0]))
