"""nbgrader, really run: handing out, collecting, grading, feedback, and who gets points for what."""

from types import SimpleNamespace

import classroom as class_of
import IPython
import nbformat
import pytest

from dit_course.__main__ import main
from dit_course.authoring import classroom, release
from dit_course.authoring.class_report import Result, hint_of, report, results, said, ungraded
from dit_course.authoring.grading_limits import LEAST, MEASURED, SAFETY, SHORTEST, Limits, limits_of
from dit_course.check.engine.grading import demand_right
from dit_course.check.engine.verdict import verdicts
from dit_course.distributed.train_config import TrainConfig
from dit_course.explore import background
from dit_course.patches import patchify

ROOT = class_of.ROOT
SOURCES = [path for path in release.sources() if classroom.has_exercises(path)]


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


def test_a_course_is_made_once_and_only_with_nbgrader(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(classroom, "find_spec", lambda name: None)
    assert main(["classroom", "init", str(tmp_path / "course")]) == 1
    assert "nbgrader is not installed" in capsys.readouterr().err
    assert not (tmp_path / "course").exists()
    monkeypatch.setattr(classroom, "find_spec", lambda name: "found")
    assert main(["classroom", "init", str(tmp_path / "course"), "--lessons", "10a", "--seed", "5"]) == 0
    assert "10a_scaling_laws: 6 points" in capsys.readouterr().out
    source = nbformat.read(tmp_path / "course/source/10a_scaling_laws/10a_scaling_laws.ipynb", as_version=4)
    assert sum("seed=5)" in cell.source for cell in source.cells) == 3
    cell, notebook = limits_of("10a_scaling_laws")
    assert f'"10a_scaling_laws": ({cell}, {notebook}),' in (tmp_path / "course" / classroom.CONFIG).read_text()
    assert f"timeout = {cell} " in (tmp_path / "course" / classroom.STUDENTS / classroom.CONFIG).read_text()
    assert (tmp_path / "course/exchange").stat().st_mode & 0o777 == 0o777
    assert main(["classroom", "init", str(tmp_path / "course")]) == 1
    assert "is a course already" in capsys.readouterr().err
    assert main(["classroom", "report", str(tmp_path / "course")]) == 1
    assert "run `nbgrader autograde` first" in capsys.readouterr().err


def test_the_handbook_names_the_points():
    made = {path.stem: classroom.points(nbformat.read(path, as_version=4)) for path in SOURCES}
    lessons = sum(points for path, points in zip(SOURCES, made.values(), strict=True) if not release.is_appendix(path))
    assert f"{lessons} points for the lessons" in " ".join((ROOT / "docs/teaching.md").read_text().split())


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


def test_validate_names_a_mistake_once(monkeypatch):
    """Right answers further down may call the wrong one: they go on with the course's version, as in grading."""
    from dit_course import check

    notebook = SimpleNamespace(user_ns={"patchify": "a stub"})
    monkeypatch.setattr(IPython, "get_ipython", lambda: notebook)
    monkeypatch.delenv("DIT_COURSE_STRICT", raising=False)
    monkeypatch.setenv("NBGRADER_EXECUTION", "validate")
    with pytest.raises(AssertionError, match="patchify: not yet"):
        check.patchify(lambda images, patch_size: images)
    assert notebook.user_ns == {"patchify": patchify}
    monkeypatch.setenv("NBGRADER_EXECUTION", "")
    monkeypatch.setenv("DIT_COURSE_STRICT", "1")
    with pytest.raises(AssertionError, match="PatchEmbed: not yet"):
        check.PatchEmbed(3)
    assert list(notebook.user_ns) == ["patchify"]


def test_each_assignment_has_limits_of_its_own():
    """Several times of what it took; else a busy machine would cost points, or an endless loop the night."""
    assert list(MEASURED) == [source.stem for source in SOURCES]
    for name, (slowest, all_cells) in MEASURED.items():
        cell, notebook = limits_of(name)
        assert cell >= SHORTEST
        assert SAFETY * slowest <= cell <= max(SHORTEST, SAFETY * slowest + 10)
        assert notebook >= 2 * cell + SAFETY * all_cells  # two endless cells, and all others in peace
    assert limits_of("11_few_steps")[1] > 2 * limits_of("01_patches")[1]
    assert limits_of("homework") == tuple(max(limits_of(name)[i] for name in MEASURED) for i in (0, 1))


def test_a_submission_has_so_many_seconds():
    now = 0.0
    limits = Limits({"01": (100, 250)}, clock=lambda: now)
    assert limits.seconds() == limits_of("")[0]  # as nbgrader validate runs it
    limits.start(assignment="01", student="ada", notebooks=[])
    assert limits.seconds() == 100
    now = 200
    assert limits.seconds() == 50
    now = 1000
    assert limits.seconds() == LEAST
    limits.start(assignment="02", student="ada", notebooks=[])
    assert limits.seconds() == limits_of("02")[0]


def test_a_graded_training_is_short(monkeypatch):
    seen = []

    class Started:
        def __init__(self, model, data, config, *rest):
            seen.append(config.minutes)

        def start(self):
            pass

        close = start

    monkeypatch.setattr(background, "BackgroundTraining", Started)
    monkeypatch.setattr(background, "_current", None)
    for execution, minutes in (("", 3), ("autograde", 3), ("validate", 0.05)):
        monkeypatch.setenv("NBGRADER_EXECUTION", execution)
        background.start_training(None, "fashion-mnist", TrainConfig(minutes=minutes), None)
    assert seen == [3, background.GRADED_MINUTES, 0.05]


# -- the report ------------------------------------------------------------------------------------

SWAPS = "rows and columns of patches are swapped: the tokens run down the columns, but reading order is along the rows"


def test_hints_are_found_in_what_a_check_says():
    assert said("patchify", "AssertionError", "patchify: not tried yet.") == ("not tried yet", "")
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


def cell_of(notebook, cell_id):
    return next(cell for cell in notebook.cells if cell.id == cell_id)


def hides(notebook, course):
    """Three unsolved exercises: one check is edited, one deleted, one tagged so that nbclient would skip it."""
    (first, *_), (second, *_), (third, *_) = course.exercises()
    cell_of(notebook, f"check-{first.replace('-', '_')}").source = "pass"
    cell_of(notebook, f"check-{third.replace('-', '_')}").metadata["tags"] = ["skip-execution"]
    gone = f"check-{second.replace('-', '_')}"
    notebook.cells = [cell for cell in notebook.cells if cell.id != gone]


def borrows(notebook, course):
    """One check that says yes to everything, one reference imported, one called."""
    (first, name, _), (second, other, _), (third, last, _) = course.exercises()
    fake = f"class check:\n    {name} = staticmethod(lambda answer: answer)\n\n\n{name} = print\nimport os\n"
    cell_of(notebook, first).source = fake + "os.environ.pop('NBGRADER_EXECUTION')"
    cell_of(notebook, second).source = f"from dit_course import check\n\n{other} = check.{other}.reference"
    cell_of(notebook, third).source = f"def {last}(*args):\n    return check.{last}.reference(*args)"


def never_ends(notebook, course):
    """One answer that never returns, one cell that never ends, one right answer."""
    (first, name, _), (second, *_), _ = course.exercises()
    class_of.all_right(notebook, course)
    cell_of(notebook, first).source = f"def {name}(*args):\n    while True:\n        pass"
    cell_of(notebook, second).source = "import time\n\ntime.sleep(10**6)"


def leaves(notebook, course):
    """Ends the kernel."""
    cell_of(notebook, course.exercises()[0][0]).source = "import os\n\nos._exit(0)"


IMPATIENT = """
c.NotebookClient.timeout_func = lambda cell: 5 if "time.sleep" in cell.source else limits.seconds(cell)
"""


@pytest.mark.skipif(class_of.MISSING is not None, reason=class_of.MISSING or "")
@pytest.mark.slow
def test_all_students_of_a_short_lesson_get_what_they_deserve(tmp_path):
    """Also those who cheat, or never end: they get nothing for it, and stop nobody else."""
    course = class_of.Course(tmp_path, "10a_scaling_laws")
    config = course.folder / classroom.CONFIG
    config.write_text(config.read_text() + IMPATIENT)
    course.release()
    course.submit({"ada": class_of.nothing, "bo": class_of.half_wrong, "cy": class_of.all_right})
    course.hand_in({"dan": hides, "eve": borrows, "flo": never_ends, "gil": leaves})
    log = course.grade(status=1)
    half, hints = class_of.expected_half(course)
    last = course.exercises()[-1][2]
    expected = {"ada": 0, "bo": half, "cy": course.most, "dan": 0, "eve": 0, "flo": last, "gil": 0}
    assert course.points() == expected
    assert not [hint for hint in hints if hint not in course.feedback("bo")]
    assert course.feedback("ada").count("not tried yet: going on") >= 3
    assert "AssertionError" not in course.feedback("cy")
    assert "this is the course's version" in course.feedback("eve")
    assert "your code took too long and was stopped" in course.feedback("flo")
    assert "error processing assignment '10a_scaling_laws' for student 'gil'" in log
    assert ungraded(course.folder) == [("10a_scaling_laws", "gil")]
    lines = list(report(results(course.folder), ungraded(course.folder)))
    assert lines[0] == "10a_scaling_laws: 6 students, 1.7 points on average"
    assert lines[-1].startswith("10a_scaling_laws: gil could not be graded")
    assert [line for line in lines if hints[0] in line and "(bo)" in line]
