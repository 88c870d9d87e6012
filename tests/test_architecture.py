"""The house of DESIGN.md: who imports whom, and how large the rooms are."""

import ast
import importlib
import inspect
import os
import re
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
LATER = ("few_steps",)  # rooms that may come behind them
# services at the root, and who of the rooms may use them: those that name bad input, all; the others from training on
GUARDS = {"guards", "generation", "wrappers"}
SERVICES = GUARDS | {"checkpoints", "data", "distributed", "trainer"}
HELPED = ROOMS[ROOMS.index("training") :] + LATER
AT_THE_ROOT = {"__init__", "__main__", "interop", "notebook", *ROOMS, *LATER, *SERVICES - {"distributed"}}
FOLDERS = {
    "authoring", "check", "commands", "distributed", "explore", "pretrained", "setup", "show", "studies",
}  # fmt: skip

# Imports of the course's own modules inside of functions, and why each must be. All others stand at the top.
LAZY = {
    ("__main__", "commands"): "each command brings its own libraries: --help and the doctor should not wait for them",
    ("__main__", "distributed"): "the doctor runs where torch is missing",
    ("__main__", "training"): "the doctor runs where torch is missing",
    ("__main__", "trainer"): "the doctor runs where torch is missing",
    ("__main__", "studies"): "each command brings its own libraries: --help and the doctor should not wait for them",
    ("__main__", "setup"): "the doctor should run where the rest of the package does not",
    ("commands.site", "authoring"): "the site needs Sphinx and the notebooks, which few commands do",
    ("commands.classroom", "authoring"): "a class needs nbgrader and the notebooks, which few commands do",
    ("commands.sample", "commands"): "released weights are rare, and need more libraries",
    ("distributed", "distributed"): "accelerate is only there where several processes train",
}


def names_in(tree, lazy=True):
    """Full names of all that a syntax tree imports; for type checkers alone does not count. lazy: in functions, too."""
    names, inside = set(), [tree]
    while inside:
        node = inside.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not lazy:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where things come from"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        inside += ast.iter_child_nodes(node)
    return names


def imported(room):
    """Full names of all that a room imports, inside of functions too."""
    return names_in(ast.parse(MODULES[f"dit_course.{room}"].read_text(encoding="utf-8")))


def rooms_of(names):
    """Which modules of the course are among imported names: {"dit", ...}."""
    return {name.split(".")[1] for name in names if name.startswith("dit_course.")}


rooms = pytest.mark.parametrize("room", [room for room in ROOMS + LATER if f"dit_course.{room}" in MODULES])


def test_the_root_holds_the_rooms_and_the_named_services():
    files = {file.stem for file in HOUSE.glob("*.py")}
    assert set(ROOMS) <= files, "a room is missing"
    assert files <= AT_THE_ROOT, f"{sorted(files - AT_THE_ROOT)} belong into a folder, or into DESIGN.md"
    folders = {folder.name for folder in HOUSE.iterdir() if folder.is_dir() and folder.name != "__pycache__"}
    assert folders == FOLDERS


@rooms
def test_a_room_imports_only_from_rooms_above_it(room):
    above = (ROOMS + LATER)[: (ROOMS + LATER).index(room)]
    allowed = {*above} | (SERVICES if room in HELPED else GUARDS)
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


def test_nothing_is_imported_in_circles_not_even_inside_of_functions():
    doors = {}
    for name, file in MODULES.items():
        doors[name] = (names_in(ast.parse(file.read_text(encoding="utf-8"))) & set(MODULES)) - {name}
    left = set(doors)
    while leaves := {name for name in left if not doors[name] & left}:
        left -= leaves
    while unreached := {name for name in left if not any(name in doors[other] for other in left)}:
        left -= unreached
    assert not left, f"these import each other: {sorted(left)}"


def test_imports_stand_at_the_top_or_have_a_reason():
    found = {}
    for name, file in MODULES.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for other in rooms_of(names_in(tree) - names_in(tree, lazy=False)):
            found[name.removeprefix("dit_course."), other] = file
    reasons = {
        (module, other): (module, other) in LAZY or (module.partition(".")[0], other) in LAZY for module, other in found
    }
    assert all(reasons.values()), f"why not at the top? {[pair for pair, known in reasons.items() if not known]}"


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


def test_weights_of_others_have_a_door_of_their_own():
    pretrained = importlib.import_module("dit_course.pretrained")
    assert callable(pretrained.load_official)
    assert callable(pretrained.load_diffusers)
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


# Words that only this course used for what the field has a name for (DESIGN.md, "Words").
PRIVATE = {
    "road", "roads", "crew", "crews", "fence", "fences", "fenced", "sheet", "sheets", "foresee", "foreseen",
    "foreseeing", "ears", "bark", "barks", "rouse",
}  # fmt: skip
SPOKEN = PRIVATE | {
    "walk",
    "walks",
    "walked",
    "ask",
    "asks",
    "asked",
    "asking",
    "team",
    "film",
    "films",
    "dear",
    "trip",
}
ALLOWED = {
    "walk": "ast.walk and os.walk",
    "walk_packages": "pkgutil's",
    "ask_exit": "IPython's",
}


def identifiers(tree):
    """All names that a syntax tree defines or uses, and no text."""
    for node in ast.walk(tree):
        for field in ("name", "id", "attr", "arg", "asname"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                yield from name.split(".")


def parts_of(identifier):
    """snake_case and CamelCase taken apart, in small letters."""
    return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)}


PYTHON = [*MODULES.values(), *sorted(Path(__file__).parent.rglob("*.py"))]


@pytest.mark.parametrize("file", PYTHON, ids=lambda file: file.stem)
def test_names_are_the_fields(file):
    """In the names of tests, which are sentences, ordinary verbs are welcome."""
    names = {*identifiers(ast.parse(file.read_text(encoding="utf-8"))), *file.parts[-3:]} - set(ALLOWED)
    odd = {name for name in names if parts_of(name) & (PRIVATE if name.startswith("test_") else SPOKEN)}
    assert not odd, f"{file.name} says {sorted(odd)}"


@pytest.mark.parametrize("name", [name for name in MODULES if name != "dit_course.interop"])  # which has old names
def test_messages_and_comments_are_in_the_fields_words(name):
    said = re.findall(r"(?i)\b(?:shall|roads?|crews?|fenced?|foresee\w*)\b", MODULES[name].read_text(encoding="utf-8"))
    assert not said, f"{name} says {sorted(set(said))}"
