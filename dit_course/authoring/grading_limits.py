"""How long nbgrader runs a cell and a notebook of a student. It imports nothing: each call of nbgrader waits for it."""

import time

CELL, NOTEBOOK = 300, 1200  # seconds: on a busy machine, several times of what a lesson takes
LEAST = 2  # seconds for each cell that is left when those of the notebook are used up


class Limits:
    """Seconds for a cell (`seconds` is nbclient's `timeout_func`), out of those for all notebooks of a submission.

    A loop that no interrupt ends costs each later cell its time; without the second limit that would be hours.
    """

    def __init__(self, cell: float = CELL, notebook: float = NOTEBOOK, clock=time.monotonic):
        self.cell, self.notebook, self.clock = cell, notebook, clock
        self.end = None

    def start(self, **_) -> None:
        """nbgrader's `pre_convert_hook`: the next submission begins."""
        self.end = self.clock() + self.notebook

    def seconds(self, _cell=None) -> int:
        """For the next cell; at least `LEAST`."""
        left = self.cell if self.end is None else self.end - self.clock()
        return max(LEAST, round(min(self.cell, left)))
