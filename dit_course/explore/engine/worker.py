"""Background work for the sliders: one thread that serves the newest request, and caches of what it has computed.

A slider's callback only files a request and returns. The thread serves it in stages, a preview first and then full
quality, and drops it as soon as a newer request is pending, but never before its first result: a slider that is dragged
keeps painting. Between requests the thread prefetches what the next move may need. It ends by itself when there is
nothing to do, so that no idle explorer holds a thread.
"""

import contextlib
import ctypes
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

IDLE_AFTER = 0.2  # seconds without a request until it prefetches
THREAD_TIMEOUT = 1.0  # seconds that the thread waits for the next request before it ends
INSTANT = 0.1  # seconds: a result that comes as fast as this needs no preview
DEBOUNCE = 0.08  # seconds without a request until full quality begins
STILL = 0.003  # seconds without a write to the weights between two training steps
SAMPLE = 32  # values of each weight that are compared to see whether it has changed
TRIM_EVERY = 16  # requests; each leaves up to 10 MB of free memory in the C library


class Outdated(Exception):
    """Raised inside of work whose result nobody waits for any more."""


class Job:
    """One request that the worker serves.

    live: a browser is watching, so a quick preview is worthwhile. shown: whether a result is on screen; the work sets
    it. speculative: nobody has requested it yet (prefetching).
    """

    def __init__(self, worker: "Worker", live: bool = True, shown: bool = False, speculative: bool = False):
        self.worker, self.live, self.shown, self.speculative = worker, live, shown or speculative, speculative

    @property
    def outdated(self) -> bool:
        """Whether a newer request is pending, or the worker is closed."""
        if self.speculative and self.worker.pause():
            return True
        return self.live and (self.worker.closed or self.worker.pending)

    def check(self) -> None:
        """Between two steps: raise `Outdated` when a newer request is pending and this one has shown something."""
        if self.shown and self.outdated:
            raise Outdated

    @contextlib.contextmanager
    def within(self, model: nn.Module) -> Iterator[None]:
        """Check inside a model, too, whenever this thread enters one of its blocks.

        A guided step evaluates twice as many images, nearly 0.1 s: too long to wait for its end. A compiled model gets
        no hooks, because it would be compiled again.
        """
        thread = threading.get_ident()

        def check(*_) -> None:
            if threading.get_ident() == thread:
                self.check()

        parts = [part for part in model.modules() if next(part.children(), None) is not None]
        compiled = any(hasattr(part, "_orig_mod") or part._compiled_call_impl is not None for part in model.modules())
        hooks = [] if compiled else [part.register_forward_pre_hook(check) for part in parts]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def debounce(self, seconds: float) -> None:
        """Wait until the slider rests: raise `Outdated` when a newer request comes meanwhile."""
        if self.shown:
            self.worker.wait(seconds)
            self.check()


class Worker:
    """A thread that serves the newest request.

    work: called with a `Job` for each request that is not superseded. It reads the state of the controls itself, shows
        its results, and calls `job.check()` between its steps.
    idle: called with a speculative `Job` once no request has followed for `idle_after` seconds: it prefetches.
    failed: called with what `work` raises; what `idle` raises is dropped.
    pause: whether something else needs the processor, such as a running cell: then nothing is prefetched.
    Gradients are off in both. The thread starts with the first request, and ends `THREAD_TIMEOUT` after the last.
    """

    def __init__(
        self,
        work: Callable[[Job], None],
        idle: Callable[[Job], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
        idle_after: float = IDLE_AFTER,
        pause: Callable[[], bool] = lambda: False,
    ):
        self.work, self.idle, self.failed, self.idle_after, self.pause = work, idle, failed, idle_after, pause
        self.closed = False
        self._condition = threading.Condition()
        self._working = threading.RLock()  # held by the thread that runs `work`
        self._thread: threading.Thread | None = None
        self._busy = False
        self.pending = False  # whether there is a request that was not taken yet
        self._awake = False

    def request(self) -> None:
        """File a request; returns at once."""
        self._start(pending=True)

    def prefetch(self) -> None:
        """Prefetch without a request; returns at once."""
        self._start(pending=False)

    def _start(self, pending: bool) -> None:
        with self._condition:
            if self.closed:
                return
            self.pending, self._awake = self.pending or pending, True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="dit_course explorer")
                self._thread.start()
            self._condition.notify_all()

    def run_now(self) -> None:
        """Serve a request in the calling thread, to the end, once the current one is done; errors are raised."""
        self.wait_idle()
        with self._working, torch.no_grad():
            self.work(Job(self, live=False))

    def wait(self, seconds: float) -> bool:
        """Wait for a new request, at most so long. Returns whether there is one."""
        with self._condition:
            return self._condition.wait_for(lambda: self.pending or self.closed, seconds)

    def wait_idle(self, timeout: float = 60.0) -> bool:
        """Wait until no request is pending or in progress; False after `timeout` seconds."""
        if threading.current_thread() is self._thread:
            return True
        with self._condition:
            return self._condition.wait_for(lambda: not (self.pending or self._busy) or self.closed, timeout)

    def close(self) -> None:
        """Drop all work; the thread ends after its current step."""
        with self._condition:
            self.closed, self.pending = True, False
            self._condition.notify_all()

    def _take(self) -> Job | None:
        """The next request; None after a while without one: then this thread is no longer the worker's."""
        with self._condition:
            self._condition.wait_for(lambda: self._awake or self.closed, THREAD_TIMEOUT)
            if self.closed or not self._awake:
                self._thread = None
                return None
            job = Job(self, shown=not self.pending)  # prefetch only: there is no request to serve
            self._busy, self.pending, self._awake = self.pending, False, False
            return job

    @torch.no_grad()  # gradient mode belongs to the thread: what a cell has set does not apply here
    def _run(self) -> None:
        taken = 0
        while (job := self._take()) is not None:
            taken += 1
            if taken % TRIM_EVERY == 0:  # even while a slider never rests
                trim_memory()
            try:
                with self._working:
                    if not job.shown:
                        self.work(job)
            except Outdated:
                pass
            except Exception as error:  # what a thread raises is shown nowhere
                self._report(error)
            finally:
                with self._condition:
                    self._busy = False
                    self._condition.notify_all()
            if self.idle is not None and not self.wait(self.idle_after) and not self.pause():
                try:
                    self.idle(Job(self, speculative=True))
                except Exception:  # nobody has requested it: a later request will show the error
                    continue
        trim_memory()

    def _report(self, error: Exception) -> None:
        if self.failed is not None and not self.closed and not self.pending:
            self.failed(error)


