"""Readies a host that brings its own Python and torch, such as Colab: `%run course/dit_course/setup/hosted.py`.

What is missing beside torch is installed, and the course as a link to its folder; torch, torchvision, numpy and the
host's widgets stay as they are. Needs nothing but Python, and is called from jupyter/colab.ipynb.
"""

import importlib
import re
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distributions, packages_distributions, version
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TORCH = ("torch", "torchvision")  # gigabytes, which the host has chosen to fit its GPU
KEPT = (*TORCH, "numpy")
OWN = {"jupyterlab": "", "ipywidgets": "ipywidgets"}  # the host's page comes with widgets, in the version that it runs
OLDEST_TORCH = (2, 11)  # the oldest with which lessons were run


class NotReady(Exception):
    """What is wrong, in one line; a notebook shows it without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not ready: {self}"]


def ready(repository: Path = REPOSITORY) -> None:
    """Check Python and torch, install the rest, and say what was done. Raises NotReady."""
    requirements = needed(repository)
    kept = {name: version(name) for name in KEPT if _is_there(name)}
    print(f"Python {sys.version.split()[0]}, torch {kept['torch']}: both stay as they are.")
    if numbers(kept["torch"]) < OLDEST_TORCH:
        print(f"This torch is older than {dotted(OLDEST_TORCH)}, the oldest that was tried: lessons may fail.")
    before = _installed()
    with tempfile.TemporaryDirectory() as folder:
        limits = Path(folder, "kept.txt")
        limits.write_text("".join(f"{name}=={number}\n" for name, number in kept.items()))
        _pip("--constraint", str(limits), *requirements)
    _pip("--no-deps", "--editable", str(repository))
    if str(repository) not in sys.path:  # the link counts from the next start on
        sys.path.insert(0, str(repository))
    importlib.invalidate_caches()
    new = {name for name, number in _installed().items() if before.get(name) != number} - {"dit-course"}
    print(f"Installed: {', '.join(sorted(new)) or 'nothing was missing'}. The course is in {repository}.")
    enable_widgets()
    if used := _in_use(new):
        print(f"Restart the session, then run this cell again: it has loaded older versions of {', '.join(used)}.")


def needed(repository: Path = REPOSITORY) -> list[str]:
    """The requirements to install where they are missing. Raises NotReady for a Python or torch that will not do."""
    text = (repository / "pyproject.toml").read_text(encoding="utf-8")
    oldest, too_new = (int(minor) for minor in re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', text).groups())
    if not (3, oldest) <= sys.version_info[:2] < (3, too_new):
        wanted, here = f"Python 3.{oldest} to 3.{too_new - 1}", dotted(sys.version_info[:2])
        raise NotReady(f"the course needs {wanted}, and this host has {here}: choose another runtime")
    for name in TORCH:
        if not _is_there(name):
            raise NotReady(f"there is no {name} here: on a host that brings none, install as docs/install.md says")
    import tomllib  # from Python 3.11 on

    found = {re.match(r"[\w-]+", line)[0]: line for line in tomllib.loads(text)["project"]["dependencies"]}
    return [line for name in found if name not in TORCH and (line := OWN.get(name, found[name]))]


def enable_widgets() -> bool:
    """Let Colab show widgets of other packages; returns whether this is Colab."""
    try:
        from google.colab import output
    except ImportError:
        return False
    output.enable_custom_widget_manager()
    return True


def numbers(text: str) -> tuple[int, ...]:
    """The first two parts of a version: (2, 11) for "2.11.0+cu128"."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def dotted(parts: tuple[int, ...]) -> str:
    """(2, 11) as 2.11."""
    return ".".join(map(str, parts))


def _is_there(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _installed() -> dict[str, str]:
    return {found.name.lower().replace("_", "-"): found.version for found in distributions() if found.name}


def _in_use(new: set[str]) -> list[str]:
    """Which of the packages that were just installed had been imported before."""
    owners = packages_distributions()
    used = {name for module in list(sys.modules) if "." not in module for name in owners.get(module, ())}
    return sorted(new & {name.lower().replace("_", "-") for name in used})


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
        raise NotReady(f"pip install failed: {lines[-1].removeprefix('ERROR: ')[:300]}")


if __name__ == "__main__":
    ready()
