"""The package as a wheel, in an environment of its own, with no repository near and no network."""

import gzip
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
NOWHERE = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built as `pip wheel .` builds it, by the hatchling that is installed."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out], cwd=ROOT, check=True)
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """`run(*arguments)`: a Python that has the wheel, and this environment's other packages, somewhere else."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    install = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-deps", "--python", python, wheel]
    subprocess.run(install, check=True, capture_output=True)
    (site,) = (folder / "venv").rglob("site-packages")
    # a folder that a .pth file names is searched, but its own .pth files are not: the link to the repository stays out
    (site / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (folder / "work").mkdir()
    labs = Path(sysconfig.get_path("data"), "share/jupyter")
    changes = {"XDG_CACHE_HOME": str(folder / "cache"), "JUPYTER_PATH": str(labs), **NOWHERE}
    dropped = {"PYTHONPATH", "DIT_COURSE_DATA", "DIT_COURSE_STRICT", "no_proxy", "NO_PROXY"}
    environment = {key: value for key, value in os.environ.items() if key not in dropped} | changes

    def run(*arguments):
        return subprocess.run(
            [python, *arguments], cwd=folder / "work", env=environment, capture_output=True, text=True, timeout=300
        )

    run.folder, run.site = folder, site
    return run


def test_a_wheel_is_small_and_carries_what_the_readme_promises(wheel):
    names = set(ZipFile(wheel).namelist())
    assert wheel.stat().st_size <= 20_000_000
    for name in ("fashion-mnist", "fashion-mnist-classifier", "cifar10", "cifar10-classifier"):
        for ending in ("safetensors", "json"):
            assert f"dit_course/_data/checkpoints/{name}.{ending}" in names
    assert "dit_course/_data/experiments/tricks.csv" in names
    assert not [
        name
        for name in names
        if "-small" in name or "FashionMNIST" in name or name.endswith((".gif", ".png", ".npz", ".ipynb"))
    ]
    own = {file.relative_to(ROOT).as_posix() for file in (ROOT / "dit_course").rglob("*") if file.suffix in ASSETS}
    assert own <= names
    assert "dit_course/_data/checkpoints/fashion-mnist-few-steps.safetensors" in names


ASSETS = (".py", ".js", ".css")


def test_it_draws_from_anywhere(installed):
    code = (
        "import dit_course; print(dit_course.__file__)\n"
        "from dit_course import Sampler, load_pretrained\n"
        "print(tuple(Sampler(load_pretrained('fashion-mnist'), steps=2).sample(10).shape))\n"
        "from dit_course.studies.experiments import load_experiment; print(len(load_experiment('tricks')))\n"
    )
    run = installed("-c", code)
    assert (run.returncode, run.stderr) == (0, "")
    place, shape, rows = run.stdout.splitlines()
    assert Path(place) == installed.site / "dit_course/__init__.py"
    assert shape == "(10, 1, 28, 28)"
    assert int(rows) > 0


def test_its_commands(installed):
    sampled = installed("-m", "dit_course", "sample", "--model", "cifar10", "--steps", "1", "--per-class", "1")
    assert (sampled.returncode, sampled.stderr) == (0, "")
    doctor = installed("-m", "dit_course", "doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert "downloads 30 MB" in doctor.stdout
    assert "make " not in doctor.stdout.replace("to make", "")
    released = installed("-m", "dit_course", "release")
    assert (released.returncode, released.stdout) == (1, "")
    assert "works in the repository" in released.stderr


def test_it_evaluates_offline_once_fashion_mnist_is_in_the_cache(installed):
    evaluate = ("-m", "dit_course", "evaluate", "--samples", "10", "--steps", "1", "--out", "result.json")
    offline = installed(*evaluate)
    assert offline.returncode == 1
    assert "Fashion-MNIST is not in" in offline.stderr
    assert "connect to a network once" in offline.stderr
    raw = installed.folder / "cache/dit_course/FashionMNIST/raw"
    raw.mkdir(parents=True, exist_ok=True)
    for archive in (ROOT / "data/FashionMNIST/raw").glob("*.gz"):
        (raw / archive.stem).write_bytes(gzip.decompress(archive.read_bytes()))
    cached = installed(*evaluate)
    assert (cached.returncode, cached.stderr) == (0, "")
    protocol = json.loads((installed.folder / "work/result.json").read_text())["protocol"]
    assert protocol["samples"] == 10
    assert protocol["reference"] == {"split": "test", "count": 10_000, "flipped": False}
