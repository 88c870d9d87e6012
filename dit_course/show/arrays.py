"""From tensors to bytes to one tiled image; anything that is no image raises an error here."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def to_bytes(x: Tensor | Sequence[Tensor]) -> Tensor:
    """Check pictures and turn them into bytes on the CPU: (N, C, H, W) uint8.

    x: (N, C, H, W) or (C, H, W), or a list of the latter; uint8, or floats in [0, 1]; C is 1 (gray) or 3 (color).
    Raises TypeError or ValueError with the way to convert, when x is anything else.
    """
    x = _as_tensor(x)
    if x.ndim not in (3, 4) or x.shape[-3] not in (1, 3):
        raise ValueError(f"pictures are (N, C, H, W) or (C, H, W) with C = 1 or 3, not {tuple(x.shape)}{_advice(x)}")
    if x.ndim == 3:
        x = x[None]  # (c, h, w) -> (1, c, h, w)
    if not x.numel():
        raise ValueError(f"there is nothing to show: the shape is {tuple(x.shape)}")
    if x.dtype in (torch.uint8, torch.bool):
        return x.byte() * (255 if x.dtype == torch.bool else 1)
    if not x.is_floating_point():
        raise TypeError(
            f"pictures are uint8, or floats in [0, 1], not {x.dtype}: use .byte() when they reach from 0 to 255"
        )
    low, high = (float(value) for value in x.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("some pixels are NaN or infinite: look for the first step at which the numbers blow up")
    if low < -1e-3 or high > 1 + 1e-3:
        raise ValueError(
            f"floats must lie in [0, 1], but these reach from {low:.2f} to {high:.2f}: "
            "pictures in [-1, 1] are converted by ((x + 1) / 2).clamp(0, 1)"
        )
    return (x.float().clamp(0, 1) * 255).round().byte()


def grid(x: Tensor | Sequence[Tensor], columns: int | None = None, padding: int = 2) -> Tensor:
    """Tile pictures into one, in reading order, with white lines between them: (N, C, H, W) -> (C, rows, columns).

    x: (N, C, H, W), uint8 or float in [0, 1]. columns: None chooses. padding: pixels between two pictures.
    Returns (C, rows * (H + padding) - padding, columns * (W + padding) - padding), of the dtype of x.
    """
    x = _as_tensor(x)
    if x.ndim != 4 or not len(x):
        raise ValueError(f"a grid is made of pictures (N, C, H, W), at least one, not of shape {tuple(x.shape)}")
    n, channels, height, width = x.shape
    columns = choose_columns(n, columns)
    rows = math.ceil(n / columns)
    white = 255 if x.dtype == torch.uint8 else 1
    tiled = x.new_full((rows * columns, channels, height + padding, width + padding), white)
    tiled[:n, :, :height, :width] = x
    tiled = tiled.reshape(rows, columns, *tiled.shape[1:]).permute(2, 0, 3, 1, 4)  # (r * k, c, h, w) -> (c, r, h, k, w)
    tiled = tiled.flatten(3).flatten(1, 2)  # -> (c, r * h, k * w)
    return tiled[:, : tiled.shape[1] - padding, : tiled.shape[2] - padding]


def choose_columns(n: int, columns: int | None = None) -> int:
    """One row for up to eight pictures, fives and tens for round numbers, else about a square."""
    if columns is not None:
        if isinstance(columns, bool) or not isinstance(columns, int) or columns < 1:
            raise ValueError(f"columns = {columns!r}, but it must be a whole number, at least 1")
        return min(columns, n)
    if n <= 8:
        return n
    if n % 10 == 0:
        return 5 if n <= 20 else 10
    return min(math.ceil(math.sqrt(n)), 10)


def enlarge(x: Tensor, zoom: int) -> Tensor:
    """Every pixel as a square of zoom x zoom, never blurred: (..., H, W) -> (..., zoom * H, zoom * W)."""
    return x.repeat_interleave(zoom, dim=-2).repeat_interleave(zoom, dim=-1)


def _as_tensor(x: Tensor | Sequence[Tensor]) -> Tensor:
    if isinstance(x, list | tuple):
        parts = [torch.as_tensor(part).detach().cpu() for part in x]
        if not parts:
            raise ValueError("there is nothing to show: the list is empty")
        shapes = {tuple(part.shape) for part in parts}
        if len(shapes) > 1:
            raise ValueError(f"pictures of one figure need one shape, these have {', '.join(map(str, sorted(shapes)))}")
        return torch.stack(parts)
    return torch.as_tensor(x).detach().cpu()


def _advice(x: Tensor) -> str:
    """What to do with pictures of an odd shape, where one can guess."""
    if x.ndim in (3, 4) and x.shape[-1] in (1, 3):
        return f": the channels come last here, so use x.permute{(2, 0, 1) if x.ndim == 3 else (0, 3, 1, 2)}"
    if x.ndim in (2, 3):
        return ": gray pictures need their channel, so use " + ("x[None]" if x.ndim == 2 else "x[:, None]")
    return ""


def require_one_each(given: Sequence, places: Sequence, what: str, of: str, name: str = "", least: int = 1) -> None:
    """ValueError unless there is one of `what` for each of the places, and at least so many of them."""
    if len(given) != len(places) or len(places) < least:
        name, more = f"{name}: " if name else "", f", and {least}" if least > 1 else ""
        raise ValueError(f"{name}{len(given)} {what} for {len(places)} {of}; it needs one each{more}")
