"""A plugin for nbval: no cell writes to stderr, and a learner's cells give outputs of the kinds that are stored.

What follows a prediction is stored without its output. nbval itself compares the contents of marked cells only.
"""

import nbformat
import pytest

from dit_course.authoring.notebooks import strip_widgets
from dit_course.authoring.release import PREDICTED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """After a cell has run: look at what it gave."""
    result = yield
    if getattr(item, "test_outputs", None) is not None:
        kinds, stored = kinds_of(item.test_outputs), kinds_of(item.cell.outputs)
        assert "stderr" not in kinds, f"cell {item.cell_num} writes to stderr"
        if any(cell.get("outputs") for cell in item.parent.nb.cells):  # authors' notebooks store none
            hidden = PREDICTED in item.cell.metadata.get("tags", [])
            assert stored == ([] if hidden else kinds), f"cell {item.cell_num} gives {kinds}, stored are {stored}"
    return result


def kinds_of(outputs: list) -> list[str]:
    """The kinds of outputs as they are stored: without live widgets, and with what is printed in one piece."""
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.from_dict(output) for output in outputs])
    (cell,) = strip_widgets(nbformat.v4.new_notebook(cells=[cell])).cells
    kinds = [output.get("name", output.output_type) for output in cell.outputs]
    return [kind for i, kind in enumerate(kinds) if i == 0 or not kind.startswith("std") or kind != kinds[i - 1]]
