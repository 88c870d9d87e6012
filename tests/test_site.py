"""The static site: built without a warning, whole, small, and at home without a network."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import labdrive
import pytest

from dit_course.authoring import live
from dit_course.authoring.site import RUNTIME, build
from dit_course.authoring.sphinx_hooks import rewrite_docstring

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site."""
    pytest.importorskip("sphinx")
    out = tmp_path_factory.mktemp("web") / "site"
    assert build(out) == []
    return out


class Links(HTMLParser):
    """What a page points to, and the places in it that can be pointed to."""

    def __init__(self, page: Path):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], {""}
        self.feed(page.read_text())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found["id"]} if found.get("id") else set()
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        elif tag in ("script", "img", "link") and (found.get("src") or found.get("href")):
            self.loaded.append(found.get("src") or found["href"])


@pytest.fixture(scope="module")
def pages(site):
    return {page.resolve(): Links(page) for page in site.rglob("*.html") if "_static" not in page.parts}


def test_every_lesson_is_there_and_the_whole_is_small(site):
    names = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert names == {path.stem for path in (site / "notebooks").glob("[0-9]*.html")}
    assert (site / "notebooks/glossary.html").exists()
    assert (site / "api/sampling.html").read_text().count("guided") > 3
    assert sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) <= 40_000_000


def test_its_links_lead_somewhere(site, pages):
    broken = []
    for page, found in pages.items():
        for link in found.links + found.loaded:
            address, anchor = urldefrag(link)
            if "://" in address or address.startswith(("mailto:", "data:")):
                continue
            target = (page.parent / unquote(address.split("?")[0])).resolve() if address else page
            if not target.exists() or (target in pages and anchor and unquote(anchor) not in pages[target].anchors):
                broken.append(f"{page.relative_to(site.resolve())}: {link}")
    assert broken == []


def test_it_loads_nothing_from_elsewhere(pages):
    assert {link for found in pages.values() for link in found.loaded if "://" in link} == set()


def test_answers_are_folded(site):
    page = (site / "notebooks/05_flow_loss.html").read_text()
    assert page.count("<summary>What happened</summary>") >= 3
    assert "<details open" not in page


def test_formulas_need_no_script(site):
    page = (site / "notebooks/05_flow_loss.html").read_text()
    assert page.count("<math ") > 10
    assert "MathJax" not in page


def test_in_a_browser_offline(site):
    playwright = pytest.importorskip("playwright.sync_api")
    if labdrive.chromium() is None:
        pytest.skip("there is no Chromium here")
    with labdrive.served(site) as home, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=labdrive.chromium(), args=labdrive.CHROME)
        page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        requested, wrong = [], []
        page.on("request", lambda request: requested.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(home)
        assert page.locator("h1").first.inner_text().startswith("Build a Diffusion Transformer")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, background[4:-1].split(",")[:3])) < 150  # dark
        if live.missing(RUNTIME) is None:
            page.locator(".dit-live canvas[data-sequence]").wait_for(timeout=60_000)
        page.goto(f"{home}notebooks/05_flow_loss.html")
        # no sideways scrolling on a phone
        assert page.evaluate("document.documentElement.scrollWidth") <= 392
        assert page.locator("math").first.bounding_box()["width"] > 5
        page.goto(f"{home}search.html?q=guidance")
        page.locator("#search-results li a").first.wait_for()
        assert "guidance" in page.locator("#search-results").inner_text()
        assert [url for url in requested if not url.startswith((home, "data:"))] == []
        assert wrong == []
        browser.close()


def test_docstrings_become_lists():
    lines = ["Move a step.", "", "x: where, in `[-1, 1]`.", "    It goes on.", "t, t_next: times.", "", "Returns: |x|."]
    rewrite_docstring(None, "function", "f", None, None, lines)
    assert lines == [
        "Move a step.", "", "- **x**: where, in ``[-1, 1]``.", "  It goes on.", "- **t, t_next**: times.", "",
        "Returns: \\|x\\|.",
    ]  # fmt: skip
