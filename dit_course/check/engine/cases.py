"""Inputs on which answers are tried: drawn by a seed, used, looked at, imitated."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dit_course.check.engine.modules import load_reference_weights, randomize_parameters


class Draw:
    """Numbers for cases, decided by a seed."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def sizes(self, count: int, low: int = 2, high: int = 6) -> list[int]:
        """Different whole numbers from low to high, so that no two axes can be mistaken for each other."""
        return (low + torch.randperm(high - low + 1, generator=self.generator)[:count]).tolist()

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Normally distributed values."""
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(dtype)


@dataclass(frozen=True)
class Case:
    """Arguments on which an answer is tried. label: says which, as in "right on LABEL"."""

    args: tuple
    label: str
    modes: ClassVar[tuple[bool, ...]] = (True, False)  # of modules, training or not, in which the answer is tried
    may_seed: ClassVar[bool] = False  # whether an answer may set torch's random numbers back

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """The answer's result, and the arguments as they are after the call. track: the arguments want gradients."""
        args = _copied(self.args, track)
        return answer(*args), args

    def inputs(self) -> tuple:
        """What the answer is given, for a look at whether it was changed."""
        return self.args

    def words(self, got: Tensor, expected: Tensor) -> str:
        """How far wrong values are off, in words of the case; "" leaves it to the general sentence."""
        return ""

    def imitate(self, wrong: Callable) -> object:
        """What a wrong version makes of the case; it takes the same arguments."""
        return wrong(*copy.deepcopy(self.args))


@dataclass(frozen=True)
class ModuleCase(Case):
    """A class of modules is built with `args`, gets the weights of `module`, and is called with `given`.

    module: the course's own module; all its parameters are perturbed here, as zeros would hide mistakes.
    A wrong version is called with the module and what is `given`.
    """

    given: tuple = ()
    module: torch.nn.Module = None
    draw: Draw = None

    def __post_init__(self):
        randomize_parameters(self.module, self.draw.normal)

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Build, load, call."""
        given = _copied(self.given, track)
        return load_reference_weights(answer, self.args, self.module)(*given), given

    def inputs(self) -> tuple:
        """What the module is called with."""
        return self.given

    def imitate(self, wrong: Callable) -> object:
        """What a wrong version makes of the case."""
        return wrong(self.module, *copy.deepcopy(self.given))


def _copied(args: tuple, track: bool) -> tuple:
    args = copy.deepcopy(args)
    for x in args:
        if track and isinstance(x, Tensor) and x.is_floating_point():
            x.requires_grad_()
    return args
