"""Every check is checked: wrong answers get the hint that fits them, right ones pass, however they are written."""

from collections import Counter

import mutants
import pytest

from dit_course import check
from dit_course.check.engine.exercise import Draw
from dit_course.check.engine.mistakes import with_hints
from dit_course.check.engine.verdict import NOT_TRIED, NOT_YET, RIGHT, exercises

SEEDS = (0, 1, 2, 7, 2026)
ANSWERS = [answer for lesson in mutants.lessons().values() for answer in lesson]
EVERYWHERE = [answer for exercise in exercises for answer in mutants.everywhere(exercise.name)]
GENERAL = {id(answer) for answer in EVERYWHERE}  # the engine's own sentences
NAMES = [exercise.name for exercise in exercises]
COSTLY = {"measure"}  # a wrong answer is compared with 260 wrong versions, which takes a second
WRONG = [answer for answer in ANSWERS + EVERYWHERE if answer.hint is not None]
GOOD = [answer for answer in ANSWERS if answer.hint is None]


def seeds_for(exercise, answer=None):
    """The seeds to try an answer with: fewer where each is dear, or where the words do not depend on the case."""
    if answer and answer.seconds < mutants.ANY_SECONDS:
        return SEEDS[:1]  # what hangs need not hang often
    return SEEDS[:2] if exercise in COSTLY or id(answer) in GENERAL else SEEDS


def named(answers):
    return pytest.mark.parametrize("answer", answers, ids=[answer.name for answer in answers])


def examine(answer, seed):
    """The verdict on an answer, as a status and what the learner reads."""
    verdict = getattr(check, answer.exercise).examine(answer.make, seed=seed, seconds=answer.seconds)
    return verdict.status, str(verdict)


@named(WRONG)
def test_a_wrong_answer_gets_the_hint_that_fits_it(answer):
    for seed in seeds_for(answer.exercise, answer):
        status, text = examine(answer, seed)
        assert status != RIGHT, f"with seed {seed} this mutant passes"
        assert status == (NOT_TRIED if answer.hint == NOT_TRIED else NOT_YET)
        assert answer.hint.lower() in text.lower(), f"with seed {seed}"
        assert "cannot read" not in text


@pytest.mark.parametrize("name", NAMES)
def test_a_recognized_mistake_gets_its_own_hint(name):
    """A wrong version that another hint speaks for, or that is right, would recognize nothing."""
    exercise = getattr(check, name)
    known = mutants.recognized(exercise)
    for mistake in known[:: max(1, len(known) // 60) ** 2]:  # `measure` has all combinations of its eight mistakes,
        hint = mistake.hint.partition(" (and ")[0]  # and there the second of two may change nothing
        for seed in seeds_for(name)[::2]:
            verdict = mutants.imitated(exercise, mistake.wrong, seed)
            assert verdict.status == NOT_YET, f"with seed {seed}: {hint}"
            assert verdict.reason.startswith(hint), f"with seed {seed}: not {hint}"


@pytest.mark.parametrize("name", ["count_parameters", "count_multiply_adds"])
def test_a_wrong_count_of_one_part_gets_its_own_hint(name):
    exercise = getattr(check, name)
    for part, mistakes in exercise.cases(Draw(0))[0].mistakes.items():
        for mistake in with_hints(mistakes):
            for seed in SEEDS:
                answer = lambda c, part=part, wrong=mistake.wrong: exercise.reference(c) | {part: wrong(c)}  # noqa: E731
                assert f"{part}: {mistake.hint}. You count" in exercise.examine(answer, seed=seed).reason


@named(GOOD)
def test_a_right_answer_is_right_however_it_is_written(answer):
    for seed in SEEDS:
        status, text = examine(answer, seed)
        assert status == RIGHT, f"with seed {seed}: {text}"


@pytest.mark.parametrize("name", NAMES)
def test_the_courses_own_version_is_right(name):
    exercise = getattr(check, name)
    own = mutants.altered(exercise.reference, name, lambda right, args: right(*args))
    for seed in SEEDS:
        assert exercise.examine(own, seed=seed).status == RIGHT


@pytest.mark.parametrize("name", NAMES)
def test_every_exercise_has_enough_answers_to_be_tested_with(name):
    wrong = Counter(answer.exercise for answer in ANSWERS if answer.hint is not None)
    right = Counter(answer.exercise for answer in GOOD)
    known = len(list(mutants.hints(getattr(check, name))))
    assert wrong[name] + known >= 5, f"{name} needs five plausible wrong answers of its own"
    assert right[name] >= 2, f"{name} needs two right answers written differently"


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_of_an_exercise_is_some_mutants(name):
    """A hint that no mutant gets may be wrong, and nobody would know; those with a wrong version have been tested."""
    exercise = getattr(check, name)
    said = [answer.hint.lower() for answer in WRONG if answer.exercise == name]
    said += [mistake.hint.lower() for mistake in mutants.recognized(exercise)]
    for mistake in exercise.mistakes:
        assert any(hint in mistake.hint.lower() for hint in said), f"no mutant gets: {mistake.hint}"


def test_a_mutant_of_an_exercise_that_does_not_exist_is_noticed():
    assert {answer.exercise for answer in ANSWERS} <= set(NAMES)


def test_the_summary_counts_them():
    lines = list(mutants.summary())
    assert len(lines) == len(NAMES) + 1
    right = sum(answer.hint is None for answer in ANSWERS)
    assert lines[-1].endswith(f"recognized mistakes, {len(WRONG)} wrong answers and {right} right ones")
