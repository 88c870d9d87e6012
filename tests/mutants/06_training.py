"""Lesson 06: what people write for overfitting, the learning rate, clipping, the step, and batches in parts."""

import math

import torch
from torch import nn
from torch.optim import AdamW

from dit_course.training import randomness
from mutants import mutant, right_answer

# -- overfit ---------------------------------------------------------------------------------------


@right_answer(exercise="overfit")
def by_manual_seed(model, flow, x, y, steps, lr=2e-3):
    optimizer = AdamW(model.parameters(), lr=lr)
    losses = torch.zeros(steps)
    for step in range(steps):
        optimizer.zero_grad()
        torch.manual_seed(7)
        loss = flow.loss(model, x, y)
        loss.backward()
        optimizer.step()
        losses[step] = loss.detach()
    return losses


@right_answer(exercise="overfit")
def by_generator(model, flow, x, y, steps, lr=2e-3):
    optimizer, losses = AdamW(list(model.parameters()), lr), []
    while len(losses) < steps:
        loss = flow.loss(model, x, y, generator=torch.Generator().manual_seed(0))
        for parameter in model.parameters():
            parameter.grad = None
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses)


@right_answer(exercise="overfit")
def by_autograd(model, flow, x, y, steps, lr=2e-3):
    parameters = list(model.parameters())
    optimizer, losses = AdamW(parameters, lr), []
    for _ in range(steps):
        with randomness(3, 3, x.device):
            loss = flow.loss(model, x, y)
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def variant(order=("back", "step", "zero"), part=None, same_noise=True, make=AdamW, keep=True):
    def overfit(model, flow, x, y, steps, lr=2e-3):
        optimizer, losses = make((part(model) if part else model).parameters(), lr), []
        for step in range(steps):
            with randomness(0, 0 if same_noise else step, x.device):
                loss = flow.loss(model, x, y)
            for word in order:
                {"back": loss.backward, "step": optimizer.step, "zero": optimizer.zero_grad}[word]()
            losses.append(loss.detach() if keep else loss)
        return torch.stack(losses)

    return overfit


@mutant(exercise="overfit", hint="the noise is new in every step")
def noise_left(model, flow, x, y, steps, lr=2e-3):
    return variant(same_noise=False)(model, flow, x, y, steps, lr)


