"""A trial of generic rules for the engine, put on from outside: which survivors would they stop? Not for main.

python tests/mutation/proposed.py --lesson 01 02 --survivors        # PROPOSED=GR for some of the rules only
"""

import contextlib
import copy
import inspect
import os
import sys

import torch
from torch import Tensor, nn

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))]

from dit_course.check.engine import modules as engine_modules  # noqa: E402
from dit_course.check.engine.exercise import Draw, Exercise, ModuleCase  # noqa: E402
from dit_course.check.engine.limits import run_limited  # noqa: E402
from dit_course.check.engine.verdict import NOT_YET, RIGHT, Verdict  # noqa: E402

RULES = os.environ.get("PROPOSED", "GRMCID")
BUILT: list[nn.Module] = []
BEFORE = []  # called with each module that was built and loaded
plain_load = engine_modules.load_reference_weights
plain_examine = Exercise._examine


def load(answer, args, model):
    module = plain_load(answer, args, model)
    for hook in BEFORE:
        hook(module)
    BUILT.append(module)
    return module


def leaves(result):
    """Leaf tensors that a result's gradient reaches."""
    found, seen, stack = [], set(), [result.grad_fn]
    while stack:
        fn = stack.pop()
        if fn is None or fn in seen:
            continue
        seen.add(fn)
        if hasattr(fn, "variable"):
            found.append(fn.variable)
        stack += [inner for inner, _ in fn.next_functions]
    return found


