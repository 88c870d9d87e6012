"""Sliders: move one, and the model draws again."""

from dit_course.explore.ema import ema
from dit_course.explore.guidance import guidance
from dit_course.explore.patches import patches

__all__ = ["ema", "guidance", "patches"]
