"""All parts of the session, side by side where that uses the GPU better: `python -m dit_course.studies.gpu.session`.

Each part is a process of its own with a time limit, so that one that fails takes nothing with it; one that fails early
is tried again without compiling. What is timed is timed alone: first the norms, while the others compile and wait for
the gate; last the networks of `colour`. In between three lanes share the GPU, by CUDA MPS where that starts.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

START = time.monotonic()


@dataclass
class Part:
    """A process: python -m dit_course.studies.gpu.MODULE OPTIONS; until: seconds after the start when it is ended."""

    name: str
    module: str
    options: list[str]
    until: float
    retry: bool = True


def now() -> float:
    """Seconds since the session started."""
    return time.monotonic() - START


def say(text: str) -> None:
    """A line of the session's log."""
    print(f"[{now():5.0f} s] {text}", flush=True)


def run(part: Part, out: Path, environment: dict[str, str]) -> int:
    """Run one part to its end or its limit; its log goes to OUT/logs."""
    for options in ([], ["--eager"]) if part.retry else ([],):
        begun = now()
        if begun > part.until - 5:
            say(f"{part.name}: no time left")
            return 1
        command = [sys.executable, "-u", "-m", f"dit_course.studies.gpu.{part.module}", *part.options, *options]
        with (out / "logs" / f"{part.name}.txt").open("a") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
            try:
                code = process.wait(part.until - begun)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = 124
        say(f"{part.name}: {'done' if code == 0 else f'ended with {code}'} after {now() - begun:.0f} s")
        if code in (0, 124) or now() - begun > 200:
            return code
    return code


def start_mps(environment: dict[str, str]) -> dict[str, str]:
    """What a process needs to share the GPU through CUDA MPS; nothing where it does not start."""
    if shutil.which("nvidia-cuda-mps-control") is None:
        say("no MPS here: processes take turns")
        return {}
    shared = {"CUDA_MPS_PIPE_DIRECTORY": "/tmp/mps-pipe", "CUDA_MPS_LOG_DIRECTORY": "/tmp/mps-log"}
    for folder in shared.values():
        Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["nvidia-cuda-mps-control", "-d"], env=environment | shared, check=True, timeout=10)
        test = "import torch; x = torch.ones(64, 64, device='cuda'); assert (x @ x).sum().item() == 64**3"
        subprocess.run([sys.executable, "-c", test], env=environment | shared, check=True, timeout=40)
    except (OSError, subprocess.SubprocessError) as error:
        say(f"MPS does not work here ({error}): processes take turns")
        return {}
    say("MPS works")
    return shared


def main() -> None:
    """Prepare, measure alone, run the lanes, measure alone."""
    parser = argparse.ArgumentParser("session")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--archives", type=Path, required=True, help="folder of train.tar.xz and test.tar.xz")
    parser.add_argument("--colour-teacher", type=Path, required=True, help="the .safetensors of the colour model")
    parser.add_argument("--arrived", type=Path, help="wait for this file before using archives and colour teacher")
    parser.add_argument("--work", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--seconds", type=float, default=590.0, help="the whole session")
    parser.add_argument("--dry", action="store_true")
    args = parser.parse_args()
    out, end = args.out.resolve(), args.seconds
    (out / "logs").mkdir(parents=True, exist_ok=True)
    cifar10, gate, judge = args.work / "cifar10.pt", out / "gate", out / "cifar10"
    for old in (cifar10, gate, out / "norms-ready", out / "norms-done", out / "colour-steps.txt"):
        old.unlink(missing_ok=True)
    environment = os.environ | {
        "TORCHINDUCTOR_CACHE_DIR": str(args.work / "inductor"), "TORCHINDUCTOR_COMPILE_THREADS": "4",
        "OMP_NUM_THREADS": "2",
    }  # fmt: skip
    dry = ["--dry"] if args.dry else []
    shared = ["--out", str(out), "--cifar10", str(cifar10), *dry]
    gated = [*shared, "--gate", str(gate)]

    def arrived() -> None:
        while args.arrived and not args.arrived.exists():
            time.sleep(0.2)

    def decode() -> None:
        arrived()
        say("the data is here")
        options = ["--folder", str(args.archives), "--out", str(cifar10), "--processes", "2" if args.dry else "10"]
        options += ["--limit", "400"] if args.dry else []
        run(Part("cifar10", "cifar10", options, end, retry=False), out, environment)

    def norms() -> None:
        compiled = ("(a) RMSNorm written out, compiled", "(b) RMSNorm by F.rms_norm, compiled")
        ahead = [] if args.dry else compiled
        warm = [
            threading.Thread(target=run, args=(
                Part(f"norms-{i}", "norms", [*shared, "--only", name], 100, retry=False), out, environment))
            for i, name in enumerate(ahead)
        ]  # fmt: skip
        for thread in warm:
            thread.start()
        for thread in warm:
            thread.join()
        run(Part("norms", "norms", shared, 135 if not args.dry else end, retry=False), out, environment)
        gate.touch()
        say("the gate is open")

    colour = ["--judge", str(judge), "--minutes", str((0.62 * end - 60) / 3 / 60 * 0.65)]
    fashion = ["--teacher", "fashion-mnist", "--data", "fashion-mnist", "--seconds", str(0.22 * end)]
    cifar = [
        "--teacher", str(args.colour_teacher), "--data", "cifar10", "--judge", str(judge), "--seconds", str(0.5 * end),
        "--batch", "256", "--pool", "32768", "--first", "4096", "--path-steps", "16", "--steps-per-chunk", "120",
        "--samples", "2000",
    ]  # fmt: skip
    last = end - 50
    lanes = [
        [Part("students-fashion-mnist", "students", gated + fashion, last),
         Part("colour-seed-0", "colour", [*shared, *colour, "--seed", "0"], last)],
        [Part("judge", "judge", [*shared, "--seconds", str(0.25 * end)], 0.5 * end),
         Part("colour-seed-1", "colour", [*shared, *colour, "--seed", "1"], last)],
        [Part("students-cifar10", "students", gated + cifar, last)],
    ]  # fmt: skip

    def lane(parts: list[Part]) -> None:
        if parts[0].name == "students-cifar10":
            arrived()
        for part in parts:
            run(part, out, environment | mps)

    threads = [threading.Thread(target=decode), threading.Thread(target=norms)]
    for thread in threads:
        thread.start()
    mps = start_mps(environment)
    threads += [threading.Thread(target=lane, args=(parts,)) for parts in lanes]
    for thread in threads[2:]:
        thread.start()
    for thread in threads:
        thread.join()
    speed = [*shared, "--speed", "0.1" if args.dry else "5"]
    run(Part("colour-speed", "colour", speed, end, retry=False), out, environment)
    (out / "session-done").touch()
    say("all done")


if __name__ == "__main__":
    main()
