"""Plausible wrong versions of lesson 04's exercises."""

from collections.abc import Callable

import torch
from torch import Tensor

from dit_course import dit, scaling
from dit_course.dit import DiT, DiTConfig
from dit_course.patches import unpatchify


def forwarded(
    blocks: Callable = list,
    embed: Callable = DiT.embed,
    condition: Callable = DiT.condition,
    count: int | None = None,
    shape: Callable = lambda height, width: (height, width),
    patches_only: bool = False,
    residual: bool = False,
    last: Callable = lambda model, told, t: told,
) -> Callable:
    """A wrong `DiT.forward`: which blocks run, on which tokens, with which condition, how many are dropped."""

    def wrong(model: DiT, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        config = model.config
        told, tokens = condition(model, t, y), embed(model, x)
        for block in blocks(model.blocks):
            tokens = block(tokens, told) + (tokens if residual else 0)
        tokens = dit.drop_registers(tokens, config.registers if count is None else count)
        patches = model.final(tokens, last(model, told, t))
        if patches_only:
            return patches
        return unpatchify(
            patches, config.patch_size, config.out_channels or config.channels, *shape(*config.image_shape)
        )

    return wrong


def label_hidden(model: DiT, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
    """Every class is "no label"."""
    return model(x, t, None if y is None else torch.full_like(y, model.config.num_classes))


def sizes(config: DiTConfig) -> tuple[int, int, int, int]:
    """(width, features of a head, hidden features of the MLP, patches) of a network."""
    rows, columns = config.grid
    return config.width, config.width // config.heads, int(config.width * config.mlp_ratio), rows * columns


def attention(config: DiTConfig, linear: Callable, scales: Callable | None = None) -> int:
    """Parameters of attention in all blocks, counted wrongly: linear(width), and scales(width, head)."""
    width, head, _, _ = sizes(config)
    right = 2 * head if config.qk_norm else 0
    return config.depth * (linear(width) + (right if scales is None else scales(width, head)))


def both(width: int) -> int:
    """Weights and biases of the two linear layers of attention."""
    return (width + 1) * 4 * width


def mlp(config: DiTConfig, count: Callable) -> int:
    """Parameters of all MLPs, counted wrongly: count(width, hidden)."""
    width, _, hidden, _ = sizes(config)
    return config.depth * count(width, hidden)


def adaln(config: DiTConfig, count: Callable) -> int:
    """Parameters of adaLN, counted wrongly: count(width) a block."""
    return config.depth * count(config.width)


ONE_BLOCK = "that is one block: there are `config.depth` of them"
NO_BIAS = "the biases are missing: a layer from a to b features has a * b weights and b biases"
MLP_RATIO = "the hidden layer is not always four times as wide: `hidden` knows how wide"
MLP_ONCE = "an MLP has two layers, one up to the hidden features and one down again"
SIX = "adaLN makes six vectors of `width` numbers in each block: shift, scale and gate, twice"

PARAMETER_MISTAKES = {
    "attention": [
        ONE_BLOCK,
        lambda c: scaling.count_parameters(c)["attention"] // c.depth,
        NO_BIAS,
        lambda c: attention(c, lambda w: 4 * w * w),
        lambda c: attention(c, lambda w: 4 * w * w, lambda w, head: 0),
        "a layer is missing: `qkv` makes three vectors of each token, and `output` mixes the heads' results",
        lambda c: attention(c, lambda w: (w + 1) * 3 * w),
        lambda c: attention(c, lambda w: (w + 1) * 3 * w, lambda w, head: 0),
        "the QK-norm is missing: queries and keys each have one scale for every feature of a head",
        lambda c: attention(c, both, lambda w, head: 0),
        "the QK-norm has two sets of scales, one for queries and one for keys",
        lambda c: attention(c, both, lambda w, head: head),
        "the scales of the QK-norm are shared by all heads: width // heads for queries, and as many for keys",
        lambda c: attention(c, both, lambda w, head: 2 * w),
        "this network has no QK-norm (`config.qk_norm` is False), so it has no scales",
        lambda c: attention(c, both, lambda w, head: 2 * head),
        "the heads share the width: more heads do not make more weights",
        lambda c: c.heads * attention(c, both),
        lambda c: c.heads * attention(c, both, lambda w, head: 0),
    ],
    "MLP": [
        ONE_BLOCK,
        lambda c: scaling.count_parameters(c)["MLP"] // c.depth,
        NO_BIAS,
        lambda c: mlp(c, lambda w, hidden: 2 * w * hidden),
        MLP_ONCE,
        lambda c: mlp(c, lambda w, hidden: (w + 1) * hidden),
        "the two layers differ in their biases: `hidden` of them on the way up, `width` on the way down",
        lambda c: mlp(c, lambda w, hidden: 2 * (w + 1) * hidden),
        lambda c: mlp(c, lambda w, hidden: 2 * (hidden + 1) * w),
        MLP_RATIO,
        lambda c: mlp(c, lambda w, hidden: 8 * w * w + 5 * w),
    ],
    "adaLN": [
        ONE_BLOCK,
        lambda c: scaling.count_parameters(c)["adaLN"] // c.depth,
        NO_BIAS,
        lambda c: adaln(c, lambda w: 6 * w * w),
        SIX,
        lambda c: adaln(c, lambda w: (w + 1) * 2 * w),
        lambda c: adaln(c, lambda w: (w + 1) * 3 * w),
        lambda c: adaln(c, lambda w: (w + 1) * 4 * w),
        lambda c: adaln(c, lambda w: (w + 1) * 6),
        lambda c: adaln(c, lambda w: (w + 1) * w),
    ],
}

TOKENS = "the registers are tokens, too: every layer of a block works on them"
FLOPS = "you count twice: one multiplication and one addition are one multiply-add"
ONE_TOKEN = "that is the work for one token: every token passes through these layers"


def work(part: Callable) -> Callable:
    """A wrong count of multiply-adds in all blocks: part(tokens, patches, width, hidden, config) for one."""

    def wrong(config: DiTConfig) -> int:
        width, _, hidden, patches = sizes(config)
        return config.depth * part(patches + config.registers, patches, width, hidden, config)

    return wrong


def pixels(config: DiTConfig) -> int:
    """Pixels of a picture, and the registers."""
    height, width = config.image_shape
    return height * width + config.registers


def adaln_work(part: Callable) -> Callable:
    """A wrong count of adaLN's multiply-adds: part(tokens, patches, width) for one block."""

    def wrong(config: DiTConfig) -> int:
        width, _, _, patches = sizes(config)
        return config.depth * part(patches + config.registers, patches, width)

    return wrong


WORK_MISTAKES = {
    "attention": [
        ONE_BLOCK,
        lambda c: scaling.count_multiply_adds(c)["attention"] // c.depth,
        TOKENS,
        work(lambda n, patches, w, hidden, c: patches * 4 * w**2),
        FLOPS,
        work(lambda n, patches, w, hidden, c: n * 8 * w**2),
        "a token is a patch, not a pixel",
        work(lambda n, patches, w, hidden, c: pixels(c) * 4 * w**2),
        "`qkv` makes three vectors of each token, and `output` one: four matrices of width x width",
        work(lambda n, patches, w, hidden, c: n * 3 * w**2),
        work(lambda n, patches, w, hidden, c: n * w**2),
        ONE_TOKEN,
        work(lambda n, patches, w, hidden, c: 4 * w**2),
        "a bias is added, not multiplied: only weights count here",
        work(lambda n, patches, w, hidden, c: n * 4 * w * (w + 1)),
    ],
    "pairs of tokens": [
        ONE_BLOCK,
        lambda c: scaling.count_multiply_adds(c)["pairs of tokens"] // c.depth,
        TOKENS,
        work(lambda n, patches, w, hidden, c: 2 * patches**2 * w),
        FLOPS,
        work(lambda n, patches, w, hidden, c: 4 * n**2 * w),
        "the pairs meet twice: queries with keys, then weights with values",
        work(lambda n, patches, w, hidden, c: n**2 * w),
        "the heads share the width, so more heads do not make more work here: a pair costs `width` in all",
        work(lambda n, patches, w, hidden, c: c.heads * 2 * n**2 * w),
        work(lambda n, patches, w, hidden, c: 2 * n**2 * w // c.heads),
        "pairs are tokens times tokens",
        work(lambda n, patches, w, hidden, c: 2 * n * w),
    ],
    "MLP": [
        ONE_BLOCK,
        lambda c: scaling.count_multiply_adds(c)["MLP"] // c.depth,
        TOKENS,
        work(lambda n, patches, w, hidden, c: patches * 2 * w * hidden),
        FLOPS,
        work(lambda n, patches, w, hidden, c: n * 4 * w * hidden),
        MLP_ONCE,
        work(lambda n, patches, w, hidden, c: n * w * hidden),
        MLP_RATIO,
        work(lambda n, patches, w, hidden, c: n * 8 * w**2),
        ONE_TOKEN,
        work(lambda n, patches, w, hidden, c: 2 * w * hidden),
    ],
    "adaLN": [
        ONE_BLOCK,
        lambda c: scaling.count_multiply_adds(c)["adaLN"] // c.depth,
        "adaLN's layer sees the condition, one vector a picture, so it runs once a picture and not once a token",
        adaln_work(lambda n, patches, w: n * 6 * w**2),
        adaln_work(lambda n, patches, w: patches * 6 * w**2),
        FLOPS,
        adaln_work(lambda n, patches, w: 12 * w**2),
        SIX,
        adaln_work(lambda n, patches, w: 2 * w**2),
        adaln_work(lambda n, patches, w: 3 * w**2),
        adaln_work(lambda n, patches, w: w**2),
        adaln_work(lambda n, patches, w: 6 * w),
    ],
}
