"""The training loop, as a generator: whoever drives it decides what to log, draw and when to stop (lesson 06).

`training_step`, `learning_rate` and `overfit` are what the lesson builds; `train` is the loop around them.

Step i draws all its randomness (which pictures, noise, times, dropped labels) from (seed, i) alone. So a run that is
killed and resumed needs no memory of random states to go on exactly as if nothing had happened.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from dit_course.batches import batch_indices, checked, prepare, randomness
from dit_course.checkpoints import checkpoints_in, load_checkpoint, save_checkpoint
from dit_course.flow import RectifiedFlow


class NonFiniteLoss(RuntimeError):
    """The loss became nan or infinite; the message says where, and what to do."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Raises ValueError when a setting makes no sense."""

    steps: int = 2000
    """How many optimizer steps."""
    minutes: float | None = None
    """Train for this long instead of `steps`. When it is time for the decay, the number of steps is fixed."""
    batch_size: int = 64
    """Pictures a step."""
    lr: float = 2e-3
    """The highest learning rate."""
    warmup: int = 100
    """Steps until the highest learning rate is reached."""
    decay: float = 0.4
    """The share of the training, at its end, in which the learning rate falls to 0 in a straight line."""
    decay_steps: int | None = None
    """The same as a number of steps; comes first when given."""
    stop_after: int | None = None
    """End after so many steps, even in the middle of the decay; repeats a run by `minutes` that ended there."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's memory of gradients and of their squares."""
    clip: float = 1.0
    """The longest gradient (its norm) that is let through."""
    flip: bool = False
    """Mirror every second picture (not for clothes: all shoes point left)."""
    seed: int = 0
    """Of everything random in the training."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 autocast on a GPU that has it, else fp32, which was as fast or faster on two CPU cores."""
    compile: bool = False
    """Let torch.compile fuse the model: a slow start, then quicker steps; needs a C++ compiler."""
    checkpoint_every: int = 500
    """Steps between checkpoints, where a folder is given."""

    def __post_init__(self):
        """Check each setting by itself."""
        for name in ("steps", "batch_size", "checkpoint_every"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("minutes", self.minutes is None or 0 < self.minutes < math.inf, "above 0, or None")
        for name in ("lr", "clip"):
            self._require(name, 0 < getattr(self, name) < math.inf, "above 0")
        self._require("warmup", self.warmup >= 0, "0 or more")
        self._require("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more")
        self._require("decay", 0 <= self.decay <= 1, "between 0 and 1")
        self._require("decay_steps", self.decay_steps is None or self.decay_steps >= 0, "0 or more, or None")
        self._require("stop_after", self.stop_after is None or self.stop_after >= 1, "at least 1, or None")
        self._require("betas", all(0 <= beta < 1 for beta in self.betas), "two numbers, 0 or more and below 1")
        self._require("seed", self.seed >= 0, "0 or more")
        self._require("precision", self.precision in ("auto", "fp32", "bf16"), '"auto", "fp32" or "bf16"')

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(f"TrainConfig: {name} = {getattr(self, name)!r}, but it must be {expected}")


@dataclass
class Step:
    """What `train` yields after each step.

    index: steps done, from 1. loss: of this step's batch. learning_rate: used in it. images_per_second: over the last
    steps. seconds: training time so far, without what happens between the steps. total: how many steps are planned,
    None while `minutes` leaves it open. progress: the share of the training that is done, in [0, 1].
    """

    index: int
    loss_tensor: Tensor
    gradient_norm_tensor: Tensor
    learning_rate: float
    images_per_second: float
    seconds: float
    total: int | None
    progress: float

    @cached_property
    def loss(self) -> float:
        """The loss; on a GPU reading it waits for the step to end, so read it now and then only."""
        return self.loss_tensor.item()

    @cached_property
    def gradient_norm(self) -> float:
        """The length of the gradient before clipping."""
        return self.gradient_norm_tensor.item()

    @property
    def seconds_left(self) -> float:
        """An estimate of the training time still to come."""
        return self.seconds * (1 - self.progress) / max(self.progress, 1e-9)


@dataclass
class Plan:
    """How many steps there will be, how many of them decay, and after which one the time was over."""

    total: int | None
    decay_steps: int
    last: int | None = None

    @classmethod
    def of(cls, config: TrainConfig) -> "Plan":
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
) -> Iterator[Step]:
    """Train `model`, in place, and yield a `Step` after each optimizer step.

    dataset: images uint8 (N, C, H, W) and labels int64 (N,), as `load_dataset` returns them; both move to the model's
        device once, and no worker processes are needed.
    flow: what is learned; None takes logit-normal timesteps. ema: an `EMA` to update after each step (lesson 07).
    folder: where checkpoints go, every `config.checkpoint_every` steps and at the end. If it holds one already, the run
        goes on from there; on the CPU its losses and weights equal those of an undisturbed run, bit for bit.
    about: further facts for the checkpoint's JSON.
    Raises NonFiniteLoss when the loss is nan or infinite, ValueError when data, model and the folder's run do not fit.
    """
    device, flow = next(model.parameters()).device, flow or RectifiedFlow()
    images, labels = (tensor.to(device) for tensor in checked(model, dataset))
    optimizer = AdamW(model.parameters(), config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)
    plan, done, seconds = Plan.of(config), 0, 0.0
    if folder is not None:
        plan, done, seconds = _resume(Path(folder), model, optimizer, ema, config, plan)
    learner = _InPrecision(torch.compile(model) if config.compile else model, _use_bf16(config, device))
    check_every = 1 if device.type == "cpu" else 25  # looking at the loss makes a GPU wait
    saved, speed = done, None

    def save() -> None:
        state = {"step": done, "seconds": seconds, "plan": asdict(plan), "train": asdict(config)}
        save_checkpoint(Path(folder), model, optimizer, ema, state | (about or {}))

    try:
        while done < plan.end:
            start = time.perf_counter()
            model.train()
            rate = plan.learning_rate(config, done)
            for group in optimizer.param_groups:
                group["lr"] = rate
            time_to_save = folder is not None and (done + 1) % config.checkpoint_every == 0
            look = (done + 1) % check_every == 0 or time_to_save or done + 1 == plan.end
            guard = partial(_require_finite, step=done + 1, rate=rate, folder=folder) if look else None
            with randomness(config.seed, done, device):
                chosen = batch_indices(len(images), config.batch_size, config.seed, done)
                x, y = prepare(images, labels, chosen.to(device), config.flip)
                y = y if _has_classes(model) else None
                loss, norm = training_step(learner, flow, optimizer, x, y, config.clip, guard)
            if ema is not None:
                ema.update(model)
            done += 1
            elapsed = time.perf_counter() - start
            seconds += elapsed
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


