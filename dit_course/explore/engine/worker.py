"""Work behind the sliders: one thread that always does the newest thing that was asked for, and nothing twice.

A slider's callback only leaves a request and returns. The thread answers it in stages, first something rough and then
the full quality, and drops it as soon as a newer request is there, but never before its first answer: a slider that is
dragged keeps painting. While the hand rests, it computes what may be asked for next. It ends by itself when there
is nothing to do, so that no explorer holds a thread that is not working.
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

REST = 0.2  # seconds without a request until it computes ahead
PATIENCE = 1.0  # seconds that the thread waits for more work before it ends
STILL = 0.003  # seconds that weights hold still between two steps of a training
SAMPLE = 32  # numbers of each weight that are looked at to see whether it has changed


class Outdated(Exception):
    """Raised inside of work whose answer nobody waits for any more."""


class Job:
    """One request in the hands of the worker.

    live: somebody waits for it and watches, so that a rough answer at once is worth something. answered: whether
    something was shown; the work sets it. ahead: nobody has asked for it, it may be asked for next.
    """

    def __init__(self, worker: "Worker", live: bool = True, answered: bool = False, ahead: bool = False):
        self.worker, self.live, self.answered, self.ahead = worker, live, answered or ahead, ahead

    @property
    def outdated(self) -> bool:
        """Whether a newer request waits, or nobody waits at all."""
        if self.ahead and self.worker.pause():
            return True
        return self.live and (self.worker.closed or self.worker.waiting)

    def check(self) -> None:
        """Between two steps: raises `Outdated` when something newer was asked for, and this has shown something."""
        if self.answered and self.outdated:
            raise Outdated

    @contextlib.contextmanager
    def within(self, model: nn.Module) -> Iterator[None]:
        """Check inside of a model, too, whenever this thread enters one of its blocks.

        A step with guidance asks the network for twice as many pictures: nearly 0.1 s that a hand would wait. Not for a
        compiled model, which would be compiled again.
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

    def rest(self, seconds: float) -> None:
        """Wait for the hand to rest: raises `Outdated` when a newer request comes meanwhile."""
        if self.answered:
            self.worker.wait(seconds)
            self.check()


TIDY_EVERY = 16  # requests; each leaves up to 10 MB in the C library's hands


class Worker:
    """A thread for the newest request.

    work: called with a `Job` for each request that is not overtaken. It finds out by itself what is wanted (the newest
        is what the controls say by then), shows its answers, and calls `job.check()` between its steps.
    idle: called with a `Job` after work that nothing newer has followed, to compute ahead.
    rest: seconds without a request until `idle` is called.
    failed: called with what `work` raises; what `idle` raises is dropped.
    pause: whether something else needs the processor, such as a running cell: then nothing is computed ahead.
    Gradients are off in both. The thread starts with the first request, and ends when nothing comes for a while.
    """

    def __init__(
        self,
        work: Callable[[Job], None],
        idle: Callable[[Job], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
        rest: float = REST,
        pause: Callable[[], bool] = lambda: False,
    ):
        self.work, self.idle, self.failed, self.rest, self.pause = work, idle, failed, rest, pause
        self.closed = False
        self._news = threading.Condition()
        self._hands = threading.RLock()  # of whoever works
        self._thread: threading.Thread | None = None
        self._busy = False
        self.waiting = False  # whether there is a request that was not taken yet
        self._roused = False

    def ask(self) -> None:
        """Ask for the newest; returns at once."""
        self._start(waiting=True)

    def rouse(self) -> None:
        """Compute ahead without being asked for anything; returns at once."""
        self._start(waiting=False)

    def _start(self, waiting: bool) -> None:
        with self._news:
            if self.closed:
                return
            self.waiting, self._roused = self.waiting or waiting, True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="dit_course explorer")
                self._thread.start()
            self._news.notify_all()

    def now(self) -> None:
        """Answer here, in the calling thread, in full and when the one in hand is done; errors are raised."""
        self.settle()
        with self._hands, torch.no_grad():
            self.work(Job(self, live=False))

    def wait(self, seconds: float) -> bool:
        """Wait until something new is asked for, or so long. Returns whether it was."""
        with self._news:
            return self._news.wait_for(lambda: self.waiting or self.closed, seconds)

    def settle(self, timeout: float = 60.0) -> bool:
        """Wait until all that was asked for is answered in full; False after `timeout` seconds."""
        if threading.current_thread() is self._thread:
            return True
        with self._news:
            return self._news.wait_for(lambda: not (self.waiting or self._busy) or self.closed, timeout)

    def close(self) -> None:
        """Drop all work; the thread ends after the step it is in."""
        with self._news:
            self.closed, self.waiting = True, False
            self._news.notify_all()

    def _take(self) -> Job | None:
        """The next request, or None when there was none for a while: then the thread is no longer ours."""
        with self._news:
            self._news.wait_for(lambda: self._roused or self.closed, PATIENCE)
            if self.closed or not self._roused:
                self._thread = None
                return None
            job = Job(self, answered=not self.waiting)  # roused only: there is nothing to answer
            self._busy, self.waiting, self._roused = self.waiting, False, False
            return job

    @torch.no_grad()  # the mode belongs to the thread: what a cell has set does not hold here
    def _run(self) -> None:
        taken = 0
        while (job := self._take()) is not None:
            taken += 1
            if taken % TIDY_EVERY == 0:  # a hand that never rests must not fill the memory
                give_back()
            try:
                with self._hands:
                    if not job.answered:
                        self.work(job)
            except Outdated:
                pass
            except Exception as error:  # what a thread raises is shown nowhere
                self._complain(error)
            finally:
                with self._news:
                    self._busy = False
                    self._news.notify_all()
            if self.idle is not None and not self.wait(self.rest) and not self.pause():
                try:
                    self.idle(Job(self, ahead=True))
                except Exception:  # nobody has asked for it: when they do, they will see the error
                    continue
        give_back()

    def _complain(self, error: Exception) -> None:
        if self.failed is not None and not self.closed and not self.waiting:
            self.failed(error)


