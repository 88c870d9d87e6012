"""Checks of exercises: `patchify = check.patchify(patchify)`.

Each takes a learner's answer, prints one short verdict, and hands back the answer when it is right and the course's own
version until then, so that an unsolved lesson still runs to its end. `check.progress()` shows what is solved.

DIT_COURSE_STRICT=1 makes wrong answers an AssertionError (for grading), DIT_COURSE_CHECK_SEED=7 draws other cases.
"""

from dit_course.check.evaluation import gaussian_distance, nearest_neighbours, precision_recall
from dit_course.check.evaluation_measured import kernel_distance, measure, pareto_front
from dit_course.check.patches import (
    PatchEmbed,
    overlapping_patches,
    patchify,
    sincos_position_embedding,
    unpatchify,
)
from dit_course.check.verdict import progress

__all__ = [
    "PatchEmbed",
    "gaussian_distance",
    "kernel_distance",
    "measure",
    "nearest_neighbours",
    "overlapping_patches",
    "pareto_front",
    "patchify",
    "precision_recall",
    "progress",
    "sincos_position_embedding",
    "unpatchify",
]
