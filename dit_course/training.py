"""The training loop, as a generator: whoever drives it decides what to log, draw and when to stop (lesson 06).

`training_step`, `learning_rate` and `overfit` are what the lesson builds; `train` is the loop around them.

Step i draws all its randomness (which pictures, noise, times, dropped labels) from (seed, i) alone. So a run that is
killed and resumed needs no memory of random states to go on exactly as if nothing had happened.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from dit_course.checkpoints import checkpoints_in, load_checkpoint, save_checkpoint
from dit_course.distributed import process_group
from dit_course.distributed.batching import batch_indices, checked, prepare, randomness
from dit_course.distributed.single import BatchShard, SingleProcess
from dit_course.distributed.train_config import NonFiniteLoss, Step, TrainConfig
from dit_course.flow import RectifiedFlow


@dataclass
class StepBudget:
    """How many steps there will be, how many of them decay, and after which one the time was over."""

    total: int | None
    decay_steps: int
    last: int | None = None

    @classmethod
    def of(cls, config: TrainConfig) -> "StepBudget":
        """What the configuration alone says."""
        total = config.steps if config.minutes is None else None
        decay_steps = round(config.decay * config.steps) if config.decay_steps is None else config.decay_steps
        return cls(total, decay_steps, config.stop_after)

    def fix(self, config: TrainConfig, steps_done: int, seconds: float) -> None:
        """With `minutes`: when it is time for the decay, fix the number of steps at the speed seen so far."""
        budget = math.inf if config.minutes is None else 60 * config.minutes
        if seconds >= 1.03 * budget and self.last is None:  # the machine has grown slower meanwhile
            self.last = steps_done
        if self.total is None and steps_done and seconds >= (1 - config.decay) * budget:
            self.decay_steps = max(1, round((budget - seconds) * steps_done / seconds))
            self.total = steps_done + self.decay_steps

    def learning_rate(self, config: TrainConfig, steps_done: int) -> float:
        """Of the step after so many: see the function of that name. Where the end is open, there is no decay yet."""
        total, decay_steps = (math.inf, 0) if self.total is None else (self.total, self.decay_steps)
        return learning_rate(steps_done, total, config.lr, config.warmup, decay_steps)

    def progress(self, config: TrainConfig, steps_done: int, seconds: float) -> float:
        """The share of the training that is done, in steps or in minutes, whichever is further."""
        return min(1.0, max(steps_done / self.end, seconds / (60 * config.minutes) if config.minutes else 0.0))

    def falling(self, steps_done: int) -> bool:
        """Whether the learning rate has begun to fall, or the training is over: then its end can no longer be moved."""
        return steps_done >= self.end or (self.total is not None and steps_done >= self.total - self.decay_steps)

    @property
    def end(self) -> float:
        """After how many steps the training is over; infinite while that is open."""
        return min(self.total or math.inf, self.last or math.inf)


def learning_rate(done: int, total: float, highest: float, warmup: int, decay: int) -> float:
    """How far to go in the step after `done` others: up in a straight line, stay, down to 0 in a straight line.

    total: how many steps there will be. highest: the rate in between. warmup: after so many steps it is reached.
    decay: how many steps at the end lead down; the step after the last one would have the rate 0. 0 for no decay.
    """
    up = (done + 1) / (warmup + 1)
    down = (total - done) / decay if decay else 1.0
    return highest * min(up, 1.0, down)


def training_step(
    model: nn.Module, flow: RectifiedFlow, optimizer: Optimizer, x: Tensor, y: Tensor | None, clip: float, guard=None
) -> tuple[Tensor, Tensor]:
    """One step of learning, in place, from one batch.

    x: (batch, C, H, W) in [-1, 1]. y: (batch,) labels, or None. clip: the longest gradient that is let through.
    guard: None, or what is called with loss and gradient norm before any weight changes; it may raise.
    Returns the loss and the norm of the gradient before clipping, both without history.
    """
    loss = flow.loss(model, x, y)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    if guard is not None:
        guard(loss, norm)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach(), norm.detach()


def overfit(model: nn.Module, flow: RectifiedFlow, x: Tensor, y: Tensor | None, steps: int, lr: float = 2e-3) -> Tensor:
    """The first check of any training: the same pictures, noise and times again and again. The loss must go to 0.

    x: (batch, C, H, W) in [-1, 1]. y: (batch,) labels, or None. Trains `model` in place; returns losses (steps,).
    """
    optimizer = AdamW(model.parameters(), lr)
    losses = []
    for _ in range(steps):
        with randomness(0, 0, x.device):  # the same noise, times and hidden labels in every step
            loss = flow.loss(model, x, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses)


def train(
    model: nn.Module,
    dataset: tuple[Tensor, Tensor],
    config: TrainConfig,
    *,
    flow: RectifiedFlow | None = None,
    ema: Any = None,
    folder: str | Path | None = None,
    about: dict[str, Any] | None = None,
    group: SingleProcess | None = None,
) -> Iterator[Step]:
    """Train `model`, in place, and yield a `Step` after each optimizer step.

    dataset: images uint8 (N, C, H, W) and labels int64 (N,), as `load_dataset` returns them; both move to the model's
        device once, and no worker processes are needed.
    flow: what is learned; None takes logit-normal timesteps. ema: an `EMA` to update after each step (lesson 07).
    folder: where checkpoints go, every `config.checkpoint_every` steps and at the end. If it holds one already, the run
        goes on from there; on the CPU its losses and weights equal those of an undisturbed run, bit for bit.
    about: further facts for the checkpoint's JSON.
    crew: the processes that share the batches; None: those that a launcher has started (lesson 10), this one without.
    Raises NonFiniteLoss when the loss is nan or infinite, ValueError when data, model and the folder's run do not fit,
    PeerLost when another process has gone.
    """
    group, flow = group or process_group(next(model.parameters()).device, config.shard), flow or RectifiedFlow()
    parts = len(BatchShard(group.rank, group.world, config.accumulate).parts(config.batch_size)) * group.world
    device = group.place(model, ema)
    images, labels = (tensor.to(device) for tensor in checked(model, dataset))
    optimizer = AdamW(model.parameters(), config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)
    plan, done, seconds = StepBudget.of(config), 0, 0.0
    if folder is not None:
        plan, done, seconds = _resume(Path(folder), model, optimizer, ema, config, plan, group)
    bf16 = _use_bf16(config, device)
    learner, optimizer = group.prepare_training(model, optimizer, ema, bf16)
    learner = _InPrecision(torch.compile(learner) if config.compile else learner, bf16)
    one_step = training_step if parts == 1 else partial(group.step, accumulate=config.accumulate)
    check_every = 1 if device.type == "cpu" else 25  # looking at the loss makes a GPU wait
    saved, speed = done, None

    def save() -> None:
        state = {"step": done, "seconds": seconds, "plan": asdict(plan), "train": asdict(config)}
        with group.peer_errors(lambda: _newest(folder)):
            save_checkpoint(Path(folder), model, optimizer, ema, state | (about or {}), gather=group.gather)

    try:
        while done < plan.end:
            start = time.perf_counter()
            model.train()
            rate = plan.learning_rate(config, done)
            for parameters in optimizer.param_groups:
                parameters["lr"] = rate
            time_to_save = folder is not None and (done + 1) % config.checkpoint_every == 0
            look = (done + 1) % check_every == 0 or time_to_save or done + 1 == plan.end
            guard = partial(_require_finite, step=done + 1, rate=rate, folder=folder) if look else None
            with group.peer_errors(lambda: _newest(folder)), randomness(config.seed, done, device):
                chosen = batch_indices(len(images), config.batch_size, config.seed, done)
                x, y = prepare(images, labels, chosen.to(device), config.flip)
                y = y if _has_classes(model) else None
                loss, norm = one_step(learner, flow, optimizer, x, y, config.clip, guard)
                if ema is not None:
                    group.update(ema, model)
                elapsed = time.perf_counter() - start
                seconds = group.sync_clock_and_stop(seconds + elapsed, look)
            done += 1
            if look or group.world == 1:  # the clock of process 0 decides
                plan.fix(config, done, seconds)
            now, progress = config.batch_size / elapsed, plan.progress(config, done, seconds)
            speed = now if speed is None else 0.95 * speed + 0.05 * now
            yield Step(done, loss, norm, rate, speed, seconds, plan.total, progress)
            if time_to_save:  # after whoever drives the loop has noted the loss: a log is never behind its checkpoint
                save()
                saved = done
    except GeneratorExit:  # whoever drives the loop has stopped, between two steps: keep what was learned
        if folder is not None and saved != done:
            save()
        raise
    if folder is not None and saved != done:
        save()


class _InPrecision(nn.Module):
    """A model whose forward pass runs in bfloat16 where asked for; its parameters are the model's own."""

    def __init__(self, model: nn.Module, bf16: bool):
        super().__init__()
        self.model, self.bf16 = model, bf16

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            return self.model(x, *condition)


