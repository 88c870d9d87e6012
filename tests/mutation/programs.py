"""The solutions as syntax trees, and changed ones compiled in the names that a learner's cell sees."""

import ast
import inspect
import json
import linecache
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

from dit_course import check
from dit_course.authoring.release import BEGIN, END, sources
from dit_course.check.engine.verdict import exercises
from mutation import helpers


@dataclass
class Program:
    """An exercise's solution. given: numbers of lines that a learner finds there; imports: of the whole notebook."""

    exercise: str
    text: str
    given: set[int]
    imports: list[ast.stmt] = field(default_factory=list)

    def __post_init__(self):
        self.tree = ast.parse(self.text)

    @property
    def check(self):
        """The exercise's check."""
        return getattr(check, self.exercise)

    def names(self) -> dict:
        """A fresh copy of the names that the solution may use: those of its room, and what the notebook imports."""
        reference = inspect.unwrap(self.check.reference)
        names = dict(vars(sys.modules[reference.__module__]), __name__="__main__") | helpers.NAMES
        used = {node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name)}
        for node in self.imports:
            missing = {alias.asname or alias.name.partition(".")[0] for alias in node.names} & used - set(names)
            if missing:
                exec(compile(ast.Module([node], []), "<imports>", "exec"), names)
        return names

    def answer(self, text: str) -> Callable:
        """What a cell with this text defines under the exercise's name. Raises whatever the cell raises."""
        file = f"<changed {self.exercise}>"
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        names = self.names()
        exec(compile(text, file, "exec"), names)
        return names[self.exercise]


@cache
def programs() -> dict[str, Program]:
    """The solutions by exercise, in the order of the checks."""
    found = {}
    for path in sources():
        cells = [
            "".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"
        ]
        imports = [node for cell in cells for node in _nodes(cell) if isinstance(node, ast.Import | ast.ImportFrom)]
        for cell in cells:
            if BEGIN in cell:
                for node in _nodes(cell):
                    if isinstance(node, ast.FunctionDef | ast.ClassDef):
                        found[node.name] = Program(node.name, cell, _given(cell), imports)
    for exercise in exercises:
        if exercise.name not in found:  # a lesson under construction
            text = inspect.getsource(inspect.unwrap(exercise.reference))
            found[exercise.name] = Program(exercise.name, text, set())
    return {exercise.name: found[exercise.name] for exercise in exercises}


def changeable() -> list[str]:
    """Exercises whose solutions are changed. A changed probe (lesson 12) that tells right from wrong is right."""
    return [exercise.name for exercise in exercises if getattr(exercise, "may_change", True)]


def _nodes(cell: str) -> list[ast.stmt]:
    try:
        return ast.parse(cell).body
    except SyntaxError:  # a cell with magic in it
        return []


def _given(cell: str) -> set[int]:
    return set(_outside(cell.splitlines()))


def _outside(lines: list[str]) -> Iterator[int]:
    inside = False
    for number, line in enumerate(lines, start=1):
        if line.strip() in (BEGIN, END):
            inside = line.strip() == BEGIN
        elif not inside:
            yield number
