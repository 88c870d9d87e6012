"""The background thread of the sliders: newest request only, never two at once, and gone when it is idle."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from dit_course import explore
from dit_course.dit import DiT, DiTConfig
from dit_course.explore.engine import worker as module
from dit_course.explore.engine.worker import Cache, Job, Outdated, Weights, Worker, bytes_of, fingerprint


@pytest.fixture
def model(perturbed):
    config = DiTConfig(image_size=8, channels=1, width=16, depth=1, heads=2, num_classes=3)
    return perturbed(DiT(config)).eval()


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "dit_course explorer"]


def until(test, seconds=10.0):
    end = time.monotonic() + seconds
    while not test() and time.monotonic() < end:
        time.sleep(0.005)
    return test()


class Requester:
    """Something like an explorer: what is wanted, started and finished."""

    def __init__(self, step=0.005, **settings):
        self.wanted, self.started, self.finished, self.at_once, self.most = 0, [], [], 0, 0
        self.step = step
        self.worker = Worker(self.work, **settings)

    def work(self, job):
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            wanted = self.wanted
            self.started.append(wanted)
            job.shown = True
            for _ in range(4):
                time.sleep(self.step)
                job.check()
            self.finished.append(wanted)
        finally:
            self.at_once -= 1

    def move(self, value):
        self.wanted = value
        self.worker.request()


def test_the_newest_request_is_served_and_superseded_ones_are_dropped():
    requester = Requester()
    for value in range(1, 41):
        requester.move(value)
        time.sleep(0.002)
    assert requester.worker.wait_idle()
    assert requester.finished[-1] == 40
    assert len(requester.started) < 40
    assert len(requester.finished) <= len(requester.started)
    assert requester.most == 1
    requester.worker.close()


def test_nothing_is_dropped_before_it_has_shown_something():
    """Else a slider that is dragged faster than the first result comes would paint nothing at all."""
    checked = []

    def work(job):
        for _ in range(3):
            time.sleep(0.005)
            job.check()
        job.shown = True
        checked.append(1)
        job.check()

    worker = Worker(work)
    for _ in range(30):
        worker.request()
        time.sleep(0.004)
    worker.wait_idle()
    assert len(checked) >= 4


def test_the_thread_ends_by_itself_and_comes_back(monkeypatch):
    monkeypatch.setattr(module, "THREAD_TIMEOUT", 0.05)
    requester = Requester()
    assert until(lambda: not threads())  # of other tests
    for value in (1, 2):
        requester.move(value)
        assert len(threads()) == 1
        assert requester.worker.wait_idle()
        assert until(lambda: not threads())
    assert requester.finished == [1, 2]


def test_closing_ends_the_thread_within_a_step():
    requester = Requester(step=0.02)
    requester.move(1)
    assert until(lambda: requester.started)
    requester.worker.close()
    assert until(lambda: not threads(), 2)
    assert requester.finished == []
    requester.move(2)
    assert not threads()
    assert requester.worker.wait_idle()


class Deep(nn.Module):
    """A network that counts the blocks it has gone through, and in the second of four somebody moves a slider."""

    def __init__(self, worker):
        super().__init__()
        self.worker, self.entered = worker, 0
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4)) for _ in range(4))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
            self.entered += 1
            self.worker.pending = self.entered == 2
        return x


def test_work_is_dropped_inside_of_a_model_too():
    worker = Worker(lambda job: None)
    model, x = Deep(worker), torch.zeros(1, 4)
    job = Job(worker)
    with job.within(model):  # nothing was shown for it yet: it goes on
        model(x)
    assert model.entered == 4
    job.shown, model.entered = True, 0
    with pytest.raises(Outdated), job.within(model):
        model(x)
    assert model.entered == 2  # dropped before the third
    assert not any(part._forward_pre_hooks for part in model.modules())
    model.entered = 0
    with job.within(model):
        other = threading.Thread(target=model, args=(x,))  # who draws with the same model elsewhere is not disturbed
        other.start()
        other.join()
    assert model.entered == 4


def test_a_compiled_model_is_left_as_it_is():
    worker = Worker(lambda job: None)
    for compiled in (torch.compile(Deep(worker)), Deep(worker)):
        compiled.compile()  # compiles nothing before it is called
        with Job(worker, shown=True).within(compiled):
            assert not any(part._forward_pre_hooks for part in compiled.modules())


def test_gradients_are_off_in_the_thread_and_errors_are_handed_on():
    seen, errors = [], []

    def work(job):
        seen.append(torch.is_grad_enabled())
        raise KeyError("no such thing")

    worker = Worker(work, failed=errors.append)
    worker.request()
    assert worker.wait_idle()
    assert seen == [False]
    assert until(lambda: [str(error) for error in errors] == ["'no such thing'"])
    with pytest.raises(KeyError):
        worker.run_now()
    worker.close()


def test_between_requests_it_prefetches_until_the_next_one():
    steps = []

    def idle(job):
        assert job.shown
        for number in range(1000):
            steps.append(number)
            time.sleep(0.002)
            job.check()

    requester = Requester(idle=idle, idle_after=0.01)
    requester.move(1)
    assert until(lambda: len(steps) > 3)
    requester.move(2)
    assert until(lambda: requester.finished == [1, 2])
    assert len(steps) < 500
    requester.worker.close()
    assert until(lambda: not threads())


def test_an_error_while_prefetching_is_dropped():
    requester = Requester(idle=lambda job: 1 / 0, idle_after=0.001)
    requester.move(1)
    requester.worker.wait_idle()
    time.sleep(0.05)
    requester.move(2)
    assert requester.worker.wait_idle()
    assert requester.finished == [1, 2]
    requester.worker.close()


def test_a_plain_call_works_in_the_calling_thread_to_the_end():
    requester = Requester()
    requester.wanted = 7
    requester.worker.run_now()
    assert requester.finished == [7]
    assert not threads()
    job = Job(requester.worker, live=False, shown=True)
    requester.worker.pending = True
    job.check()  # nobody overtakes it
    live = Job(requester.worker, shown=True)
    with pytest.raises(Outdated):
        live.check()


# -- the memory ----------------------------------------------------------------------------------------------


def test_the_cache_keeps_what_was_used_last_within_its_limit():
    cache = Cache(limit=1000)
    for name in "abcd":
        cache.put(name, np.zeros(300, np.uint8))
    assert [key for key, _ in cache.items()] == ["b", "c", "d"]
    assert cache.get("b") is not None
    cache.put("e", np.zeros(300, np.uint8))
    assert [key for key, _ in cache.items()] == ["d", "b", "e"]
    assert cache.size <= cache.limit
    cache.put("huge", np.zeros(2000, np.uint8))
    assert cache.get("huge") is None
    cache.put("e", np.zeros(10, np.uint8))
    assert cache.size == 610
    cache.clear()
    assert (cache.size, cache.items()) == (0, [])


def test_sizes_count_what_is_inside():
    class Thing:
        def __init__(self):
            self.a, self.b = torch.zeros(10), [np.zeros(5), b"12345678"]

    assert 80 + 40 + 8 <= bytes_of(Thing()) < 400
    assert bytes_of({"a": torch.zeros(100, dtype=torch.float64)}) >= 800
    assert bytes_of(None) < 100


# -- the weights ---------------------------------------------------------------------------------------------


def test_a_model_that_did_not_change_is_copied_once(model):
    weights = Weights(model)
    copy = weights.copy()
    assert weights.copy() is copy
    assert weights.version == 1
    assert not copy.training
    model.train()
    assert weights.copy() is copy
    assert model.training


@pytest.mark.parametrize("how", ["step", "data", "replaced", "loaded", "nan"])
def test_whatever_way_it_learns_there_is_a_new_copy(model, how):
    weights = Weights(model)
    before = weights.copy()
    weight = model.final.linear.weight
    if how == "step":
        with torch.no_grad():
            weight.add_(1)
    elif how == "data":
        weight.data -= 0.1  # leaves no trace in the version
    elif how == "replaced":
        weight.data = weight.data + 1
    elif how == "nan":
        weight.data.fill_(float("nan"))
    else:
        model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})
    after = weights.copy()
    assert after is not before
    assert weights.copy() is after
    assert torch.equal(after.final.linear.weight, weight) or how == "nan"


def test_a_copy_is_of_one_step_while_another_thread_trains():
    """Both weights grow together: a copy taken in the middle of a step would hold two different numbers."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.zeros(1000)), nn.Parameter(torch.zeros(1000))

    model, stop = Two(), threading.Event()

    def train():
        with torch.no_grad():
            while not stop.is_set():
                model.a.add_(1)
                time.sleep(0.001)
                model.b.add_(1)
                time.sleep(0.02)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        weights = Weights(model)
        for _ in range(20):
            copy = weights.copy()
            assert float(copy.a[0]) == float(copy.b[0])
    finally:
        stop.set()
        thread.join()


