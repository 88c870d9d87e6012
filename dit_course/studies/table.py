"""Tables of results: CSV files that grow row by row, and resume where they were stopped."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from dit_course.data import atomic_write

TEXT = ("variant", "name", "size", "solver")  # columns that hold text; all others hold numbers
WHOLE = ("seed", "steps", "patch_size", "width", "depth", "batch_size", "heads", "patch", "parameters", "evaluations",
         "samples")  # fmt: skip


class ResumableTable:
    """Results in a CSV file: rows that it holds already are not computed again.

    keys: the columns that identify a row. sort: keep the rows in the order of their keys. settings: columns that have
    one value in the whole table; ValueError for a file that was made with others.
    """

    def __init__(self, path: Path, keys: tuple[str, ...], sort: bool = False, **settings: int):
        self.path, self.keys, self.sort = Path(path), keys, sort
        self.rows = read_table(path) if self.path.exists() else []
        if any(row[name] != value for row in self.rows for name, value in settings.items()):
            found = ", ".join(f"{name} = {self.rows[0][name]}" for name in settings)
            raise ValueError(f"{path} holds results with {found}: give the same settings, or another --out")

    def fill(self, wanted: Iterable[tuple], compute: Callable[..., dict]) -> Iterator[dict]:
        """Call `compute` for each of the wanted keys that is missing, and yield each new row once it is written."""
        present = {self._key(row) for row in self.rows}
        for key in wanted:
            if key not in present:
                row = compute(*key)
                self.rows.append(row)
                if self.sort:
                    self.rows.sort(key=self._key)
                write_table(self.path, self.rows)
                yield row

    def _key(self, row: dict) -> tuple:
        return tuple(row[name] for name in self.keys)


def read_table(path: Path) -> list[dict]:
    """The rows of a table, numbers as numbers."""
    with Path(path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v if k in TEXT else int(v) if k in WHOLE else float(v) for k, v in row.items()} for row in rows]


def write_table(path: Path, rows: list[dict]) -> None:
    """Write rows as CSV, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, text.getvalue().encode())
