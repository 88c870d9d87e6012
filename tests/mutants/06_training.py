"""Lesson 06: what people write for overfitting, the learning rate, clipping, the step, and batches in parts."""

import math

import torch
from torch import nn
from torch.optim import SGD, AdamW

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
def copied_from_above(model, flow, x, y, steps, lr=2e-3):
    return variant(("back", "zero", "step"), lambda model: model.final, same_noise=False)(model, flow, x, y, steps, lr)


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
def only_noise_mended(model, flow, x, y, steps, lr=2e-3):
    return variant(("back", "zero", "step"), lambda model: model.final)(model, flow, x, y, steps, lr)


@mutant(exercise="overfit", hint="the loss does not move at all")
def backward_forgotten(model, flow, x, y, steps, lr=2e-3):
    return variant(("step", "zero"))(model, flow, x, y, steps, lr)


@mutant(exercise="overfit", hint="only the last layer learns")
def last_layer_only(model, flow, x, y, steps, lr=2e-3):
    return variant(part=lambda model: model.final)(model, flow, x, y, steps, lr)


@mutant(exercise="overfit", hint="only the last layer learns")
def last_layer_and_added(model, flow, x, y, steps, lr=2e-3):
    return variant(("back", "step"), lambda model: model.final)(model, flow, x, y, steps, lr)


@mutant(exercise="overfit", hint="new ones are added to them")
def zero_grad_taken_out(model, flow, x, y, steps, lr=2e-3):
    return variant(("back", "step"))(model, flow, x, y, steps, lr)


@mutant(exercise="overfit", hint="`lr` is not used")
def default_rate(model, flow, x, y, steps, lr=2e-3):
    return variant(make=lambda parameters, lr: AdamW(parameters))(model, flow, x, y, steps, lr)


@mutant(exercise="overfit", hint="`lr` is not used")
def rate_written_as_a_number(model, flow, x, y, steps, lr=2e-3):
    return variant()(model, flow, x, y, steps, 2e-3)


@mutant(exercise="overfit", hint="every step makes a new optimizer")
def new_optimizers(model, flow, x, y, steps, lr=2e-3):
    return torch.cat([variant()(model, flow, x, y, 1, lr) for _ in range(steps)])


@mutant(exercise="overfit", hint="plain gradient descent")
def sgd(model, flow, x, y, steps, lr=2e-3):
    return variant(make=SGD)(model, flow, x, y, steps, lr)


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


@mutant(exercise="learning_rate", hint="your warm-up starts at 0")
def from_zero(done, total, highest, warmup, decay):
    up = done / warmup if warmup else 1
    return highest * min(1, up, (total - done) / decay if decay else 1)


@mutant(exercise="learning_rate", hint="your warm-up starts at 0")
def from_zero_and_longer(done, total, highest, warmup, decay):
    return highest * min(1, done / (warmup + 1), (total - done) / decay if decay else 1)


@mutant(exercise="learning_rate", hint="one step too short")
def reached_early(done, total, highest, warmup, decay):
    return highest * min(1, (done + 1) / warmup if warmup else 1, (total - done) / decay if decay else 1)


@mutant(exercise="learning_rate", hint="one step too short")
def divided_by_warmup(done, total, highest, warmup, decay):
    return highest * min(1, (done + 1) / warmup, (total - done) / decay if decay else 1)


@mutant(exercise="learning_rate", hint="divides by zero when `decay` is 0")
def divided_by_decay(done, total, highest, warmup, decay):
    return highest * min(1, (done + 1) / (warmup + 1), (total - done) / decay)


@mutant(exercise="learning_rate", hint="there is no warm-up")
def no_warmup(done, total, highest, warmup, decay):
    return highest * min(1, (total - done) / decay if decay else 1)


@mutant(exercise="learning_rate", hint="there is no decay")
def no_decay(done, total, highest, warmup, decay):
    return highest * min(1, (done + 1) / (warmup + 1))


