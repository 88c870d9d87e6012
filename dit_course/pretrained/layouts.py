"""Real DiT weights in our model (lesson 10): the layouts of facebookresearch/DiT and of diffusers.

Both hold the network of Peebles & Xie 2023, arXiv 2212.09748, under other names. Three more things differ:
they count time in steps 0..999 (ours is step / 1000), lay out output patches (p, p, c) (ours c, p, p), and
diffusers has its own timestep frequencies. The released models predict noise and variance, not velocity.
Names: models.py in github.com/facebookresearch/DiT; `DiTTransformer2DModel` in diffusers.
"""

import math
import re
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from dit_course.dit import DiT, DiTConfig
from dit_course.patches import sincos_position_embedding
from dit_course.wrappers import unwrap, without_prefixes

Weights = dict[str, Tensor]

# Our module, the official one, diffusers' one. {n} numbers the blocks; {qkv} is q, k and v, which we stack.
# In diffusers every block holds a copy of the whole embedder.
_EMBEDDER = "transformer_blocks.{n}.norm1.emb"
_NAMES = [
    ("patch_embed.projection", "x_embedder.proj", "pos_embed.proj"),
    ("time_embed.input", "t_embedder.mlp.0", f"{_EMBEDDER}.timestep_embedder.linear_1"),
    ("time_embed.output", "t_embedder.mlp.2", f"{_EMBEDDER}.timestep_embedder.linear_2"),
    ("label_embed.table", "y_embedder.embedding_table", f"{_EMBEDDER}.class_embedder.embedding_table"),
    ("blocks.{n}.attention.qkv", "blocks.{n}.attn.qkv", "transformer_blocks.{n}.attn1.to_{qkv}"),
    ("blocks.{n}.attention.output", "blocks.{n}.attn.proj", "transformer_blocks.{n}.attn1.to_out.0"),
    ("blocks.{n}.mlp.up", "blocks.{n}.mlp.fc1", "transformer_blocks.{n}.ff.net.0.proj"),
    ("blocks.{n}.mlp.down", "blocks.{n}.mlp.fc2", "transformer_blocks.{n}.ff.net.2"),
    ("blocks.{n}.modulation", "blocks.{n}.adaLN_modulation.1", "transformer_blocks.{n}.norm1.linear"),
    ("final.modulation", "final_layer.adaLN_modulation.1", "proj_out_1"),
    ("final.linear", "final_layer.linear", "proj_out_2"),
]


class _Layout(NamedTuple):
    name: str
    column: int  # of _NAMES
    positions: str
    frequency_shift: int  # the k-th sinusoid of `half` has the frequency 10000 ** (-k / (half - shift))


_OFFICIAL = _Layout("official", 1, "pos_embed", frequency_shift=0)
_DIFFUSERS = _Layout("diffusers", 2, "pos_embed.pos_embed", frequency_shift=1)


def load_official(model: DiT, state_dict: Weights) -> DiT:
    """Copy weights in the layout of facebookresearch/DiT into `model`, and return it.

    state_dict: the weights alone; of a training checkpoint, its entry "ema" or "model".
    A model that fits is `DiT(config_of_official(state_dict, heads))`: LayerNorm, no QK-norm, no registers.
    The heads leave no trace in the weights: a wrong number gives wrong outputs, not an error.
    `model(x, step / 1000, y)` then gives what theirs gives for the timestep `step`, to 1e-5; at ten of the
    thousand steps, from 127 to 511, to 3e-5: there 1000 * t misses the step by a last digit of float32.
    Raises ValueError, and leaves the model as it was, when weights and model do not fit.
    """
    return _load(model, state_dict, _OFFICIAL, norm_eps=1e-6)


def load_diffusers(model: DiT, state_dict: Weights, norm_eps: float = 1e-5) -> DiT:
    """Copy weights of diffusers' `DiTTransformer2DModel` into `model`, and return it.

    norm_eps: as in the config.json beside the weights: the eps of the norm before each MLP. No state dict has
    it: whoever loads ours into a new model sets `block.norm_2.eps` for each of `model.blocks` again.
    The weights do not tell, so nobody checks: heads, image size (their `sample_size`, a square) and
    `activation_fn` (ours is "gelu-approximate"). Time, outputs and errors are as in `load_official`.
    """
    return _load(model, state_dict, _DIFFUSERS, norm_eps)