@mutant(exercise="overfit", hint="the noise is new in every step")
def seeded_once(model, flow, x, y, steps, lr=2e-3):
    optimizer, losses = AdamW(model.parameters(), lr), []
    torch.manual_seed(0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = flow.loss(model, x, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


@mutant(exercise="overfit", hint="the loss does not move at all")
def erased_too_early(model, flow, x, y, steps, lr=2e-3):
    return variant(("back", "zero", "step"))(model, flow, x, y, steps, lr)


@mutant(exercise="overfit", hint="the loss does not move at all")
def backward_forgotten(model, flow, x, y, steps, lr=2e-3):
    return variant(("step", "zero"))(model, flow, x, y, steps, lr)


@mutant(exercise="overfit", hint="each loss is measured after its step")
def one_late(model, flow, x, y, steps, lr=2e-3):
    return variant()(model, flow, x, y, steps + 1, lr)[1:]


@mutant(exercise="overfit", hint="carries its history")
def with_history(model, flow, x, y, steps, lr=2e-3):
    return variant(keep=False)(model, flow, x, y, steps, lr)


@mutant(exercise="overfit", hint="list of plain numbers")
def plain_numbers(model, flow, x, y, steps, lr=2e-3):
    return variant()(model, flow, x, y, steps, lr).tolist()


@mutant(exercise="overfit", hint="returns a list")
def not_stacked(model, flow, x, y, steps, lr=2e-3):
    return list(variant()(model, flow, x, y, steps, lr))


@mutant(exercise="overfit", hint="your answer has shape")
def only_the_last_loss(model, flow, x, y, steps, lr=2e-3):
    return variant()(model, flow, x, y, steps, lr)[-1]


# -- learning_rate ---------------------------------------------------------------------------------


@right_answer(exercise="learning_rate")
def by_cases(done, total, highest, warmup, decay):
    rate = highest
    if done < warmup:
        rate = highest * (done + 1) / (warmup + 1)
    left = total - done
    if decay > 0 and left < decay:
        rate = min(rate, highest * left / decay)
    return rate


@right_answer(exercise="learning_rate")
def as_a_tensor(done, total, highest, warmup, decay):
    factors = [1.0, (done + 1) / (warmup + 1)] + ([(total - done) / decay] if decay else [])
    return torch.tensor(factors, dtype=torch.float64).min() * highest


@right_answer(exercise="learning_rate")
def by_clamping(done, total, highest, warmup, decay):
    up = min(max((done + 1) / (1 + warmup), 0), 1)
    down = 1 if decay == 0 else min(max((total - done) / decay, 0), 1)
    return min(up * highest, down * highest)


@mutant(exercise="learning_rate", hint="divides by zero when `decay` is 0")
def divided_by_decay(done, total, highest, warmup, decay):
    return highest * min(1, (done + 1) / (warmup + 1), (total - done) / decay)


@mutant(exercise="learning_rate", hint="the learning rate should be one number")
def a_list_of_rates(done, total, highest, warmup, decay):
    return [highest * min(1, (i + 1) / (warmup + 1)) for i in range(done + 1)]


# -- clip_gradients --------------------------------------------------------------------------------


@right_answer(exercise="clip_gradients")
def by_flattening(parameters, most):
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    scale = (most / (norm + 1e-6)).clamp(max=1.0)
    for g in gradients:
        g *= scale
    return norm


@right_answer(exercise="clip_gradients")
def by_new_gradients(parameters, most):
    parameters = list(parameters)
    squares = 0.0
    for p in parameters:
        if p.grad is not None:
            squares += (p.grad**2).sum().item()
    norm = math.sqrt(squares)
    for p in parameters:
        if p.grad is not None and norm > most:
            p.grad = p.grad * most / norm
    return torch.tensor(norm)


@right_answer(exercise="clip_gradients")
def ready_made(parameters, most):
    return nn.utils.clip_grad_norm_(list(parameters), most)


def with_gradients(parameters):
    return [p for p in parameters if p.grad is not None]


def whole_norm(parameters):
    return torch.cat([p.grad.flatten() for p in parameters]).norm()


@mutant(exercise="clip_gradients", hint="a generator, which can be walked over only once")
def generator_used_twice(parameters, most):
    norm = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
    for p in parameters:
        if p.grad is not None:
            p.grad.mul_(min(1, most / norm))
    return norm


def clip_by(norm_of, scale=lambda norm, most: min(1.0, most / norm) if norm else 1.0):
    def clip(parameters, most):
        parameters = with_gradients(parameters)
        norm = norm_of([p.grad for p in parameters])
        for p in parameters:
            p.grad.mul_(scale(norm, most))
        return norm

    return clip


def root(gradients):
    return torch.cat([g.flatten() for g in gradients]).norm()


@mutant(exercise="clip_gradients", hint="one parameter has no gradient")
def no_gradient_forgotten(parameters, most):
    gradients = [p.grad for p in parameters]
    norm = torch.stack([g.norm() for g in gradients]).norm()
    for g in gradients:
        g.mul_(min(1.0, most / norm))
    return norm


@mutant(exercise="clip_gradients", hint="they should be shorter, not forgotten")
def forgotten(parameters, most):
    parameters = with_gradients(parameters)
    norm = whole_norm(parameters)
    for p in parameters:
        p.grad = None
    return norm


@mutant(exercise="clip_gradients", hint="the norm should be one number")
def norms_of_all(parameters, most):
    parameters = with_gradients(parameters)
    norms = torch.stack([p.grad.norm() for p in parameters])
    clip_by(root)(parameters, most)
    return norms


# -- training_step ---------------------------------------------------------------------------------


@right_answer(exercise="training_step")
def zero_first(model, flow, optimizer, x, y, clip, guard=None):
    optimizer.zero_grad()
    loss = flow.loss(model, x, y)
    loss.backward()
    length = nn.utils.clip_grad_norm_(model.parameters(), clip)
    if guard:
        guard(loss.detach(), length)
    optimizer.step()
    return loss.detach(), length


@right_answer(exercise="training_step")
def clipped_by_hand(model, flow, optimizer, x, y, clip, guard=None):
    loss = flow.loss(model, x, y, None)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    norm = torch.stack([g.norm() for g in gradients]).norm()
    for p, g in zip(model.parameters(), gradients, strict=True):
        p.grad = g * (clip / (norm + 1e-6)).clamp(max=1)
    if guard is not None:
        guard(loss, norm)
    optimizer.step()
    return loss.detach().clone(), norm


@right_answer(exercise="training_step")
def guarded_before_clipping(model, flow, optimizer, x, y, clip, guard=None):
    loss = flow.loss(model=model, x=x, y=y)
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    if guard is not None:
        guard(loss, norm)
    nn.utils.clip_grad_norm_(list(model.parameters()), max_norm=clip)
    optimizer.step()
    model.zero_grad()
    return [loss.data, norm]


def step_by(order, clipper=nn.utils.clip_grad_norm_, said=lambda loss, norm, clip: (loss.detach(), norm)):
    def step(model, flow, optimizer, x, y, clip, guard=None):
        norm, loss = torch.tensor(0.0), flow.loss(model, x, y)
        for word in order.split():
            if word == "clip":
                norm = clipper(model.parameters(), clip)
            elif word == "guard":
                if guard is not None:
                    guard(loss, norm)
            else:
                {"back": loss.backward, "step": optimizer.step, "zero": optimizer.zero_grad}[word]()
        return said(loss, norm, clip)

    return step


@mutant(exercise="training_step", hint="whenever the optimizer steps, there is no gradient")
def zeroed_before_the_step(*args):
    return step_by("back clip guard zero step")(*args)


@mutant(exercise="training_step", hint="whenever the optimizer steps, there is no gradient")
def zeroed_after_backward(*args):
    return step_by("back zero clip guard step")(*args)


@mutant(exercise="training_step", hint="the weights never change: who moves them")
def no_step(*args):
    return step_by("back clip guard zero")(*args)


@mutant(exercise="training_step", hint="the weights change between the loss and its backward")
def step_first(*args):
    return step_by("step back clip guard")(*args)


@mutant(exercise="training_step", hint="still carries its history")
def not_detached(*args):
    return step_by("back clip guard step zero", said=lambda loss, norm, clip: (loss, norm))(*args)


@mutant(exercise="training_step", hint=".item() makes a GPU stop and wait")
def as_numbers(*args):
    return step_by("back clip guard step zero", said=lambda loss, norm, clip: (loss.item(), norm.item()))(*args)


@mutant(exercise="training_step", hint="two things are wanted back")
def loss_alone(*args):
    return step_by("back clip guard step zero", said=lambda loss, norm, clip: loss.detach())(*args)


@mutant(exercise="training_step", hint="`guard` is never called")
def unguarded(*args):
    return step_by("back clip step zero")(*args)


@mutant(exercise="training_step", hint="`guard` is called too late")
def guarded_late(*args):
    return step_by("back clip step guard zero")(*args)


@mutant(exercise="training_step", hint="your code goes on: let it through")
def guard_swallowed(model, flow, optimizer, x, y, clip, guard=None):
    def quiet(loss, norm):
        try:
            guard(loss, norm)
        except Exception:
            print("something is wrong")

    return step_by("back clip guard step zero")(model, flow, optimizer, x, y, clip, guard and quiet)


@mutant(exercise="training_step", hint="`guard` gets other numbers than you return")
def guard_gets_the_norm_first(model, flow, optimizer, x, y, clip, guard=None):
    turned = guard and (lambda loss, norm: guard(norm, loss))
    return step_by("back clip guard step zero")(model, flow, optimizer, x, y, clip, turned)


@mutant(exercise="training_step", hint="the model is in evaluation mode")
def in_evaluation_mode(model, *args):
    model.eval()
    return step_by("back clip guard step zero")(model, *args)


@mutant(exercise="training_step", hint="computed more than once")
def measured_again(model, flow, optimizer, x, y, clip, guard=None):
    _, norm = step_by("back clip guard step zero")(model, flow, optimizer, x, y, clip, guard)
    return flow.loss(model, x, y).detach(), norm


@mutant(exercise="training_step", hint="NoneType")
def norm_of_a_loop(model, flow, optimizer, x, y, clip, guard=None):
    optimizer.zero_grad()
    norm = sum(p.grad.norm() for p in model.parameters())
    return flow.loss(model, x, y).detach(), norm


# -- stretch: accumulate_gradients -----------------------------------------------------------------


@right_answer(exercise="accumulate_gradients")
def by_autograd_and_adding(model, loss_of, x, y, parts):
    parameters, total = list(model.parameters()), torch.zeros(())
    for some in torch.arange(len(x)).chunk(parts):
        loss = loss_of(model, x[some], y[some])
        share = some.numel() / x.shape[0]
        for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.grad = share * gradient if p.grad is None else p.grad + share * gradient
        total = torch.add(total, loss.detach(), alpha=share)
    return total


@right_answer(exercise="accumulate_gradients")
def by_split(model, loss_of, x, y, parts):
    size = math.ceil(len(x) / parts)
    total = 0.0
    for first in range(0, len(x), size):
        part = slice(first, first + size)
        loss = loss_of(model, x[part], y[part]) * (len(x[part]) / len(x))
        loss.backward()
        total += loss.item()
    return total


@right_answer(exercise="accumulate_gradients")
def picture_by_picture(model, loss_of, x, y, parts):
    losses = []
    for i in range(len(x)):
        loss = loss_of(model, x[i : i + 1], y[i : i + 1])
        (loss / len(x)).backward()
        losses.append(loss.detach())
    return torch.stack(losses).mean()


def in_parts(x, y, parts):
    return list(zip(x.chunk(parts), y.chunk(parts), strict=True))


@mutant(exercise="accumulate_gradients", hint="Go backward after each part")
def backward_at_the_end(model, loss_of, x, y, parts):
    total = sum(loss_of(model, some, labels) * len(some) / len(x) for some, labels in in_parts(x, y, parts))
    total.backward()
    return total.detach()


@mutant(exercise="accumulate_gradients", hint="only one part fits into memory at a time")
def all_at_once(model, loss_of, x, y, parts):
    loss = loss_of(model, x, y)
    loss.backward()
    return loss.detach()


@mutant(exercise="accumulate_gradients", hint="no gradient has arrived when the second part begins")
def no_backward(model, loss_of, x, y, parts):
    return sum(loss_of(model, some, labels).detach() * len(some) / len(x) for some, labels in in_parts(x, y, parts))


@mutant(exercise="accumulate_gradients", hint="still carries its history")
def loss_with_history(model, loss_of, x, y, parts):
    total = 0
    for some, labels in in_parts(x, y, parts):
        loss = loss_of(model, some, labels) * len(some) / len(x)
        loss.backward()
        total = total + loss
    return total


@mutant(exercise="accumulate_gradients", hint="the loss that you return is not")
def mean_of_means(model, loss_of, x, y, parts):
    losses = []
    for some, labels in in_parts(x, y, parts):
        losses.append(loss_of(model, some, labels))
        (losses[-1] * len(some) / len(x)).backward()
    return torch.stack(losses).detach().mean()


@mutant(exercise="accumulate_gradients", hint="from each part's own loss, not from the running total")
def backward_on_the_total(model, loss_of, x, y, parts):
    total = 0
    for some, labels in in_parts(x, y, parts):
        total = total + loss_of(model, some, labels) * len(some) / len(x)
        total.backward()
    return total.detach()


@mutant(exercise="accumulate_gradients", hint="each part should go backward once")
def histories_retained(model, loss_of, x, y, parts):
    total = 0
    for some, labels in in_parts(x, y, parts):
        total = total + loss_of(model, some, labels) * len(some) / len(x)
        total.backward(retain_graph=True)
    return total.detach()


@mutant(exercise="accumulate_gradients", hint="in another mode than before")
def put_into_training_mode(model, loss_of, x, y, parts):
    model.train()
    return by_split(model, loss_of, x, y, parts)