@mutant(exercise="learning_rate", hint="your decay starts at the first step")
def decay_all_the_way(done, total, highest, warmup, decay):
    return highest * min(1, (done + 1) / (warmup + 1), (1 - done / total) if decay else 1)


@mutant(exercise="learning_rate", hint="grows beyond the highest")
def without_a_ceiling(done, total, highest, warmup, decay):
    up = (done + 1) / (warmup + 1)
    return highest * up * (min(1, (total - done) / decay) if decay else 1)


@mutant(exercise="learning_rate", hint="grows beyond the highest")
def decay_without_a_ceiling(done, total, highest, warmup, decay):
    if done < warmup:
        return highest * (done + 1) / (warmup + 1)
    return highest * ((total - done) / decay if decay else 1)


@mutant(exercise="learning_rate", hint="the last step has the rate 0")
def zero_too_early(done, total, highest, warmup, decay):
    return highest * min(1, (done + 1) / (warmup + 1), (total - 1 - done) / decay if decay else 1)


@mutant(exercise="learning_rate", hint="a share of the highest rate")
def only_the_share(done, total, highest, warmup, decay):
    return min(1, (done + 1) / (warmup + 1), (total - done) / decay if decay else 1)


@mutant(exercise="learning_rate", hint="the smaller one counts, not their product")
def product(done, total, highest, warmup, decay):
    return highest * min(1, (done + 1) / (warmup + 1)) * (min(1, (total - done) / decay) if decay else 1)


@mutant(exercise="learning_rate", hint="follows a cosine")
def cosine(done, total, highest, warmup, decay):
    left = min(1, (total - done) / decay) if decay else 1
    return highest * min((done + 1) / (warmup + 1), 1, 0.5 - 0.5 * math.cos(math.pi * left))


