"""Sliders: move one, and the model draws again."""

from dit_course.explore.guidance import guidance
from dit_course.explore.patches import patches
from dit_course.explore.training import training

__all__ = ["guidance", "patches", "training"]
