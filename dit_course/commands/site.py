"""`python -m dit_course site`: the course as a static web site, made without network."""

from dataclasses import dataclass
from pathlib import Path


@dataclass
class Site:
    """Make a web site of the lessons, the glossary, the guides and the package's documentation."""

    out: Path = Path("build/site")
    """The folder of the site; what is there is replaced. Any web server can serve it; it also opens from disk."""

    def run(self) -> int:
        """Build, and say where it is."""
        from dit_course.authoring import live
        from dit_course.authoring.site import RUNTIME, build

        warnings = build(self.out)
        size = sum(file.stat().st_size for file in self.out.rglob("*") if file.is_file()) / 1e6
        print("\n".join([*warnings, *filter(None, [live.missing(RUNTIME)])]))
        print(f"{self.out / 'index.html'}: {size:.0f} MB, {len(warnings)} warnings")
        return bool(warnings)
