"""The changes: each operator makes of one node of a syntax tree others that could stand in its place.

    @operator
    def negated(place, kinds):
        if place.field == "test":
            yield f"not {text(place.node)}"

An operator yields nodes, or texts of expressions or statements. It is told what the expressions of the program were
found to be (`probe.kinds`), so that only tensors are detached.
"""

import ast
import copy
import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from mutation.probe import Place, is_guard, places

Kinds = Mapping[ast.AST, set[str]]
OPERATORS: dict[str, Callable[[Place, Kinds], Iterator[ast.AST | str]]] = {}

ARITHMETIC = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Div, ast.Mult),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.MatMult: (ast.Mult,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
}
COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OF_VALUES = {"arithmetic", "doubled", "negated", "swapped sides", "clamped", "detached", "partly detached"}
COMMUTE = {"transpose", "maximum", "minimum", "max", "min"}  # the order of their arguments does not matter
IN_PLACE = {ast.Add: "add_", ast.Sub: "sub_", ast.Mult: "mul_", ast.Div: "div_", ast.Pow: "pow_"}
SIBLINGS = {
    name: others.split()
    for name, others in {
        **{"sum": "mean", "mean": "sum median", "std": "var", "var": "std", "max": "min", "min": "max"},
        **{"amax": "amin mean", "amin": "amax", "maximum": "minimum", "minimum": "maximum", "sin": "cos", "cos": "sin"},
        **{"square": "abs", "abs": "square", "sqrt": "square", "rsqrt": "sqrt", "exp": "expm1", "log": "log1p log2"},
        **{"zeros": "ones", "ones": "zeros", "zeros_": "ones_", "zeros_like": "ones_like", "randn": "rand"},
        **{"rand": "randn", "sigmoid": "tanh", "tanh": "sigmoid", "silu": "gelu", "gelu": "relu", "eval": "train"},
        **{"train": "eval", "normal_": "uniform_", "xavier_uniform_": "kaiming_uniform_", "floor": "ceil"},
        **{"float32": "float16 float64", "float64": "float32", "float": "half", "int32": "int64", "any": "all"},
        **{
            "all": "any",
            "cumprod": "cumsum",
            "chunk": "split",
            "kthvalue": "topk",
            "eigvalsh": "eigvals",
            "log10": "log",
        },
        **{
            "buffers": "parameters",
            "parameters": "buffers",
            "softmax": "sigmoid log_softmax",
            "len": "sum",
            "eigvalsh": "eigvals",
        },
        **{"deepcopy": "copy", "flatten": "squeeze", "clone": "detach", "enumerate": "list", "int": "round"},
    }.items()
}


def operator(change: Callable) -> Callable:
    """Register an operator under its name."""
    OPERATORS[change.__name__.replace("_", " ")] = change
    return change


@dataclass(frozen=True)
class Mutant:
    """A changed program. given: whether the changed lines are such that a learner finds in the cell."""

    exercise: str
    operator: str
    method: str
    plain: str
    text: str
    given: bool

    @cached_property
    def change(self) -> str:
        """The changed lines, without their numbers, so that other lines may change."""
        return " -> ".join(_changed_lines(self.plain, self.text))

    @property
    def key(self) -> str:
        """How the file of equivalents names it."""
        return f"{self.operator}{self.method and ', '}{self.method}: {self.change}"


def mutants(program, kinds: Kinds) -> list[Mutant]:
    """All programs that one operator makes of one node, each text once."""
    plain = ast.unparse(program.tree)
    found = {plain: None}
    for place in places(program.tree, program.given):
        guard = is_guard(place.node) and place.node.lineno in program.given
        for name, change in OPERATORS.items():
            if (guard and name != "dropped statement") or (place.measured and name in OF_VALUES):
                continue
            for new in change(place, kinds):
                if isinstance(place.parent, ast.Expr) and not isinstance(new, ast.Call):
                    continue  # a line that does nothing: "dropped statement" makes that
                changed = _replaced(program.tree, place.node, _node(new, place.node))
                try:
                    text = ast.unparse(ast.fix_missing_locations(changed))
                except (SyntaxError, ValueError, AttributeError):
                    continue
                if text not in found:
                    found[text] = Mutant(program.exercise, name, _method(place), plain, text, _is_given(place, program))
    return [mutant for mutant in found.values() if mutant]