def test_weights_that_never_hold_still_are_named(model, monkeypatch):
    numbers = iter(range(10_000))
    monkeypatch.setattr(module, "fingerprint", lambda _: next(numbers))
    with pytest.raises(RuntimeError, match="stop the training"):
        Weights(model).copy(tries=3)


def test_a_fingerprint_costs_little_and_reads_any_model():
    with torch.inference_mode():
        model = nn.Linear(3, 4)
        assert fingerprint(model) == fingerprint(model)
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2, dtype=torch.bfloat16))
    assert fingerprint(model) == fingerprint(model)


# -- a whole explorer ------------------------------------------------------------------------------------------


def watched(view):
    """As if a browser had shown it."""
    view.canvas._on_message(None, {"acknowledged": 0}, [])
    return view


def test_two_hundred_events_leave_neither_threads_nor_memory_behind(model, monkeypatch):
    monkeypatch.setattr(module, "THREAD_TIMEOUT", 0.05)
    view = watched(explore.guidance(model, steps=2))
    view.trajectories.limit = 200_000
    for number in range(200):
        view.seed.value = number % 90 + 1
        if number % 10 == 0:
            time.sleep(0.01)
    assert view.wait_idle()
    assert len(threads()) <= 1
    assert f"seed {199 % 90 + 1}," in view.status
    assert not view.canvas.rough
    assert view.trajectories.size <= 200_000
    assert view.trajectories.size > 0
    view.close()
    assert until(lambda: not threads())
    assert (view.trajectories.size, view.weights._copy) == (0, None)  # though a notebook keeps it as Out[...]
    gone = weakref.ref(view)
    del view
    gc.collect()
    assert gone() is None