FREE = ("checkpoint_every", "accumulate", "shard")  # settings that change nothing of what is learned
END = ("steps", "minutes", "decay", "decay_steps", "stop_after")  # these may change until the learning rate falls


def _resume(
    folder: Path,
    model: nn.Module,
    optimizer: Optimizer,
    ema: Any,
    config: TrainConfig,
    plan: StepBudget,
    group: SingleProcess,
) -> tuple[StepBudget, int, float]:
    """Go on from the newest complete checkpoint, if there is one."""
    for leftover in folder.glob(".*.partial*") if group.main else ():  # of a run that was killed while it wrote
        leftover.unlink(missing_ok=True)
    found = checkpoints_in(folder)
    number = int(found[0].name.rpartition("-")[2]) if found else 0
    group.require_same(number, f"the processes see different checkpoints in {folder}: let --out be a folder they share")
    if not found:
        return plan, 0, 0.0
    about = load_checkpoint(found[0], model, optimizer, ema)
    now, before = asdict(config) | {"betas": list(config.betas)}, about["train"]
    changed = [name for name in now if now[name] != before.get(name) and name not in FREE]
    old, done = StepBudget(**about["plan"]), about["step"]
    if changed and set(changed) <= set(END) and not old.falling(done):
        if plan.end <= done or about["seconds"] >= 60 * (config.minutes or math.inf):
            raise ValueError(
                f"{folder} holds a run of {done} steps and {about['seconds'] / 60:.1f} minutes, which is past the end "
                "now asked for: give more steps or minutes to go on, another folder (--out), or start again (--fresh)"
            )
        return plan, done, about["seconds"]  # longer or shorter than first planned
    if changed:
        was = ", ".join(f"{name} was {before.get(name)!r} and is now {now[name]!r}" for name in changed)
        raise ValueError(
            f"{folder} holds a run with other settings ({was}): give the same settings to go on, "
            "another folder (--out), or start again (--fresh)"
        )
    return old, done, about["seconds"]


def _has_classes(model: nn.Module) -> bool:
    config = getattr(model, "config", None)
    return config is None or config.num_classes is not None


def _use_bf16(config: TrainConfig, device: torch.device) -> bool:
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return config.precision == "bf16"


def _newest(folder: str | Path | None) -> str:
    found = checkpoints_in(Path(folder)) if folder else []
    return str(found[0]) if found else "none was written"


def _require_finite(loss: Tensor, norm: Tensor, step: int, rate: float, folder: str | Path | None) -> None:
    """Raise before numbers that are none spoil the weights."""
    if math.isfinite(loss.item()) and math.isfinite(norm.item()):
        return
    raise NonFiniteLoss(
        f"the loss is {loss.item()} (gradient norm {norm.item()}) at step {step}, learning rate {rate:.1e}: "
        f"the last good checkpoint: {_newest(folder)}; try again with half the learning rate, or precision fp32"
    )
