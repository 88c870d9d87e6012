"""The command line: `python -m dit_course train | sample | evaluate | export | classifier | release | doctor`."""

import contextlib
import io
import os
import re
import sys
import warnings
from dataclasses import dataclass


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status.

    What goes wrong is one line on stderr and status 1 (2 for flags that cannot be read); with the environment variable
    DIT_COURSE_DEBUG=1 the whole traceback is shown.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["doctor"]:  # before anything else is imported: it must work where nothing else does
        return Doctor().run()

    from dit_course.training import NonFiniteLoss

    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    try:
        return parse(arguments).run() or 0
    except (ValueError, TypeError, OSError, NonFiniteLoss) as error:
        if os.environ.get("DIT_COURSE_DEBUG"):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def parse(arguments: list[str]):
    """The command that the arguments name, as its dataclass. Exits with one line when they cannot be read."""
    import tyro

    from dit_course.commands.classifier import TrainClassifier
    from dit_course.commands.evaluate import Evaluate
    from dit_course.commands.export import Export
    from dit_course.commands.release import Release
    from dit_course.commands.sample import Sample
    from dit_course.commands.train import Train

    commands = {
        "train": Train,
        "sample": Sample,
        "evaluate": Evaluate,
        "export": Export,
        "classifier": TrainClassifier,
        "release": Release,
        "doctor": Doctor,
    }
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.extras.subcommand_cli_from_dict(
                commands,
                args=arguments,
                prog="python -m dit_course",
                description="Build a Diffusion Transformer and watch it draw.",
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        if stop.code:
            print(f"error: {_one_line(complaint.getvalue())}", file=sys.stderr)
        raise


def _one_line(box: str) -> str:
    """What tyro draws as a box, as one line; the part below the box's own line only points to --help."""
    message = re.split(r"│ ─+ │", box)[0]
    text = " ".join(line.strip("│╭╮╰╯─ ") for line in message.splitlines()[1:])
    text = re.sub(r"Error parsing __tyro-dummy-inner__\S*: ", "", text).strip()
    return f"{text or box.strip()} (--help lists all options)"


@dataclass
class Doctor:
    """Check this machine's set-up and say how to mend it."""

    def run(self) -> int:
        """Print what was found; status 1 when something does not work."""
        from dit_course.doctor import examine, report

        return report(examine())


if __name__ == "__main__":
    sys.exit(main())
