"""Which exercise stopped whom, and by which hint: from the notebooks that nbgrader has graded."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dit_course.authoring.classroom import CHECK
from dit_course.check.engine.verdict import NOT_TRIED, NOT_YET, RIGHT, exercises

CUT = re.compile(r"(?<=[.?]) [A-Z].*|\s\(on .*|\d{3,}.*")  # behind a hint: numbers and the names of the case


@dataclass(frozen=True)
class Result:
    """What a student reached in one exercise. hint: what the check said, without numbers."""

    assignment: str
    student: str
    exercise: str
    points: float
    status: str
    hint: str = ""


def results(course: Path) -> list[Result]:
    """Of all graded notebooks of a course directory, in the order of lessons and exercises.

    Raises FileNotFoundError where nothing is graded yet.
    """
    import nbformat

    found = []
    for path in sorted(Path(course).glob("autograded/*/*/*.ipynb"), key=lambda path: (path.stem, path.parts[-3])):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.metadata.get("nbgrader", {}).get("grade"):
                found.append(_result(cell, path.parts[-2], path.parts[-3]))
    if not found:
        raise FileNotFoundError(f"{Path(course) / 'autograded'} holds no notebook: run `nbgrader autograde` first")
    return found


def _result(cell, assignment: str, student: str) -> Result:
    grading, check = cell.metadata.nbgrader, CHECK.search(cell.source)
    exercise = check[1] if check else grading.grade_id.removeprefix("check-")
    errors = [output for output in cell.outputs if output.output_type == "error"]
    if not errors:
        return Result(assignment, student, exercise, grading.points, RIGHT)
    status, hint = said(exercise, errors[0].ename, errors[0].evalue)
    return Result(assignment, student, exercise, 0, status, hint)


def said(exercise: str, ename: str, evalue: str) -> tuple[str, str]:
    """The status and the hint in the error of a check cell. Other errors stand for themselves."""
    verdict = evalue.removeprefix(f"{exercise}: ")
    if verdict.startswith(NOT_TRIED):
        return NOT_TRIED, ""
    if not verdict.startswith(f"{NOT_YET}: "):
        return NOT_YET, " ".join(f"{ename}: {evalue}".split())[:100].rstrip(": ")
    return NOT_YET, hint_of(exercise, verdict.removeprefix(f"{NOT_YET}: "))


def hint_of(exercise: str, text: str) -> str:
    """The hint with which a verdict begins; where none of the exercise's own does, its first sentence."""
    own = next((found for found in exercises if found.name == exercise), None)
    hints = [mistake.hint for mistake in own.mistakes] if own else []
    known = [hint for hint in hints if text.startswith(hint)]
    return max(known, key=len) if known else CUT.sub("", " ".join(text.split())).rstrip(".")


def report(found: list[Result], missing: list[tuple[str, str]] = ()) -> Iterator[str]:
    """Lines of text. missing: assignments and students whose submission could not be graded."""
    for assignment in dict.fromkeys(result.assignment for result in found):
        here = [result for result in found if result.assignment == assignment]
        students = list(dict.fromkeys(result.student for result in here))
        names = list(dict.fromkeys(result.exercise for result in here))
        mean = sum(result.points for result in here) / len(students)
        yield f"{assignment}: {_count(len(students), 'student')}, {mean:.1f} points on average"
        first = _first_stops(here)
        for name in names:
            yield from _exercise([result for result in here if result.exercise == name], first.get(name, []))
        yield ""
    for assignment, student in missing:
        again = f"`nbgrader autograde {assignment} --student={student}`"
        yield f"{assignment}: {student} could not be graded; {again} says why"


def _exercise(here: list[Result], stopped: list[str]) -> Iterator[str]:
    count = {status: sum(result.status == status for result in here) for status in (RIGHT, NOT_YET, NOT_TRIED)}
    ending = f"; the first obstacle of {', '.join(stopped)}" if stopped else ""
    yield f"  {here[0].exercise}: {', '.join(f'{n} {status}' for status, n in count.items() if n)}{ending}"
    hints = defaultdict(list)
    for result in here:
        if result.status == NOT_YET:
            hints[result.hint].append(result.student)
    for hint, students in sorted(hints.items(), key=lambda pair: -len(pair[1])):
        yield f"    {len(students)} x {hint} ({', '.join(students)})"


def _first_stops(here: list[Result]) -> dict[str, list[str]]:
    """By exercise, the students for whom it is the first that is not right."""
    stops, seen = defaultdict(list), set()
    for result in here:
        if result.status != RIGHT and result.student not in seen:
            seen.add(result.student)
            stops[result.exercise].append(result.student)
    return stops


def ungraded(course: Path) -> list[tuple[str, str]]:
    """Assignments and students that were submitted, but have no graded notebook."""
    submitted = {(path.name, path.parent.name) for path in Path(course).glob("submitted/*/*")}
    graded = {(path.name, path.parent.name) for path in Path(course).glob("autograded/*/*")}
    begun = {assignment for assignment, _ in graded}
    return sorted(pair for pair in submitted - graded if pair[0] in begun)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
