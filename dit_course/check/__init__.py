"""Checks of exercises: `patchify = check.patchify(patchify)`.

Each takes a learner's answer, prints one short verdict, and hands back the answer when it is right and the course's own
version until then, so that an unsolved lesson still runs to its end. `check.progress()` shows what is solved.

DIT_COURSE_STRICT=1 makes wrong answers an AssertionError (for grading), DIT_COURSE_CHECK_SEED=7 draws other cases.

An exercise is written in some module of its lesson's folder, and is found there.
"""

import importlib
import pkgutil

from dit_course.check.engine.verdict import exercises, progress

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

globals().update({exercise.name: exercise for exercise in exercises})
__all__ = ["progress", *sorted(exercise.name for exercise in exercises)]


def __dir__() -> list[str]:
    """What JupyterLab offers after `check.`."""
    return __all__
