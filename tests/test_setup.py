"""The set-up says one thing: pyproject.toml, the pins, environment.yml, the Makefile and README agree."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata, util
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
PYTHONS = SpecifierSet(PROJECT["requires-python"])
# What torch brings on Linux for GPUs: torch names it, so the pins do not (see `pins` in the Makefile).
GPU_ONLY = re.compile(r"cuda-|nvidia-|triton$")

ENVIRONMENTS = [
    {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": platform,
        "platform_system": system,
        "os_name": "nt" if platform == "win32" else "posix",
        "platform_machine": machine,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for python in ("3.11", "3.12", "3.13", "3.14")
    for platform, system, machine in (
        ("linux", "Linux", "x86_64"),
        ("darwin", "Darwin", "arm64"),
        ("win32", "Windows", "AMD64"),
    )
]


def pins() -> list[Requirement]:
    """The lines of requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def direct_requirements() -> list[Requirement]:
    """What pyproject.toml asks for itself: to run, with all extras, and to be built."""
    lines = chain(
        PROJECT["dependencies"], *PROJECT["optional-dependencies"].values(), PYPROJECT["build-system"]["requires"]
    )
    return [requirement for requirement in map(Requirement, lines) if requirement.name != PROJECT["name"]]


def pinned_versions(environment: dict[str, str]) -> dict[str, str]:
    """Name -> version of the pins that apply in `environment`; a name pinned twice is an error."""
    found: dict[str, str] = {}
    for pin in pins():
        if pin.marker and not pin.marker.evaluate(environment):
            continue
        (specifier,) = pin.specifier
        assert specifier.operator == "==", f"{pin} is no exact pin"
        name = canonicalize_name(pin.name)
        assert name not in found, f"{name} is pinned twice for {environment}"
        found[name] = specifier.version
    return found


# -- pyproject.toml and the pins -------------------------------------------------------------------


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda e: f"{e['sys_platform']}-{e['python_version']}")
def test_pins_satisfy_pyproject(environment):
    versions = pinned_versions(environment)
    for requirement in direct_requirements():
        version = versions.get(canonicalize_name(requirement.name))
        assert version, f"{requirement} has no pin: run `make pins`"
        assert requirement.specifier.contains(version), f"{requirement} is pinned at {version}: run `make pins`"


def test_the_test_extra_holds_every_other_extra():
    extras = set(PROJECT["optional-dependencies"]) - {"test"}
    (itself,) = [r for r in map(Requirement, PROJECT["optional-dependencies"]["test"]) if r.name == PROJECT["name"]]
    assert itself.extras == extras


def test_pins_are_exactly_what_the_installed_packages_need():
    """Walk the installed packages from the direct requirements: all met are pinned, no pin is left over."""
    needed, todo = set(), direct_requirements()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if GPU_ONLY.match(name) or extras <= {extra for seen, extra in needed if seen == name}:
            continue
        needed |= {(name, extra) for extra in extras | {""}}
        for line in metadata.requires(name) or []:
            child = Requirement(line)
            if not child.marker or any(child.marker.evaluate({"extra": extra}) for extra in extras | {""}):
                todo.append(child)
    pinned = set(pinned_versions(default_environment()))
    assert pinned == {name for name, _ in needed}


def test_gpu_packages_are_left_to_torch():
    assert not [pin.name for pin in pins() if GPU_ONLY.match(pin.name)]


# -- environment.yml -------------------------------------------------------------------------------


def test_environment_yml_installs_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge"]
    python, pip, section = environment["dependencies"]
    assert pip == "pip"
    # Everything else comes from pip: one list of versions, and no second copy of a package from conda.
    assert section == {"pip": ["-r requirements.txt", "-e ."]}
    version = re.fullmatch(r"python=(3\.\d+)", python)
    assert version, f"{python!r}: Binder reads the Python version only as python=3.N"
    assert PYTHONS.contains(version[1])


# -- the Makefile ----------------------------------------------------------------------------------

needs_make = pytest.mark.skipif(not shutil.which("make"), reason="no make here")


