"""The slider for time: it shows what the sampler passed through, and the data predicted from each state."""

import base64
import io
import json
import threading

import ipywidgets
import numpy as np
import pytest
import torch
from canvas_pixels import pasted, shown
from PIL import Image

from dit_course import explore
from dit_course.authoring.notebooks import WIDGET_VIEW
from dit_course.dit import DiT, DiTConfig
from dit_course.explore.engine.keyboard import Accessible
from dit_course.explore.trajectory import RecordingVelocity, record
from dit_course.flow import data_from_velocity
from dit_course.sampling import Sampler, guided


@pytest.fixture
def model(perturbed):
    """A tiny model whose pictures are not square."""
    config = DiTConfig(image_size=(8, 12), channels=1, width=16, depth=1, heads=2, num_classes=3)
    model = perturbed(DiT(config))
    model.class_names = ("hat", "sock", "glove")
    return model.eval()


def to_bytes(x):
    return (((x + 1) / 2).clamp(0, 1) * 255).round().byte()


@pytest.mark.parametrize("solver", ["euler", "heun", "ab2"])
def test_the_recording_is_what_the_sampler_passes_through(model, solver):
    states = []
    sampler = Sampler(model, 4, solver, cfg=3.0, cfg_interval=(0.3, 1.0))
    drawn = sampler.sample(3, ["sock", "hat", "hat"], seed=5, callback=lambda index, t, x: states.append((t, x)))
    recording = explore.trajectory(model, ["sock", "hat", "hat"], 9, 5, 4, solver, 3.0, (0.3, 1.0)).recording
    assert recording.states.shape == recording.predictions.shape == (5, 3, 1, 8, 12)
    assert recording.times == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    velocity = guided(model, torch.tensor([1, 0, 0]), 3.0, (0.3, 1.0))
    for index, (t, x) in enumerate(states):
        assert torch.equal(recording.states[index], to_bytes(x))
        with torch.no_grad():
            predicted = data_from_velocity(x, velocity(x, torch.full((3,), t)), torch.full((3,), t))
        difference = recording.predictions[index].int() - to_bytes(predicted if t else x).int()
        assert difference.abs().max() <= 1  # rounding to bytes
    assert torch.equal(recording.states[-1], (drawn * 255).round().byte())
    assert torch.equal(recording.predictions[-1], recording.states[-1])


def test_the_last_evaluation_at_a_time_counts():
    recording = RecordingVelocity(lambda x, t: x)
    recording(torch.zeros(1, 2), torch.ones(1))  # a provisional state
    recording(torch.full((1, 2), 4.0), torch.full((1,), 0.5))
    recording(torch.full((1, 2), 6.0), torch.full((1,), 0.5))
    assert recording.predictions[0.5].tolist() == [[3.0, 3.0]]


def test_a_model_without_classes_has_a_trajectory_too(perturbed):
    model = perturbed(DiT(DiTConfig(image_size=8, channels=3, width=16, depth=1, heads=2, num_classes=None)))
    recording = record(model, None, 2, 0, 3, "euler", 2.0, (0.0, 1.0))
    assert recording.states.shape == (4, 2, 3, 8, 8)
    assert "guidance 1," in recording.about


def test_every_move_shows_another_state_and_says_which(model):
    view = explore.trajectory(model, "glove", n=2, steps=3)
    seen = [shown(view).tobytes()]
    assert "t = 1.00, 3 steps of euler, guidance 2, seed 0" in view.status
    for index in (1, 2, 3):
        view.index.value = index
        seen.append(shown(view).tobytes())
    assert len(set(seen)) == 4
    assert "t = 0.00" in view.status
    assert view.canvas.alt[3].startswith("above x_t, below the data it predicts: t = 0.00")
    view.index.value = 0
    assert shown(view).tobytes() == seen[0]


def test_nothing_is_sampled_when_the_slider_moves(model):
    view = explore.trajectory(model, "glove", n=2, steps=3)
    model.register_forward_pre_hook(lambda *_: pytest.fail("the model was evaluated"))
    view.index.value = 2


