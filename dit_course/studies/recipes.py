"""Trainings that are known to work, by name: `python -m dit_course train --recipe NAME`.

A recipe sets what `train` starts from; every option given beside it still counts.
"""

from dataclasses import dataclass, field

from dit_course.distributed.train_config import TrainConfig
from dit_course.guards import known


@dataclass(frozen=True)
class Recipe:
    """A network and its training. about: one line for people."""

    about: str
    data: str
    model: dict
    """What differs from the defaults of `DiTConfig`; the data decides image size, channels and classes."""
    train: TrainConfig
    ema_decay: float = 0.9999
    timesteps: str = "logit_normal"
    extra: dict = field(default_factory=dict)
    """Further options of the command."""


RECIPES = {
    "three-minutes": Recipe(
        "Clothes in three minutes on two cores (lesson 06)",
        "fashion-mnist",
        # 16 tokens, and without what costs time at every step: see `data/experiments/three_minutes.csv`
        {"patch_size": 7, "width": 128, "depth": 4, "heads": 4, "registers": 0, "norm": "layer", "qk_norm": False},
        TrainConfig(minutes=3, lr=4e-3),
        ema_decay=0.999,
    ),
    "fashion-mnist": Recipe(
        "The shipped model: an hour on two cores",
        "fashion-mnist",
        {"patch_size": 4, "width": 128, "depth": 6, "heads": 4},
        TrainConfig(minutes=55, lr=1.5e-3),
    ),
    "cifar10-laptop": Recipe(
        "CIFAR-10 in color on two cores: hours, as many as you have",
        "cifar10",
        # without registers and QK-norm and with LayerNorm, 16% more pictures a second (2 CPU cores)
        {"patch_size": 4, "width": 160, "depth": 6, "heads": 5, "registers": 0, "norm": "layer", "qk_norm": False},
        TrainConfig(minutes=600, lr=1.5e-3, flip=True, warmup=500),
        ema_decay=0.9995,
        extra={"sample_every": 10_000},
    ),
    "cifar10": Recipe(
        "The shipped color model: CIFAR-10 on one GPU (H100 or H200) in eight minutes",
        "cifar10",
        {"patch_size": 2, "width": 192, "depth": 6, "heads": 6},
        TrainConfig(minutes=7.4, lr=1.5e-3, batch_size=256, flip=True, warmup=500, compile=True, betas=(0.9, 0.99)),
        ema_decay=0.9995,
        extra={"sample_every": 5000, "sample_steps": 50},
    ),
    "cifar10-s2": Recipe(
        "DiT-S/2 on CIFAR-10, one GPU, 25 minutes; not run yet, so not tuned",
        "cifar10",
        {"patch_size": 2, "width": 384, "depth": 12, "heads": 6},
        TrainConfig(minutes=25, lr=6e-4, batch_size=512, flip=True, warmup=1000, compile=True, betas=(0.9, 0.95)),
        extra={"sample_every": 5000, "sample_steps": 50},
    ),
    "just-a-dit": Recipe(
        "DiT-S/2 with 4 registers on CIFAR-10, 200,000 steps of 128: the repository that this course grew from",
        "cifar10",
        {"patch_size": 2, "width": 384, "depth": 12, "heads": 6, "registers": 4},
        TrainConfig(steps=200_000, batch_size=128, lr=1e-4, decay=0, warmup=0, flip=True),
        extra={"sample_every": 5000, "sample_steps": 50},
    ),
}


def find_recipe(name: str) -> Recipe:
    """The recipe of this name; ValueError lists those there are."""
    return known(RECIPES, name, "recipe")
