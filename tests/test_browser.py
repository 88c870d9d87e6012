"""Every explorer in its lesson, in a real JupyterLab and a real browser, moved by keyboard and by mouse.

The lessons are cut down to what their explorer needs, and copied, because JupyterLab saves what it shows. What is
painted is compared, pixel by pixel, with what the same explorer draws here without a browser.
"""

import base64
import os
import time

import nbformat
import numpy as np
import pytest
import torch
from canvas_pixels import decoded, pasted
from labdrive import ROOT, browser_page, lab_server, missing, open_notebook, run_all, shut_down, write_notebook

from dit_course import explore, load_dataset, load_pretrained

PROBLEM = missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(PROBLEM) and not os.environ.get("CI"), reason=f"browser tests: {PROBLEM}"),
]

SAID = "(words) => [...document.querySelectorAll('.jp-OutputArea')].some((area) => area.innerText.includes(words))"
LOADED = "from dit_course import load_pretrained\nmodel = load_pretrained('fashion-mnist')"
KEPT = (  # lesson 07 trains to get these; here they are made up
    "from torch.nn.utils import parameters_to_vector\n"
    "torch.manual_seed(0)\n"
    "start = parameters_to_vector(load_pretrained('fashion-mnist-small').parameters()).detach()\n"
    "snapshots = start + 0.02 * torch.arange(11)[:, None] * torch.randn(len(start)) * start.abs()\n"
    "random_start = snapshots[0]"
)


def averages():
    namespace = {"torch": torch, "load_pretrained": load_pretrained}
    exec(KEPT, namespace)
    return namespace["snapshots"]


def picture(number):
    return load_dataset("fashion-mnist", split="test")[0][number]


# explorer: lesson, the cells of it that are needed (by words in them, or another cell in their place), the same call
CASES = {
    "guidance": (
        "00_start_here",
        ["model = load_pretrained", "explore.guidance("],
        lambda: explore.guidance(load_pretrained("fashion-mnist"), seed=2),
    ),
    "patches": ("01_patches", ["load_dataset(", "boot =", "explore.patches("], lambda: explore.patches(picture(0))),
    "attention": (
        "02_attention",
        ["load_dataset(", LOADED, "explore.attention("],
        lambda: explore.attention(
            load_pretrained("fashion-mnist"), image=picture(46), label=_label(46), t=0.5, block=3
        ),
    ),
    "time_embedding": (
        "03_adaln_blocks",
        ["load_dataset(", "explore.time_embedding("],
        lambda: explore.time_embedding(t=0.3, factor=1),
    ),
    "registers": (
        "04_registers",
        ["load_dataset(", "explore.registers("],
        lambda: explore.registers(load_pretrained("fashion-mnist"), "ankle boot", block=5, t=0.1),
    ),
    "noising": (
        "05_flow_loss",
        ["load_dataset(", "explore.noising("],
        lambda: explore.noising(picture(0), t=0.6, model=load_pretrained("fashion-mnist"), label=9),
    ),
    "timesteps": ("05_flow_loss", ["load_dataset(", "explore.timesteps("], explore.timesteps),
    "ema": (
        "07_ema",
        ["load_dataset(", KEPT, "explore.ema("],
        lambda: explore.ema(
            load_pretrained("fashion-mnist-small"),
            averages(),
            decay=0.95,
            warmup=False,
            labels=["trouser", "pullover", "sandal", "sneaker", "ankle boot"],
        ),
    ),
    "interval": (
        "08_cfg_sampling",
        ["model = load_pretrained", "explore.guidance("],
        lambda: explore.guidance(load_pretrained("fashion-mnist"), cfg=4.0, label="bag", seed=1, interval=(0.0, 1.0)),
    ),
    "trajectory": (
        "08_cfg_sampling",
        ["model = load_pretrained", "explore.trajectory("],
        lambda: explore.trajectory(
            load_pretrained("fashion-mnist"), ["sneaker", "bag", "coat", "dress"], seed=2, steps=24, cfg=1.0
        ),
    ),
}


