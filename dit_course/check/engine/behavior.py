"""What values do not show: gradients, random numbers, modes, initial values, defaults. Asked once the values are right.

Each function gets an exercise, an answer and the cases, and returns a sentence for the learner, or "".
"""

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from dit_course.check.engine.compare import same
from dit_course.check.engine.modules import matched, when_built

BUILDS = 12  # new modules whose initial values are looked at
MOST = 20  # times larger or smaller than the course's they may be
CLOSE, HALF = 1e-3, 0.05  # how near gradients and second results should be, and gradients in half precision
NO_GRADIENT = (
    "no gradient gets through, so nothing could be learned: "
    ".detach(), .data, .numpy(), .item() and torch.tensor(...) cut it off"
)
Found = Iterator[str]


def gradients_differ(exercise, answer: Callable, cases: list) -> Found:
    """Every input and every parameter gets the gradient that it gets in the course's version."""
    names = _input_names(exercise.reference)
    for case in cases:
        with torch.enable_grad():
            wanted = _gradients(case, exercise.reference)
        if wanted is None:
            continue
        found = _gradients(case, answer)
        if found is None:
            yield NO_GRADIENT
            return
        for i, (got, expected) in enumerate(zip(found.inputs, wanted.inputs, strict=False)):
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


def reseeds(exercise, answer: Callable, cases: list) -> Found:
    """Nobody sets the random numbers back: what comes after would always be the same."""

    def left(which: Callable) -> bool:
        states = []
        for seed in (11, 12):
            torch.manual_seed(seed)
            cases[0].use(which)
            states.append(torch.get_rng_state())
        return torch.equal(*states)

    if not cases[0].may_seed and not left(exercise.reference) and left(answer):
        yield (
            "it sets torch's random numbers back (`torch.manual_seed`), and whatever is drawn after it would always "
            "be the same: draw with a generator of your own, or without a seed"
        )


def modes_differ(exercise, answer: Callable, cases: list) -> Found:
    """In training and in evaluation mode the result is right, and modules are left as they were."""
    for case in cases:
        for training in case.modes:
            before: dict[nn.Module, tuple] = {}

            def prepare(module: nn.Module, model: nn.Module, training=training, before=before) -> None:
                module.train(training)
                before[module] = _state(module)

            case_now = _in_mode(case, training)
            given = [x for x in case_now.args if isinstance(x, nn.Module)]
            if not given and not inspect.isclass(exercise.reference):
                break
            with when_built(prepare):
                torch.manual_seed(1)
                expected, theirs = case_now.use(exercise.reference)
                if any(_state(module) != then for module, then in before.items()):
                    continue  # the course's version changes modules: there is no rule
                before.clear()
                torch.manual_seed(1)
                got, mine = case_now.use(answer)
            for module, then in before.items():
                yield from _changed(_state(module), then)
            for ours, yours in zip(theirs, mine, strict=False):
                if isinstance(ours, nn.Module):
                    yield from _changed(_state(yours), _state(ours))
            if isinstance(expected, Tensor) and not same(got, expected, CLOSE):
                yield (
                    f"in {'training' if training else 'evaluation'} mode, after `.{'train' if training else 'eval'}"
                    "()`, your module gives another result: only what should differ there may ask for `self.training`"
                )


def remembers(exercise, answer: Callable, cases: list) -> Found:
    """Nothing is kept from an earlier call with inputs of the same sizes."""
    for case in cases[:2]:
        torch.manual_seed(3)
        expected, _ = case.use(exercise.reference)

        def before(module: nn.Module, model: nn.Module, case=case) -> None:
            with contextlib.suppress(Exception):
                module(*map(_other, copy.deepcopy(case.given)))

        called = inspect.isclass(answer)
        if not called:
            with contextlib.suppress(Exception):
                answer(*map(_other, copy.deepcopy(case.args)))
        with when_built(before) if hasattr(case, "given") and called else contextlib.nullcontext():
            torch.manual_seed(3)
            got, _ = case.use(answer)
        if isinstance(expected, Tensor) and not same(got, expected, CLOSE):
            yield (
                "a second call, with other values of the same sizes, gives another result than it should: something "
                "is kept from the first"
            )


def starts_elsewhere(exercise, answer: Callable, cases: list) -> Found:
    """New modules start as the course's do: constants equal, random numbers about as large."""
    if not (inspect.isclass(exercise.reference) and issubclass(exercise.reference, nn.Module)):
        return
    for case in cases:
        ours: dict[str, list[Tensor]] = {}
        yours: dict[str, list[Tensor]] = {}
        names = {}
        for seed in range(BUILDS):
            torch.manual_seed(seed)
            model = exercise.reference(*case.args)
            torch.manual_seed(seed)
            module = answer(*case.args)
            own_names = {id(own): name for name, own in module.named_parameters()}
            wanted = dict(model.named_parameters())
            for own, (name, _) in matched(module, model):
                names[name] = own_names[id(own)]
                if own.requires_grad != wanted[name].requires_grad:
                    yield f"`{names[name]}` has requires_grad={own.requires_grad}: it would never learn"
                ours.setdefault(name, []).append(wanted[name].detach().double().flatten())
                yours.setdefault(name, []).append(own.detach().double().flatten())
        for name, values in ours.items():
            expected, got, own = torch.stack(values), torch.stack(yours[name]), names[name]
            if expected.numel():
                yield from _initial(expected, got, own)


