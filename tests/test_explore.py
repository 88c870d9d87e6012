"""Sliders: their callbacks are plain functions, run in any thread, and say what went wrong."""

import base64
import io
import threading
from dataclasses import replace

import ipywidgets
import numpy as np
import pytest
import torch
from canvas_pixels import shown
from PIL import Image

from dit_course import explore
from dit_course.authoring.notebooks import WIDGET_VIEW
from dit_course.dit import DiT, DiTConfig
from dit_course.explore.engine.keyboard import Accessible
from dit_course.explore.engine.worker import Job
from dit_course.explore.guidance import EVERY_CLASS
from dit_course.sampling import Sampler

NAMES = ("hat", "sock", "glove")


@pytest.fixture
def model(perturbed):
    """A tiny model whose classes have names."""
    model = perturbed(DiT(DiTConfig(image_size=8, channels=1, width=16, depth=1, heads=2, num_classes=3)))
    model.class_names = NAMES
    return model.eval()


def test_it_shows_what_the_sampler_samples(model):
    view = explore.guidance(model, cfg=3.0, seed=5, steps=4)
    pictures, labels, _ = view._shown
    expected = Sampler(model, steps=4, solver="ab2", cfg=3.0).sample(3, seed=5)
    assert labels == (0, 1, 2)
    assert pictures.dtype == torch.uint8
    assert torch.equal(pictures, (expected * 255).round().byte())
    view.label.value = 1
    pictures, labels, _ = view._shown
    assert labels == (1,) * 10
    expected = Sampler(model, steps=4, solver="ab2", cfg=3.0).sample(10, "sock", seed=5)
    assert torch.equal(pictures, (expected * 255).round().byte())


def test_of_many_classes_the_first_ten_are_drawn(perturbed):
    model = perturbed(DiT(DiTConfig(image_size=8, channels=3, width=16, depth=1, heads=2, num_classes=1000)))
    view = explore.guidance(model, steps=1, label=999)
    assert view.picture.alt == "class 999, guidance 2.5, seed 0, 1 steps"
    view.label.value = EVERY_CLASS
    assert view.state().labels == tuple(range(10))


def test_every_control_draws_again_and_says_what_is_shown(model):
    view = explore.guidance(model, cfg=1.5, label="glove", seed=7, steps=2)
    assert view.label.value == 2
    assert "glove, guidance 1.5, seed 7, 2 steps" in view.status
    seen = [shown(view).tobytes()]
    for control, value in [
        (view.cfg, 4.0),
        (view.label, EVERY_CLASS),
        (view.seed, 8),
        (view.steps, 3),
        (view.label, 0),
    ]:
        control.value = value
        seen.append(shown(view).tobytes())
    assert len(set(seen)) == len(seen)
    assert "hat, guidance 4.0, seed 8, 3 steps" in view.status
    assert view.canvas.alt[0] == "10 pictures: hat, guidance 4.0, seed 8, 3 steps"
    view.label.value = EVERY_CLASS
    view.label.value = 0
    assert shown(view).tobytes() == seen[-1]


def test_controls_have_names_and_keys(model):
    view = explore.guidance(model, steps=1)
    assert [control.description for control in view.controls] == ["guidance", "class", "seed", "steps"]
    assert [name for name, _ in view.label.options] == [EVERY_CLASS, *NAMES]
    helper = view.children[-1]
    assert isinstance(helper, Accessible)
    assert "aria-label" in helper._esm
    assert "lmSuppressShortcuts" in helper._esm


def test_a_callback_in_another_thread_draws_the_same_without_gradients(model):
    """JupyterLab sends all events but the first to another thread, where gradients are on."""
    gradients = []
    model.register_forward_pre_hook(lambda *_: gradients.append(torch.is_grad_enabled()))
    view = explore.guidance(model, steps=2)

    def move():
        assert torch.is_grad_enabled()
        view.cfg.value = 5.0

    thread = threading.Thread(target=move)
    thread.start()
    thread.join()
    assert len(gradients) == 4
    assert not any(gradients)
    assert np.array_equal(shown(view), shown(explore.guidance(model, cfg=5.0, steps=2)))


def test_the_model_stays_in_the_mode_it_was_in(model):
    for training in (True, False):
        model.train(training)
        explore.guidance(model, steps=1).cfg.value = 1.0
        assert model.training is training


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label": "shoe"}, "unknown class 'shoe'; this model knows hat, sock, glove"),
        ({"label": 3}, "unknown class 3"),
        ({"cfg": -1.0}, "cfg|guidance"),
        ({"steps": 0}, "steps = 0"),
    ],
)
def test_settings_that_make_no_sense(model, settings, message):
    with pytest.raises(ValueError, match=message):
        explore.guidance(model, **settings)


def test_a_model_without_classes_cannot_be_guided():
    model = DiT(DiTConfig(image_size=8, channels=1, width=16, depth=1, heads=2, num_classes=None))
    with pytest.raises(ValueError, match="no classes"):
        explore.guidance(model)


def test_it_is_live_in_jupyterlab_and_a_still_picture_elsewhere(model):
    view = explore.guidance(model, cfg=3.0, label="hat", steps=1)
    data, metadata = view._repr_mimebundle_()
    assert data[WIDGET_VIEW]["model_id"] == view.model_id
    still = np.array(Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB"))
    live, end = shown(view), len(view.picture.pixels)
    assert np.array_equal(still[end - live.shape[0] + 20 : end, : live.shape[1]], live[20:])  # the same below its title
    assert metadata["image/png"]["alt"] == "hat, guidance 3.0, seed 0, 1 steps"
    assert "hat, guidance 3.0" in data["text/plain"]
    assert isinstance(view, ipywidgets.DOMWidget)


def test_the_captions_and_first_guesses_of_other_classes_are_prefetched(model):
    view = explore.guidance(model, steps=1)
    view.wait_idle()
    view.prefetch(Job(view.worker, speculative=True), view.state())
    grids = dict(view._grids)
    assert {(number,) * 10 for number in range(3)} <= set(grids)
    state = replace(view.state(), labels=(2,) * 10)
    guess = view.guesses.get(state)
    assert guess.shape == (10, *view._shown[0].shape[1:])
    assert torch.equal(view._guess(None, state), guess)  # no second evaluation
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1
    view.weights.copy()
    assert view.guesses.get(state) is None  # another model, other guesses
    view.label.value = 2
    view.wait_idle()
    assert view._grids[(2,) * 10] is grids[(2,) * 10]
    view.close()
