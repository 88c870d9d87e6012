"""The course as a static site: `python -m dit_course site`, or `make site`.

Every page is made from what the repository holds anyway: README, learners' notebooks with their outputs, glossary,
guides, teachers' pages, model cards, and the docstrings of the package. Nothing is loaded from elsewhere: formulas are
MathML, fonts and search come with the pages. So it works from any web server, and from a folder.
"""

import re
import shutil
from pathlib import Path

from dit_course import ROOMS
from dit_course.authoring import live

REPOSITORY = Path(__file__).resolve().parents[2]
RUNTIME = REPOSITORY / ".cache" / "onnxruntime-web"
PAGES = (
    "README.md", "CONTRIBUTING.md", "LICENSE", "requirements.txt", "environment.yml", "pyproject.toml",
    "notebooks/*.ipynb", "notebooks/*.md", "notebooks/appendix/*.ipynb", "notebooks/solutions/*.md", "docs/*.*",
    "jupyter/*.ipynb",
    "data/README.md", "data/FashionMNIST/LICENSE", "data/checkpoints/*/*",
    "data/checkpoints/*.json", "data/experiments/*.csv", "data/gpu-session/*.md", "data/gpu-session/*.csv",
)  # fmt: skip
CHAPTERS = {
    "Lessons": ("notebooks/*.ipynb",),
    "Appendix": ("notebooks/appendix/*.ipynb",),
    "Look it up": ("notebooks/glossary.md", "api/index.md"),
    "Guides": (
        "docs/*.md",
        "jupyter/*.ipynb",
        "data/README.md",
        "data/checkpoints/*/README.md",
        "data/gpu-session/*.md",
        "CONTRIBUTING.md",
    ),
    "For teachers": ("notebooks/solutions/*.md",),
}
STYLE = """
.bd-header { display: none !important; }  /* its search button is in the side bar already */
.bd-main .bd-content .bd-article-container { max-width: 62rem; }
div.highlight pre { font-size: 0.8rem; }
math[display="block"] { font-size: 1.15em; margin: 0.8em 0; }
details { margin-bottom: 1rem; }
"""
LINK = re.compile(r"(\]\(|\]: |src=\")([^)\s\"#]+)")


def build(out: Path) -> list[str]:
    """Make the site in the folder `out`, which is replaced. Returns what Sphinx warned of, a line each: [] is right.

    Raises FileNotFoundError outside the repository, ModuleNotFoundError without Sphinx.
    """
    if not (REPOSITORY / "notebooks").is_dir():
        raise FileNotFoundError(f"{REPOSITORY / 'notebooks'} is not there: the site is made in the repository")
    try:
        from sphinx.application import Sphinx
        from sphinx.util.docutils import docutils_namespace
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: pip install 'dit-course[site]'") from error
    work = out.with_name(f"{out.name}-work")
    for folder in (out, work):
        shutil.rmtree(folder, ignore_errors=True)
    write_sources(work / "pages")
    heard = (work / "warnings.txt").open("w+")
    with heard, docutils_namespace():
        pages, settings = work / "pages", configuration()
        app = Sphinx(pages, None, out, work / "trees", "html", settings, status=None, warning=heard)
        app.build()
        heard.seek(0)
        warnings = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", heard.read()).splitlines() if line.strip()]
    shutil.rmtree(work)
    for left in ("_sources", "objects.inv", ".buildinfo"):
        path = out / left
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    for file in (out / "_static").rglob("*.map"):  # for those who debug the theme: megabytes
        file.unlink()
    (out / ".nojekyll").touch()  # or GitHub's pages leave out folders that begin with _
    return warnings


