"""One source for every lesson: learners' notebooks are derived, in step and small, and their code is the package's."""

import ast
import importlib
import inspect
import json
import statistics

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dit_course import check
from dit_course.__main__ import main
from dit_course.authoring import release
from dit_course.check import stretch_solutions as stretch

SOURCES = release.sources()
NUMBERS = sorted({release.number_of(source) for source in SOURCES})
NAMES = [source.relative_to(release.NOTEBOOKS / "solutions").with_suffix("").as_posix() for source in SOURCES]
lessons = pytest.mark.parametrize("source", SOURCES, ids=NAMES)

SOLUTION = {"grade": False, "solution": True, "locked": False, "task": False, "schema_version": 3}
CHECK = {"grade": True, "solution": False, "locked": True, "task": False, "schema_version": 3, "points": 1}


def read(path):
    return nbformat.read(path, as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def graded(notebook, role):
    """Cells of one role: "solution" or "grade"."""
    return [cell for cell in code_of(notebook) if cell.metadata.get("nbgrader", {}).get(role)]


# -- every lesson there is -------------------------------------------------------------------------


@lessons
def test_learners_and_authors_notebooks_are_in_step(source):
    found = release.differences(source)
    assert not found, (
        f"{release.target_of(source).name} is not what solutions/{source.name} says: {'; '.join(found)}. "
        f"Edit solutions/{source.name}, then run: python -m dit_course release {source.stem}"
    )


@lessons
def test_learners_notebooks_are_stored_run_and_small(source):
    target = release.target_of(source)
    notebook = read(target)
    assert release.was_run(notebook), f"run: python -m dit_course release {source.stem}"
    assert target.stat().st_size <= release.MOST_BYTES
    assert "widgets" not in notebook.metadata
    for cell in code_of(notebook):
        assert "execution" not in cell.metadata, "times of one machine are stored"
        for output in cell.outputs:
            assert output.output_type != "error", f"cell {cell.id}: {output.get('evalue')}"
            assert not any("widget" in kind for kind in output.get("data", {})), f"cell {cell.id} holds a live widget"


@lessons
def test_stored_figures_are_there_and_each_exercise_says_not_tried_yet(source):
    notebook = read(release.target_of(source))
    for cell in graded(notebook, "grade"):
        text = "".join(output.get("text", "") for output in cell.outputs)
        assert text == "not tried yet: going on with the course's version, so the lesson continues.\n", cell.id
    # an appendix may do with numbers; and in 02b each figure answers a prediction, so none is stored
    if source.parent.name == "solutions" and source.stem != "02b_blocks_and_maps":
        assert any("image/png" in output.get("data", {}) for cell in code_of(notebook) for output in cell.outputs)


@pytest.mark.parametrize("path", release.learners(), ids=lambda path: path.stem)
def test_a_prediction_can_be_made_before_its_answer_is_seen(path):
    """After `Predict` the code has no stored output, and the explanation is folded."""
    waiting, predictions = None, 0
    for cell in read(path).cells:
        if release.PREDICT in cell.source:
            waiting, predictions = cell.id, predictions + 1
        elif waiting and cell.cell_type == "code":
            assert cell.outputs == [], f"{cell.id} answers the prediction {waiting}"
        elif waiting and cell.source.startswith("<details><summary>What happened</summary>"):
            waiting = None
    assert predictions or release.is_appendix(path), "a lesson asks for predictions"
    assert not waiting, f"the prediction {waiting} has no answer"


@lessons
def test_authors_notebooks_have_no_outputs_and_no_marks_of_a_machine(source):
    notebook = read(source)
    for cell in code_of(notebook):
        assert not cell.outputs, f"{source.name}, cell {cell.id}: clear the outputs"
        assert cell.execution_count is None
    assert set(notebook.metadata) <= {"dit_course", "kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert "version" not in notebook.metadata.get("language_info", {})


@lessons
def test_exercises_carry_nbgraders_metadata(source):
    cells = [cell for cell in code_of(read(source)) if "nbgrader" in cell.metadata]
    names = [cell.metadata.nbgrader.grade_id for cell in cells]
    assert len(set(names)) == len(names), "a grade_id is there twice"
    for cell in cells:
        grading = dict(cell.metadata.nbgrader)
        expected = SOLUTION if grading["solution"] else CHECK
        assert {key: grading[key] for key in expected if key != "points"} == {
            key: value for key, value in expected.items() if key != "points"
        }
        assert grading["solution"] != grading["grade"]
        if grading["grade"]:
            assert grading["points"] > 0


@lessons
def test_every_exercise_is_checked_by_one_line(source):
    for cell in graded(read(source), "grade"):
        name = cell.source.partition(" = ")[0]
        assert cell.source == f"{name} = check.{name}({name})"
        assert callable(getattr(check, name))


@pytest.mark.parametrize("number", NUMBERS)
def test_a_lesson_has_four_exercises_and_each_part_of_it_one(number):
    parts = [source for source in SOURCES if release.number_of(source) == number and not release.is_appendix(source)]
    counts = [len(graded(read(part), "grade")) for part in parts]
    assert sum(counts) >= 4
    assert min(counts) >= 1


@lessons
def test_cells_are_small(source):
    """Lines that somebody has to read: neither blank nor only a comment (as in test_lessons)."""
    lines = {cell.id: [line.strip() for line in cell.source.splitlines()] for cell in code_of(read(source))}
    sizes = {name: sum(line != "" and not line.startswith("#") for line in cell) for name, cell in lines.items()}
    assert statistics.median(sizes.values()) <= 5, sizes
    assert max(sizes.values()) <= 25, sizes


@lessons
def test_a_lesson_is_not_too_long(source):
    """Hints and solutions apart: what a learner may read, and cells to get through."""
    extra = {release.HINT, release.WHY}
    cells = [cell for cell in read(source).cells if not extra & set(cell.metadata.get("tags", []))]
    assert sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown") <= 3000
    assert len(cells) <= 75


EXTENDS = "a class that adds methods to the package's class of its name"


def definitions(cells):
    """Syntax trees of functions, classes and methods by name, as texts, without docstrings. (They hold no comments.)"""
    found = {}
    for cell in cells:
        for node in ast.parse(cell).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] = bare(node)
            if isinstance(node, ast.ClassDef):
                methods = {f"{node.name}.{inner.name}": inner for inner in node.body if hasattr(inner, "name")}
                found |= {name: ast.dump(inner) for name, inner in methods.items()}
                if any(ast.unparse(base).endswith(f".{node.name}") for base in node.bases) and methods:
                    found[node.name] = EXTENDS  # `class DiT(dit.DiT)`: some methods of it
    return found


def bare(node):
    """A tree as a text, without the docstrings in it."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(inner):
            inner.body = inner.body[1:] or [ast.Pass()]
    return ast.dump(node)


def drifted(notebook, package, others):
    """Solutions, and whatever else the package has, whose last definition in the lesson is not the package's code."""
    solved = definitions(cell.source for cell in graded(notebook, "solution"))
    final = {
        name: tree for name, tree in definitions(cell.source for cell in code_of(notebook)).items() if name in package
    }
    lesson = solved | final
    return [name for name, tree in lesson.items() if tree not in (package.get(name), others.get(name), EXTENDS)]


def source_of(module):
    return definitions([inspect.getsource(module)])


@lessons
def test_lesson_code_is_the_packages_code(source):
    notebook = read(source)
    names = notebook.metadata.dit_course.module  # of one room, or of several with blanks between them
    package = {}
    for name in names.split():
        package |= source_of(importlib.import_module(name))
    found = drifted(notebook, package, source_of(stretch))
    assert not found, f"{source.name} and {names} define these differently: {', '.join(found)}"
    solved = definitions(cell.source for cell in graded(notebook, "solution"))
    assert solved or release.is_appendix(source), f"{source.name} defines nothing"
    for cell in graded(notebook, "grade"):
        assert cell.source.partition(" = ")[0] in solved


def test_there_is_a_lesson():
    assert SOURCES


# -- a tiny lesson, to try the machine on ----------------------------------------------------------

PATCHIFY = '''from dit_course.patches import patch_grid


def patchify(images, patch_size):
    """Cut."""
    batch, channels, height, width = images.shape
    ### BEGIN SOLUTION
    rows, columns = patch_grid(height, width, patch_size)
    x = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
    x = x.permute(0, 2, 4, 1, 3, 5)
    return x.reshape(batch, rows * columns, channels * patch_size**2)
    ### END SOLUTION'''


def markdown(text, name, *tags):
    return new_markdown_cell(text, id=name, metadata={"tags": list(tags)} if tags else {})


def code(text, name, **grading):
    return new_code_cell(text, id=name, metadata={"nbgrader": {**grading, "grade_id": name}} if grading else {})


def tiny():
    """A whole lesson in eight cells."""
    cells = [
        markdown("# Tiny", "title"),
        code("import torch\n\nfrom dit_course import check", "load"),
        code(PATCHIFY, "patchify", **SOLUTION),
        code("patchify = check.patchify(patchify)", "check-patchify", **CHECK),
        markdown("Think of *axes*.", "hint-1", "hint"),
        markdown("Permute them.", "hint-2", "hint"),
        markdown("Neighbours merge.", "why", "solution-why"),
        code("patchify(torch.zeros(1, 1, 4, 6), 2).shape", "use"),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "dit_course": {"module": "dit_course.patches"}})