def _method(place: Place) -> str:
    outer = [*place.scope, place.node]
    return next(
        (
            outer[i + 1].name
            for i in range(len(outer) - 1)
            if isinstance(outer[i], ast.ClassDef) and isinstance(outer[i + 1], ast.FunctionDef)
        ),
        "",
    )


def _is_given(place: Place, program) -> bool:
    nodes = (place.node, place.parent, *place.scope[::-1])
    node = next(node for node in nodes if hasattr(node, "lineno"))
    return program.given.issuperset(range(node.lineno, node.end_lineno + 1))


def text(node: ast.AST) -> str:
    """A node as it is written, in brackets where it is an expression."""
    return f"({ast.unparse(node)})" if isinstance(node, ast.expr) else ast.unparse(node)


def _node(new: ast.AST | str, old: ast.AST) -> ast.AST:
    if isinstance(new, ast.AST):
        return new
    statement = ast.parse(new).body[0]
    return statement if isinstance(old, ast.stmt) else statement.value


def _replaced(tree: ast.AST, old: ast.AST, new: ast.AST) -> ast.AST:
    return copy.deepcopy(tree, {id(old): new})  # a copy that takes `new` for the copy of `old`


def _with(node: ast.AST, **fields) -> ast.AST:
    return type(node)(**{name: getattr(node, name, None) for name in node._fields} | fields)


def _changed_lines(before: str, after: str) -> tuple[str, str]:
    ours, theirs = before.splitlines(), after.splitlines()
    removed, added = [], []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if kind != "equal":
            removed += ours[a:b]
            added += theirs[c:d]
    return _short(removed), _short(added)


def _short(lines: list[str]) -> str:
    """Without indentation and what errors say."""
    lines = ["raise ..." if line.strip().startswith("raise") else line.strip() for line in lines]
    return " ; ".join(lines) or "(nothing)"


def _is_part(place: Place) -> bool:
    """Whether an expression is an operand, or what is assigned or returned as a whole."""
    assigned = place.field == "value" and isinstance(place.parent, ast.stmt) and not isinstance(place.parent, ast.Expr)
    if isinstance(place.node, ast.Call) and ast.unparse(place.node.func).startswith("torch.zeros"):
        return False
    return place.field in ("left", "right") or assigned


def _lets_gradients_through(place: Place, kinds: Kinds) -> bool:
    """Whether it makes a difference to detach: not where something is filled in place, or detached anyway."""
    parent = place.parent
    name = parent.func if isinstance(parent, ast.Call) else parent
    filled = isinstance(parent, ast.Expr) or (isinstance(name, ast.Attribute) and name.attr.endswith(("_", "detach")))
    return {"floats", "gradient"} <= kinds.get(place.node, set()) and not filled


def _tests(place: Place) -> bool:
    """Whether something is decided by this expression."""
    decides = place.field == "test" or (place.field == "ifs" and isinstance(place.parent, ast.comprehension))
    return decides and isinstance(place.node, ast.expr)


def _is_squared(place: Place) -> bool:
    parent = place.parent
    return isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Pow) and ast.unparse(parent.right) == "2"


def _is_made(place: Place, kinds: Kinds) -> bool:
    """Whether a module or a parameter is made here, and kept."""
    made = isinstance(place.node, ast.Call) and "learned" in kinds.get(place.node, ())
    converts = made and ast.unparse(place.node.func).endswith(".to")
    return made and not converts and not isinstance(place.parent, ast.Expr | ast.Attribute)


# -- operators of expressions ----------------------------------------------------------------------


@operator
def arithmetic(place, kinds):
    """+ for -, * for /, ..."""
    if isinstance(place.node, ast.BinOp | ast.AugAssign):
        for other in ARITHMETIC.get(type(place.node.op), ()):
            yield _with(place.node, op=other())


@operator
def comparison(place, kinds):
    """< for <=, == for !=, ..."""
    if isinstance(place.node, ast.Compare):
        for index, old in enumerate(place.node.ops):
            for other in COMPARISONS[type(old)]:
                yield _with(place.node, ops=[*place.node.ops[:index], other(), *place.node.ops[index + 1 :]])


@operator
def boolean(place, kinds):
    """`and` for `or`, a `not` left out."""
    node = place.node
    if isinstance(node, ast.BoolOp):
        yield _with(node, op=ast.And() if isinstance(node.op, ast.Or) else ast.Or())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand


