"""A training that is watched: it ends by itself or when somebody stops it, and keeps what was learned in any case."""

import base64
import os
import signal
import sys
import threading
import time

import ipywidgets
import numpy as np
import pytest
import torch
from canvas_pixels import decoded, pasted

from dit_course import EMA, DiT, DiTConfig, NonFiniteLoss, Step, TrainConfig, explore, train
from dit_course.authoring.notebooks import WIDGET_VIEW
from dit_course.explore.engine.keyboard import Accessible
from dit_course.explore.training import ROWS, SHARE, Training, chosen, clock, receive_while_busy
from dit_course.sampling import Sampler

MODULE = sys.modules["dit_course.explore.training"]
CONFIG = DiTConfig(image_size=8, channels=1, width=16, depth=1, heads=2, num_classes=3)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DiT(CONFIG)


@pytest.fixture
def dataset():
    labels = torch.arange(40) % 3
    return (labels * 100).byte()[:, None, None, None].expand(40, 1, 8, 8).clone(), labels


def steps_of(count, seconds=0.01, after=lambda index: None):
    """A generator of invented steps."""
    for index in range(1, count + 1):
        loss = torch.tensor(1.0 / index)
        yield Step(index, loss, loss, 1e-3, 100.0, index * seconds, count, index / count)
        after(index)


def test_a_training_runs_to_its_end_and_is_as_without_anybody_watching(model, dataset):
    config = TrainConfig(steps=12, batch_size=8)
    ema = EMA(model)
    run = explore.training(train(model, dataset, config, ema=ema), ema.model)
    again = DiT(CONFIG)
    torch.manual_seed(0)
    again = DiT(CONFIG)
    assert run.losses == [step.loss for step in train(again, dataset, config)]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not run.stopped
    assert run.bar.value == 1
    assert run.button.layout.display == "none"
    assert run.strips[0][0] == 0.0
    assert torch.equal(run.strips[-1][1], (Sampler(ema.model, 8, "ab2", 2.0).sample(3, seed=0) * 255).round().byte())
    assert "12 steps in 0:0" in run.picture.alt


def test_it_prints_now_and_then_where_nobody_watches(monkeypatch, capsys):
    monkeypatch.setattr(MODULE, "FIRST_LINE", 0.02)
    monkeypatch.setattr(MODULE, "LINE", 0.05)
    explore.training(steps_of(20, after=lambda _: time.sleep(0.01)))
    lines = capsys.readouterr().out.splitlines()
    assert 2 <= len(lines) <= 8
    assert "of 20 steps | loss 0." in lines[0]
    assert "100 images/s | about 0:0" in lines[0]  # seconds: the drawing on the way counts, and a busy machine is slow
    assert lines[-1].startswith("done: 20 steps in 0:00, and 0:0")


def test_it_prints_nothing_where_a_browser_shows_it(monkeypatch, capsys):
    monkeypatch.setattr(MODULE, "FIRST_LINE", 0.0)
    view = Training(steps_of(5), None, 2.0, 8, 0)
    view.presence.here = True  # what the browser sets
    view.run()
    assert capsys.readouterr().out == ""
    assert "done: 5 steps" in view.message.value


def test_the_stop_button_works_from_another_thread_and_closes_the_generator(model, dataset, tmp_path):
    steps = train(model, dataset, TrainConfig(steps=10_000, batch_size=8), folder=tmp_path)
    view = Training(steps, None, 2.0, 8, 0)
    threading.Timer(0.3, view.button.click).start()
    view.run()
    assert view.stopped
    assert 0 < len(view.losses) < 10_000
    assert "stopped after" in view.message.value
    assert "then stopped" in view.picture.alt
    names = [path.stem for path in tmp_path.glob("checkpoint-*.json")]
    assert names == [f"checkpoint-{len(view.losses):08d}"]  # closing has saved
    assert next(steps, None) is None


