"""Training: one step, the learning-rate schedule, the first check, and the loop around them (lesson 06).

`training_loop` is all there is to training. `trainer.train` takes the same steps and adds what a long training needs:
checkpoints and resume, a time limit, bf16, several processes.

Step i draws all its randomness (which images, noise, times, dropped labels) from (seed, i) alone. So a run that is
killed and resumed needs no memory of random states to go on exactly as if nothing had happened.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from dit_course.data import to_float
from dit_course.flow import RectifiedFlow


def learning_rate(done: int, total: float, highest: float, warmup: int, decay: int) -> float:
    """The learning rate of the step after `done` others: linear warm-up, constant, linear decay to 0.

    total: how many steps there will be. highest: the rate in between. warmup: after so many steps it is reached.
    decay: how many steps at the end lead down; the step after the last one would have the rate 0. 0 for no decay.
    """
    up = (done + 1) / (warmup + 1)
    down = (total - done) / decay if decay else 1.0
    return highest * min(up, 1.0, down)


def training_step(
    model: nn.Module, flow: RectifiedFlow, optimizer: Optimizer, x: Tensor, y: Tensor | None, clip: float, guard=None
) -> tuple[Tensor, Tensor]:
    """One optimizer step, in place, from one batch.

    x: (batch, C, H, W) in [-1, 1]. y: (batch,) labels, or None. clip: the largest gradient norm that is let through.
    guard: None, or what is called with loss and gradient norm before any weight changes; it may raise.
    Returns the loss and the norm of the gradient before clipping, both detached.
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
    """The first check of any training: the same images, noise and times again and again. The loss must go to 0.

    x: (batch, C, H, W) in [-1, 1]. y: (batch,) labels, or None. Trains `model` in place; returns losses (steps,).
    """
    optimizer = AdamW(model.parameters(), lr)
    losses = []
    for _ in range(steps):
        with randomness(0, 0, x.device):  # the same noise, times and dropped labels in every step
            loss = flow.loss(model, x, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses)


def training_loop(
    model: nn.Module, flow: RectifiedFlow, images: Tensor, labels: Tensor, steps: int, batch_size=64, lr=2e-3, ema=None
) -> Iterator[Tensor]:
    """Train `model` in place, and yield the loss after each step.

    images: (N, C, H, W) uint8. labels: (N,) int64. ema: None, or a running average of the weights (lesson 07).
    """
    optimizer = AdamW(model.parameters(), lr, betas=(0.9, 0.99))
    for done in range(steps):
        model.train()
        optimizer.param_groups[0]["lr"] = learning_rate(done, steps, lr, warmup=100, decay=round(0.4 * steps))
        with randomness(seed=0, step=done, device=images.device):
            chosen = batch_indices(len(images), batch_size, seed=0, step=done)
            x, y = to_float(images[chosen]), labels[chosen]  # (batch, C, H, W) in [-1, 1], and (batch,)
            loss, _ = training_step(model, flow, optimizer, x, y, clip=1.0)
        if ema is not None:
            ema.update(model)
        yield loss


@contextmanager
def randomness(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Inside, torch's random numbers come from (seed, step) alone; outside, nothing has changed."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(_seed_of(seed, step))
        yield


def batch_indices(count: int, batch_size: int, seed: int, step: int) -> Tensor:
    """Which of `count` images a step sees: (batch_size,). An epoch is a permutation, less its incomplete last batch."""
    if count < batch_size:
        return torch.randint(count, (batch_size,))
    epoch, batch = divmod(step, count // batch_size)
    order = _epoch_order(count, seed, epoch)
    return order[batch * batch_size : (batch + 1) * batch_size]


@lru_cache(maxsize=1)
def _epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(_seed_of(seed, epoch, 1))
    return torch.randperm(count, generator=generator)


def _seed_of(*numbers: int) -> int:
    """One well-mixed 32-bit seed from several numbers: torch's CPU generator looks at no more bits than that."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
