"""What values do not show: gradients, random numbers, modes, initial values, guards, ends. Asked once values are right.

Each function gets an exercise, an answer and the cases, and returns a sentence for the learner, or "".
"""

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from dit_course.check.engine.cases import Draw
from dit_course.check.engine.compare import same
from dit_course.check.engine.gradients import gradients_differ, input_names
from dit_course.check.engine.modules import matched, when_built
from dit_course.check.engine.tampering import borrowed

BUILDS, NUMBERS = 12, 6000  # new modules whose initial values are looked at; of exact ones so many numbers
MOST, EXACT = 20, 1.05  # times larger or smaller than the course's they may be, where the text is silent or says how
FRESH = 20_261  # seed of inputs that no check begins with
CLOSE = 1e-3  # how near second results should be
Found = Iterator[str]


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
            if not any(isinstance(x, nn.Module) for x in case_now.args) and not inspect.isclass(exercise.reference):
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
            for given, ours, yours in zip(case_now.inputs(), theirs, mine, strict=False):
                if isinstance(ours, nn.Module):
                    states = zip(_state(yours), _state(given), _state(ours), strict=True)
                    yield from _changed(
                        _state(yours), tuple(now if now == was else right for now, was, right in states)
                    )
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
    """New modules start as the course's do: constants equal, random numbers about, or exactly, as large."""
    if not (inspect.isclass(exercise.reference) and issubclass(exercise.reference, nn.Module)):
        return
    for case in cases:
        ours: dict[str, list[Tensor]] = {}
        yours: dict[str, list[Tensor]] = {}
        names = {}
        least = min((p.numel() for p in exercise.reference(*case.args).parameters() if p.ndim > 1), default=NUMBERS)
        for seed in range(max(BUILDS, NUMBERS // max(1, least) + 1) if exercise.exact else BUILDS):
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
                yield from _initial(expected, got, own, exercise.exact)
        if exercise.exact:
            return


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


def refuses_less(exercise, answer: Callable, cases: list) -> Found:
    """What the course's version refuses with an error, the answer refuses with one of the same kind."""
    for case in exercise.refused(Draw(0)):
        try:
            case.use(exercise.reference)
        except Exception as error:
            wanted = error
        else:
            raise AssertionError(f"the course's version takes {case.label}")
        try:
            case.use(answer)
            found = "nothing"
        except Exception as error:
            if isinstance(error, type(wanted)):
                continue
            found = f"{type(error).__name__}"
        kind = type(wanted).__name__
        yield f'with {case.label} it should raise {kind}, and raises {found}: keep or write the guard, as in "{wanted}"'


def ends_differ(exercise, answer: Callable, cases: list) -> Found:
    """Inputs in [0, 1] may be 0 and 1."""
    for case in cases:
        at_ends, names = _at_ends(case, input_names(exercise.reference))
        if not names:
            continue
        try:
            torch.manual_seed(4)
            expected, _ = at_ends.use(exercise.reference)
        except Exception:  # no inputs for it
            continue
        if not isinstance(expected, Tensor) or not expected.isfinite().all():
            continue
        torch.manual_seed(4)
        got, _ = at_ends.use(answer)
        if not same(got, expected, max(CLOSE, exercise.tolerance)):
            yield f"where {' or '.join(names)} is exactly 0 or 1, it gives another result than it should"


def works_alone(exercise, answer: Callable, cases: list) -> Found:
    """It is the answer that computes: not the course's version, and nothing that lies about in the check."""
    if exercise.may_borrow:
        return
    case = exercise.cases(Draw(FRESH))[-1]

    def work() -> object:
        torch.manual_seed(6)
        return case.use(answer)[0]

    borrows, got = borrowed(exercise.reference, answer, work)
    if borrows:
        yield (
            f"they are the course's: your code calls its `{exercise.name}`, which is always right. Write down in your "
            "own words what it does; the hints are there to help"
        )
    torch.manual_seed(6)
    expected, _ = case.use(exercise.reference)  # only now: nobody finds it before
    if isinstance(expected, Tensor) and not same(got, expected, exercise.tolerance):
        yield f"on new ones, {case.label}, they are wrong: compute the result from the inputs, and from nothing else"


RULES = (  # in the order in which a learner is told
    works_alone,
    defaults_differ,
    gradients_differ,
    starts_elsewhere,
    modes_differ,
    remembers,
    reseeds,
    ends_differ,
    refuses_less,
)


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


def _at_ends(case, names: list[str]) -> tuple[object, list[str]]:
    """A copy of a case in which inputs in [0, 1] are stretched to reach from 0 to 1, and the names of these.

    Those of one shape are stretched alike: a step has to end below the time at which it begins.
    """
    changed, found = copy.copy(case), []
    field = "given" if hasattr(case, "given") else "args"
    inputs = list(getattr(case, field))
    within = {
        i: x
        for i, x in enumerate(inputs)
        if isinstance(x, Tensor) and x.is_floating_point() and x.numel() > 1 and x.min() >= 0 and x.max() <= 1
    }
    for i, x in within.items():
        alike = torch.stack([other for other in within.values() if other.shape == x.shape]).to(x.dtype)
        low, high = alike.min(), alike.max()
        inputs[i] = (x - low) / (high - low) if low < high else x
        if not torch.equal(inputs[i], x):
            found.append(f"`{names[i]}`" if i < len(names) else "an input")
    object.__setattr__(changed, field, tuple(inputs))
    return changed, found


def _other(x: object) -> object:
    """Other values of the same sizes."""
    if isinstance(x, Tensor) and x.numel():
        return x / 2 + 0.25 if x.is_floating_point() else x.flip(0)  # no norm takes that out again
    return x


def _initial(expected: Tensor, got: Tensor, name: str, exact: bool) -> Found:
    """expected, got: (builds, numbers). Unless the text says how, what is about as large as the course's is fine."""
    first, spread, right = expected[0, 0].item(), got.std().item(), expected.std().item()
    most = EXACT if exact else MOST
    if (expected == first).all():
        about = first == 0 and not exact and spread < 0.5 and got.mean().abs() < 0.1
        if not about and (got != first).any():
            yield f"`{name}` should start at {first:.3g} everywhere in a new module"
    elif torch.equal(got[0], got[1]):
        yield f"`{name}` is the same in every new module: it should start with random numbers"
    elif expected.numel() >= (NUMBERS if exact else 200) and not 1 / most < spread / right < most:
        yield (
            f"`{name}` starts too {'large' if spread > right else 'small'}: in new modules its numbers spread "
            f"by {spread:.2g}, and should by {right:.2g} (`nn.init` sets them)"
        )
