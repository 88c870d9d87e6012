"""The settings of a training, and what it yields after each step (lesson 06)."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

from dit_course.guards import require


class NonFiniteLoss(RuntimeError):
    """The loss became nan or infinite; the message says where, and what to do."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Raises ValueError when a setting makes no sense."""

    steps: int = 2000
    """How many optimizer steps."""
    minutes: float | None = None
    """Train for this long instead of `steps`. When it is time for the decay, the number of steps is fixed."""
    batch_size: int = 64
    """Pictures a step, of all processes together."""
    accumulate: int = 1
    """Gradient accumulation: compute each process's shard of a batch in so many parts; less memory, same result."""
    shard: bool = False
    """Split weights, gradients and optimizer among the processes (FSDP): for a model that does not fit on one GPU."""
    lr: float = 2e-3
    """The highest learning rate."""
    warmup: int = 100
    """Steps until the highest learning rate is reached."""
    decay: float = 0.4
    """The fraction of the training, at its end, in which the learning rate decays linearly to 0."""
    decay_steps: int | None = None
    """The same as a number of steps; comes first when given."""
    stop_after: int | None = None
    """End after so many steps, even in the middle of the decay; repeats a run by `minutes` that ended there."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's memory of gradients and of their squares."""
    clip: float = 1.0
    """Gradient clipping: the largest norm that is let through."""
    flip: bool = False
    """Mirror every second picture (not for clothes: all shoes point left)."""
    seed: int = 0
    """Of everything random in the training."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 autocast on a GPU that has it, else fp32, which was as fast or faster on two CPU cores."""
    row_threads: int | None = None
    """On a CPU: divide the rows of a batch among so many threads. None chooses; 1 lets torch divide each operation."""
    compile: bool = False
    """Let torch.compile fuse the model: a slow start, then quicker steps; needs a C++ compiler."""
    checkpoint_every: int = 500
    """Steps between checkpoints, where a folder is given."""

    def __post_init__(self):
        """Check each setting by itself."""
        for name in ("steps", "batch_size", "accumulate", "checkpoint_every"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        require(self, "minutes", self.minutes is None or 0 < self.minutes < math.inf, "above 0, or None")
        for name in ("lr", "clip"):
            require(self, name, 0 < getattr(self, name) < math.inf, "above 0")
        require(self, "warmup", self.warmup >= 0, "0 or more")
        require(self, "weight_decay", 0 <= self.weight_decay < math.inf, "0 or more")
        require(self, "decay", 0 <= self.decay <= 1, "between 0 and 1")
        require(self, "decay_steps", self.decay_steps is None or self.decay_steps >= 0, "0 or more, or None")
        require(self, "stop_after", self.stop_after is None or self.stop_after >= 1, "at least 1, or None")
        require(self, "betas", all(0 <= beta < 1 for beta in self.betas), "two numbers, 0 or more and below 1")
        require(self, "row_threads", self.row_threads is None or self.row_threads >= 1, "at least 1, or None")
        require(self, "seed", self.seed >= 0, "0 or more")
        require(self, "precision", self.precision in ("auto", "fp32", "bf16"), '"auto", "fp32" or "bf16"')


@dataclass
class Step:
    """What `train` yields after each step.

    index: steps done, from 1. loss: of this step's batch. learning_rate: used in it. images_per_second: over the last
    steps. seconds: training time so far, without what happens between the steps. total: how many steps are planned,
    None while `minutes` leaves it open. progress: the fraction of the training that is done, in [0, 1].
    """

    index: int
    loss_tensor: Tensor
    gradient_norm_tensor: Tensor
    learning_rate: float
    images_per_second: float
    seconds: float
    total: int | None
    progress: float

    @cached_property
    def loss(self) -> float:
        """The loss; on a GPU reading it waits for the step to end, so read it now and then only."""
        return self.loss_tensor.item()

    @cached_property
    def gradient_norm(self) -> float:
        """The norm of the gradient before clipping."""
        return self.gradient_norm_tensor.item()

    @property
    def seconds_left(self) -> float:
        """An estimate of the training time still to come."""
        return self.seconds * (1 - self.progress) / max(self.progress, 1e-9)
