"""How the network is told the time and the class (lesson 03)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dit_course.guards import check_labels


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Scale and shift the features of every token; zero shift and zero scale change nothing.

    x: (batch, tokens, width); shift, scale: (batch, 1, width). (FiLM, Perez et al. 2017, arXiv 1709.07871; adaLN in
    DiT, Peebles & Xie 2023, arXiv 2212.09748, section 3.2.)
    """
    return x * (1 + scale) + shift


class TimestepEmbedder(nn.Module):
    """The time t in [0, 1] as a vector: sinusoids of 1000 t, then a small MLP.

    Why 1000: the wavelengths reach from 2 pi to 2 pi * 10000. With t in [0, 1] nearly all of them would stand still.
    """

    def __init__(self, width: int, frequencies: int = 256, max_period: float = 10000.0):
        super().__init__()
        if frequencies % 2:
            raise ValueError(f"{frequencies} sinusoids cannot be halved into cosines and sines: take an even number")
        steps = torch.arange(frequencies // 2, dtype=torch.float32) / (frequencies // 2)
        # a buffer that is saved: weights trained with other frequencies (diffusers') bring theirs along
        self.register_buffer("frequencies", torch.exp(-math.log(max_period) * steps))
        self.input = nn.Linear(frequencies, width)
        self.output = nn.Linear(width, width)
        for linear in (self.input, self.output):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, t: Tensor) -> Tensor:
        """t: (batch,) in [0, 1], 0 = data, 1 = noise. Returns (batch, width)."""
        return self.output(F.silu(self.input(self.sinusoids(t).to(self.input.weight.dtype))))

    def sinusoids(self, t: Tensor) -> Tensor:
        """The fixed features of t (batch,): (batch, frequencies), cosines first, values in [-1, 1]."""
        angles = 1000 * t.float()[:, None] * self.frequencies.float()  # (batch, 1) * (half,) -> (batch, half)
        return torch.cat([angles.cos(), angles.sin()], dim=1)


class LabelEmbedder(nn.Module):
    """One learned vector per class, and one more, the last, for "no label".

    With labels dropped now and then in training, one network learns the conditional and the unconditional velocity, as
    classifier-free guidance needs (Ho & Salimans 2022, arXiv 2207.12598).
    """

    def __init__(self, num_classes: int, width: int, dropout: float = 0.1):
        super().__init__()
        self.num_classes = num_classes
        self.dropout = dropout
        self.table = nn.Embedding(num_classes + 1, width)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, labels: Tensor) -> Tensor:
        """labels: (batch,) int64 in 0..num_classes, where num_classes means "no label". Returns (batch, width)."""
        check_labels(labels, self.num_classes)
        return self.table(self.drop_labels(labels))

    def drop_labels(self, labels: Tensor) -> Tensor:
        """In training, each label becomes "no label" with probability `dropout`: (batch,) -> (batch,)."""
        if self.training and self.dropout > 0:
            dropped = torch.rand(labels.shape, device=labels.device) < self.dropout
            labels = labels.masked_fill(dropped, self.num_classes)
        return labels
