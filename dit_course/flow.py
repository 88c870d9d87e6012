"""The straight road from data to noise, and what is learned on it (lesson 05).

One convention for time, everywhere: t = 0 is data, t = 1 is noise. Interpolation, target and step stand side by side,
because they must agree on it. Rectified flow: Liu et al. 2022, arXiv 2209.03003; flow matching: Lipman et al. 2022,
arXiv 2210.02747; logit-normal timesteps: Esser et al. 2024 (Stable Diffusion 3), arXiv 2403.03206, section 3.1.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

TimestepSampler = Callable[[int, Generator | None], Tensor]
Model = Callable[..., Tensor]  # (x_t, t, y) -> velocity


def interpolate(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Where a picture is at time t on its way to noise: x_t = (1 - t) x + t noise.

    x, noise: (batch, ...), one shape; t: (batch,) in [0, 1]. Returns the shape of x.
    """
    t = per_image(t, x)
    return (1 - t) * x + t * noise


def velocity_target(x: Tensor, noise: Tensor) -> Tensor:
    """What the network shall predict, at any t: the speed of `interpolate`, d x_t / d t = noise - x."""
    return noise - x


def step(x_t: Tensor, velocity: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
    """Follow the velocity from time t to t_next (towards the data t_next is the smaller): one Euler step.

    Exact when the velocity does not change on the way. t, t_next: (batch,) or scalars.
    """
    return x_t + per_image(t_next - t, x_t) * velocity


def data_from_velocity(x_t: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
    """The picture that a velocity points to, x = x_t - t v: where one single step to t = 0 would end."""
    return x_t - per_image(t, x_t) * velocity


def noise_from_velocity(x_t: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
    """The noise that a velocity comes from, noise = x_t + (1 - t) v."""
    return x_t + (1 - per_image(t, x_t)) * velocity


def per_image(t: Tensor, x: Tensor) -> Tensor:
    """Shape t (batch,) so that it multiplies x (batch, ...): (batch, 1, ..., 1). A scalar stays one."""
    t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
    return t.reshape(t.shape + (1,) * (x.ndim - 1)) if t.ndim else t


def uniform(n: int, generator: Generator | None = None) -> Tensor:
    """n timesteps, all of [0, 1) equally often: (n,)."""
    return torch.rand(n, generator=generator, device=generator.device if generator else None)


def logit_normal(n: int, generator: Generator | None = None, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """n timesteps, mostly in the middle: t = sigmoid(mean + std z), z normal: (n,), in (0, 1).

    The middle is where the velocity is hard to guess. A positive mean favours noise (arXiv 2403.03206, equation 19).
    """
    z = torch.randn(n, generator=generator, device=generator.device if generator else None)
    return torch.sigmoid(mean + std * z)


TIMESTEPS: dict[str, TimestepSampler] = {"uniform": uniform, "logit_normal": logit_normal}


def named_timesteps(timesteps: str | TimestepSampler) -> TimestepSampler:
    """The sampler of that name; a callable is one already. Raises ValueError for a name that nobody knows."""
    if not callable(timesteps) and timesteps not in TIMESTEPS:
        raise ValueError(
            f"timesteps must be {' or '.join(map(repr, TIMESTEPS))} or a callable (n, generator) -> (n,), "
            f"not {timesteps!r}"
        )
    return timesteps if callable(timesteps) else TIMESTEPS[timesteps]


def one_each(t: Tensor, n: int) -> Tensor:
    """Times t, once it is sure that there are n: (n,). Raises ValueError for any other shape."""
    if tuple(t.shape) != (n,):
        raise ValueError(f"the timestep sampler gave shape {tuple(t.shape)} for {n} times: expected ({n},)")
    return t


def require_floats(x: Tensor) -> None:
    """Raises TypeError for pictures that are still bytes."""
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}: the loss takes floats in [-1, 1] (x / 127.5 - 1 for bytes)")


def ask(model: Model, x_t: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
    """The model's velocity at x_t and t, with labels or (y None) without: the shape of x_t.

    Raises ValueError for any other shape: a channel more or less would broadcast, and train on nonsense.
    """
    velocity = model(x_t, t) if y is None else model(x_t, t, y)
    if velocity.shape != x_t.shape:
        raise ValueError(
            f"the model answers {tuple(velocity.shape)} to pictures of {tuple(x_t.shape)}: one velocity a pixel"
        )
    return velocity


def averaged(error: Tensor, reduction: str) -> Tensor:
    """The mean of errors (batch, ...): over all of them ("mean", a scalar), or of each picture ("none", (batch,)).

    Raises ValueError for errors that have been averaged before.
    """
    if reduction not in ("mean", "none"):
        raise ValueError(f'reduction must be "mean" or "none", not {reduction!r}')
    if not error.ndim:
        raise ValueError("this error is a single number already: hand over the errors of all pixels, (batch, ...)")
    return error.mean() if reduction == "mean" else error.flatten(1).mean(dim=1)  # (batch, ...) -> (batch,)


class RectifiedFlow:
    """The loss: how far the predicted velocity is from noise - x, at random times.

    timesteps: "logit_normal", "uniform", or any callable (n, generator) -> (n,) of times in [0, 1].
    """

    def __init__(self, timesteps: str | TimestepSampler = "logit_normal"):
        self.timesteps = named_timesteps(timesteps)

    def sample_timesteps(self, n: int, generator: Generator | None = None) -> Tensor:
        """n random times in [0, 1]: (n,)."""
        return one_each(self.timesteps(n, generator), n)

    def loss(
        self, model: Model, x: Tensor, y: Tensor | None = None, generator: Generator | None = None, reduction="mean"
    ) -> Tensor:
        """Mean squared error between the model's velocity and noise - x (arXiv 2403.03206, equation 5 with z-w of RF).

        model: a callable (x_t, t, y) -> velocity; when y is None, (x_t, t). x: (batch, ...), data in [-1, 1].
        generator: the source of times and noise, on the device of x; None takes torch's own.
        reduction: "mean" gives a scalar, "none" the loss of each image (batch,).
        A model that answers 0, as a new DiT does, has a loss of 1 + E[x^2].
        """
        require_floats(x)
        t = self.sample_timesteps(len(x), generator).to(x.device, x.dtype)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x_t = interpolate(x, noise, t)
        prediction = ask(model, x_t, t, y)
        error = (prediction.float() - velocity_target(x, noise).float()).square()
        return averaged(error, reduction)
