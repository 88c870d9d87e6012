"""Checks of exercises: `patchify = check.patchify(patchify)`.

Each takes a learner's answer, prints one short verdict, and hands back the answer when it is right and the course's own
version until then, so that an unsolved lesson still runs to its end. `check.progress()` shows what is solved.

DIT_COURSE_STRICT=1 makes wrong answers an AssertionError (for grading), DIT_COURSE_CHECK_SEED=7 draws other cases.
"""

from dit_course.check.patches import (
    PatchEmbed,
    overlapping_patches,
    patchify,
    sincos_position_embedding,
    unpatchify,
)
from dit_course.check.training import accumulate_gradients, clip_gradients, learning_rate, overfit, training_step
from dit_course.check.verdict import progress

__all__ = [
    "PatchEmbed",
    "accumulate_gradients",
    "clip_gradients",
    "learning_rate",
    "overfit",
    "overlapping_patches",
    "patchify",
    "progress",
    "sincos_position_embedding",
    "training_step",
    "unpatchify",
]
