"""The site's live pictures: noise and images are PyTorch's, sliders answer to keys, a still stays where none can."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from labdrive import ROOT, browser_page, missing, served

from dit_course.authoring import live
from dit_course.authoring.site import RUNTIME
from dit_course.checkpoints import load_pretrained
from dit_course.few_steps import FewStepSampler
from dit_course.show import to_bytes

NO_BROWSER = missing()
needs_browser = pytest.mark.skipif(bool(NO_BROWSER) and not os.environ.get("CI"), reason=f"browser tests: {NO_BROWSER}")
needs_runtime = pytest.mark.skipif(live.missing(RUNTIME) is not None, reason=f"{live.missing(RUNTIME)}")
pytestmark = [pytest.mark.slow]
PAGE = '<!doctype html><meta charset="utf-8"><title>t</title><link rel="stylesheet" href="style.css"><body>{}</body>'


def write_pages(folder, runtime):
    """The pages of the site that have a live picture, and the front page as a browser reads it."""
    (folder / "_static").mkdir(parents=True)
    (folder / "notebooks").mkdir()
    (folder / "index.md").write_text("# The course\n\nIts text.\n")
    for name in live.PLACES:
        if name != "index.md":
            shutil.copy(ROOT / name, folder / name)
    live.add_live(folder, runtime)
    (folder / "style.css").write_text(live.style())
    (folder / "page.html").write_text(PAGE.format((folder / "index.md").read_text()))
    return folder


@pytest.fixture(scope="module")
def student():
    return load_pretrained(live.STUDENT)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    return write_pages(tmp_path_factory.mktemp("live") / "pages", RUNTIME)


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """Pages that were made without onnxruntime-web."""
    return write_pages(tmp_path_factory.mktemp("still") / "pages", tmp_path_factory.mktemp("empty"))


def open_live(page, home):
    """Open the page, and wait for its live picture."""
    page.route(lambda url: not url.startswith((home, "blob:", "data:")), lambda route: route.abort())
    page.goto(f"{home}page.html")
    page.locator(".dit-live canvas[data-sequence]").wait_for(timeout=60_000)


def caption(page, words):
    """Wait for a final picture whose caption has these words."""
    page.locator(".dit-status", has_text=words).and_(page.locator(":not(:has-text('first guess'))")).wait_for()
    return page.locator(".dit-status").inner_text()


def images_on(page):
    """The numbers of the images on the page: (10, 1, 28, 28)."""
    return np.array(page.evaluate("[...document.querySelector('.dit-live').images]")).reshape(10, 1, 28, 28)


@needs_browser
def test_noise_is_pytorchs():
    cases = [(seed, sizes) for seed in (0, 1, 2**32 - 1) for sizes in ((784, 784, 784), (50, 16, 3072))]
    with served(live.SCRIPTS) as home, browser_page() as page:
        page.goto(f"{home}live.css")
        found = page.evaluate(
            """async (cases) => { const { mersenneTwister, randn } = await import('./noise.js');
            return cases.map(([seed, sizes]) => { const random = mersenneTwister(seed);
              return sizes.map((size) => [...randn(random, size)]); }); }""",
            cases,
        )
    for (seed, sizes), arrays in zip(cases, found, strict=True):
        generator = torch.Generator().manual_seed(seed)
        for size, array in zip(sizes, arrays, strict=True):
            assert np.abs(torch.randn(size, generator=generator).numpy() - array).max() < 1e-5


@needs_browser
@needs_runtime
def test_images_are_pytorchs_on_ten_seeds(pages, student):
    """Every number of evaluations and both ends of the guidance; the second worker takes part as soon as it can."""
    states = [
        {
            "seed": seed,
            "cfg": 1 + 5 * seed / 9,
            "steps": (1, 2, 4, 8)[seed % 4],
            "labels": [(3 * seed + i) % 10 for i in range(10)],
        }
        for seed in range(10)
    ]
    with served(pages) as home, browser_page() as page:
        page.route(lambda url: not url.startswith((home, "blob:")), lambda route: route.abort())
        page.goto(f"{home}style.css")
        found = page.evaluate(
            """async (states) => { const { Sampler } = await import('./_static/live/sampler.js');
            const sampler = new Sampler([1, 28, 28], 2), found = [];
            for (const state of states) found.push([...(await sampler.sample(state))]);
            while (sampler.workers.length < 2) await new Promise((done) => setTimeout(done, 20));
            found.push([...(await sampler.sample(states[0]))]);
            return found; }""",
            states,
        )
        assert page.outside == page.errors == []
    for state, images in zip([*states, states[0]], found, strict=True):
        expected = FewStepSampler(student, state["steps"], state["cfg"]).sample(10, state["labels"], state["seed"])
        assert np.abs(np.reshape(images, expected.shape) - expected.numpy()).max() < 1e-3


@needs_browser
@needs_runtime
def test_a_slider_moved_by_keys_draws_pytorchs_picture(pages, student):
    with served(pages) as home, browser_page() as page:
        open_live(page, home)
        assert caption(page, "every class, guidance 2.5, seed 2, 1 evaluation per picture")
        assert page.locator(".dit-live img").count() == 0
        page.get_by_role("slider", name="guidance").focus()
        page.keyboard.press("ArrowRight")
        assert caption(page, "every class, guidance 2.6, seed 2, 1 evaluation per picture").endswith(" ms")
        page.keyboard.press("Tab")
        page.keyboard.press("b")  # the only class that begins so
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowRight")
        caption(page, "bag, guidance 2.6, seed 3, 2 evaluations per picture")
        expected = FewStepSampler(student, steps=2, cfg=2.6).sample(10, "bag", seed=3)
        assert np.abs(images_on(page) - expected.numpy()).max() < 1e-3
        # what a screen reader gets
        assert page.get_by_role("slider", name="evaluations").get_attribute("aria-valuetext") == "2"
        assert page.get_by_role("combobox", name="class").count() == page.get_by_role("status").count() == 1
        drawn = page.get_by_role("img", name="10 pictures: bag, guidance 2.6, seed 3, 2 evaluations per picture")
        assert drawn.count() == 1
        # and what is on the canvas: the middle of each pixel of the first image
        grid = json.loads((pages / "_static/live/live.json").read_text())["grids"][9]
        (top, left), side = grid["corners"][0], grid["tile"][0] // 28
        painted = page.evaluate(
            """([left, top, side]) => { const screen = document.querySelector('.dit-live canvas').getContext('2d');
            const { data } = screen.getImageData(left, top, 28 * side, 28 * side), middle = side >> 1;
            return Array.from({ length: 784 }, (_, i) =>
              data[4 * ((Math.floor(i / 28) * side + middle) * 28 * side + (i % 28) * side + middle)]); }""",
            [left, top, side],
        )
        assert np.abs(np.reshape(painted, (28, 28)) - to_bytes(expected)[0, 0].numpy().astype(int)).max() <= 1
        assert page.outside == page.errors == []


@needs_browser
@needs_runtime
def test_fast_moves_end_at_the_last_one(pages):
    with served(pages) as home, browser_page() as page:
        open_live(page, home)
        page.get_by_role("slider", name="evaluations").focus()
        page.keyboard.press("End")
        page.get_by_role("slider", name="seed").focus()
        for _ in range(12):
            page.keyboard.press("ArrowRight")
        caption(page, "every class, guidance 2.5, seed 14, 8 evaluations per picture")
        assert page.locator(".dit-live canvas").get_attribute("data-rough") == "false"


@needs_browser
@needs_runtime
def test_it_fits_a_phone_and_follows_the_theme(pages):
    corner = "[...document.querySelector('.dit-live canvas').getContext('2d').getImageData(0, 0, 1, 1).data]"
    with served(pages) as home, browser_page(size=(320, 640), device_scale_factor=2) as page:
        open_live(page, home)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        assert page.evaluate(corner)[:3] == [255, 255, 255]
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        page.wait_for_function(f"{corner}[0] < 40")


@needs_browser
@pytest.mark.parametrize("how", ["scripts off", "no runtime", "from a folder", "broken"])
def test_a_still_stays_where_sliders_cannot_run(how, request, tmp_path):
    if how != "no runtime" and live.missing(RUNTIME):
        pytest.skip(live.missing(RUNTIME))
    folder = request.getfixturevalue("still" if how == "no runtime" else "pages")
    if how == "broken":
        folder = shutil.copytree(folder, tmp_path / "pages")
        (folder / "_static/live/network.onnx").write_bytes(b"no network")
    with served(folder) as home, browser_page(java_script_enabled=how != "scripts off") as page:
        page.goto((folder / "page.html").as_uri() if how == "from a folder" else f"{home}page.html")
        if how == "broken":
            page.locator(".dit-status", has_text="The sliders do not work here").wait_for(timeout=60_000)
        picture = page.get_by_role(
            "img", name="10 pictures: every class, guidance 2.5, seed 2, 1 evaluation per picture"
        )
        assert picture.bounding_box()["height"] > 250
        assert "still" in page.locator(".dit-status").inner_text() or how == "no runtime"
        assert page.locator("input, canvas").count() == 0
        assert page.errors == []


def test_the_build_without_onnxruntime_web_says_so_and_has_stills_only(still, tmp_path):
    assert "`make onnxruntime-web` fetches it" in live.missing(tmp_path)
    assert {file.suffix for file in (still / "_static/live").iterdir()} == {".png"}
    assert "<script" not in (still / "page.html").read_text()
    for name, (cell, *_) in live.PLACES.items():
        if cell is not None:
            cells = json.loads((still / name).read_text())["cells"]
            (place,) = [i for i, one in enumerate(cells) if one["id"] == cell]
            assert 'class="dit-live"' in cells[place + 1]["source"]
