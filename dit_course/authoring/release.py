"""Learners' notebooks, derived from the authors': `python -m dit_course release`.

An author writes `notebooks/solutions/NN_name.ipynb`, without outputs; a lesson in two parts is `NNa_name.ipynb` and
`NNb_name.ipynb`, what goes deeper `solutions/appendix/NN_name.ipynb`. An exercise in it is, in this order,

    a solution cell   nbgrader: solution true, grade false; what a learner writes stands between the lines
                      `### BEGIN SOLUTION` and `### END SOLUTION`, what is given stands around them
    a check cell      nbgrader: grade true, solution false, points; `name = check.name(name)`
    hints             markdown cells tagged `hint`: two or more, the first names the idea, the next the place
    the reason        a markdown cell tagged `solution-why`: why the solution is what it is

A prediction is a markdown cell with `**Predict.**`, the code cells that show what happens, and a markdown cell tagged
`answer`. Learners get the answer folded, and the code without outputs: nothing is given away before they run it.

From it the notebook of that name outside `solutions/` is derived: the solution becomes `raise NotImplementedError`,
hints are folded, the solution's code joins its reason in a fold of its own, and links lead from one folder higher. Then
it is run, so that it reads well on a web page.
"""

import copy
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

from dit_course.authoring.notebooks import execute
from dit_course.data import atomic_write

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
TOUR = "00_start_here.ipynb"
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = "raise NotImplementedError  # your code here"
HINT, WHY, ANSWER = "hint", "solution-why", "answer"
PREDICT = "**Predict"  # a cell with these words asks for a guess
PREDICTED = "predicted"  # by this tag learners' notebooks mark the code whose output answers a prediction
CHECKED = "nbval-check-output"  # by this tag nbval compares what the checks say
MOST_BYTES = 1_500_000


def sources(lessons: Sequence[str] = (), folder: Path = NOTEBOOKS) -> list[Path]:
    """The authors' notebooks, of all lessons or of some: "01" (with its appendix), or the beginning of a name.

    Raises ValueError for a lesson that is not there, FileNotFoundError where none is: in an installed package.
    """
    found = _notebooks(Path(folder) / "solutions")
    if not found and not lessons:
        raise FileNotFoundError(f"{Path(folder) / 'solutions'} holds no lessons: release works in the repository")
    for lesson in lessons:
        if not any(path.name.startswith(lesson) for path in found):
            there = ", ".join(path.stem for path in found) or "none"
            raise ValueError(f"there is no lesson {lesson!r} in {Path(folder) / 'solutions'}: there is {there}")
    return [path for path in found if not lessons or path.name.startswith(tuple(lessons))]


def learners(folder: Path = NOTEBOOKS) -> list[Path]:
    """The notebooks that learners open, and of the tour its only version."""
    return _notebooks(Path(folder))


def _notebooks(folder: Path) -> list[Path]:
    """The lessons and their parts, then the appendix."""
    return [path for place in (folder, folder / "appendix") for path in sorted(place.glob("[0-9][0-9]*_*.ipynb"))]


def number_of(path: Path) -> str:
    """The lesson of a notebook: "02" for `02_x`, `02a_x` and `appendix/02_x`."""
    return path.name[:2]


def is_appendix(path: Path) -> bool:
    """Whether a notebook goes deeper, and no lesson needs it."""
    return path.parent.name == "appendix"


def target_of(source: Path) -> Path:
    """The learners' notebook of an authors' notebook."""
    return _folder_of(source) / source.relative_to(_folder_of(source) / "solutions")


def _folder_of(source: Path) -> Path:
    return next(folder.parent for folder in source.parents if folder.name == "solutions")


