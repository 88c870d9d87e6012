"""The doctor finds what was broken on purpose, says how to mend it, and survives everything."""

import importlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tomllib
import types
from collections import namedtuple
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

import dit_course.data
from dit_course.data import data_root
from dit_course.setup import doctor

ROOT = Path(__file__).parents[1]


def finding(name: str) -> doctor.Finding:
    """What the doctor says about one thing, whatever its check raises."""
    return doctor.examine_one(name, doctor.CHECKS[name])


def expect(name: str, ok: bool | None, found: str = "", mend: str = "") -> None:
    """What the doctor finds, and what it advises: these words are in it."""
    seen = finding(name)
    assert seen.ok is ok
    assert found in seen.found
    assert mend in seen.mend


def write_checkpoint(folder: Path) -> Path:
    """A safetensors file with one tensor of four floats, written by hand, and its JSON."""
    header = json.dumps({"weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    file = folder / "checkpoints/fashion-mnist.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    file.with_suffix(".json").write_text("{}")
    return file


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder of one's own to break: links to the real files, and a small checkpoint."""
    raw = tmp_path / "data/FashionMNIST/raw"
    raw.mkdir(parents=True)
    for name in doctor.FASHION_MNIST:
        (raw / name).symlink_to(ROOT / "data/FashionMNIST/raw" / name)
    write_checkpoint(tmp_path / "data")
    monkeypatch.setenv("DIT_COURSE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


# -- as a whole ------------------------------------------------------------------------------------


def test_a_sound_machine_is_ready(data, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    findings = doctor.examine()
    assert [f.name for f in findings] == list(doctor.CHECKS)
    assert [f for f in findings if f.ok is False] == []
    assert doctor.report(findings) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "This machine is ready for the course."
    for f in findings:
        assert sum(line.split()[1:2] == [f.name] for line in lines) == 1, f"one line for {f.name}"


def test_report_lines_up_and_fails_only_for_problems(capsys):
    findings = [
        doctor.Finding("a", True, "there"),
        doctor.Finding("longer", None, "odd", "do this"),
        doctor.Finding("bad", False, "gone", "do that"),
    ]
    assert doctor.report(findings) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ok       a       there",
        "note     longer  odd",
        "                 -> do this",
        "PROBLEM  bad     gone",
        "                 -> do that",
        "",
        "1 problem. Mend the first one first, then run the doctor again.",
    ]
    assert doctor.report(findings[:2]) == 0
    assert doctor.report([]) == 0


def test_no_import_can_kill_it(monkeypatch, capsys):
    """Whatever an import raises, every check still has its say, in one line."""

    def broken(name, *_):
        raise SystemExit(f"{name} is broken\nin two lines")

    monkeypatch.setattr(importlib, "import_module", broken)
    findings = doctor.examine()
    assert [f.name for f in findings] == list(doctor.CHECKS)
    assert doctor.report(findings) == 1
    assert "in two lines" not in capsys.readouterr().out
    by_name = {f.name: f for f in findings}
    assert by_name["torch"].ok is by_name["video"].ok is by_name["widgets"].ok is by_name["JupyterLab"].ok is False
    assert by_name["threads"] == doctor.Finding("threads", None, "not checked: it needs torch")


def test_it_runs_where_nothing_is_installed(tmp_path):
    """As a file, in a Python without any package: the standard library is enough."""
    command = [sys.executable, "-I", "-S", str(ROOT / "dit_course/setup/doctor.py")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert result.returncode == 1
    assert result.stderr == ""
    assert "PROBLEM  torch        ModuleNotFoundError" in result.stdout
    assert "ok       Python" in result.stdout
    assert "ok       data" in result.stdout


# -- Python and torch ------------------------------------------------------------------------------


def test_pythons_are_those_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (oldest, too_new) = (f"{major}.{minor}" for major, minor in doctor.PYTHONS)
    assert SpecifierSet(f">={oldest},<{too_new}") == SpecifierSet(project["requires-python"])


@pytest.mark.parametrize("version", [(3, 10, 9), (3, 15, 0)])
def test_wrong_python(monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", version)
    expect("Python", False, mend="needs Python 3.11 to 3.14")


def test_missing_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # makes `import torch` fail
    expect("torch", False, mend="make clean setup")
    for name in ("torchvision", "threads", "device"):
        assert finding(name) == doctor.Finding(name, None, "not checked: it needs torch")


def test_torch_that_cannot_be_loaded(monkeypatch):
    def no_library(name, *_):
        raise OSError("libcudart.so.13: cannot open shared object file\nand more")

    monkeypatch.setattr(importlib, "import_module", no_library)
    problem = "installed, but cannot be loaded: OSError: libcudart.so.13: cannot open shared object file"
    assert (finding("torch").ok, finding("torch").found) == (False, problem)


def test_torchvision_of_another_torch(monkeypatch):
    """The two ways in which a mismatch shows: at import, and when a compiled operator is called."""
    real = importlib.import_module

    def mismatch(name, *rest):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", mismatch)
    expect("torchvision", False, "does not match torch", "make clean setup")
    monkeypatch.undo()

    def nms(*_):
        raise RuntimeError("Couldn't load custom C++ ops")

    fake = types.SimpleNamespace(__version__="0.1", ops=types.SimpleNamespace(nms=nms))
    monkeypatch.setitem(sys.modules, "torchvision", fake)
    expect("torchvision", False, "0.1 does not match torch")


def test_threads(monkeypatch):
    import torch

    monkeypatch.setattr(doctor, "_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    expect("threads", True)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    expect("threads", None, mend="OMP_WAIT_POLICY=PASSIVE")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    expect("threads", None, mend="set OMP_NUM_THREADS=2")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    expect("threads", None, mend="unset it")


@pytest.mark.parametrize(("limit", "cores"), [("150000 100000", 1), ("200000 100000", 2), ("max 100000", 8), (None, 8)])
def test_cores_of_a_container(monkeypatch, limit, cores):
    def read_text(path):
        if limit is None:
            raise FileNotFoundError(path)
        return limit

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(Path, "read_text", read_text)
    assert doctor._cores() == cores


def test_a_card_that_torch_cannot_use(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GTX 1")

    def ones(*_, **__):
        raise RuntimeError("no kernel image is available for execution on the device")

    monkeypatch.setattr(torch, "ones", ones)
    expect("device", False, "GTX 1 fails: RuntimeError: no kernel image", "driver")


def test_no_compiler_is_no_problem(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    expect("compiler", None, mend="if you want to compile models")


# -- what the notebooks use ------------------------------------------------------------------------


def test_ffmpeg_that_does_not_run(monkeypatch):
    import imageio_ffmpeg

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: "no-such-ffmpeg")
    expect("video", False, "no-such-ffmpeg")
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: shutil.which("false"))
    expect("video", False, "ends with status 1", "make clean setup")


def test_a_kernel_of_another_python(monkeypatch):
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    other = KernelSpec(argv=["/elsewhere/bin/python", "-m", "ipykernel_launcher"])
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda *_: other)
    expect("JupyterLab", False, "its notebooks run in /elsewhere/bin/python", "jupyter kernelspec remove")


def test_missing_widgets(monkeypatch, tmp_path):
    from jupyter_core import paths

    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(paths, "jupyter_path", lambda *_: [])
    expect("widgets", False, "@jupyter-widgets/jupyterlab-manager is not installed")
    monkeypatch.setitem(sys.modules, "anywidget", None)
    expect("widgets", False, "anywidget")


# -- files -----------------------------------------------------------------------------------------


def test_missing_and_damaged_data(data):
    expect("data", True)
    file = data / "FashionMNIST/raw/train-labels-idx1-ubyte.gz"
    content = file.read_bytes()
    file.unlink()
    expect("data", False, f"{file} is missing", "git checkout")
    assert "DIT_COURSE_DATA" in finding("data").mend
    file.write_bytes(content[:-1])
    expect("data", False, "damaged (29490 bytes)")


def test_missing_checkpoint(data):
    expect("model", True)
    file = data / "checkpoints/fashion-mnist.safetensors"
    for part in (file.with_suffix(".json"), file):
        part.unlink()
        expect("model", False, f"{part} is missing", "git checkout")
        write_checkpoint(data)


@pytest.mark.parametrize("length", [0, 5, 8, 20, -1])
def test_truncated_checkpoint(data, length):
    file = data / "checkpoints/fashion-mnist.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    expect("model", False, "is damaged: SafetensorError", "git checkout")


def test_checkpoint_that_is_something_else(data):
    (data / "checkpoints/fashion-mnist.safetensors").write_text("<html>not found</html>" * 100)
    expect("model", False, "is damaged")


def test_full_disk(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12 - 10**8, 10**8))
    expect("disk", False, "0.1 GB free in ", "free at least 1 GB")
    expect("temporary", False, "0.1 GB free in ", "TMPDIR")


def test_runs_that_cannot_be_written(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    expect("runs", True)
    assert not (tmp_path / "runs").exists(), "looking changes nothing"

    def read_only(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", read_only)  # root may write anywhere: no chmod here
    expect("runs", False, f"nothing can be written to {tmp_path / 'runs'}", "--out")


def test_it_looks_for_data_where_the_package_does(data, monkeypatch):
    """It knows the folder by itself, because the package needs torch to import."""
    assert doctor._data_root() == data_root() == data
    monkeypatch.delenv("DIT_COURSE_DATA")
    assert doctor._data_root() == data_root() == ROOT / "data"
    assert dit_course.data.PACKED == doctor.PACKED


def test_in_a_wheel_its_advice_needs_no_repository(tmp_path, monkeypatch):
    monkeypatch.delenv("DIT_COURSE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "PACKED", tmp_path / "_data")
    monkeypatch.setattr(sys, "version_info", (3, 10, 9))
    write_checkpoint(tmp_path / "_data")
    expect("model", True)
    expect("data", None, mend="downloads 30 MB")
    for name in doctor.FASHION_MNIST:
        file = tmp_path / "cache/dit_course/FashionMNIST/raw" / name.removesuffix(".gz")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    expect("data", True)
    (tmp_path / "_data/checkpoints/fashion-mnist.json").unlink()
    monkeypatch.setitem(sys.modules, "torch", None)
    advice = [doctor.examine_one(name, check).mend for name, check in doctor.CHECKS.items()]
    assert sum("pip install --force-reinstall WHEEL" in line for line in advice) == 2  # torch and model
    assert not [line for line in advice if "make" in line or "git" in line or "requirements" in line]
