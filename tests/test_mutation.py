"""The mutation tester itself, and a share of what it does: `make mutation` does all of it."""

import ast
from types import SimpleNamespace

import pytest
from mutation import runner
from mutation.operators import OPERATORS, mutants
from mutation.probe import is_guard, kinds, never_run, places, probed
from mutation.programs import changeable, programs

from dit_course import check

SHARE, SEED, MINUTES = 0.1, 7, 4.0
NAMES = changeable()
FLOATS = {"floats", "gradient", "numeric", "run", "tensor", "times"}


def changed(source, operator, seen=FLOATS):
    """What one operator makes of a function's lines, all expressions being of one kind; only the lines that differ."""
    tree = ast.parse(source)
    program = SimpleNamespace(exercise="f", tree=tree, given=set())
    found = mutants(program, {place.node: set(seen) for place in places(tree) if probed(place)})
    return {mutant.change.partition(" -> ")[2] for mutant in found if mutant.operator == operator}


def function(*lines, head="def f(x, y):"):
    return "\n    ".join([head, *lines])


@pytest.mark.parametrize(
    ("operator", "line", "expected"),
    [
        ("arithmetic", "return x + y", {"return x - y", "return x * y"}),
        ("arithmetic", "x //= y", {"x /= y", "x *= y"}),
        ("comparison", "return x <= y", {"return x < y", "return x >= y"}),
        ("boolean", "return x or not y", {"return x and (not y)", "return x or y"}),
        ("one side", "return x @ y", {"return x", "return y"}),
        ("swapped sides", "return x - y", {"return y - x"}),
        ("doubled", "return x + y", {"return 2 * (x + y)", "return 2 * x + y", "return x + 2 * y"}),
        ("negated", "return x ** 2", {"return -x ** 2"}),
        ("negated", "return x if y else 1", {"return -(x if y else 1)", "return x if not y else 1"}),
        ("constant", "return x[-1]", {"return x[-2]", "return x[-0]"}),
        ("constant", "return x.f(True, 'ij')", {"return x.f(False, 'ij')", "return x.f(True, 'ij?')"}),
        ("dropped call", "return x.f(y)", {"return x", "return y"}),
        ("dropped index", "return x[:, y]", {"return x", "return x[y]", "return x[:]"}),
        ("dropped bound", "return x[1:y]", {"return x[:y]", "return x[1:]"}),
        ("dropped keyword", "return x.f(a=1, b=2)", {"return x.f(b=2)", "return x.f(a=1)"}),
        ("dropped argument", "return x.f(1, y)", {"return x.f(1)"}),
        ("dropped element", "return {'a': x, 'b': y}", {"return {'b': y}", "return {'a': x}"}),
        ("swapped", "a, b = x.f(1, y)", {"b, a = x.f(1, y)", "a, b = x.f(y, 1)"}),
        ("swapped", "return x.f(a=1, b=y)", {"return x.f(a=y, b=1)"}),
        ("sibling", "return x.sin()", {"return x.cos()"}),
        ("detached", "return x + y", {"return (x + y).detach()", "return x.detach() + y", "return x + y.detach()"}),
        ("detached", "x.normal_(y); return x", {"return x.detach()"}),
        ("partly detached", "return x", {"return __partly_detached__(x)"}),
        ("negated", "x.f(torch.zeros_like(x + y), len(x + y))", set()),
        ("in place", "return x - y", {"return x.sub_(y)"}),
        ("in place", "return x.exp()", {"return x.exp_()"}),
        ("clamped", "return x", {"return x.clamp(0.02, 0.98)", "return x.clamp(min=0)"}),
        (
            "generator",
            "return x(generator=generator)",
            {"return x(generator=__fixed_generator__())", "return x(generator=None)"},
        ),
        ("dropped statement", "x.f()", {"pass"}),
        ("branch", "if x: y()", {"if True:", "if False:"}),
        (
            "branch",
            "return x if y else 1",
            {f"return {x}" for x in ("x if True else 1", "x if False else 1", "1 if y else x")},
        ),
        ("context", "with x: y()", {"if True:"}),
        (
            "loop",
            "for a in x: y(a)",
            {f"for a in list(x){end}:" for end in ("[1:]", "[:-1]", "[:1]", "[::-1]", " * 2")},
        ),
        ("no gradients", "return x", {"@__no_grad__"}),
        ("first result", "return x", {"@__kept__"}),
        ("reseeded", "return x", {"__seed__(0)"}),
    ],
)
def test_an_operator_changes_one_place(operator, line, expected):
    assert changed(function(line), operator) == expected


def test_operators_of_modules():
    made = function("self.a = Linear(1)", head="def f(self):")
    assert changed(made, "frozen", {"learned"}) == {"self.a = Linear(1).requires_grad_(False)"}
    assert changed(made, "initial values", {"learned"}) == {f"self.a = __scaled__(Linear(1), {x})" for x in (0, 50)}
    assert changed(function("return x(y)"), "mode", {"module"}) == {
        f"{name}.{call}" for name in "xy" for call in ("eval()", "train()", "requires_grad_(False)", "zero_grad()")
    }


def test_operators_of_definitions():
    source = "class A:\n    @torch.no_grad()\n    def f(self, x=0.5):\n        return x"
    assert changed(source, "method") == {"pass"}
    assert changed(source, "default") == {"def f(self, x=1.0):", "def f(self, x=0.25):", "def f(self, x):"}
    assert changed(source, "context") == {"(nothing)"}


