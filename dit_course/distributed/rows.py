"""Which rows of a batch a process computes, and their loss (lesson 10).

Step i draws all its randomness from (seed, i) alone, and so does every process: all of them draw the whole batch, its
times, its noise and the labels to drop, and each runs its network on its own rows only. Gradient accumulation is the
same trick with rows that are computed one after the other. So the number of processes changes nothing but rounding, and
a run that was stopped goes on with another number of them.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dit_course.conditioning import LabelEmbedder
from dit_course.distributed.threads import Threads
from dit_course.flow import RectifiedFlow


@dataclass(frozen=True)
class BatchShard:
    """The rows of a batch of process `rank` of `world_size`, which computes them in `accumulate` parts."""

    rank: int = 0
    world_size: int = 1
    accumulate: int = 1

    def parts(self, batch_size: int) -> list[slice]:
        """The rows of this process, part by part. Raises ValueError where the batch cannot be divided evenly."""
        size, rest = divmod(batch_size, self.world_size * self.accumulate)
        if rest or not size:
            raise ValueError(
                f"batch_size = {batch_size} cannot be divided among {self.world_size} processes in {self.accumulate} "
                f"parts each: take a multiple of {self.world_size * self.accumulate}"
            )
        starts = [(part * self.world_size + self.rank) * size for part in range(self.accumulate)]
        return [slice(start, start + size) for start in starts]


def loss_of_rows(
    flow: RectifiedFlow, model: Callable, x: Tensor, y: Tensor | None, rows: slice, drop_labels: Callable
) -> Tensor:
    """The mean loss of some rows of a batch, with the times and the noise that they have in the whole batch: a scalar.

    x: (batch, C, H, W) in [-1, 1]. y: (batch,) labels, or None. drop_labels: labels -> labels, of the whole batch;
    called when the network would do so, after times and noise are drawn. Custom flows work if their loss knows
    reduction="none", or if it is `error` of what `draw` has drawn: then all of it is computed on these rows alone.
    """
    if hasattr(flow, "draw"):
        return flow.error(model, *(None if drawn is None else drawn[rows] for drawn in flow.draw(x, y)))

    def own_rows(x_t: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
        labels = tuple(drop_labels(y)[rows] for y in labels)
        velocity = model(x_t[rows], t[rows], *labels)
        others = (0, 0) * (x_t.ndim - 1) + (rows.start, len(x_t) - rows.stop)
        return F.pad(velocity, others)  # (rows, ...) -> (batch, ...), zeros for what others compute

    return flow.loss(own_rows, x, y, reduction="none")[rows].mean()


@contextmanager
def fork_rng(device: torch.device) -> Iterator[None]:
    """torch.random.fork_rng for one device: afterwards the next random numbers are the same again."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextmanager
def dropout_disabled(model: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
    """Inside, the model drops no labels by itself: it gives what it would do to the labels of a whole batch."""
    embedders = [(part, part.dropout) for part in model.modules() if isinstance(part, LabelEmbedder)]

    def drop_labels(labels: Tensor) -> Tensor:
        for part, rate in embedders:
            part.dropout = rate
            labels = part.drop_labels(labels)
            part.dropout = 0.0
        return labels

    for part, _ in embedders:
        part.dropout = 0.0
    try:
        yield drop_labels
    finally:
        for part, rate in embedders:
            part.dropout = rate


class RowsInThreads(nn.Module):
    """A DiT that computes the rows of a batch in several threads, forward and backward: the same but for rounding.

    model: called as (x, t, y, ...), each (batch, ...) or None. Only parameters get gradients, summed in the order of
    the rows, so that runs repeat bit for bit. Labels are dropped for the whole batch at once, as the model would do it.
    """

    def __init__(self, model: nn.Module, threads: int):
        super().__init__()
        self.model, self.threads = model, Threads(threads)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, *condition: Tensor | None) -> Tensor:
        """What the model predicts: the shape of x."""
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        with dropout_disabled(self.model) as drop_labels:
            y = None if y is None else drop_labels(y)
            parts = zip(*(_split(value, self.threads.count) for value in (x, t, y, *condition)), strict=True)
            return _ByRows.apply(self, parts, torch.is_grad_enabled(), *parameters)


class _ByRows(torch.autograd.Function):
    """Each thread builds the graph of its own rows, and goes back through it."""

    @staticmethod
    def forward(ctx, owner: RowsInThreads, parts: Iterable, training: bool, *parameters: Tensor) -> Tensor:
        def predict(part: tuple) -> Tensor:
            with torch.set_grad_enabled(training):  # each thread has a setting of its own
                return owner.model(*part)

        ctx.owner, ctx.parameters, ctx.predictions = owner, parameters, owner.threads.map(predict, parts)
        return torch.cat([prediction.detach() for prediction in ctx.predictions])

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple:
        def back(prediction: Tensor, of_prediction: Tensor) -> tuple:
            return torch.autograd.grad(prediction, ctx.parameters, of_prediction, allow_unused=True)

        sizes = [len(prediction) for prediction in ctx.predictions]
        gradients = ctx.owner.threads.map(back, ctx.predictions, gradient.split(sizes))
        ctx.predictions = None  # their graphs are used up
        return None, None, None, *(_sum(parts) for parts in zip(*gradients, strict=True))


def _sum(gradients: tuple[Tensor | None, ...]) -> Tensor | None:
    """The sum over the parts; None where no part used the parameter."""
    return None if gradients[0] is None else reduce(torch.add, gradients)


def _split(value: Tensor | None, count: int) -> list:
    """The rows of a tensor in `count` parts; as many times None for None."""
    return [None] * count if value is None else list(value.tensor_split(count))