def test_an_interrupt_ends_between_two_steps_and_the_notebook_goes_on():
    before = signal.getsignal(signal.SIGINT)

    def interrupt(index):
        if index == 3:
            os.kill(os.getpid(), signal.SIGINT)

    view = explore.training(steps_of(50, after=interrupt))
    assert view.stopped
    assert 3 <= len(view.losses) <= 5
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_ends_a_step_that_hangs():
    def hang(index):
        if index == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    start = time.perf_counter()
    view = explore.training(steps_of(50, after=hang))
    assert view.stopped
    assert len(view.losses) == 2
    assert time.perf_counter() - start < 4


def test_in_a_thread_it_runs_without_signals():
    views = []
    thread = threading.Thread(target=lambda: views.append(explore.training(steps_of(3))))
    thread.start()
    thread.join()
    assert len(views[0].losses) == 3


def test_an_error_of_the_training_is_shown_and_raised(model, dataset):
    class Broken:
        def loss(self, *args):
            return model.final.linear.weight.sum() * float("nan")

    view = Training(train(model, dataset, TrainConfig(steps=9, batch_size=8), flow=Broken()), None, 2.0, 8, 0)
    with pytest.raises(NonFiniteLoss, match="step 1"):
        view.run()
    assert view.button.layout.display == "none"


def test_drawing_takes_its_share_and_no_more(model, monkeypatch):
    monkeypatch.setattr(MODULE, "REDRAW", 0.0)
    monkeypatch.setattr(Training, "_plot", lambda self: time.sleep(0.02))
    view = Training(steps_of(400, after=lambda _: time.sleep(0.005)), model, 2.0, 1, 0)
    start = time.perf_counter()
    view.run()
    whole = time.perf_counter() - start
    assert len(view.strips) >= 3
    assert view.sampling_seconds < (SHARE + 0.1) * whole


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ([], []),
        ([0.0], [0]),
        ([0.0, 5.0, 10.0], [0, 1, 2]),
        ([0.0, 10.0, 10.5], [0, 2]),  # the last two are nearly the same
        ([float(i) for i in range(0, 65)], [0, 4, 8, 16, 32, 64]),
    ],
)
def test_times_are_the_first_the_last_and_halves_between(times, shown):
    assert chosen(times) == shown
    assert len(shown) <= ROWS


def test_a_clock_shows_minutes():
    assert [clock(x) for x in (0, 9.9, 83.4, 600)] == ["0:00", "0:09", "1:23", "10:00"]


def test_an_unconditional_model_and_one_with_many_classes_draw_ten(perturbed):
    for classes in (None, 1000):
        config = DiTConfig(image_size=8, channels=3, width=16, depth=1, heads=2, num_classes=classes)
        view = explore.training(steps_of(2), perturbed(DiT(config)), solver_steps=1)
        assert view.strips[-1][1].shape == (10, 3, 8, 8)


def test_any_iterable_of_steps_will_do():
    assert explore.training(list(steps_of(4))).losses == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert explore.training([]).losses == []


def test_it_is_live_in_jupyterlab_and_a_still_picture_elsewhere():
    view = explore.training(steps_of(6))
    data, metadata = view._repr_mimebundle_()
    assert data[WIDGET_VIEW]["model_id"] == view.model_id
    live = pasted(view.canvas)
    assert np.array_equal(decoded(base64.b64decode(data["image/png"]))[: len(live)], live)
    assert metadata["image/png"]["alt"].startswith("6 steps in 0:00. The loss in each of 6 steps")
    assert isinstance(view, ipywidgets.DOMWidget)
    assert isinstance(view.children[-1], Accessible)
    assert view.button.tooltip
    assert "here" in view.presence._esm


def test_what_a_browser_says_is_heard():
    view = Training(steps_of(1), None, 2.0, 8, 0)
    view.presence._handle_custom_msg("here", [])
    assert view.presence.here


def test_clicks_are_not_sent_to_the_busy_cell():
    """As ipykernel 7.4 would do; in a real JupyterLab the button was seen to work."""

    class Comm:
        pass

    class Widget:
        comm = Comm()

    receive_while_busy(Widget)
    Widget.comm._reply_subshell_id = None
    receive_while_busy(Widget)
    assert not hasattr(Widget.comm, "_reply_subshell_id")
    Widget.comm = None  # where there is no kernel
    receive_while_busy(Widget)
