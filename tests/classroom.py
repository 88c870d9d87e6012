"""A class with real nbgrader: a course directory, and students who fetch, write answers and submit.

course = Course(tmp_path, "01_patches")
course.release()
course.submits("ada", half_right)
course.grade()
course.points()["ada"]
"""

import csv
import html
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import mutants
import nbformat

from dit_course.authoring import classroom, release
from dit_course.authoring.release import BEGIN, solved

ROOT = Path(__file__).resolve().parent.parent
SEED = 7  # of the cases for grading; learners have 0
MISSING = None if importlib.util.find_spec("nbgrader") else "nbgrader is not installed (it comes with `make setup`)"
# nbgrader's commands one after the other in one process, as each needs six seconds to start
COMMANDS = """
import json, os, sys
from nbgrader.apps import NbGraderApp
from traitlets.config import Application

worst = 0
for arguments, folder in json.loads(sys.argv[1]):
    os.chdir(folder)
    if Application.initialized():
        type(Application._instance).clear_instance()
    try:
        NbGraderApp.launch_instance(arguments)
    except SystemExit as end:
        worst = max(worst, end.code or 0)
sys.exit(worst)
"""

# appended to the settings: when each cell began, a line each
TIMED = """
import time

c.NotebookClient.on_cell_start = lambda cell, cell_index: open({!r}, "a").write(f"{{cell_index}} {{time.time()}}\\n")
"""


class Course:
    """One assignment in a course directory of its own, and what it costs in seconds."""

    def __init__(self, folder: Path, assignment: str, notebooks: Path = release.NOTEBOOKS):
        self.folder, self.assignment, self.seconds = folder / "course", assignment, 0.0
        self.homes, self.each = folder / "homes", []
        self.most = classroom.init(self.folder, (assignment,), seed=SEED, notebooks=notebooks)[assignment]
        self.source = nbformat.read(self.folder / "source" / assignment / f"{assignment}.ipynb", as_version=4)

    def nbgrader(self, *commands: tuple[str, Path | None], status: int = 0) -> str:
        """Run commands as people do, each in its folder; returns what they print. status: the worst of theirs."""
        private = self.homes / "jupyter"
        env = {**os.environ, "JUPYTER_CONFIG_DIR": str(private / "config"), "JUPYTER_DATA_DIR": str(private / "data")}
        env |= {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])}
        env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])  # nbgrader calls `alembic`
        job = json.dumps([[command.split(), str(folder or self.folder)] for command, folder in commands])
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", COMMANDS, job], env=env, capture_output=True, text=True)
        self.seconds += time.perf_counter() - start
        assert done.returncode == status, f"nbgrader {job}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout + done.stderr

    def release(self) -> None:
        """Hand it out."""
        commands = [f"generate_assignment {self.assignment}", f"release_assignment {self.assignment}"]
        self.nbgrader(*((command, None) for command in commands))

    def submit(self, students: dict[str, Callable]) -> None:
        """Students fetch the assignment, change the notebook by `write(notebook, course)`, and submit."""
        for student in students:
            (self.homes / student).mkdir(parents=True)
            settings = (self.folder / classroom.STUDENTS / classroom.CONFIG).read_text()
            (self.homes / student / classroom.CONFIG).write_text(settings)
        self.nbgrader(*((f"fetch_assignment {self.assignment}", self.homes / student) for student in students))
        for student, write in students.items():
            path = self.homes / student / self.assignment / f"{self.assignment}.ipynb"
            notebook = nbformat.read(path, as_version=4)
            write(notebook, self)
            nbformat.write(notebook, path)
        submit = f"submit {self.assignment} --student="
        self.nbgrader(*((f"{submit}{student}", self.homes / student) for student in students))
        self.nbgrader((f"collect {self.assignment}", None))

    def hand_in(self, students: dict[str, Callable]) -> None:
        """The same without the exchange, as a teacher does with files that came by mail."""
        name = f"{self.assignment}.ipynb"
        for student, write in students.items():
            notebook = nbformat.read(self.folder / "release" / self.assignment / name, as_version=4)
            write(notebook, self)
            path = self.folder / "submitted" / student / self.assignment / name
            path.parent.mkdir(parents=True)
            nbformat.write(notebook, path)

    def time_cells(self) -> None:
        """From now on, note when each cell begins."""
        config = self.folder / classroom.CONFIG
        config.write_text(config.read_text() + TIMED.format(str(self.folder / "begun.txt")))

    def slowest(self) -> float:
        """The seconds of the slowest cell of all students, up to the beginning of the next."""
        begun = [line.split() for line in (self.folder / "begun.txt").read_text().splitlines()]
        times = [(int(index), float(when)) for index, when in begun]
        return max(end - start for (i, start), (j, end) in pairwise(times) if j > i)

    def grade(self, status: int = 0) -> str:
        """Grade, write feedback, and export; returns the log."""
        start = time.time()
        commands = [f"autograde {self.assignment}", f"generate_feedback {self.assignment}", "export"]
        log = self.nbgrader(*((command, None) for command in commands), status=status)
        ends = sorted(path.stat().st_mtime for path in self.folder.glob("autograded/*/*/*.ipynb"))
        self.each = [end - begin for begin, end in zip([start, *ends], ends, strict=False)]
        return log

    def points(self) -> dict[str, float]:
        """Of each student, as exported."""
        with open(self.folder / "grades.csv", newline="") as file:
            return {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}

    def feedback(self, student: str) -> str:
        """The words of a feedback page."""
        page = self.folder / "feedback" / student / self.assignment / f"{self.assignment}.html"
        return " ".join(html.unescape(re.sub(r"<[^>]*>", "", page.read_text())).split())

    def exercises(self) -> list[tuple[str, str, float]]:
        """The solution cell's id, the exercise's name and its points, in their order."""
        found, solution = [], None
        for cell in self.source.cells:
            grading = cell.metadata.get("nbgrader", {})
            solution = cell.id if grading.get("solution") else solution
            if grading.get("grade"):
                found.append((solution, classroom.CHECK.search(cell.source)[1], grading.points))
        if len({solution for solution, _, _ in found}) < len(found):  # several solutions, then their checks
            solutions = [cell.id for cell in self.source.cells if cell.metadata.get("nbgrader", {}).get("solution")]
            found = [(cell, name, points) for cell, (_, name, points) in zip(solutions, found, strict=True)]
        return found