def test_free_memory_is_given_back_when_the_thread_ends(monkeypatch):
    monkeypatch.setattr(module, "THREAD_TIMEOUT", 0.05)
    given = []
    monkeypatch.setattr(module, "trim_memory", lambda: given.append(threading.current_thread().name))
    worker = Worker(lambda job: None, idle_after=0.01)
    worker.request()
    assert until(lambda: given == ["dit_course explorer"])
    worker.close()
    monkeypatch.undo()
    module.trim_memory()  # on any machine
    monkeypatch.setattr(module.ctypes, "CDLL", lambda _: object())
    module.trim_memory()  # where the C library knows no such thing


def test_a_closed_view_is_gone_from_ipywidgets(model):
    from ipywidgets.widgets.widget import _instances

    before = len(_instances)
    for _ in range(3):
        explore.guidance(model, steps=1).close()
    assert len(_instances) == before


def test_running_a_cell_again_closes_what_it_made_before(model, monkeypatch):
    import sys
    import types

    header = {"metadata": {"cellId": "abc"}, "header": {"msg_id": "1"}}
    kernel = types.SimpleNamespace(get_parent=lambda: header)
    shell = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=kernel))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    first, second = explore.guidance(model, steps=1), explore.guidance(model, steps=1)
    assert [first.worker.closed, second.worker.closed] == [False, False]  # one cell may show two
    header["header"]["msg_id"] = "2"
    third = explore.guidance(model, steps=1)
    assert first.worker.closed
    assert second.worker.closed
    assert not third.worker.closed
    header["metadata"]["cellId"] = "other"
    explore.guidance(model, steps=1).close()
    assert not third.worker.closed
    third.close()


def test_while_a_cell_trains_the_slider_draws_with_weights_of_one_step(model):
    view = watched(explore.guidance(model, steps=2))
    stop, started = threading.Event(), threading.Event()

    def train():
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        while not stop.is_set():
            model.train()
            loss = model(torch.randn(4, 1, 8, 8), torch.rand(4), torch.tensor([0, 1, 2, 0])).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            started.set()
            assert model.training  # nobody else changes the mode
            time.sleep(0.01)

    errors = []
    thread = threading.Thread(target=lambda: errors.extend(_caught(train)))
    thread.start()
    assert started.wait(30)
    for seed in range(1, 9):
        view.seed.value = seed
        assert view.wait_idle()
        assert not view.canvas.wrong, view.status
    stop.set()
    thread.join()
    assert errors == []
    assert view.weights.version > 1
    view.close()


def _caught(function):
    try:
        function()
    except BaseException as error:
        return [error]
    return []
