"""Sliders: move one, and the model draws again."""

from dit_course.explore.guidance import guidance

__all__ = ["guidance"]
