"""The DiT block with adaLN-Zero, and the last layer (lesson 03).

Peebles & Xie 2023, arXiv 2212.09748, figure 3: the condition (time + class) decides for every layer how to scale and
shift what goes in, and with a gate how much of what comes out is kept. The gates start at zero, so at first every
block is the identity. Nothing may initialize these weights again later: that would silently undo the zeros.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from dit_course.attention import MLP, RMSNorm, SelfAttention
from dit_course.conditioning import modulate


def make_norm(kind: str, width: int) -> nn.Module:
    """A norm without learned scale or shift, for adaLN brings both. kind: "rms" or "layer" (as in the DiT paper)."""
    if kind == "rms":
        return RMSNorm(width, scale=False)
    if kind == "layer":
        return nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
    raise ValueError(f'norm must be "rms" or "layer", not {kind!r}')


def zero_linear(width: int, outputs: int) -> nn.Linear:
    """A linear layer whose output is zero until it is trained: the Zero of adaLN-Zero."""
    linear = nn.Linear(width, outputs)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class DiTBlock(nn.Module):
    """Attention and MLP, each inside a residual that adaLN-Zero modulates."""

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0, qk_norm: bool = True, norm: str = "rms"):
        super().__init__()
        self.norm_1 = make_norm(norm, width)
        self.attention = SelfAttention(width, heads, qk_norm)
        self.norm_2 = make_norm(norm, width)
        self.mlp = MLP(width, int(width * mlp_ratio))
        self.modulation = zero_linear(width, 6 * width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: (batch, tokens, width); condition: (batch, width). Returns the shape of x."""
        modulation = self.modulation(F.silu(condition))[:, None]  # (b, 6 * width) -> (b, 1, 6 * width)
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation.chunk(6, dim=-1)  # 6 x (b, 1, width)
        x = x + gate_1 * self.attention(modulate(self.norm_1(x), shift_1, scale_1))
        x = x + gate_2 * self.mlp(modulate(self.norm_2(x), shift_2, scale_2))
        return x


class FinalLayer(nn.Module):
    """From tokens to flattened patches: one last modulated norm and a linear map, zero at first."""

    def __init__(self, width: int, outputs: int, norm: str = "rms"):
        super().__init__()
        self.norm = make_norm(norm, width)
        self.modulation = zero_linear(width, 2 * width)
        self.linear = zero_linear(width, outputs)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: (batch, tokens, width); condition: (batch, width). Returns (batch, tokens, outputs)."""
        shift, scale = self.modulation(F.silu(condition))[:, None].chunk(2, dim=-1)  # 2 x (b, 1, width)
        return self.linear(modulate(self.norm(x), shift, scale))