def defaults_differ(exercise, answer: Callable, cases: list) -> Found:
    """Arguments that may be left out are what the stub says."""
    pairs = [(exercise.reference, answer)]
    if inspect.isclass(answer):
        names = [name for name, made in vars(answer).items() if inspect.isfunction(made)]
        pairs = [(getattr(exercise.reference, n), getattr(answer, n)) for n in names if hasattr(exercise.reference, n)]
    for ours, yours in pairs:
        expected, got = (list(inspect.signature(function).parameters.values()) for function in (ours, yours))
        for wanted, own in zip(expected, got, strict=False):
            if own.kind in (own.VAR_POSITIONAL, own.VAR_KEYWORD):
                break
            if wanted.default is not wanted.empty and wanted.default != own.default:
                has = "no default" if own.default is own.empty else f"the default {own.default}"
                yield f"`{own.name}` has {has}, and `{wanted.name}={wanted.default}` is what the first line said"


RULES = (defaults_differ, gradients_differ, starts_elsewhere, modes_differ, remembers, reseeds)


# -- gradients -------------------------------------------------------------------------------------


class _Gradients:
    """inputs: in order, None where there is none. others: norms by the name of the course's parameter."""

    def __init__(self, result: Tensor, given: tuple, built: list[tuple[nn.Module, nn.Module]]):
        weight = torch.randn(result.shape, generator=torch.Generator().manual_seed(1)).to(result.dtype)
        leaves = list(_leaves(result))
        slopes = torch.autograd.grad((result * weight).sum(), leaves, allow_unused=True)
        found = {id(leaf): slope for leaf, slope in zip(leaves, slopes, strict=True)}
        self.inputs = [found.pop(id(x), None) for x in given if isinstance(x, Tensor) and x.is_floating_point()]
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
    least = tolerance * min(size, 1) + 1e-6
    return torch.allclose(got.double(), expected.double(), rtol=tolerance, atol=least, equal_nan=True)


def _about(name: str, none: bool, learned: bool = False) -> str:
    cut = "`.detach()`, `.data`, `torch.no_grad()` and `requires_grad=False` cut it off"
    if none:
        return f"no gradient reaches {name}{', which would never learn' if learned else ''}: {cut}"
    return f"the gradient of {name} is not the one that the formula has: is a part of it cut off? {cut}"


def _input_names(reference: Callable) -> list[str]:
    """Names of the inputs, as the learner's cell has them."""
    if inspect.isclass(reference):
        reference = getattr(reference, "forward", None)
    if reference is None:
        return []
    return [name for name in inspect.signature(reference).parameters if name != "self"]


# -- modules and their values ----------------------------------------------------------------------


def _state(module: nn.Module) -> tuple:
    return (
        [inner.training for inner in module.modules()],
        [p.requires_grad for p in module.parameters()],
        [p.grad is None for p in module.parameters()],
        [len(inner._forward_hooks) + len(inner._forward_pre_hooks) for inner in module.modules()],
    )


def _changed(now: tuple, then: tuple) -> Found:
    said = (
        "it leaves the module in another mode: `.train()` and `.eval()` should be as before when you are done",
        "it leaves the module with another `requires_grad`: it should be as before when you are done",
        "it leaves other gradients in `.grad` than it should",
        "it leaves hooks behind: remove them when you are done (`handle.remove()`)",
    )
    yield from (text for text, a, b in zip(said, now, then, strict=True) if a != b)


def _in_mode(case, training: bool):
    """A copy of a case; modules that it gives are in this mode, and have gradients already."""
    changed = copy.copy(case)
    if any(isinstance(x, nn.Module) for x in case.args):
        object.__setattr__(changed, "args", copy.deepcopy(case.args))
        for module in (x for x in changed.args if isinstance(x, nn.Module)):
            module.train(training)
            for parameter in module.parameters():
                parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    return changed


def _other(x: object) -> object:
    """Other values of the same sizes."""
    if isinstance(x, Tensor) and x.numel():
        return x / 2 + 0.25 if x.is_floating_point() else x.flip(0)  # no norm takes that out again
    return x


def _initial(expected: Tensor, got: Tensor, name: str) -> Found:
    """expected, got: (builds, numbers). Another initialization than the course's is fine, if it is about as large."""
    first, spread = expected[0, 0].item(), got.std().item()
    if (expected == first).all():
        if not ((got == first).all() or (first == 0 and spread < 0.5 and got.mean().abs() < 0.1)):
            yield f"`{name}` should start at {first:.3g} everywhere in a new module"
    elif torch.equal(got[0], got[1]):
        yield f"`{name}` is the same in every new module: it should start with random numbers"
    elif expected.numel() >= 200 and not 1 / MOST < spread / expected.std() < MOST:
        yield (
            f"`{name}` starts too {'large' if spread > expected.std() else 'small'}: in new modules its numbers spread "
            f"by {spread:.2g}, and should by {expected.std():.2g} (`nn.init` sets them)"
        )
