"""One training, many processes: each of them computes some rows of the same batch (lesson 10).

Step i draws all its randomness from (seed, i) alone, and so does every process: all of them draw the whole batch, its
times, its noise and the labels to hide, and each asks its network only about its own rows. Gradient accumulation is the
same trick with rows that are computed one after the other. So the number of processes changes nothing but rounding, and
a run that was stopped goes on with another number of them.

Processes are started by `torchrun`, `accelerate launch` or `notebook_launcher`. Hugging Face's accelerate sets up the
process group and copies the model (data-parallel); torch's `fully_shard` (FSDP2) splits a model that does not fit: see
`group.py`.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from dit_course.conditioning import LabelEmbedder
from dit_course.flow import RectifiedFlow


class PeerLost(ConnectionError):
    """Another process of the same training has gone."""


@dataclass(frozen=True)
class BatchShard:
    """Which rows of a batch are whose: process `rank` of `world`, each going through its rows in `accumulate` parts."""

    rank: int = 0
    world: int = 1
    accumulate: int = 1

    def parts(self, batch_size: int) -> list[slice]:
        """The rows of this process, part by part. Raises ValueError where the batch cannot be shared out evenly."""
        size, rest = divmod(batch_size, self.world * self.accumulate)
        if rest or not size:
            raise ValueError(
                f"batch_size = {batch_size} cannot be shared out among {self.world} processes in {self.accumulate} "
                f"parts each: take a multiple of {self.world * self.accumulate}"
            )
        starts = [(part * self.world + self.rank) * size for part in range(self.accumulate)]
        return [slice(start, start + size) for start in starts]


def loss_of_rows(
    flow: RectifiedFlow, model: Callable, x: Tensor, y: Tensor | None, rows: slice, hide: Callable[[Tensor], Tensor]
) -> Tensor:
    """The mean loss of some rows of a batch, with the times and the noise that they have in the whole batch: a scalar.

    x: (batch, C, H, W) in [-1, 1]. y: (batch,) labels, or None. hide: drops labels of the whole batch, and is
    asked when the network would do so, behind times and noise. Custom flows work if their loss knows
    reduction="none".
    """

    def own_rows(x_t: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
        labels = tuple(hide(y)[rows] for y in labels)
        answer = model(x_t[rows], t[rows], *labels)
        others = (0, 0) * (x_t.ndim - 1) + (rows.start, len(x_t) - rows.stop)
        return F.pad(answer, others)  # (rows, ...) -> (batch, ...), zeros for what others compute

    return flow.loss(own_rows, x, y, reduction="none")[rows].mean()


@contextmanager
def rng_restored(device: torch.device) -> Iterator[None]:
    """Inside, random numbers are drawn as always; afterwards the next ones are the same again."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextmanager
def dropout_disabled(model: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
    """Inside, the model hides no labels by itself: it gives what it would do to the labels of a whole batch."""
    embedders = [part for part in model.modules() if isinstance(part, LabelEmbedder)]
    rates = [part.dropout for part in embedders]

    def hide(labels: Tensor) -> Tensor:
        for part, rate in zip(embedders, rates, strict=True):
            if part.training and rate > 0:
                dropped = torch.rand(labels.shape, device=labels.device) < rate
                labels = labels.masked_fill(dropped, part.num_classes)
        return labels

    for part in embedders:
        part.dropout = 0.0
    try:
        yield hide
    finally:
        for part, rate in zip(embedders, rates, strict=True):
            part.dropout = rate


class SingleProcess:
    """The processes that train together. This one is a process on its own: nothing has to be agreed on."""

    rank, world, main, sharded = 0, 1, True, False
    device: torch.device | None = None
    """Where this process works; None leaves it to the model."""
    stop_wanted = False
    """Set it, in any process at any time, to stop all of them soon."""

    @property
    def stopping(self) -> bool:
        """Whether all processes know that they stop after this step."""
        return self.stop_wanted

    def place(self, model: nn.Module, ema: Any) -> torch.device:
        """Bring model and average to where this process works; returns that device."""
        if self.device is None:
            return next(model.parameters()).device
        if not self.sharded:  # shards move by themselves: the whole may not fit
            for module in [model] if ema is None else [model, ema.model]:
                module.to(self.device)
        return self.device

    def prepare_training(
        self, model: nn.Module, optimizer: Optimizer, ema: Any, bf16: bool = False
    ) -> tuple[nn.Module, Optimizer]:
        """Prepare model, optimizer and average for the work together; returns what to call and what to step.

        bf16: shards are exchanged in bfloat16, and kept in float32.
        """
        self.model = model
        return model, optimizer

    def step(
        self,
        learner: nn.Module,
        flow: RectifiedFlow,
        optimizer: Optimizer,
        x: Tensor,
        y: Tensor | None,
        clip: float,
        guard: Callable | None = None,
        accumulate: int = 1,
    ) -> tuple[Tensor, Tensor]:
        """`training_step` for a share of the batch: the loss and the norm of the whole batch, equal in all processes.

        x: (batch, C, H, W), y: (batch,) or None: the whole batch, the same in every process.
        """
        parts = BatchShard(self.rank, self.world, accumulate).parts(len(x))
        loss = torch.zeros((), device=x.device)
        with dropout_disabled(self.model) as hide:
            for rows in parts:
                with self.no_sync(rows is not parts[-1]), rng_restored(x.device):
                    part = loss_of_rows(flow, learner, x, y, rows, hide) / accumulate
                    part.backward()
                loss += part.detach()
        norm = nn.utils.clip_grad_norm_(learner.parameters(), clip)
        loss, norm = self.mean(loss), norm.full_tensor() if self.sharded else norm
        if guard is not None:
            guard(loss, norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss, norm.detach()

    def no_sync(self, inside: bool):
        """A context in which gradients are only collected, and not yet exchanged."""
        return nullcontext()

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes: the shape of value."""
        return value

    def update(self, ema: Any, model: nn.Module) -> None:
        """Move the average, whole or in shards."""
        ema.update(model)

    def sync_clock_and_stop(self, seconds: float, now: bool = True) -> float:
        """Process 0's clock for all; and whether any of them wants to stop, which sets `stopping`.

        now: False leaves it for a later step, because it makes a GPU wait.
        """
        return seconds

    def wait(self) -> None:
        """Go on when all processes are here."""

    def require_same(self, number: int, problem: str) -> None:
        """Raise ValueError with this problem where processes hold different numbers."""

    def whole(self, model: nn.Module) -> nn.Module:
        """The model with all its weights in process 0, to draw with or to save. Every process has to ask."""
        return model

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """All tensors in full, for process 0 to write; None in the others. Every process has to ask."""
        return tensors

    def close(self) -> None:
        """Leave the group."""

    @contextmanager
    def peer_errors(self, last_checkpoint: Callable[[], str]) -> Iterator[None]:
        """Inside, a process that has gone becomes PeerLost, one line that names the last checkpoint."""
        yield


@contextmanager
def graceful_interrupt(group: SingleProcess) -> Iterator[None]:
    """Ctrl-C ends the training after the step in hand, so that nothing is lost; a second one ends it at once.

    In a team the launcher sends the signal again, and SIGTERM where a cluster takes the machine back: all of them mean
    the same, stop together and save once.
    """

    def stop(number, _) -> None:
        again = group.world == 1
        if group.main and not group.stop_wanted:
            more = " (Ctrl-C again loses what is not saved)" if again else ""
            print(f"\nstopping after this step, then saving{more}", flush=True)
        group.stop_wanted = True
        if again:
            signal.signal(number, before[number])

    signals = [signal.SIGINT] if group.world == 1 else [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
