"""The command line: `python -m dit_course train | sample | evaluate | classifier | doctor`."""

import os
import sys
import warnings


def main(arguments: list[str] | None = None) -> int:
    """Run one command; what went wrong is one line on stderr and exit status 1 (DIT_COURSE_DEBUG=1 shows
    the traceback).
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["doctor"]:  # before anything else is imported: it must work where nothing else does
        from dit_course.doctor import examine, report

        return report(examine())

    import tyro

    from dit_course.commands.classifier import TrainClassifier
    from dit_course.commands.evaluate import Evaluate
    from dit_course.commands.sample import Sample
    from dit_course.commands.train import Train
    from dit_course.training import NonFiniteLoss

    commands = {
        "train": Train,
        "sample": Sample,
        "evaluate": Evaluate,
        "classifier": TrainClassifier,
        "doctor": Doctor,
    }
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            commands,
            args=arguments,
            prog="python -m dit_course",
            description=__doc__,
            config=(tyro.conf.OmitArgPrefixes,),
        )
        command.run()
    except (ValueError, TypeError, OSError, NonFiniteLoss) as error:
        if os.environ.get("DIT_COURSE_DEBUG"):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


class Doctor:
    """Check this machine's set-up and say how to mend it."""


if __name__ == "__main__":
    sys.exit(main())
