"""The lessons' notebooks: small cells, fresh outputs, nothing of this machine in them, and no network needed."""

import os
import re
import statistics
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import pytest
from offline import PROOF, PROVEN, blocked_network

from dit_course.authoring import release
from dit_course.authoring.notebooks import WIDGET_VIEW, execute, strip_widgets

ROOT = Path(__file__).resolve().parent.parent
LESSONS = release.learners()
each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def code_lines(cell):
    """Lines that a learner has to read: neither blank nor only a comment."""
    return [line for line in cell.source.splitlines() if line.strip() and not line.strip().startswith("#")]


def texts(notebook):
    """Everything in a notebook that is no picture."""
    for cell in notebook.cells:
        yield cell.source
        for output in cell.get("outputs", []):
            yield output.get("text", "")
            yield "\n".join(output.get("traceback", []))
            for kind, content in output.get("data", {}).items():
                if not kind.startswith("image/"):
                    yield str(content)


def test_there_is_a_first_lesson():
    assert [path.name for path in LESSONS][:1] == ["00_start_here.ipynb"]


@each_lesson
def test_cells_are_small(path):
    sizes = [len(code_lines(cell)) for cell in code_cells(nbformat.read(path, 4))]
    assert statistics.median(sizes) <= 5
    assert max(sizes) <= 25
    assert min(sizes) >= 1


@each_lesson
def test_it_is_a_valid_notebook_of_a_moderate_size(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert path.stat().st_size <= 1_500_000
    identities = [cell.id for cell in notebook.cells]
    assert len(set(identities)) == len(identities)


@each_lesson
def test_outputs_are_those_of_one_run_from_top_to_bottom_without_errors(path):
    cells = code_cells(nbformat.read(path, 4))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    for output in outputs:
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text


@each_lesson
def test_no_live_widgets_are_stored(path):
    notebook = nbformat.read(path, 4)
    assert "widgets" not in notebook.metadata
    assert WIDGET_VIEW not in path.read_text(encoding="utf-8")


@each_lesson
def test_nothing_of_the_authors_machine_is_stored(path):
    found = [text for text in texts(nbformat.read(path, 4)) if str(ROOT) in text]
    foreign = re.compile(r"(?<![\w.])(/(home|Users|root|work|tmp|var)/|[A-Z]:\\)\w")
    found += [match.group() for text in texts(nbformat.read(path, 4)) for match in foreign.finditer(text)]
    assert found == []


@each_lesson
def test_pictures_come_with_words_for_who_cannot_see_them(path):
    for cell in code_cells(nbformat.read(path, 4)):
        for output in cell.outputs:
            for kind in output.get("data", {}):
                if kind.startswith("image/"):
                    assert output.metadata[kind]["alt"], cell.source


@each_lesson
def test_no_shell_and_no_magic(path):
    for cell in code_cells(nbformat.read(path, 4)):
        assert not re.search(r"^\s*[!%]", cell.source, re.MULTILINE), cell.source
        assert "pip install" not in cell.source


@pytest.mark.parametrize("path", [*LESSONS, *release.sources()], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_links_lead_to_files_that_exist(path):
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#\s]+)", cell.source):
                if "://" not in target:
                    assert (path.parent / target).exists(), target


@pytest.mark.parametrize("number", sorted({release.number_of(source) for source in release.sources()}))
def test_a_lesson_and_its_page_for_teachers_name_the_same_minutes(number):
    """A lesson in parts has a line for each: "02a: about 60 minutes alone and ..."."""
    page = (release.NOTEBOOKS / f"solutions/{number}_teacher.md").read_text(encoding="utf-8")
    stretches = []
    for source in release.sources([number]):
        if not release.is_appendix(source):
            (takes,) = re.findall(r"\*\*Takes\*\* \| (.*) \|", nbformat.read(source, 4).cells[0].source)
            minutes = r"about (\d+) minutes with all exercises(?:, and (\d+) for the stretch)?"
            alone, stretch = re.match(minutes, takes).groups()
            part = source.name.partition("_")[0]
            start = "About" if part == number else f"{part}: about"
            assert f"\n{start} {alone} minutes alone and" in page
            stretches += [stretch] if stretch else []
    assert re.findall(r"\(stretch\) \| (\d+) \| home", page) == stretches


# --- keeping notebooks still -----------------------------------------------------------------------------------


def test_strip_widgets_leaves_the_still_and_drops_what_has_none():
    new = nbformat.v4
    still = new.new_output("execute_result", {WIDGET_VIEW: {"model_id": "x"}, "image/png": "AAAA", "text/plain": "t"})
    bare = new.new_output("display_data", {WIDGET_VIEW: {"model_id": "y"}, "text/plain": "Button()"})
    plain = new.new_output("execute_result", {"text/plain": "3"})
    printed = new.new_output("stream", name="stdout", text="hello")
    cell = new.new_code_cell("x", outputs=[still, bare, plain, printed])
    notebook = new.new_notebook(cells=[new.new_markdown_cell("hi"), cell], metadata={"widgets": {"state": {}}})
    assert strip_widgets(notebook) is notebook
    assert notebook.cells[1].outputs == [still, plain, printed]
    assert set(still.data) == {"image/png", "text/plain"}
    assert notebook.metadata == {}


def test_execute_runs_in_the_folder_of_the_notebook_and_leaves_a_failing_one_alone(tmp_path):
    from nbclient.exceptions import CellExecutionError

    path = tmp_path / "lesson.ipynb"
    cells = ["import os, pathlib", "print(pathlib.Path.cwd().name, os.environ['HELLO'])"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, path)
    execute(path, env={"HELLO": "world"})
    cells = nbformat.read(path, 4).cells
    assert cells[1].outputs[0].text == f"{tmp_path.name} world\n"
    assert "execution" not in cells[1].metadata
    cells.append(nbformat.v4.new_code_cell("1 / 0"))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute(path, env={"HELLO": "world"})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# --- without a network -----------------------------------------------------------------------------------------


@pytest.fixture
def blocked(tmp_path):
    """An environment without a network, and a function that lists what was tried in it."""
    return blocked_network(tmp_path / "block")


def test_data_and_sampling_need_no_network(blocked, tmp_path):
    env, attempts = blocked
    code = """
        from dit_course import Sampler, load_dataset, load_pretrained
        images, labels = load_dataset("fashion-mnist", split="test")
        assert images.shape == (10_000, 1, 28, 28) and len(labels) == 10_000
        pictures = Sampler(load_pretrained("fashion-mnist"), steps=2).sample(2, seed=0)
        assert pictures.shape == (2, 1, 28, 28)
    """
    run = [sys.executable, "-c", PROOF + textwrap.dedent(code)]
    subprocess.run(run, check=True, env={**os.environ, **env}, cwd=tmp_path)
    assert attempts() == PROVEN


def test_cifar10_says_kindly_that_it_needs_a_network_once(blocked, tmp_path):
    env, attempts = blocked
    code = "from dit_course.data import load_dataset; load_dataset('cifar10')"
    env = {**os.environ, **env, "DIT_COURSE_DATA": str(tmp_path / "empty")}
    run = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1
    assert re.search(r"^FileNotFoundError: CIFAR-10 .*connect to a network once", run.stderr, re.MULTILINE)
    assert attempts()  # it did try, and torchvision goes through what is blocked