def config_of_official(state_dict: Weights, heads: int, image_size: int | None = None) -> DiTConfig:
    """The configuration that official weights fit; released models have 6 (S), 12 (B) or 16 (L, XL) heads.

    image_size: what the network sees (latents, for the released models); None: the square the positions make.
    num_classes: the rows of the label table without the last one, "no label".
    Raises ValueError when the state dict is no complete DiT, or heads or image_size do not fit it.
    """
    state_dict = without_prefixes(state_dict)
    facts = _facts(state_dict, _sources(state_dict, _OFFICIAL))
    if image_size is None:
        tokens = state_dict["pos_embed"].shape[1]
        if math.isqrt(tokens) ** 2 != tokens:
            raise ValueError(f"pos_embed holds {tokens} positions, which make no square: give the image_size")
        image_size = math.isqrt(tokens) * facts["patch_size"]
    return DiTConfig(**facts, heads=heads, image_size=image_size)


def config_of_diffusers(state_dict: Weights, heads: int, image_size: int) -> DiTConfig:
    """The configuration that diffusers' weights fit.

    heads, image_size: `num_attention_heads` and `sample_size` of the config.json beside the weights.
    Raises ValueError when the state dict is no complete DiT, or heads or image_size do not fit it.
    """
    state_dict = without_prefixes(state_dict)
    facts = _facts(state_dict, _sources(state_dict, _DIFFUSERS))
    return DiTConfig(**facts, heads=heads, image_size=image_size)


def _load(model: DiT, state_dict: Weights, layout: _Layout, norm_eps: float) -> DiT:
    """Check everything, then copy: no model is left half loaded."""
    wrapped, model, state_dict = model, unwrap(model), without_prefixes(state_dict)
    sources = _sources(state_dict, layout)
    _check_config(model.config, _facts(state_dict, sources), layout)
    for name in sources.pop("positions", []):  # ours are computed, not loaded
        _check_positions(model.config, state_dict[name], name)
    for ours, theirs in sources.items():
        _check_shapes(model, state_dict, ours, theirs)
    with torch.no_grad():
        for ours, theirs in sources.items():
            model.get_parameter(ours).copy_(_translated(state_dict, ours, theirs, model.config.patch_size))
        frequencies = model.time_embed.frequencies
        frequencies.copy_(_frequencies(len(frequencies), layout.frequency_shift))
    for block in model.blocks:
        block.norm_2.eps = norm_eps
    return wrapped


def _translated(state_dict: Weights, ours: str, theirs: list[str], patch_size: int) -> Tensor:
    """One of our parameters, made of theirs."""
    if ours.startswith("blocks."):
        return torch.cat([state_dict[name] for name in theirs])  # q, k, v: 3 x (width, ...) -> (3 width, ...)
    weight = state_dict[theirs[0]]  # any further ones are copies
    if ours == "patch_embed.projection.weight":
        return weight.flatten(1)  # a convolution's kernel: (width, c, p, p) -> (width, c * p * p)
    if ours.startswith("final.linear"):
        weight = weight.unflatten(0, (patch_size**2, -1))  # (p * p * c, ...) -> (p * p, c, ...)
        return weight.transpose(0, 1).flatten(0, 1)  # -> (c, p * p, ...) -> (c * p * p, ...)
    return weight


def _frequencies(half: int, shift: int) -> Tensor:
    """Theirs, in their order of float32 operations: times 999, a difference in the last digit shows."""
    return torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / (half - shift))


def _sources(state_dict: Weights, layout: _Layout) -> dict[str, list[str]]:
    """Our parameters, and what of theirs each is made of; ValueError unless exactly that is there."""
    numbers = {number for name in state_dict for number in re.findall(r"^\w*blocks\.(\d+)", name)}
    sources: dict[str, list[str]] = {}
    for n, row in product(range(max(1, len(numbers))), _NAMES):
        for kind in ["weight"] if row[0] == "label_embed.table" else ["weight", "bias"]:
            ours, theirs = (f"{row[i]}.{kind}".replace("{n}", str(n)) for i in (0, layout.column))
            names = sources.get(ours, []) + [theirs.replace("{qkv}", letter) for letter in "qkv"]
            sources[ours] = list(dict.fromkeys(names))  # each name once
    if layout is _OFFICIAL or layout.positions in state_dict:
        sources["positions"] = [layout.positions]
    _check_names(state_dict, {name for names in sources.values() for name in names}, layout)
    return sources


def _check_names(state_dict: Weights, expected: set[str], layout: _Layout) -> None:
    missing, unexpected = expected - state_dict.keys(), state_dict.keys() - expected
    problems = [f"{_some(missing)} missing"] if missing else []
    problems += [f"{_some(unexpected)} not expected"] if unexpected else []
    if problems:
        what = f"this state dict is not in the {layout.name} layout of DiT"
        raise ValueError(f"{what}: {', '.join(problems)}; {_advice(state_dict, layout)}")


