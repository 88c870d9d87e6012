"""How fast are the live pictures of the site? `python tests/benchmarks/live.py build/site` prints the tables.

A real browser with a profile on disk opens the front page again and again, its cache filled by a first visit. Then
sliders are moved inside of the page, and a picture counts when the browser has presented the frame that holds it.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from labdrive import CHROME, chromium, missing, served
from sliders import share

WATCH = """
window.seen = [];
addEventListener('painted', ({ detail: { rough } }) => requestAnimationFrame(() => {
  const channel = new MessageChannel();
  channel.port1.onmessage = () => seen.push({ at: performance.now(), rough });
  channel.port2.postMessage(0); }));
const until = async (test) => { while (!test()) await new Promise((done) => setTimeout(done, 2)); };
window.move = async (name, by, pause) => { seen.length = 0;
  const slider = document.querySelector(`.dit-live [name=${name}]`), begun = performance.now();
  slider.value = Number(slider.value) + by;
  slider.dispatchEvent(new Event('input', { bubbles: true }));
  await until(() => seen.some(({ rough }) => !rough));
  const found = { first: seen[0].at - begun, full: seen.find(({ rough }) => !rough).at - begun };
  await new Promise((done) => setTimeout(done, pause));
  return found; };
"""


def main() -> None:
    """Measure the starts, then the moves for each number of evaluations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path, help="the folder of a built site")
    parser.add_argument("--moves", type=int, default=30, help="for each line of the table")
    options = parser.parse_args()
    if problem := missing():
        sys.exit(f"no browser to measure with: {problem}")
    from playwright.sync_api import sync_playwright

    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    print(f"{os.cpu_count()} processors, load before {load}; times in ms\n")
    with served(options.site) as home, tempfile.TemporaryDirectory() as profile, sync_playwright() as driver:

        def visit(measure):
            context = driver.chromium.launch_persistent_context(profile, executable_path=chromium(), args=CHROME)
            page = context.pages[0]
            page.add_init_script(WATCH)
            page.goto(home)
            page.wait_for_function("seen.length", timeout=60_000)
            found = measure(page)
            context.close()
            return found

        visit(lambda page: page.wait_for_timeout(10_000))  # fills the cache
        starts = [visit(lambda page: page.evaluate("seen[0].at")) for _ in range(5)]
        print(f"from opening the page to its first picture, median and slowest of {len(starts)}:", end=" ")
        print(f"{share(starts, 0.5):.0f}, {max(starts):.0f}\n")
        visit(lambda page: moves(page, options.moves))


def moves(page, count: int) -> None:
    """Move sliders to and fro, and print the table."""
    page.wait_for_timeout(5000)
    for _ in range(20):
        page.evaluate("move('cfg', 0.1, 0)")
    print("| slider | evaluations | something new: median | p95 | the picture: median | p95 |")
    print("|---|---:|---:|---:|---:|---:|")
    for evaluations in (1, 2, 4, 8):
        for name, by in (("cfg", 0.3), ("seed", 1)):
            found = [page.evaluate(f"move({name!r}, {by if i % 2 else -by}, 50)") for i in range(count)]
            first, full = ([one[key] for one in found] for key in ("first", "full"))
            numbers = [share(numbers, part) for numbers in (first, full) for part in (0.5, 0.95)]
            print(f"| {name} | {evaluations} |", " | ".join(f"{number:.0f}" for number in numbers), "|", flush=True)
        page.evaluate("move('steps', 1, 50)")


if __name__ == "__main__":
    main()
