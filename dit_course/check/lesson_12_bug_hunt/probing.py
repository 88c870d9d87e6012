"""How a probe is checked: it must pass right code, under any seed and by any hand, and catch the faulty one."""

import difflib
import inspect
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType, NoneType, SimpleNamespace
from typing import ClassVar

import torch
from torch import Tensor

from dit_course.check.engine.compare import is_below_its_stub
from dit_course.check.engine.exercise import Case, Draw, Exercise
from dit_course.check.engine.limits import Outcome, run_limited
from dit_course.check.engine.places import is_learners
from dit_course.check.engine.tampering import borrowed, put_back
from dit_course.check.engine.verdict import NOT_TRIED, NOT_YET, RIGHT, Verdict
from dit_course.check.lesson_12_bug_hunt.variants import ALSO, also_faulty, another_hand, first_difference, nonsense
from dit_course.studies.bugs import open_case

SEEDS, FEWER = 5, 3  # runs on right code, and on each other
SECONDS = 3.0  # of the processor that a probe may take; those of the kit take hundredths


class Watched:
    """A namespace of code that notes which names a probe takes from it."""

    def __init__(self, code: SimpleNamespace):
        self._code, self._taken = code, set()

    def __getattr__(self, name: str):
        if not hasattr(self._code, name):
            near = difflib.get_close_matches(name, vars(self._code), 1)
            raise AttributeError(f"`code` has no {name!r}" + (f": is {near[0]!r} meant?" if near else ""))
        self._taken.add(name)
        return getattr(self._code, name)


@dataclass(frozen=True)
class Probed(Case):
    """Code that a probe is tried on. args: none; the letter is "" where the code is right."""

    letter: str = ""
    seed: int = 0
    code: Callable[[], SimpleNamespace] = lambda: open_case().code
    gives = NoneType  # a probe returns nothing: the tests' general answers leave it out

    def run(self, probe: Callable) -> object:
        """Whatever the probe returns or raises; a second value says what it took from the code."""
        torch.manual_seed(self.seed)
        watched = Watched(self.code())
        return probe(watched), watched._taken

    def use(self, answer: Callable, track: bool = False) -> tuple[Tensor, tuple]:
        """1 where the probe complains, 0 where it passes."""
        with torch.random.fork_rng(devices=[]):
            try:
                self.run(answer)
            except NotImplementedError as error:
                if not error.args:
                    raise
            except Exception:
                return torch.ones(()), ()
        return torch.zeros(()), ()


