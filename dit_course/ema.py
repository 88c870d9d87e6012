"""A running average of the weights: what samples should be drawn with (lesson 07)."""

import math
from copy import deepcopy

import torch
from torch import Tensor, nn


def running_average(values: Tensor, decay: float) -> Tensor:
    """The exponential moving average of a sequence, after each of its values.

    values: (n, ...), oldest first; the average starts at the first of them. decay: the share of itself that the average
    keeps at each further value, in [0, 1).
    Returns (n, ...).
    """
    average = values[0]
    averages = [average]
    for value in values[1:]:
        average = decay * average + (1 - decay) * value
        averages.append(average)
    return torch.stack(averages)  # n x (...) -> (n, ...)


def half_life(decay: Tensor) -> Tensor:
    """After how many updates half of an average is made of newer values: n with decay**n = 1/2.

    decay: any shape, values in (0, 1). Returns the same shape. The window 1 / (1 - decay) is about 1.44 half-lives.
    """
    return math.log(0.5) / torch.log(decay)


def averaging_weights(decays: Tensor) -> Tensor:
    """How much of each value is in a running average: its weights, which add up to 1.

    decays: (n,), the share of itself that the average kept at each of n updates, oldest first.
    Returns (n + 1,): the share of the start, then of each update's value.
    """
    start = torch.ones(1, dtype=decays.dtype, device=decays.device)
    taken = torch.cat([start, 1 - decays])  # (n + 1,): what came in at once
    kept = torch.cat([decays, start]).flip(0).cumprod(0).flip(0)  # (n + 1,): what was left of it by all later updates
    return taken * kept


def post_hoc_average(snapshots: Tensor, decays: Tensor) -> Tensor:
    """The average that an EMA would hold, computed afterwards from weights that were kept.

    snapshots: (n + 1, parameters), the start and the weights at each of n updates. decays: (n,) of the updates.
    Returns (parameters,).
    """
    return averaging_weights(decays).to(snapshots.dtype) @ snapshots  # (n + 1,) @ (n + 1, p) -> (p,)


def warmup_decays(decay: float, updates: int) -> Tensor:
    """The decays of an EMA's first updates, with warm-up: (updates,), float64. See `EMA`."""
    n = torch.arange(updates, dtype=torch.float64)
    return ((1 + n) / (10 + n)).clamp(max=decay)


class EMA:
    """Exponential moving average of a model's weights, with warm-up.

    After n updates the next one keeps min(decay, (1 + n) / (10 + n)) of the average. Without this warm-up a decay of
    0.9999 would still hold 37% of the random start after 10,000 updates. (The warm-up is a power-function average in
    the sense of Karras et al. 2023, arXiv 2312.02696, section 3.1.)

    `ema.model` is the averaged model: in eval mode, without gradients, ready to sample from. A checkpoint keeps its
    weights and the number of `updates`.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, warmup: bool = True):
        if not 0 <= decay < 1:
            raise ValueError(f"decay = {decay!r}, but it must be at least 0 and below 1 (0.9999 is usual)")
        self.decay, self.warmup, self.updates = decay, warmup, 0
        self.model = deepcopy(model).eval().requires_grad_(False)

    def current_decay(self) -> float:
        """How much of the average the next update keeps."""
        return min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average a little towards the weights of `model`; buffers are copied as they are."""
        average, weights = list(self.model.parameters()), [p.detach() for p in model.parameters()]
        torch._foreach_lerp_(average, weights, 1 - self.current_decay())  # all tensors in one call: it is quicker
        for ours, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            ours.copy_(theirs)
        self.updates += 1
