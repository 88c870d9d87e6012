"""Plausible wrong answers, and right ones written differently: one file a lesson, `NN_*.py`.

    @mutant(exercise="unpatchify", hint="rows and columns of patches are swapped")
    def swapped_grid(tokens, patch_size, channels, height, width):
        ...

    @right_answer(exercise="unpatchify")
    def by_fold(tokens, patch_size, channels, height, width):
        ...

`hint` is a part of what the check must say. What needs no writing:
- the mistakes that an exercise recognizes by a wrong version of its own: `imitated` gives each to its own check;
- what every beginner may do in any exercise (an empty stub, zeros, a loop without end, ...): `everywhere` makes it from
  the course's own version.
So mutants are what rules and the engine's own sentences are for, classes, and other ways to write a known mistake.
"""

import copy
import importlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import NoneType

import torch
from torch import Tensor

from dit_course import check
from dit_course.check.engine.exercise import Case, Draw, Exercise
from dit_course.check.engine.limits import undisturbed
from dit_course.check.engine.mistakes import MatchesOutput, with_hints
from dit_course.check.engine.verdict import Verdict, exercises

METHODS = ("forward", "loss", "integrate", "parts")  # what an answer that is a class is tried by, the first that it has
MAKERS = {"guided"}  # functions that make the function that answers
SOLVERS = {"euler", "heun", "ab2"}  # they tell a callback of every step
IN_PLACE = ("EMA",)  # answers that change something and return nothing: their own files hold these mutants, too
ANY_SECONDS = 30.0  # for answers that end by themselves: a busy machine changes no verdict


@dataclass(frozen=True)
class Answer:
    """A wrong answer (with the hint that it must get) or a right one (hint None)."""

    exercise: str
    make: Callable
    hint: str | None
    seconds: float = ANY_SECONDS

    @property
    def name(self) -> str:
        """For test reports."""
        return f"{self.exercise}-{self.make.__name__}"


ANSWERS: list[Answer] = []


def mutant(exercise: str, hint: str, seconds: float = ANY_SECONDS) -> Callable:
    """Register a wrong answer and what it must be told; seconds: a shorter limit, for what never ends."""
    return lambda make: ANSWERS.append(Answer(exercise, make, hint, seconds)) or make


def right_answer(exercise: str) -> Callable:
    """Register a right answer that is written in another way than the course's."""
    return lambda make: ANSWERS.append(Answer(exercise, make, None)) or make


@cache
def lessons() -> dict[str, list[Answer]]:
    """The answers of each file of this folder, those of `everywhere` not among them."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("[0-9][0-9]_*.py")):
        ANSWERS.clear()
        importlib.import_module(f"mutants.{file.stem}")
        found[file.stem] = list(ANSWERS)
    return found


def recognized(exercise: Exercise) -> list[MatchesOutput]:
    """The mistakes of an exercise that it knows by a wrong version."""
    return [mistake for mistake in exercise.mistakes if isinstance(mistake, MatchesOutput)]


def hints(exercise: Exercise) -> Iterator[str]:
    """What an exercise says to the mistakes that it recognizes, each once, however many there are besides."""
    said = [mistake.hint for mistake in exercise.mistakes]
    for part, mistakes in getattr(exercise.cases(Draw(0))[0], "mistakes", {}).items():  # of counts, part by part
        said += [f"{part}: {mistake.hint}" for mistake in with_hints(mistakes)]
    return (hint for hint in dict.fromkeys(said) if not hint.endswith(" more)"))


class ImitatedCase:
    """A case of a class, in which the answer is a wrong version: a function of the course's module and its inputs."""

    def __init__(self, case: Case, reference: Callable):
        self.case, self.reference = case, reference

    def __getattr__(self, name: str):
        return getattr(self.case, name)

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """What the wrong version makes of the case."""
        if answer is self.reference:
            return self.case.use(answer, track)
        return self.case.imitate(answer), self.case.inputs()


def imitated(exercise: Exercise, wrong: Callable, seed: int) -> Verdict:
    """The verdict on a wrong version: as an answer, where it can be one, or on what it makes of a class's cases."""
    if inspect.isclass(exercise.reference) == inspect.isclass(wrong):
        answer = made(wrong) if exercise.name in MAKERS else told(wrong) if exercise.name in SOLVERS else wrong
        return exercise.examine(answer, seed=seed, seconds=ANY_SECONDS)
    other = copy.copy(exercise)
    other.cases = lambda draw: [ImitatedCase(case, exercise.reference) for case in exercise.cases(draw)]
    with undisturbed():
        return other._examine(wrong, seed, ANY_SECONDS)


def made(wrong: Callable) -> Callable:
    """An answer that makes a function, of a wrong version that takes the arguments of both."""
    return lambda *args: lambda *given: wrong(*args, *given)


def told(wrong: Callable) -> Callable:
    """A solver that calls back, of a wrong version that does not."""

    def answer(velocity, noise, ts, callback):
        end = wrong(velocity, noise, ts)
        for index, t in enumerate(ts.tolist()):
            callback(index, t, end)
        return end

    return answer


