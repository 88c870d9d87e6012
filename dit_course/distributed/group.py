"""Several processes on one training, by Hugging Face's accelerate and torch.distributed (lesson 10)."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from dit_course.distributed.single import PeerLost, SingleProcess


class Distributed(SingleProcess):
    """Several processes, started by `torchrun`, `accelerate launch` or `notebook_launcher`."""

    def __init__(self, cpu: bool, shard: bool = False):
        """cpu: use no GPU. shard: split weights, gradients and optimizer among the processes (FSDP2)."""
        try:
            from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
        except ImportError as error:
            raise ValueError(
                f"several processes need the package accelerate: pip install 'dit-course[scale]' ({error})"
            ) from error
        if cpu:
            _use_loopback()
            if "OMP_NUM_THREADS" not in os.environ:  # as torchrun does; a forked process hangs with more
                os.environ["OMP_NUM_THREADS"] = "1"
                torch.set_num_threads(1)
        # while process 0 samples, the others wait in the next step: longer than the ten minutes that NCCL grants
        options = [InitProcessGroupKwargs(timeout=timedelta(hours=2))]
        options += [DistributedDataParallelKwargs(gradient_as_bucket_view=True)]
        self.sharded = os.environ.pop("ACCELERATE_USE_FSDP", "false").lower() == "true" or shard
        self.accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=options)
        self.rank, self.world_size = self.accelerator.process_index, self.accelerator.num_processes
        self.is_main, self.device = self.accelerator.is_main_process, self.accelerator.device
        self._stopping = False

    @property
    def stopping(self) -> bool:
        """Whether all processes know that they stop after this step."""
        return self._stopping

    def prepare(
        self, model: nn.Module, optimizer: Optimizer, ema: Any, bf16: bool = False
    ) -> tuple[nn.Module, Optimizer]:
        """DDP replicas of the model, or FSDP2 shards of model, optimizer and average; what was loaded stays."""
        self.model = model
        if not self.sharded:
            self.learner = self.accelerator.prepare(model)
            return self.learner, optimizer
        states = optimizer.state_dict()["state"]
        self.learner = shard_model(model, bf16)
        if ema is not None:
            shard_model(ema.model)
        settings = {name: optimizer.defaults[name] for name in ("lr", "betas", "weight_decay", "fused")}
        optimizer = type(optimizer)(model.parameters(), **settings)
        owners = list(model.parameters())
        states = {i: {key: _shard_like(x, owners[i]) for key, x in state.items()} for i, state in states.items()}
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
        return self.learner, optimizer

    def no_sync(self, enabled: bool):
        """A context in which gradients are only accumulated, and not yet exchanged."""
        if not self.sharded:
            return self.learner.no_sync() if enabled else nullcontext()
        self.learner.set_requires_gradient_sync(not enabled)
        return nullcontext()

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes: the shape of value."""
        return self.accelerator.reduce(value, "mean")

    def update_ema(self, ema: Any, model: nn.Module) -> None:
        """Update the average, whole or in shards."""
        if not self.sharded:
            return ema.update(model)
        full = ema.model
        ema.model = LocalShards(full)
        try:
            ema.update(LocalShards(model))
        finally:
            ema.model = full

    def sync_clock_and_stop(self, seconds: float, now: bool = True) -> float:
        """Process 0's clock for all; and whether any of them wants to stop, which sets `stopping`."""
        if not now:
            return seconds
        news = torch.tensor([seconds * self.is_main, self.stop_requested], dtype=torch.float64, device=self.device)
        seconds, stops = self.accelerator.reduce(news, "sum").tolist()
        self._stopping = stops > 0
        return seconds

    def barrier(self) -> None:
        """Go on when all processes are here."""
        self.accelerator.wait_for_everyone()

    def require_same(self, number: int, problem: str) -> None:
        """Raise ValueError with this problem where processes hold different numbers."""
        if len(set(self.accelerator.gather(torch.tensor([number], device=self.device)).tolist())) > 1:
            raise ValueError(problem)

    def gather_model(self, model: nn.Module) -> nn.Module:
        """The model with all its weights in process 0, to sample with or to save. Every process has to call it."""
        if not self.sharded:
            return model
        state = self.gather(model.state_dict())
        if state is None:
            return model
        copy = type(model)(model.config)
        copy.load_state_dict(state)
        copy.class_names = model.class_names
        return copy.to(self.device).eval()

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """All tensors in full, for process 0 to write; None in the others. Every process has to call it."""
        full = {}
        for name, tensor in tensors.items():
            tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if self.is_main:
                full[name] = tensor.cpu() if self.sharded else tensor  # one after the other: all may not fit on a GPU
        return full if self.is_main else None

    def close(self) -> None:
        """Leave the group."""
        if dist.is_initialized():
            dist.destroy_process_group()

    @contextmanager
    def peer_errors(self, last_checkpoint: Callable[[], str]) -> Iterator[None]:
        """Inside, the loss of another process becomes PeerLost, one line that names the last checkpoint."""
        try:
            yield
        except RuntimeError as error:
            if not _is_peer_error(error):
                raise
            raise PeerLost(
                f"another process of this training has gone; the last checkpoint is {last_checkpoint()}; "
                "the same command goes on from there"
            ) from error


class LocalShards:
    """What this process holds of a sharded model, as plain tensors: an average updates each of them by itself."""

    def __init__(self, model: nn.Module):
        self.model = model

    def parameters(self) -> Iterator[Tensor]:
        """The own shard of each parameter."""
        return (p.to_local() if isinstance(p, DTensor) else p for p in self.model.parameters())

    def buffers(self) -> Iterator[Tensor]:
        """Buffers are never split."""
        return self.model.buffers()


def shard_model(model: nn.Module, bf16: bool = False) -> nn.Module:
    """Shard a DiT in place, block by block, so that all of it is never in one place; returns it.

    bf16: weights are exchanged as bfloat16; what each process keeps, and the sums of gradients, stay float32.
    """
    empty = {p for p in model.parameters() if not p.numel()}  # no registers: there is nothing to split
    for parameter in empty:
        parameter.requires_grad_(False)
    policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    if bf16:
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for block in model.blocks:
        fully_shard(block, mp_policy=policy)
    return fully_shard(model, mp_policy=policy, ignored_params=empty)


def _shard_like(tensor: Tensor, owner: Tensor) -> Tensor:
    """The own shard of an optimizer's tensor, split as its parameter is; counters stay whole."""
    if not isinstance(owner, DTensor) or tensor.shape != owner.shape:
        return tensor
    return distribute_tensor(tensor, owner.device_mesh, owner.placements, src_data_rank=None)


def _is_peer_error(error: RuntimeError) -> bool:
    """Whether an error says that another process no longer answers."""
    words = ("closed by peer", "reset by peer", "Broken pipe", "Connection refused", "remote process exited")
    return isinstance(error, dist.DistNetworkError | dist.DistBackendError) or any(word in str(error) for word in words)


def _use_loopback() -> None:
    """gloo looks for this machine's name on the network, unless it is told the interface; one machine needs none."""
    if os.environ.get("MASTER_ADDR") in ("127.0.0.1", "localhost"):
        loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
        if loopback:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