def _resume(
    folder: Path, model: nn.Module, optimizer: Optimizer, ema: Any, config: TrainConfig, plan: Plan
) -> tuple[Plan, int, float]:
    """Go on from the newest complete checkpoint, if there is one."""
    for leftover in folder.glob(".*.partial*"):  # of a run that was killed while it wrote
        leftover.unlink(missing_ok=True)
    found = checkpoints_in(folder)
    if not found:
        return plan, 0, 0.0
    about = load_checkpoint(found[0], model, optimizer, ema)
    now, before = asdict(config) | {"betas": list(config.betas)}, about["train"]
    changed = [name for name in now if now[name] != before.get(name) and name != "checkpoint_every"]
    if changed:
        was = ", ".join(f"{name} was {before.get(name)!r} and is now {now[name]!r}" for name in changed)
        raise ValueError(
            f"{folder} holds a run with other settings ({was}): give the same settings to go on, "
            "another folder (--out), or start again (--fresh)"
        )
    return Plan(**about["plan"]), about["step"], about["seconds"]


def _has_classes(model: nn.Module) -> bool:
    config = getattr(model, "config", None)
    return config is None or config.num_classes is not None


def _use_bf16(config: TrainConfig, device: torch.device) -> bool:
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return config.precision == "bf16"


def _require_finite(loss: Tensor, norm: Tensor, step: int, rate: float, folder: str | Path | None) -> None:
    """Raise before numbers that are none spoil the weights."""
    if math.isfinite(loss.item()) and math.isfinite(norm.item()):
        return
    found = checkpoints_in(Path(folder)) if folder else []
    last = f"the last good checkpoint: {found[0] if found else 'none was written'}"
    raise NonFiniteLoss(
        f"the loss is {loss.item()} (gradient norm {norm.item()}) at step {step}, learning rate {rate:.1e}: "
        f"{last}; try again with half the learning rate, or precision fp32"
    )
