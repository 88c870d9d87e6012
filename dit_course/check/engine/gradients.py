"""Whether an answer hands on the gradients that the course's version does."""

import inspect
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from dit_course.check.engine.modules import matched, when_built

CLOSE, HALF = 1e-3, 0.05  # how near gradients should be, and in half precision
NO_GRADIENT = (
    "no gradient gets through, so nothing could be learned: "
    ".detach(), .data, .numpy(), .item() and torch.tensor(...) cut it off"
)


def gradients_differ(exercise, answer: Callable, cases: list) -> Iterator[str]:
    """Every input and every parameter gets the gradient that it gets in the course's version."""
    names = input_names(exercise.reference)
    for case in cases:
        with torch.enable_grad():
            wanted = _gradients(case, exercise.reference)
        if wanted is None:
            continue
        found = _gradients(case, answer)
        if found is None:
            yield NO_GRADIENT
            return
        for i in found.inputs.keys() & wanted.inputs.keys():
            got, expected = found.inputs[i], wanted.inputs[i]
            name = f"`{names[i]}`" if i < len(names) else "an input"
            if i < len(names) and names[i] in exercise.free:
                continue
            if _nothing(got) != _nothing(expected) or not (_nothing(got) or _near(got, expected, wanted.tolerance)):
                yield _about(name, none=_nothing(got))
        for name in wanted.others.keys() | found.others.keys():
            got, expected = found.others.get(name, []), wanted.others.get(name, [])
            if not _near(torch.tensor(got), torch.tensor(expected), wanted.tolerance):
                own = found.names.get(name, name)
                yield _about(f"`{own}`" if own else "a parameter", none=len(got) < len(expected), learned=True)


class _Gradients:
    """inputs: by their place in the call, or None. others: norms by the name of the course's parameter."""

    def __init__(self, result: Tensor, given: tuple, built: list[tuple[nn.Module, nn.Module]]):
        weight = torch.randn(result.shape, generator=torch.Generator().manual_seed(1)).to(result.dtype)
        leaves = list(_leaves(result))
        slopes = torch.autograd.grad((result * weight).sum(), leaves, allow_unused=True)
        found = {id(leaf): slope for leaf, slope in zip(leaves, slopes, strict=True)}
        tensors = {i: x for i, x in enumerate(given) if isinstance(x, Tensor) and x.is_floating_point()}
        self.inputs = {i: found.pop(id(x), None) for i, x in tensors.items()}
        self.others: dict[str, list[float]] = {}
        self.tolerance = CLOSE if result.dtype.itemsize > 2 else HALF
        self.names: dict[str, str] = {}
        known = {}
        for module, model in built:
            own_names = {id(own): name for name, own in module.named_parameters()}
            known |= {id(own): name for own, (name, _) in matched(module, model)}
            self.names |= {known[key]: name for key, name in own_names.items()}
        for key, slope in found.items():
            if slope is not None and (norm := slope.double().norm().item()) > 1e-9:
                self.others.setdefault(known.get(key, ""), []).append(norm)
        for norms in self.others.values():
            norms.sort()


def _gradients(case, answer: Callable) -> _Gradients | None:
    """None where the result has none to give."""
    built = []
    torch.manual_seed(5)
    with when_built(lambda module, model: built.append((module, model))):
        result, given = case.use(answer, track=True)
    if not isinstance(result, Tensor) or not result.is_floating_point() or not result.requires_grad:
        return None
    return _Gradients(result * 1, given, built)  # * 1: it may be the input itself


def _leaves(result: Tensor) -> Iterator[Tensor]:
    """The tensors that a result's gradient reaches."""
    seen, stack = set(), [result.grad_fn]
    while stack:
        step = stack.pop()
        if step is not None and step not in seen:
            seen.add(step)
            if hasattr(step, "variable"):
                yield step.variable
            stack += [inner for inner, _ in step.next_functions]


def _nothing(slope: Tensor | None) -> bool:
    return slope is None or not slope.any()


def _near(got: Tensor, expected: Tensor, tolerance: float) -> bool:
    if got.shape != expected.shape:
        return False
    size = expected.double().abs().nan_to_num(0, 0, 0).max().item() if expected.numel() else 0.0
    floor = 1e-6 if expected.dtype == torch.float64 else 4e-6  # a saturated softmax leaves differences of large numbers
    least = tolerance * min(size, 1) + floor
    return torch.allclose(got.double(), expected.double(), rtol=tolerance, atol=least, equal_nan=True)


def _about(name: str, none: bool, learned: bool = False) -> str:
    cut = "`.detach()`, `.data`, `torch.no_grad()` and `requires_grad=False` cut it off"
    if none:
        return f"no gradient reaches {name}{', which would never learn' if learned else ''}: {cut}"
    return f"the gradient of {name} is not the one that the formula has: is a part of it cut off? {cut}"


def input_names(reference: Callable) -> list[str]:
    """Names of the inputs, as the learner's cell has them."""
    if inspect.isclass(reference):
        reference = getattr(reference, "forward", None)
    if reference is None:
        return []
    return [name for name in inspect.signature(reference).parameters if name != "self"]
