"""Plausible wrong versions of lesson 06's exercises."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import AdamW

from dit_course.check.lesson_06_training.cases import flat

# -- overfit ---------------------------------------------------------------------------------------


def overfits(
    part: Callable = lambda model: model,
    make: Callable = AdamW,
    rate: Callable = lambda lr: lr,
    order: str = "back step zero",
    anew: bool = False,
):
    """An `overfit` with one thing done otherwise.

    part: of the model, which the optimizer gets. make: the optimizer. order: of what follows the loss.
    anew: whether every step has an optimizer of its own.
    """

    def wrong(model, flow, x, y, steps, lr):
        optimizer = make(part(model).parameters(), rate(lr))
        losses = []
        for _ in range(steps):
            optimizer = make(part(model).parameters(), rate(lr)) if anew else optimizer
            torch.manual_seed(0)
            loss = flow.loss(model, x, y)
            losses.append(loss.detach())
            for word in order.split():
                {"back": loss.backward, "step": optimizer.step, "zero": optimizer.zero_grad}[word]()
        return torch.stack(losses)

    return wrong


# -- learning_rate ---------------------------------------------------------------------------------


def schedule(up: Callable | None = None, down: Callable | None = None, join: Callable = min, cap: bool = True):
    """A `learning_rate` with one thing done otherwise. up(done, warmup), down(done, total, decay): the two factors."""

    def wrong(done, total, highest, warmup, decay):
        rising = (up or (lambda done, warmup: (done + 1) / (warmup + 1)))(done, warmup)
        falling = (down or (lambda done, total, decay: (total - done) / decay))(done, total, decay) if decay else 1.0
        if cap:
            rising, falling = min(rising, 1.0), min(falling, 1.0)
        return highest * join(rising, falling)

    return wrong


def warmup_first(up: float, down: float) -> float:
    """The warm-up alone as long as it lasts."""
    return up if up < 1 else down


def cosine(done: int, total: int, decay: int) -> float:
    """A decay along a cosine."""
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, max(0.0, 1 - (total - done) / decay)))


# -- clip_gradients --------------------------------------------------------------------------------


def clipping(
    norm_of: Callable = lambda gradients: flat(gradients).norm(),
    scale: Callable = lambda norm, most: (most / norm).clamp(max=1),
    said: Callable = lambda norm, most: norm,
    change: str = "all",
):
    """A `clip_gradients` with one thing done otherwise. change: "all", "none", "each" by itself, or the "weights"."""

    def wrong(parameters, most):
        parameters = [p for p in parameters if p.grad is not None]
        norm = norm_of([p.grad for p in parameters])
        for p in parameters:
            factor = scale(norm_of([p.grad]) if change == "each" else norm, most)
            if change in ("all", "each"):
                p.grad.mul_(factor)
            if change == "weights":
                p.data.mul_(factor)
        return said(norm, most)

    return wrong


def clamped(parameters, most):
    """Every number of the gradient by itself."""
    parameters = [p for p in parameters if p.grad is not None]
    norm = flat(p.grad for p in parameters).norm()
    nn.utils.clip_grad_value_(parameters, most)
    return norm


# -- training_step ---------------------------------------------------------------------------------


def stepping(
    order: str = "back clip guard step zero",
    clipper: Callable | None = None,
    said: Callable | None = None,
    heeds: Callable = lambda told: True,
):
    """A `training_step` with one thing done otherwise.

    order: of what follows the loss. heeds: whether the optimizer steps, from what the guard returns.
    """

    def wrong(model, flow, optimizer, x, y, clip, guard=None):
        loss = flow.loss(model, x, y)
        norm, goes = torch.zeros(()), True

        def shorten():
            nonlocal norm
            norm = (clipper or nn.utils.clip_grad_norm_)(model.parameters(), clip)

        def call_guard():
            nonlocal goes
            if guard is not None:
                goes = heeds(guard(loss, norm))

        deeds = {"back": loss.backward, "step": lambda: goes and optimizer.step(), "zero": optimizer.zero_grad}
        for word in order.split():
            (deeds | {"clip": shorten, "guard": call_guard})[word]()
        return loss.detach(), said(norm, clip) if said else norm

    return wrong


# -- accumulate_gradients --------------------------------------------------------------------------


def accumulating(share: Callable, forget: bool = False, said: Callable = lambda losses, shares: sum(losses)):
    """An `accumulate_gradients` with one thing done otherwise. share(part, batch, parts): what a part counts."""

    def wrong(model, loss_of, x, y, parts):
        losses = []
        for part, labels in zip(x.chunk(parts), y.chunk(parts), strict=True):
            if forget:
                model.zero_grad()
            loss = share(len(part), len(x), parts) * loss_of(model, part, labels)
            loss.backward()
            losses.append(loss.detach())
        return said(losses, None)

    return wrong


def weighing(gradient: bool = True, loss: bool = True):
    """An `accumulate_gradients` that weighs each part by its share in its gradient, in its loss, or in both."""

    def wrong(model, loss_of, x, y, parts):
        total = 0
        for part, labels in zip(x.chunk(parts), y.chunk(parts), strict=True):
            own, share = loss_of(model, part, labels), len(part) / len(x)
            (own * (share if gradient else 1)).backward()
            total = total + own.detach() * (share if loss else 1)
        return total

    return wrong