@mutant(exercise="learning_rate", hint="// divides whole numbers")
def whole_numbers(done, total, highest, warmup, decay):
    return highest * min(1, (done + 1) // (warmup + 1), (total - done) / decay if decay else 1)


@mutant(exercise="learning_rate", hint="at its end your rate goes up")
def rising_at_the_end(done, total, highest, warmup, decay):
    down = max(0, (done - (total - decay)) / decay) if decay else 1
    return highest * min(1, (done + 1) / (warmup + 1), down)


@mutant(exercise="learning_rate", hint="the learning rate should be one number")
def a_list_of_rates(done, total, highest, warmup, decay):
    return [highest * min(1, (i + 1) / (warmup + 1)) for i in range(done + 1)]


@mutant(exercise="learning_rate", hint="does not ask the decay")
def warmup_alone(done, total, highest, warmup, decay):
    if done < warmup:
        return highest * (done + 1) / (warmup + 1)
    return highest * (total - done) / decay if done >= total - decay else highest


@mutant(exercise="learning_rate", hint="does not ask the decay")
def warmup_alone_to_its_end(done, total, highest, warmup, decay):
    if done <= warmup:
        return highest * (done + 1) / (warmup + 1)
    return highest * (total - done) / decay if done >= total - decay else highest


@mutant(exercise="learning_rate", hint="your warm-up starts at 0")
def warmup_from_zero_alone(done, total, highest, warmup, decay):
    if done < warmup:
        return highest * done / warmup
    return highest * (total - done) / decay if decay and done > total - decay else highest


@mutant(exercise="learning_rate", hint="grows beyond the highest")
def nothing_along(done, total, highest, warmup, decay):
    return highest * min((done + 1) / (warmup + 1), (total - done) / decay if decay else 1)


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


@mutant(exercise="clip_gradients", hint="the gradients come out as they went in")
def new_tensors(parameters, most):
    parameters = with_gradients(parameters)
    norm = whole_norm(parameters)
    for p in parameters:
        g = p.grad
        g = g * min(1, most / norm)
    return norm


@mutant(exercise="clip_gradients", hint="a generator, which can be walked over only once")
def generator_walked_twice(parameters, most):
    norm = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
    for p in parameters:
        if p.grad is not None:
            p.grad.mul_(min(1, most / norm))
    return norm


@mutant(exercise="clip_gradients", hint="each parameter's gradient is shortened by itself")
def one_by_one(parameters, most):
    parameters = with_gradients(parameters)
    norm = whole_norm(parameters)
    for p in parameters:
        p.grad.mul_((most / p.grad.norm().clamp(min=1e-9)).clamp(max=1))
    return norm


@mutant(exercise="clip_gradients", hint="every number of the gradient is cut off by itself")
def by_value(parameters, most):
    parameters = with_gradients(parameters)
    norm = whole_norm(parameters)
    for p in parameters:
        p.grad.clamp_(-most, most)
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


@mutant(exercise="clip_gradients", hint="the root is missing")
def without_root(parameters, most):
    return clip_by(lambda gradients: sum(g.square().sum() for g in gradients))(parameters, most)


@mutant(exercise="clip_gradients", hint="add their *squares*")
def sum_of_norms(parameters, most):
    return clip_by(lambda gradients: sum(g.norm() for g in gradients))(parameters, most)


@mutant(exercise="clip_gradients", hint="the norm is that of the largest number")
def largest(parameters, most):
    return clip_by(lambda gradients: max(g.abs().max() for g in gradients))(parameters, most)


@mutant(exercise="clip_gradients", hint="the norm is a mean over all numbers")
def mean_square(parameters, most):
    return clip_by(lambda gradients: torch.cat([g.flatten() for g in gradients]).pow(2).mean().sqrt())(parameters, most)


@mutant(exercise="clip_gradients", hint="short gradients are made longer")
def always_to_most(parameters, most):
    return clip_by(root, lambda norm, most: most / norm if norm else 1.0)(parameters, most)


@mutant(exercise="clip_gradients", hint="short gradients are made longer")
def always_and_by_zero(parameters, most):
    return clip_by(root, lambda norm, most: most / norm)(parameters, most)


@mutant(exercise="clip_gradients", hint="stands on its head")
def upside_down(parameters, most):
    return clip_by(root, lambda norm, most: norm / most if norm > most else 1.0)(parameters, most)


@mutant(exercise="clip_gradients", hint="stands on its head")
def upside_down_always(parameters, most):
    return clip_by(root, lambda norm, most: norm / most)(parameters, most)


@mutant(exercise="clip_gradients", hint="multiplied by `most`")
def times_most(parameters, most):
    return clip_by(root, lambda norm, most: most if norm > most else 1.0)(parameters, most)


@mutant(exercise="clip_gradients", hint="the norm that comes back is that after clipping")
def norm_after(parameters, most):
    parameters = with_gradients(parameters)
    clip_by(root)(parameters, most)
    return whole_norm(parameters)


@mutant(exercise="clip_gradients", hint="the weights are scaled")
def weights_instead(parameters, most):
    parameters = with_gradients(parameters)
    norm = whole_norm(parameters)
    for p in parameters:
        p.data.mul_(min(1.0, most / norm) if norm else 1.0)
    return norm


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


@mutant(exercise="training_step", hint="gradients of earlier steps are still there in the next one")
def never_zeroed(*args):
    return step_by("back clip guard step")(*args)


@mutant(exercise="training_step", hint="whenever the optimizer steps, there is no gradient")
def zeroed_before_the_step(*args):
    return step_by("back clip guard zero step")(*args)


@mutant(exercise="training_step", hint="whenever the optimizer steps, there is no gradient")
def zeroed_after_backward(*args):
    return step_by("back zero clip guard step")(*args)


@mutant(exercise="training_step", hint="the weights never change: who moves them")
def no_step(*args):
    return step_by("back clip guard zero")(*args)


@mutant(exercise="training_step", hint="the weights never change")
def no_step_and_no_zero(*args):
    return step_by("back clip guard")(*args)


@mutant(exercise="training_step", hint="the weights change between the loss and its backward")
def step_first(*args):
    return step_by("step back clip guard")(*args)


@mutant(exercise="training_step", hint="or not been computed yet")
def step_first_and_zero(*args):
    return step_by("step back clip guard zero")(*args)


@mutant(exercise="training_step", hint="the optimizer gets the whole gradient")
def not_clipped(*args):
    def length(parameters, clip):
        return torch.stack([p.grad.norm() for p in parameters]).norm()

    return step_by("back clip guard step zero", length)(*args)


@mutant(exercise="training_step", hint="clip it, and do so before the step")
def clipped_late(*args):
    return step_by("back guard step clip zero")(*args)


@mutant(exercise="training_step", hint="cut off by itself: clip the norm of the whole")
def clipped_by_value(*args):
    def clipper(parameters, clip):
        parameters = list(parameters)
        norm = torch.stack([p.grad.norm() for p in parameters]).norm()
        nn.utils.clip_grad_value_(parameters, clip)
        return norm

    return step_by("back clip guard step zero", clipper)(*args)


@mutant(exercise="training_step", hint="clip_grad_norm_ returns the one before")
def norm_after_clipping(*args):
    def clipper(parameters, clip):
        parameters = list(parameters)
        nn.utils.clip_grad_norm_(parameters, clip)
        return torch.stack([p.grad.norm() for p in parameters]).norm()

    return step_by("back clip guard step zero", clipper)(*args)


@mutant(exercise="training_step", hint="loss and norm are swapped")
def swapped(*args):
    return step_by("back clip guard step zero", said=lambda loss, norm, clip: (norm, loss.detach()))(*args)


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


@mutant(exercise="training_step", hint="`guard` is asked too late")
def guarded_late(*args):
    return step_by("back clip step guard zero")(*args)


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


@mutant(exercise="accumulate_gradients", hint="each part counts as much as the whole batch")
def not_weighted(model, loss_of, x, y, parts):
    total = 0
    for some, labels in in_parts(x, y, parts):
        loss = loss_of(model, some, labels)
        loss.backward()
        total += loss.detach()
    return total


@mutant(exercise="accumulate_gradients", hint="each part counts as much as the whole batch")
def mean_of_losses_only(model, loss_of, x, y, parts):
    return not_weighted(model, loss_of, x, y, parts) / len(x.chunk(parts))


@mutant(exercise="accumulate_gradients", hint="the last one may have fewer pictures")
def divided_by_parts(model, loss_of, x, y, parts):
    total = 0
    for some, labels in in_parts(x, y, parts):
        loss = loss_of(model, some, labels) / parts
        loss.backward()
        total += loss.detach()
    return total


@mutant(exercise="accumulate_gradients", hint="only the last part's gradient is left")
def zeroed_between(model, loss_of, x, y, parts):
    total = 0
    for some, labels in in_parts(x, y, parts):
        model.zero_grad()
        loss = loss_of(model, some, labels) * len(some) / len(x)
        loss.backward()
        total += loss.detach()
    return total


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


@mutant(exercise="accumulate_gradients", hint="only the last part's")
def last_loss(model, loss_of, x, y, parts):
    for some, labels in in_parts(x, y, parts):
        loss = loss_of(model, some, labels) * len(some) / len(x)
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


@mutant(exercise="accumulate_gradients", hint="*before* `backward`, not after it")
def weighed_after_backward(model, loss_of, x, y, parts):
    total = 0
    for some, labels in in_parts(x, y, parts):
        loss = loss_of(model, some, labels)
        loss.backward()
        total += loss.detach() * len(some) / len(x)
    return total


@mutant(exercise="accumulate_gradients", hint="in the loss that comes back each part counts whole")
def loss_not_weighed(model, loss_of, x, y, parts):
    total = 0
    for some, labels in in_parts(x, y, parts):
        loss = loss_of(model, some, labels)
        (loss * len(some) / len(x)).backward()
        total += loss.detach()
    return total