@operator
def one_side(place, kinds):
    """a + b becomes a, or b."""
    if isinstance(place.node, ast.BinOp):
        yield from (place.node.left, place.node.right)
    if isinstance(place.node, ast.BoolOp):
        yield from place.node.values


@operator
def swapped_sides(place, kinds):
    """a - b becomes b - a."""
    node = place.node
    if isinstance(node, ast.BinOp) and not isinstance(node.op, ast.Add | ast.Mult | ast.BitAnd):
        yield _with(node, left=node.right, right=node.left)


@operator
def doubled(place, kinds):
    """Twice as much."""
    if _is_part(place) and "numeric" in kinds.get(place.node, ()):
        yield f"2 * {text(place.node)}"


@operator
def negated(place, kinds):
    """-x for x, `not x` for a condition."""
    if _is_part(place) and "numeric" in kinds.get(place.node, ()) and not _is_squared(place):
        yield f"-{text(place.node)}"
    if _tests(place):
        yield f"not {text(place.node)}"


@operator
def constant(place, kinds):
    """Numbers one up and one down, large and broken ones doubled and halved, eps tenfold; other words and truths."""
    strict = isinstance(place.parent, ast.keyword) and place.parent.arg == "strict"
    if isinstance(place.node, ast.Constant) and not isinstance(place.parent, ast.arguments) and not strict:
        yield from map(ast.Constant, _near(place.node.value))


