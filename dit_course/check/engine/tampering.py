"""What an answer does to everybody: functions of torch replaced, threads left running, an exit; and what it borrows."""

import builtins
import contextlib
import ctypes
import inspect
import math
import os
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from time import monotonic
from types import CodeType, FrameType

import torch
from torch import Tensor, nn

from dit_course.check.engine.places import LIBRARIES, is_learners, is_learners_file
from dit_course.notebook import shell

WATCHED = (builtins, math, time, torch, torch.linalg, nn, nn.functional, nn.init, Tensor, nn.Module, nn.Linear)
ORIGINALS = [(owner, dict(vars(owner))) for owner in WATCHED]
FUNCTIONS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    type,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
)
END, SET_DEPTH = os._exit, sys.setrecursionlimit
DEPTH = 5000  # calls inside of calls that fit on the stack of C, too
ENDING = 0.5  # seconds that threads have to end


def put_back() -> list[str]:
    """Names that a learner has given to other functions, as `torch.softmax`; they are torch's own again."""
    found = []
    for owner, originals in ORIGINALS:
        now = vars(owner)
        for name, value in originals.items():
            if now.get(name) is not value and isinstance(value, FUNCTIONS) and _is_foreign(now.get(name)):
                setattr(owner, name, value)
                found.append(f"{owner.__name__}.{name}")
        for name in [*now.keys() - originals.keys()] if isinstance(owner, type) else ():
            if hasattr(super(owner, owner), name) and _is_foreign(now[name]):  # what it inherits is hidden
                delattr(owner, name)
                found.append(f"{owner.__name__}.{name}")
    return found


def _is_foreign(value: object) -> bool:
    code = getattr(getattr(value, "__func__", value), "__code__", None)
    return is_learners_file(code.co_filename) if code else not isinstance(value, FUNCTIONS)


@contextlib.contextmanager
def staying() -> Iterator[None]:
    """Inside, whatever would end this process is an error, and what is shown in a notebook is thrown away."""
    process, limit = os.getpid(), sys.getrecursionlimit()
    notebook = shell()
    publisher = getattr(notebook, "display_pub", None)

    def refuse(code: int = 0) -> None:
        END(code) if os.getpid() != process else sys.exit(code)  # a child process may end

    os._exit, sys.setrecursionlimit = refuse, lambda calls: SET_DEPTH(min(calls, max(DEPTH, limit)))
    if notebook is not None:
        notebook.ask_exit = refuse  # `exit()` in a notebook asks the kernel to end once the cell is done
    if hasattr(publisher, "register_hook"):
        publisher.register_hook(_dropped)
    try:
        yield
    finally:
        os._exit, sys.setrecursionlimit = END, SET_DEPTH
        SET_DEPTH(limit)
        if notebook is not None:
            vars(notebook).pop("ask_exit", None)
        if hasattr(publisher, "register_hook"):
            publisher.unregister_hook(_dropped)


def _dropped(message: dict) -> None:
    """Of a message to the notebook nothing is left."""


def interrupt(thread: threading.Thread, error: type[BaseException]) -> None:
    """Have an error raised in another thread, at its next line."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(error))


def end_threads(before: set[threading.Thread]) -> bool:
    """Whether threads of the learner are still running that were not there before; they are told to end."""
    found, deadline = False, monotonic() + ENDING
    while monotonic() < deadline:
        left = [thread for thread in threading.enumerate() if thread not in before and _runs_learners_code(thread)]
        if not left:
            break
        for thread in left:
            thread.join(0.02)
            if thread.is_alive():
                found = True
                interrupt(thread, SystemExit)  # ends a thread without a word
    return found


def _runs_learners_code(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident)
    return any(is_learners(frame) for frame in _outwards(frame))


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def borrowed(reference: Callable, answer: Callable, work: Callable[[], object]) -> tuple[bool, object]:
    """Whether `work()`, which calls the answer, calls the course's version for it; and what it gives."""
    codes = set(_codes(reference, answer))
    if inspect.isclass(reference) and issubclass(answer, reference) and not codes:
        return True, None
    found = []

    def look(frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and frame.f_code in codes:
            caller = next((f for f in _outwards(frame.f_back) if not _in_library(f)), None)
            found.extend([caller] if caller is not None and is_learners(caller) else [])

    profiling = sys.getprofile()
    sys.setprofile(look)
    try:
        result = work()
    finally:
        sys.setprofile(profiling)
    return bool(found) or getattr(answer, "__code__", None) in codes, result


def _codes(reference: Callable, answer: Callable) -> Iterator[CodeType]:
    """The code of the course's version; where a class inherits from it, of the methods that it replaces."""
    if not inspect.isclass(reference):
        yield inspect.unwrap(reference).__code__
        return
    inherits = issubclass(answer, reference)
    for name, method in vars(reference).items():
        own = inspect.unwrap(method) if callable(method) else None
        if inspect.isfunction(own) and (not inherits or vars(reference)[name] is not getattr(answer, name)):
            yield own.__code__


def _in_library(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith(("<frozen", *LIBRARIES))
