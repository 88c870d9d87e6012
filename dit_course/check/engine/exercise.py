"""What a lesson's author writes a check with: cases, and the mistakes that it recognizes.

    double = Exercise(
        "double",
        reference=dit_course.room.double,
        lesson="02",
        number=1,
        cases=lambda draw: [Case((draw.normal(2, 3),), "2 rows of 3"), Case((draw.normal(*draw.sizes(2)),), "a table")],
        mistakes=[
            "you squared it: doubling is adding to itself",
            lambda x: x * x,
            lambda x: x**2 + 0,
            MatchesRule("much too large", lambda got, expected: bool((got.abs() > 50).any())),
        ],
    )

A mistake is a hint for the learner, followed by one or more wrong versions that an answer is compared with; the first
that fits speaks. A hint names the mistake, then the place to look, never the line of code. `ModuleCase` is for answers
that are classes of modules. Where the result is not one tensor, inherit from `Case` and make one of it in `use`.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from dit_course.check.engine import behavior
from dit_course.check.engine.cases import Case, Draw, ModuleCase  # noqa: F401 (authors import it from here)
from dit_course.check.engine.compare import difference, is_below_its_stub, resemblances, same
from dit_course.check.engine.errors import advice
from dit_course.check.engine.gradients import NO_GRADIENT, gradients_differ
from dit_course.check.engine.limits import Outcome, run_limited, undisturbed
from dit_course.check.engine.mistakes import MatchesRule, with_hints
from dit_course.check.engine.modules import AnswerError
from dit_course.check.engine.tampering import put_back
from dit_course.check.engine.verdict import (
    NOT_TRIED,
    NOT_YET,
    RIGHT,
    Verdict,
    announce,
    chosen_seed,
    draw_pair,
    exercises,
    patience,
)

# questions to an answer that is right on some inputs only: where inputs differ in their sizes alone, and elsewhere
SIZES = "is a size written into the code as a number, or one size taken for another?"
ALONE = ("time", "memory", "replaced", "threads")  # faults after which nothing more is tried
OTHERWISE = "what is different there, a size, a value or an option, that your code takes for granted?"


@dataclass
class Trial:
    """What an answer made of one case. fault: "" when it is right, otherwise the kind; text: a sentence about it."""

    case: Case
    outcome: Outcome
    expected: Tensor
    fault: str = ""
    text: str = ""


@dataclass
class Exercise:
    """A check: called with a learner's answer it prints a verdict, and hands back the answer when it is right.

    reference: the course's own version, handed back until then. cases: makes them from a `Draw`, the simplest first.
    mistakes: hints, each followed by its wrong versions; kept as a list of `MatchesOutput` and `MatchesRule`.
    number: of the exercise in its lesson, as the notebook counts; 0 in an appendix.
    picture: makes of a result of the first case a picture (C, H, W), to be drawn when the values are wrong.
    partly: what is asked when the answer is right on some inputs and wrong on others, and no mistake fits:
    `SIZES`, `OTHERWISE`, or a question of the exercise's own.
    free: inputs whose gradients nobody needs, or for which several are right. refused: makes cases of bad input, for
    which the text wants an error. exact: the text says how new modules are initialized, and it is to be just so.
    """

    name: str
    reference: Callable
    lesson: str
    cases: Callable[[Draw], Sequence[Case]]
    mistakes: Sequence[str | Callable | MatchesRule] = ()
    praise: str = "Same as the course's"
    picture: Callable[[Tensor], Tensor] | None = None
    number: int = 0
    tolerance: float = 1e-4
    partly: str = SIZES
    free: tuple[str, ...] = ()
    refused: Callable[[Draw], Sequence[Case]] = lambda draw: ()
    exact: bool = False
    may_borrow: ClassVar[bool] = False  # whether answers may call the course's own version, as those of tests do

    def __post_init__(self):
        self.__name__ = self.name
        self.mistakes = with_hints(self.mistakes)
        exercises.append(self)

    @property
    def label(self) -> str:
        """Where the exercise is, as its notebook says: 1.4."""
        return f"{int(self.lesson)}.{self.number}" if self.number else "appendix"

    def __call__(self, answer: object, seed: int | None = None, seconds: float | None = None):
        """Check an answer; returns it when it is right and the course's own until then.

        seed: of the random cases; DIT_COURSE_CHECK_SEED or 0 unless told. seconds: a limit for each case.
        Raises AssertionError with the verdict, when it is not right and DIT_COURSE_STRICT=1 is set.
        """
        with patience():
            verdict = self.examine(answer, seed, seconds)
        announce(self, verdict)
        return answer if verdict.status == RIGHT else self.reference

    def examine(self, answer: object, seed: int | None = None, seconds: float | None = None) -> Verdict:
        """The verdict alone: nothing is printed or noted."""
        if answer is self.reference:
            where = f"run your own cell with `{self.name}` once more, then this one"
            return Verdict(NOT_TRIED, f"this is the course's version: {where}")
        if not callable(answer) or inspect.isclass(answer) != inspect.isclass(self.reference):
            kind = "class" if inspect.isclass(self.reference) else "function"
            got = "class" if inspect.isclass(answer) else "function" if callable(answer) else repr(answer)
            got = " ".join(got.split())[:60]
            return Verdict(NOT_YET, f"`{self.name}` should be a {kind} (hand it over without calling it), not {got}")
        try:
            with undisturbed():
                return self._examine(answer, chosen_seed(seed), seconds)
        except Exception as error:  # no answer may end the lesson, not even one that the check does not understand
            return Verdict(NOT_YET, f"the check cannot read your answer ({type(error).__name__}: {error})")

    def _examine(self, answer: Callable, seed: int, seconds: float | None) -> Verdict:
        if names := put_back():  # by the cell, before anything was called
            return Verdict(NOT_YET, f"{_replaced(names)} (They are put back now.)")
        trials, printed = [], ""
        for case in self.cases(Draw(seed)):
            trial = self._try(answer, case, seconds)
            trials.append(trial)
            printed = printed or trial.outcome.printed.strip()
            if trial.fault in ("stub", *ALONE):
                break
        faults = [trial for trial in trials if trial.fault]
        if faults and faults[-1].fault == "stub":
            below = "your code stands below `raise NotImplementedError`, where it is never reached: delete that line"
            return Verdict(NOT_YET, below) if is_below_its_stub(answer) else Verdict(NOT_TRIED)
        if not faults:
            wrong = self._looked_closer(answer, [trial.case for trial in trials], seconds)
            if wrong:
                return Verdict(NOT_YET, wrong)
            labels = ", ".join(trial.case.label for trial in trials)
            also = " (It also prints: take that out when you are done.)" if printed else ""
            return Verdict(RIGHT, f"{self.praise} on {len(trials)} inputs: {labels}.{also}")
        return self._explain(answer, trials, faults, seconds)

    def _try(self, answer: Callable, case: Case, seconds: float | None, seed: int = 0) -> Trial:
        """Run one case within limits; seed: of the answer's own random numbers."""
        torch.manual_seed(seed)
        expected, _ = case.use(self.reference)
        given = ()

        def work():
            nonlocal given
            torch.manual_seed(seed)
            result, given = case.use(answer)
            return result.detach() if isinstance(result, Tensor) else result

        trial = Trial(case, run_limited(work, seconds), expected.detach())
        trial.fault, trial.text = self._fault(trial, given)
        return trial

    def _broken(self, outcome: Outcome) -> tuple[str, str]:
        """The fault of code that did not come to its end, and a sentence about it; ("", "") when it did."""
        at = f" in {outcome.where}" if outcome.where else ""
        if outcome.replaced:
            return "replaced", _replaced(outcome.replaced)
        if outcome.stopped == "time":
            return "time", f"your code took too long and was stopped{at}: is there a loop that never ends?"
        if outcome.stopped == "memory":
            return "memory", f"your code wanted too much memory and was stopped{at}: does something grow without end?"
        if outcome.threads:
            return "threads", "your code starts a thread and leaves it running: wait for its end, with its `.join()`"
        if isinstance(outcome.error, AnswerError):
            return "built", str(outcome.error)
        if isinstance(outcome.error, NotImplementedError) and not outcome.error.args:
            return "stub", ""
        if outcome.error is not None:
            message = " ".join(str(outcome.error).split())[:300]
            called = "" if at else f" (it is called with {', '.join(inspect.signature(self.reference).parameters)})"
            text = f"an error stopped your code{at}: {type(outcome.error).__name__}: {message}{called}"
            return "error", text + advice(outcome.error)
        return "", ""

    def _fault(self, trial: Trial, given: tuple) -> tuple[str, str]:
        outcome = trial.outcome
        fault, text = self._broken(outcome)
        if fault:
            return fault, text
        for before, after in zip(trial.case.inputs(), given, strict=True):
            if isinstance(before, Tensor) and not same(after, before):
                advice = "make a new tensor (`x = x + 1` does, `x += 1` and `x[0] = 1` do not)"
                return "changed", f"your code changes its input in place, and the caller still needs it: {advice}"
        fault, text = difference(outcome.value, trial.expected, self.tolerance)
        if fault == "values":
            text = trial.case.words(outcome.value, trial.expected) or text
        return fault, text

    def _explain(self, answer: Callable, trials: list[Trial], faults: list[Trial], seconds: float | None) -> Verdict:
        """Name the likely mistake, then how far off, then on which input."""
        worst = faults[0]
        on = f" (on {worst.case.label})"
        ending = f"{worst.text.rstrip('.')}{on}."
        if worst.fault in ALONE or worst.fault in ("built", "changed"):
            return Verdict(NOT_YET, worst.text)
        picture = partial(draw_pair, self.picture, trials[0].expected, trials[0].outcome.value)
        shaped = [trial for trial in faults if trial.fault in ("shape", "values")]
        for mistake in self.mistakes:
            if shaped and all(mistake.fits(trial) for trial in shaped):
                return Verdict(NOT_YET, f"{_ended(mistake.hint)} {_capital(ending)}", picture)
        fine = [trial.case.label for trial in trials if not trial.fault]
        if fine and worst.fault in ("error", "shape", "values"):
            hint = OTHERWISE if worst.fault == "values" and self.partly == SIZES else self.partly
            if "equal size" in worst.text:  # torch.stack's words
                hint = "some pieces run over the edge and come out smaller: where must the last one start?"
            text = f"right on {fine[0]}, but not on {worst.case.label}: {_ended(hint)} {_capital(worst.text)}"
            return Verdict(NOT_YET, text)
        if worst.fault in ("shape", "values"):
            again = self._try(answer, worst.case, seconds, seed=1).outcome.value
            for hint in resemblances(worst.outcome.value, again, worst.expected, worst.case.inputs()):
                return Verdict(NOT_YET, f"{_ended(hint)} {_capital(ending)}", picture)
        return Verdict(NOT_YET, ending, picture)

    def _looked_closer(self, answer: Callable, cases: list[Case], seconds: float | None) -> str:
        """What is wrong with right values: gradients that do not get through, for one; "" when nothing is."""
        for rule in behavior.RULES:
            outcome = run_limited(lambda rule=rule: next(rule(self, answer, cases), ""), seconds)
            if outcome.error is not None:  # .numpy(), for one, is an error only where gradients are wanted
                again = run_limited(lambda: cases[0].use(answer), seconds)
                fault, text = self._broken(again)
                if not fault and rule is gradients_differ:
                    return f"your values are right, but {NO_GRADIENT}"
                outcome = again if fault else outcome
            fault, text = self._broken(outcome)
            if fault:
                return f"right at first, but not when it is called once more: {text or 'it raises NotImplementedError'}"
            if outcome.value:
                return f"your values are right, but {outcome.value}"
        return ""


def _replaced(names: Sequence[str]) -> str:
    what = ", ".join(f"`{name.removeprefix('builtins.')}`" for name in names)
    return f"your code replaces {what} for everybody, this check included: give your own functions names of their own."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _ended(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."
