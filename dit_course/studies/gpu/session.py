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
    for old in (cifar10, gate, out / "quiet", out / "colour-steps.txt", *out.glob("*.claim")):
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
        warm = [] if args.dry else [
            ("a", "(a) RMSNorm written out, compiled"), ("b", "(b) RMSNorm by F.rms_norm, compiled"),
        ]  # fmt: skip
        ahead = [
            threading.Thread(target=run, args=(
                Part(f"norms-{key}", "norms", [*shared, "--only", name], 100, retry=False), out, environment))
            for key, name in warm
        ]  # fmt: skip
        for thread in ahead:
            thread.start()
        wait = ["--wait-for", ",".join(f"norms-compiled-{key}" for key, _ in warm)] if warm else []
        run(Part("norms", "norms", shared + wait, 125 if not args.dry else end, retry=False), out, environment)
        gate.touch()
        say("the gate is open")

    last, open_at = end - 27, 85  # when the lanes must end, and about when they begin
    trained = {"fashion-mnist": 0.21 * end, "judge": 0.27 * end, "cifar10": 0.5 * end}
    each = (2 * (last - open_at) - trained["fashion-mnist"] - trained["judge"] - 100) / 6 - 25  # of the colour runs
    colour = ["--judge", str(judge), "--minutes", str(each / 60)]
    fashion = ["--teacher", "fashion-mnist", "--data", "fashion-mnist", "--seconds", str(trained["fashion-mnist"])]
    cifar = [
        "--teacher", str(args.colour_teacher), "--data", "cifar10", "--judge", str(judge),
        "--seconds", str(trained["cifar10"]), "--batch", "256", "--pool", "32768", "--first", "4096",
        "--path-steps", "16", "--steps-per-chunk", "120", "--samples", "2000",
    ]  # fmt: skip
    lanes = [
        [Part("students-fashion-mnist", "students", gated + fashion, last), Part("colour-a", "colour", shared, last)],
        [Part("judge", "judge", [*gated, "--seconds", str(trained["judge"])], 0.6 * end),
         Part("colour-b", "colour", shared, last)],
        [Part("students-cifar10", "students", gated + cifar, last)],
    ]  # fmt: skip

    def lane(parts: list[Part]) -> None:
        if parts[0].name == "students-cifar10":
            arrived()
        for part in parts:
            if part.module == "colour":
                part.options = [*shared, *colour, "--deadline", str(max(1.0, last - now() - 12))]
            run(part, out, environment | mps)

    threads = [threading.Thread(target=decode), threading.Thread(target=norms)]
    for thread in threads:
        thread.start()
    mps = start_mps(environment)
    threads += [threading.Thread(target=lane, args=(parts,)) for parts in lanes]
    for thread in threads[2:]:
        thread.start()
    quiet = out / "quiet"
    speed = Part(
        "colour-speed",
        "colour",
        [*shared, "--speed", "0.1" if args.dry else "4", "--gate", str(quiet)],
        end,
        retry=False,
    )
    timed = threading.Thread(target=run, args=(speed, out, environment))
    while not args.dry and now() < last - 30 and any(thread.is_alive() for thread in threads):
        time.sleep(0.5)
    timed.start()  # compiles, and waits until the others are done
    for thread in threads:
        thread.join()
    quiet.touch()
    timed.join()
    (out / "session-done").touch()
    say("all done")


if __name__ == "__main__":
    main()