def test_play_moves_the_slider_from_the_first_state_to_the_last(model):
    view = explore.trajectory(model, "hat", n=1, steps=5)
    assert isinstance(view.play, ipywidgets.Play)
    for control in (view.play, view.index):
        assert (control.min, control.max, control.value) == (0, 5, 0)
    assert view.index.description == "step"
    assert isinstance(view.children[-1], Accessible)


@pytest.mark.parametrize("name", ["run.gif", "run.mp4"])
def test_it_can_be_saved_as_an_animation(model, tmp_path, name):
    view = explore.trajectory(model, "hat", n=2, steps=2)
    view.save(tmp_path / name, fps=10)
    assert (tmp_path / name).stat().st_size > 500
    with pytest.raises(ValueError, match="an animation is a"):
        view.save(tmp_path / "run.avi")


def test_many_events_at_once_end_with_what_the_slider_says(model):
    view = explore.trajectory(model, "hat", n=1, steps=8)
    threads = [threading.Thread(target=setattr, args=(view.index, "value", i)) for i in (1, 5, 3, 8, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    view.index.value = 4
    assert f"t = {view.recording.times[4]:.2f}" in view.status


def test_the_browser_has_all_frames_and_sends_the_kernel_nothing(model):
    view = explore.trajectory(model, "hat", n=2, steps=5)
    sequence = view.canvas.sequence
    grid = view.grid
    for frame in range(6):
        assert np.array_equal(pasted(view.canvas, frame), grid.paint(view.recording.frame(frame)))
    linked = [(link.source[0], link.target[0], link.target[1]) for link in view.links]
    assert linked == [(view.play, view.index, "value"), (view.index, view.canvas, "frame_index")]
    view.canvas._handle_custom_msg({"acknowledged": 1}, [])  # a browser is there
    view.index.value = 3
    assert view.wait_idle()
    assert (view.canvas.sequence, view.canvas.frame_index) == (sequence, 0)  # it has moved on by itself
    view.close()


def test_it_is_live_in_jupyterlab_and_a_still_picture_elsewhere(model):
    view = explore.trajectory(model, "hat", n=2, steps=5)
    data, metadata = view._repr_mimebundle_()
    assert data[WIDGET_VIEW]["model_id"] == view.model_id
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).size[0] > 600
    alt = metadata["image/png"]["alt"]
    assert alt.startswith("Above the state, below the image predicted from it, at t = 1.00, t = 0.80")
    assert json.dumps(metadata)


def test_settings_that_make_no_sense_are_named(model):
    with pytest.raises(ValueError, match="steps = 0"):
        explore.trajectory(model, "hat", steps=0)
    with pytest.raises(ValueError, match="unknown class 'shoe'"):
        explore.trajectory(model, "shoe", n=1, steps=1)


# -- the interval of the guidance slider -------------------------------------------------------------


def test_the_guidance_slider_has_an_interval_where_it_is_requested(model):
    plain = explore.guidance(model, cfg=3.0, steps=4)
    assert "interval" not in [control.description for control in plain.controls]
    view = explore.guidance(model, cfg=3.0, steps=4, interval=(0.0, 1.0))
    assert view.controls[-1].description == "interval"
    assert np.array_equal(shown(view), shown(plain))
    assert "guided t 1.00-0.00, 8 evaluations" in view.status
    view.interval.value = (0.0, 0.5)  # t = 1, 0.75, 0.5, 0.25: the last two are guided
    assert "guided t 0.50-0.00, 6 evaluations" in view.status
    assert not np.array_equal(shown(view), shown(plain))
    view.cfg.value = 1.0
    assert ", 4 evaluations" in view.status


def test_what_the_slider_says_about_cost_is_what_is_paid(model):
    from dit_course.commands.evaluate import count_evaluations
    from dit_course.explore.guidance import cost

    for cfg in (0.0, 1.0, 2.5):
        for interval in ((0.0, 1.0), (0.3, 0.7), (0.0, 0.0)):
            assert cost(cfg, 7, interval) == count_evaluations(Sampler(model, 7, "ab2", cfg, interval))


def test_an_interval_that_makes_no_sense_is_refused(model):
    with pytest.raises(ValueError, match="interval"):
        explore.guidance(model, steps=1, interval=(0.7, 0.2))