def everywhere(exercise: str) -> list[Answer]:
    """Wrong answers that make sense in every exercise."""
    if exercise in IN_PLACE:
        return []
    reference = getattr(check, exercise).reference
    answers = []

    def add(hint: str, name: str, change: Callable[[Callable, tuple], object], **options) -> None:
        answers.append(Answer(exercise, altered(reference, name, change), hint, **options))

    def stub(right, args):
        raise NotImplementedError

    def error(right, args):
        return right(*args) / [][0]

    def endless(right, args):
        while True:
            pass

    def stubborn(right, args):
        while True:
            try:
                right(*args)
            except:  # noqa: E722 (as beginners write it)
                continue

    def generator(right, args):
        return (x for x in torch.atleast_1d(right(*args)))

    def nothing(right, args):
        right(*args)

    add("not tried yet", "stub", stub)
    if gives(exercise) is not NoneType:  # a probe returns nothing
        add("`return` missing", "nothing", nothing)
    add("IndexError: list index out of range", "error", error)
    add("took too long", "endless", endless, seconds=0.2)
    add("took too long", "stubborn", stubborn, seconds=0.2)
    if gives(exercise) is not Tensor:
        return answers
    if exercise != "precision_recall":  # zeros are what one of its own mistakes gives
        add("all zeros", "zeros", lambda right, args: torch.zeros_like(right(*args)))
    add("NaN or infinite", "not_a_number", lambda right, args: right(*args) * float("nan"))
    add("numpy array", "numpy", lambda right, args: right(*args).detach().numpy())
    add("returns a list", "a_list", lambda right, args: list(torch.atleast_1d(right(*args))))
    add("returns a tuple", "a_tuple", lambda right, args: (right(*args), None))
    add("generator", "generator", generator)
    add("-2 times the right one", "factor", lambda right, args: -2 * right(*args))
    add("the sign is wrong", "sign", lambda right, args: -right(*args))
    add("plus 0.25", "shift", lambda right, args: right(*args) + 0.25)
    if exercise != "averaging_weights":  # there, shares that do not add up to 1 have a hint of their own
        add("another one at every call", "noise", lambda right, args: right(*args) + torch.rand(right(*args).shape))
    add("they are torch.float", "dtype", lambda right, args: other_dtype(right(*args)))
    add("device meta", "device", lambda right, args: right(*args).to("meta"))
    add("your answer has shape", "one_axis_more", lambda right, args: right(*args)[None])
    if takes_pictures(exercise):
        add("input, unchanged", "identity", lambda right, args: args[0])
        add("changes its input in place", "in_place", lambda right, args: (right(*args), args[0].zero_())[0])
    if takes_pictures(exercise) and gives_gradients(exercise):
        add("no gradient gets through", "detached", lambda right, args: right(*args).detach())
    return answers


def gives(exercise: str) -> type:
    """What an answer gives: a case says `gives = dict` and the like where it is no tensor."""
    case, *_ = getattr(check, exercise).cases(Draw(0))
    return getattr(case, "gives", Tensor)


def takes_pictures(exercise: str) -> bool:
    """Whether an exercise is given tensors."""
    case, *_ = getattr(check, exercise).cases(Draw(0))
    return isinstance(case.inputs()[0], Tensor)


def gives_gradients(exercise: str) -> bool:
    """Whether gradients get through the course's own version: they do not where it counts or compares."""
    case, *_ = getattr(check, exercise).cases(Draw(0))
    return case.use(getattr(check, exercise).reference, track=True)[0].requires_grad


def other_dtype(x: Tensor) -> Tensor:
    """Single precision for double, and the other way round."""
    return x.float() if x.dtype == torch.float64 else x.double()


def altered(reference: Callable, name: str, change: Callable) -> Callable:
    """The course's version with `change(right, args)` in place of a call, as a function or a class like it."""
    if not inspect.isclass(reference):

        def answer(*args):
            if reference.__name__ not in MAKERS:
                return change(reference, args)
            right = reference(*args)
            return lambda *inputs: change(right, inputs)

        answer.__name__ = name
        return answer

    method = next((method for method in METHODS if hasattr(reference, method)), None)
    if method is None:  # what it does in place cannot be changed from outside
        return type(name, (reference,), {})

    def changed(self, *args):
        return change(partial(getattr(reference, method), self), args)

    return type(name, (reference,), {method: changed})


def summary() -> Iterator[str]:
    """How many answers there are, for the end of the test report."""
    found = [answer for lesson in lessons().values() for answer in lesson]
    found += [answer for exercise in exercises for answer in everywhere(exercise.name)]
    count = Counter((answer.exercise, answer.hint is None) for answer in found)
    for exercise in exercises:
        wrong, right = (count[exercise.name, kind] for kind in (False, True))
        known = len(recognized(exercise))
        yield f"mutants: {exercise.name:<28} {known:>3} recognized mistakes, {wrong:>3} wrong, {right:>2} right"
    known, right = (
        sum(len(recognized(exercise)) for exercise in exercises),
        sum(answer.hint is None for answer in found),
    )
    yield f"mutants: together {known} recognized mistakes, {len(found) - right} wrong answers and {right} right ones"
