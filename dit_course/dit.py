"""The whole Diffusion Transformer, with register tokens (lesson 04).

Peebles & Xie 2023, arXiv 2212.09748; registers: Darcet et al. 2023, arXiv 2309.16588.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from dit_course.blocks import DiTBlock, FinalLayer
from dit_course.conditioning import LabelEmbedder, TimestepEmbedder
from dit_course.patches import PatchEmbed, patch_grid, sincos_position_embedding, unpatchify

# the paper's table 1; "/2" and the like give the patch size
SIZES = {
    "S": {"width": 384, "depth": 12, "heads": 6},
    "B": {"width": 768, "depth": 12, "heads": 12},
    "L": {"width": 1024, "depth": 24, "heads": 16},
    "XL": {"width": 1152, "depth": 28, "heads": 16},
}


def _whole(value, least: int = 1) -> bool:
    """Whether a value is a whole number, and large enough."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _real(value) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class DiTConfig:
    """What a DiT is made of. Raises ValueError at once when the parts do not fit together."""

    image_size: int | tuple[int, int] = 32
    """Side of a square image in pixels, or (height, width)."""
    patch_size: int = 4
    """Side of a patch in pixels; a divisor of the image's sides."""
    channels: int = 3
    """Channels of the image: 1 for gray, 3 for colour, 4 for the usual latents."""
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
        """Check that the parts fit together."""
        if isinstance(self.image_size, list):  # JSON knows no tuples
            object.__setattr__(self, "image_size", tuple(self.image_size))
        for name in ("patch_size", "channels", "width", "depth", "heads"):
            self._require(name, _whole(getattr(self, name)), "a whole number, at least 1")
        for name in ("num_classes", "out_channels"):
            value = getattr(self, name)
            self._require(name, value is None or _whole(value), "a whole number, at least 1, or None")
        self._require("registers", _whole(self.registers, least=0), "a whole number, 0 or more")
        self._require("label_dropout", _real(self.label_dropout) and 0 <= self.label_dropout <= 1, "between 0 and 1")
        self._require("qk_norm", isinstance(self.qk_norm, bool), "True or False")
        self._require("norm", self.norm in ("rms", "layer"), '"rms" or "layer"')
        self._require("width", self.width % 4 == 0, "a multiple of 4, for the sine-cosine positions")
        self._require("width", self.width % self.heads == 0, f"a multiple of the number of heads ({self.heads})")
        fits = _real(self.mlp_ratio) and self.width * self.mlp_ratio >= 1
        self._require("mlp_ratio", fits, "a number above 0 that leaves the MLP some width (4.0 is usual)")
        square = _whole(self.image_size)
        pair = isinstance(self.image_size, tuple) and len(self.image_size) == 2 and all(map(_whole, self.image_size))
        self._require("image_size", square or pair, "a whole number of pixels, or two: (height, width)")
        try:
            patch_grid(*self.image_shape, self.patch_size)
        except ValueError as error:
            raise ValueError(f"DiTConfig: image_size and patch_size do not fit: {error}") from None

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(f"DiTConfig: {name} = {getattr(self, name)!r}, but it must be {expected}")

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

    The last layer is zero at first, so a new model answers 0 and every block is the identity: `modulation` and the
    final `linear` start at zero where they are made, and nothing is initialised twice.
    """

    class_names: tuple[str, ...] | None = None  # set by `load_pretrained`, so that classes can be asked for by name

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
        """A model of the paper's sizes: "DiT-S/2" is size S with patches of 2. Further words go to `DiTConfig`."""
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
        expected = (self.config.channels, *self.config.image_shape)
        if x.ndim != 4 or tuple(x.shape[1:]) != expected:
            raise ValueError(f"x has shape {tuple(x.shape)}, this model takes (batch, {', '.join(map(str, expected))})")
        if not x.is_floating_point():
            raise TypeError(f"x is {x.dtype}: the model takes floats, with data in [-1, 1] (x / 127.5 - 1 for bytes)")
        dtype = self.registers.dtype
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(f"x is {x.dtype}, but the weights of this model are {dtype}: use x.to({dtype})")
        if t.shape != (len(x),):
            raise ValueError(f"t has shape {tuple(t.shape)}, expected one time for each image: ({len(x)},)")
        if (y is None) != (self.label_embed is None):
            problem = "needs labels y (num_classes for no label)" if y is None else "has no classes: leave y out"
            raise ValueError(f"this model {problem}")
        if y is not None and y.shape != (len(x),):
            raise ValueError(f"y has shape {tuple(y.shape)}, expected one label for each image: ({len(x)},)")


def named_config(name: str, **config) -> DiTConfig:
    """The configuration of a named size, such as "DiT-S/2"; further words go to `DiTConfig`."""
    size, _, patch = name.removeprefix("DiT-").partition("/")
    if size not in SIZES or not patch.isdecimal():
        known = ", ".join(f"DiT-{size}" for size in SIZES)
        raise ValueError(f"{name!r} is no known size: take one of {known}, a slash and the patch size, as in DiT-S/2")
    return replace(DiTConfig(**config), **SIZES[size], patch_size=int(patch))


def count_parameters(config: DiTConfig) -> dict[str, int]:
    """How many numbers a DiT learns, part by part; together as many as `DiT(config)` has."""
    width, hidden = config.width, int(config.width * config.mlp_ratio)
    pixels, outputs = (c * config.patch_size**2 for c in (config.channels, config.out_channels or config.channels))
    classes = 0 if config.num_classes is None else config.num_classes + 1
    ends = {
        "patches in and out": (pixels + 1) * width + (width + 1) * outputs,
        "last modulation": (width + 1) * 2 * width,
        "time and class": (256 + 1) * width + (width + 1) * width + classes * width,
        "registers": config.registers * width,
    }
    scales = 2 * width // config.heads if config.qk_norm else 0
    attention = (width + 1) * 3 * width + (width + 1) * width + scales
    mlp = (width + 1) * hidden + (hidden + 1) * width
    modulation = (width + 1) * 6 * width
    blocks = {"attention": attention, "MLP": mlp, "adaLN": modulation}
    return {part: config.depth * count for part, count in blocks.items()} | ends


def count_multiply_adds(config: DiTConfig) -> dict[str, int]:
    """The work of one forward pass of one picture, part by part, in multiply-adds.

    Counted are matrix products, as in the paper's Gflops; norms, softmax and additions are small beside them. FLOPs in
    the strict sense, a multiplication and an addition each, are twice as many.
    """
    width, hidden = config.width, int(config.width * config.mlp_ratio)
    pixels, outputs = (c * config.patch_size**2 for c in (config.channels, config.out_channels or config.channels))
    rows, columns = config.grid
    patches = rows * columns
    ends = {
        "patches in and out": patches * (pixels + outputs) * width,
        "last modulation": 2 * width**2,
        "time and class": 256 * width + width**2,
    }
    tokens = patches + config.registers
    linear = tokens * 4 * width**2
    pairs = 2 * tokens**2 * width
    mlp = tokens * 2 * width * hidden
    modulation = 6 * width**2  # once a picture, not once a token
    blocks = {"attention": linear, "pairs of tokens": pairs, "MLP": mlp, "adaLN": modulation}
    return {part: config.depth * count for part, count in blocks.items()} | ends
