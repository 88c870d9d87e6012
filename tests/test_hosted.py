"""The door for hosts such as Colab: jupyter/colab.ipynb, in a bare environment that brings a torch of its own."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import nbformat
import pytest

from dit_course.setup import hosted
from dit_course.setup.doctor import PYTHONS

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "jupyter/colab.ipynb"
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_CONFIG_FILE": os.devnull}  # 0: with "no", off
MISSING = "tyro"  # what the host lacks
RUN = """
import nbformat, sys
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": "."}}).execute()
nbformat.write(notebook, "done.ipynb")
"""
COLAB = "def enable_custom_widget_manager():\n    print('widgets of other packages: on')\n\n\nclass _widgets:\n"
COLAB += "    _installed_url = None\n"


def wheel_of(name: str, folder: Path) -> None:
    """An installed package, packed again."""
    found = distribution(name)
    record = next(file for file in found.files if file.name == "RECORD")
    kept = [file for file in found.files if ".." not in file.parts and "__pycache__" not in file.parts]
    with ZipFile(folder / f"{name}-{found.version}-py3-none-any.whl", "w") as wheel:
        for file in kept:
            text = "".join(f"{file},,\n" for file in kept) if file == record else file.locate().read_bytes()
            wheel.writestr(str(file), text)


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """A Python with torch and whatever else is installed here, but for one package and the course."""
    folder = tmp_path_factory.mktemp("host")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (site,) = (folder / "venv").rglob("site-packages")
    brought = folder / "brought"
    brought.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lower().startswith((MISSING, "dit_course", "_dit_course")):
            (brought / entry.name).symlink_to(entry)
    (site / "brought.pth").write_text(f"{brought}\n")
    (site / "google/colab").mkdir(parents=True)
    (site / "google/colab/output.py").write_text(COLAB)
    (folder / "wheels").mkdir()
    wheel_of(MISSING, folder / "wheels")
    return SimpleNamespace(folder=folder, site=site, python=folder / "venv/bin/python")


def repository(folder: Path) -> Path:
    """The course in a git repository of its own; its data stay where they are."""
    folder.mkdir()
    for name in ("dit_course", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "_data"))
        else:
            shutil.copy(source, folder)
    (folder / "data").symlink_to(ROOT / "data")
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "course"]):
        subprocess.run([*git, *command], check=True)
    return folder


@pytest.mark.skipif(os.name == "nt" or not shutil.which("git"), reason="it clones with git and a shell")
@pytest.mark.slow
def test_it_draws_on_a_host_and_leaves_torch_alone(host):
    source = repository(host.folder / "address")
    text = NOTEBOOK.read_text(encoding="utf-8").replace("ADDRESS-OF-THIS-REPOSITORY", source.as_uri())
    work = host.folder / "content"
    work.mkdir()
    (work / "colab.ipynb").write_text(text, encoding="utf-8")
    dropped = {"PYTHONPATH", "DIT_COURSE_DATA", "DIT_COURSE_STRICT"}
    environment = {name: value for name, value in os.environ.items() if name not in dropped} | OFFLINE
    environment |= {"PIP_FIND_LINKS": str(host.folder / "wheels"), "HOME": str(host.folder / "home")}
    run = [host.python, "-c", RUN, "colab.ipynb"]
    done = subprocess.run(run, cwd=work, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = {cell.id: cell for cell in nbformat.read(work / "done.ipynb", as_version=4).cells}
    said = "".join(output.get("text", "") for output in cells["fetch"].outputs)
    assert "both stay as they are" in said
    assert f"Installed: {MISSING}." in said
    assert f"The course is in {work / 'course'}" in said
    assert "widgets of other packages: on" in said
    assert "Restart" not in said
    assert {entry.name.split("-")[0] for entry in host.site.iterdir()} >= {MISSING}
    assert not list(host.site.glob("torch*")) + list(host.site.glob("numpy*"))
    for cell in ("first-pictures", "real-pictures", "slider"):
        assert "image/png" in cells[cell].outputs[-1].data, cell
    assert cells["first-check"].outputs[0].text.startswith("not yet: ")
    again = [host.python, "-c", "import dit_course; print(dit_course.__file__)"]  # after a restart
    found = subprocess.run(again, cwd="/", env=environment, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()) == work / "course/dit_course/__init__.py"


def test_its_first_steps_are_those_of_lesson_00():
    lesson = nbformat.read(ROOT / "notebooks/00_start_here.ipynb", as_version=4)
    known = {cell.id: cell.source for cell in lesson.cells if cell.cell_type == "code"}
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert cells[0].id == "fetch"
    assert [cell.id for cell in cells[1:] if known[cell.id] != cell.source] == []
    assert not [cell.id for cell in cells if cell.outputs or cell.execution_count]


def test_torch_is_never_asked_for_and_widgets_in_any_version():
    wanted = hosted.needed()
    assert "ipywidgets" in wanted
    assert not [line for line in wanted if line.startswith(("torch", "jupyterlab"))]
    assert [line for line in wanted if line.startswith("moviepy>=")]


def test_a_python_or_torch_that_will_not_do_is_named(monkeypatch):
    (_, oldest), (_, too_new) = PYTHONS
    monkeypatch.setattr(hosted.sys, "version_info", (3, oldest - 1, 0))
    with pytest.raises(
        hosted.NotReady, match=rf"needs Python 3\.{oldest} to 3\.{too_new - 1}, and this host has 3\.10"
    ):
        hosted.needed()
    monkeypatch.undo()
    monkeypatch.setattr(hosted, "_is_there", lambda name: name != "torchvision")
    with pytest.raises(hosted.NotReady, match="there is no torchvision here") as refused:
        hosted.needed()
    assert refused.value._render_traceback_() == [f"Not ready: {refused.value}"]


def test_an_old_torch_a_restart_and_a_failed_install_are_told(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(hosted, "version", lambda name: "2.1.0+cu118")
    monkeypatch.setattr(hosted, "_pip", lambda *arguments: calls.append(arguments))
    states = iter([{"numpy": "1.26"}, {"numpy": "2.0", "other": "1.0"}])
    monkeypatch.setattr(hosted, "_installed", lambda: next(states))
    hosted.ready()
    said = capsys.readouterr().out
    assert "older than 2.11, the oldest that was tried" in said
    assert "Installed: numpy, other. The course is in" in said
    assert "Restart the session, then run this cell again: it has loaded older versions of numpy.\n" in said
    assert calls[0][0] == "--constraint"
    assert calls[1] == ("--no-deps", "--editable", str(ROOT))
    assert hosted.numbers("2.11.0+cu128") == (2, 11)
    monkeypatch.undo()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(hosted.NotReady, match="pip install failed: No matching distribution found for no-such-package"):
        hosted._pip("no-such-package")


def test_where_there_is_no_colab_nothing_is_switched(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", None)
    assert hosted.enable_widgets() is False
    assert json.loads(NOTEBOOK.read_text())["nbformat"] == 4