def configuration() -> dict:
    """What Sphinx needs to know."""
    return {
        "project": "Build a Diffusion Transformer by hand",
        "author": "the dit_course developers",
        "extensions": ["myst_nb", "sphinx.ext.autodoc", "dit_course.authoring.sphinx_hooks"],
        "html_theme": "sphinx_book_theme",
        "html_title": "Build a Diffusion Transformer",
        "html_theme_options": {"show_toc_level": 2, "use_download_button": False, "home_page_in_toc": True},
        "html_static_path": ["_static"],
        "html_css_files": ["course.css"],
        "html_show_sourcelink": False,
        "html_show_sphinx": False,
        "html_copy_source": False,
        "html_math_renderer": "mathml",
        "nb_execution_mode": "off",  # the notebooks carry their outputs
        "nb_ipywidgets_js": {},
        "myst_enable_extensions": ["dollarmath"],
        "myst_heading_anchors": 3,
        "myst_links_external_new_tab": True,
        "autodoc_member_order": "bysource",
        "autodoc_typehints": "signature",
        "pygments_style": "tango",
        "suppress_warnings": ["myst.header", "mystnb.unknown_mime_type", "misc.highlighting_failure"],
    }


def write_sources(folder: Path) -> None:
    """Copy the pages as Sphinx reads them: links that would lead out of the site lead to a page of it."""
    for pattern in PAGES:
        for file in sorted(REPOSITORY.glob(pattern)):
            name = file.relative_to(REPOSITORY)
            target = folder / ("index.md" if str(name) == "README.md" else name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix in (".md", ".ipynb"):
                target.write_text(_site_links(file.read_text(), name))
            elif file.is_file():
                shutil.copy(file, target)
    (folder / "_static").mkdir()
    (folder / "_static" / "course.css").write_text(STYLE.lstrip() + live.style())
    live.add_live(folder, RUNTIME)
    (folder / "api").mkdir()
    rooms = (*ROOMS, "show", "explore", "check")
    for room in rooms:
        text = f"# dit_course.{room}\n\n```{{eval-rst}}\n.. automodule:: dit_course.{room}\n   :members:\n```\n"
        (folder / "api" / f"{room}.md").write_text(text)
    listed = "\n".join(f"- [{room}]({room}.md): {_first_line(room)}" for room in rooms)
    names = "\n".join(rooms)
    about = "Everything here is imported from `dit_course` itself: `from dit_course import DiT`."
    text = f"# The package\n\n{about}\n\n{listed}\n\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"
    (folder / "api" / "index.md").write_text(text)
    index = folder / "index.md"
    index.write_text(f"{index.read_text()}\n\n{_contents(folder)}\n")


def _contents(folder: Path) -> str:
    parts = []
    for title, patterns in CHAPTERS.items():
        names = [
            file.relative_to(folder).with_suffix("").as_posix() for p in patterns for file in sorted(folder.glob(p))
        ]
        if names:
            parts.append(f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(names) + "\n```")
    return "\n\n".join(parts)


def _site_links(text: str, page: Path) -> str:
    """The text of a page whose links fit the site: code leads to its documentation, the README is the first page."""

    def fit(match: re.Match) -> str:
        before, link = match.groups()
        if "://" in link or link.startswith("mailto:"):
            return match[0]
        up = "../" * len(page.parent.parts)
        place = (REPOSITORY / page.parent / link).resolve()
        if not place.is_relative_to(REPOSITORY):
            return match[0]
        name = place.relative_to(REPOSITORY).as_posix()
        if name == "README.md":
            return f"{before}{up}index.md"
        if "solutions" in place.parts and place.suffix == ".ipynb":  # solutions are folded in the lessons
            return f"{before}{up}{name.replace('solutions/', '')}"
        if place.suffix == ".py" and place.stem in ROOMS:
            return f"{before}{up}api/{place.stem}.md"
        if place.suffix == ".py":
            return f"{before}{up}CONTRIBUTING.md"
        return f"{before}{up}docs/teaching.md" if place.is_dir() else match[0]

    return LINK.sub(fit, text)


def _first_line(room: str) -> str:
    from importlib import import_module

    return (import_module(f"dit_course.{room}").__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
