"""What a network costs, and what it costs to grow: parameters, FLOPs, power laws, bfloat16 (lessons 04 and 10).

Several processes live in `distributed/`; the experiment in `data/experiments/scaling.csv` is made by
`python -m dit_course scaling`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dit_course.dit import DiTConfig
from dit_course.guards import known

# the networks of the scaling experiment; each has more features than a patch of 7 has pixels, or noise would not fit in
SIZES = {
    "tiny": {"width": 64, "depth": 2, "heads": 2},
    "small": {"width": 80, "depth": 3, "heads": 2},
    "medium": {"width": 96, "depth": 4, "heads": 3},
    "large": {"width": 128, "depth": 6, "heads": 4},
}
PATCH_SIZES = (7, 4)  # 16 and 49 tokens of a picture of 28 x 28


def scaled_config(size: str, patch_size: int) -> DiTConfig:
    """A network of the scaling experiment, for Fashion-MNIST: as in the paper, without registers and QK-norm.

    size: a name in `SIZES`. patch_size: in pixels. Raises ValueError for an unknown size.
    """
    shared = {"image_size": 28, "channels": 1, "registers": 0, "qk_norm": False, "norm": "layer"}
    return DiTConfig(patch_size=patch_size, **shared, **known(SIZES, size, "size"))


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
    modulation = 6 * width**2  # once per picture, not once per token
    blocks = {"attention": linear, "pairs of tokens": pairs, "MLP": mlp, "adaLN": modulation}
    return {part: config.depth * count for part, count in blocks.items()} | ends


def training_flops(config: DiTConfig, pictures: int) -> int:
    """The work of training on so many pictures, repeated ones counted again, in FLOPs.

    Forward it is two FLOPs a multiply-add. Backward each matrix product needs two of its kind, one for the gradient of
    its input and one for that of its weights. Averages and the optimizer are small beside that, and left out.
    """
    forward = 2 * sum(count_multiply_adds(config).values())
    return 3 * forward * pictures


def even_tokens(width: int, mlp_ratio: float = 4.0) -> float:
    """For how many tokens the pairs of tokens are as much work in a block as its linear layers.

    Both in multiply-adds; adaLN, which works once per picture, is left out. Below that number the linear layers are the
    larger part, above it the pairs.
    """
    linear = 4 * width**2 + 2 * mlp_ratio * width**2  # for each token
    pair = 2 * width  # for each token and each other one
    return linear / pair


def fit_power_law(x: Tensor, y: Tensor) -> Tensor:
    """Fit y = factor * x ** exponent by least squares in the logarithms: (2,) float64, factor and exponent.

    x, y: (n,), all above 0, with two different x at least.
    """
    x, y = x.double().log(), y.double().log()
    away = x - x.mean()
    exponent = (away * y).sum() / away.square().sum()
    factor = (y.mean() - exponent * x.mean()).exp()
    return torch.stack([factor, exponent])


def to_bfloat16(x: Tensor) -> Tensor:
    """Round float32 to the nearest number that bfloat16 has, as float32 again: the shape of x.

    A bfloat16 is the first half of a float32: sign, 8 bits of exponent, 7 bits behind the point. What lies halfway
    between two of them goes to the one whose last bit is 0. x: finite.
    """
    bits = x.view(torch.int32)
    last = (bits >> 16) & 1  # the last bit that is kept
    bits = (bits + 0x7FFF + last) >> 16 << 16  # over the half, and the kept part grows by one
    return bits.view(torch.float32)


def gpu_hours(flops: float, teraflops: float = 989.0, utilization: float = 0.4) -> float:
    """How long one GPU works, in hours, if it does a share of what it could.

    teraflops: its peak, in 10^12 FLOPs a second; an H100 has 989 in bf16 by its data sheet. utilization: the share of
    it that a training makes use of.
    """
    return flops / (teraflops * 1e12 * utilization) / 3600


def means_of(rows: Sequence[dict], metric: str, patch: int) -> tuple[Tensor, Tensor]:
    """The scaling experiment at one patch size: training FLOPs (n,), and a metric's mean over the seeds (n,)."""
    by_flops: dict[float, list[float]] = {}
    for row in rows:
        if row["patch"] == patch:
            by_flops.setdefault(row["training_flops"], []).append(row[metric])
    flops = sorted(by_flops)
    means = [sum(by_flops[x]) / len(by_flops[x]) for x in flops]
    return torch.tensor(flops, dtype=torch.float64), torch.tensor(means, dtype=torch.float64)
