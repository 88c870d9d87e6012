"""The course's own answers that no room of the package needs: to stretch exercises, in toys, and RMSNorm by hand."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from dit_course import dit
from dit_course.few_steps import AverageVelocity, shortcut_target
from dit_course.flow import RectifiedFlow, per_image, step
from dit_course.sampling import expand_time


def overlapping_patches(images: Tensor, patch_size: int, stride: int) -> Tensor:
    """Cut images into patches that start every `stride` pixels, so that neighbors share some (lesson 01).

    images: (batch, channels, height, width). What is left over at the right and at the bottom is not looked at.
    Returns (batch, tokens, channels * patch_size**2) in reading order; with stride = patch_size that is `patchify`.
    """
    windows = images.unfold(2, patch_size, stride)  # (b, c, h, w) -> (b, c, rows, w, p)
    windows = windows.unfold(3, patch_size, stride)  # -> (b, c, rows, columns, p, p)
    windows = windows.permute(0, 2, 3, 1, 4, 5)  # -> (b, rows, columns, c, p, p)
    return windows.flatten(3).flatten(1, 2)  # -> (b, tokens, c * p * p)


@torch.no_grad()
def order_gap(layer, tokens: Tensor, order: Tensor) -> Tensor:
    """How much the order of its tokens means to a layer (lesson 01).

    layer: a function from (batch, n, width) to (batch, n, width). order: a permutation of 0 to n - 1.
    Returns the largest absolute difference between each token's output in the given order and in the other one.
    """
    shuffled = layer(tokens[:, order])
    back = shuffled[:, order.argsort()]  # every token's output at the place where it was
    return (back - layer(tokens)).abs().max()


def shift(t: Tensor, factor: float) -> Tensor:
    """Move times towards the noise (factor above 1) or the data: t / (1 - t) is multiplied by the factor (lesson 05).

    t: times in [0, 1], any shape; 0 and 1 stay. Resolution shift of Stable Diffusion 3 (arXiv 2403.03206, 5.3.2).
    """
    return factor * t / (1 + (factor - 1) * t)


@torch.no_grad()
def loss_at(t: float, model, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
    """The mean loss of a model at one single time t (lesson 05). x: (n, channels, height, width), y: (n,)."""
    flow = RectifiedFlow(lambda n, generator: torch.full((n,), t))
    return flow.loss(model, x, y, Generator().manual_seed(seed))


class RMSNorm(nn.Module):
    """Divide each vector by the root of its mean square, by hand (lesson 02); the package's own is fused on a GPU."""

    def __init__(self, width: int, eps: float = 1e-6, scale: bool = True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width)) if scale else None

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., width). Returns the same shape and dtype; the mean square is taken in float32."""
        mean_square = x.float().square().mean(dim=-1, keepdim=True)  # (..., 1)
        x = x * torch.rsqrt(mean_square + self.eps).to(x.dtype)
        return x if self.weight is None else x * self.weight.to(x.dtype)


def attention_in_chunks(query: Tensor, key: Tensor, value: Tensor, size: int) -> Tensor:
    """Attention over `size` keys at a time, so that the table of all weights never exists (lesson 02).

    query: (..., n, d); key: (..., m, d); value: (..., m, e). Returns (..., n, e), the same as attention at once.
    """
    highest = torch.full_like(query[..., :1], -torch.inf)  # (..., n, 1): the largest logit so far
    total = torch.zeros_like(highest)  # the sum of all exp(logit - highest) so far
    mixed = torch.zeros_like(query[..., :1] * value[..., :1, :])  # (..., n, e): the values, weighted by these
    for keys, values in zip(key.split(size, dim=-2), value.split(size, dim=-2), strict=True):
        logits = query @ keys.transpose(-2, -1) * query.shape[-1] ** -0.5  # (..., n, d) @ (..., d, s) -> (..., n, s)
        higher = torch.maximum(highest, logits.amax(dim=-1, keepdim=True))
        shrink, weights = (highest - higher).exp(), (logits - higher).exp()
        total = total * shrink + weights.sum(dim=-1, keepdim=True)
        mixed = mixed * shrink + weights @ values  # (..., n, s) @ (..., s, e) -> (..., n, e)
        highest = higher
    return mixed / total


def register_share(weights: Tensor, registers: int) -> Tensor:
    """What share of their attention the patches give to the registers, on average (lesson 02).

    weights: (..., tokens, tokens), each row sums to 1; the last `registers` of the tokens are registers. Returns (...).
    """
    patches = weights.shape[-1] - registers
    given = weights[..., :patches, patches:].sum(dim=-1)  # (..., tokens, tokens) -> (..., patches)
    return given.mean(dim=-1)


@torch.no_grad()
def block_changes(model: nn.Module, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """How far each block of a DiT changes its tokens while the whole model runs (lesson 03).

    x, t, y: what the model takes. Returns (depth,): the largest change of any number; in a new model with adaLN-Zero
    every one is 0.
    """
    found = []

    def compare(block, inputs, output):
        found.append((output - inputs[0]).abs().max())

    hooks = [block.register_forward_hook(compare) for block in model.blocks]
    model(x, t, y)
    for hook in hooks:
        hook.remove()
    return torch.stack(found)


def resized(model: dit.DiT, image_size: int | tuple[int, int]) -> dit.DiT:
    """The same network for pictures of another size: a new model with the same weights, in eval mode (lesson 04).

    image_size: a side in pixels, or (height, width), multiples of the patch size.
    """
    other = dit.DiT(replace(model.config, image_size=image_size))
    other.load_state_dict(model.state_dict())
    return other.eval()


def power_decays(sigma_rel: float, updates: int) -> Tensor:
    """The decays of a power-function average, whose profile grows as t**gamma (lesson 07).

    Karras et al. 2023, arXiv 2312.02696, section 3.1. sigma_rel: the standard deviation of the profile, as a share of
    the training so far; above 0 and at most 0.2886, where all weights count alike. Update t = 1, 2, ... keeps
    (1 - 1/t)**(gamma + 1).
    Returns (updates,), float64.
    """
    low, high = 0.0, 1e6  # gamma lies between them; the profile grows narrower as gamma grows
    for _ in range(100):
        gamma = (low + high) / 2
        width = (gamma + 1) ** 0.5 / (gamma + 2) / (gamma + 3) ** 0.5
        low, high = (gamma, high) if width > sigma_rel else (low, gamma)
    t = torch.arange(1, updates + 1, dtype=torch.float64)
    return (1 - 1 / t) ** (gamma + 1)


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Shorten the gradient of all parameters together, in place, where its norm is above `most` (lesson 06).

    Returns the norm before. What torch.nn.utils.clip_grad_norm_ does, by hand.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    if norm > most:
        for gradient in gradients:
            gradient.mul_(most / norm)
    return norm


def accumulate_gradients(model: nn.Module, loss_of: Callable[..., Tensor], x: Tensor, y: Tensor, parts: int) -> Tensor:
    """Gradients of a batch that does not fit into memory: from its parts, one after the other (lesson 06).

    loss_of: (model, x, y) -> the mean loss of some pictures. Gradients are added to those that are there.
    Returns the loss of the whole batch, without history.
    """
    total = torch.zeros(())
    for some, labels in zip(x.chunk(parts), y.chunk(parts), strict=True):
        loss = loss_of(model, some, labels) * len(some) / len(x)
        loss.backward()
        total += loss.detach()
    return total


def convergence_order(steps: Tensor, errors: Tensor) -> Tensor:
    """The order of a solver: the p of errors = c / steps**p, by least squares in the logarithms (lesson 08).

    steps: (n,), how many steps were taken. errors: (n,) float, what they left, of either sign, none 0. Returns ().
    """
    x, y = steps.to(errors.dtype).log(), errors.abs().log()
    away = x - x.mean()
    return -(away * y).sum() / away.square().sum()


def repaired(velocity: Callable, noise: Tensor, ts: Tensor, callback: Callable | None = None) -> Tensor:
    """Euler's steps as they stood in Just-a-DiT, without its time slip (lesson 08)."""
    x, at = noise, ts[:-1]
    for time, (t, t_next) in zip(at, pairwise(ts), strict=True):
        x = step(x, velocity(x, expand_time(time, x)), t, t_next)
    return x


