"""The house of DESIGN.md: who imports whom, and how large the rooms are."""

import ast
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dit_course

HOUSE = Path(dit_course.__file__).parent
MODULES = {
    ".".join(["dit_course", *file.relative_to(HOUSE).with_suffix("").parts]).removesuffix(".__init__"): file
    for file in sorted(HOUSE.rglob("*.py"))
}

# in the order in which the data flows: each may import from those above it
ROOMS = (
    "patches",
    "attention",
    "conditioning",
    "blocks",
    "dit",
    "flow",
    "training",
    "ema",
    "sampling",
    "evaluation",
    "scaling",
)
# service rooms that a lesson's room may use all the same, and who may
SERVICES = {
    "training": {"data"},
    "sampling": {"generation"},
    "evaluation": {"data", "checkpoints", "batches"},
    "scaling": {"data", "checkpoints", "batches"},
}


def names_in(tree):
    """Full names of all that a syntax tree imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where things come from"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported(room):
    """Full names of all that a room imports, inside of functions too."""
    return names_in(ast.parse(MODULES[f"dit_course.{room}"].read_text(encoding="utf-8")))


def rooms_of(names):
    """Which modules of the course are among imported names: {"dit", ...}."""
    return {name.split(".")[1] for name in names if name.startswith("dit_course.")}


rooms = pytest.mark.parametrize("room", [room for room in ROOMS if f"dit_course.{room}" in MODULES])


def test_the_rooms_up_to_sampling_are_there():
    for room in ROOMS[: ROOMS.index("sampling") + 1]:
        assert f"dit_course.{room}" in MODULES, f"{room}.py is missing"


@rooms
def test_a_room_imports_only_from_rooms_above_it(room):
    allowed = set(ROOMS[: ROOMS.index(room)]) | SERVICES.get(room, set())
    reached = rooms_of(imported(room))
    assert reached <= allowed, f"{room}.py reaches for {sorted(reached - allowed)}"


@rooms
def test_rooms_of_lessons_need_only_torch_and_numpy(room):
    packages = {name.split(".")[0] for name in imported(room)}
    foreign = packages - {"torch", "numpy", "dit_course"} - sys.stdlib_module_names
    assert not foreign, f"{room}.py needs {sorted(foreign)}"


@rooms
def test_rooms_do_not_import_the_whole_house(room):
    """`from dit_course import DiT` inside the house would hide which room it comes from."""
    assert "dit_course" not in imported(room)


def test_nothing_is_imported_in_circles():
    doors = {}
    for name, file in MODULES.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        doors[name] = (names_in(tree) & set(MODULES)) - {name}
    left = set(doors)
    while leaves := {name for name in left if not doors[name] & left}:
        left -= leaves
    assert not left, f"these import each other: {sorted(left)}"


@pytest.mark.parametrize("name", MODULES)
def test_no_module_is_too_long(name):
    lines = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= 330, f"{MODULES[name].relative_to(HOUSE.parent)} has {lines} lines"


@rooms
def test_functions_of_lessons_fit_a_screen(room):
    for node in ast.walk(ast.parse(MODULES[f"dit_course.{room}"].read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            statements = node.body[1:] if ast.get_docstring(node) else node.body
            lines = node.end_lineno - statements[0].lineno + 1 if statements else 0
            assert lines <= 60, f"{room}.{node.name} does not fit a screen"


def public(tree):
    """Public functions, classes and methods of a module; `forward` is what users call, so it counts."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                    yield f"{node.name}.{inner.name}", inner


@pytest.mark.parametrize("name", MODULES)
def test_whatever_is_public_is_explained(name):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    if tree.body:
        assert ast.get_docstring(tree), f"{name} has no docstring"
    for function, node in public(tree):
        assert ast.get_docstring(node), f"{name}.{function} has no docstring"


API = [
    "DiTConfig",
    "DiT",
    "RectifiedFlow",
    "EMA",
    "train",
    "TrainConfig",
    "Sampler",
    "guided",
    "euler",
    "heun",
    "ab2",
    "load_pretrained",
    "load_dataset",
    "patchify",
    "unpatchify",
    "PatchEmbed",
    "sincos_position_embedding",
    "RMSNorm",
    "SelfAttention",
    "MLP",
    "TimestepEmbedder",
    "LabelEmbedder",
    "modulate",
    "DiTBlock",
    "FinalLayer",
]


@pytest.mark.parametrize("name", API)
def test_the_public_api_imports_from_dit_course_itself(name):
    assert callable(getattr(dit_course, name))


def test_interop_has_a_door_of_its_own():
    interop = importlib.import_module("dit_course.pretrained.layouts")
    assert callable(interop.load_official)
    assert callable(interop.load_diffusers)
    assert not hasattr(dit_course, "load_official")


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        ("DiTConfig", "image_size patch_size channels width depth heads mlp_ratio registers num_classes label_dropout"),
        ("DiT.from_name", "name"),
        ("DiT.forward", "self x t y"),
        ("RectifiedFlow", "timesteps"),
        ("RectifiedFlow.loss", "self model x y"),
        ("EMA", "model decay"),
        ("train", "model dataset config"),
        ("Sampler", "model steps solver cfg cfg_interval"),
        ("Sampler.sample", "self n labels seed callback"),
        ("guided", "model y cfg interval"),
        ("euler", "velocity noise ts callback"),
        ("heun", "velocity noise ts callback"),
        ("ab2", "velocity noise ts callback"),
        ("load_dataset", "name split"),
    ],
)
def test_signatures_begin_as_the_design_says(function, parameters):
    thing = dit_course
    for part in function.split("."):
        thing = getattr(thing, part)
    names = list(inspect.signature(thing).parameters)
    assert names[: len(parameters.split())] == parameters.split()


def test_everything_exported_exists():
    assert [name for name in dit_course.__all__ if not hasattr(dit_course, name)] == []


# When `import torch` is reached, print what OpenMP would find, and stop there: torch itself takes seconds.
WATCH = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Watch())
import dit_course
dit_course.DiT
print("torch was not imported")
"""


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE"), ("PASSIVE", "PASSIVE")])
def test_threads_are_told_to_wait_politely_before_torch_is_imported(before, after):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if before is None else {"OMP_WAIT_POLICY": before}
    run = subprocess.run(
        [sys.executable, "-c", WATCH], cwd=HOUSE.parent, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (run.stdout.strip(), run.stderr) == (after, "")


# Python as it is where torch was never installed: the import fails
WITHOUT_TORCH = """
import runpy, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision"):
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Missing())
sys.argv = ["dit_course", "doctor"]
runpy.run_module("dit_course", run_name="__main__")
"""


def test_the_doctor_can_be_asked_where_torch_is_missing():
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], cwd=HOUSE.parent, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert [line for line in run.stdout.splitlines() if line.split()[:2] == ["PROBLEM", "torch"]]


def test_every_public_name_comes_from_its_room():
    import dit_course

    for room, names in dit_course.ROOMS.items():
        for name in names:
            assert getattr(dit_course, name).__module__ == f"dit_course.{room}"
    assert set(dit_course.__all__) <= set(dir(dit_course))
    with pytest.raises(AttributeError, match="no 'DTI'"):
        _ = dit_course.DTI
