"""Lesson 09: its definitions are the package's, and what it ships is what its text says."""

import ast
import csv
import textwrap
from pathlib import Path

import nbformat
import numpy as np
import pytest

from dit_course import evaluation
from dit_course.authoring import release
from dit_course.data import data_root

PARTS = [source for source in release.sources(["09"]) if not release.is_appendix(source)]


def definitions(code):
    """Functions and classes by name, without docstrings and comments."""
    found = {}
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if ast.get_docstring(node):
                node.body = node.body[1:]
            found[node.name] = ast.dump(node)
    return found


def test_what_the_lesson_defines_is_the_packages_code():
    own = definitions(Path(evaluation.__file__).read_text(encoding="utf-8"))
    cells = [cell for part in PARTS for cell in nbformat.read(part, 4).cells if cell.cell_type == "code"]
    taught = {}
    for cell in cells:
        solved = cell.source if release.BEGIN not in cell.source else release.solved(cell.source)
        taught |= definitions(textwrap.dedent(solved))
    shared = set(own) & set(taught)
    wanted = (
        "gaussian_distance frechet_distance precision_recall nearest_neighbours measure pareto_front kernel_distance"
    )
    assert shared == set(wanted.split())
    for name in shared:
        assert taught[name] == own[name], name


@pytest.fixture
def rows():
    with (data_root() / "experiments" / "guidance.csv").open() as lines:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)]


def test_the_table_says_what_the_lesson_says(rows):
    mean = lambda cfg, goal: np.mean([row[goal] for row in rows if row["cfg"] == cfg])  # noqa: E731
    scales = sorted({row["cfg"] for row in rows})
    assert scales[0] == 1
    assert scales[-1] >= 5
    assert all(row["samples"] >= 1000 for row in rows)
    accuracy, recall, distance = (
        [mean(cfg, goal) for cfg in scales] for goal in ("class_accuracy", "recall", "frechet_distance")
    )
    assert accuracy == sorted(accuracy)
    assert recall == sorted(recall, reverse=True)
    assert 1 < scales[int(np.argmin(distance))] < scales[-1]


def test_the_shipped_samples_are_a_thousand_each():
    file = data_root() / "experiments" / "guidance-samples.npz"
    assert file.stat().st_size < 2_000_000
    samples = dict(np.load(file))
    assert list(samples) == ["cfg 1", "cfg 2", "cfg 5"]
    assert all(x.shape == (1000, 1, 28, 28) and x.dtype == np.uint8 for x in samples.values())
