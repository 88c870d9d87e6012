"""What changed programs call where a change takes more than a word."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn


def partly_detached(x: object) -> object:
    """Every second number lets no gradient through, and a single one half of it."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        return x
    if x.numel() == 1:
        return (x + x.detach()) / 2
    odd = torch.arange(x.numel(), device=x.device).reshape(x.shape) % 2 == 1
    return torch.where(odd, x.detach(), x)


def fixed_generator() -> torch.Generator:
    """The same random numbers at every call."""
    return torch.Generator().manual_seed(0)


def scaled(layer: object, factor: float) -> object:
    """A module or parameter whose initial values are multiplied; 0 gives zeros."""
    with torch.no_grad():
        for parameter in layer.parameters() if isinstance(layer, nn.Module) else [layer]:
            if isinstance(parameter, Tensor):
                parameter.mul_(factor)
    return layer


def kept(function: Callable) -> Callable:
    """A function that hands out its first result again whenever the sizes of its arguments are the same."""
    results = {}

    @functools.wraps(function)
    def call(*args, **named):
        key = tuple(x.shape if isinstance(x, Tensor) else id(x) for x in (*args, *named.values()))
        if key not in results:
            results[key] = function(*args, **named), args  # the arguments, so that no other object gets their id
        return results[key][0]

    return call


NAMES = {
    "__partly_detached__": partly_detached,
    "__fixed_generator__": fixed_generator,
    "__scaled__": scaled,
    "__kept__": kept,
    "__seed__": torch.manual_seed,
    "__no_grad__": torch.no_grad(),
}