def straightness(states: Tensor, ts: Tensor) -> Tensor:
    """How far paths are from straight lines at a constant speed: 0 for those alone (lesson 11).

    The mean over time and paths of |velocity of a piece - velocity from end to end|^2 (Liu et al. 2022, arXiv
    2209.03003). states: (steps + 1, n, ...). ts: (steps + 1,), their times, which need not be equally far apart.
    Returns one number, ().
    """
    sizes = ts.diff()  # (steps,)
    velocities = states.diff(dim=0) / per_image(sizes, states[1:])  # (steps, n, ...)
    straight = (states[-1] - states[0]) / sizes.sum()  # (n, ...)
    apart = (velocities - straight).square().flatten(2).sum(dim=2).mean(dim=1)  # (steps, n, ...) -> (steps,)
    return (apart * sizes).sum() / sizes.sum()


def consistency_loss(
    student: AverageVelocity, average: AverageVelocity, x_t: Tensor, t: Tensor, t_next: Tensor, velocity: Tensor
) -> Tensor:
    """How far a student is from the velocity where its span is zero, and from two half steps elsewhere (lesson 11).

    student, average: u(x_t, t, t_next), what is trained and what takes the half steps; they may be one network.
    x_t, velocity: (n, ...), the teacher's velocity there. t, t_next: (n,). Returns the mean squared error, ().
    """
    with torch.no_grad():
        halves = shortcut_target(average, x_t, t, t_next)
        target = torch.where(per_image(t - t_next, x_t) == 0, velocity, halves)
    return (student(x_t, t, t_next) - target).square().mean()
