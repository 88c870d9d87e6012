"""Build a Diffusion Transformer by hand, in notebooks, and watch it draw.

Every lesson has one room in this package, in the order in which the data flows: patches, attention,
conditioning, blocks, dit, flow, training, ema, sampling, evaluation. `import dit_course` before torch: it
makes torch's threads wait politely.
"""

import os

# Idle threads sleep instead of spinning: with a browser on the other core this trains 2.5 times as fast.
# OpenMP reads it once, when torch is imported, so it is set here first; whoever has chosen otherwise is left
# alone.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from dit_course.attention import MLP, RMSNorm, SelfAttention
from dit_course.blocks import DiTBlock, FinalLayer
from dit_course.checkpoints import load_classifier, load_pretrained, save_pretrained
from dit_course.conditioning import LabelEmbedder, TimestepEmbedder, modulate
from dit_course.data import load_dataset, to_float
from dit_course.dit import DiT, DiTConfig
from dit_course.ema import EMA
from dit_course.evaluation import Classifier, class_accuracy, frechet_distance
from dit_course.flow import RectifiedFlow, interpolate, logit_normal, uniform, velocity_target
from dit_course.patches import PatchEmbed, patchify, sincos_position_embedding, unpatchify
from dit_course.sampling import Sampler, ab2, euler, guided, heun
from dit_course.training import NonFiniteLoss, Step, TrainConfig, train

__version__ = "0.1.0"

__all__ = [
    "EMA",
    "MLP",
    "Classifier",
    "DiT",
    "DiTBlock",
    "DiTConfig",
    "FinalLayer",
    "LabelEmbedder",
    "NonFiniteLoss",
    "PatchEmbed",
    "RMSNorm",
    "RectifiedFlow",
    "Sampler",
    "SelfAttention",
    "Step",
    "TimestepEmbedder",
    "TrainConfig",
    "ab2",
    "class_accuracy",
    "euler",
    "frechet_distance",
    "guided",
    "heun",
    "interpolate",
    "load_classifier",
    "load_dataset",
    "load_pretrained",
    "logit_normal",
    "modulate",
    "patchify",
    "save_pretrained",
    "sincos_position_embedding",
    "to_float",
    "train",
    "uniform",
    "unpatchify",
    "velocity_target",
]
