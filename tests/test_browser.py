"""Every explorer in its lesson, in a real JupyterLab and a real browser, moved by keyboard and by mouse.

The lessons are cut down to what their explorer needs, and copied, because JupyterLab saves what it shows. What is
painted is compared, pixel by pixel, with what the same explorer draws here without a browser.
"""

import base64
import os

import nbformat
import numpy as np
import pytest
import torch
from canvas_pixels import decoded, pasted
from labdrive import ROOT, browser_page, lab_server, missing, open_notebook, run_all, shut_down

from dit_course import explore, load_dataset, load_pretrained

PROBLEM = missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(PROBLEM) and not os.environ.get("CI"), reason=f"browser tests: {PROBLEM}"),
]

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


def cut_down(lesson, wanted, path, changes=()):
    """Write a copy of a lesson with only these of its code cells."""
    cells = nbformat.read(ROOT / "notebooks" / f"{lesson}.ipynb", as_version=4).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    chosen = [next((source for source in sources if words in source), words) for words in wanted]
    assert "\n" in chosen[0] or chosen[0] in sources
    for old, new in changes:
        assert any(old in source for source in chosen)
        chosen = [source.replace(old, new) for source in chosen]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in chosen])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


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
    """One browser for all; two pixels of the screen for one of the page, so that every pixel sent is seen."""
    with browser_page(device_scale_factor=2) as page:
        yield page


@pytest.fixture(autouse=True)
def _nothing_wrong(page):
    """No test leaves a page error, or asks for anything from outside of this machine."""
    page.errors.clear()
    yield
    assert page.errors == []
    assert page.outside == []


def opened(page, lab, lesson, wanted):
    server, folder = lab
    cut_down(lesson, wanted, folder / f"{lesson}.ipynb")
    open_notebook(page, server, f"{lesson}.ipynb")
    assert run_all(page) == []
    page.wait_for_selector(".dit-canvas[data-frame]", timeout=30_000)
    settled(page)


def settled(page):
    """Wait until the picture is in full quality and stays."""
    page.wait_for_function(
        """() => { const c = document.querySelector('.dit-canvas'), now = `${c.dataset.frame} ${c.dataset.moment}`;
        if (c.dataset.rough !== 'false' || window.__last !== now) { window.__last = now; window.__since = Date.now(); }
        return Date.now() - window.__since > 400; }""",
        timeout=30_000,
    )


def painted(page):
    """The pixels on the canvas: (height, width, 3)."""
    url = page.evaluate("() => document.querySelector('.dit-canvas').toDataURL()")
    return decoded(base64.b64decode(url.split(",")[1]))


def alike(a, b):
    """Nearly the same picture: another number of threads rounds otherwise."""
    return a.shape == b.shape and float((np.abs(a.astype(int) - b) > 6).mean()) < 0.002


def control(page, name):
    """The handle of a slider, or a menu."""
    line = page.locator(".jp-OutputArea .widget-inline-hbox", has=page.get_by_text(name, exact=True))
    return line.locator(".noUi-handle, select").first


def value_of(page, name, widget):
    """What a control in the browser stands at, in the words of the widget."""
    handle = control(page, name)
    if handle.evaluate("e => e.tagName") == "SELECT":
        return widget.options[int(handle.evaluate("e => e.selectedIndex"))][1]
    now = float(handle.get_attribute("aria-valuenow"))
    if hasattr(widget, "options"):
        option = widget.options[round(now)]
        return option[1] if isinstance(option, tuple) else option
    return round(now) if isinstance(widget.value, int) else round(now, 4)


@pytest.mark.parametrize("name", CASES)
def test_an_explorer_in_its_lesson(name, page, lab):
    lesson, wanted, call = CASES[name]
    opened(page, lab, lesson, wanted)
    here = call()
    seen = [painted(page)]
    assert alike(seen[0], pasted(here.canvas)), "the first picture is another one"

    slider = next(widget for widget in here.controls if hasattr(widget, "max") or hasattr(widget, "index"))
    words = slider.description
    handle = control(page, words)
    handle.focus()
    page.keyboard.press("ArrowRight" if slider.value != getattr(slider, "max", None) else "ArrowLeft")
    for move in ("keyboard", "mouse"):
        if move == "mouse":
            track = handle.locator("xpath=ancestor::*[contains(@class, 'noUi-target')]").bounding_box()
            page.mouse.click(track["x"] + 0.2 * track["width"], track["y"] + track["height"] / 2)
        page.wait_for_timeout(150)
        settled(page)
        slider.value = value_of(page, words, slider)
        seen.append(painted(page))
        assert not alike(seen[-1], seen[-2]), f"the {move} changed nothing"
        assert alike(seen[-1], pasted(here.canvas)), f"after the {move} it is not the picture for {slider.value}"
        canvas = page.locator(".dit-canvas")
        assert canvas.get_attribute("role") == "img"
        assert canvas.get_attribute("aria-label") == here.canvas.alt[here.canvas.moment]
    for handle in page.locator(".jp-OutputArea .noUi-handle, .jp-OutputArea select").all():
        assert handle.get_attribute("aria-label")
    here.close()
    shut_down(page)


def test_play_runs_through_the_film(page, lab):
    opened(page, lab, *CASES["trajectory"][:2])
    page.locator(".jp-OutputArea .widget-play button, .jp-OutputArea .jupyter-widgets.widget-play button").first.click()
    page.wait_for_function("() => document.querySelector('.dit-canvas').dataset.moment === '24'", timeout=30_000)
    shut_down(page)


def test_a_menu_is_moved_by_keys_and_a_drag_ends_on_the_last_value(page, lab):
    opened(page, lab, *CASES["guidance"][:2])
    here = CASES["guidance"][2]()
    control(page, "class").focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.wait_for_timeout(150)
    settled(page)
    here.label.value = value_of(page, "class", here.label)
    assert here.label.label == "pullover"
    assert alike(painted(page), pasted(here.canvas))
    handle = control(page, "guidance")
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    for step in range(1, 31):
        page.mouse.move(box["x"] + 3 * step, box["y"] + box["height"] / 2)
    page.mouse.up()
    page.wait_for_timeout(150)
    settled(page)
    here.cfg.value = value_of(page, "guidance", here.cfg)
    assert here.cfg.value > 4
    assert alike(painted(page), pasted(here.canvas))
    assert f"guidance {here.cfg.value:.1f}" in page.locator(".dit-said").inner_text()
    here.close()
    shut_down(page)


def test_a_training_is_watched_and_stopped(page, lab):
    server, folder = lab
    wanted = ["load_dataset(", "MINUTES = 3", "def keeping(", "run = explore.training("]
    changes = [("MINUTES = 3", "MINUTES = 2\nfrom dit_course import TrainConfig, train")]
    cut_down("06_training", wanted, folder / "06.ipynb", changes)
    open_notebook(page, server, "06.ipynb")
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    page.wait_for_selector(".dit-canvas[data-frame]", timeout=60_000)
    first = page.locator(".dit-canvas").get_attribute("data-frame")
    page.wait_for_function(f"() => +document.querySelector('.dit-canvas').dataset.frame > {first}", timeout=60_000)
    assert "loss" in page.locator(".jp-OutputArea [role=status]").first.inner_text()
    page.get_by_role("button", name="Stop").click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.jp-OutputArea')].some((e) => e.innerText.includes('stopped after'))",
        timeout=60_000,
    )
    assert "then stopped" in page.locator(".dit-canvas").get_attribute("aria-label")
    shut_down(page)
