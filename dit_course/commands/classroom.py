"""`python -m dit_course classroom`: nbgrader for a class, from handing out to what stopped whom."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import subcommand


@dataclass
class Init:
    """Make a course directory for nbgrader: its settings, and each lesson as an assignment."""

    folder: tyro.conf.Positional[Path]
    """Where; it is made when it is not there."""
    lessons: tuple[str, ...] = ()
    """Which: 01, or the beginning of a name. All by default."""
    course: str = "dit"
    """The name of the course, without spaces."""
    exchange: Path | None = None
    """The folder through which students fetch and submit. Unless told, one in the course directory."""
    seed: int | None = None
    """Of the cases with which answers are graded. Unless told, a secret one."""

    def run(self) -> None:
        """Make it, and say what it holds."""
        from dit_course.authoring.classroom import init

        made = init(self.folder, self.lessons, self.course, self.exchange, self.seed)
        for name, points in made.items():
            print(f"{name}: {points:g} points")
        print(
            f"{len(made)} assignments in {self.folder}. Go there, then: nbgrader generate_assignment {next(iter(made))}"
        )


@dataclass
class Report:
    """Tell from graded notebooks which exercise stopped whom, and by which hint."""

    folder: tyro.conf.Positional[Path] = Path()
    """The course directory; the folder that you are in by default."""

    def run(self) -> None:
        """Print it."""
        from dit_course.authoring.class_report import report, results, ungraded

        print("\n".join(report(results(self.folder), ungraded(self.folder))))


@dataclass
class Classroom:
    """Teach with nbgrader: make a course directory, or report on graded notebooks."""

    what: (
        Annotated[Init, subcommand("init", prefix_name=False)]
        | Annotated[Report, subcommand("report", prefix_name=False)]
    )
    """What to do."""

    def run(self) -> None:
        """Do it."""
        self.what.run()