@pytest.fixture
def lesson(tmp_path):
    """Write a lesson into a folder of its own: `lesson(notebook)` gives the source's path."""

    def write(notebook=None):
        source = tmp_path / "notebooks" / "solutions" / "42_tiny.ipynb"
        source.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook or tiny(), source)
        return source

    return write


def test_parts_and_appendices_are_found_and_derived_to_their_places(lesson):
    solutions = lesson().parent
    (solutions / "appendix").mkdir()
    for name in ("43a_first", "43b_second", "appendix/42_deeper", "not_a_lesson"):
        nbformat.write(tiny(), solutions / f"{name}.ipynb")

    def found(*lessons):
        return [path.relative_to(solutions).as_posix() for path in release.sources(lessons, solutions.parent)]

    assert found() == ["42_tiny.ipynb", "43a_first.ipynb", "43b_second.ipynb", "appendix/42_deeper.ipynb"]
    assert found("42") == ["42_tiny.ipynb", "appendix/42_deeper.ipynb"]
    assert found("43b") == ["43b_second.ipynb"]
    deeper = release.sources(["42"], solutions.parent)[1]
    assert release.release(deeper, run=False)
    assert release.learners(solutions.parent) == [solutions.parent / "appendix" / "42_deeper.ipynb"]
    assert read(release.target_of(deeper)).metadata.dit_course.source == "solutions/appendix/42_deeper.ipynb"
    assert release.differences(deeper) == []


