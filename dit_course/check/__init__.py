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
from dit_course.check.registers import (
    DiT,
    append_registers,
    count_multiply_adds,
    count_parameters,
    drop_registers,
    resized,
)
from dit_course.check.verdict import progress

__all__ = [
    "DiT",
    "PatchEmbed",
    "append_registers",
    "count_multiply_adds",
    "count_parameters",
    "drop_registers",
    "overlapping_patches",
    "patchify",
    "progress",
    "resized",
    "sincos_position_embedding",
    "unpatchify",
]
