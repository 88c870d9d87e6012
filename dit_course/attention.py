"""Tokens look at each other: attention, the norms that keep it calm, and the MLP (lesson 02)."""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """Who looks at whom: softmax(query key^T / sqrt(d)) (Vaswani et al. 2017, arXiv 1706.03762, equation 1).

    query: (..., n, d); key: (..., m, d). Returns (..., n, m): row i says how much token i takes from each of the m
    tokens, and sums to 1.
    """
    logits = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5  # (..., n, d) @ (..., d, m) -> (..., n, m)
    return logits.softmax(dim=-1)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Share the features among heads: (batch, tokens, width) -> (batch, heads, tokens, width / heads)."""
    batch, tokens, width = x.shape
    return x.reshape(batch, tokens, heads, width // heads).transpose(1, 2)  # (b, n, w) -> (b, n, h, d) -> (b, h, n, d)


def merge_heads(x: Tensor) -> Tensor:
    """Put the heads side by side again: (batch, heads, tokens, d) -> (batch, tokens, heads * d)."""
    return x.transpose(1, 2).flatten(2)  # (b, h, n, d) -> (b, n, h, d) -> (b, n, h * d)


class RMSNorm(nn.Module):
    """Divide each vector by the root of its mean square (Zhang & Sennrich 2019, arXiv 1910.07467, equation 4).

    Like LayerNorm without the mean and without the bias. `scale=False` leaves out the learned scale, for places where
    the modulation of adaLN brings its own. Lesson 02 builds it by hand; this is PyTorch's, one kernel on a GPU.
    """

    def __init__(self, width: int, eps: float = 1e-6, scale: bool = True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width)) if scale else None

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., width). Returns the same shape and dtype; the mean square is taken in float32."""
        weight = None if self.weight is None else self.weight.to(x.dtype)
        half = x.dtype in (torch.float16, torch.bfloat16)  # autocast would copy these to float32 first
        with torch.autocast(x.device.type, enabled=False) if half else nullcontext():
            return F.rms_norm(x, x.shape[-1:], weight, self.eps)


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, arXiv 1706.03762, equation 1), with QK-norm.

    QK-norm passes queries and keys through an RMSNorm of their own, so that the logits cannot grow without bound
    (Dehghani et al. 2023, arXiv 2302.05442; in bfloat16: Stable Diffusion 3, arXiv 2403.03206).
    """

    def __init__(self, width: int, heads: int, qk_norm: bool = True):
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be shared by {heads} heads: it is not a multiple")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.norm_q = RMSNorm(width // heads) if qk_norm else nn.Identity()
        self.norm_k = RMSNorm(width // heads) if qk_norm else nn.Identity()
        self.output = nn.Linear(width, width)
        for linear in (self.qkv, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, tokens, width). Returns the same shape: each token, a mixture of what all tokens offer."""
        query, key, value = self.project_qkv(x)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.output(merge_heads(mixed))  # (b, h, n, d) -> (b, n, w)

    def project_qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x (batch, tokens, width): (batch, heads, tokens, width / heads) each."""
        parts = self.qkv(x).chunk(3, dim=-1)  # (b, n, 3 * w) -> 3 x (b, n, w)
        query, key, value = (split_heads(part, self.heads) for part in parts)  # 3 x (b, h, n, d)
        return self.norm_q(query), self.norm_k(key), value

    def attention_map(self, x: Tensor) -> Tensor:
        """Who looks at whom: (batch, heads, tokens, tokens), rows sum to 1. For looking only: `forward` is faster."""
        query, key, _ = self.project_qkv(x)
        return attention_weights(query, key)


class MLP(nn.Module):
    """Each token thinks for itself: widen, GELU (in its tanh form, as in DiT), and back."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        for linear in (self.up, self.down):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., width). Returns the same shape."""
        return self.down(F.gelu(self.up(x), approximate="tanh"))
