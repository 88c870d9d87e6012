"""Looks at this machine and says what works, what does not, and how to mend it: `python -m dit_course doctor`.

Nothing is imported here that may be missing: each check imports what it looks at, and whatever goes wrong becomes a
finding. Where not even the package can be imported, `python dit_course/setup/doctor.py` still runs.
"""

import hashlib
import importlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[2]
PACKED = REPOSITORY / "dit_course/_data"  # only in a wheel: then there is no repository, and no `make`
PYTHONS = ((3, 11), (3, 15))  # from, and the first that is too new; as in pyproject.toml
ENOUGH_DISK = 10**9


def again() -> str:
    """How to install everything anew, in the way in which it was installed."""
    if PACKED.is_dir():
        return "python -m pip install --force-reinstall WHEEL  (the file that you installed the course from)"
    return "make clean setup  (without make: python -m pip install --force-reinstall -r requirements.txt)"


FASHION_MNIST = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    ok: True works, False must be mended, None is worth knowing. found: what is there. mend: what to do about it.
    """

    name: str
    ok: bool | None
    found: str
    mend: str = ""


Result = tuple[bool | None, str, str]  # a finding without its name


class NotChecked(Exception):
    """A check that says nothing, because what it needs failed in an earlier one."""


def examine() -> list[Finding]:
    """Run all checks, in an order in which the first problem is the one to mend first. Never raises."""
    return [examine_one(name, check) for name, check in CHECKS.items()]


def report(findings: Sequence[Finding]) -> int:
    """Print a line for each finding and how to mend it. Returns the exit status: 1 when something must be mended."""
    words = {True: "ok", None: "note", False: "PROBLEM"}
    width = max((len(finding.name) for finding in findings), default=0)
    for finding in findings:
        print(f"{words[finding.ok]:<8} {finding.name:<{width}}  {finding.found}")
        print(f"{'':<8} {'':<{width}}  -> {finding.mend}\n" * bool(finding.mend), end="")
    problems = sum(finding.ok is False for finding in findings)
    print()
    if problems:
        print(f"{problems} problem{'s' * (problems > 1)}. Mend the first one first, then run the doctor again.")
    else:
        print("This machine is ready for the course.")
    return int(problems > 0)


def examine_one(name: str, check: Callable[[], Result]) -> Finding:
    """Run one check; whatever it raises becomes a finding."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters in them shows up as a finding
            return Finding(name, *check())
    except NotChecked as reason:
        return Finding(name, None, f"not checked: {reason}")
    except (Exception, SystemExit) as error:  # a broken package may raise anything while it is imported
        return Finding(name, False, _line(error), again())


def _line(error: BaseException) -> str:
    """An exception in one line of bearable length."""
    first, *_ = str(error).strip().splitlines() or [""]
    text = f"{type(error).__name__}: {first}".rstrip(": ")
    return text if len(text) <= 160 else text[:157] + "..."


# -- Python and torch ------------------------------------------------------------------------------


def _python() -> Result:
    oldest, too_new = PYTHONS
    found = f"{platform.python_version()} at {sys.prefix}"
    if not oldest <= sys.version_info[:2] < too_new:
        wanted = f"{oldest[0]}.{oldest[1]} to {too_new[0]}.{too_new[1] - 1}"
        how = "install it there again" if PACKED.is_dir() else "make clean, then make setup PYTHON=python3.12"
        return False, found, f"the course needs Python {wanted}: {how}"
    if sys.maxsize < 2**32:
        return False, f"{found}, 32 bit", "torch needs a 64-bit Python: take one, and install the course there"
    return True, found, ""


def _torch() -> Result:
    try:
        torch = importlib.import_module("torch")
    except ModuleNotFoundError as error:
        return False, _line(error), again()
    except (Exception, SystemExit) as error:
        windows = "install Microsoft's Visual C++ Redistributable; if it is there, " * (os.name == "nt")
        return False, f"installed, but cannot be loaded: {_line(error)}", windows + again()
    return True, torch.__version__, ""