def nothing(notebook, course: Course) -> None:
    """Hands in what was fetched."""


def all_right(notebook, course: Course) -> None:
    """Writes the authors' solutions."""
    answers = {cell.id: solved(cell.source) for cell in course.source.cells if BEGIN in cell.source}
    for cell in notebook.cells:
        cell.source = answers.get(cell.id, cell.source)


def half_wrong(notebook, course: Course) -> None:
    """Every second answer, from the first, is a wrong one of the mutants; the others are the authors'."""
    all_right(notebook, course)
    for cell_id, name, _ in course.exercises()[::2]:
        next(cell for cell in notebook.cells if cell.id == cell_id).source += f"\n\n\n{wrong_answer(name)[0]}"


def expected_half(course: Course) -> tuple[float, list[str]]:
    """The points of `half_wrong`, and the hints that its feedback should hold."""
    exercises = course.exercises()
    hints = [wrong_answer(name)[1] for _, name, _ in exercises[::2]]
    return sum(points for _, _, points in exercises[1::2]), hints


def wrong_answer(exercise: str) -> tuple[str, str]:
    """Code that puts the first wrong answer among the mutants in place of a right one, and its hint."""
    for lesson, answers in mutants.lessons().items():
        module = sys.modules[f"mutants.{lesson}"]
        for answer in answers:
            if answer.exercise == exercise and answer.hint and hasattr(module, answer.make.__name__):
                code = f"import importlib\n\n{exercise} = importlib.import_module({module.__name__!r})"
                return f"{code}.{answer.make.__name__}", answer.hint
    return f"_right = {exercise}\n{exercise} = lambda *given: -_right(*given)", "the sign is wrong"


def all_steps(folder: Path, assignment: str) -> tuple[list[tuple[str, float, float, float]], float]:
    """Three students go all the way.

    Returns each with the expected and the given points, and seconds of grading; and those of the slowest cell.
    """
    course = Course(folder, assignment)
    course.time_cells()
    course.release()
    course.submit({"ada": nothing, "bo": half_wrong, "cy": all_right})
    course.grade()
    half, hints = expected_half(course)
    expected, given = {"ada": 0.0, "bo": half, "cy": course.most}, course.points()
    assert given == expected
    missing = [hint for hint in hints if hint not in course.feedback("bo")]
    assert not missing, f"feedback does not name {missing}"
    assert course.feedback("ada").count("not tried yet: going on") >= len(course.exercises())
    told = sum(cell.source.count("AssertionError") for cell in course.source.cells)  # lesson 12 speaks of them
    assert course.feedback("cy").count("AssertionError") == told
    assert course.feedback("bo").count("AssertionError") > told
    rows = [(student, expected[student], given[student], course.each[i]) for i, student in enumerate(expected)]
    return rows, course.slowest()
