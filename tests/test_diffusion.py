"""Diffusion samplers: against closed forms, data whose exact noise is known, and diffusers' schedulers."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dit_course.checkpoints import load_classifier, load_pretrained
from dit_course.dit import DiT, DiTConfig
from dit_course.evaluation import class_accuracy
from dit_course.flow import noise_from_velocity
from dit_course.pretrained.ddpm import DiffusionSampler, Schedule, denoiser, kept_steps, linear_betas
from dit_course.pretrained.layouts import load_diffusers
from dit_course.sampling import class_grid

# -- the schedule --------------------------------------------------------------------------------------------


def test_betas_are_those_of_the_paper():
    betas = linear_betas()
    assert (betas[0], betas[-1], len(betas), betas.dtype) == (1e-4, 0.02, 1000, torch.float64)
    torch.testing.assert_close(betas.diff(), torch.full((999,), 0.0199 / 999, dtype=torch.float64))
    assert Schedule().alpha_bar[-1] == pytest.approx(4.04e-5, rel=0.01)  # hardly any data is left


@pytest.mark.parametrize("steps", [2, 5, 50, 250, 999, 1000, [10, 20, 999]])
def test_fewer_steps_have_the_same_alpha_bar(steps):
    whole, few = Schedule(), Schedule(steps)
    torch.testing.assert_close(few.alpha_bar, whole.alpha_bar[few.steps])
    torch.testing.assert_close((1 - few.betas).cumprod(0), few.alpha_bar)  # the products telescope
    assert len(few) == len(few.steps)
    assert ((few.betas > 0) & (few.betas < 1)).all()


@pytest.mark.parametrize("count", range(2, 1001, 37))
def test_kept_steps_are_evenly_spread(count):
    kept = kept_steps(count)
    assert (kept[0], kept[-1], len(set(kept))) == (0, 999, count)
    gaps = torch.tensor(kept).diff()
    assert gaps.max() - gaps.min() <= 1


def test_kept_steps_of_the_official_repository():
    # space_timesteps(1000, "250") of its diffusion/respace.py, read there: round(i * 999 / 249)
    assert kept_steps(250)[:8] == [0, 4, 8, 12, 16, 20, 24, 28]
    assert kept_steps(250)[-4:] == [987, 991, 995, 999]
    assert kept_steps(3) == [0, 500, 999]  # 499.5, and Python rounds to the even neighbour


@pytest.mark.parametrize("steps", [0, 1, 1001, True, 2.5, [], [3, 2], [1, 1], [999, 1000], [-1, 4]])
def test_steps_that_make_no_sense(steps):
    with pytest.raises(ValueError, match="steps"):
        Schedule(steps)


def test_the_noised_picture_and_its_way_back():
    schedule, (x, noise) = Schedule(50), torch.randn(2, 3, 2, 4, 4)
    for index in (0, 17, 49):
        x_t = schedule.noised(x, noise, index)
        torch.testing.assert_close(schedule.data_from_noise(x_t, noise, index), x, atol=1e-3, rtol=1e-3)
    assert schedule.noised(torch.zeros(1), torch.ones(1), 49) > 0.999


def test_the_posterior_is_bayes_rule():
    schedule, (x, x_t) = Schedule(20), torch.randn(2, 100, dtype=torch.float64)
    for index in range(1, 20):
        before, beta = schedule.before[index], schedule.betas[index]
        # before this step: N(sqrt(before) x, 1 - before); seen since: N(sqrt(1 - beta) x_(t-1), beta)
        precision = 1 / (1 - before) + (1 - beta) / beta
        mean = (before.sqrt() * x / (1 - before) + (1 - beta).sqrt() * x_t / beta) / precision
        torch.testing.assert_close(schedule.posterior_mean(x, x_t, index), mean)
        assert schedule.posterior_variance(index) == pytest.approx(1 / precision.item())
        low, high = schedule.variance_bounds(index)
        assert (low, high) == (schedule.posterior_variance(index), pytest.approx(beta.item()))
        assert low < high
    torch.testing.assert_close(schedule.posterior_mean(x, x_t, 0), x)
    assert schedule.posterior_variance(0) == 0
    assert schedule.variance_bounds(0)[0] == schedule.posterior_variance(1)


# -- data whose exact noise is known --------------------------------------------------------------------------

SIZE = (1, 48, 48)  # one "picture" is 2,304 independent numbers
CONFIG = SimpleNamespace(channels=1, out_channels=None, image_shape=SIZE[1:], num_classes=None)


class Exact(nn.Module):
    """The exact noise for normal data of this mean and std (0: one point), at the steps that t names."""

    def __init__(self, mean, std, spread=None):
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.zeros(1)))
        self.mean, self.std, self.spread = mean, std, spread
        self.config = SimpleNamespace(**vars(CONFIG) | {"out_channels": 1 if spread is None else 2})
        self.alpha_bar = Schedule().alpha_bar

    def forward(self, x, t, y=None):
        share = self.alpha_bar[(1000 * t).round().long()].float()[:, None, None, None]
        noise = (1 - share).sqrt() * (x - share.sqrt() * self.mean) / (share * self.std**2 + 1 - share)
        return noise if self.spread is None else torch.cat([noise, torch.full_like(noise, self.spread)], dim=1)


@pytest.mark.parametrize("method", ["ddpm", "ddim"])
@pytest.mark.parametrize("steps", [2, 10, 250])
def test_data_of_one_point_is_reached(method, steps):
    x = DiffusionSampler(Exact(0.7, 0), steps=steps, method=method).sample(2, seed=0)
    torch.testing.assert_close(x, torch.full((2, *SIZE), 0.7), atol=2e-3, rtol=0)


def test_ddim_of_a_normal_distribution_is_its_ordinary_differential_equation():
    model, noise = Exact(-0.4, 0.5), torch.randn(1, *SIZE)
    share = Schedule().alpha_bar[-1]
    ideal = -0.4 + 0.5 * (noise + 0.4 * share.sqrt()) / (share * 0.25 + 1 - share).sqrt()
    errors = []
    for steps in (20, 100, 1000):
        x = DiffusionSampler(model, steps=steps, method="ddim").integrate(noise, None)
        errors.append((x - ideal).abs().max())
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.02


@pytest.mark.parametrize(
    ("settings", "spread"),
    [
        ({"method": "ddpm"}, None),
        ({"method": "ddpm", "variance": "large"}, None),
        ({"method": "ddpm"}, 0.3),
        ({"method": "ddim", "eta": 1.0}, None),
        ({"method": "ddim", "eta": 0.5}, None),
        ({"method": "ddim"}, 0.3),
    ],
)
def test_mean_and_spread_of_normal_data(settings, spread):
    x = DiffusionSampler(Exact(-0.4, 0.5, spread), steps=500, **settings).sample(4, seed=1)
    assert x.mean() == pytest.approx(-0.4, abs=0.03)
    assert x.std() == pytest.approx(0.5, rel=0.05)
    assert (x[0] - x[1]).abs().mean() > 0.3


def test_the_learned_variance_lies_between_the_bounds():
    schedule, x, noise = Schedule(50), torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    fresh = torch.ones(1, 1, 1, 1)
    low, high = (bound**0.5 for bound in schedule.variance_bounds(30))
    for spread, expected in ((-1.0, low), (1.0, high), (0.0, math.sqrt(low * high)), (torch.zeros_like(x), None)):
        step = schedule.ddpm(x, noise, 30, fresh, spread).item()
        assert step == pytest.approx(expected or math.sqrt(low * high), rel=1e-4)


# -- guidance -------------------------------------------------------------------------------------------------


class Telling(nn.Module):
    """Predicts numbers that say which label was given, and counts the passes."""

    def __init__(self, channels=4, variance=True):
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.zeros(1)))
        outputs = 2 * channels if variance else channels
        self.config = SimpleNamespace(channels=channels, out_channels=outputs, image_shape=(2, 2), num_classes=10)
        self.sizes = []

    def forward(self, x, t, y):
        self.sizes.append(len(x))
        return y[:, None, None, None].float().expand(-1, self.config.out_channels, *x.shape[2:])


def predict(cfg, channels=3, interval=(0.0, 1.0), t=0.5):
    model = Telling()
    y = torch.tensor([2, 4])
    x = torch.zeros(2, 4, 2, 2)
    noise, variance = denoiser(model, y, cfg, channels, interval)(x, torch.full((2,), t))
    assert noise.shape == variance.shape == x.shape
    return noise[:, :, 0, 0].tolist(), variance[:, :, 0, 0].tolist(), model.sizes


def test_guidance_of_three_channels_as_in_the_official_repository():
    noise, variance, sizes = predict(cfg=4.0)
    assert noise == [[10 + 4 * (2 - 10)] * 3 + [2], [10 + 4 * (4 - 10)] * 3 + [4]]
    assert variance == [[2] * 4, [4] * 4]
    assert sizes == [4]


def test_guidance_of_all_channels():
    noise, variance, _ = predict(cfg=4.0, channels=None)
    assert noise == [[-22] * 4, [-14] * 4]
    assert variance == [[2] * 4, [4] * 4]


def test_no_guidance_is_one_pass():
    for arguments in ({"cfg": 1.0}, {"cfg": 4.0, "interval": (0.1, 0.4)}):
        noise, _, sizes = predict(**arguments)
        assert (noise, sizes) == ([[2] * 4, [4] * 4], [2])
    assert predict(cfg=4.0, interval=(0.1, 0.5))[2] == [4]


def test_a_model_without_variance_or_with_few_channels():
    denoise = denoiser(Telling(1, variance=False), torch.tensor([3]), 2.0)
    noise, variance = denoise(torch.zeros(1, 1, 2, 2), torch.ones(1))
    assert (noise.shape, variance) == ((1, 1, 2, 2), None)
    assert noise[0, 0, 0, 0] == 10 + 2 * (3 - 10)


# -- the sampler ----------------------------------------------------------------------------------------------

LATENT = DiTConfig(8, 2, 4, 24, 2, 2, registers=0, num_classes=5, qk_norm=False, norm="layer", out_channels=8)


@pytest.fixture
def model(perturbed):
    return perturbed(DiT(LATENT))


@pytest.mark.parametrize("method", ["ddpm", "ddim"])
def test_the_same_seed_draws_the_same_whatever_is_drawn_beside_it(model, method):
    sampler = DiffusionSampler(model, steps=4, method=method, eta=0.5 if method == "ddim" else 0)
    five = sampler.sample(5, seed=3)
    assert five.shape == (5, 4, 8, 8)
    torch.testing.assert_close(sampler.sample(5, seed=3, batch_size=2), five, atol=0.01, rtol=1e-3)
    torch.testing.assert_close(sampler.sample(2, seed=3), five[:2], atol=0.01, rtol=1e-3)
    assert not torch.allclose(sampler.sample(5, seed=4), five, atol=0.1)


def test_fresh_noise_differs_from_step_to_step_and_from_the_first(model):
    states = []
    sampler = DiffusionSampler(Exact(0.0, 1.0), steps=3)
    sampler.sample(1, seed=0, callback=lambda index, t, x: states.append(x.flatten()))
    together = torch.corrcoef(torch.stack([states[0], states[1] - states[0], states[2] - states[1]]))
    assert together.isfinite().all()
    assert together[0, 1].abs() < 0.9


def test_callback_sees_every_state(model):
    seen = []
    sampler = DiffusionSampler(model, steps=[0, 400, 999], method="ddim")
    x = sampler.sample(2, seed=0, callback=lambda index, t, x: seen.append((index, round(t, 4), x)))
    assert [(index, t) for index, t, _ in seen] == [(0, 0.999), (1, 0.4), (2, 0.0), (3, 0.0)]
    assert torch.equal(seen[-1][2], x)


def test_the_model_is_told_the_steps(model):
    times = []
    hook = model.register_forward_pre_hook(lambda _, arguments: times.append(arguments[1]))
    DiffusionSampler(model, steps=5).sample(1)
    hook.remove()
    assert torch.equal(torch.stack([t[0] for t in times]), torch.tensor([999, 749, 500, 250, 0]) / 1000)


def test_decode_makes_pictures_of_the_end(model):
    plain = DiffusionSampler(model, steps=3).sample(3, seed=0, batch_size=2)
    decoded = DiffusionSampler(model, steps=3, decode=lambda x: x[:, :1] / 2).sample(3, seed=0, batch_size=2)
    torch.testing.assert_close(decoded, plain[:, :1] / 2)
    assert class_grid(DiffusionSampler(model, steps=2), per_class=1, seed=0).shape == (5, 4, 8, 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precision_keep_the_state_precise(model, dtype):
    x = DiffusionSampler(model.to(dtype), steps=4).sample(1, seed=0)
    assert x.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert x.isfinite().all()


def test_a_model_without_classes(perturbed):
    model = perturbed(DiT(DiTConfig(8, 4, 3, 24, 1, 2, num_classes=None)))
    assert DiffusionSampler(model, steps=2).sample(2).shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 1}, "from 2 to 1000"),
        ({"method": "euler"}, '"ddpm" or "ddim"'),
        ({"eta": 0.5}, "only for ddim"),
        ({"eta": 2, "method": "ddim"}, "between 0 and 1"),
        ({"cfg": -1}, "at least 0"),
        ({"variance": "medium"}, '"small" or "large" or "learned"'),
        ({"guided_channels": 0}, "at least 1"),
        ({"cfg_interval": (0.5, 0.1)}, "low <= high"),
    ],
)
def test_settings_that_make_no_sense(model, settings, message):
    with pytest.raises(ValueError, match=message):
        DiffusionSampler(model, **settings)


def test_a_model_of_the_flow_or_of_something_else():
    with pytest.raises(ValueError, match="learned none"):
        DiffusionSampler(Exact(0, 1), variance="learned")
    with pytest.raises(ValueError, match="predicts 5 channels from 4: expected 4"):
        DiffusionSampler(DiT(DiTConfig(8, 2, 4, 24, 1, 2, out_channels=5)))


# -- a trained network ----------------------------------------------------------------------------------------


class OtherPath(nn.Module):
    """The shipped flow model as a predictor of noise: each point of one path lies, scaled, on the other."""

    def __init__(self, flow):
        super().__init__()
        self.flow, self.config, self.alpha_bar = flow, flow.config, Schedule().alpha_bar

    def forward(self, x, t, y):
        share = self.alpha_bar[(1000 * t).round().long()].float()
        data, noise = share.sqrt(), (1 - share).sqrt()
        x, s = x / (data + noise)[:, None, None, None], noise / (data + noise)
        return noise_from_velocity(x, self.flow(x, s, y), s)


@pytest.mark.parametrize("settings", [{"method": "ddim", "steps": 15}, {"method": "ddpm", "steps": 40}])
def test_the_shipped_model_draws_clothes_on_this_path_too(settings):
    sampler = DiffusionSampler(OtherPath(load_pretrained("fashion-mnist")), cfg=2.0, **settings)
    labels = torch.arange(10)
    pictures = ((sampler.sample(10, labels, seed=0) + 1) / 2).clamp(0, 1)
    assert class_accuracy(load_classifier("fashion-mnist"), pictures, labels) >= 0.7


# -- diffusers ------------------------------------------------------------------------------------------------


def states(steps, seed=0):
    """A trajectory of random states and predictions: (index, x_t, noise)."""
    generator = torch.Generator().manual_seed(seed)
    for index in reversed(range(len(steps))):
        yield index, *torch.randn(2, 1, 4, 6, 6, generator=generator)


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("steps", [range(0, 1000, 50), range(1000)], ids=["20", "1000"])
def test_ddim_steps_are_those_of_diffusers(steps, eta):
    from diffusers import DDIMScheduler

    ours = Schedule(list(steps))
    theirs = DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False)
    theirs.set_timesteps(len(steps))
    assert theirs.timesteps.tolist() == ours.steps[::-1]
    for index, x, noise in states(ours.steps):
        if index % 7 and index > 3:
            continue
        fresh = torch.randn(x.shape, generator=torch.Generator().manual_seed(index))
        expected = theirs.step(noise, ours.steps[index], x, eta, variance_noise=fresh).prev_sample
        torch.testing.assert_close(ours.ddim(x, noise, index, fresh, eta), expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "steps"),
    [("fixed_small", 20), ("fixed_large", 20), ("fixed_small", 1000), ("learned_range", 1000)],
)
def test_ddpm_steps_are_those_of_diffusers(kind, steps):
    """learned_range at 1000 steps only: with fewer, diffusers takes beta of all steps for the upper bound."""
    from diffusers import DDPMScheduler

    ours = Schedule(list(range(0, 1000, 1000 // steps)))
    theirs = DDPMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False, variance_type=kind)
    theirs.set_timesteps(steps)
    assert theirs.timesteps.tolist() == ours.steps[::-1]
    for index, x, noise in states(ours.steps):
        if index % 7 and index > 3:
            continue
        spread, answer = {"fixed_small": -1.0, "fixed_large": 1.0}.get(kind), noise
        if spread is None:
            spread = torch.randn(x.shape).clamp(-1, 1)
            answer = torch.cat([noise, spread], dim=1)
        fresh = torch.randn(x.shape, generator=torch.Generator().manual_seed(index))
        generator = torch.Generator().manual_seed(index)
        expected = theirs.step(answer, ours.steps[index], x, generator=generator).prev_sample
        torch.testing.assert_close(ours.ddpm(x, noise, index, fresh, spread), expected, atol=2e-3, rtol=1e-3)


def test_the_whole_way_is_that_of_diffusers_pipeline():
    from diffusers import DDIMScheduler
    from test_layouts import SMALL, diffusers_model, ours_for

    size = SMALL | {"channels": 4, "out": 8}
    theirs = diffusers_model(size)
    model = load_diffusers(ours_for(theirs, size), theirs.state_dict()).eval()
    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False)
    scheduler.set_timesteps(10)
    sampler = DiffusionSampler(model, steps=range(0, 1000, 100), method="ddim", cfg=3.0, guided_channels=None)
    noise, labels = torch.randn(2, 4, 8, 8), torch.tensor([1, 3])
    x = noise
    with torch.no_grad():  # as in DiTPipeline.__call__, whose VAE and progress bar are left out
        for step in scheduler.timesteps:
            both = theirs(torch.cat([x, x]), step.expand(4), torch.cat([labels, torch.tensor([5, 5])])).sample
            with_label, without = both[:, :4].chunk(2)
            x = scheduler.step(without + 3 * (with_label - without), step, x).prev_sample
        ours = sampler.integrate(noise, labels)
    assert x.std() > 0.3
    torch.testing.assert_close(ours, x, atol=1e-3, rtol=1e-3)
