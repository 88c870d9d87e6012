"""Threads that each take rows of a batch: data-parallel work in one process, on a laptop (lesson 10).

torch divides every single operation among its threads, which meet again after each: hundreds of times a step. These
part, compute all of their rows, and meet at the end. That is faster where the network is small, and suffers less from
another program that keeps a core busy: `docs/speed.md` has the measurements.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import torch
from torch import nn

MOST, LEAST_ROWS = 4, 8  # threads, and rows for each: with fewer rows a matrix product is not worth a thread


def worthwhile(rows: int) -> int:
    """How many threads should share so many rows on a CPU: 1 leaves them to torch."""
    return max(1, min(torch.get_num_threads(), MOST, rows // LEAST_ROWS))


def divisible(model: nn.Module) -> bool:
    """Whether several threads may run a network at once: all of it is the course's or PyTorch's, and unwatched."""
    return all(
        type(module).__module__.split(".")[0] in ("dit_course", "torch")
        and not ("forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks)
        for module in model.modules()
    )


class Threads:
    """Some threads that divide torch's own among them. They end when this is no longer used."""

    def __init__(self, count: int):
        self.count, before = count, torch.get_num_threads()
        self._pool, all_here = ThreadPoolExecutor(count, "dit_course rows"), Barrier(count)

        def begin(_) -> None:
            torch.get_num_threads()  # a thread takes over the setting when it is first asked, and then has its own
            torch.set_num_threads(max(1, before // count))
            all_here.wait()  # or one thread would take several of these

        self.map(begin, range(count))
        torch.set_num_threads(before)  # what threads to come will take over

    def map(self, function: Callable, *items: Iterable) -> list:
        """The results of a function for each item, in order; the first exception is raised here."""
        return list(self._pool.map(function, *items))


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Inside, torch computes with one thread: waking others does not pay for small work between that of the rows."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
