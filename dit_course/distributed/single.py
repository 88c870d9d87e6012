"""A process that trains by itself, with the interface of a group of processes (lesson 10)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dit_course.distributed.rows import BatchShard, dropout_disabled, fork_rng, loss_of_rows
from dit_course.flow import RectifiedFlow


class PeerLost(ConnectionError):
    """Another process of the same training has gone."""


class SingleProcess:
    """The processes that train together. This one is alone: nothing has to be agreed on."""

    rank, world_size, is_main, sharded = 0, 1, True, False
    device: torch.device | None = None
    """Where this process works; None leaves it to the model."""
    stop_requested = False
    """Set it, in any process at any time, to stop all of them soon."""

    @property
    def stopping(self) -> bool:
        """Whether all processes know that they stop after this step."""
        return self.stop_requested

    def to_device(self, model: nn.Module, ema: Any) -> torch.device:
        """Move model and average to where this process works; returns that device."""
        if self.device is None:
            return next(model.parameters()).device
        if not self.sharded:  # shards move by themselves: the whole may not fit
            for module in [model] if ema is None else [model, ema.model]:
                module.to(self.device)
        return self.device

    def prepare(
        self, model: nn.Module, optimizer: Optimizer, ema: Any, bf16: bool = False
    ) -> tuple[nn.Module, Optimizer]:
        """Prepare model, optimizer and average for training together; returns the model to call and the optimizer.

        bf16: shards are exchanged in bfloat16, and kept in float32.
        """
        self.model = model
        return model, optimizer

    def training_step(
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
        """`training_step` on this process's rows: the loss and the norm of the whole batch, equal in all processes.

        x: (batch, C, H, W), y: (batch,) or None: the whole batch, the same in every process.
        """
        parts = BatchShard(self.rank, self.world_size, accumulate).parts(len(x))
        loss = torch.zeros((), device=x.device)
        with dropout_disabled(self.model) as drop_labels:
            for rows in parts:
                with self.no_sync(rows is not parts[-1]), fork_rng(x.device):
                    part = loss_of_rows(flow, learner, x, y, rows, drop_labels) / accumulate
                    part.backward()
                loss += part.detach()
        norm = nn.utils.clip_grad_norm_(learner.parameters(), clip)
        loss, norm = self.mean(loss), norm.full_tensor() if self.sharded else norm
        if guard is not None:
            guard(loss, norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss, norm.detach()

    def no_sync(self, enabled: bool):
        """A context in which gradients are only accumulated, and not yet exchanged."""
        return nullcontext()

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes: the shape of value."""
        return value

    def update_ema(self, ema: Any, model: nn.Module) -> None:
        """Update the average, whole or in shards."""
        ema.update(model)

    def sync_clock_and_stop(self, seconds: float, now: bool = True) -> float:
        """Process 0's clock for all; and whether any of them wants to stop, which sets `stopping`.

        now: False leaves it for a later step, because it makes a GPU wait.
        """
        return seconds

    def barrier(self) -> None:
        """Go on when all processes are here."""

    def require_same(self, number: int, problem: str) -> None:
        """Raise ValueError with this problem where processes hold different numbers."""

    def gather_model(self, model: nn.Module) -> nn.Module:
        """The model with all its weights in process 0, to sample with or to save. Every process has to call it."""
        return model

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """All tensors in full, for process 0 to write; None in the others. Every process has to call it."""
        return tensors

    def close(self) -> None:
        """Leave the group."""

    @contextmanager
    def peer_errors(self, last_checkpoint: Callable[[], str]) -> Iterator[None]:
        """Inside, the loss of another process becomes PeerLost, one line that names the last checkpoint."""
        yield
