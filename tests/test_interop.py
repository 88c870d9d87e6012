"""Old import paths keep working, and say the new ones."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dit_course
from dit_course import interop

HOUSE = Path(dit_course.__file__).parent


@pytest.mark.parametrize("old", interop.MODULES)
def test_modules_that_moved_are_found_by_their_old_names(old):
    new = importlib.import_module(f"dit_course.{interop.MODULES[old]}")
    sys.modules.pop(f"dit_course.{old}", None)
    with pytest.warns(DeprecationWarning, match=re.escape(f"dit_course.{old} is now {new.__name__}:")) as caught:
        assert importlib.import_module(f"dit_course.{old}") is new
    assert len(caught) == 1
    assert new.__spec__.name == new.__name__  # the module itself has not noticed


@pytest.mark.parametrize(("room", "old"), [(room, old) for room, names in interop.NAMES.items() for old in names])
def test_names_that_changed_lead_to_the_new_ones(room, old):
    module = importlib.import_module(f"dit_course.{room}")
    if old in vars(module):
        pytest.skip("still its name")
    with pytest.warns(DeprecationWarning, match=rf"dit_course\.{room}\.{old} is now dit_course\.") as caught:
        found = getattr(module, old)
    assert callable(found)
    assert caught[0].filename == __file__  # it points to the line that should change
    assert interop.NAMES[room][old].rpartition(".")[2] == found.__name__


def test_old_ways_of_importing():
    with pytest.warns(DeprecationWarning, match="pretrained.layouts.load_official"):
        from dit_course.interop import load_official
    assert load_official is importlib.import_module("dit_course.pretrained").load_official
    sys.modules.pop("dit_course.recipes", None)
    with pytest.warns(DeprecationWarning, match="studies.recipes"):
        from dit_course.recipes import RECIPES
    assert "three-minutes" in RECIPES
    for module, name in (("show", "lokks"), ("ema", "Profile"), ("interop", "load_offical")):
        with pytest.raises(AttributeError, match=name):
            getattr(importlib.import_module(f"dit_course.{module}"), name)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("dit_course.recipies")


def test_importing_the_course_imports_neither_torch_nor_what_moved():
    code = "import sys, dit_course; print(sorted(m for m in sys.modules if m == 'torch' or m.startswith('dit_course')))"
    run = subprocess.run([sys.executable, "-c", code], cwd=HOUSE.parent, capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "['dit_course', 'dit_course.interop']", run.stderr


def test_an_old_command_still_runs():
    run = subprocess.run(
        [sys.executable, "-W", "always", "-m", "dit_course.commands.tradeoff", "--help"],
        cwd=HOUSE.parent, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "--scales" in run.stdout
    assert "is now dit_course.studies.guidance" in run.stderr
