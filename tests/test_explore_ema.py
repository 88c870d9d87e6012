"""The sliders for the decay: what they show is what the average samples."""

import pytest
import torch
from canvas_pixels import shown
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from dit_course import explore
from dit_course.dit import DiT, DiTConfig
from dit_course.ema import EMA
from dit_course.explore.ema import describe, pictures_of, shares_of
from dit_course.sampling import Sampler


@pytest.fixture
def model(perturbed):
    """A tiny model with classes."""
    config = DiTConfig(image_size=8, channels=1, width=16, depth=1, heads=2, num_classes=6)
    return perturbed(DiT(config)).eval()


@pytest.fixture
def snapshots(model):
    """Weights of ten steps that wander about those of the model: (11, parameters)."""
    weights = parameters_to_vector(model.parameters()).detach()
    return weights + 0.1 * torch.randn(11, len(weights))


@pytest.mark.parametrize(("decay", "warmup"), [(0.0, False), (0.7, False), (0.4, True), (0.9999, True)])
def test_the_average_is_that_of_an_ema(model, snapshots, decay, warmup):
    def load(weights):
        vector_to_parameters(weights.clone(), model.parameters())

    load(snapshots[0])
    ema = EMA(model, decay, warmup)
    for weights in snapshots[1:]:
        load(weights)
        ema.update(model)
    average = shares_of(10, decay, warmup).float() @ snapshots
    torch.testing.assert_close(average, parameters_to_vector(ema.model.parameters()), atol=1e-5, rtol=1e-4)


def test_pictures_are_what_the_sampler_draws_with_these_weights(model, snapshots):
    pictures = pictures_of(model, snapshots[3], [5, 1], seed=4)
    expected = Sampler(model, steps=8, solver="ab2", cfg=1.5).sample(2, [5, 1], seed=4)
    assert torch.equal(parameters_to_vector(model.parameters()), snapshots[3])
    assert torch.equal(pictures, (expected * 255).round().byte())
    assert pictures_of(model, snapshots[3], None, seed=4).shape == (5, 1, 8, 8)


def test_a_model_without_classes_draws_too(perturbed):
    model = perturbed(DiT(DiTConfig(image_size=8, channels=3, width=16, depth=1, heads=2, num_classes=None)))
    weights = parameters_to_vector(model.parameters()).detach()
    assert explore.ema(model, torch.stack([weights, weights])).picture.width == 820


def test_every_control_draws_again_and_the_model_stays_as_it_is(model, snapshots):
    before = parameters_to_vector(model.parameters()).clone()
    view = explore.ema(model, snapshots, decay=0.5, warmup=False)
    assert "decay 0.5, no warm-up, step 10" in view.status
    seen = [shown(view).tobytes()]
    for control, value in ((view.decay, 0.99), (view.warmup, True), (view.step, 4)):
        control.value = value
        seen.append(shown(view).tobytes())
    assert len(set(seen)) == 4
    assert "decay 0.99, with warm-up, step 4" in view.status
    assert view.canvas.alt == [view.picture.alt]
    assert torch.equal(parameters_to_vector(model.parameters()), before)
    view.step.value, view.warmup.value, view.decay.value = 10, False, 0.5
    assert shown(view).tobytes() == seen[0]


def test_decay_zero_is_the_raw_model(snapshots):
    assert shares_of(10, 0.0, False).tolist() == [0.0] * 10 + [1.0]
    assert shares_of(10, 0.9999, False)[0] > 0.99


def test_the_drawing_says_what_is_in_the_average():
    text = describe(torch.tensor([0.25, 0.25, 0.5]), "a title")
    assert text == "a title: 25% of it is the start, 50% the newest step"


def test_settings_that_make_no_sense(model, snapshots):
    for wrong in (snapshots[:1], snapshots[:, 1:], snapshots[0]):
        with pytest.raises(ValueError, match=r"snapshots are \(steps \+ 1, \d+\) for this model"):
            explore.ema(model, wrong)
    with pytest.raises(ValueError, match=r"decay = 1\.0"):
        explore.ema(model, snapshots, decay=1.0)
