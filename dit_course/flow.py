"""The straight path from data to noise, and the loss of a network that predicts its velocity (lesson 05).

One convention for time, everywhere: t = 0 is data, t = 1 is noise. Interpolation, target and step stand side by side,
because they must agree on it. Rectified flow: Liu et al. 2022, arXiv 2209.03003; flow matching: Lipman et al. 2022,
arXiv 2210.02747; logit-normal timesteps: Esser et al. 2024 (Stable Diffusion 3), arXiv 2403.03206, section 3.1.
"""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Generator, Tensor


def interpolate(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The point at time t on the straight path from data to noise: x_t = (1 - t) x + t noise.

    x, noise: (batch, ...), one shape; t: (batch,) in [0, 1]. Returns the shape of x.
    """
    t = per_image(t, x)
    return (1 - t) * x + t * noise


def velocity_target(x: Tensor, noise: Tensor) -> Tensor:
    """What the network should predict, at any t: the velocity of `interpolate`, d x_t / d t = noise - x."""
    return noise - x


def step(x_t: Tensor, velocity: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
    """Follow the velocity from time t to t_next (towards the data t_next is the smaller): one Euler step.

    Exact when the velocity does not change in between. t, t_next: (batch,) or scalars.
    """
    return x_t + per_image(t_next - t, x_t) * velocity


def data_from_velocity(x_t: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
    """The data that a velocity points to, x = x_t - t v: where one single step to t = 0 would end."""
    return x_t - per_image(t, x_t) * velocity


def noise_from_velocity(x_t: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
    """The noise that a velocity comes from, noise = x_t + (1 - t) v."""
    return x_t + (1 - per_image(t, x_t)) * velocity


def per_image(t: Tensor, x: Tensor) -> Tensor:
    """Shape t (batch,) so that it multiplies x (batch, ...): (batch, 1, ..., 1). A scalar stays one.

    Raises ValueError when there are more times, or fewer, than images.
    """
    t = torch.as_tensor(t, dtype=x.dtype)
    if t.ndim > 1 or (t.ndim == 1 and len(t) not in (1, len(x))):
        raise ValueError(f"t has shape {tuple(t.shape)} for {len(x)} images: expected ({len(x)},)")
    return t.to(x.device).reshape(t.shape + (1,) * (x.ndim - 1)) if t.ndim else t  # a scalar fits every device


def uniform(n: int, generator: Generator | None = None) -> Tensor:
    """n timesteps, all of [0, 1) equally often: (n,)."""
    return torch.rand(n, generator=generator, device=generator.device if generator else None)


def logit_normal(n: int, generator: Generator | None = None, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """n timesteps, mostly in the middle: t = sigmoid(mean + std z), z normal: (n,), in (0, 1).

    The middle is where the velocity is hard to predict. A positive mean favors noise (arXiv 2403.03206, equation 19).
    """
    z = torch.randn(n, generator=generator, device=generator.device if generator else None)
    return torch.sigmoid(mean + std * z)


TIMESTEPS = {"uniform": uniform, "logit_normal": logit_normal}


class RectifiedFlow:
    """The loss: how far the predicted velocity is from noise - x, at random times.

    timesteps: "logit_normal", "uniform", or any callable (n, generator) -> (n,) of times in [0, 1].
    """

    def __init__(self, timesteps: str | Callable = "logit_normal"):
        self.timesteps = TIMESTEPS.get(timesteps, timesteps)
        if not callable(self.timesteps):
            raise ValueError(f"timesteps must be a callable or one of {[*TIMESTEPS]}, not {timesteps!r}")

    def loss(
        self, model: Callable, x: Tensor, y: Tensor | None = None, generator: Generator | None = None, reduction="mean"
    ) -> Tensor:
        """Mean squared error between the model's velocity and noise - x (arXiv 2403.03206, equation 5 with z-w of RF).

        model: a callable (x_t, t, y) -> velocity; when y is None, (x_t, t). x: (batch, ...), data in [-1, 1].
        generator: the source of times and noise, on the device of x; None takes torch's own.
        reduction: "mean" gives a scalar, "none" the loss of each image (batch,).
        A model that predicts 0, as a new DiT does, has a loss of 1 + E[x^2].
        """
        t = self.timesteps(len(x), generator).to(x.device, x.dtype)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x_t = interpolate(x, noise, t)
        prediction = model(x_t, t) if y is None else model(x_t, t, y)
        error = (prediction.float() - velocity_target(x, noise).float()).square()
        return error.mean() if reduction == "mean" else error.flatten(1).mean(1)  # (batch, ...) -> () or (batch,)


def _checked(loss: Callable) -> Callable:
    """A door in front of the loss: names what would fail elsewhere, or broadcast and train on nonsense."""

    @wraps(loss)
    def checked(self, model, x, y=None, generator=None, reduction="mean"):
        if not x.is_floating_point():
            raise TypeError(f"x is {x.dtype}: the loss takes floats in [-1, 1] (x / 127.5 - 1 for bytes)")
        if reduction not in ("mean", "none"):
            raise ValueError(f'reduction must be "mean" or "none", not {reduction!r}')

        def predict(*inputs):
            velocity = model(*inputs)
            if velocity.shape != x.shape:
                raise ValueError(f"the model predicts {tuple(velocity.shape)} for images of shape {tuple(x.shape)}")
            return velocity

        return loss(self, predict, x, y, generator, reduction)

    return checked


RectifiedFlow.loss = _checked(RectifiedFlow.loss)  # outside of the class, which stays as lesson 05 writes it
