"""Says in what an answer differs from the right one, and what it looks like: in words a beginner can use."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

KINDS = {
    type(None): "your answer returns nothing: is the `return` missing?",
    np.ndarray: "your answer returns a numpy array: stay in torch, which also keeps the gradients",
    list: "your answer returns a list: make one tensor of it, as torch.stack and torch.cat do",
    tuple: "your answer returns a tuple: make one tensor of it, as torch.stack and torch.cat do",
}

POINTWISE = {"square": torch.square, "root": torch.sqrt, "reciprocal": torch.reciprocal, "absolute value": torch.abs}


def same(got: object, expected: object, tolerance: float = 1e-4) -> bool:
    """Whether both are tensors of one shape with equal values, up to rounding; whatever their dtypes."""
    if not (isinstance(got, Tensor) and isinstance(expected, Tensor)) or got.shape != expected.shape:
        return False
    return got.device == expected.device and bool(_close(got, expected, tolerance).all())


def difference(got: object, expected: Tensor, tolerance: float = 1e-4) -> tuple[str, str]:
    """What is wrong with `got`: ("type" | "shape" | "device" | "values" | "dtype", a sentence), or ("", "")."""
    if not isinstance(got, Tensor):
        return "type", _kind(got)
    if got.shape != expected.shape:
        return "shape", f"your answer has shape {tuple(got.shape)}, it should have {tuple(expected.shape)}"
    if got.device != expected.device:
        return "device", f"your answer lies on the device {got.device}, it should stay on {expected.device}"
    rounded = expected.to(got.dtype) if got.is_floating_point() else expected  # half precision is a matter of dtype
    wrong = ~_close(got, rounded, tolerance)
    if wrong.any():
        return "values", how_far(got, expected, wrong)
    if got.dtype != expected.dtype:
        advice = f"new tensors can take the dtype of another (dtype=x.dtype), and .{_short(expected.dtype)}() converts"
        return "dtype", f"your values are right, but they are {got.dtype} and should be {expected.dtype}: {advice}"
    return "", ""


def how_far(got: Tensor, expected: Tensor, wrong: Tensor) -> str:
    """How many values are wrong, or where all of the wrong ones are, by how much, and the first of them."""
    first = tuple(wrong.nonzero()[0].tolist())
    instead = "{} instead of {}".format(*_apart(got[first].item(), expected[first].item()))
    if not got.ndim:
        return f"it is {instead}"
    furthest = (_plain(got) - _plain(expected)).abs().nan_to_num(0, 0).max().item()
    here = ", ".join(map(str, first))
    share = max(100 * wrong.float().mean().item(), 1)
    which = _place(wrong) or f"{min(share, 99) if not wrong.all() else 100:.0f}% of the values are wrong"
    return f"{which}, by up to {furthest:.2g}; the first, at [{here}], is {instead}"


def _apart(got: object, expected: object) -> tuple[str, str]:
    """Both numbers, with as many digits as it takes to tell them apart, and four at least."""
    for digits in (4, 6, 9, 17):
        texts = f"{got:.{digits}g}", f"{expected:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts


def _place(wrong: Tensor) -> str:
    """Where the wrong values are, when all those at one index of one axis are, and no others; otherwise ""."""
    for axis, size in enumerate(wrong.shape if wrong.ndim > 1 else ()):
        hit = wrong.movedim(axis, 0).flatten(1).any(dim=1)
        if size > 2 and hit.sum() == 1:
            return f"only values at index {hit.nonzero().item()} of axis {axis} are wrong"
    return ""


def resemblances(got: object, again: object, expected: Tensor, inputs: tuple) -> Iterator[str]:
    """What an answer of any exercise may have done, the likeliest first. again: the answer at another call."""
    if not isinstance(got, Tensor) or got.device != expected.device:
        return
    if got.is_complex() or (got.is_floating_point() and not got.isfinite().all()):
        bad = (~got.isfinite()).sum().item()
        yield f"{bad} of your {got.numel()} values are NaN or infinite: look for a division by zero or for torch.empty"
    if not same(got, again):
        yield "your answer is another one at every call: what is random in it?"
    batched = any(isinstance(given, Tensor) for given in inputs)  # from numbers alone no batch is made
    for given in inputs:
        if same(got, given):
            yield "your answer is its input, unchanged"
    if got.numel() and not got.count_nonzero() and expected.count_nonzero():
        yield "your answer is all zeros: is the result ever written into it?"
    if got.shape == expected.shape:
        yield from _alike(_plain(got), _plain(expected), batched)
    else:
        yield from _reshaped(got, expected, batched)


def is_below_its_stub(answer: Callable) -> bool:
    """Whether somebody has written below `raise NotImplementedError`, in a function or in a method of a class."""
    for function in vars(answer).values() if inspect.isclass(answer) else [answer]:
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except (OSError, TypeError, SyntaxError):
            continue
        for body in (node.body for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            if any(isinstance(line, ast.Raise) and "NotImplementedError" in ast.dump(line) for line in body[:-1]):
                return True
    return False


def _alike(got: Tensor, expected: Tensor, batched: bool) -> Iterator[str]:
    """For an answer of the right shape."""
    if same(-got, expected):
        yield "the sign is wrong everywhere"
    factor = (got * expected).sum() / (expected * expected).sum().clamp(min=1e-12)
    plain = got.numel() > 1 or same(factor, factor.round()) or same(1 / factor, (1 / factor).round())
    if plain and factor.abs() > 1e-3 and same(got, factor * expected):  # a single number is always some factor off
        yield f"your answer is {factor.item():.3g} times the right one"
    shift = (got - expected).mean()
    if (got.numel() > 1 or same(4 * shift, (4 * shift).round())) and same(got, expected + shift):  # or it says nothing
        yield f"your answer is the right one plus {shift.item():.3g}"
    if batched and got.ndim and len(got) > 1 and same(got[0], expected[0]) and _repeats_or_ends(got):
        yield "only the first of the batch is right: is there a 0 where all of them are meant?"
    yield from _axis_by_axis(got, expected)
    if same(got.flatten().sort().values, expected.flatten().sort().values):
        yield "all values are there, but in another order: follow one of them through each reshape and permute"


def _axis_by_axis(got: Tensor, expected: Tensor) -> Iterator[str]:
    """Turned around, moved on, swapped, or scaled by factors that change along one axis only."""
    for axis, size in enumerate(got.shape):
        if size > 1 and same(got, expected.flip(axis)):
            yield f"axis {axis} runs the wrong way: your answer is the right one, flipped along it"
        for steps in (1, -1) if size > 2 else ():
            if same(got, expected.roll(steps, axis)):
                yield f"your answer is the right one, moved by one place along axis {axis}: is an index one off?"
        for other in range(axis):
            if size > 1 and got.shape[other] == size and same(got, expected.transpose(axis, other)):
                yield f"axes {other} and {axis} of your answer are swapped; apart from that it is right"
        rest = [other for other in range(got.ndim) if other != axis]
        if size > 1 and rest and got.numel() > 2 * size:
            factors = (got * expected).sum(rest, keepdim=True) / (expected**2).sum(rest, keepdim=True).clamp(min=1e-12)
            shifts = (got - expected).mean(rest, keepdim=True)
            if (factors.abs() > 1e-3).all() and same(got, factors * expected):
                yield f"your answer is the right one times factors that change along axis {axis}: which are too many?"
            elif same(got, expected + shifts):
                yield f"your answer is the right one plus numbers that change along axis {axis}: what is added?"
    for text, change in POINTWISE.items():
        if got.ndim and expected.abs().max() > 1e-3 and same(got, change(expected)):
            yield f"your answer is the {text} of the right one"
    furthest = (got - expected).abs().max() / expected.abs().max().clamp(min=1e-12) if got.numel() else 1.0
    if furthest < 0.01:
        yield (
            "nearly right, within a hundredth: is a small constant missing or another one, is something rounded, or "
            "computed in half precision?"
        )


def _repeats_or_ends(got: Tensor) -> bool:
    """Whether the first of a batch stands in all places, or nothing but zeros behind it."""
    return same(got[1:], got[:1].expand_as(got[1:])) or not got[1:].any()


def _reshaped(got: Tensor, expected: Tensor, batched: bool) -> Iterator[str]:
    """For an answer of another shape."""
    have, want = tuple(got.shape), tuple(expected.shape)
    for axis in range(len(want)):
        for other in range(axis):
            swapped = list(want)
            swapped[axis], swapped[other] = want[other], want[axis]
            if have == tuple(swapped) and have != want:
                values = same(_plain(got).transpose(axis, other), _plain(expected))
                rest = "; apart from that it is right" if values else ""
                yield f"axes {other} and {axis} of your answer are swapped{rest}"
    if batched and have == want[1:]:
        yield "the batch axis is missing: many inputs come at once, along the first axis"
    if have == (*want[:1], 1, *want[1:]) or have == (1, *want):
        yield "your answer has an axis of size 1 too many"
    if got.numel() == expected.numel():
        yield "all the values are there, but the axes are not: how should they be grouped at the end?"
    elif batched and len(have) == len(want) and have[0] == 1 != want[0]:
        yield "only one of the batch came back: is there a 0 or a 1 where all of them are meant?"


def _short(dtype: torch.dtype) -> str:
    """The name of the method that converts to a dtype."""
    return {torch.float32: "float", torch.float64: "double", torch.int64: "long"}.get(dtype, "type_as")


def _kind(got: object) -> str:
    for kind, text in KINDS.items():
        if isinstance(got, kind):
            return text
    if hasattr(got, "__next__"):
        return "your answer returns a generator: `yield` hands out one thing at a time, `return` is meant"
    if isinstance(got, bool | int | float | complex):
        return f"your answer returns a plain number ({got}), it should be a tensor"
    return f"your answer returns a {type(got).__name__}, it should be a tensor"


def _close(got: Tensor, expected: Tensor, tolerance: float) -> Tensor:
    return torch.isclose(_plain(got), _plain(expected), rtol=tolerance, atol=tolerance)


def _plain(x: Tensor) -> Tensor:
    """Without history, in float64. The imaginary part of a complex number counts as NaN: nothing equals it."""
    x = x.detach()
    if x.layout != torch.strided:
        x = x.to_dense()
    return torch.full(x.shape, torch.nan, dtype=torch.float64) if x.is_complex() else x.to(torch.float64)
