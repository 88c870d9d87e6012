"""`python -m dit_course experiment`: the studies that the lessons quote; each fills a table, and resumes."""

from dataclasses import dataclass, field
from typing import Annotated, Union

import tyro

from dit_course.studies.bugs.symptoms import Symptoms
from dit_course.studies.experiments import ABOUT, Paired
from dit_course.studies.guidance import Guidance
from dit_course.studies.scaling import Scaling
from dit_course.studies.solvers import Solvers
from dit_course.studies.tricks import Tricks

STUDIES = {name: (Paired(name), about) for name, about in ABOUT.items()} | {
    "scaling": (Scaling(), "four sizes of networks with two patch sizes (lesson 10)"),
    "solvers": (Solvers(), "solvers at equal numbers of function evaluations (lesson 08)"),
    "tricks": (Tricks(), "what each trick buys the three-minute network"),
    "bugs": (Symptoms(), "what planted bugs do to a training (lesson 12)"),
    "guidance": (Guidance(), "samples at several guidance scales (lesson 09)"),
}
CHOICES = tuple(
    Annotated[type(study), tyro.conf.subcommand(name, default=study, description=about, prefix_name=False)]
    for name, (study, about) in STUDIES.items()
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
        for name, (_, about) in STUDIES.items():
            print(f"{name:<12}{about}")
