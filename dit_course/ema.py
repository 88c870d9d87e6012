"""A running average of the weights: what samples should be drawn with (lesson 07)."""

from copy import deepcopy

import torch
from torch import Tensor, nn


class EMA:
    """Exponential moving average of a model's weights, with warm-up.

    After n updates the next one keeps min(decay, (1 + n) / (10 + n)) of the average. Without this warm-up a decay of
    0.9999 would still hold 37 % of the random start after 10,000 updates. (The warm-up is a power-function average in
    the sense of Karras et al. 2023, arXiv 2312.02696, section 3.1.)

    `ema.model` is the averaged model: in eval mode, without gradients, ready to sample from.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, warmup: bool = True):
        if not 0 <= decay < 1:
            raise ValueError(f"decay = {decay!r}, but it must be at least 0 and below 1 (0.9999 is usual)")
        self.decay = decay
        self.warmup = warmup
        self.updates = 0
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

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights, for a checkpoint. The number of updates is kept beside them: `ema.updates`."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Tensor], updates: int) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(state)
        self.updates = updates
