"""What a check says, how it is shown, and what it remembers: `progress()`."""

import contextlib
import html
import math
import os
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dit_course.show.figures import images
from dit_course.show.layout import Picture

RIGHT, NOT_YET, NOT_TRIED = "right", "not yet", "not tried yet"
GOING_ON = "going on with the course's version, so the lesson continues."
MARKS = {RIGHT: "●", NOT_YET: "◐", NOT_TRIED: "○"}

exercises: list = []  # all that there are, in the order in which they are imported
verdicts: dict[str, "Verdict"] = {}  # of this kernel, by the exercise's name


@dataclass(frozen=True)
class Verdict:
    """status: RIGHT, NOT_YET or NOT_TRIED. reason: why. picture: draws expected and yours, where that can be."""

    status: str
    reason: str = ""
    picture: Callable[[], Picture | None] = lambda: None

    def __str__(self) -> str:
        if self.status == RIGHT:
            return f"right. {self.reason}"
        text = self.status + (f": {self.reason}" if self.reason else "")
        return text + ("" if text.endswith(("?", ".")) else ".")


def announce(exercise, verdict: Verdict) -> None:
    """Note the verdict, print it, draw its picture. In strict mode anything but "right" is an AssertionError."""
    kept = verdicts.get(exercise.name)
    if not (verdict.status == NOT_TRIED and verdict.reason and kept):  # the course's own version says nothing new
        verdicts[exercise.name] = verdict
    if verdict.status != RIGHT and strict():
        if validating():  # as in grading, answers further down may call this one
            _set_in_notebook(exercise.name, exercise.reference)
        raise refusal(exercise.name, verdict)
    if verdict.status == NOT_TRIED:
        print(_wrapped(f"{NOT_TRIED}: {verdict.reason + '; until then ' if verdict.reason else ''}{GOING_ON}"))
        return
    print(_wrapped(str(verdict)))
    _display(verdict.picture)
    if verdict.status == NOT_YET:
        print(f"Until it is right: {GOING_ON}")


def refusal(name: str, verdict: Verdict) -> AssertionError:
    """The error of an answer that is not right. Notebooks show its words alone, without the lines of the check."""
    error = AssertionError(f"{name}: {verdict}")
    lines = textwrap.wrap(f"AssertionError: {error}", 100)
    error._render_traceback_ = lambda: lines  # IPython asks for it
    return error


@contextlib.contextmanager
def patience(seconds: float | None = None) -> Iterator[None]:
    """Say "checking ..." where what is done inside takes longer: than half a second, or DIT_COURSE_PATIENCE.

    Where outputs are stored or compared, that is long: how busy the machine was should not be seen in them.
    """
    seconds = float(os.environ.get("DIT_COURSE_PATIENCE") or 0.5) if seconds is None else seconds
    out = sys.stdout  # a check redirects what answers print
    timer = threading.Timer(seconds, lambda: print("checking ...", file=out, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def strict() -> bool:
    """Whether wrong answers are errors: DIT_COURSE_STRICT is set, and not to 0; or nbgrader's Validate runs this."""
    return os.environ.get("DIT_COURSE_STRICT", str(int(validating()))) not in ("", "0")


def validating() -> bool:
    """Whether nbgrader's Validate runs this."""
    return os.environ.get("NBGRADER_EXECUTION") == "validate"


def chosen_seed(seed: int | None) -> int:
    """The seed of the random cases: as told, or DIT_COURSE_CHECK_SEED, or 0."""
    return int(os.environ.get("DIT_COURSE_CHECK_SEED") or 0) if seed is None else seed


def draw_pair(make: Callable | None, expected: Tensor, got: object) -> Picture | None:
    """`expected | yours`, both as pictures made by `make`; None where that is not possible."""
    if make is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return None
    try:
        pair = torch.stack([make(x.detach().double()) for x in (expected, got)])  # (2, c, h, w)
    except Exception:  # a picture is an extra
        return None
    low, high = pair[0].min(), pair[0].max()
    pair = ((pair - low) / (high - low).clamp(min=1e-6)).nan_to_num(0.5).clamp(0, 1)
    if torch.equal(pair[0], pair[1]):
        return None
    return images(pair, ["expected", "yours"])


def _set_in_notebook(name: str, value: object) -> None:
    """Give a name in the notebook a value, where there is one."""
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        ipython.get_ipython().user_ns[name] = value


def _display(draw: Callable[[], Picture | None]) -> None:
    """Draw and show a picture, where there is a notebook to show it in."""
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        picture = draw()
        if picture is not None:
            ipython.display.display(picture)


class Progress:
    """What is solved so far: the last line of a cell shows it."""

    def __init__(self, lessons: list[str]):
        chosen = sorted((e for e in exercises if e.lesson in lessons), key=lambda e: (e.lesson, e.number or math.inf))
        self.rows = [(e.label, e.name, verdicts.get(e.name, Verdict(NOT_TRIED))) for e in chosen]

    @property
    def solved(self) -> int:
        """How many are right."""
        return sum(verdict.status == RIGHT for _, _, verdict in self.rows)

    def __str__(self) -> str:
        lines = [f"  {MARKS[v.status]} {label:<8} {name:<28} {_line(v)}" for label, name, v in self.rows]
        return "\n".join([f"{self.solved} of {len(self.rows)} exercises solved", *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>"
            for label, name, v in self.rows
            for cells in [(MARKS[v.status], label, f"<code>{name}</code>", html.escape(_line(v)))]
        )
        return f"<p><b>{self.solved} of {len(self.rows)} exercises solved</b></p><table>{rows}</table>"


def progress(lesson: str | None = None) -> Progress:
    """What is solved since the kernel was started: in one lesson ("01"), or in all that were begun."""
    begun = {e.lesson for e in exercises if e.name in verdicts}
    return Progress([lesson] if lesson else sorted(begun) or sorted({e.lesson for e in exercises})[:1])


def _line(verdict: Verdict) -> str:
    return verdict.status + (f": {verdict.reason}" if verdict.status == NOT_YET else "")


def _wrapped(text: str, letters: int = 100) -> str:
    """Lines that end at spaces: left alone, a notebook breaks them in the middle of a word."""
    wrap = textwrap.TextWrapper(letters, break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrap.fill(line) for line in text.splitlines())
