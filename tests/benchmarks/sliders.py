"""How long from the move of a slider to a picture on the screen? `make bench-sliders` prints the table.

A real JupyterLab, a real browser, a real kernel, all on this machine. The moves are made inside of the page, so that
the driver costs nothing, and a picture counts when the browser has presented the frame that holds it. A key that cannot
move a slider any further, at its end, is followed by the opposite one: no move is waited for that was none.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from labdrive import browser_page, lab_server, missing, open_notebook, run_all, shut_down, write_notebook

WATCH = """
window.__seen = [];
const presented = (detail) => requestAnimationFrame(() => { const channel = new MessageChannel();
  channel.port1.onmessage = () => window.__seen.push({ at: performance.now(), ...detail });
  channel.port2.postMessage(0); });
document.addEventListener('painted', (e) => presented({ rough: e.detail.rough }));
document.addEventListener('DOMContentLoaded', () => new MutationObserver((changes) => { for (const change of changes) {
  const found = change.type === 'attributes' && change.target.tagName === 'IMG' ? [change.target] : [];
  for (const node of change.addedNodes) if (node.querySelectorAll)
    found.push(...(node.tagName === 'IMG' ? [node] : node.querySelectorAll('img')));
  for (const image of found) if (image.src.startsWith('data:image/png') || image.src.startsWith('blob:'))
    image.decode().then(() => presented({ rough: false })).catch(() => {});
} }).observe(document.documentElement, { subtree: true, childList: true, attributes: true, attributeFilter: ['src'] }));
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const control = (name) => { const label = [...document.querySelectorAll('.jp-OutputArea .widget-label')]
    .find((label) => label.textContent === name);
  return label.closest('.widget-inline-hbox').querySelector('select, .noUi-handle'); };
const turned = { ArrowRight: 'ArrowLeft', ArrowLeft: 'ArrowRight', PageUp: 'PageDown', PageDown: 'PageUp' };
const press = (handle, key) => { const before = handle.parentElement.style.transform;
  handle.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
  return handle.parentElement.style.transform !== before; };
const move = (handle, key) => { if (handle.tagName === 'SELECT') {
    handle.selectedIndex = (handle.selectedIndex + 1) % handle.options.length;
    handle.dispatchEvent(new Event('change', { bubbles: true }));
  } else if (!press(handle, key) && !press(handle, turned[key])) throw new Error('the slider cannot be moved'); };
const until = async (test, ms) => { const end = performance.now() + ms;
  while (!test() && performance.now() < end) await sleep(2); return test(); };
window.__moves = async (name, keys, pause, patience) => { const found = [];
  for (const key of keys) { window.__seen.length = 0; const start = performance.now();
    move(control(name), key);
    const came = await until(() => window.__seen.length, patience);
    const full = await until(() => window.__seen.some((seen) => !seen.rough), patience);
    found.push({ first: came ? window.__seen[0].at - start : null, rough: came ? window.__seen[0].rough : null,
      full: full ? window.__seen.find((seen) => !seen.rough).at - start : null });
    await sleep(pause * (0.8 + 0.4 * Math.random())); }
  return found; };
window.__drag = async (name, keys) => { window.__seen.length = 0; const start = performance.now();
  for (const key of keys) { move(control(name), key); await sleep(33); }
  const end = performance.now(); await until(() => window.__seen.some((s) => !s.rough && s.at > end), 4000);
  const during = window.__seen.filter((s) => s.at <= end + 100).length;
  return { fps: (1000 * during) / (end + 100 - start), per_second: (1000 * keys.length) / (end - start),
    last: window.__seen.length ? window.__seen.at(-1).at - end : null,
    readout: control(name).closest('.widget-inline-hbox').querySelector('.widget-readout')?.textContent }; };
"""

SETUP = """import torch
from dit_course import Sampler, explore, load_dataset, load_pretrained, show
model = load_pretrained("fashion-mnist")
images, labels = load_dataset("fashion-mnist", split="test")"""

INTERACT = """%matplotlib inline
import matplotlib.pyplot as plt
from ipywidgets import interact
def draw(guidance=2.5, seed=2):
    pictures = Sampler(model, steps=8, solver="ab2", cfg=guidance).sample(10, seed=seed)
    figure, all_axes = plt.subplots(2, 5, figsize=(8, 3.5))
    for picture, axes, name in zip(pictures, all_axes.flat, model.class_names):
        axes.imshow(picture[0], cmap="gray", vmin=0, vmax=1)
        axes.set_title(name, fontsize=9)
        axes.axis("off")
    plt.show()