def _loaded_torch() -> ModuleType:
    """Torch for the checks that need it."""
    try:
        return importlib.import_module("torch")
    except (Exception, SystemExit) as error:
        raise NotChecked("it needs torch") from error


def _torchvision() -> Result:
    torch = _loaded_torch()
    try:
        torchvision = importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        return False, _line(error), again()
    except (Exception, SystemExit) as error:
        return False, f"does not match torch {torch.__version__}: {_line(error)}", again()
    found = torchvision.__version__
    try:  # a compiled operator: this is what breaks when the two were built for different versions
        torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
    except Exception as error:
        return False, f"{found} does not match torch {torch.__version__}: {_line(error)}", again()
    return True, f"{found}, matches torch", ""


def _threads() -> Result:
    torch, cores = _loaded_torch(), _cores()
    threads = torch.get_num_threads()
    found = f"{threads} of torch, {cores} core{'s' * (cores != 1)} to run on"
    if threads > cores:
        return None, found, f"more threads than cores wait for each other: set OMP_NUM_THREADS={cores}"
    if threads < cores and os.environ.get("OMP_NUM_THREADS"):
        return None, found, "OMP_NUM_THREADS holds torch back: unset it, then start again"
    if os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        # read once, by the OpenMP library that torch loads
        return None, found, "waiting threads keep cores busy: set OMP_WAIT_POLICY=PASSIVE"
    return True, f"{found}, idle ones sleep", ""


