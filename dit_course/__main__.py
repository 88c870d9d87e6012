"""The command line: `python -m dit_course train | distill | sample | evaluate | export | bench | doctor ...`."""

import contextlib
import io
import os
import re
import sys
import time
import warnings
from dataclasses import dataclass
from typing import Annotated, Union


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status.

    What goes wrong is one line on stderr and status 1 (2 for flags that cannot be read); with the environment variable
    DIT_COURSE_DEBUG=1 the whole traceback is shown.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return run(arguments)
    except KeyboardInterrupt:
        print(
            "\nstopped; a training goes on from its last checkpoint when the same command is given again",
            file=sys.stderr,
        )
        return 130  # as a shell reports it


def run(arguments: list[str]) -> int:
    """Run one command and turn what goes wrong into one line."""
    if arguments == ["doctor"]:  # before anything else is imported: it must work where nothing else does
        return Doctor().run()

    from dit_course.distributed.train_config import NonFiniteLoss

    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    try:
        return parse(arguments).run() or 0
    except (ValueError, TypeError, OSError, NonFiniteLoss) as error:
        if os.environ.get("DIT_COURSE_DEBUG"):
            raise
        if not _speaks(error):
            return 1
        plain = error.strerror if isinstance(error, OSError) and error.filename is None else None  # no "[Errno 28]"
        print(f"error: {' '.join((plain or str(error)).split())}", file=sys.stderr)
        return 1


def _speaks(error: Exception) -> bool:
    """Whether this process reports an error: mostly all processes of a group have the same one."""
    from dit_course.distributed.single import PeerLost

    rank = int(os.environ.get("RANK", 0))
    if isinstance(error, PeerLost):
        return rank < 2  # one of these two is still there
    if rank:
        time.sleep(2)  # if process 0 has said it, the launcher ends this one meanwhile
    return True


def parse(arguments: list[str]):
    """The command that the arguments name, as its dataclass. Exits with one line when they cannot be read."""
    import tyro

    from dit_course.commands.bench import Bench
    from dit_course.commands.classifier import TrainClassifier
    from dit_course.commands.classroom import Classroom
    from dit_course.commands.distill import Distill
    from dit_course.commands.evaluate import Evaluate
    from dit_course.commands.experiment import STUDIES, Experiment
    from dit_course.commands.export import Export
    from dit_course.commands.release import Release
    from dit_course.commands.sample import Sample
    from dit_course.commands.site import Site
    from dit_course.commands.train import Train
    from dit_course.studies.scaling import Scaling

    commands = {
        "train": Train,
        "distill": Distill,
        "sample": Sample,
        "evaluate": Evaluate,
        "export": Export,
        "classifier": TrainClassifier,
        "experiment": Experiment,
        "scaling": Scaling,
        "bench": Bench,
        "release": Release,
        "site": Site,
        "classroom": Classroom,
        "doctor": Doctor,
    }
    _require_known("command", arguments[:1], commands)
    if arguments[:1] == ["experiment"]:
        _require_known("experiment", arguments[1:2], STUDIES)
    starts = {"train": Train.of_recipe(*_recipe_in(arguments))} if arguments[:1] == ["train"] else {}
    kinds = [
        Annotated[command, tyro.conf.subcommand(name, prefix_name=False, **_default(starts.get(name)))]
        for name, command in commands.items()
    ]
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                Union[tuple(kinds)],  # noqa: UP007 (`X | Y` takes no list)
                args=arguments,
                prog="python -m dit_course",
                description="Build a Diffusion Transformer and watch it draw.",
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        if stop.code:
            print(f"error: {_one_line(complaint.getvalue())}", file=sys.stderr)
        raise


def _require_known(kind: str, names: list[str], known) -> None:
    """Exit with one line when a name is unknown; options are tyro's business."""
    for name in names:
        if not name.startswith("-") and name not in known:
            print(f"error: unknown {kind} {name!r}: take one of {', '.join(known)}", file=sys.stderr)
            raise SystemExit(2)


def _default(start) -> dict:
    return {} if start is None else {"default": start}


def _recipe_in(arguments: list[str]) -> tuple[str | None, bool]:
    """The name behind `--recipe`, None where there is none, and whether `--steps` is to decide when the training ends.

    It is read before all other options, because it is what they start from.
    """
    name = None
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        if argument == "--recipe":
            name = following
        elif argument.startswith("--recipe="):
            name = argument.partition("=")[2]
    given = {argument.partition("=")[0] for argument in arguments}
    return name, "--steps" in given and "--minutes" not in given


def _one_line(box: str) -> str:
    """What tyro draws as a box, as one line: its message, and the option that may have been meant."""
    message = re.split(r"│ ─+ │|Got errors:", box)[0]
    text = " ".join(line.strip("│╭╮╰╯─ ") for line in message.splitlines()[1:])
    text = re.sub(r"Error parsing __tyro-dummy-inner__\S*: ", "", text)
    text = re.sub(
        r"no type matching \{None\}\|(\w+) could be instantiated from \[(.*)\]\.", r"\2 is no \1", text
    ).strip()
    meant = re.search(r"Perhaps you meant:\W*(--[\w-]+)", box)
    hint = f"perhaps {meant[1]}?" if meant else "--help lists all options"
    return f"{text or box.strip()} ({hint})"


@dataclass
class Doctor:
    """Check this machine's set-up and say how to mend it."""

    def run(self) -> int:
        """Print what was found; status 1 when something does not work."""
        from dit_course.setup.doctor import examine, report

        return report(examine())


if __name__ == "__main__":
    sys.exit(main())
