"""What lesson 10's answers are tried on where they are no tensors: numbers, and shares of a batch."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dit_course.check.engine.exercise import Case
from dit_course.check.engine.modules import AnswerError

S_ALIKE = "all processes compute the same rows: a process is told apart by its `rank`"
S_PARTS = "the parts of a process are all the same rows: each has a start of its own"
S_OVERLAP = "not every row is computed once: how many rows lie before part number k of process r?"
S_SIZES = "parts are not of the right size"
S_REST = (
    "a batch that cannot be shared out evenly is accepted: either rows would be lost, or parts would be unequal and a "
    "mean of their means would not be the mean. Raise a ValueError"
)


@dataclass(frozen=True)
class NumberCase(Case):
    """A case whose answer is a plain number."""

    gives = float  # what an answer returns

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """The number as a tensor, so that it can be compared."""
        return as_number(answer(*self.args)), self.args

    def imitate(self, wrong: Callable) -> object:
        """What a wrong version makes of the case."""
        return as_number(wrong(*self.args))

    def words(self, got: Tensor, expected: Tensor) -> str:
        """How many times the right one it is."""
        times = f", {got.item() / expected.item():.3g} times as much" if expected.item() else ""
        return f"it is {got.item():.6g} instead of {expected.item():.6g}{times}"


def as_number(value: object) -> object:
    """A number of Python or a tensor with one element as float64, (); what is none stays as it is."""
    if isinstance(value, dict):
        raise AnswerError("your answer is a dictionary of parts: their sum is wanted, one number")
    if isinstance(value, bool | str | list | tuple):
        raise AnswerError(f"your answer is a {type(value).__name__}, it should be a number")
    if isinstance(value, int | float):
        return torch.tensor(float(value), dtype=torch.float64)
    return value.double() if isinstance(value, Tensor) else value


@dataclass(frozen=True)
class ShareCase(Case):
    """args: how many processes, parts and pictures. All processes are asked in turn."""

    gives = list  # what an answer returns

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """How often each row is computed; a refusal of what cannot be shared out counts as one row of its own."""
        world, accumulate, batch = self.args
        taken = torch.zeros(batch)
        if not batch or batch % (world * accumulate):
            return torch.tensor([float(refuses(answer, *self.args))]), self.args
        for rank in range(world):
            parts = parts_of(answer, rank, *self.args)
            for rows in parts:
                taken[rows] += 1
            self._look_at(parts)
        if bool((taken != 1).any()):
            raise AnswerError(f"{self._what_is_wrong(answer, taken)}; {self.label})")
        return taken, self.args

    def _look_at(self, parts: list[slice]) -> None:
        world, accumulate, batch = self.args
        if len(parts) != accumulate:
            raise AnswerError(f"each process has {accumulate} parts, your list has {len(parts)} ({self.label})")
        sizes = [rows.stop - rows.start for rows in parts]
        if sizes != [batch // (world * accumulate)] * accumulate:
            wanted = batch // (world * accumulate)
            raise AnswerError(f"{S_SIZES}: yours have {sizes} rows instead of {wanted} each ({self.label})")

    def _what_is_wrong(self, answer: Callable, taken: Tensor) -> str:
        world, accumulate, _ = self.args
        firsts = {tuple(rows.start for rows in parts_of(answer, rank, *self.args)) for rank in range(world)}
        left, twice = int((taken == 0).sum()), int((taken > 1).sum())
        counts = f"{left} rows are computed by nobody, {twice} by more than one"
        if world > 1 and len(firsts) == 1:
            return f"{S_ALIKE} ({counts}"
        if accumulate > 1 and any(len(set(starts)) == 1 for starts in firsts):
            return f"{S_PARTS} ({counts}"
        return f"{S_OVERLAP} ({counts}"


def parts_of(answer: Callable, rank: int, world: int, accumulate: int, batch: int) -> list[slice]:
    """The parts of one process. Raises AnswerError for what is no list of slices."""
    parts = answer(rank, world, accumulate).parts(batch)
    if parts is None:
        raise AnswerError("your answer returns nothing: is the `return` missing?")
    if hasattr(parts, "__next__"):
        raise AnswerError("your answer returns a generator: `yield` hands out one thing at a time, a list is meant")
    if isinstance(parts, slice):
        raise AnswerError("your answer is one slice: a list of them is wanted, one for each part, even of one part")
    if not isinstance(parts, list | tuple) or not all(isinstance(rows, slice) for rows in parts):
        kind = type(parts[0] if isinstance(parts, list | tuple) and parts else parts).__name__
        raise AnswerError(f"a list of slices is wanted, such as [slice(0, 4), slice(8, 12)]; yours holds a {kind}")
    if any(rows.start is None or rows.stop is None or rows.step not in (None, 1) for rows in parts):
        raise AnswerError("each slice needs a start and a stop, and no step: neighboring rows, which are quick to cut")
    if any(not isinstance(edge, int) for rows in parts for edge in (rows.start, rows.stop)):
        raise AnswerError("rows are counted in whole numbers: `//` and divmod stay whole, `/` does not")
    return list(parts)


def refuses(answer: Callable, world: int, accumulate: int, batch: int) -> bool:
    """Whether a batch that cannot be shared out evenly is refused by a ValueError."""
    share = answer(0, world, accumulate)
    try:
        share.parts(batch)
    except ValueError:
        return True
    except NotImplementedError:
        raise
    except Exception as error:
        raise AnswerError(
            f"{batch} rows for {world} processes in {accumulate} parts: your code stops with {type(error).__name__}, "
            "it should raise a ValueError that says what would fit"
        ) from None
    raise AnswerError(f"{S_REST}: {batch} rows for {world} processes in {accumulate} parts each")


@dataclass(frozen=True)
class MeasuredCase(Case):
    """Measured numbers: nobody asks for their gradient."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """The answer's result, and the arguments as they are after the call."""
        return super().use(answer)