def give_back() -> None:
    """Give free memory back to the machine, where the C library can (glibc); by itself it keeps nearly all of it.

    200 drawings of the guidance explorer left 0.8 GB in its hands, of which 0.1 GB were in use.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class Cache:
    """What was computed lately, up to a limit of memory; what was not used for longest goes first. For any thread.

    limit: in bytes. An answer that is larger by itself is not kept.
    """

    def __init__(self, limit: int = 64 * 2**20):
        self.limit, self.size = limit, 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """What was kept under this key, or None."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: Hashable, value: Any) -> None:
        """Keep something that knows its size: tensors, arrays, bytes, or tuples, lists and objects of them."""
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

    def items(self) -> list[tuple[Hashable, Any]]:
        """All that is kept, what was used last at the end."""
        with self._lock:
            return [(key, value) for key, (value, _) in self._kept.items()]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self.size = 0


def bytes_of(value: Any) -> int:
    """How much memory something takes, about: tensors, arrays and bytes inside of tuples, lists and objects."""
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
    """A copy of a model to draw with, renewed whenever the model has learned something.

    A cell may train the model while a slider moves: every drawing then uses the weights of one moment, in eval mode,
    and the model itself is only read. version: grows with every new copy.
    """

    def __init__(self, model: nn.Module):
        self.model, self.version = model, 0
        self._copy: nn.Module | None = None
        self._seen: tuple | None = None
        self._lock = threading.Lock()

    def copy(self, tries: int = 60) -> nn.Module:
        """The copy, as new as the model. Raises RuntimeError when the weights never hold still for a moment.

        A weight that is written shortly before, while or shortly after they are copied was part of a step.
        """
        with self._lock:
            seen = fingerprint(self.model)
            if seen == self._seen:
                return self._copy
            for attempt in range(tries):
                moment = STILL if attempt < tries // 2 else 0.0  # very fast training leaves no long pauses
                time.sleep(moment)
                before = fingerprint(self.model)
                if before != seen:
                    seen = before
                    continue
                fresh = deepcopy(self.model).eval().requires_grad_(False)
                time.sleep(moment)
                seen = fingerprint(self.model)
                if before == seen:
                    self._copy, self._seen = fresh, seen
                    self.version += 1
                    return fresh
        raise RuntimeError("the weights change all the time: stop the training, then move the slider again")

    def clear(self) -> None:
        """Let go of the copy."""
        with self._lock:
            self._copy, self._seen = None, None


@torch.no_grad()
def fingerprint(model: nn.Module) -> tuple:
    """What changes when the model learns: where its weights are, how often they were written, and some of each.

    The sample is for what leaves no other trace, such as `weight.data -= step`. Costs about a millisecond.
    """
    tensors = [*model.parameters(), *model.buffers()]
    versions = [0 if tensor.is_inference() else tensor._version for tensor in tensors]
    samples = [tensor.reshape(-1)[:: tensor.numel() // SAMPLE + 1].float() for tensor in tensors]
    return (*(tensor.data_ptr() for tensor in tensors), *versions, torch.cat(samples).cpu().numpy().tobytes())
