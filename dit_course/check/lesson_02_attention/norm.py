"""Lesson 02: RMSNorm."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from dit_course import attention
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import OTHERWISE, Draw, Exercise, ModuleCase
from dit_course.check.engine.modules import AnswerError, explain_errors, load_reference_weights
from dit_course.check.lesson_02_attention.mistakes import by_spread, mean_first, otherwise
from dit_course.check.stretch_solutions import RMSNorm as by_hand


@dataclass(frozen=True)
class NormCase(ModuleCase):
    """Modules with and without a scale; one that is right so far is also tried in half precision."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Build, load, call. Raises AnswerError for parameters that should not be, and for squares that overflow."""
        if self.module.weight is not None:
            module = load_reference_weights(answer, self.args, self.module)
        else:
            module = answer(*self.args)
            found = [name for name, _ in module.named_parameters()] if isinstance(module, torch.nn.Module) else []
            if found:
                raise AnswerError(f"with scale=False there is nothing to learn, but your module has {', '.join(found)}")
        given = (self.given[0].clone().requires_grad_(track),)
        try:
            with explain_errors(NORM_ERRORS):
                result = module(*given)
        except RuntimeError as error:
            if "Boolean value of Tensor" in str(error):
                raise AnswerError(
                    "`if self.weight:` asks many numbers for one yes or no: whether there is a scale, "
                    "`self.weight is None` says"
                ) from None
            raise
        except TypeError as error:
            if self.module.weight is None and "NoneType" in str(error):
                raise AnswerError(
                    "with scale=False `self.weight` is None, and nothing can be multiplied with None: return "
                    "without it then"
                ) from None
            raise
        last = given[0].dtype == torch.float64  # by then it is right in all other ways
        if last and not track and same(result, self.module(*self.given)):
            self._try_in_half_precision(copy.deepcopy(module))
        return result, given

    def _try_in_half_precision(self, module: torch.nn.Module) -> None:
        """With the scale in half precision, too, and then in single precision, as mixed precision has it."""
        for dtype, hint in (
            (
                torch.float16,
                "right, but float16 goes in and float32 comes out: whatever was made float32 inside, the "
                "result has the dtype of x again, so cast back last, `.to(x.dtype)`",
            ),
            (
                torch.float32,
                "right, but when x is float16 and `self.weight` float32, as in mixed precision, float32 "
                "comes out: cast back last, `.to(x.dtype)`, with the weight applied already",
            ),
        ):
            x = torch.full((1, 1, self.args[0]), 1000.0, dtype=torch.float16)
            with warnings.catch_warnings(action="ignore"):  # torch's own norm warns of two dtypes
                result = module.to(dtype)(x)
            if not (result.isfinite().all() and result.count_nonzero()):
                raise AnswerError(
                    "right, but not in half precision: 1000 squared is more than float16 can hold, so the mean "
                    "square is infinite. Take it in float32: x.float()"
                )
            if result.dtype != x.dtype:
                raise AnswerError(hint)


def norm_cases(draw: Draw) -> list[NormCase]:
    """Common numbers; no scale, one axis in front; and tiny numbers, where eps matters, and three axes in front."""
    cases = []
    for label, axes, factor, eps, scale, dtype in (
        ("{} vectors of {}", 2, 1.0, 1e-6, True, torch.float32),
        ("{} vectors of {}, scale=False", 1, 3.0, 1e-6, False, torch.float32),
        ("{} tiny vectors of {}, eps 1e-5", 3, 2e-3, 1e-5, True, torch.float64),
    ):
        *front, width = draw.sizes(axes + 1, 2, 9)
        x = (factor * (draw.normal(*front, width, dtype=torch.float64) + 0.5)).to(dtype)
        module = attention.RMSNorm(width, eps, scale).to(dtype)
        label = label.format("x".join(map(str, front)), width)
        cases.append(NormCase((width, eps, scale), label, (x,), module, draw))
    return cases


EPS = ("inside", "none", "outside")  # where it may be added
NORM_ERRORS = {
    "must match the size": "does your mean keep its axis, with size 1 (`keepdim=True`)?",
}

RMSNorm = Exercise(
    "RMSNorm",
    reference=by_hand,  # the lesson goes on to the package's, fused on a GPU
    lesson="02",
    number=3,
    partly=OTHERWISE,
    cases=norm_cases,
    mistakes=[
        "the mean is subtracted: that is LayerNorm, RMSNorm leaves the mean alone",
        *[otherwise(centered=True, eps=eps) for eps in EPS],
        *[by_spread(k, eps, centered=True) for k in (0, 1) for eps in EPS],
        "you divide by the standard deviation, which leaves the mean out: the mean of x² itself is meant",
        *[by_spread(k, eps) for k in (0, 1) for eps in EPS],
        "you divide by the root of the *sum* of squares: the mean of the squares is meant",
        *[otherwise(mean=False, eps=eps) for eps in EPS],
        "you divide by the mean square itself: its root is meant",
        *[otherwise(root=False, eps=eps) for eps in EPS],
        "the mean goes over another axis: each token is normed by itself, over the last axis, however many there are",
        *[otherwise(dim=dim, eps=eps) for dim in (1, 0, 2, -2, (-2, -1), ()) for eps in EPS],
        "you square the mean: the mean of the squares is meant. Read backwards: square first, then mean, then root",
        mean_first,
        lambda norm, x: mean_first(norm, x, eps="none"),
        "the learned scale is not used: the result is multiplied by `self.weight`, where there is one",
        lambda norm, x: norm(x) / norm.weight,
        otherwise(scaled=False),
        "you divide by the mean size |x|: root, mean, square, read backwards, says what to divide by",
        lambda norm, x: x / x.abs().mean(-1, keepdim=True) * (1 if norm.weight is None else norm.weight),
        "you multiply by the root of the mean square: dividing by it brings every vector to one size",
        lambda norm, x: x.square() / norm(x) * (1 if norm.weight is None else norm.weight**2),
        "eps is missing or in another place: it is added to the mean square, under the root (seen on tiny numbers)",
        otherwise(eps="none"),
        otherwise(eps="outside"),
    ],
)
