"""Bad input is named here: deep inside a network nobody would understand the error.

The rooms call these where data comes in, so that their own lines show ideas. Nothing here knows a room.
"""

import math
import operator
from numbers import Real

import torch
from torch import Tensor


def require(config: object, name: str, holds: bool, expected: str) -> None:
    """Raise ValueError unless a setting is as expected: "DiTConfig: depth = 0, but it must be at least 1"."""
    if not holds:
        raise ValueError(f"{type(config).__name__}: {name} = {getattr(config, name)!r}, but it must be {expected}")


def whole(value: object, least: int = 1) -> int | None:
    """A whole number of any kind, numpy's too, as an int; None for anything else, and for less than `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        return None
    return None if isinstance(value, bool) or number < least else number


def real(value: object) -> float | None:
    """A finite number of any kind as a float; None for anything else."""
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) else None


def check_dit_config(config) -> None:
    """Store the numbers of a `DiTConfig` as Python's own. Raises ValueError where the parts do not fit together."""

    def keep(name: str, value: object, expected: str) -> None:
        require(config, name, value is not None, expected)
        object.__setattr__(config, name, value)  # the dataclass is frozen

    for name in ("patch_size", "channels", "width", "depth", "heads"):
        keep(name, whole(getattr(config, name)), "a whole number, at least 1")
    for name in ("num_classes", "out_channels"):
        if getattr(config, name) is not None:
            keep(name, whole(getattr(config, name)), "a whole number, at least 1, or None")
    keep("registers", whole(config.registers, least=0), "a whole number, 0 or more")
    keep("label_dropout", real(config.label_dropout), "between 0 and 1")
    keep("mlp_ratio", real(config.mlp_ratio), "a number above 0 (4.0 is usual)")
    require(config, "label_dropout", 0 <= config.label_dropout <= 1, "between 0 and 1")
    require(config, "mlp_ratio", config.width * config.mlp_ratio >= 1, "large enough to leave the MLP some width")
    require(config, "qk_norm", isinstance(config.qk_norm, bool), "True or False")
    require(config, "norm", config.norm in ("rms", "layer"), '"rms" or "layer"')
    require(config, "width", config.width % 4 == 0, "a multiple of 4, for the sine-cosine positions")
    require(config, "width", config.width % config.heads == 0, f"a multiple of the number of heads ({config.heads})")
    pair = isinstance(config.image_size, tuple | list) and len(config.image_size) == 2
    sides = tuple(map(whole, config.image_size)) if pair else (whole(config.image_size),)
    size = None if None in sides else sides if pair else sides[0]
    keep("image_size", size, "a whole number of pixels, or two: (height, width)")
    try:
        _ = config.grid
    except ValueError as error:
        raise ValueError(f"DiTConfig: image_size and patch_size do not fit: {error}") from None


def check_dit_inputs(config, dtype: torch.dtype, x: Tensor, t: Tensor, y: Tensor | None) -> None:
    """Raise ValueError or TypeError for images x, times t and labels y that a DiT of this dtype cannot take."""
    expected = (config.channels, *config.image_shape)
    if x.ndim != 4 or tuple(x.shape[1:]) != expected:
        raise ValueError(f"x has shape {tuple(x.shape)}, this model takes (batch, {', '.join(map(str, expected))})")
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}: the model takes floats, with data in [-1, 1] (x / 127.5 - 1 for bytes)")
    if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"x is {x.dtype}, but the weights of this model are {dtype}: use x.to({dtype})")
    if t.shape != (len(x),):
        raise ValueError(f"t has shape {tuple(t.shape)}, expected one time for each image: ({len(x)},)")
    if (y is None) != (config.num_classes is None):
        problem = "needs labels y (num_classes for no label)" if y is None else "has no classes: leave y out"
        raise ValueError(f"this model {problem}")
    if y is not None and y.shape != (len(x),):
        raise ValueError(f"y has shape {tuple(y.shape)}, expected one label for each image: ({len(x)},)")


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Raise TypeError or ValueError and say what is wrong, before `nn.Embedding` says it in its own way."""
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must be int64, these are {labels.dtype}: use labels.long()")
    # on a GPU looking at the values would stop the pipeline at every step
    if labels.device.type == "cpu" and not torch.compiler.is_compiling() and labels.numel():
        low, high = labels.aminmax()
        if low < 0 or high > num_classes:
            raise ValueError(
                f"labels reach from {int(low)} to {int(high)}, but this model knows 0 to {num_classes - 1} "
                f'(and {num_classes} for "no label")'
            )


def check_features(a: Tensor, b: Tensor, least: int) -> None:
    """Raise ValueError unless a and b are sets of features of one size, (n, d) and (m, d), with `least` rows each."""
    if a.shape[1:] != b.shape[1:] or min(len(a), len(b)) < least:
        raise ValueError(
            f"features of shape {tuple(a.shape)} and {tuple(b.shape)}: "
            f"expected (n, d) and (m, d), the same d and at least {least} rows"
        )


def check_span(t: Tensor, t_next: Tensor | None) -> None:
    """Raise ValueError unless a few-step student's steps lead from t towards the data: 0 <= t_next <= t <= 1."""
    if t_next is None or t.device.type != "cpu" or torch.compiler.is_compiling():  # on a GPU looking would wait
        return
    if t_next.shape != t.shape:
        raise ValueError(f"t_next has shape {tuple(t_next.shape)}, expected one time for each image: {tuple(t.shape)}")
    slack = 1e-4  # rounding
    wrong = (t_next > t + slack) | (t_next < -slack) | (t > 1 + slack)
    if wrong.any():
        i = int(wrong.nonzero()[0])
        raise ValueError(
            f"a step from t = {float(t[i]):.3g} to t_next = {float(t_next[i]):.3g}: steps go from noise (1) towards "
            "data (0), so its span must lie in [0, 1] with 0 <= t_next <= t <= 1"
        )
