"""Sliders: move one, and the model draws again."""

from dit_course.explore.guidance import guidance
from dit_course.explore.patches import patches
from dit_course.explore.registers import registers

__all__ = ["guidance", "patches", "registers"]
