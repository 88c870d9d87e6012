"""How long nbgrader runs a cell and a notebook of a student. It imports nothing: each call of nbgrader waits for it."""

import time
from collections.abc import Mapping

# Seconds of the slowest cell and of all cells, as nbgrader ran them with one thread on two cores, beside three to six
# other programs: the worse of two runs. `make test-classroom` prints them.
MEASURED = {
    "01_patches": (5.5, 24),
    "02a_attention": (3.8, 37),
    "02b_blocks_and_maps": (3.9, 42),
    "03_adaln_blocks": (4.5, 54),
    "04_registers": (6.5, 61),
    "05_flow_loss": (6.5, 37),
    "06_training": (15.3, 150),
    "07_ema": (23.5, 196),
    "08_cfg_sampling": (16.1, 66),
    "09a_measures": (13.5, 94),
    "09b_protocol": (17.9, 67),
    "10a_scaling_laws": (17.9, 48),
    "10b_scaling_up": (41.5, 119),
    "11_few_steps": (303.1, 553),
    "12_bug_hunt": (9.4, 35),
    "08_solvers": (79.2, 125),
}
SAFETY = 3  # a machine may be so many times slower; more would be no kindness, as a loop without end costs it all
SHORTEST = 120  # seconds for a cell: below that, pauses of the machine matter more than the lesson
ENDLESS = 2  # cells of a notebook that may use up their time, and the others still get theirs
LEAST = 2  # seconds for each cell that is left when those of the notebook are used up


def limits_of(assignment: str) -> tuple[int, int]:
    """Seconds for a cell and for a submission; for an assignment that was not measured, the longest of all."""
    if assignment not in MEASURED:
        each = [limits_of(name) for name in MEASURED]
        return max(cell for cell, _ in each), max(notebook for _, notebook in each)
    slowest, all_cells = MEASURED[assignment]
    cell = max(SHORTEST, _tens(SAFETY * slowest))
    return cell, _tens(SAFETY * all_cells) + ENDLESS * cell


def _tens(seconds: float) -> int:
    return 10 * round(seconds / 10 + 0.5)


class Limits:
    """Seconds for a cell (`seconds` is nbclient's `timeout_func`), out of those for all notebooks of a submission.

    A loop that no interrupt ends costs each later cell its time; without the second limit that would be hours.
    table: of each assignment the seconds for a cell and for a submission; of others, `limits_of` tells.
    """

    def __init__(self, table: Mapping[str, tuple[float, float]] | None = None, clock=time.monotonic):
        self.table, self.clock = dict(table or {}), clock
        self.cell, self.end = limits_of("")[0], None

    def start(self, assignment: str = "", **_) -> None:
        """nbgrader's `pre_convert_hook`: the next submission begins."""
        self.cell, notebook = self.table.get(assignment) or limits_of(assignment)
        self.end = self.clock() + notebook

    def seconds(self, _cell=None) -> int:
        """For the next cell; at least `LEAST`."""
        left = self.cell if self.end is None else self.end - self.clock()
        return max(LEAST, round(min(self.cell, left)))
