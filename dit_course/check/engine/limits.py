"""Runs a learner's code so that nothing it does can hurt the lesson: not a loop without end, not a full memory.

Whatever the code changes for everybody (random numbers, gradients on or off, the default dtype, threads) is put back
afterwards, and what it prints is kept aside.
"""

import contextlib
import io
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import monotonic  # by name: an answer may replace it
from types import FrameType

import numpy as np
import torch

from dit_course.check.engine.places import is_learners, learner_line
from dit_course.check.engine.tampering import end_threads, interrupt, put_back, staying

SECONDS = 10.0  # for what takes milliseconds when it is right; a busy laptop must not turn right into wrong
BYTES = 2**30  # how much the process may grow
ADDRESSES = 2**32 + 2**28 * (os.cpu_count() or 1)  # how much one may ask for at once; threads ask for some, too
POLL, RETRY = 0.02, 0.1  # seconds between two looks, and between two attempts to stop the code
GRACE = 2.0  # seconds that code in another thread has to end, once told; then it is left behind


class LimitExceeded(BaseException):
    """Raised inside code that takes too long or too much. No Exception, so that `except Exception` lets it through."""


@dataclass
class Outcome:
    """What came of it: a value, or an error, or "time" or "memory" in `stopped`.

    where: the learner's own line, as `In[3], line 2: "x = y"`. printed: the beginning of what was printed. replaced:
    functions that were replaced for everybody, until they were put back. threads: whether some were left running.
    """

    value: object = None
    error: Exception | None = None
    stopped: str = ""
    where: str = ""
    printed: str = ""
    replaced: tuple[str, ...] = ()
    threads: bool = False