def test_what_a_learner_finds_is_left_alone_where_it_only_guards():
    tree = ast.parse(function("if x % 2:", "    raise ValueError(f'{x} is odd')", "return x"))
    guard = tree.body[0].body[0]
    assert is_guard(guard)
    assert not is_guard(tree.body[0].body[1])
    inside = {place.node for place in places(tree)} - {place.node for place in places(tree, {2, 3})}
    assert inside
    assert inside < set(ast.walk(guard)) - {guard}
    assert not any("odd" in ast.dump(place.node) for place in places(tree) if isinstance(place.node, ast.Constant))


def test_every_text_is_tried_once_and_can_be_told_apart():
    program = programs()["patchify"]
    made = mutants(program, kinds(program))
    assert len({mutant.text for mutant in made}) == len(made)
    assert len({mutant.key for mutant in made}) == len(made)
    assert any(mutant.given for mutant in made)
    assert not all(mutant.given for mutant in made)


def test_solutions_run_where_a_learners_cell_runs():
    for name, program in programs().items():
        assert program.answer(program.text).__name__ == name
        assert program.answer(program.text) is not getattr(check, name).reference


def test_what_no_case_runs_is_found():
    program = programs()["patchify"]
    seen = kinds(program)
    assert never_run(program, seen) == []
    left_out = next(place.node for place in places(program.tree) if isinstance(place.node, ast.BinOp))
    del seen[left_out]
    assert never_run(program, seen) == [ast.unparse(left_out)]


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        ("x * (1 + scale) + shift", "x * (1 + scale) + shift", runner.SURVIVED),
        ("x * (1 + scale)", "x * scale", runner.REFUSED),
        ("def modulate", "def other", runner.REFUSED),
        ("return x", "while True: pass\n    return x", runner.REFUSED),
    ],
)
def test_a_changed_program_gets_its_checks_verdict(before, after, status, monkeypatch):
    monkeypatch.setattr(runner, "SECONDS", 0.5)
    program = programs()["modulate"]
    assert before in program.text
    found = runner.try_one(program, program.text.replace(before, after))
    assert found["status"] == status
    assert found["verdict"]


def test_what_ends_the_process_or_hangs_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "CACHE", tmp_path / "results.jsonl")
    facts = {"exercise": "modulate", "hash": "1", "operator": "loop", "given": False, "key": "loop: a -> b"}
    jobs = []

    def events(job, deadline):
        jobs.append(list(job["exercises"]))
        yield {"made": 1, "exercise": "modulate", "lesson": "03", "keys": [facts["key"]], "never": []}
        if len(jobs) == 1:
            yield {"begin": facts}
            yield {"ended": "it hung"}
        else:  # the second process finds what came of it
            yield {**facts, **runner.kept()["1"]}
            yield {"done": "modulate"}

    monkeypatch.setattr(runner, "_events", events)
    (row,) = runner.run(["modulate"], note=lambda text: None)
    assert (row.tried, row.refused) == (1, 1)
    assert row.verdicts[0]["verdict"] == "it hung"
    assert jobs == [["modulate"], ["modulate"]]


def test_survivors_are_told_from_what_is_listed(monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "EQUIVALENT", tmp_path / "equivalent.toml")
    runner.EQUIVALENT.write_text('[f]\n"the same" = ["a", "b", "gone"]')

    def events(job, deadline):
        yield {"made": 4, "exercise": "f", "lesson": "03", "keys": list("abcd"), "never": []}
        for key, status in zip("abcd", ("survived", "refused", "survived", "refused"), strict=True):
            yield {"exercise": "f", "key": key, "status": status, "seconds": 0.5, "verdict": ""}
        yield {"done": "f"}

    monkeypatch.setattr(runner, "_events", events)
    (row,) = runner.run(["f"], note=lambda text: None)
    assert (row.tried, row.refused, row.equivalent) == (4, 2, 1)
    assert [event["key"] for event in row.survivors] == ["c"]
    assert row.stale == ["no change any more: gone", "refused by now: b"]
    runner.tidy([row])
    assert runner.EQUIVALENT.read_text() == '\n[f]\n"the same" = [\n    "a",\n]\n'
    assert list(runner.table([row]))[-1].split() == ["together", "4", "2", "1", "1", "2"]


def test_the_table_of_times_names_each_check_and_its_verdict():
    *rows, last = runner.times(["modulate", "shift"])
    assert {tuple(row.split()[:2]) for row in rows} == {("03", "modulate"), ("05", "shift")}
    assert all(row.endswith("s  right") for row in rows)
    assert last.startswith("together")


def test_equivalents_have_reasons_and_exercises():
    listed = runner.listed()
    assert set(listed) <= set(NAMES)
    assert all(len(reason) > 10 for changes in listed.values() for reason in changes.values())


def test_a_share_of_all_changes_is_refused():
    """Fails on a change that is called right and explained nowhere; `make mutation` tries all of them."""
    rows = runner.run(NAMES, SHARE, SEED, MINUTES, note=lambda text: None)
    survivors = [f"{row.exercise}: {event['key']}" for row in rows for event in row.survivors]
    assert not survivors, "\n".join(survivors)
    assert len(rows) > 40, "the time was too short"
    assert not [f"{row.exercise}: {key}" for row in rows for key in row.stale]


def test_every_operator_occurs():
    found = set()
    for program in sorted((programs()[name] for name in NAMES), key=lambda program: len(program.text)):
        found |= {mutant.operator for mutant in mutants(program, kinds(program))}
        if found == set(OPERATORS):
            return
    assert set(OPERATORS) - found == set()
