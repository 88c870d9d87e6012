"""Puts what the checks of each lesson say, and to which wrong answers, onto the teacher's page.

    python tests/teacher_pages.py

rewrites the tables in `notebooks/solutions/NN_teacher.md` from the exercises and `tests/mutants/NN_*.py`;
`test_teacher_pages.py` tells when that is due.
"""

import re
import sys
from pathlib import Path

import mutants

from dit_course import check
from dit_course.check.engine.exercise import Exercise

SOLUTIONS = Path(__file__).resolve().parent.parent / "notebooks" / "solutions"
START, END = "<!-- made by python tests/teacher_pages.py -->", "<!-- end -->"


def said(answer: mutants.Answer) -> str:
    """What the check says to a wrong answer, without the numbers and the names of the case."""
    exercise = getattr(check, answer.exercise)
    verdict = exercise.examine(
        answer.make, seconds=answer.seconds
    )  # what is printed begins with "checking ..." at times
    text = str(verdict).splitlines()[0].removeprefix("not yet: ")
    text = re.sub(rf"([`\[]){answer.make.__name__}([`\]])", r"\1Answer\2", text)
    if text.startswith("right on ") and f": {exercise.partly}" in text:
        text = f"right on one input but not on another: {text[text.index(exercise.partly) :]}"
    return plain(text)


def plain(text: str) -> str:
    """A sentence of a check without numbers and the names of the case."""
    text = re.sub(r" in [\w.]+\.py, line \d+: \".*?\"", " in line ...", text)
    text = re.sub(r"([.?]) (\d+% of the values|Your answer has shape|An error stopped) .*", r"\1", text)
    text = re.sub(r" \(on [^()]*\)\.?$", "", text)  # "(on 2x1x28x28 in patches of 4)"
    text = re.sub(r"\([\d, ]+\)", "(...)", text)  # shapes
    return text.rstrip(".").replace("|", "\\|")


def words(name: str) -> str:
    """A mutant's name in words: "OneChannel" and "one_channel" are "one channel"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").lower()


def tables(answers: list[mutants.Answer]) -> str:
    """One table for each exercise: what the check can say, and some wrong answers that get it."""
    parts = []
    for exercise in dict.fromkeys(answer.exercise for answer in answers):
        wrong = [answer for answer in answers if answer.exercise == exercise and answer.hint]
        right = [answer for answer in answers if answer.exercise == exercise and not answer.hint]
        known = list(mutants.hints(getattr(check, exercise)))
        rows: dict[str, list[str]] = {plain(f"{hint}."): [] for hint in known}
        for answer in wrong:
            rows.setdefault(said(answer), []).append(words(answer.make.__name__))
        head = f"**`{exercise}`**: {len(rows)} things that the check may say"
        head += f", tested with {len(wrong)} more wrong answers and {len(right)} right ones written differently"
        lines = [f"| {sentence} | {', '.join(names)} |" for sentence, names in rows.items()]
        parts.append("\n".join([head, "", "| The check says | for example to |", "|---|---|", *lines]))
    return "\n\n".join(parts)


def renewed(page: str, answers: list[mutants.Answer]) -> str:
    """The page with its tables made anew; ValueError when it has no place for them."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"the teacher's page needs the lines {START} and {END}, between which the tables go")
    return f"{before}{START}\n\n{tables(answers)}\n\n{END}{after}"


def main() -> None:
    """Rewrite all pages that are there."""
    for lesson, answers in mutants.lessons().items():
        file = SOLUTIONS / f"{lesson[:2]}_teacher.md"
        if file.exists():
            file.write_text(renewed(file.read_text(encoding="utf-8"), answers), encoding="utf-8")
            print(f"renewed {file.name}", file=sys.stderr)


if __name__ == "__main__":
    Exercise.may_borrow = True  # as in conftest.py: mutants may wrap the course's own version
    main()