def run_limited(work: Callable[[], object], seconds: float | None = None, grow: int | None = None) -> Outcome:
    """Run `work()`; never raises, but for the stop button (KeyboardInterrupt).

    seconds, grow: limits of time and of memory in bytes. In the main thread of Linux and macOS even code that sleeps is
    stopped; elsewhere the code runs in a thread of its own, which is told to end, and left behind if it does not.
    A single operation of C code, such as one of torch, is never interrupted, but on Linux one that asks for too much
    memory is refused.
    """
    outcome, output = Outcome(), CapturedOutput()
    monitor = Monitor(SECONDS if seconds is None else seconds, BYTES if grow is None else grow)
    signals = hasattr(signal, "pthread_kill") and threading.current_thread() is threading.main_thread()
    running = set(threading.enumerate())
    with undisturbed(), bounded_memory(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        with staying():
            worker = (run_in_main_thread if signals else run_in_thread)(lambda: _fill(outcome, work, monitor), monitor)
        replaced = tuple(put_back())
        threads = end_threads({*running, monitor, worker})
    # a copy: code that was left behind may still write into the other
    outcome = replace(outcome, printed=output.text, replaced=replaced, threads=threads)
    if monitor.reason:
        outcome.value, outcome.error, outcome.stopped = None, None, monitor.reason
    elif outcome.error is not None and _is_memory(outcome.error):
        outcome.error, outcome.stopped = None, "memory"
    return outcome


def _fill(outcome: Outcome, work: Callable[[], object], monitor: "Monitor") -> None:
    try:
        with torch.enable_grad():
            outcome.value = work()
        monitor.finish()
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except LimitExceeded as stop:
        monitor.finish()  # before anything else: what follows must not be stopped
        outcome.where = learner_line(stop.__traceback__)
    except BaseException as error:  # SystemExit is what `exit()` raises
        monitor.finish()
        outcome.where = learner_line(error.__traceback__)
        outcome.error = error if isinstance(error, Exception) else RuntimeError("it ends the whole program")
        outcome.error.__traceback__ = None  # its frames hold on to everything that they computed
        outcome.error.__context__ = None


def _is_memory(error: Exception) -> bool:
    words = ("can't allocate memory", "not enough memory", "unable to allocate", "out of memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


class CapturedOutput(io.TextIOBase):
    """Stands in for standard output and keeps the beginning of what is written."""

    text = ""

    def write(self, text: str) -> int:
        """Keep it, within bounds: an endless loop may print."""
        if len(self.text) < 200:
            self.text += text[:200]
        return len(text)


class Monitor(threading.Thread):
    """Polls clock and memory; over a limit it stops the code, and again until `done`, as code may catch the first."""

    def __init__(self, seconds: float, grow: int):
        super().__init__(daemon=True)
        self.seconds, self.most = seconds, resident() + grow
        self.reason = ""
        self.active = True
        self.done = threading.Event()
        self.stop: Callable[[], None] = lambda: None

    def finish(self) -> None:
        """The code has ended: nothing may be stopped any more."""
        self.active = False
        self.done.set()

    def run(self) -> None:
        """Poll until the code has ended."""
        deadline = monotonic() + self.seconds
        while not self.done.wait(RETRY if self.reason else POLL):
            if not self.reason:
                self.reason = "time" if monotonic() > deadline else "memory" if resident() > self.most else ""
            if self.reason and not self.done.is_set():
                self.stop()


def run_in_main_thread(work: Callable[[], None], monitor: Monitor) -> threading.Thread:
    """Run in this, the main thread; a signal stops it, even when it sleeps. Returns the thread."""
    tracing, timer, main = sys.gettrace(), signal.getitimer(signal.ITIMER_REAL), threading.main_thread()

    def raise_at_next_line(frame: FrameType, event: str, arg: object) -> Callable:
        if monitor.active and event == "line":  # an "exception" is still inside of the `try` that will catch it
            raise LimitExceeded(monitor.reason)
        return raise_at_next_line

    def stop(number: int, frame: FrameType | None) -> None:
        if monitor.reason:
            if monitor.active:
                _trace_learners_code(frame, raise_at_next_line)
                raise LimitExceeded(monitor.reason)
        elif callable(before):
            before(number, frame)

    def knock() -> None:
        if signal.getsignal(signal.SIGALRM) is stop:
            signal.pthread_kill(main.ident, signal.SIGALRM)
        else:  # the code has taken the signal for itself
            interrupt(main, LimitExceeded)

    monitor.stop = knock
    before = signal.signal(signal.SIGALRM, stop)
    try:
        monitor.start()
        work()
    except LimitExceeded:
        pass  # it came in the moment when the work was over
    finally:
        monitor.finish()
        sys.settrace(tracing)
        monitor.join()  # no signal may arrive after its handler has gone
        with contextlib.suppress(LimitExceeded):
            sum(1 for _ in range(100))  # an interruption that is on its way arrives here
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)
    return main


def _trace_learners_code(frame: FrameType | None, trace: Callable) -> None:
    """Have `trace` called before each next line of the learner: a bare `except:` may catch the first exception only."""
    while frame is not None:
        if is_learners(frame):
            frame.f_trace = trace
        frame = frame.f_back
    sys.settrace(lambda *_: None)  # switches tracing on; functions that are called from now on run as they are


def run_in_thread(work: Callable[[], None], monitor: Monitor) -> threading.Thread:
    """Run in a thread of its own, and return it; an exception from outside stops it at its next line."""

    def run() -> None:
        with contextlib.suppress(LimitExceeded):
            work()

    worker = threading.Thread(target=run, daemon=True)

    def stop() -> None:
        if worker.is_alive():
            interrupt(worker, LimitExceeded)
        else:
            monitor.finish()

    monitor.stop = stop
    worker.start()
    monitor.start()
    while worker.is_alive() and not monitor.reason:
        worker.join(RETRY)
    worker.join(GRACE)
    if not worker.is_alive():
        monitor.finish()
    return worker


def resident() -> int:
    """Bytes of memory that this process holds; 0 where nobody can tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        with contextlib.suppress(Exception):
            import psutil  # comes with Jupyter's kernel

            return psutil.Process().memory_info().rss
    return 0


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """On Linux, let one huge request fail at once, as an error, before it takes the machine down."""
    try:
        import resource

        with open("/proc/self/statm") as file:
            held = int(file.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        held = 0
    if not held or torch.cuda.is_available():  # CUDA maps addresses by the terabyte
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = held + ADDRESSES
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([wanted, *known]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Put back what code may change for everybody; inside, float32 on the CPU is the default."""
    numbers = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002 (the learner may use it)
    dtype, device, grad = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    threads, folder, variables = torch.get_num_threads(), os.getcwd(), dict(os.environ)
    torch.set_default_dtype(torch.float32)
    if device.type != "cpu":
        torch.set_default_device("cpu")
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        torch.set_grad_enabled(grad)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if not os.path.exists(".") or os.getcwd() != folder:
            os.chdir(folder)
        if os.environ != variables:
            os.environ.clear()
            os.environ.update(variables)
        torch.set_rng_state(numbers[0])
        random.setstate(numbers[1])
        np.random.set_state(numbers[2])  # noqa: NPY002