def _near(value: object) -> Iterator[object]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1)
        if abs(value) > 100:
            yield from (value * 2, value // 2)
    elif isinstance(value, float):
        yield from (value * 2, value / 2) if value else (1.0, 0.01)
        if 0 < value < 1e-2:
            yield from (value * 10, value / 10, 0.0)
    elif isinstance(value, str):
        yield value + "?"


@operator
def default(place, kinds):
    """Other values of parameters that are left out in a call, or none at all."""
    node = place.node
    if isinstance(node, ast.arguments):
        for index, old in enumerate(node.defaults):
            for value in _near(old.value) if isinstance(old, ast.Constant) else ():
                new = [*node.defaults[:index], ast.Constant(value), *node.defaults[index + 1 :]]
                yield _with(node, defaults=new)
        if node.defaults:
            yield _with(node, defaults=node.defaults[1:])


@operator
def dropped_call(place, kinds):
    """f(x) becomes x, and x.f() becomes x."""
    node = place.node
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            yield node.func.value
        yield from node.args[:1]


@operator
def dropped_index(place, kinds):
    """x[i] becomes x, and x[i, j] loses one of them."""
    node = place.node
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        yield node.value
        if isinstance(node.slice, ast.Tuple):
            for index in range(len(node.slice.elts)):
                rest = [x for i, x in enumerate(node.slice.elts) if i != index]
                yield _with(node, slice=ast.Tuple(rest, ast.Load()) if len(rest) > 1 else rest[0])


@operator
def dropped_bound(place, kinds):
    """x[a:b] becomes x[:b], or x[a:]."""
    if isinstance(place.node, ast.Slice):
        for bound in ("lower", "upper", "step"):
            if getattr(place.node, bound):
                yield _with(place.node, **{bound: None})


@operator
def dropped_keyword(place, kinds):
    """f(x, dim=1) becomes f(x)."""
    if isinstance(place.node, ast.Call):
        for index in range(len(place.node.keywords)):
            if place.node.keywords[index].arg == "strict":
                continue  # it only says when sizes differ
            yield _with(place.node, keywords=place.node.keywords[:index] + place.node.keywords[index + 1 :])


@operator
def dropped_argument(place, kinds):
    """f(x, y) becomes f(x)."""
    if isinstance(place.node, ast.Call) and place.node.args:
        yield _with(place.node, args=place.node.args[:-1])


@operator
def dropped_element(place, kinds):
    """[a, b] becomes [a], or [b]; a part of a dictionary is left out."""
    node = place.node
    if isinstance(node, ast.List | ast.Tuple) and isinstance(node.ctx, ast.Load):
        for index in range(len(node.elts)):
            yield _with(node, elts=node.elts[:index] + node.elts[index + 1 :])
    if isinstance(node, ast.Dict):
        for i in range(len(node.keys)):
            yield _with(node, keys=node.keys[:i] + node.keys[i + 1 :], values=node.values[:i] + node.values[i + 1 :])


@operator
def swapped(place, kinds):
    """f(x, y) becomes f(y, x); elements of a list, targets of an assignment, and values of keywords trade places."""
    node = place.node
    if isinstance(node, ast.Call):
        commutes = ast.unparse(node.func).rpartition(".")[2] in COMMUTE
        for args in _traded(node.args) if not commutes else ():
            yield _with(node, args=args)
        for values in _traded([keyword.value for keyword in node.keywords]):
            yield _with(node, keywords=[_with(k, value=v) for k, v in zip(node.keywords, values, strict=True)])
    if isinstance(node, ast.List | ast.Tuple):
        for elements in _traded(node.elts):
            yield _with(node, elts=elements)


def _traded(items: list) -> Iterator[list]:
    for i in range(len(items) - 1):
        yield [*items[:i], items[i + 1], items[i], *items[i + 2 :]]


@operator
def sibling(place, kinds):
    """Another function of the family: sum for mean, sin for cos, float64 for float32."""
    if isinstance(place.node, ast.Attribute | ast.Name) and isinstance(place.node.ctx, ast.Load):
        part = "attr" if isinstance(place.node, ast.Attribute) else "id"
        for other in SIBLINGS.get(getattr(place.node, part), ()):
            yield _with(place.node, **{part: other})


# -- operators of tensors --------------------------------------------------------------------------


@operator
def detached(place, kinds):
    """A tensor lets no gradient through."""
    if _lets_gradients_through(place, kinds):
        yield f"{text(place.node)}.detach()"


@operator
def partly_detached(place, kinds):
    """A tensor lets only half of the gradient through."""
    if _lets_gradients_through(place, kinds) and place.field in ("value", "args") and not _is_attribute(place):
        yield f"__partly_detached__({text(place.node)})"


def _is_attribute(place: Place) -> bool:
    return isinstance(place.parent, ast.Attribute | ast.Subscript | ast.Starred)


@operator
def in_place(place, kinds):
    """What somebody else may hold is changed: x.add_(y) for x + y, x.exp_() for x.exp()."""
    node = place.node
    if isinstance(node, ast.BinOp) and type(node.op) in IN_PLACE:
        if _is_held(node.left, kinds):
            yield f"{text(node.left)}.{IN_PLACE[type(node.op)]}{text(node.right)}"
        if _is_held(node.right, kinds) and isinstance(node.op, ast.Add | ast.Mult):
            yield f"{text(node.right)}.{IN_PLACE[type(node.op)]}{text(node.left)}"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and hasattr(Tensor, node.func.attr + "_"):
        if _is_held(node.func.value, kinds):
            yield _with(node, func=_with(node.func, attr=node.func.attr + "_"))
        elif node.args and _is_held(node.args[0], kinds) and "tensor" not in kinds.get(node.func.value, ()):
            yield _with(node, func=ast.Attribute(node.args[0], node.func.attr + "_", ast.Load()), args=node.args[1:])


def _is_held(node: ast.AST, kinds: Kinds) -> bool:
    return "tensor" in kinds.get(node, ()) and isinstance(node, ast.Name | ast.Attribute | ast.Subscript)


@operator
def clamped(place, kinds):
    """Times never reach the ends; what is returned is never below zero."""
    if isinstance(place.node, ast.Name) and "times" in kinds.get(place.node, ()):
        yield f"{text(place.node)}.clamp(0.02, 0.98)"
    if isinstance(place.parent, ast.Return) and "floats" in kinds.get(place.node, ()):
        yield f"{text(place.node)}.clamp(min=0)"


@operator
def frozen(place, kinds):
    """A module or parameter that nobody trains."""
    if _is_made(place, kinds):
        yield f"{text(place.node)}.requires_grad_(False)"


@operator
def initial_values(place, kinds):
    """A module or parameter that begins with zeros, or with values that are fifty times too large."""
    if _is_made(place, kinds):
        yield f"__scaled__({text(place.node)}, 0)"
        yield f"__scaled__({text(place.node)}, 50)"


@operator
def generator(place, kinds):
    """Another generator than the one that was handed over: always the same, or the world's."""
    handed = place.field in ("args", "value") and not _is_attribute(place)
    if handed and isinstance(place.node, ast.Name) and place.node.id == "generator":
        yield "__fixed_generator__()"
        yield "None"


# -- operators of statements -----------------------------------------------------------------------


@operator
def dropped_statement(place, kinds):
    """A line is missing."""
    if isinstance(place.node, ast.stmt) and not isinstance(place.node, ast.FunctionDef | ast.ClassDef | ast.Pass):
        yield ast.Pass()


@operator
def method(place, kinds):
    """A method is missing, so that the class falls back to its base."""
    if isinstance(place.node, ast.FunctionDef) and place.scope and isinstance(place.scope[-1], ast.ClassDef):
        yield ast.Pass()


@operator
def branch(place, kinds):
    """A condition that always holds, or never; branches that have traded places."""
    node = place.node
    if isinstance(node, ast.If | ast.IfExp):
        yield _with(node, test=ast.Constant(True))
        yield _with(node, test=ast.Constant(False))
    if isinstance(node, ast.IfExp) or (isinstance(node, ast.If) and node.orelse):
        yield _with(node, body=node.orelse, orelse=node.body)
    if isinstance(node, ast.comprehension):
        for index in range(len(node.ifs)):
            yield _with(node, ifs=node.ifs[:index] + node.ifs[index + 1 :])


@operator
def loop(place, kinds):
    """A loop that starts one late, ends one early, runs once, twice or backwards."""
    node = place.node
    if isinstance(node, ast.For | ast.comprehension):
        for cut in ("[1:]", "[:-1]", "[:1]", "[::-1]"):
            yield _with(node, iter=ast.parse(f"list({ast.unparse(node.iter)}){cut}").body[0].value)
        yield _with(node, iter=ast.parse(f"list({ast.unparse(node.iter)}) * 2").body[0].value)
    if isinstance(node, ast.While):
        yield _with(node, test=ast.Constant(False))


@operator
def context(place, kinds):
    """`with` and decorators are left out; a statement comes out of the `with` above it or out of a loop."""
    node = place.node
    if isinstance(node, ast.With):
        yield ast.If(ast.Constant(True), node.body, [])
    if isinstance(node, ast.FunctionDef):
        for index in range(len(node.decorator_list)):
            yield _with(node, decorator_list=node.decorator_list[:index] + node.decorator_list[index + 1 :])


@operator
def no_gradients(place, kinds):
    """A whole function under no_grad."""
    if _is_function(place) and place.node.name != "__init__" and _any("gradient", place.node, kinds):
        yield _decorated(place.node, "__no_grad__")


@operator
def first_result(place, kinds):
    """A function that hands out its first result again when it is called with tensors of the same sizes."""
    returns = any(isinstance(node, ast.Return) and node.value for node in ast.walk(place.node))
    if _is_function(place) and returns and _any("tensor", place.node, kinds):
        yield _decorated(place.node, "__kept__")


@operator
def reseeded(place, kinds):
    """A function sets everybody's random numbers back."""
    if _is_function(place):
        yield _begun(place.node, "__seed__(0)")


@operator
def mode(place, kinds):
    """A function puts a module that it is given into another mode, freezes it or forgets its gradients."""
    if _is_function(place):
        names = [argument.arg for argument in place.node.args.args]
        seen = {
            node.id for node in ast.walk(place.node) if isinstance(node, ast.Name) and "module" in kinds.get(node, ())
        }
        for name in names:
            if name in seen:
                yield _begun(place.node, f"{name}.eval()")
                yield _begun(place.node, f"{name}.train()")
                yield _begun(place.node, f"{name}.requires_grad_(False)")
                if name != "self":
                    yield _begun(place.node, f"{name}.zero_grad()")


def _is_function(place: Place) -> bool:
    nested = any(isinstance(outer, ast.FunctionDef) for outer in place.scope)
    return isinstance(place.node, ast.FunctionDef) and not nested


def _any(kind: str, function: ast.FunctionDef, kinds: Kinds) -> bool:
    return any(kind in kinds.get(node, ()) for node in ast.walk(function) if isinstance(node, ast.Name))


def _begun(function: ast.FunctionDef, line: str) -> ast.FunctionDef:
    at = 1 if ast.get_docstring(function) else 0
    return _with(function, body=[*function.body[:at], ast.parse(line).body[0], *function.body[at:]])


def _decorated(function: ast.FunctionDef, name: str) -> ast.FunctionDef:
    return _with(function, decorator_list=[*function.decorator_list, ast.Name(name, ast.Load())])
