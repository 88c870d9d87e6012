"""Moving sliders for a long time costs no memory: measured, for every explorer, by a test that can fail.

Sliders go round through the same few places, so what is remembered on purpose is there after the first rounds; what
still grows with every event afterwards was kept by mistake. (`tests/benchmarks/memory.py` measures whole kernels.)
"""

import gc
import threading
import time
import tracemalloc

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from dit_course import explore
from dit_course.dit import DiT
from dit_course.explore.engine import worker
from dit_course.explore.engine.canvas import Canvas
from dit_course.explore.engine.view import neighbors

EVENTS = 200
PER_EVENT = 1000  # bytes that may be left behind; the smallest of the pictures has a hundred times as many


@pytest.fixture
def model(small_config):
    """A small network on 8x12 pictures."""
    torch.manual_seed(0)
    return DiT(small_config())


def averages(model):
    start = parameters_to_vector(model.parameters()).detach()
    return start + 0.02 * torch.arange(5)[:, None] * torch.randn(len(start))


EXPLORERS = {
    "patches": lambda model: explore.patches(torch.rand(1, 8, 12), patch_size=2),
    "positions": lambda model: explore.positions(model),
    "attention": lambda model: explore.attention(model, torch.rand(model.config.channels, 8, 12)),
    "registers": lambda model: explore.registers(model, block=1),
    "time_embedding": lambda model: explore.time_embedding(),
    "timesteps": lambda model: explore.timesteps(),
    "noising": lambda model: explore.noising(torch.rand(model.config.channels, 8, 12), model=model),
    "ema": lambda model: explore.ema(model, averages(model)),
    "guidance": lambda model: explore.guidance(model, steps=2, interval=(0.0, 1.0)),
    "trajectory": lambda model: explore.trajectory(model, steps=4),
}


def held():
    """Bytes that Python, numpy and torch hold now."""
    gc.collect()
    tensors = {one.data_ptr(): one.untyped_storage().nbytes() for one in gc.get_objects() if type(one) is torch.Tensor}
    return tracemalloc.get_traced_memory()[0] + sum(tensors.values())


def go_round(view, events):
    """Move the controls, all of those that have a number or a choice, out of their place and back again."""
    start = [control.value for control in view.controls]
    singles = [i for i, value in enumerate(start) if not isinstance(value, tuple)]
    places = []
    for state in neighbors([view.controls[i] for i in singles], tuple(start[i] for i in singles)):
        places += [state, tuple(start[i] for i in singles)]
    for event in range(events):
        for i, value in zip(singles, places[event % len(places)], strict=True):
            view.controls[i].value = value
        assert view.wait_idle()


def left_behind(view, events=EVENTS):
    """Bytes that each of many events has left behind, once all places were seen."""
    view.canvas.acknowledged = 0  # as if a browser watched
    tracemalloc.start()
    try:
        go_round(view, 40)
        before = held()
        go_round(view, events)
        return (held() - before) / events
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", EXPLORERS)
def test_events_leave_no_memory_behind(name, model, monkeypatch):
    monkeypatch.setattr(worker, "THREAD_TIMEOUT", 0.05)
    view = EXPLORERS[name](model)
    assert left_behind(view) < PER_EVENT
    view.close()
    end = time.monotonic() + 10
    while any("dit_course" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < end, "a thread is left"
        time.sleep(0.01)


@pytest.mark.parametrize("what", ["a drawing", "a tensor", "a state"])
def test_the_measure_sees_a_leak(what, monkeypatch):
    kept, set_text = [], Canvas._set_text

    def keeping(self, *arguments):
        set_text(self, *arguments)
        leaks = {"a drawing": lambda: self._background_pixels.copy(), "a tensor": lambda: torch.zeros(300)}
        kept.append(leaks.get(what, lambda: dict(self.get_state()) | {"more": bytes(2000)})())

    monkeypatch.setattr(Canvas, "_set_text", keeping)
    view = explore.positions((3, 4), 16)
    assert left_behind(view, 40) > PER_EVENT
    view.close()
