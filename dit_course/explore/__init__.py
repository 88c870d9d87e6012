"""Sliders: move one, and the model samples again.

As the last line of a cell each is live in JupyterLab; where no kernel runs, a static picture shows the same.
"""

# ruff: noqa: F401 (all imports are public)

from dit_course.explore.attention import Attention as attention
from dit_course.explore.background import start_training
from dit_course.explore.ema import Ema as ema
from dit_course.explore.few_steps import guidance
from dit_course.explore.noising import Noising as noising
from dit_course.explore.patches import Patches as patches
from dit_course.explore.positions import positions
from dit_course.explore.registers import Registers as registers
from dit_course.explore.time_embedding import TimeEmbedding as time_embedding
from dit_course.explore.timesteps import Timesteps as timesteps
from dit_course.explore.training import training
from dit_course.explore.trajectory import trajectory

__all__ = sorted(name for name, value in vars().items() if callable(value))
