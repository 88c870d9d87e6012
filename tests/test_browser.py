"""Every explorer in its lesson, in a real JupyterLab and a real browser, moved by keyboard and by mouse.

The learners' notebooks themselves are opened (copies, because JupyterLab saves what it shows); of their cells those are
run that the explorer needs. What is painted is compared, pixel by pixel, with what the same explorer draws here without
a browser.
"""

import base64
import os
import shutil
import time

import numpy as np
import pytest
import torch
from canvas_pixels import decoded, pasted
from labdrive import (
    ROOT,
    begin_cell,
    browser_page,
    lab_server,
    missing,
    open_notebook,
    run_cells,
    run_code,
    shut_down,
    sources,
)

from dit_course import explore, load_dataset, load_pretrained
from dit_course.show.layout import DENSITY

PROBLEM = missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(PROBLEM) and not os.environ.get("CI"), reason=f"browser tests: {PROBLEM}"),
]

SHOWS = "(words) => [...document.querySelectorAll('.jp-OutputArea')].some((area) => area.innerText.includes(words))"
LOADED = "from dit_course import load_pretrained\nmodel = load_pretrained('fashion-mnist')"  # lesson 02 does much else
KEPT = (  # lesson 07 trains to get these; here they are made up
    "import torch\nfrom dit_course import load_pretrained\n"
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


# explorer: lesson, the cells of it that are needed (by words in them), what else is run before them, the same call here
CASES = {
    "guidance": (
        "00_start_here",
        ["model = load_pretrained", "explore.guidance("],
        "",
        lambda: explore.guidance(load_pretrained("fashion-mnist-few-steps"), seed=2),
    ),
    "patches": ("01_patches", ["load_dataset(", "boot =", "explore.patches("], "", lambda: explore.patches(picture(0))),
    "positions": (
        "01_patches",
        ["load_dataset(", "explore.positions("],
        "",
        lambda: explore.positions((16, 16), width=64),
    ),
    "attention": (
        "02b_blocks_and_maps",
        ["load_dataset(", "explore.attention("],
        LOADED,
        lambda: explore.attention(
            load_pretrained("fashion-mnist"), image=picture(46), label=_label(46), t=0.5, block=3
        ),
    ),
    "time_embedding": (
        "03_adaln_blocks",
        ["load_dataset(", "explore.time_embedding("],
        "",
        lambda: explore.time_embedding(t=0.3, factor=1),
    ),
    "registers": (
        "04_registers",
        ["load_dataset(", "explore.registers("],
        "",
        lambda: explore.registers(load_pretrained("fashion-mnist"), "ankle boot", block=5, t=0.1),
    ),
    "noising": (
        "05_flow_loss",
        ["load_dataset(", "explore.noising("],
        "",
        lambda: explore.noising(picture(0), t=0.6, model=load_pretrained("fashion-mnist"), label=9),
    ),
    "timesteps": ("05_flow_loss", ["load_dataset(", "explore.timesteps("], "", explore.timesteps),
    "ema": (
        "07_ema",
        ["load_dataset(", "explore.ema("],
        KEPT,
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
        "",
        lambda: explore.guidance(load_pretrained("fashion-mnist"), cfg=4.0, label="bag", seed=1, interval=(0.0, 1.0)),
    ),
    "trajectory": (
        "08_cfg_sampling",
        ["model = load_pretrained", "explore.trajectory("],
        "",
        lambda: explore.trajectory(
            load_pretrained("fashion-mnist"), ["sneaker", "bag", "coat", "dress"], seed=2, steps=24, cfg=1.0
        ),
    ),
}
LIMIT = 5.0  # seconds from the end of the first slider's cell until a key has changed the picture; a second on a laptop


def _label(number):
    return int(load_dataset("fashion-mnist", split="test")[1][number])


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab for all tests, and the folder of its notebooks."""
    assert PROBLEM is None, PROBLEM
    folder = tmp_path_factory.mktemp("lab")
    extension = "--ServerApp.jpserver_extensions={'dit_course.setup.nodelay': True}"  # as the installed package does
    with lab_server(folder, log=folder / "lab.log", extra=[extension]) as server:
        yield server, folder


class Desk:
    """One browser for all tests, with one lesson open at a time."""

    def __init__(self, page, server, folder):
        self.page, self.server, self.folder, self.lesson, self.shown = page, server, folder, None, []

    def open(self, lesson):
        """Open a lesson as it was handed out, unless it is open."""
        if lesson == self.lesson:
            return
        self.leave()
        shutil.copy(ROOT / "notebooks" / f"{lesson}.ipynb", self.folder)
        open_notebook(self.page, self.server, f"{lesson}.ipynb")
        self.lesson = lesson

    def leave(self):
        """End the kernel of the open lesson."""
        if self.lesson:
            shut_down(self.page)
        self.lesson, self.shown = None, []

    def cells(self, wanted):
        """The numbers of the first cells of the open lesson that hold these words."""
        found = sources(self.page)
        numbers = [next((number for number, source in found.items() if words in source), None) for words in wanted]
        assert None not in numbers, f"{self.lesson} lacks a cell with {wanted[numbers.index(None)]}"
        return numbers

    def explorer(self, name):
        """The output that holds an explorer, in sight; it is made where its lesson makes it."""
        lesson, wanted, before, _ = CASES[name]
        self.open(lesson)
        if name not in self.shown:
            numbers = self.cells(wanted)
            if before:
                run_code(self.page, before)
            assert run_cells(self.page, numbers) == []
            self.shown.append(name)
            count = len(self.shown)
            self.page.wait_for_function(
                f"() => document.querySelectorAll('.dit-canvas[data-sequence]').length === {count}"
            )
        box = self.page.locator(".jp-OutputArea", has=self.page.locator(".dit-canvas")).nth(
            sorted(self.shown, key=lambda one: self.cells(CASES[one][1])[-1]).index(name)
        )
        box.locator(".dit-canvas").scroll_into_view_if_needed()
        return box


@pytest.fixture(scope="module")
def desk(lab):
    """Two pixels of the screen for one of the page, so that every pixel that was sent can be seen."""
    server, folder = lab
    with browser_page(device_scale_factor=2) as page:
        desk = Desk(page, server, folder)
        yield desk
        desk.leave()


@pytest.fixture
def page(desk):
    """The page of the browser."""
    return desk.page


@pytest.fixture(autouse=True)
def _nothing_wrong(page):
    """No test leaves a page error, or asks for anything from outside of this machine."""
    page.errors.clear()
    yield
    assert page.errors == []
    assert page.outside == []


def settled(box):
    """Wait until the picture is in full quality and stays."""
    box.page.wait_for_timeout(150)
    box.locator(".dit-canvas").evaluate(
        """async (canvas) => { let last = '', since = Date.now(), end = Date.now() + 30000;
        while (Date.now() - since < 300 && Date.now() < end) {
          const now = `${canvas.dataset.sequence} ${canvas.dataset.frameIndex} ${canvas.dataset.rough}`;
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
    assert handle.get_attribute("aria-valuetext") == readout  # noUiSlider itself rounds
    return type(widget.value)(readout.replace("−", "-"))


def compare(box, here, widget):
    """What is painted is what the explorer here draws for the same places of its controls; returns the pixels."""
    settled(box)
    for one in here.controls:
        if not isinstance(one.value, tuple | bool):  # no test moves a range or a checkbox
            one.value = value_of(box, one)
    canvas = box.locator(".dit-canvas")
    expected, end = here.canvas.alt[here.canvas.frame_index], time.monotonic() + 20
    while canvas.get_attribute("aria-label") != expected and time.monotonic() < end:
        settled(box)
    assert canvas.get_attribute("aria-label") == expected
    assert canvas.get_attribute("role") == "img"
    pixels = painted(box)
    assert alike(pixels, pasted(here.canvas)), f"it is not the picture for {widget.description} {widget.value}"
    return pixels


def test_the_first_slider_moves_soon_after_its_cell(desk, page):
    desk.open("00_start_here")
    *before, slider = desk.cells(CASES["guidance"][1])
    assert run_cells(page, before) == []
    seconds = page.evaluate(
        """async (number) => {
          const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
          const content = window.jupyterapp.shell.currentWidget.content;
          content.deselectAll();
          content.activeCellIndex = number;
          await window.jupyterapp.commands.execute('notebook:run-cell');
          const start = performance.now(), late = () => performance.now() - start > 60000;
          const handle = () => document.querySelector('.jp-OutputArea .noUi-handle');
          const canvas = () => document.querySelector('.dit-canvas');
          const alt = () => canvas()?.getAttribute('aria-label') ?? '';
          while (!(handle() && alt()) && !late()) await sleep(5);
          const before = alt();
          handle().dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true, cancelable: true }));
          while (alt() === before && !late()) await sleep(5);
          return (performance.now() - start) / 1000; }""",
        slider,
    )
    print(f"\nthe guidance slider has moved {seconds:.2f} seconds after the end of its cell")
    desk.shown.append("guidance")
    assert seconds < LIMIT


def test_a_menu_is_moved_by_keys_and_a_drag_ends_on_the_last_value(desk, page):
    box, here = desk.explorer("guidance"), CASES["guidance"][3]()
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
    before = here.cfg.value  # of the last comparison
    compare(box, here, here.cfg)
    assert here.cfg.value > before + 1
    assert f"guidance {here.cfg.value:.1f}" in box.locator(".dit-status").inner_text()
    here.close()


@pytest.mark.parametrize("name", CASES)
def test_an_explorer_in_its_lesson(name, desk, page):
    box, here = desk.explorer(name), CASES[name][3]()
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
    if here.canvas.pickable:  # a click on a map
        place = {"x": here.drawing.lefts[1] + 3.5 * here.drawing.cell / DENSITY, "y": here.drawing.top + 6}
        box.locator(".dit-canvas").click(position=place)
        compare(box, here, here.patch)
        assert here.patch.value == 3
    for handle in box.locator(".noUi-handle, select").all():
        assert handle.get_attribute("aria-label")
    for line in box.locator(".widget-inline-hbox", has=page.locator(".noUi-handle")).all():
        told = [handle.get_attribute("aria-valuetext") for handle in line.locator(".noUi-handle").all()]
        assert " – ".join(told) == line.locator(".widget-readout").inner_text()
    here.close()


def test_play_runs_through_the_animation(desk, page):
    box = desk.explorer("trajectory")
    box.locator(".jupyter-widgets.widget-play button").first.click()
    page.wait_for_function("() => document.querySelector('.dit-canvas[data-frame-index=\"24\"]')", timeout=30_000)


def test_a_training_is_watched_and_stopped(desk, page):
    desk.open("06_training")
    numbers = desk.cells(["load_dataset(", "MINUTES = 3", "run = explore.start_training("])
    assert run_cells(page, numbers[:-1]) == []
    begin_cell(page, numbers[-1])
    page.wait_for_selector(".dit-canvas[data-sequence]", timeout=60_000)
    first = page.locator(".dit-canvas").get_attribute("data-sequence")
    page.wait_for_function(f"() => +document.querySelector('.dit-canvas').dataset.sequence > {first}", timeout=60_000)
    page.wait_for_function(SHOWS, arg="| loss", timeout=60_000)
    page.get_by_role("button", name="Stop").focus()
    page.keyboard.press("Enter")
    page.wait_for_function(SHOWS, arg="stopped after", timeout=60_000)
    told = "() => document.querySelector('.dit-canvas').getAttribute('aria-label').includes('then stopped')"
    page.wait_for_function(told, timeout=60_000)  # the canvas is told a moment after the line below it