def _label(number):
    return int(load_dataset("fashion-mnist", split="test")[1][number])


def needed(lesson, wanted, changes=()):
    """The sources of these code cells of a lesson."""
    cells = nbformat.read(ROOT / "notebooks" / f"{lesson}.ipynb", as_version=4).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    chosen = [next((source for source in sources if words in source), words) for words in wanted]
    assert chosen[-1] in sources, f"{lesson} has no {wanted[-1]}"
    for old, new in changes:
        assert any(old in source for source in chosen)
        chosen = [source.replace(old, new) for source in chosen]
    return chosen


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab for all tests, and the folder of its notebooks."""
    assert PROBLEM is None, PROBLEM
    folder = tmp_path_factory.mktemp("lab")
    extension = "--ServerApp.jpserver_extensions={'dit_course.nodelay': True}"  # as the installed package does
    with lab_server(folder, log=folder / "lab.log", extra=[extension]) as server:
        yield server, folder


@pytest.fixture(scope="module")
def page(lab):
    """One browser for all, with all explorers in one notebook, after what their lessons do before them.

    Two pixels of the screen for one of the page, so that every pixel that was sent can be seen.
    """
    server, folder = lab
    cells = [source for lesson, wanted, _ in CASES.values() for source in needed(lesson, wanted)]
    write_notebook(folder / "explorers.ipynb", *cells)
    with browser_page(device_scale_factor=2) as page:
        open_notebook(page, server, "explorers.ipynb")
        assert run_all(page) == []
        page.wait_for_function(f"() => document.querySelectorAll('.dit-canvas[data-frame]').length === {len(CASES)}")
        yield page


@pytest.fixture(autouse=True)
def _nothing_wrong(page):
    """No test leaves a page error, or asks for anything from outside of this machine."""
    page.errors.clear()
    yield
    assert page.errors == []
    assert page.outside == []


def box_of(page, name):
    """The output that holds an explorer, in sight."""
    box = page.locator(".jp-OutputArea", has=page.locator(".dit-canvas")).nth(list(CASES).index(name))
    box.locator(".dit-canvas").scroll_into_view_if_needed()
    return box


def settled(box):
    """Wait until the picture is in full quality and stays."""
    box.page.wait_for_timeout(150)
    box.locator(".dit-canvas").evaluate(
        """async (canvas) => { let last = '', since = Date.now(), end = Date.now() + 30000;
        while (Date.now() - since < 300 && Date.now() < end) {
          const now = `${canvas.dataset.frame} ${canvas.dataset.moment} ${canvas.dataset.rough}`;
          if (now !== last || canvas.dataset.rough !== 'false') { last = now; since = Date.now(); }
          await new Promise((done) => setTimeout(done, 20)); } }"""
    )


def painted(box):
    """The pixels on the canvas: (height, width, 3)."""
    url = box.locator(".dit-canvas").evaluate("(canvas) => canvas.toDataURL()")
    return decoded(base64.b64decode(url.split(",")[1]))


def alike(a, b):
    """Nearly the same picture: another number of threads rounds otherwise."""
    return a.shape == b.shape and float((np.abs(a.astype(int) - b) > 6).mean()) < 0.002


def control(box, name):
    """The handle of a slider, or a menu."""
    line = box.locator(".widget-inline-hbox", has=box.page.get_by_text(name, exact=True))
    return line.locator(".noUi-handle, select").first


def value_of(box, widget):
    """What a control in the browser stands at, in the terms of the widget."""
    handle = control(box, widget.description)
    if handle.evaluate("e => e.tagName") == "SELECT":
        return widget.options[int(handle.evaluate("e => e.selectedIndex"))][1]
    if hasattr(widget, "options"):
        option = widget.options[round(float(handle.get_attribute("aria-valuenow")))]
        return option[1] if isinstance(option, tuple) else option
    line = handle.locator("xpath=ancestor::*[contains(@class, 'widget-inline-hbox')]")
    readout = line.locator(".widget-readout").inner_text(timeout=5000)
    return type(widget.value)(readout.replace("−", "-"))


def compare(box, here, widget):
    """What is painted is what the explorer here draws for the same place of a control; returns the pixels."""
    settled(box)
    widget.value = value_of(box, widget)
    canvas = box.locator(".dit-canvas")
    expected, end = here.canvas.alt[here.canvas.moment], time.monotonic() + 20
    while canvas.get_attribute("aria-label") != expected and time.monotonic() < end:
        settled(box)
    assert canvas.get_attribute("aria-label") == expected
    assert canvas.get_attribute("role") == "img"
    pixels = painted(box)
    assert alike(pixels, pasted(here.canvas)), f"it is not the picture for {widget.description} {widget.value}"
    return pixels


@pytest.mark.parametrize("name", CASES)
def test_an_explorer_in_its_lesson(name, page):
    box, here = box_of(page, name), CASES[name][2]()
    slider = next(widget for widget in here.controls if hasattr(widget, "max") or hasattr(widget, "index"))
    first = compare(box, here, slider)
    handle = control(box, slider.description)
    handle.focus()
    page.keyboard.press("ArrowRight" if slider.value != getattr(slider, "max", None) else "ArrowLeft")
    second = compare(box, here, slider)
    assert not np.array_equal(first, second), "the keyboard changed nothing"
    track = handle.locator("xpath=ancestor::*[contains(@class, 'noUi-target')]").bounding_box()
    page.mouse.click(track["x"] + 0.2 * track["width"], track["y"] + track["height"] / 2)
    third = compare(box, here, slider)
    assert not np.array_equal(second, third), "the mouse changed nothing"
    for handle in box.locator(".noUi-handle, select").all():
        assert handle.get_attribute("aria-label")
    here.close()


def test_play_runs_through_the_film(page):
    box = box_of(page, "trajectory")
    box.locator(".jupyter-widgets.widget-play button").first.click()
    page.wait_for_function("() => document.querySelector('.dit-canvas[data-moment=\"24\"]')", timeout=30_000)


def test_a_menu_is_moved_by_keys_and_a_drag_ends_on_the_last_value(page):
    box, here = box_of(page, "guidance"), CASES["guidance"][2]()
    here.cfg.value = value_of(box, here.cfg)
    control(box, "class").focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    compare(box, here, here.label)
    assert here.label.label == "pullover"
    handle = control(box, "guidance")
    place = handle.bounding_box()
    middle = place["y"] + place["height"] / 2
    page.mouse.move(place["x"] + place["width"] / 2, middle)
    page.mouse.down()
    for step in range(1, 31):
        page.mouse.move(place["x"] + 3 * step, middle)
    page.mouse.up()
    before = here.cfg.value
    compare(box, here, here.cfg)
    assert here.cfg.value > before + 1
    assert f"guidance {here.cfg.value:.1f}" in box.locator(".dit-said").inner_text()
    here.close()


def test_a_training_is_watched_and_stopped(page, lab):
    server, folder = lab
    wanted = ["load_dataset(", "MINUTES = 3", "def keeping(", "run = explore.training("]
    changes = [("MINUTES = 3", "MINUTES = 2\nfrom dit_course import TrainConfig, train")]
    write_notebook(folder / "06.ipynb", *needed("06_training", wanted, changes))
    open_notebook(page, server, "06.ipynb")
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    page.wait_for_selector(".dit-canvas[data-frame]", timeout=60_000)
    first = page.locator(".dit-canvas").get_attribute("data-frame")
    page.wait_for_function(f"() => +document.querySelector('.dit-canvas').dataset.frame > {first}", timeout=60_000)
    page.wait_for_function(SAID, arg="| loss", timeout=60_000)
    page.get_by_role("button", name="Stop").focus()
    page.keyboard.press("Enter")
    page.wait_for_function(SAID, arg="stopped after", timeout=60_000)
    assert "then stopped" in page.locator(".dit-canvas").get_attribute("aria-label")
    shut_down(page)
