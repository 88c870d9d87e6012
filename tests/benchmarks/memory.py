"""How much memory does a kernel hold while sliders are moved? `python tests/benchmarks/memory.py` prints the table.

Each explorer has a real kernel of its own. Its controls are moved all over their range, as if a browser watched (its
worker thread answers, and every answer is sent to the server's side). RSS is what the kernel holds of the machine's
memory, in MB, after so many moves; "trimmed" after glibc was asked at the end to give back what is free (malloc_trim),
and "closed" once the explorer was closed and glibc asked again. What only falls at "trimmed" was free, not leaked.
"""

import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
AFTER = [0, 50, 100, 150, 200, 300]  # moves

MOVES = """
import ctypes, gc, json, random, sys, threading, warnings
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
def trimmed():
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return resident()
def anywhere(control, rng):
    if hasattr(control, "options"):
        values = [option[1] if isinstance(option, tuple) else option for option in control.options]
        return rng.choice(values)
    if isinstance(control.value, bool):
        return not control.value
    if isinstance(control.value, tuple):
        return tuple(sorted(rng.choice([0.0, 0.25, 0.5, 0.75, 1.0]) for _ in range(2)))
    steps = round((control.max - control.min) / control.step)
    return type(control.value)(round(control.min + control.step * rng.randrange(steps + 1), 6))
def move(view, count, rng):
    for _ in range(count):
        control = rng.choice(view.controls)
        control.value = anywhere(control, rng)
        view.wait_idle()
rng, before = random.Random(0), threading.active_count()
view.canvas.acknowledged = 0  # as if a browser watched
found, done = [], 0
for after in AFTER:
    move(view, after - done, rng)
    done = after
    found.append(resident())
found += [trimmed()]
view.close()
del view
found += [trimmed()]
print("FOUND " + json.dumps(found))
"""


def measure(setup: str, cell: str, after: list[int]) -> list[float]:
    """RSS in MB after each of so many moves, trimmed and closed."""
    from jupyter_client.manager import start_new_kernel

    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    manager, client = start_new_kernel(kernel_name="python3", env=env)
    said = []

    def hear(message: dict) -> None:
        if message["msg_type"] == "stream":
            said.append(message["content"]["text"])
        elif message["msg_type"] == "error":
            raise RuntimeError("\n".join(message["content"]["traceback"]))

    try:
        code = "\n".join([setup, *cell.splitlines()[:-1], f"view = {cell.splitlines()[-1]}", f"AFTER = {after}", MOVES])
        client.execute_interactive(code, output_hook=hear, timeout=1200)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return json.loads("".join(said).split("FOUND ")[1].splitlines()[0])


def main() -> None:
    """Measure all explorers, or those named."""
    from sliders import CASES, SETUP

    names = [name for name in CASES if not name.startswith("interact")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(names)}")
    parser.add_argument("--after", nargs="+", type=int, default=AFTER, help="moves, growing")
    options = parser.parse_args()
    print(f"| explorer              | {' | '.join(f'{after:>5}' for after in options.after)} | trimmed | closed |")
    print("|---|" + "---|" * (len(options.after) + 2))
    for name in options.names or names:
        *rss, trimmed, closed = measure(SETUP, CASES[name][0], options.after)
        cells = " | ".join(f"{number:5.0f}" for number in rss)
        print(f"| {name:21} | {cells} | {trimmed:7.0f} | {closed:6.0f} |", flush=True)


if __name__ == "__main__":
    main()