def _cores() -> int:
    """The cores that this process may use: not all of the machine's in a container or under taskset."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no Linux container, or "max": no limit
        return cores


def _device() -> Result:
    torch = _loaded_torch()
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        try:
            torch.ones(2, device="cuda").sum().item()
        except Exception as error:
            return False, f"{name} fails: {_line(error)}", "update the driver, or hide the card: CUDA_VISIBLE_DEVICES= "
        return True, f"cuda: {name}", ""
    if torch.backends.mps.is_available():
        return True, "mps: the GPU of this Mac", ""
    if shutil.which("nvidia-smi") and torch.version.cuda:
        return None, "CPU; torch cannot use the NVIDIA card", f"update its driver to one for CUDA {torch.version.cuda}"
    return True, "CPU, enough for every lesson", ""


def _compiler() -> Result:
    names = [os.environ.get("CXX"), *(("cl",) if os.name == "nt" else ("g++", "clang++"))]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found:
        return True, found, ""
    how = {"win32": "install Visual Studio's Build Tools", "darwin": "xcode-select --install"}
    mend = how.get(sys.platform, "sudo apt install g++, or your system's equivalent")
    return None, "none; only torch.compile needs one", f"if you want to compile models: {mend}"


# -- what the notebooks use ------------------------------------------------------------------------


def _video() -> Result:
    ffmpeg = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    importlib.import_module("moviepy")
    run = subprocess.run([ffmpeg, "-version"], capture_output=True, text=True, timeout=60, errors="replace")
    if run.returncode:
        return False, f"{ffmpeg} ends with status {run.returncode}", again()
    return True, " ".join(run.stdout.split()[:3]), ""


def _jupyterlab() -> Result:
    version = importlib.import_module("jupyterlab").__version__
    kernels = importlib.import_module("jupyter_client.kernelspec").KernelSpecManager()
    command = kernels.get_kernel_spec("python3").argv[0]
    # A kernel "python3" that another Python left in the home folder takes the notebooks away from this one.
    if Path(command).is_absolute() and Path(command).parent != Path(sys.executable).parent:
        mend = "jupyter kernelspec remove python3, then python -m ipykernel install --sys-prefix"
        return False, f"{version}, but its notebooks run in {command}", mend
    return True, version, ""


def _widgets() -> Result:
    versions = [f"{name} {importlib.import_module(name).__version__}" for name in ("ipywidgets", "anywidget")]
    folders = [Path(sys.prefix, "share/jupyter/labextensions")]
    folders += map(Path, importlib.import_module("jupyter_core.paths").jupyter_path("labextensions"))
    for extension in ("@jupyter-widgets/jupyterlab-manager", "anywidget"):
        if not any((folder / extension / "package.json").is_file() for folder in folders):
            return False, f"JupyterLab's extension {extension} is not installed: sliders stay text", again()
    return True, ", ".join(versions), ""


# -- files -----------------------------------------------------------------------------------------


def _data_root() -> Path:
    """As `dit_course.data.data_root`, which needs torch."""
    return Path(os.environ.get("DIT_COURSE_DATA") or (PACKED if PACKED.is_dir() else REPOSITORY / "data"))


def _restore() -> str:
    elsewhere = "point DIT_COURSE_DATA at the right folder, or unset it, or: "
    how = again() if PACKED.is_dir() else "git checkout -- data  (or fetch the course again)"
    return elsewhere * bool(os.environ.get("DIT_COURSE_DATA")) + how


def _data() -> Result:
    if _data_root() == PACKED:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dit_course/FashionMNIST/raw"
        if all((cache / name.removesuffix(".gz")).is_file() for name in FASHION_MNIST):
            return True, f"Fashion-MNIST in {cache}", ""
        later = "its first use downloads 30 MB; offline, point DIT_COURSE_DATA at data/ of the course's repository"
        return None, f"Fashion-MNIST is no part of the package, and not in {cache}", later
    folder = _data_root() / "FashionMNIST/raw"
    for name, digest in FASHION_MNIST.items():
        file = folder / name
        if not file.is_file():
            return False, f"{file} is missing", _restore()
        if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            return False, f"{file} is damaged ({file.stat().st_size} bytes)", _restore()
    return True, f"Fashion-MNIST complete in {folder}", ""


def _model() -> Result:
    safetensors = importlib.import_module("safetensors")
    file = _data_root() / "checkpoints/fashion-mnist.safetensors"
    for part in (file, file.with_suffix(".json")):
        if not part.is_file():
            return False, f"{part} is missing", _restore()
    try:  # reads the header, and compares it with the length of the file
        with safetensors.safe_open(file, framework="numpy") as tensors:
            count = len(tensors.keys())
    except safetensors.SafetensorError as error:
        return False, f"{file} is damaged: {_line(error)}", _restore()
    return True, f"fashion-mnist, {count} tensors, {file.stat().st_size / 1e6:.1f} MB", ""


def _disk() -> Result:
    folder = Path.cwd() if PACKED.is_dir() else REPOSITORY
    return _space(folder, "free at least 1 GB; old folders in runs/ and wandb/ are good places to look")


def _temporary() -> Result:
    return _space(Path(tempfile.gettempdir()), "free at least 1 GB there, or set TMPDIR to a folder with room")


def _space(folder: Path, mend: str) -> Result:
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:.1f} GB free in {folder}"
    return (True, found, "") if free >= ENOUGH_DISK else (False, found, mend)


def _runs() -> Result:
    runs = Path("runs").resolve()
    folder = next(path for path in (runs, *runs.parents) if path.exists())  # where it would be made
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        mend = "start from a folder that you may write to, or choose another with --out"
        return False, f"nothing can be written to {runs}: {_line(error)}", mend
    return True, f"{runs} is writable", ""


CHECKS: dict[str, Callable[[], Result]] = {
    "Python": _python, "torch": _torch, "torchvision": _torchvision, "threads": _threads, "device": _device,
    "compiler": _compiler, "video": _video, "JupyterLab": _jupyterlab, "widgets": _widgets, "data": _data,
    "model": _model, "disk": _disk, "temporary": _temporary, "runs": _runs,
}  # fmt: skip

if __name__ == "__main__":
    sys.path[0] = str(REPOSITORY)  # the package's own folder would hide modules with the names of its rooms
    sys.exit(report(examine()))
