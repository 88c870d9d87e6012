"""Which expressions of a solution are run by its check at all, and what they give: a change may need a tensor."""

import ast
import contextlib
import copy
from collections import defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dit_course.check.engine.exercise import Draw
from dit_course.check.engine.verdict import RIGHT
from mutation.programs import Program

UNTOUCHED = ("annotation", "returns", "decorator_list", "bases", "type_params", "type_comment", "exc", "cause", "msg")
SEEDS = (0, 1)  # of the cases


@dataclass
class Place:
    """A node of the tree, with where it stands: its parent, the parent's field, and the definitions around it.

    measured: only its shape, its dtype or its length has any effect.
    """

    node: ast.AST
    parent: ast.AST
    field: str
    scope: tuple[ast.AST, ...]
    measured: bool = False


def places(tree: ast.AST, given: Set[int] = frozenset()) -> Iterator[Place]:
    """All nodes that may be changed: no annotations, decorators, docstrings, error messages and imports.

    given: lines that a learner finds in the cell; of a guard there (`if ...: raise`) only the whole is a place.
    """

    def within(node: ast.AST, scope: tuple[ast.AST, ...], measured: bool) -> Iterator[Place]:
        for name, value in ast.iter_fields(node):
            if name in UNTOUCHED:
                continue
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST) or isinstance(child, ast.Import | ast.ImportFrom | ast.JoinedStr):
                    continue
                if isinstance(child, ast.expr_context | ast.operator | ast.unaryop | ast.cmpop | ast.boolop):
                    continue
                if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                    continue
                place = Place(child, node, name, scope, measured or _is_measured(child, node))
                yield place
                if is_guard(child) and child.lineno in given:
                    continue
                defines = isinstance(child, ast.FunctionDef | ast.ClassDef)
                yield from within(child, (*scope, child) if defines else scope, place.measured)

    yield from within(tree, (), False)


def _is_measured(node: ast.AST, parent: ast.AST) -> bool:
    if isinstance(parent, ast.Attribute):
        return parent.attr in ("shape", "dtype", "device", "ndim")
    if not isinstance(parent, ast.Call) or node not in parent.args[:1]:
        return False
    called = ast.unparse(parent.func)
    return called == "len" or called.endswith("_like")


def is_guard(node: ast.AST) -> bool:
    """Whether a statement does nothing but raise errors."""
    return isinstance(node, ast.If) and not node.orelse and all(isinstance(line, ast.Raise) for line in node.body)


def probed(place: Place) -> bool:
    """Whether the value of this expression can be looked at without changing what the program means."""
    node, parent = place.node, place.parent
    if not isinstance(node, ast.expr) or isinstance(node, ast.Starred | ast.Slice | ast.GeneratorExp):
        return False
    if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load) or isinstance(node, ast.Constant):
        return False
    if isinstance(node, ast.Tuple) and isinstance(parent, ast.Subscript):
        return False
    if isinstance(parent, ast.arguments):
        return False
    return place.field != "func" or (isinstance(node, ast.Name) and node.id != "super")


def kinds(program: Program) -> dict[ast.AST, set[str]]:
    """What each expression gave while the check ran the solution; none where it was never run.

    Raises AssertionError when the check does not call the solution right.
    """
    found, nodes = defaultdict(set), {}

    def look(number: int, value: object) -> object:
        found[nodes[number]] |= set(_kinds(value))
        return value

    changed = {}
    for number, place in enumerate(places(program.tree)):
        if probed(place):
            nodes[number] = place.node
            changed[id(place.node)] = number
    text = ast.unparse(ast.fix_missing_locations(_Probes(changed).visit(_copy(program.tree))))
    names = program.names
    program.names = lambda: names() | {"__look__": look}
    try:
        answer = program.answer(text)
    finally:
        del program.names
    learns = ".backward(" in program.text  # otherwise its result has a gradient, or none inside matters
    for seed in SEEDS:
        verdict = program.check.examine(answer, seed=seed)
        assert verdict.status == RIGHT, f"{program.exercise}, looked at: {verdict}"
        with torch.random.fork_rng():
            for case in program.check.cases(Draw(seed)):
                with contextlib.suppress(Exception):  # where gradients make no sense
                    result, _ = case.use(answer, track=True)
                    learns = learns or getattr(result, "requires_grad", True)
    if not learns:
        for seen in found.values():
            seen.discard("gradient")
    return found


def never_run(program: Program, found: dict[ast.AST, set[str]]) -> list[str]:
    """Expressions that no case of the check reaches, the outermost of each."""
    missed = [place.node for place in places(program.tree) if probed(place) and place.node not in found]
    inner = {id(node) for outer in missed for node in ast.walk(outer) if node is not outer}
    return [ast.unparse(node) for node in missed if id(node) not in inner]


class _Probes(ast.NodeTransformer):
    """Puts each expression, by the number kept in `original`, into a call that looks at it."""

    def __init__(self, numbers: dict[int, int]):
        self.numbers = numbers

    def visit(self, node: ast.AST) -> ast.AST:
        """Inner expressions first."""
        number = self.numbers.get(getattr(node, "original", None))
        node = self.generic_visit(node)
        if number is None:
            return node
        return ast.Call(ast.Name("__look__", ast.Load()), [ast.Constant(number), node], [])


def _copy(tree: ast.AST) -> ast.AST:
    """A copy in which each node knows the id of its original."""
    made = copy.deepcopy(tree)
    for ours, theirs in zip(ast.walk(made), ast.walk(tree), strict=True):
        ours.original = id(theirs)
    return made


def _kinds(value: object) -> Iterator[str]:
    yield "run"
    if isinstance(value, nn.Module):
        yield "module"
    if isinstance(value, nn.Parameter) or (isinstance(value, nn.Module) and any(True for _ in value.parameters())):
        yield "learned"
    if isinstance(value, Tensor):
        yield "tensor"
        if value.requires_grad and torch.is_grad_enabled():
            yield "gradient"
        if value.is_floating_point():
            yield "floats"
            yield "times" if value.numel() and value.min() >= 0 and value.max() <= 1 else "beyond"
        if value.dtype != torch.bool:
            yield "numeric"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield "numeric"