interact(draw, guidance=(0.0, 8.0, 0.5), seed=(0, 99));"""

RIGHT, FAR = ["ArrowRight"], ["PageUp"]
GUIDED = [
    ("guidance", ["ArrowRight", "ArrowRight", "ArrowLeft"] * 6, 700),
    ("guidance", (["PageUp", "PageUp", "PageDown", "PageDown", "ArrowRight"]) * 4, 100),
    ("seed", ["ArrowRight"] * 16, 700),
    ("seed", ["PageUp"] * 15, 100),
    ("class", ["next"] * 10, 700),
]
TO_AND_FRO = (["ArrowRight"] * 10 + ["ArrowLeft"] * 10) * 2
# what is opened; then (control, keys, pause in ms after each answer) for each line of the table
CASES = {
    "guidance": (
        "explore.guidance(model, seed=2)",
        [*GUIDED, ("steps", ["ArrowRight"] * 8, 400)],
    ),
    "guidance, student": (
        'explore.guidance(load_pretrained("fashion-mnist-few-steps"), seed=2)',
        [*GUIDED, ("evaluations", ["ArrowRight"] * 8, 400)],
    ),
    "trajectory": (
        'explore.trajectory(model, ["sneaker", "bag", "coat", "dress"], seed=2, steps=24)',
        [("step", ["ArrowRight"] * 20, 80)],
    ),
    "patches": ("explore.patches(images[0])", [("patch size", ["ArrowLeft", "ArrowRight"] * 8, 150)]),
    "positions": (
        "explore.positions(model)",
        [("patch", ["ArrowRight"] * 20, 80), ("feature", ["ArrowRight"] * 20, 80)],
    ),
    "attention": (
        "explore.attention(model, image=images[46], label=int(labels[46]), block=3)",
        [("patch", ["ArrowRight"] * 20, 80), ("time t", ["ArrowLeft"] * 8, 150)],
    ),
    "registers": (
        'explore.registers(model, "ankle boot", block=3, t=0.5)',
        [("block", ["ArrowLeft", "ArrowRight", "ArrowRight"] * 5, 100), ("time", ["ArrowRight"] * 8, 100)],
    ),
    "time_embedding": ("explore.time_embedding(t=0.3)", [("t", ["ArrowRight"] * 20, 80)]),
    "noising": (
        "explore.noising(images[:1], t=0.3, model=model, label=9)",
        [("t", ["ArrowRight"] * 20, 80)],
    ),
    "noising, no model": ("explore.noising(images[:1], t=0.3)", [("t", ["ArrowRight"] * 20, 80)]),
    "timesteps": ("explore.timesteps()", [("mean", ["ArrowRight"] * 16, 80)]),
    "ema": (
        "from torch.nn.utils import parameters_to_vector\n"
        "start = parameters_to_vector(model.parameters()).detach()\n"
        "steps = start + 0.002 * torch.randn(30, 1).cumsum(0) * torch.randn(30, len(start))\n"
        "explore.ema(model, steps, decay=0.9)",
        [("decay", ["ArrowLeft", "ArrowRight", "ArrowRight"] * 5, 300)],
    ),
    "interact + matplotlib": (INTERACT, [("guidance", ["ArrowRight"] * 6, 100), ("seed", ["ArrowRight"] * 8, 100)]),
}


def share(numbers: list[float], part: float) -> float | None:
    """The number below which this part of all numbers lies; None where there are none."""
    ordered = sorted(numbers)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else None


def measure(page, server, root, name, cell, moves) -> list[dict]:
    """Open one explorer and move its sliders."""
    write_notebook(root / "bench.ipynb", SETUP, cell)
    open_notebook(page, server, "bench.ipynb")
    if wrong := run_all(page, timeout=180):
        raise RuntimeError(f"{name}: {wrong}")
    page.wait_for_selector(".jp-OutputArea .noUi-handle", timeout=20_000)
    page.wait_for_timeout(2500)
    lines = []
    for control, keys, pause in moves:
        page.evaluate("([n, k, p, w]) => __moves(n, k, p, w)", [control, keys[:1], pause, 6000])  # the first warms up
        found = page.evaluate("([n, k, p, w]) => __moves(n, k, p, w)", [control, keys[1:], pause, 6000])
        drag = None if keys[0] == "next" else page.evaluate("([n, k]) => __drag(n, k)", [control, TO_AND_FRO])
        first = [one["first"] for one in found if one["first"] is not None]
        full = [one["full"] for one in found if one["full"] is not None]
        lines.append(
            {
                "explorer": name,
                "move": f"{control} ({keys[0]})",
                "events": len(found),
                "lost": len(found) - len(first),
                "median": share(first, 0.5),
                "p95": share(first, 0.95),
                "rough": sum(bool(one["rough"]) for one in found),
                "full": share(full, 0.5),
                "full_p95": share(full, 0.95),
                "drag": drag,
            }
        )
        show(lines[-1])
    shut_down(page)
    return lines


def show(line: dict) -> None:
    """One line of the table."""
    drag = line["drag"] or {"fps": None, "per_second": None, "last": None}
    names = ("median", "p95", "full", "full_p95")
    numbers = [*(line[name] for name in names), drag["fps"], drag["per_second"], drag["last"]]
    cells = [f"{'-' if number is None else f'{number:.0f}':>5}" for number in numbers]
    lost = f" {line['lost']} without an answer" if line["lost"] else ""
    print(f"| {line['explorer']:21} | {line['move']:24} | {line['events']:3} | {' | '.join(cells)} |{lost}", flush=True)


def main() -> None:
    """Measure all explorers, or those named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CASES)}")
    parser.add_argument("--json", type=Path, help="write all numbers here, too")
    parser.add_argument("--keep-nagle", action="store_true", help="measure without the TCP_NODELAY extension")
    options = parser.parse_args()
    if problem := missing():
        sys.exit(f"no browser to measure with: {problem}")
    extra = ["--ServerApp.jpserver_extensions={'dit_course.setup.nodelay': %s}" % (not options.keep_nagle)]
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    print(f"{os.cpu_count()} processors, load before {load}; times in ms from the event to the frame on screen\n")
    titles = " | ".join(f"{title:5}" for title in ("first", "p95", "full", "p95", "fps", "moves", "last"))
    print(f"| {'explorer':21} | {'slider (key)':24} |  n  | {titles} |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    lines = []
    with tempfile.TemporaryDirectory() as folder, lab_server(folder, extra=extra) as server:
        for name in options.names or CASES:
            with browser_page(WATCH) as page:
                lines += measure(page, server, Path(folder), name, *CASES[name])
    print("\nfirst: until something is painted; full: until it is in full quality; fps: pictures a second while")
    print("40 moves are made with 33 ms between them; moves: these a second, as far as the page itself has managed;")
    print("last: from the last of them to the last picture.")
    if options.json:
        options.json.write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()