def release(source: Path, run: bool = True, again: bool = False) -> bool:
    """Derive, run and write one learners' notebook. Returns False when it was in step already, and is left alone.

    run: without it outputs are missing, and the next release adds them. again: in step or not.
    Raises ValueError when the source breaks a rule, or a cell fails for somebody who has solved nothing.
    """
    import nbformat

    target, notebook = target_of(source), derive(source)
    if target.exists() and not again:
        current = nbformat.read(target, as_version=4)
        if without_outputs(current) == without_outputs(notebook) and (was_run(current) or not run):
            return False
    if run:
        notebook = _executed(notebook, target)
    content = (nbformat.writes(notebook).rstrip("\n") + "\n").encode()
    if len(content) > MOST_BYTES:
        size = f"{len(content):,} bytes, and at most {MOST_BYTES:,} are allowed"
        raise ValueError(f"{target.name} would have {size}: show fewer or smaller pictures")
    atomic_write(target, content)
    return True


def derive(source: Path):
    """The learners' version of an authors' notebook, without outputs. Raises ValueError when a rule is broken."""
    import nbformat

    notebook = nbformat.read(source, as_version=4)
    try:
        cells = _derived(notebook.cells)
    except ValueError as error:
        raise ValueError(f"{source.name}: {error}") from None
    notebook.cells = cells
    notebook.metadata.setdefault("dit_course", {})["source"] = source.relative_to(_folder_of(source)).as_posix()
    return without_outputs(notebook, keep_language=True)


def _derived(cells: Sequence) -> list:
    """Cell by cell; `code` gathers the solution of the current exercise, `hints` counts since its check."""
    made, code, hints, check, guess = [], [], 0, None, None
    for cell in map(copy.deepcopy, cells):
        tags, grading = cell.metadata.get("tags", []), cell.metadata.get("nbgrader", {})
        if cell.cell_type == "markdown":
            cell.source = one_folder_up(cell.source)
        if guess and (
            grading or PREDICT in cell.source or (cell.source.startswith("#") and cell.cell_type == "markdown")
        ):
            raise ValueError(f"cell {guess!r}: its prediction has no cell tagged {ANSWER!r} before cell {cell.id!r}")
        if grading.get("solution"):
            _demand(check is None, cell, f"the exercise before it has no cell tagged {WHY!r}")
            code.append(solved(cell.source, cell.id))
            cell.source = unsolved(cell.source, cell.id)
        elif grading.get("grade"):
            _demand(code, cell, "this check has no solution cell before it")
            check, hints = cell, 0
            cell.metadata.tags = [*tags, CHECKED]
        elif HINT in tags:
            _demand(check, cell, "this hint has no check cell before it")
            hints += 1
            cell.source = folded(f"Hint {hints}", cell.source)
        elif WHY in tags:
            _demand(check, cell, "this reason has no check cell before it")
            _demand(hints >= 2, cell, f"this exercise has {hints} cells tagged {HINT!r}, and needs two")
            cell.source = folded("Solution", _code_block("\n\n\n".join(code)) + "\n\n" + cell.source)
            code, check = [], None
        elif ANSWER in tags:
            _demand(guess, cell, "this answer has no prediction before it")
            cell.source, guess = folded("What happened", cell.source), None
        elif cell.cell_type == "markdown" and PREDICT in cell.source:
            guess = cell.id
        elif guess and cell.cell_type == "code":
            cell.metadata.tags = [*tags, PREDICTED]
        else:
            _demand(BEGIN not in cell.source, cell, f"{BEGIN!r} stands in a cell without nbgrader's `solution: true`")
        made.append(cell)
    if guess:
        raise ValueError(f"cell {guess!r}: its prediction has no cell tagged {ANSWER!r}")
    if code or check:
        raise ValueError(f"the last exercise has no cell tagged {WHY!r}, or no check")
    return made


def unsolved(code: str, name: str = "") -> str:
    """Code as a learner gets it: each solution is a stub, in its indentation. Raises ValueError on odd markers."""
    return "\n".join(_lines(code, name, solved=False))


def solved(code: str, name: str = "") -> str:
    """Code with its solution and without the markers."""
    return "\n".join(_lines(code, name, solved=True))