@pytest.fixture
def checkout(tmp_path):
    """A folder with what `make setup` reads, and nothing installed."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run make without the variables that an outer make hands down."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "-C", str(folder), "--no-print-directory", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )


def fake_python(folder: Path, disguise: str) -> str:
    """A Python that runs `disguise` before the code it is given."""
    script = folder / "fake-python"
    script.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c 'import sys; {disguise}; exec(sys.argv[2])' \"$@\"\n")
    script.chmod(0o755)
    return str(script)


@needs_make
@pytest.mark.parametrize(
    ("disguise", "message"),
    [
        (None, "there is no no-such-python here"),
        ("sys.version_info = (3, 10, 14)", "3.10"),
        ("sys.version_info = (3, 15, 0)", "3.15"),
        ("sys.version_info = (2, 7, 18)", "2.7"),
        ('sys.modules["ensurepip"] = None', "apt install python3-venv"),
    ],
)
def test_a_python_that_will_not_do_is_refused_in_one_line(checkout, disguise, message):
    python = fake_python(checkout, disguise) if disguise else "no-such-python"
    result = make(checkout, "setup", f"PYTHON={python}")
    assert result.returncode != 0
    said, *rest = result.stderr.splitlines()
    assert message in said
    assert said.startswith("Set-up stopped: ")
    assert all(line.startswith("make: ***") for line in rest), "more than one line of error"
    assert not (checkout / ".venv").exists()


def test_makefile_and_pyproject_accept_the_same_pythons():
    first, after = re.search(
        r"\(3, (\d+)\) <= sys.version_info < \(3, (\d+)\)", (ROOT / "Makefile").read_text()
    ).groups()
    assert SpecifierSet(f">=3.{first},<3.{after}") == PYTHONS
    assert {e["python_version"] for e in ENVIRONMENTS} == {f"3.{n}" for n in range(int(first), int(after))}


@needs_make
def test_set_up_runs_once_and_again_when_it_must(checkout):
    def up_to_date() -> bool:
        return make(checkout, "--question", "setup").returncode == 0

    assert not up_to_date()
    python, stamp = checkout / ".venv/bin/python", checkout / ".venv/set-up-in"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    stamp.write_text(f"{checkout.resolve()}\n")
    assert up_to_date()

    (checkout / "dit_course").mkdir()  # edits of the package ask for nothing
    assert up_to_date()

    later = stamp.stat().st_mtime + 10
    for source in ("requirements.txt", "pyproject.toml"):
        before = (checkout / source).stat()
        os.utime(checkout / source, (later, later))
        assert not up_to_date(), source
        os.utime(checkout / source, (before.st_atime, before.st_mtime))
    assert up_to_date()

    stamp.write_text("/elsewhere\n")  # the checkout was moved
    assert not up_to_date()
    stamp.write_text(f"{checkout.resolve()}\n")
    python.unlink()
    python.symlink_to("/no/such/python")  # the system's Python was replaced
    assert not up_to_date()


def test_ci_runs_make_test():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^make test\b", script.read_text(), re.MULTILINE)


# -- README, and the pages that it leads to ---------------------------------------------------------

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def readme_commands() -> list[str]:
    """The lines of the code blocks in README and docs."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]


def test_readme_names_make_targets_that_exist():
    targets = set(re.search(r"^\.PHONY: (help .*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split())
    named = {m[1] for line in readme_commands() if (m := re.match(r"make (\w\S*)", line))}
    assert named
    assert named <= targets, f"README names {named - targets}, which make does not know"


def test_readme_names_subcommands_and_options_that_exist(capsys):
    if not util.find_spec("dit_course.__main__"):
        pytest.skip("the command line is not there yet")
    from dit_course.__main__ import main

    def help_of(*command: str) -> str:
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        return capsys.readouterr().out

    named: dict[str, set[str]] = {}
    for line in readme_commands():
        if m := re.search(r"-m dit_course (classroom \w+|\w+)(.*)", line):
            named.setdefault(m[1], set()).update(re.findall(r"--[\w-]+", m[2]))
    assert {"train", "sample", "doctor"} <= set(named)
    for command, options in named.items():
        assert re.search(rf"\b{command.split()[0]}\b", help_of())
        missing = options - set(re.findall(r"--[\w-]+", help_of(*command.split()))) if options else None
        assert not missing, f"dit_course {command} has no {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_readme_points_at_files_that_exist(page):
    text = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", text)
    assert links
    assert not [link for link in links if not (page.parent / link).exists()]


def test_readme_names_the_minutes_of_the_teachers_pages():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\d\d[a-z]?) .*?\]\(notebooks/(.*?)\).* \| (\d+) \| (\d+) \|$", text, flags=re.MULTILINE)
    assert [row[1] for row in rows] == sorted(path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    for part, _, alone, in_class in rows[1:]:
        page = (ROOT / f"notebooks/solutions/{part[:2]}_teacher.md").read_text(encoding="utf-8")
        said = {"120": "two hours"}.get(in_class, in_class)
        start = f"{part}: about" if part[2:] else "About"
        assert f"\n{start} {alone} minutes alone and {said} in class" in page, part


def test_readme_names_every_appendix():
    named = re.findall(r"\]\(notebooks/appendix/(.*?)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert sorted(named) == sorted(path.name for path in (ROOT / "notebooks/appendix").glob("*.ipynb"))


# -- every tracked file ----------------------------------------------------------------------------


def test_no_registry_host_and_no_path_of_one_machine_is_committed():
    """Other machines differ; a lock file, or a traceback in a notebook, easily carries such a name."""
    git = shutil.which("git")
    if not git or not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    hosts = "pypi org", "pythonhosted org", "download pytorch org", "registry npmjs", "deb debian org"
    patterns = [
        *(re.escape(host.replace(" ", ".")) for host in hosts),  # spelled with blanks, or this file would match
        re.escape(f"{ROOT}/"),
        r"(?<![\w./-])(?:/home/\w+|/Users/\w+|/root|C:\\Users)[/\\]\w",
    ]
    command = [git, "grep", "-InP", "|".join(patterns), "--", ".", ":!*.svg"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode in (0, 1), result.stderr
    assert not result.stdout, result.stdout[:2000]
