"""Runs learners' notebooks as nbval does: `make test-learners`. Not collected with the other tests: it takes minutes.

Each runs from a copy in another folder, in a fresh kernel, with no way to the network, as it is: its checks must say
what is stored, and outputs be of the kinds that are stored. run_solutions.py runs those of the authors.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from offline import blocked_network

from dit_course.authoring import release

LEARNERS = release.learners()
MOST_SECONDS = 240  # a lesson, on two cores
MOST_MINUTES = 20  # the whole course, without its appendix
SHORTER = ("MINUTES = 3", "MINUTES = 1")  # lesson 06: run_three_minutes.py trains for as long as the lesson says
PLUGINS = ("-p", "no:cacheprovider", "-p", "nbval_outputs")
LEFT_OUT = 120  # seconds of it
took: dict[Path, float] = {}  # seconds, by notebook


def run(notebook: Path, folder: Path, **environment: str) -> tuple[int, str, float, list[str]]:
    """Run a copy of a notebook under nbval in a folder: exit status, report, seconds, and what it tried to reach."""
    blocked, attempts = blocked_network(folder / "block")
    copied = folder / "some folder" / notebook.name
    copied.parent.mkdir()
    copied.write_text(notebook.read_text(encoding="utf-8").replace(*SHORTER), encoding="utf-8")
    paths = [blocked["PYTHONPATH"], str(release.NOTEBOOKS.parent), str(Path(__file__).parent)]
    nbval = ["--nbval-lax", "--nbval-current-env", f"--nbval-cell-timeout={MOST_SECONDS}", *PLUGINS]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *nbval, "-q", "--rootdir", str(folder), str(copied)],
        cwd=folder,
        env={
            **os.environ,
            "DIT_COURSE_PATIENCE": "3600",
            **environment,
            **blocked,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTEST_ADDOPTS": "",
        },
        capture_output=True,
        text=True,
        timeout=3 * MOST_SECONDS,
    )
    return done.returncode, done.stdout[-6000:] + done.stderr[-2000:], time.perf_counter() - start, attempts()


def names(notebooks: list[Path]) -> list[str]:
    """What tests of these notebooks are called."""
    return [str(path.relative_to(release.NOTEBOOKS)) for path in notebooks]


@pytest.mark.parametrize("notebook", LEARNERS, ids=names(LEARNERS))
def test_it_runs_from_top_to_bottom_offline_anywhere_and_in_time(notebook, tmp_path, capsys):
    status, report, seconds, attempts = run(notebook, tmp_path, DIT_COURSE_STRICT="0")
    with capsys.disabled():
        print(f"\n{notebook.relative_to(release.NOTEBOOKS)}: {seconds:.0f} s ", end="")
    assert status == 0, report
    assert attempts == []
    assert seconds <= MOST_SECONDS, f"{seconds:.0f} s, and a lesson has {MOST_SECONDS}"
    took[notebook] = seconds


def test_the_whole_course_runs_in_time():
    lessons = [path for path in LEARNERS if not release.is_appendix(path)]
    if not all(lesson in took for lesson in lessons):
        pytest.skip("not all lessons were run")
    assert sum(took[lesson] for lesson in lessons) + LEFT_OUT <= 60 * MOST_MINUTES


def test_one_lesson_is_run_in_a_shorter_form():
    notebooks = [*LEARNERS, *release.sources()]
    assert [path.name[:2] for path in notebooks if SHORTER[0] in path.read_text(encoding="utf-8")] == ["06", "06"]


def test_the_machine_notices_errors_wrong_answers_and_the_network(tmp_path):
    """Else all of the above proves nothing."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    cells = [
        "import socket; socket.create_connection(('example.org', 80), timeout=5)",
        "from dit_course import check; check.patchify(lambda images, p: images)",
        "1 / 0",
        "import sys; print(1, file=sys.stderr)",
        "1 + 1",
    ]
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    notebook.cells[-1].update(outputs=[new_output("display_data")], execution_count=5)
    nbformat.write(notebook, tmp_path / "broken.ipynb")
    status, report, _, attempts = run(tmp_path / "broken.ipynb", tmp_path, DIT_COURSE_STRICT="1")
    assert status == 1
    assert attempts == ["example.org"]
    for words in (
        "blocked by the test",
        "writes to stderr",
        "gives ['execute_result'], stored are ['display_data']",
        "AssertionError: patchify: not yet",
        "ZeroDivisionError",
    ):
        assert words in re.sub(r"\x1b\[[0-9;]*m", "", report)