def test_links_are_written_for_the_folder_of_the_source():
    text = "See [a](../01_a.ipynb), [b](../../dit_course/b.py), [c](https://c.org/../d) and x[0](y)."
    learners = "See [a](01_a.ipynb), [b](../dit_course/b.py), [c](https://c.org/../d) and x[0](y)."
    assert release.one_folder_up(text) == learners


def test_a_learner_gets_stubs_and_folded_help(lesson):
    derived = {cell.id: cell for cell in release.derive(lesson()).cells}
    assert derived["patchify"].source.endswith(
        '    """Cut."""\n    batch, channels, height, width = images.shape\n'
        "    raise NotImplementedError  # your code here"
    )
    assert derived["check-patchify"].source == "patchify = check.patchify(patchify)"
    assert derived["hint-1"].source == "<details><summary>Hint 1</summary>\n\nThink of *axes*.\n\n</details>"
    assert "<summary>Hint 2</summary>" in derived["hint-2"].source
    folded = derived["why"].source
    assert folded.startswith(
        "<details><summary>Solution</summary>\n\n```python\nfrom dit_course.patches import patch_grid"
    )
    assert "permute(0, 2, 4, 1, 3, 5)" in folded
    assert "### " not in folded
    assert folded.endswith("```\n\nNeighbours merge.\n\n</details>")
    everything = "\n".join(cell.source for name, cell in derived.items() if name != "why")
    assert "permute(" not in everything


