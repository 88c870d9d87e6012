"""A training in a process of its own: the notebook stays free, and cells take the training apart while it runs.

A thread would share torch's random numbers and Python's lock with the cells: both would get other results, and slowly.
The process has its own of both, and half of the threads. It is deaf to the interrupt button, which is meant for the
cell that runs, and ends when the kernel does, however that ends.
"""

import contextlib
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import nn

from dit_course.data import load_dataset
from dit_course.distributed.train_config import Step, TrainConfig
from dit_course.explore.training import MOST_PICTURES, REDRAW, SHARE, Training, _display
from dit_course.sampling import Sampler
from dit_course.show import to_bytes
from dit_course.trainer import train

SEND_EVERY = 0.3  # seconds between two messages about steps
PATIENCE = 20.0  # seconds that the process has to hand over its weights once it was told to stop
GRADED_MINUTES = 0.1  # when nbgrader runs the notebook: nobody watches, and no check needs what was learned
_current: "BackgroundTraining | None" = None


def start_training(
    model: nn.Module,
    data: str,
    config: TrainConfig,
    ema: Any,
    moments: Sequence[float] = (),
    cfg: float = 2.0,
    solver_steps: int = 8,
    seed: int = 0,
) -> "BackgroundTraining":
    """Start a training and return at once: `run = explore.start_training(model, "fashion-mnist", config, ema)`.

    model, ema: both hold what was learned after `run.wait()`, not before. data: what `load_dataset` calls it.
    moments: fractions of the training, increasing, at which a copy of `ema.model` is kept, in `run.copies`.
    cfg, solver_steps, seed: as in `training`.
    An earlier training that still runs is ended: one at a time.
    """
    global _current
    if _current is not None:
        _current.close()
    if os.environ.get("NBGRADER_EXECUTION") and config.minutes:
        config = replace(config, minutes=min(config.minutes, GRADED_MINUTES))
    _current = BackgroundTraining(model, data, config, ema, moments, (cfg, solver_steps, seed))
    _current.start()
    return _current


class BackgroundTraining(Training):
    """The view that `start_training` makes: as `Training`, while cells run.

    copies: by minutes of training, copies of the averaged network; at 0 the untrained one.
    """

    def __init__(
        self,
        model: nn.Module,
        data: str,
        config: TrainConfig,
        ema: Any,
        moments: Sequence[float],
        sampling: tuple[float, int, int],
    ):
        self.trained, self.ema, self._handle = model, ema, None
        self.copies: dict[float, nn.Module] = {0.0: deepcopy(ema.model)}
        self._threads = torch.get_num_threads()
        self._job = pickle.dumps((model, data, config, ema, tuple(moments), sampling, max(1, self._threads // 2)))
        self._error: BaseException | None = None
        self._last_line, self._ended = "", False
        super().__init__(self._received(), None, *sampling)
        self.model = ema.model  # for the names of its classes

    def start(self) -> None:
        """Begin, in a process of its own; cells get the threads that it leaves."""
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=train_apart, args=(theirs, self._job), daemon=True)
        with _deaf_to_interrupts():  # it inherits that, from its first moment on
            self._process.start()
        theirs.close()  # so that the end of the process can be seen
        torch.set_num_threads(max(1, self._threads - self._threads // 2))
        self._handle = _display(self)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the end, print a line about it, and raise what went wrong, if anything did.

        The interrupt button ends the training early, and keeps what was learned; pressed twice, it ends the wait.
        """
        with self._interruptible():
            while self._thread.is_alive():
                self._thread.join(0.1)
        torch.set_num_threads(self._threads)
        if self._handle is not None:
            self._handle.update(self)  # so that a stored notebook holds the last state
        if self._error is not None:
            raise self._error
        print(self._last_line, flush=True)

    def close(self) -> None:
        """End the process, without keeping what it has learned, and take the view from the page."""
        self._process.terminate()
        self._thread.join(PATIENCE)
        super().close()

    def _run(self) -> None:
        try:
            self._follow()
        except BaseException as error:  # `wait` raises it, in the cell
            self._error = error
        finally:
            self._connection.close()
            self._process.join(PATIENCE)

    def _say(self, line: str) -> None:
        self._last_line = line  # `wait` prints it: what a thread prints appears in whatever cell runs

    def _received(self) -> Iterator[Step]:
        """The steps of the process, as they come. When closed it tells the process to stop, and takes its weights."""
        try:
            while True:
                yield from self._take()
                if self._ended:
                    return
        except GeneratorExit:
            self._connection.send_bytes(b"stop")
            deadline = time.monotonic() + PATIENCE
            while not self._ended and self._connection.poll(max(0.0, deadline - time.monotonic())):
                self._take()
            raise

    def _take(self) -> list[Step]:
        """Receive one message, and keep what is in it; returns the steps in it."""
        try:
            kind, content = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError) as error:
            self._process.join(PATIENCE)
            code = self._process.exitcode
            raise RuntimeError(f"the training process has ended (exit code {code}): start it again") from error
        if kind == "steps":
            return content
        if kind == "pictures":
            at, pictures, self.sampling_seconds = content
            self.strips.append((at, pictures))
        elif kind == "copy":
            minutes, weights = content
            self.copies[minutes] = deepcopy(self.ema.model)
            self.copies[minutes].load_state_dict(weights)
        elif kind == "error":
            raise content
        elif kind == "end":
            self.trained.load_state_dict(content[0])
            self.ema.model.load_state_dict(content[1])
            self.ema.updates, self._ended = content[2], True
        return []


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def train_apart(connection: Connection, job: bytes) -> None:
    """What the process does: train, and send steps, pictures, copies of the weights and, at the end, the weights."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def send(kind: str, content: Any) -> None:
        connection.send_bytes(pickle.dumps((kind, content)))  # not `send`, which would leave tensors in shared memory

    try:
        model, data, config, ema, moments, (cfg, solver_steps, seed), threads = pickle.loads(job)
        torch.set_num_threads(threads)
        sampler, unsent, moments, spent = Sampler(ema.model, solver_steps, "ab2", cfg), [], list(moments), 0.0
        count = min(model.config.num_classes or MOST_PICTURES, MOST_PICTURES)

        def draw(at: float) -> float:
            """Send samples; returns when the next ones are due."""
            nonlocal spent
            start = time.perf_counter()
            pictures = to_bytes(sampler.sample(count, seed=seed))
            cost = time.perf_counter() - start
            spent += cost
            send("pictures", (at, pictures, spent))
            return time.perf_counter() + max(REDRAW, cost * (1 - SHARE) / SHARE)

        next_pictures, next_message = draw(0.0), 0.0
        for step in train(model, load_dataset(data, split="train"), config, ema=ema):
            unsent.append(step)
            if moments and step.progress >= moments[0]:
                moments.pop(0)
                send("copy", (step.seconds / 60, ema.model.state_dict()))
            if time.perf_counter() >= next_message:
                send("steps", unsent)
                unsent, next_message = [], time.perf_counter() + SEND_EVERY
            if time.perf_counter() >= next_pictures:
                next_pictures = draw(step.seconds)
            if connection.poll():  # told to stop, or the kernel has gone
                break
        send("steps", unsent)
        draw(step.seconds)
        send("end", (model.state_dict(), ema.model.state_dict(), ema.updates))
    except OSError:
        return  # nobody listens any more
    except Exception as error:
        send("error", error)