def _lines(code: str, name: str, solved: bool) -> list[str]:
    kept, inside, regions = [], False, 0
    for line in code.splitlines():
        if line.strip() in (BEGIN, END):
            if inside == (line.strip() == BEGIN):
                raise ValueError(f"cell {name!r}: {line.strip()!r} stands where the other marker is due")
            inside = not inside
            regions += inside
            if inside and not solved:
                kept.append(line.replace(BEGIN, STUB))
        elif solved or not inside:
            kept.append(line)
    if inside or not regions:
        raise ValueError(f"cell {name!r}: a solution stands between {BEGIN!r} and {END!r}")
    return kept


def one_folder_up(text: str) -> str:
    """Markdown whose relative links were written for `solutions/`, as it stands in the folder above."""
    return text.replace("](../", "](")


def folded(title: str, text: str) -> str:
    """Markdown that opens on a click. The empty lines let what is inside be markdown again."""
    return f"<details><summary>{title}</summary>\n\n{text.strip()}\n\n</details>"


def _code_block(code: str) -> str:
    return f"```python\n{code}\n```"


def without_outputs(notebook, keep_language: bool = False):
    """A copy that holds what an author wrote: no outputs, no counts, and not what a kernel says about its Python."""
    notebook = copy.deepcopy(notebook)
    if not keep_language:
        notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def hide_predicted(notebook):
    """Take out the outputs that answer a prediction, in place; returns the notebook."""
    for cell in notebook.cells:
        if PREDICTED in cell.metadata.get("tags", []):
            cell.outputs = []
    return notebook


def was_run(notebook) -> bool:
    """Whether the outputs of all cells are there."""
    return all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip())


def differences(source: Path) -> list[str]:
    """What is wrong with the learners' notebook of a source: [] when both are in step."""
    import nbformat

    target = target_of(source)
    if not target.exists():
        return ["it does not exist"]
    current, wanted = (without_outputs(x) for x in (nbformat.read(target, as_version=4), derive(source)))
    cells = {cell.id: cell for cell in wanted.cells}
    found = [f"cell {cell.id!r} is not in the source" for cell in current.cells if cell.id not in cells]
    found += [f"cell {cell.id!r} differs" for cell in current.cells if cell.id in cells and cell != cells[cell.id]]
    found += [f"cell {name!r} is missing" for name in cells if name not in {cell.id for cell in current.cells}]
    if not found and [cell.id for cell in current.cells] != list(cells):
        found = ["its cells are in another order"]
    if not found and current != wanted:
        found = ["its metadata differs"]
    return found


def run_tour(folder: Path = NOTEBOOKS) -> Path:
    """Run the tour in its place: it has no authors' notebook, and marks what answers a prediction by itself."""
    import nbformat

    path = Path(folder) / TOUR
    notebook = hide_predicted(execute(path))
    atomic_write(path, (nbformat.writes(notebook).rstrip("\n") + "\n").encode())
    return path


def _executed(notebook, target: Path):
    """Run as somebody who has solved nothing does, beside the target, which stays as it was until all is well."""
    import nbformat
    from nbclient.exceptions import CellExecutionError

    partial = target.with_name(f".{target.stem}-partial.ipynb")
    partial.parent.mkdir(exist_ok=True)
    strict = os.environ.pop("DIT_COURSE_STRICT", None)
    try:
        nbformat.write(notebook, partial)
        return hide_predicted(execute(partial))
    except CellExecutionError as error:
        raise ValueError(f"{target.name}: {textwrap.shorten(f'{error.ename}: {error.evalue}', 300)}") from error
    finally:
        partial.unlink(missing_ok=True)
        if strict is not None:
            os.environ["DIT_COURSE_STRICT"] = strict


def _demand(condition: object, cell, problem: str) -> None:
    if not condition:
        raise ValueError(f"cell {cell.id!r}: {problem}")