@pytest.mark.slow
def test_release_runs_what_it_writes_and_then_leaves_it_alone(lesson, capsys, monkeypatch):
    monkeypatch.setenv("DIT_COURSE_STRICT", "1")  # a teacher's setting is not the learners'
    source = lesson()
    folder = source.parent.parent
    arguments = ["release", "42", "--notebooks", str(folder)]
    assert main(arguments) == 0
    target = folder / "42_tiny.ipynb"
    first, when = target.read_bytes(), target.stat().st_mtime_ns
    notebook = read(target)
    (seen,) = graded(notebook, "grade")[0].outputs
    assert seen.text.startswith("not tried yet")
    assert notebook.cells[-1].outputs[0].data["text/plain"] == "torch.Size([1, 6, 4])"
    assert release.differences(source) == []
    assert main(arguments) == 0
    assert (target.read_bytes(), target.stat().st_mtime_ns) == (first, when)
    assert capsys.readouterr().out.splitlines() == [
        "42_tiny.ipynb: written",
        "42_tiny.ipynb: in step already, left alone",
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["42_tiny.ipynb", "solutions"]
    assert main([*arguments, "--again", "--no-run"]) == 0
    assert not release.was_run(read(target))
    edited = tiny()
    edited.cells[0].source = "# Tinier"
    lesson(edited)
    assert release.differences(source) == ["cell 'title' differs"]
    assert main([*arguments, "--no-run"]) == 0
    assert release.differences(source) == []
    assert not release.was_run(read(target))


@pytest.mark.slow
def test_a_cell_that_fails_leaves_the_old_notebook_and_one_line(lesson, capsys):
    source = lesson()
    release.release(source, run=False)
    before = release.target_of(source).read_bytes()
    broken = tiny()
    broken.cells[-1].source = "patchify.nowhere"
    lesson(broken)
    assert main(["release", "--notebooks", str(source.parent.parent)]) == 1
    text = capsys.readouterr().err.strip()
    assert text.startswith("error: 42_tiny.ipynb: AttributeError: 'function' object has no attribute 'nowhere'")
    assert "\n" not in text
    assert release.target_of(source).read_bytes() == before
    assert sorted(path.name for path in source.parent.parent.iterdir()) == ["42_tiny.ipynb", "solutions"]


def change(**sources):
    notebook = tiny()
    for cell in notebook.cells:
        cell.source = sources.get(cell.id.replace("-", "_"), cell.source)
    return notebook


def predicting(*cells):
    """The tiny lesson with a prediction behind its exercise."""
    notebook = tiny()
    notebook.cells += [markdown("> **Predict.** How many?", "guess"), *cells]
    return notebook


@pytest.mark.slow
def test_what_answers_a_prediction_is_hidden_from_learners(lesson):
    show, after = code("print(6)", "show"), code("print(7)", "after")
    source = lesson(predicting(show, markdown("Six: see [a](../01_a.ipynb).", "six", "answer"), after))
    assert release.release(source)
    cells = {cell.id: cell for cell in read(release.target_of(source)).cells}
    assert cells["show"].outputs == []
    assert cells["after"].outputs[0].text == "7\n"
    assert cells["six"].source == "<details><summary>What happened</summary>\n\nSix: see [a](01_a.ipynb).\n\n</details>"
    assert not release.release(source)  # in step


@pytest.mark.slow
def test_the_tour_is_run_in_its_place_and_hides_what_answers_a_prediction(tmp_path, capsys):
    tour = new_notebook(cells=[code("print(6)", "show"), code("print(7)", "after")], metadata=tiny().metadata)
    tour.cells[0].metadata.tags = [release.PREDICTED]
    nbformat.write(tour, tmp_path / release.TOUR)
    assert main(["release", "00", "--notebooks", str(tmp_path)]) == 0
    show, after = read(tmp_path / release.TOUR).cells
    assert (show.outputs, show.execution_count, after.outputs[0].text) == ([], 1, "7\n")
    assert capsys.readouterr().out == f"{release.TOUR}: run again\n"


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ([code("3", "show")], "cell 'guess': its prediction has no cell tagged 'answer'"),
        ([markdown("## Next", "next")], "cell 'guess': its prediction has no cell tagged 'answer' before cell 'next'"),
        ([markdown("**Predict.** More?", "more")], "cell 'guess': its prediction has no cell tagged 'answer' before"),
        ([code(PATCHIFY, "again", **SOLUTION)], "cell 'guess': its prediction has no cell tagged 'answer' before"),
    ],
)
def test_predictions_have_answers(lesson, cells, problem):
    with pytest.raises(ValueError, match=r"42_tiny\.ipynb: ") as caught:
        release.derive(lesson(predicting(*cells)))
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda cells: cells[4].update(source="<details>Think.</details>"), "cell 'hint-1' differs"),
        (lambda cells: cells[2].update(source="patchify = 3"), "cell 'patchify' differs"),
        (lambda cells: cells[3].metadata.update(nbgrader={}), "cell 'check-patchify' differs"),
        (lambda cells: cells.pop(5), "cell 'hint-2' is missing"),
        (lambda cells: cells.append(new_code_cell("3", id="mine")), "cell 'mine' is not in the source"),
        (lambda cells: cells.reverse(), "its cells are in another order"),
    ],
)
def test_whatever_is_edited_in_a_derived_notebook_only_is_found(lesson, edit, found):
    source = lesson()
    assert release.differences(source) == ["it does not exist"]
    release.release(source, run=False)
    assert release.differences(source) == []
    target = release.target_of(source)
    notebook = read(target)
    edit(notebook.cells)
    nbformat.write(notebook, target)
    assert release.differences(source) == [found]
    with pytest.raises(AssertionError, match=r"Edit solutions/42_tiny.ipynb, then run: python -m dit_course"):
        test_learners_and_authors_notebooks_are_in_step(source)


