"""Cached trajectories: they are the sampler's, and an extrapolation is nearer to the truth than what was on screen."""

from dataclasses import replace

import pytest
import torch

from dit_course import load_pretrained
from dit_course.dit import DiT, DiTConfig
from dit_course.explore.engine.guidance_cache import Guesser, Request, extrapolate, integrate, nearest_trajectory
from dit_course.sampling import Sampler

EVERY = tuple(range(10))


@pytest.fixture
def model(perturbed):
    config = DiTConfig(image_size=8, channels=3, width=16, depth=1, heads=2, num_classes=10)
    return perturbed(DiT(config)).eval()


@pytest.fixture(scope="module")
def trained():
    return load_pretrained("fashion-mnist")


def wrong(a, b):
    return float((a.float() - b.float()).abs().mean())


@pytest.mark.parametrize("cfg", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.3, 0.7)])
def test_a_trajectory_ends_where_the_sampler_does(model, cfg, interval):
    request = Request((3, 1, 1), 5, cfg, 6, interval)
    drawn = Sampler(model, 6, "ab2", cfg, interval).sample(3, [3, 1, 1], seed=5)
    path = integrate(model, request)
    assert torch.equal(path.pictures, (drawn * 255).round().byte())
    assert path.times == pytest.approx([1 - k / 6 for k in range(6)])
    assert all((a is not None) or (b is not None) for a, b in zip(path.with_label, path.without_label, strict=True))


def test_there_is_a_prediction_for_every_step_and_an_error_ends_it(model):
    seen = []
    integrate(model, Request((1,), 0, 2.0, 5), lambda t, pixels: seen.append((round(t, 3), pixels.shape)))
    assert seen == [(t, (1, 3, 8, 8)) for t in (0.8, 0.6, 0.4, 0.2)]

    def stop(t, pixels):
        raise KeyError

    with pytest.raises(KeyError):
        integrate(model, Request((1,), 0, 2.0, 5), stop)


def test_a_cached_trajectory_is_extrapolated_exactly(model):
    for request in (Request((1, 2), 0, 2.0, 5), Request((1, 2), 0, 1.0, 5), Request((1, 2), 0, 3.0, 7, (0.2, 0.6))):
        path = integrate(model, request)
        assert (extrapolate(path, request).int() - path.pictures.int()).abs().max() <= 1


def test_what_was_not_recorded_is_not_extrapolated(model):
    assert extrapolate(integrate(model, Request((1,), 0, 1.0, 3)), Request((1,), 0, 2.0, 3)) is None
    assert extrapolate(integrate(model, Request((1,), 0, 0.0, 3)), Request((1,), 0, 2.0, 3)) is None
    assert extrapolate(integrate(model, Request((1,), 0, 2.0, 3, (0.5, 0.8))), Request((1,), 0, 2.0, 9)) is not None


def test_extrapolation_needs_no_evaluation(model):
    path = integrate(model, Request((1,), 0, 2.0, 3))
    model.register_forward_pre_hook(lambda *_: pytest.fail("the network was evaluated"))
    assert extrapolate(path, Request((1,), 0, 4.0, 3)).shape == (1, 3, 8, 8)


@pytest.mark.parametrize("change", [{"cfg": 3.0}, {"cfg": 2.0}, {"cfg": 5.0}, {"cfg": 0.5}, {"interval": (0.2, 0.8)}])
def test_an_extrapolation_is_nearer_than_what_was_on_screen(trained, change):
    request = Request(EVERY, 2, 2.5, 8)
    path, there = integrate(trained, request), replace(request, **change)
    truth = integrate(trained, there).pictures
    assert wrong(extrapolate(path, there), truth) < 0.92 * wrong(path.pictures, truth)


def test_a_first_guess_costs_one_evaluation_and_looks_like_the_result(trained):
    guesser, request = Guesser(), Request(EVERY, 2, 2.5, 8)
    before = integrate(trained, request)
    guesser.learn(before)
    counted = []
    hook = trained.register_forward_pre_hook(lambda _, inputs: counted.append(len(inputs[0])))
    there = replace(request, seed=5)
    guess = guesser.guess(trained, there)
    hook.remove()
    assert counted == [10]
    truth = integrate(trained, there).pictures
    assert wrong(guess, truth) < 0.8 * wrong(before.pictures, truth)


@pytest.mark.parametrize("cfg", [0.0, 1.0, 4.0])
def test_a_guess_is_made_with_and_without_cached_means(model, cfg):
    guesser, request = Guesser(), Request((4, 4), 1, cfg, 3)
    assert guesser.guess(model, request).shape == (2, 3, 8, 8)
    guesser.learn(integrate(model, request))
    assert guesser.guess(model, replace(request, seed=2)).shape == (2, 3, 8, 8)


def test_the_nearest_trajectory_has_the_same_noise_and_classes(model):
    base = Request((1, 2), 0, 2.0, 3)
    trajectories = [
        integrate(model, replace(base, **change)) for change in ({"cfg": 6.0}, {"seed": 1}, {"cfg": 3.0}, {"steps": 1})
    ]
    assert nearest_trajectory(trajectories, replace(base, cfg=3.5)) is trajectories[2]
    assert nearest_trajectory(trajectories, replace(base, labels=(1, 1))) is None
    assert nearest_trajectory([], base) is None
