"""`python -m dit_course release`: derive the learners' notebooks from the authors'."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dit_course.authoring import release


@dataclass
class Release:
    """Derive the learners' notebooks from notebooks/solutions: stubs, folded hints and solutions, outputs."""

    lessons: tyro.conf.Positional[tuple[str, ...]] = ()
    """Which: 01, with its parts and its appendix, or the beginning of a name. All by default, but for the tour, 00."""
    no_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Do not run them: for a quick look. Outputs are missing then, and the tests say so."""
    again: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run those too that are in step: the package's figures or weights have changed, which no notebook can know."""
    notebooks: Path = release.NOTEBOOKS
    """The folder of the learners' notebooks."""

    def run(self) -> None:
        """Derive each, and say what happened."""
        lessons = tuple(lesson for lesson in self.lessons if not release.TOUR.startswith(lesson))
        if lessons != self.lessons:
            print(f"{release.run_tour(self.notebooks).name}: run again")
        for source in release.sources(lessons, self.notebooks) if lessons or not self.lessons else ():
            written = release.release(source, run=not self.no_run, again=self.again)
            print(f"{release.target_of(source).name}: {'written' if written else 'in step already, left alone'}")
