"""What one training step consists of: torch's operators with their time, arithmetic and bytes, for `bench`."""

import math
from collections import defaultdict
from collections.abc import Iterator

import torch

SHOWN = 14


def operators(steps: Iterator, count: int = 10) -> list[dict]:
    """Profile `count` steps of a running training: a row for each operator, the one that takes longest first.

    Keys: name, calls (a step), milliseconds (a step, without the operators that it calls), gflop (matrix products
    only: torch counts no others) and megabytes (of its inputs, float32) a step.
    """
    with torch.profiler.profile(record_shapes=True, with_flops=True) as found:
        for _ in range(count):
            next(steps)
    rows: dict[str, dict] = defaultdict(lambda: dict.fromkeys(("calls", "milliseconds", "gflop", "megabytes"), 0.0))
    for event in found.key_averages(group_by_input_shape=True):
        row, sizes = rows[event.key], [math.prod(shape) for shape in event.input_shapes if shape]
        row["calls"] += event.count / count
        row["milliseconds"] += event.self_cpu_time_total / count / 1e3
        row["gflop"] += (event.flops or 0) / count / 1e9
        row["megabytes"] += 4 * sum(sizes) * event.count / count / 1e6
    return sorted(({"name": name} | row for name, row in rows.items()), key=lambda row: -row["milliseconds"])


def operator_table(rows: list[dict]) -> Iterator[str]:
    """The rows as lines of text; what is below the first `SHOWN` in one line."""
    total = sum(row["milliseconds"] for row in rows)
    yield f"one step: {total:.0f} ms in operators, {sum(row['gflop'] for row in rows):.1f} GFLOP in matrix products"
    yield f"{'':44s} {'calls':>6s} {'ms':>6s} {'share':>6s} {'GFLOP':>6s} {'GFLOP/s':>8s} {'MB':>6s}"
    for row in rows[:SHOWN]:
        speed = f"{1e3 * row['gflop'] / row['milliseconds']:8.0f}" if row["gflop"] else f"{'-':>8s}"
        yield (
            f"{row['name'][:44]:44s} {row['calls']:6.0f} {row['milliseconds']:6.1f} {row['milliseconds'] / total:6.1%} "
            f"{row['gflop']:6.2f} {speed} {row['megabytes']:6.0f}"
        )
    rest = sum(row["milliseconds"] for row in rows[SHOWN:])
    yield f"{f'{len(rows[SHOWN:])} others':44s} {'':6s} {rest:6.1f} {rest / total:6.1%}"
