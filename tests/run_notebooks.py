"""Runs every notebook as nbval does: `make test-notebooks`. Not collected with the other tests, as it takes minutes.

Each runs from a copy in another folder, in a fresh kernel, with no way to the network. Learners' notebooks run as they
are, and their checks must say what is stored; authors' notebooks run in strict mode, where a wrong answer is an error.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dit_course.authoring import release

NOTEBOOKS = [*release.learners(), *release.sources()]
MOST_SECONDS = 240  # a lesson, on two cores
MOST_MINUTES = 20  # the whole course, without its appendix
SHORTER = ("MINUTES = 3", "MINUTES = 1")  # lesson 06: run_three_minutes.py trains for as long as the lesson says
LEFT_OUT = 120  # seconds of it
took: dict[Path, float] = {}  # seconds, by notebook

# Python imports this by itself when it starts, in each kernel
NO_NETWORK = """
import socket

connect = socket.socket.connect
look_up = socket.getaddrinfo

def is_here(host):
    return host in (None, "", "localhost", "127.0.0.1", "::1")

def connect_here(self, address):
    if isinstance(address, tuple) and not is_here(address[0]):
        raise OSError(f"this test has no network: {address}")
    return connect(self, address)

def look_up_here(host, *rest, **options):
    if not is_here(host):
        raise OSError(f"this test has no network: {host}")
    return look_up(host, *rest, **options)

socket.socket.connect, socket.getaddrinfo = connect_here, look_up_here
"""


def run(notebook: Path, folder: Path, **environment: str) -> tuple[int, str, float]:
    """Run a copy of a notebook under nbval in a folder. Returns the exit status, the report and the seconds."""
    guard = folder / "guard"
    guard.mkdir(parents=True)
    (guard / "sitecustomize.py").write_text(NO_NETWORK)
    copied = folder / "elsewhere" / notebook.name
    copied.parent.mkdir()
    copied.write_text(notebook.read_text(encoding="utf-8").replace(*SHORTER), encoding="utf-8")
    paths = [str(guard), str(release.NOTEBOOKS.parent), os.environ.get("PYTHONPATH", "")]
    nbval = ["--nbval-lax", "--nbval-current-env", f"--nbval-cell-timeout={MOST_SECONDS}", "-p", "no:cacheprovider"]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *nbval, "-q", "--rootdir", str(folder), str(copied)],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=3 * MOST_SECONDS,
    )
    return done.returncode, done.stdout[-6000:] + done.stderr[-2000:], time.perf_counter() - start


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[str(path.relative_to(release.NOTEBOOKS)) for path in NOTEBOOKS])
def test_it_runs_from_top_to_bottom_offline_anywhere_and_in_time(notebook, tmp_path, capsys):
    strict = str(int("solutions" in notebook.parts))
    status, report, seconds = run(notebook, tmp_path, DIT_COURSE_STRICT=strict)
    with capsys.disabled():
        print(f"\n{notebook.relative_to(release.NOTEBOOKS)}: {seconds:.0f} s ", end="")
    assert status == 0, report
    assert seconds <= MOST_SECONDS, f"{seconds:.0f} s, and a lesson has {MOST_SECONDS}"
    took[notebook] = seconds


def test_the_whole_course_runs_in_time():
    lessons = [path for path in release.learners() if not release.is_appendix(path)]
    if not all(lesson in took for lesson in lessons):
        pytest.skip("not all lessons were run")
    assert sum(took[lesson] for lesson in lessons) + LEFT_OUT <= 60 * MOST_MINUTES


def test_one_lesson_is_run_in_a_shorter_form():
    assert [path.name[:2] for path in NOTEBOOKS if SHORTER[0] in path.read_text(encoding="utf-8")] == ["06", "06"]


def test_the_machine_notices_errors_wrong_answers_and_the_network(tmp_path):
    """Else all of the above proves nothing."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    cells = [
        "import socket; socket.create_connection(('example.org', 80), timeout=5)",
        "from dit_course import check; check.patchify(lambda images, p: images)",
        "1 / 0",
        "1 + 1",
    ]
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, tmp_path / "broken.ipynb")
    status, report, _ = run(tmp_path / "broken.ipynb", tmp_path, DIT_COURSE_STRICT="1")
    assert status == 1
    for words in ("this test has no network", "AssertionError: patchify: not yet", "ZeroDivisionError"):
        assert words in re.sub(r"\x1b\[[0-9;]*m", "", report)
