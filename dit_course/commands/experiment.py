"""`python -m dit_course experiment`: the studies that the lessons quote; each fills a table, and resumes."""

from dataclasses import dataclass, field
from typing import Annotated, Union

import tyro

from dit_course.studies.bugs.symptoms import Symptoms
from dit_course.studies.guidance import Guidance
from dit_course.studies.scaling import Scaling
from dit_course.studies.solvers import Solvers
from dit_course.studies.tricks import PARTS, Tricks

STUDIES = {name: (Tricks(only=tricks), 20 * (1 + len(tricks)), about) for name, (tricks, about) in PARTS.items()} | {
    "tricks": (Tricks(), 200, "what each trick buys the three-minute network: all of these (lesson 09)"),
    "scaling": (Scaling(), 47, "four sizes of networks with two patch sizes (lesson 10)"),
    "solvers": (Solvers(), 60, "solvers at equal numbers of function evaluations (lesson 08)"),
    "bugs": (Symptoms(), 45, "what planted bugs do to a training (lesson 12)"),
    "guidance": (Guidance(), 60, "samples at several guidance scales (lesson 09)"),
}  # and the minutes on two quiet CPU cores
CHOICES = tuple(
    Annotated[type(study), tyro.conf.subcommand(name, default=study, description=about, prefix_name=False)]
    for name, (study, _, about) in STUDIES.items()
)


@dataclass
class Experiment:
    """Does it help? Run a study that a lesson quotes; --list names them all. It goes on where it was stopped."""

    study: Union[CHOICES] = field(default_factory=lambda: STUDIES["registers"][0])  # noqa: UP007
    """Which."""
    list: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """List the studies, and run none."""

    def run(self) -> None:
        """Run the study, or list all."""
        if not self.list:
            self.study.run()
            return
        for name, (_, minutes, about) in STUDIES.items():
            print(f"{name:<15}{minutes:>4} min   {about}")
