"""nbgrader, really run: handing out, collecting, grading, feedback, and who gets points for what."""

import classroom as class_of
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dit_course.authoring import classroom, release
from dit_course.authoring.class_report import Result, hint_of, report, results, said, ungraded
from dit_course.authoring.grading_limits import LEAST, Limits
from dit_course.check.engine.grading import demand_right
from dit_course.check.engine.verdict import verdicts
from dit_course.patches import patchify

real = pytest.mark.skipif(class_of.MISSING is not None, reason=class_of.MISSING or "")
SOURCES = [path for path in release.sources() if classroom.has_exercises(path)]
FLATTENED = """def patchify(images, patch_size):
    ### BEGIN SOLUTION
    batch, channels, height, width = images.shape
    x = images.reshape(batch, channels, height // patch_size, patch_size, width // patch_size, patch_size)
    return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    ### END SOLUTION"""
SWAPPED = FLATTENED.replace("0, 2, 4,", "0, 4, 2,")


def graded(**more):
    return {"nbgrader": {"locked": False, "task": False, "schema_version": 3, **more}}


def tiny():
    """A lesson of one exercise."""
    solution = graded(grade=False, solution=True, grade_id="patchify")
    check = graded(grade=True, solution=False, grade_id="check-patchify", points=2)
    check["nbgrader"]["locked"] = True
    cells = [
        new_code_cell("from dit_course import check", id="load"),
        new_code_cell(FLATTENED, id="patchify", metadata=solution),
        new_code_cell("patchify = check.patchify(patchify)", id="check-patchify", metadata=check),
        new_markdown_cell("Axes.", id="hint-1", metadata={"tags": ["hint"]}),
        new_markdown_cell("Permute, see [lesson 01](../01_patches.ipynb).", id="hint-2", metadata={"tags": ["hint"]}),
        new_markdown_cell("They merge.", id="why", metadata={"tags": ["solution-why"]}),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


# -- the course directory --------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_lesson_becomes_an_assignment(source):
    notebook = classroom.assignment(source, seed=7)
    checks = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    assert checks
    assert all("seed=7)\n### END HIDDEN TESTS" in cell.source for cell in checks)
    assert classroom.points(notebook) == classroom.points(nbformat.read(source, as_version=4))
    assert not [cell for cell in notebook.cells if "solution-why" in cell.metadata.get("tags", [])]
    text = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "<summary>Solution</summary>" not in text
    assert not classroom.LINK.search(text)


def test_links_to_what_students_do_not_have_become_words():
    text = "See [03](03_x.ipynb#a), [b](../dit_course/b.py), [paper](https://a.org/b.py) and x[0](y)."
    assert classroom.LINK.sub(r"\1", text) == "See 03, b, [paper](https://a.org/b.py) and x[0](y)."


def test_a_check_of_another_form_is_named():
    with pytest.raises(ValueError, match=r"a check cell says `x = 1` and should say"):
        classroom.with_hidden_tests("x = 1", 7)


# -- points ----------------------------------------------------------------------------------------


def own(images, patch_size):
    batch, channels, height, width = images.shape
    x = images.reshape(batch, channels, height // patch_size, patch_size, width // patch_size, patch_size)
    return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def test_only_an_answer_that_was_right_and_stays_right_gets_through():
    from dit_course import check

    verdicts.pop("patchify", None)
    with pytest.raises(AssertionError, match="patchify: not tried yet"):
        demand_right("patchify", own, seed=7)  # the check was not called
    verdicts["patchify"] = check.patchify.examine(own)
    demand_right("patchify", own, seed=7)
    with pytest.raises(AssertionError, match="patchify: not tried yet"):
        demand_right("patchify", patchify, seed=7)  # another answer than the one that was checked
    verdicts["patchify"] = check.patchify.examine(lambda images, patch_size: images)
    with pytest.raises(AssertionError, match="patchify: not yet"):
        demand_right("patchify", own, seed=7)
    verdicts.pop("patchify")


def test_validate_is_strict_and_grading_goes_on(monkeypatch):
    from dit_course.check.engine.verdict import strict

    monkeypatch.delenv("DIT_COURSE_STRICT", raising=False)
    assert not strict()
    for execution, expected in (("validate", True), ("autograde", False)):
        monkeypatch.setenv("NBGRADER_EXECUTION", execution)
        assert strict() is expected
    monkeypatch.setenv("NBGRADER_EXECUTION", "validate")
    monkeypatch.setenv("DIT_COURSE_STRICT", "0")
    assert not strict()


def test_a_submission_has_so_many_seconds():
    now = 0.0
    limits = Limits(cell=100, notebook=250, clock=lambda: now)
    assert limits.seconds() == 100  # as nbgrader validate runs it
    limits.start(assignment="01", student="ada", notebooks=[])
    now = 200
    assert limits.seconds() == 50
    now = 1000
    assert limits.seconds() == LEAST
    limits.start()
    assert limits.seconds() == 100


# -- the report ------------------------------------------------------------------------------------

SWAPS = "rows and columns of patches are swapped: the tokens run down the columns, but reading order is along the rows"


def test_hints_are_found_in_what_a_check_says():
    assert said("patchify", "AssertionError", "patchify: not tried yet: going on") == ("not tried yet", "")
    assert said("patchify", "AssertionError", f"patchify: not yet: {SWAPS}. 75 % of") == ("not yet", SWAPS)
    assert said("patchify", "CellTimeoutError", "") == ("not yet", "CellTimeoutError")
    assert hint_of("patchify", "Your answer has shape (1, 2) (on 2x3). More.") == "Your answer has shape (1, 2)"


def test_the_report_says_who_was_stopped_where_and_why():
    found = [
        Result("01", "ada", "patchify", 2, "right"),
        Result("01", "bo", "patchify", 0, "not yet", SWAPS),
        Result("01", "ada", "unpatchify", 0, "not tried yet"),
        Result("01", "bo", "unpatchify", 0, "not tried yet"),
    ]
    assert list(report(found, [("01", "cy")])) == [
        "01: 2 students, 1.0 points on average",
        "  patchify: 1 right, 1 not yet; the first obstacle of bo",
        f"    1 x {SWAPS} (bo)",
        "  unpatchify: 2 not tried yet; the first obstacle of ada",
        "",
        "01: cy could not be graded; `nbgrader autograde 01 --student=cy` says why",
    ]


# -- the whole round trip --------------------------------------------------------------------------


@real
@pytest.mark.slow
def test_three_students_get_what_they_deserve(tmp_path):
    class_of.round_trip(tmp_path, "01_patches")


def writes(text, after=""):
    """A student's answer, and what else is in the notebook."""

    def write(notebook, course):
        cell = next(cell for cell in notebook.cells if cell.id == "patchify")
        cell.source = text
        if after:
            notebook.cells.append(new_code_cell(after))

    return write


def edits_the_check(notebook, course):
    next(cell for cell in notebook.cells if cell.id == "check-patchify").source = "pass"


def deletes_the_check(notebook, course):
    notebook.cells = [cell for cell in notebook.cells if cell.id != "check-patchify"]


def skips_the_check(notebook, course):
    next(cell for cell in notebook.cells if cell.id == "check-patchify").metadata["tags"] = ["skip-execution"]


WITHOUT_POINTS = {
    "imports": writes("from dit_course import patchify"),
    "borrows": writes("from dit_course import patches\n\n\ndef patchify(x, p):\n    return patches.patchify(x, p)"),
    "edits": edits_the_check,
    "deletes": deletes_the_check,
    "skips": skips_the_check,
    "fakes": writes("class check:\n    patchify = staticmethod(lambda answer: answer)"),
    "unsets": writes("import os\n\nos.environ.pop('NBGRADER_EXECUTION')\npatchify = lambda x, p: x"),
    "endless": writes("def patchify(x, p):\n    while True:\n        pass"),
    "endless-cell": writes("while True:\n    pass"),
    "stubborn-cell": writes("while True:\n    try:\n        while True:\n            pass\n    except:\n        pass"),
    "leaves": writes("import os\n\nos._exit(0)"),
}


@real
@pytest.mark.slow
def test_who_cheats_or_never_ends_gets_nothing_and_stops_nobody_else(tmp_path):
    notebooks = tmp_path / "notebooks"
    (notebooks / "solutions").mkdir(parents=True)
    nbformat.write(tiny(), notebooks / "solutions" / "42_tiny.ipynb")
    course = class_of.Course(tmp_path, "42_tiny", notebooks)
    config = course.folder / classroom.CONFIG
    config.write_text(config.read_text() + "limits.cell, limits.notebook = 15, 30\n")
    course.release()
    students = {**WITHOUT_POINTS, "zoe": class_of.all_right}
    for student, write in students.items():
        course.hands_in(student, write)
    log = course.grade(collect=False, status=1)
    assert course.points() == {student: 2.0 * (student == "zoe") for student in students if student != "leaves"}
    assert "error processing assignment '42_tiny' for student 'leaves'" in log
    assert ungraded(course.folder) == [("42_tiny", "leaves")]
    assert "your code took too long and was stopped" in course.feedback("endless")
    assert "this is the course's version" in course.feedback("imports")
    assert {result.student: result.status for result in results(course.folder)}["zoe"] == "right"