def _advice(state_dict: Weights, layout: _Layout) -> str:
    """What has probably happened."""
    other = _DIFFUSERS if layout is _OFFICIAL else _OFFICIAL
    if f"{_NAMES[-1][other.column]}.weight" in state_dict:
        return f"these are {other.name} names: use load_{other.name}"
    known = f"{_NAMES[-1][layout.column]}.weight"
    inner = {name for name, value in state_dict.items() if isinstance(value, dict) and known in value}
    if inner:
        return f"this is a whole checkpoint: hand over the weights in it, {' or '.join(sorted(inner))}"
    return "hand over all weights of the network, and no others"


def _some(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _facts(state_dict: Weights, sources: dict[str, list[str]]) -> dict:
    """What the shapes say about the network, in the words of `DiTConfig`."""
    ranks = {"patch_embed.projection.weight": 4, "positions": 3}
    for ours, names in sources.items():
        rank = ranks.get(ours, 1 if ours.endswith("bias") else 2)
        for name in names:
            tensor = state_dict[name]
            if not torch.is_tensor(tensor) or not tensor.is_floating_point() or tensor.ndim != rank:
                raise ValueError(f"{name} is no float tensor of {rank} axes: take unquantised weights of DiT")
    shape = {ours: state_dict[names[0]].shape for ours, names in sources.items()}
    width, channels, patch_size, _ = shape["patch_embed.projection.weight"]
    return {
        "patch_size": patch_size,
        "channels": channels,
        "out_channels": shape["final.linear.weight"][0] // patch_size**2,
        "width": width,
        "depth": sum(name.endswith("mlp.up.bias") for name in sources),
        "mlp_ratio": _mlp_ratio(width, shape["blocks.0.mlp.up.weight"][0]),
        "num_classes": shape["label_embed.table.weight"][0] - 1,
    } | {"registers": 0, "qk_norm": False, "norm": "layer"}


def _mlp_ratio(width: int, hidden: int) -> float:
    """hidden / width, rounded up where int(width * ratio) would otherwise fall short of hidden."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def _check_config(config: DiTConfig, facts: dict, layout: _Layout) -> None:
    has = {name: getattr(config, name) for name in facts}
    has["out_channels"] = config.out_channels or config.channels
    has["mlp_ratio"] = _mlp_ratio(config.width, int(config.width * config.mlp_ratio))
    wrong = [f"{name} {fact!r} (model: {has[name]!r})" for name, fact in facts.items() if fact != has[name]]
    if wrong:
        fix = f"build the model with config_of_{layout.name}"
        raise ValueError(f"the {layout.name} weights do not fit: they have {', '.join(wrong)}; {fix}")


def _check_shapes(model: DiT, state_dict: Weights, ours: str, theirs: list[str]) -> None:
    """Once the configurations agree, what is left to find are weights that do not fit each other."""
    rows, *rest = model.get_parameter(ours).shape
    if ours == "patch_embed.projection.weight":
        rest = [model.config.channels, model.config.patch_size, model.config.patch_size]
    stacked = ours.startswith("blocks.")
    expected = (rows // len(theirs) if stacked else rows, *rest)
    for name in theirs:
        if (found := tuple(state_dict[name].shape)) != expected:
            raise ValueError(f"{name} has shape {found}, expected {expected}: take weights of a plain DiT")
        if not stacked and not torch.equal(state_dict[name], state_dict[theirs[0]]):
            raise ValueError(
                f"{name} differs from {theirs[0]}, expected equal copies: our blocks share one embedder of "
                "time and class, so take weights converted from the official layout"
            )


def _check_positions(config: DiTConfig, theirs: Tensor, name: str) -> None:
    ours = sincos_position_embedding(*config.grid, config.width)[None]  # (n, width) -> (1, n, width)
    if theirs.shape != ours.shape:
        raise ValueError(
            f"{name} has shape {tuple(theirs.shape)}, a model with image_size={config.image_size} expects "
            f"{tuple(ours.shape)}: build the model with the image_size of the weights"
        )
    difference = (theirs.float().cpu() - ours).abs().max().item()
    if not difference <= max(1e-4, torch.finfo(theirs.dtype).eps):  # half precision comes no closer
        raise ValueError(
            f"{name} is up to {difference:.2g} away from our sine-cosine positions, expected 1e-4 or less: "
            "ours are fixed, so take weights with these positions"
        )