@pytest.mark.parametrize(
    ("notebook", "problem"),
    [
        (change(patchify="def patchify(): ..."), "cell 'patchify': a solution stands between '### BEGIN SOLUTION' and"),
        (change(patchify="### BEGIN SOLUTION\nx = 1"), "cell 'patchify': a solution stands between"),
        (change(patchify="### END SOLUTION"), "'### END SOLUTION' stands where the other marker is due"),
        (change(patchify="### BEGIN SOLUTION\n### BEGIN SOLUTION"), "'### BEGIN SOLUTION' stands where the other"),
        (change(use=PATCHIFY), "cell 'use': '### BEGIN SOLUTION' stands in a cell without nbgrader's `solution: true`"),
    ],
)
def test_broken_markers_are_named(lesson, notebook, problem):
    with pytest.raises(ValueError, match=r"42_tiny\.ipynb: ") as caught:
        release.derive(lesson(notebook))
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("left_out", "problem"),
    [
        ("patchify", "cell 'check-patchify': this check has no solution cell before it"),
        ("check-patchify", "cell 'hint-1': this hint has no check cell before it"),
        ("hint-2", "cell 'why': this exercise has 1 cells tagged 'hint', and needs two"),
        ("why", "the last exercise has no cell tagged 'solution-why'"),
    ],
)
def test_exercises_are_whole(lesson, left_out, problem):
    notebook = tiny()
    notebook.cells = [cell for cell in notebook.cells if cell.id != left_out]
    with pytest.raises(ValueError, match=r"42_tiny\.ipynb: ") as caught:
        release.derive(lesson(notebook))
    assert problem in str(caught.value)


def test_code_that_drifts_from_the_package_is_found():
    module = importlib.import_module("dit_course.patches")
    package = source_of(module)
    assert drifted(change(patchify="def nothing(): pass"), package, {}) == ["nothing"]
    node = next(n for n in ast.parse(inspect.getsource(module)).body if getattr(n, "name", "") == "patchify")
    same = ast.unparse(node).replace('"""Cut images', '"""Slice images')
    assert drifted(change(patchify="# a comment\n" + same), package, {}) == []
    assert drifted(change(patchify=same.replace("0, 2, 4, 1", "0, 2, 1, 4")), package, {}) == ["patchify"]
    assert drifted(change(patchify=same, use="def patchify(): pass"), package, {}) == ["patchify"]


def test_a_class_may_be_solved_in_part():
    """`class DiT(dit.DiT)` with one method, where the rest would not fit into a cell."""
    package = source_of(importlib.import_module("dit_course.dit"))
    condition = """class DiT(dit.DiT):
    def condition(self, t: Tensor, y: Tensor | None = None) -> Tensor:
        time = self.time_embed(t)
        return time if self.label_embed is None else time + self.label_embed(y)"""
    assert drifted(change(patchify=condition), package, {}) == []
    assert drifted(change(patchify=condition.replace("is None", "is not None")), package, {}) == ["DiT.condition"]
    assert drifted(change(patchify=condition.replace("def condition", "def other")), package, {}) == ["DiT.other"]
    assert drifted(change(patchify=condition.replace("(dit.DiT)", "")), package, {}) == ["DiT"]
    assert drifted(change(patchify="class DiT(dit.DiT):\n    pass"), package, {}) == ["DiT"]


def test_a_notebook_that_is_too_large_is_refused(lesson, monkeypatch, capsys):
    monkeypatch.setattr(release, "MOST_BYTES", 1000)
    source = lesson()
    assert main(["release", "--no-run", "--notebooks", str(source.parent.parent)]) == 1
    assert "bytes, and at most 1,000 are allowed" in capsys.readouterr().err
    assert not release.target_of(source).exists()


def test_lessons_that_do_not_exist_are_named(lesson, capsys):
    source = lesson()
    assert main(["release", "43", "--notebooks", str(source.parent.parent)]) == 1
    assert "there is no lesson '43'" in capsys.readouterr().err
    assert json.loads(source.read_text())["cells"]