def trim_memory() -> None:
    """Give free memory back to the system, where the C library can (glibc); by itself it keeps nearly all of it.

    After 200 updates of the guidance explorer it held 0.8 GB, of which 0.1 GB were in use.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class Cache:
    """A thread-safe least-recently-used cache with a limit in bytes; a larger value is not kept."""

    def __init__(self, limit: int = 64 * 2**20):
        self.limit, self.size = limit, 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """The value of this key, or None."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a value whose size is known: tensors, arrays, bytes, or tuples, lists and objects of them."""
        size = bytes_of(value)
        with self._lock:
            if key in self._kept:
                self.size -= self._kept.pop(key)[1]
            if size > self.limit:
                return
            self._kept[key] = (value, size)
            self.size += size
            while self.size > self.limit:
                self.size -= self._kept.popitem(last=False)[1][1]

    def fetch(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The value of this key, computed and kept if it is missing."""
        value = self.get(key)
        if value is None:
            value = compute()
            self.put(key, value)
        return value

    def items(self) -> list[tuple[Hashable, Any]]:
        """All keys and values, the most recently used last."""
        with self._lock:
            return [(key, value) for key, (value, _) in self._kept.items()]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self.size = 0


def bytes_of(value: Any) -> int:
    """About how many bytes a value takes: tensors, arrays and bytes inside tuples, lists and objects."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    if isinstance(value, list | tuple):
        return sum(map(bytes_of, value)) + 8 * len(value)
    if isinstance(value, dict):
        return sum(map(bytes_of, value.values())) + 64 * len(value)
    if hasattr(value, "__dict__"):
        return sum(map(bytes_of, vars(value).values())) + 64
    return sys.getsizeof(value)


class Weights:
    """A copy of a model to sample with, renewed whenever the model's weights have changed.

    A cell may train the model while a slider moves: each update then uses the weights of one training step, in eval
    mode, and the model itself is only read. version: grows with every new copy. renewed: called at each.
    """

    def __init__(self, model: nn.Module, renewed: Callable[[], None] | None = None):
        self.model, self.version = model, 0
        self._renewed = renewed or (lambda: None)
        self._copy: nn.Module | None = None
        self._seen: tuple | None = None
        self._lock = threading.Lock()

    def copy(self, tries: int = 60) -> nn.Module:
        """The copy, up to date. Raises RuntimeError when the weights change all the time.

        A write shortly before, during or shortly after the copy means that it falls into a training step: try again.
        """
        with self._lock:
            seen = fingerprint(self.model)
            if seen == self._seen:
                return self._copy
            for attempt in range(tries):
                pause = STILL if attempt < tries // 2 else 0.0  # very fast training leaves no long pauses
                time.sleep(pause)
                before = fingerprint(self.model)
                if before != seen:
                    seen = before
                    continue
                fresh = deepcopy(self.model).eval().requires_grad_(False)
                time.sleep(pause)
                seen = fingerprint(self.model)
                if before == seen:
                    self._copy, self._seen = fresh, seen
                    self.version += 1
                    self._renewed()
                    return fresh
        raise RuntimeError("the weights change all the time: stop the training, then move the slider again")

    def clear(self) -> None:
        """Let go of the copy."""
        with self._lock:
            self._copy, self._seen = None, None


@torch.no_grad()
def fingerprint(model: nn.Module) -> tuple:
    """What changes with the weights: their addresses, their write counts, and a sample of their values.

    The sample catches what leaves no other trace, such as `weight.data -= step`. Costs about a millisecond.
    """
    tensors = [*model.parameters(), *model.buffers()]
    versions = [0 if tensor.is_inference() else tensor._version for tensor in tensors]
    samples = [tensor.reshape(-1)[:: tensor.numel() // SAMPLE + 1].float() for tensor in tensors]
    return (*(tensor.data_ptr() for tensor in tensors), *versions, torch.cat(samples).cpu().numpy().tobytes())
