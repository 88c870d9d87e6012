"""Sliders: move one, and the model samples again."""

# ruff: noqa: F401 (all imports are public)

from dit_course.explore.attention import attention
from dit_course.explore.ema import ema
from dit_course.explore.few_steps import guidance
from dit_course.explore.noising import noising
from dit_course.explore.patches import patches
from dit_course.explore.positions import positions
from dit_course.explore.registers import registers
from dit_course.explore.time_embedding import time_embedding
from dit_course.explore.timesteps import timesteps
from dit_course.explore.training import training
from dit_course.explore.trajectory import trajectory

__all__ = sorted(name for name, value in vars().items() if callable(value))
