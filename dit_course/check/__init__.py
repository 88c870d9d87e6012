"""Checks of exercises: `patchify = check.patchify(patchify)`.

Each takes a learner's answer, prints one short verdict, and hands back the answer when it is right and the course's own
version until then, so that an unsolved lesson still runs to its end. `check.progress()` shows what is solved.

DIT_COURSE_STRICT=1 makes wrong answers an AssertionError (for grading), DIT_COURSE_CHECK_SEED=7 draws other cases.
"""

from dit_course.check.engine.verdict import progress
from dit_course.check.lesson_01_patches.exercises import (
    PatchEmbed,
    overlapping_patches,
    patchify,
    sincos_position_embedding,
    unpatchify,
)
from dit_course.check.lesson_02_attention.norm import RMSNorm
from dit_course.check.lesson_02_attention.self_attention import SelfAttention, attention_in_chunks
from dit_course.check.lesson_02_attention.weights_and_heads import attention_weights, merge_heads, split_heads
from dit_course.check.lesson_03_adaln_blocks.blocks import DiTBlock, FinalLayer
from dit_course.check.lesson_03_adaln_blocks.conditioning import LabelEmbedder, TimestepEmbedder, modulate
from dit_course.check.lesson_03_adaln_blocks.zero_init import block_changes
from dit_course.check.lesson_04_registers.dit import DiT, count_multiply_adds, count_parameters, resized
from dit_course.check.lesson_04_registers.registers import append_registers, drop_registers
from dit_course.check.lesson_05_flow_loss.flow import (
    RectifiedFlow,
    data_from_velocity,
    interpolate,
    noise_from_velocity,
    velocity_target,
)
from dit_course.check.lesson_05_flow_loss.timesteps import logit_normal, shift
from dit_course.check.lesson_06_training.exercises import (
    accumulate_gradients,
    clip_gradients,
    learning_rate,
    overfit,
    training_step,
)
from dit_course.check.lesson_07_ema.exercises import EMA, averaging_weights, half_life, power_decays, running_average
from dit_course.check.lesson_08_cfg_sampling.sampling import Sampler, ab2, class_grid, euler, guided, heun, invert
from dit_course.check.lesson_09_evaluation.distances import gaussian_distance, nearest_neighbours, precision_recall
from dit_course.check.lesson_09_evaluation.measures import kernel_distance, measure, pareto_front
from dit_course.check.lesson_10_scaling_up.exercises import (
    BatchShard,
    even_tokens,
    fit_power_law,
    to_bfloat16,
    training_flops,
)

__all__ = [
    "EMA",
    "BatchShard",
    "DiT",
    "DiTBlock",
    "FinalLayer",
    "LabelEmbedder",
    "PatchEmbed",
    "RMSNorm",
    "RectifiedFlow",
    "Sampler",
    "SelfAttention",
    "TimestepEmbedder",
    "ab2",
    "accumulate_gradients",
    "append_registers",
    "attention_in_chunks",
    "attention_weights",
    "averaging_weights",
    "block_changes",
    "class_grid",
    "clip_gradients",
    "count_multiply_adds",
    "count_parameters",
    "data_from_velocity",
    "drop_registers",
    "euler",
    "even_tokens",
    "fit_power_law",
    "gaussian_distance",
    "guided",
    "half_life",
    "heun",
    "interpolate",
    "invert",
    "kernel_distance",
    "learning_rate",
    "logit_normal",
    "measure",
    "merge_heads",
    "modulate",
    "nearest_neighbours",
    "noise_from_velocity",
    "overfit",
    "overlapping_patches",
    "pareto_front",
    "patchify",
    "power_decays",
    "precision_recall",
    "progress",
    "resized",
    "running_average",
    "shift",
    "sincos_position_embedding",
    "split_heads",
    "to_bfloat16",
    "training_flops",
    "training_step",
    "unpatchify",
    "velocity_target",
]
