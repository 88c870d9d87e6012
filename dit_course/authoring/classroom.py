"""A course directory for nbgrader, from the authors' notebooks: `python -m dit_course classroom init FOLDER`.

Each notebook with exercises is an assignment of its own. Students get what learners get, but for the folded solutions.
Behind each check stand lines that nbgrader takes out of what students see, and puts back to grade: there a wrong answer
is an error, and the cases are others. The name still becomes the course's version, so one mistake costs one exercise.
"""

import re
import secrets
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from dit_course.authoring import release
from dit_course.authoring.grading_limits import limits_of
from dit_course.data import atomic_write

CONFIG = "nbgrader_config.py"
STUDENTS = "for-students"  # the folder of what an administrator gives to students
HIDDEN = """{check}
### BEGIN HIDDEN TESTS
from dit_course.check.engine.grading import demand_right

demand_right("{exercise}", {exercise}, seed={seed})
### END HIDDEN TESTS"""
CHECK = re.compile(r"^(\w+) = check\.\1\(\1\)$", re.M)
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)[\w./-]+\.(?:ipynb|md|py|csv|json)(?:#[\w-]*)?\)")

TEACHERS = '''"""nbgrader's settings for this course: `nbgrader` reads them in the folder in which it is called."""

from nbconvert.preprocessors import ClearMetadataPreprocessor
from nbgrader.converters import Autograde

from dit_course.authoring.grading_limits import Limits

c = get_config()  # noqa: F821 (nbgrader brings it)
c.CourseDirectory.course_id = "{course}"
c.CourseDirectory.root = {root!r}
c.Exchange.root = {exchange!r}
c.ClearSolutions.code_stub = {{"python": "{stub}"}}

# Seconds that a cell of a student may run, and all cells of a submission together.
limits = Limits(
    {{
{limits}
    }}
)
c.NotebookClient.timeout_func = limits.seconds
c.Autograde.pre_convert_hook = limits.start
c.Execute.raise_on_iopub_timeout = False  # else a cell that is slow to stop ends the grading of this student

# Students' metadata is not trusted: the tag `skip-execution` on a check would give its points.
# A deleted check comes back.
c.Autograde.sanitize_preprocessors = [ClearMetadataPreprocessor, *Autograde.sanitize_preprocessors.default()]
c.ClearMetadataPreprocessor.enabled = True
c.ClearMetadataPreprocessor.clear_notebook_metadata = False
c.ClearMetadataPreprocessor.preserve_cell_metadata_mask = {{"nbgrader"}}
c.OverwriteCells.add_missing_cells = True
'''
FOR_STUDENTS = '''"""nbgrader's settings for students: for /etc/jupyter, or where they start JupyterLab."""

c = get_config()  # noqa: F821 (nbgrader brings it)
c.CourseDirectory.course_id = "{course}"
c.Exchange.root = {exchange!r}
c.ExecutePreprocessor.timeout = {cell}  # seconds that Validate gives a cell
'''


def init(
    folder: Path,
    lessons: Sequence[str] = (),
    course: str = "dit",
    exchange: Path | None = None,
    seed: int | None = None,
    notebooks: Path = release.NOTEBOOKS,
) -> dict[str, float]:
    """Make a course directory. Returns the points of each assignment.

    lessons: "01", "02a_attention", ... or none for all. exchange: where students fetch and submit; `folder`/exchange
    unless told. seed: of the cases for grading; one that nobody knows unless told.
    Raises FileExistsError where a course is already, ValueError for a lesson that is not there or without nbgrader.
    """
    if find_spec("nbgrader") is None:
        raise ValueError("nbgrader is not installed: run `make setup`, or pip install 'nbgrader>=0.9.6'")
    folder = Path(folder).resolve()
    exchange = Path(exchange).resolve() if exchange else folder / "exchange"
    if (folder / CONFIG).exists():
        raise FileExistsError(f"{folder} is a course already: choose another folder")
    sources = [path for path in release.sources(lessons, notebooks) if has_exercises(path)]
    seed = secrets.randbelow(10**6) + 1 if seed is None else seed
    made = {path.stem: assignment(path, seed) for path in sources}
    for name, notebook in made.items():
        _write(folder / "source" / name / f"{name}.ipynb", notebook)
    exchange.mkdir(parents=True, exist_ok=True)
    exchange.chmod(0o777)  # students of other accounts write into it
    known = {"course": course, "root": str(folder), "exchange": str(exchange), "stub": release.STUB}
    limits = {name: limits_of(name) for name in made}
    known["cell"] = max(cell for cell, _ in limits.values())
    known["limits"] = "\n".join(f'        "{name}": {pair},' for name, pair in limits.items())
    atomic_write(folder / STUDENTS / CONFIG, FOR_STUDENTS.format(**known).encode())
    atomic_write(folder / CONFIG, TEACHERS.format(**known).encode())
    return {name: points(notebook) for name, notebook in made.items()}


def has_exercises(source: Path) -> bool:
    """Whether an authors' notebook holds anything to grade."""
    import nbformat

    return points(nbformat.read(source, as_version=4)) > 0


def points(notebook) -> float:
    """What can be reached in a notebook."""
    return sum(cell.metadata.get("nbgrader", {}).get("points", 0) for cell in notebook.cells)


def assignment(source: Path, seed: int):
    """The notebook in `source/` that nbgrader makes the students' of: with solutions, and with hidden tests."""
    import nbformat

    notebook = release.derive(source)
    solved = {cell.id: cell.source for cell in nbformat.read(source, as_version=4).cells}
    cells = [cell for cell in notebook.cells if release.WHY not in cell.metadata.get("tags", [])]
    for cell in cells:
        grading = cell.metadata.get("nbgrader", {})
        if grading.get("solution"):
            cell.source = solved[cell.id]
        elif grading.get("grade"):
            cell.source = with_hidden_tests(cell.source, seed)
        elif cell.cell_type == "markdown":
            cell.source = LINK.sub(r"\1", cell.source)  # what it leads to is not beside the students' notebook
    notebook.cells = cells
    return notebook


def with_hidden_tests(check: str, seed: int) -> str:
    """A check cell for grading. Raises ValueError where it is not of the form `name = check.name(name)`."""
    found = CHECK.search(check)
    if not found:
        raise ValueError(f"a check cell says `{check}` and should say `name = check.name(name)`")
    return HIDDEN.format(check=check, exercise=found[1], seed=seed)


def _write(path: Path, notebook) -> None:
    import nbformat

    atomic_write(path, (nbformat.writes(notebook).rstrip("\n") + "\n").encode())
