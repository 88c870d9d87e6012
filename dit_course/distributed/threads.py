"""One process, several CPU threads, each with rows of its own: data-parallel training in one laptop (lesson 10).

torch divides every single operation among its threads, which meet again after each: hundreds of times a step. Here they
part, compute forward or backward of their rows, and meet twice a step. That is faster where the network is small, and
suffers less from another program that keeps a core busy: `docs/speed.md` has the measurements.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import reduce
from threading import Barrier

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dit_course.distributed.rows import dropout_disabled

MOST, LEAST_ROWS = 4, 8  # threads, and rows for each: with fewer rows a matrix product is not worth a thread


def in_threads(model: nn.Module, rows: int, threads: int | None = None) -> nn.Module:
    """The model on the CPU, for batches of so many rows: divided among threads, or itself where that would not pay.

    threads: None chooses, among as many as torch has.
    """
    threads = min(torch.get_num_threads(), MOST, rows // LEAST_ROWS) if threads is None else min(threads, rows)
    return RowsInThreads(model, threads) if threads > 1 else model


class RowsInThreads(nn.Module):
    """A DiT that computes the rows of a batch in several threads, forward and backward: the same but for rounding.

    model: called as (x, t, y, ...), each (batch, ...) or None. Only parameters get gradients, summed in the order of
    the rows, so that runs repeat bit for bit. Labels are dropped for the whole batch at once, as the model would do it.
    threads: how many; they divide torch's own among them. They end when this is no longer used.
    """

    def __init__(self, model: nn.Module, threads: int):
        super().__init__()
        self.model, self.threads = model, threads
        self._pool = ThreadPoolExecutor(threads, "dit_course rows")
        self._divide_torchs_threads()

    def _divide_torchs_threads(self) -> None:
        all_here, before = Barrier(self.threads), torch.get_num_threads()

        def begin(_) -> None:
            torch.get_num_threads()  # a thread takes over the setting when it is first asked, and then has its own
            torch.set_num_threads(max(1, before // self.threads))
            all_here.wait()  # or one thread would take several of these

        self.run(begin, range(self.threads))
        torch.set_num_threads(before)  # what threads to come will take over

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, *condition: Tensor | None) -> Tensor:
        """What the model predicts: the shape of x."""
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        with dropout_disabled(self.model) as drop_labels:
            y = None if y is None else drop_labels(y)
            parts = zip(*(_split(value, self.threads) for value in (x, t, y, *condition)), strict=True)
            return _ByRows.apply(self, parts, torch.is_grad_enabled(), *parameters)

    def run(self, function: Callable, *items: Iterable) -> list:
        """The results of a function for each item, in order; the first exception is raised here."""
        return list(self._pool.map(function, *items))


@contextmanager
def one_torch_thread(enabled: bool = True) -> Iterator[None]:
    """Inside, torch computes with one thread: waking others does not pay for small work between that of the rows."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if enabled else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _ByRows(torch.autograd.Function):
    """Each thread builds the graph of its own rows, and goes back through it."""

    @staticmethod
    def forward(ctx, owner: RowsInThreads, parts: Iterable, training: bool, *parameters: Tensor) -> Tensor:
        def predict(part: tuple) -> Tensor:
            with torch.set_grad_enabled(training):  # each thread has a setting of its own
                return owner.model(*part)

        ctx.owner, ctx.parameters, ctx.predictions = owner, parameters, owner.run(predict, parts)
        return torch.cat([prediction.detach() for prediction in ctx.predictions])

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple:
        def back(prediction: Tensor, of_prediction: Tensor) -> tuple:
            return torch.autograd.grad(prediction, ctx.parameters, of_prediction, allow_unused=True)

        sizes = [len(prediction) for prediction in ctx.predictions]
        gradients = ctx.owner.run(back, ctx.predictions, gradient.split(sizes))
        ctx.predictions = None  # their graphs are used up
        return None, None, None, *(_sum(parts) for parts in zip(*gradients, strict=True))


def _sum(gradients: tuple[Tensor | None, ...]) -> Tensor | None:
    """The sum over the parts; None where no part used the parameter."""
    return None if gradients[0] is None else reduce(torch.add, gradients)


def _split(value: Tensor | None, count: int) -> list:
    """The rows of a tensor in `count` parts; as many times None for None."""
    return [None] * count if value is None else list(value.tensor_split(count))