def gradients(case, answer, seed=5):
    """The gradients of the inputs, in order, and sizes and norms of those of all other leaves, sorted."""
    torch.manual_seed(seed)
    result, given = case.use(answer, track=True)
    if not isinstance(result, Tensor) or not result.is_floating_point():
        return None
    if result.grad_fn is None:
        return [], []
    weight = torch.randn(result.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(result.dtype)
    found = leaves(result)
    grads = dict(
        zip(map(id, found), torch.autograd.grad((result * weight).sum(), found, allow_unused=True), strict=True)
    )
    ours = [grads.pop(id(x), None) for x in given if isinstance(x, Tensor)]
    others = sorted((g.numel(), g.double().norm().item()) for g in grads.values() if g is not None)
    return ours, [x for x in others if x[1] > 1e-9]


def g_rule(exercise, answer, cases):
    """Same gradient of each floating input, and of each parameter."""
    for case in cases:
        with torch.enable_grad():
            want = gradients(case, exercise.reference)
        if want is None:
            continue
        out = run_limited(lambda case=case: gradients(case, answer))
        if out.error or out.value is None:
            return f"gradients: {out.error!r}"
        for mine, theirs in zip(*(x[0] for x in (out.value, want)), strict=False):
            zero = [x is None or not x.any() for x in (mine, theirs)]
            if all(zero):
                continue
            if any(zero) or not torch.allclose(mine.double(), theirs.double(), rtol=1e-3, atol=1e-4, equal_nan=True):
                return "gradients: another one for an input"
        if len(out.value[0]) < len([x for x in want[0] if x is not None and x.any()]):
            return "gradients: none"
        mine, theirs = out.value[1], want[1]
        if len(mine) != len(theirs) or any(
            a[0] != b[0] or abs(a[1] - b[1]) > 1e-3 * (1 + b[1]) for a, b in zip(mine, theirs, strict=False)
        ):
            return "gradients: other ones for parameters"
    return ""


def r_rule(exercise, answer, cases):
    """Nothing reseeds."""

    def state(seed, which):
        torch.manual_seed(seed)
        cases[0].use(which)
        return torch.get_rng_state()

    if torch.equal(state(11, exercise.reference), state(12, exercise.reference)):
        return ""  # the case does so itself
    out = run_limited(lambda: torch.equal(state(11, answer), state(12, answer)))
    return "reseeds" if out.value else ""


def facts(module):
    return (
        [m.training for m in module.modules()],
        [p.requires_grad for p in module.parameters()],
        [p.grad is None for p in module.parameters()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules()],
    )


def m_rule(exercise, answer, cases):
    """Modules keep their mode, what they train, gradients and hooks; in train and in eval mode."""
    for case in cases:
        for training in (True, False):
            before = {}

            def prepare(module, training=training, before=before):
                module.train(training)
                before[module] = facts(module)

            changed = copy.deepcopy(case)
            for x in changed.args:
                if isinstance(x, nn.Module):
                    x.train(training)
                    for p in x.parameters():
                        p.grad = torch.ones_like(p) if p.requires_grad else None
            BEFORE[:] = [prepare]
            try:
                torch.manual_seed(1)
                want = None
                with contextlib.suppress(Exception):
                    want, wanted = changed.use(exercise.reference)
                if want is None:
                    continue
                after = [facts(module) for module in before]
                before.clear()

                def run(changed=changed):
                    torch.manual_seed(1)
                    return changed.use(answer)

                out = run_limited(run)
            finally:
                BEFORE.clear()
            if out.error or out.value is None:
                return f"mode: {out.error!r}"
            for module, then in zip(before, after, strict=False):
                if facts(module) != then:
                    return "mode: the module is left in another state"
            for x, w in zip(out.value[1], wanted, strict=False):
                if isinstance(x, nn.Module) and facts(x) != facts(w):
                    return "mode: a module that was given is left in another state"
            if isinstance(want, Tensor) and not torch.allclose(
                out.value[0].double(), want.double(), 1e-3, 1e-3, equal_nan=True
            ):
                return f"mode: wrong with training={training}"
    return ""


def other(x):
    if isinstance(x, Tensor) and x.numel():
        return x * 0.5 if x.is_floating_point() else x.flip(0)
    return x


def c_rule(exercise, answer, cases):
    """A second call, of other values of the same sizes."""
    for case in cases[:2]:
        torch.manual_seed(3)
        want, _ = case.use(exercise.reference)

        def twice(case=case):
            def before(module):
                with contextlib.suppress(Exception):
                    module(*[other(x) for x in copy.deepcopy(case.given)])

            if isinstance(case, ModuleCase):
                BEFORE[:] = [before]
            elif not inspect.isclass(answer):
                with contextlib.suppress(Exception):
                    answer(*[other(x) for x in copy.deepcopy(case.args)])
            state = torch.manual_seed
            try:
                state(3)
                return case.use(answer)[0]
            finally:
                BEFORE.clear()

        out = run_limited(twice)
        random = isinstance(case, ModuleCase) and exercise.name == "LabelEmbedder"
        if isinstance(want, Tensor) and isinstance(out.value, Tensor) and not random:
            alike = out.value.shape == want.shape
            if not (alike and torch.allclose(out.value.double(), want.double(), 1e-3, 1e-3)):
                return "second call: another answer than without the first"
    return ""


def i_rule(exercise, answer, cases):
    """Fresh modules start as the course's do."""
    if not inspect.isclass(exercise.reference) or not issubclass(exercise.reference, nn.Module):
        return ""
    for case in cases:
        values, wants = {}, []
        for kind, build in (("ours", exercise.reference), ("theirs", answer)):
            for seed in range(24):
                torch.manual_seed(seed)
                made = build(*case.args)
                if kind == "theirs" and [p.requires_grad for p in made.parameters()] != wants:
                    return "initial: something is frozen"
                wants = [p.requires_grad for p in made.parameters()]
                model = exercise.reference(*case.args)
                for own, (name, _) in engine_modules.matched(made, model):
                    values.setdefault((kind, name), []).append(own.detach().flatten().double())
        for (kind, name), many in values.items():
            if kind == "ours":
                ours, theirs = torch.stack(many), torch.stack(values["theirs", name])
                if not ours.numel():
                    continue
                if (ours == ours[0, 0]).all():
                    if not (theirs == ours[0, 0]).all():
                        return f"initial: {name} should start at {ours[0, 0]:.2g}"
                elif (theirs[0] == theirs[1]).all():
                    return f"initial: {name} is the same in every new module"
                elif ours.numel() > 500 and not 0.93 < theirs.std() / ours.std() < 1.07:
                    return f"initial: {name} has another size: {theirs.std():.3g}, not {ours.std():.3g}"
    return ""


def d_rule(exercise, answer, cases):
    """Defaults as in the stub."""
    pairs = [(exercise.reference, answer)]
    if inspect.isclass(answer):
        names = [n for n, f in vars(answer).items() if inspect.isfunction(f) and hasattr(exercise.reference, n)]
        pairs = [(getattr(exercise.reference, n), getattr(answer, n)) for n in names]
    for ours, theirs in pairs:
        a, b = (list(inspect.signature(f).parameters.values()) for f in (ours, theirs))
        for x, y in zip(a, b, strict=False):
            if x.default is not x.empty and x.default != y.default:
                return f"default: {x.name}"
    return ""


def examine(self, answer, seed, seconds):
    verdict = plain_examine(self, answer, seed, seconds)
    if verdict.status != RIGHT:
        return verdict
    cases = list(self.cases(Draw(seed)))
    for letter in RULES:
        found = globals()[f"{letter.lower()}_rule"](self, answer, cases)
        if found:
            return Verdict(NOT_YET, f"proposed {letter}: {found}")
    return verdict


def put_on():
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("dit_course.check") and hasattr(module, "load_reference_weights"):
            module.load_reference_weights = load
    Exercise._examine = examine


if __name__ == "__main__":
    sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    from mutation import run, runner

    runner.WORKER, runner.CACHE = "mutation.proposed", runner.CACHE.with_name(f"mutation-{RULES}.jsonl")
    if sys.argv[1].startswith("{"):  # the process that works
        put_on()
        runner.main()
    else:
        sys.exit(run.main())
