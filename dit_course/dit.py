"""The whole Diffusion Transformer, with register tokens (lesson 04).

Peebles & Xie 2023, arXiv 2212.09748; registers: Darcet et al. 2023, arXiv 2309.16588.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from dit_course.blocks import DiTBlock, FinalLayer
from dit_course.conditioning import LabelEmbedder, TimestepEmbedder
from dit_course.guards import check_dit_config, check_dit_inputs, check_size_name
from dit_course.patches import PatchEmbed, patch_grid, sincos_position_embedding, unpatchify

# the paper's table 1; "/2" and the like give the patch size
SIZES = {
    "S": {"width": 384, "depth": 12, "heads": 6},
    "B": {"width": 768, "depth": 12, "heads": 12},
    "L": {"width": 1024, "depth": 24, "heads": 16},
    "XL": {"width": 1152, "depth": 28, "heads": 16},
}


@dataclass(frozen=True)
class DiTConfig:
    """What a DiT is made of. Raises ValueError at once when the parts do not fit together."""

    image_size: int | tuple[int, int] = 32
    """Side of a square image in pixels, or (height, width)."""
    patch_size: int = 4
    """Side of a patch in pixels; a divisor of the image's sides."""
    channels: int = 3
    """Channels of the image: 1 for gray, 3 for color, 4 for the usual latents."""
    width: int = 192
    """Features of a token; a multiple of 4 and of `heads`."""
    depth: int = 6
    """How many blocks."""
    heads: int = 6
    """How many attention heads share the width."""
    mlp_ratio: float = 4.0
    """How much wider than a token the MLP is inside."""
    registers: int = 4
    """Extra learned tokens that belong to no patch; 0 for none."""
    num_classes: int | None = 10
    """How many classes there are; None makes an unconditional model."""
    label_dropout: float = 0.1
    """How often training hides the label, in [0, 1]; without it there is no guidance."""
    qk_norm: bool = True
    """Whether queries and keys pass through an RMSNorm."""
    norm: Literal["rms", "layer"] = "rms"
    """The blocks' norm: RMSNorm, or LayerNorm as in the paper."""
    out_channels: int | None = None
    """Channels of the output; None for as many as the image has."""

    def __post_init__(self):
        """Check that the parts fit together, and bring numbers of other kinds, such as numpy's, to Python's own."""
        check_dit_config(self)

    @property
    def image_shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return patch_grid(*self.image_shape, self.patch_size)


def append_registers(tokens: Tensor, registers: Tensor) -> Tensor:
    """Put the registers behind the patch tokens, the same ones for every picture (Darcet et al. 2023, section 2.2).

    tokens: (batch, patches, width). registers: (registers, width), learned; there may be none, (0, width).
    Returns (batch, patches + registers, width) in the dtype of the tokens.
    """
    registers = registers.expand(len(tokens), -1, -1)  # (registers, width) -> (batch, registers, width)
    return torch.cat([tokens, registers.to(tokens.dtype)], dim=1)


def drop_registers(tokens: Tensor, count: int) -> Tensor:
    """Take the last `count` tokens off again: they have done their work.

    tokens: (batch, patches + count, width). count: 0 or more. Returns (batch, patches, width).
    """
    return tokens[:, : tokens.shape[1] - count]


class DiT(nn.Module):
    """A Diffusion Transformer: from a noisy image, its time and its class to the velocity that made it noisy.

    The last layer is zero at first, so a new model predicts 0 and every block is the identity: `modulation` and the
    final `linear` start at zero where they are made, and nothing is initialized twice.
    """

    class_names: tuple[str, ...] | None = None  # set by `load_pretrained`, so that labels may be names

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = config
        out_channels = config.out_channels or config.channels
        self.patch_embed = PatchEmbed(config.patch_size, config.channels, config.width)
        positions = sincos_position_embedding(*config.grid, config.width)
        self.register_buffer("positions", positions, persistent=False)
        self.registers = nn.Parameter(0.02 * torch.randn(config.registers, config.width))
        self.time_embed = TimestepEmbedder(config.width)
        self.label_embed = None
        if config.num_classes is not None:
            self.label_embed = LabelEmbedder(config.num_classes, config.width, config.label_dropout)
        self.blocks = nn.ModuleList(
            DiTBlock(config.width, config.heads, config.mlp_ratio, config.qk_norm, config.norm)
            for _ in range(config.depth)
        )
        self.final = FinalLayer(config.width, out_channels * config.patch_size**2, config.norm)

    @classmethod
    def from_name(cls, name: str, **config) -> "DiT":
        """A model of the paper's sizes: "DiT-S/2" is size S with patches of 2. Further arguments go to `DiTConfig`."""
        return cls(named_config(name, **config))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Predict the velocity, noise - data.

        x: (batch, channels, height, width), noisy images; data lies in [-1, 1].
        t: (batch,) in [0, 1], 0 = data, 1 = noise.
        y: (batch,) int64 class labels, `num_classes` for "no label"; None for a model without classes.
        Returns (batch, out_channels, height, width).
        """
        self._check(x, t, y)
        out_channels = self.config.out_channels or self.config.channels
        condition = self.condition(t, y)
        tokens = self.embed(x)
        for block in self.blocks:
            tokens = block(tokens, condition)
        tokens = drop_registers(tokens, self.config.registers)
        patches = self.final(tokens, condition)
        return unpatchify(patches, self.config.patch_size, out_channels, *self.config.image_shape)

    def embed(self, x: Tensor) -> Tensor:
        """Images to what the first block sees: (batch, patches + registers, width), the registers last."""
        return append_registers(self.patch_embed(x) + self.positions, self.registers)

    def condition(self, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Time and class as one vector: (batch, width)."""
        time = self.time_embed(t)
        return time if self.label_embed is None else time + self.label_embed(y)

    def _check(self, x: Tensor, t: Tensor, y: Tensor | None) -> None:
        """Shapes that do not fit are named here: deep inside the network nobody would understand them."""
        check_dit_inputs(self.config, self.registers.dtype, x, t, y)


def named_config(name: str, **config) -> DiTConfig:
    """The configuration of a named size, such as "DiT-S/2"; further arguments go to `DiTConfig`."""
    size, _, patch = name.removeprefix("DiT-").partition("/")
    check_size_name(name, size in SIZES and patch.isdecimal(), SIZES)
    return replace(DiTConfig(**config), **SIZES[size], patch_size=int(patch))
