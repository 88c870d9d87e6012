"""Build a Diffusion Transformer by hand, in notebooks, and watch it draw.

Every lesson has one room in this package, in the order in which the data flows: patches, attention, conditioning,
blocks, dit, flow, training, ema, sampling, evaluation, scaling, few_steps. `import dit_course` before torch: it makes
torch's threads wait politely.
"""

import importlib
import os
import warnings

from dit_course import interop  # noqa: F401 (from here on, old import paths lead to the new places)

# Idle threads sleep instead of spinning: with a browser on the other core this trains 2.5 times as fast. OpenMP reads
# it once, when torch is imported, so it is set here first; whoever has chosen otherwise is left alone.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# torch warns of its own use of torch.jit.script where forward-mode derivatives begin (lesson 11): nobody can mend it
warnings.filterwarnings("ignore", ".*torch.jit.script.* is deprecated", FutureWarning)

__version__ = "0.1.0"

# Which name lives in which room. They are fetched when first asked for, so that the command line answers quickly, and
# the doctor can be asked even where torch is missing.
ROOMS = {
    "patches": ("PatchEmbed", "patchify", "sincos_position_embedding", "unpatchify"),
    "attention": ("MLP", "RMSNorm", "SelfAttention"),
    "conditioning": ("LabelEmbedder", "TimestepEmbedder", "modulate"),
    "blocks": ("DiTBlock", "FinalLayer"),
    "dit": ("DiT", "DiTConfig", "append_registers", "drop_registers"),
    "flow": ("RectifiedFlow", "interpolate", "logit_normal", "uniform", "velocity_target"),
    "distributed.train_config": ("NonFiniteLoss", "Step", "TrainConfig"),
    "training": ("learning_rate", "overfit", "training_loop", "training_step"),
    "trainer": ("train",),
    "ema": ("EMA",),
    "sampling": ("Sampler", "ab2", "euler", "guided", "heun"),
    "few_steps": ("FewStepDiT", "FewStepSampler"),
    "evaluation": (
        "Classifier",
        "class_accuracy",
        "extrapolate",
        "frechet_distance",
        "gaussian_distance",
        "kernel_distance",
        "matrix_root",
        "measure",
        "nearest_neighbours",
        "pareto_front",
        "pixel_distance",
        "precision_recall",
    ),
    "scaling": (
        "count_multiply_adds",
        "count_parameters",
        "even_tokens",
        "fit_power_law",
        "gpu_hours",
        "to_bfloat16",
        "training_flops",
    ),
    "checkpoints": ("load_classifier", "load_pretrained", "save_pretrained"),
    "data": ("load_dataset", "to_float"),
}
_ROOM_OF = {name: room for room, names in ROOMS.items() for name in names}

__all__ = list(_ROOM_OF)


def __getattr__(name: str):
    """Fetch a public name from its room."""
    if name not in _ROOM_OF:
        raise AttributeError(f"dit_course has no {name!r}")
    value = getattr(importlib.import_module(f"dit_course.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All public names, fetched or not: for completion with the tab key."""
    return sorted({*globals(), *__all__})