@dataclass
class ProbeExercise(Exercise):
    """A check of a probe. caught: the letters of the cases that it must catch, each with a hint for who misses it."""

    caught: dict[str, str] = field(default_factory=dict)
    may_change: ClassVar[bool] = False  # a changed probe that still tells right from wrong is a right one

    def _examine(self, answer: Callable, seed: int, seconds: float | None) -> Verdict:
        if names := put_back():
            return Verdict(NOT_YET, f"your code replaces {', '.join(names)} for everybody: give yours another name.")
        right, other = Probed((), "right code"), Probed((), "right code by another hand", code=another_hand)
        empty = run_limited(lambda: answer(SimpleNamespace()), seconds)  # a stub needs no code
        if empty.stopped or isinstance(empty.error, NotImplementedError):
            return self._stopped(answer, empty) or Verdict(NOT_YET, "it never looks at `code`")
        right.use(self.reference)  # torch loads what an optimizer needs when the first one is made, for seconds
        begin = time.process_time()
        first = self._run(answer, right, seed, 0, seconds)
        took = time.process_time() - begin
        if wrong := self._stopped(answer, first):
            return wrong
        runs = [first] + [self._run(answer, right, seed, i, seconds) for i in range(1, SEEDS if took < 1 else FEWER)]
        if wrong := self._cries_wolf(answer, runs, seconds):
            return Verdict(NOT_YET, wrong)
        if took > SECONDS:
            return Verdict(NOT_YET, (
                f"it takes {took:.0f} seconds: a probe is for every day, and those of the course take hundredths. No "
                "training, no data set: the smallest sizes that still show the fault, and made-up inputs"
            ))  # fmt: skip
        hand = [self._run(answer, other, seed, i, seconds) for i in range(FEWER)]
        if complaint := next((run for run in hand if run.error or run.stopped), None):
            return Verdict(NOT_YET, self._about_another_hand(answer, complaint, seconds))
        if wrong := self._misses(answer, first, seed, seconds):
            return Verdict(NOT_YET, wrong)
        if (
            self.name in ALSO
            and not run_limited(lambda: Probed((), "", code=lambda: also_faulty(self.name)).run(answer), seconds).error
        ):
            return Verdict(NOT_YET, ALSO[self.name][1])
        if name := self._compares_with(answer, first.value[1]):
            return Verdict(NOT_YET, (
                f"it compares with the course's own `{name}`, and at home there is none to compare with: put in "
                "something whose result you know without any code"
            ))  # fmt: skip
        if not self.may_borrow and borrowed(self.reference, answer, lambda: right.use(answer))[0]:
            text = "it is the course's: your code calls its probe. Write down in your own words what it tests"
            return Verdict(NOT_YET, text)
        text = f"It catches {_listed(self.caught)}, and passes right code: under {SEEDS} seeds, and by another hand."
        return Verdict(RIGHT, text)

    def _run(self, answer: Callable, case: Probed, seed: int, number: int, seconds: float | None) -> Outcome:
        again = Probed(case.args, case.label, letter=case.letter, seed=1000 * seed + number, code=case.code)
        return run_limited(lambda: again.run(answer), seconds)

    def _stopped(self, answer: Callable, run: Outcome) -> Verdict | None:
        """What has nothing to do with the code: a stub, a loop without end, an error that is no AssertionError."""
        fault, text = ("", "") if isinstance(run.error, AssertionError) else self._broken(run)
        if fault == "stub":
            below = "your code stands below `raise NotImplementedError`, where it is never reached: delete that line"
            return Verdict(NOT_YET, below) if is_below_its_stub(answer) else Verdict(NOT_TRIED)
        if fault == "error":
            text = f"{text}{'' if text.endswith('?') else '.'} It happens on right code: a probe should pass there"
        return Verdict(NOT_YET, text) if fault else None

    def _cries_wolf(self, answer: Callable, runs: Sequence[Outcome], seconds: float | None) -> str:
        """What is said of complaints about the course's own code."""
        complaints = [run for run in runs if run.error or run.stopped]
        if not complaints:
            return ""
        what = _said(complaints[0])
        if len(complaints) < len(runs):
            return (
                f"it depends on the seed: it complains about right code in {len(complaints)} of {len(runs)} runs, "
                f"{what}. Where chance decides, take more samples or a wider margin, or feed numbers that you chose"
            )
        faulty = [self._run(answer, _case(letter), 0, 0, seconds) for letter in self.caught]
        if not any(run.error or run.stopped for run in faulty):
            return f"it is the wrong way round: it complains about right code, {what}, and passes the faulty one"
        if all(_said(run) == what for run in faulty):
            return f"it always complains, about right code as about faulty code, {what}. What would make it pass?"
        return (
            f"it complains about right code, {what}. What should the value be there? Print it: call your probe with "
            "`open_case().code`, which is right"
        )

    def _about_another_hand(self, answer: Callable, complaint: Outcome, seconds: float | None) -> str:
        """A complaint about right code that is written in another way."""

        def complains(code: SimpleNamespace) -> bool:
            run = run_limited(lambda: Probed((), "", code=lambda: code).run(answer), seconds)
            return bool(run.error or run.stopped)

        difference = first_difference(complains) or "several things are written in another way"
        return (
            f"it cries wolf: it complains about right code in which {difference}, {_said(complaint)}. Test what must "
            "be so, not how it happens to be written"
        )

    def _caught(self, answer: Callable, letter: str, seed: int, seconds: float | None) -> int:
        """In how many runs on a case the probe complains."""
        runs = [self._run(answer, _case(letter), seed, i, seconds) for i in range(FEWER)]
        return sum(bool(run.error or run.stopped) for run in runs)

    def _misses(self, answer: Callable, first: Outcome, seed: int, seconds: float | None) -> str:
        """What is said of faulty code that passes."""
        counts = {letter: self._caught(answer, letter, seed, seconds) for letter in self.caught}
        missed = [letter for letter, count in counts.items() if not count]
        returned, taken = first.value
        if len(missed) == len(counts):
            if not taken:
                return "it never looks at `code`: test `code.euler` and the like, not what your notebook imports"
            if returned is not None:
                return f"it returns {returned!r:.40} and raises nothing: `assert` is how a probe complains"
            return self._blind(answer, missed[0], seconds)
        if missed:
            found = _listed([letter for letter in counts if counts[letter]])
            return f"it catches {found}, but lets case {missed[0]} pass: {self.caught[missed[0]]}"
        lucky = next((letter for letter, count in counts.items() if count < FEWER), None)
        if lucky:
            return (
                f"it depends on the seed: it catches case {lucky} in {counts[lucky]} of {FEWER} runs. Where chance "
                "decides, take more samples, or feed numbers that you chose"
            )
        return ""

    def _compares_with(self, answer: Callable, taken: set[str]) -> str:
        """A function of the course that the probe itself calls while it examines other code; "" when there is none."""
        right, found = open_case().code, []
        parts = {name: inspect.unwrap(getattr(right, name)) for name in taken}
        own = {name: inspect.getsourcefile(part) for name, part in parts.items() if inspect.isfunction(part)}

        def look(frame: FrameType, event: str, arg: object) -> None:
            code = frame.f_code
            if event == "call" and own.get(code.co_name) == code.co_filename and is_learners(frame.f_back):
                found.append(code.co_name)

        before = sys.getprofile()
        sys.setprofile(look)
        try:
            Probed((), "", code=another_hand).use(answer)  # whose functions are in other files
        finally:
            sys.setprofile(before)
        return next(iter(found), "")

    def _blind(self, answer: Callable, letter: str, seconds: float | None) -> str:
        """A probe that catches nothing: does it complain about nonsense, at least?"""
        values, shapes = (
            run_limited(lambda code=code: Probed((), "", code=lambda: code).run(answer), seconds)
            for code in nonsense(self.name)
        )
        if values.error:
            return f"it passes right code, and case {letter} as well: {self.caught[letter]}"
        if shapes.error:
            hint = _capital(self.caught[letter])
            return f"it notices wrong shapes, and not wrong values, but shapes are right in faulty code, too. {hint}"
        return f"it never complains, not even about code that returns random numbers. {_capital(self.caught[letter])}"


def _said(run: Outcome) -> str:
    """A complaint as it was made, in quotes."""
    if run.stopped:
        return "and does not come to an end"
    message = " ".join(str(run.error).split())[:160]
    kind = "" if isinstance(run.error, AssertionError) else f"{type(run.error).__name__}: "
    return f'saying "{kind}{message}"' if message else 'without a message (`assert a == b, f"it is {a}"` has one)'


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(letters: Sequence[str]) -> str:
    """ "case D", or "cases F, G and H"."""
    *most, last = letters
    return f"cases {', '.join(most)} and {last}" if most else f"case {last}"


def _case(letter: str, seed: int = 0) -> Probed:
    return Probed((), f"case {letter}", letter=letter, seed=seed, code=lambda: open_case(letter).code)


def cases(caught: Sequence[str]) -> Callable[[Draw], list[Probed]]:
    """The cases of an exercise: right code, and the faulty ones."""

    def make(draw: Draw) -> list[Probed]:
        seed = int(torch.randint(1000, (), generator=draw.generator))
        return [Probed((), "right code", seed=seed), *(_case(letter, seed) for letter in caught)]

    return make
