"""Denoising diffusion, the sampler that weights of the DiT paper need: DDPM and DDIM (a service of lesson 10).

Kept apart from the flow. The path from data to noise is a curve here, x_t = sqrt(a) x + sqrt(1 - a) noise; a is the
papers' alpha_bar and falls from 1 to 0 in 1000 steps, of which some are taken. The network predicts the noise, in the
released weights also the variance of the next step. Our models are told the time t = step / 1000.

DDPM: Ho et al. 2020, arXiv 2006.11239. DDIM: Song et al. 2021, arXiv 2010.02502. Learned variance and fewer steps:
Nichol & Dhariwal 2021, arXiv 2102.09672. What the released weights need: github.com/facebookresearch/DiT, sample.py.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from dit_course.flow import per_image
from dit_course.generation import BaseSampler, Callback, Interval, check_guidance, start
from dit_course.guards import whole
from dit_course.sampling import guidance_scale

Denoiser = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]  # (x, t) -> noise, variance between its bounds


def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """How much noise each step adds, growing evenly (arXiv 2006.11239, section 4): (steps,) float64."""
    return torch.linspace(first, last, steps, dtype=torch.float64)


def kept_steps(count: int, total: int = 1000) -> list[int]:
    """Which steps are kept when only `count` of `total` are taken: evenly spread, the first and the last among them.

    count: 2 to total. As in the official repository: positions are added up in float64 and rounded, so that all agree.
    """
    problem = f"steps = {count!r}, but it must be a whole number from 2 to {total} (250 is usual)"
    count = whole(count, 2, total, problem)
    kept, position = [], 0.0
    for _ in range(count):
        kept.append(round(position))
        position += (total - 1) / (count - 1)
    return kept


class Schedule:
    """How much noise there is at the steps that are kept, from data to noise; all (kept,), in float64.

    steps: how many of the steps are kept, or which: numbers of steps, upwards. betas: (total,), those of all steps.
    alpha_bar: the share of data in x_t, squared; before: the same one kept step nearer to the data, 1 for none.
    betas: what a kept step adds, 1 - alpha_bar / before, so that products of 1 - beta give the same alpha_bar as all.
    """

    def __init__(self, steps: int | Sequence[int] = 1000, betas: Tensor | None = None):
        betas = linear_betas() if betas is None else betas.double()
        if isinstance(steps, Sequence):
            self.steps = list(steps)
            if not self.steps or sorted({*self.steps} & {*range(len(betas))}) != self.steps:
                raise ValueError(f"steps must be numbers from 0 to {len(betas) - 1}, upwards, not {steps!r}")
        else:
            self.steps = kept_steps(steps, len(betas))
        self.total = len(betas)
        self.alpha_bar = (1 - betas).cumprod(0)[self.steps]
        self.before = torch.cat([self.alpha_bar.new_ones(1), self.alpha_bar[:-1]])
        self.betas = 1 - self.alpha_bar / self.before

    def __len__(self) -> int:
        return len(self.steps)

    def noised(self, x: Tensor, noise: Tensor, index: int) -> Tensor:
        """The point at kept step `index` on the path from data x to noise (arXiv 2006.11239, equation 4)."""
        share = float(self.alpha_bar[index])
        return math.sqrt(share) * x + math.sqrt(1 - share) * noise

    def data_from_noise(self, x_t: Tensor, noise: Tensor, index: int) -> Tensor:
        """The data that a predicted noise points to: `noised`, solved for x."""
        share = float(self.alpha_bar[index])
        return (x_t - math.sqrt(1 - share) * noise) / math.sqrt(share)

    def posterior_mean(self, x: Tensor, x_t: Tensor, index: int) -> Tensor:
        """Where x_t was one kept step before, on average, if the data is x (arXiv 2006.11239, equation 7)."""
        share, before, beta = (float(values[index]) for values in (self.alpha_bar, self.before, self.betas))
        of_data = math.sqrt(before) * beta / (1 - share)
        of_state = math.sqrt(1 - beta) * (1 - before) / (1 - share)
        return of_data * x + of_state * x_t

    def posterior_variance(self, index: int) -> float:
        """The variance around `posterior_mean`; 0 at index 0, where the data itself comes next."""
        share, before, beta = (float(values[index]) for values in (self.alpha_bar, self.before, self.betas))
        return beta * (1 - before) / (1 - share)

    def variance_bounds(self, index: int) -> tuple[float, float]:
        """Between what the variance of a step can lie: for data of one point, and for data that is noise itself.

        (arXiv 2006.11239, section 3.2.) At index 0 the lower one is that of index 1, as it has a logarithm.
        """
        return self.posterior_variance(max(index, 1) if len(self) > 1 else index), float(self.betas[index])

    def ddpm(self, x_t: Tensor, noise: Tensor, index: int, fresh: Tensor, spread: Tensor | float = -1.0) -> Tensor:
        """One step of DDPM from kept step `index` towards the data: the posterior's mean, and some of the noise anew.

        noise: as predicted. fresh: standard normal, drawn for this step; the last step, index 0, takes none of it.
        spread: where the logarithm of the variance lies between its bounds, -1 the lower, 1 the upper; a tensor like
            x_t when a network has learned it (arXiv 2102.09672, equation 15).
        """
        mean = self.posterior_mean(self.data_from_noise(x_t, noise, index), x_t, index)
        if index == 0:
            return mean
        low, high = (math.log(bound) for bound in self.variance_bounds(index))
        part = torch.as_tensor((spread + 1) / 2, dtype=x_t.dtype, device=x_t.device)
        return mean + torch.exp((low + part * (high - low)) / 2) * fresh

    def ddim(self, x_t: Tensor, noise: Tensor, index: int, fresh: Tensor | None = None, eta: float = 0.0) -> Tensor:
        """One step of DDIM: the data that the noise points to, and the same noise again, less of it.

        eta: 0 draws nothing, 1 as much anew as DDPM with the lower variance (arXiv 2010.02502, equations 12 and 16).
        """
        before = float(self.before[index])
        data = self.data_from_noise(x_t, noise, index)
        variance = eta**2 * self.posterior_variance(index)  # 0 at the last step
        x = math.sqrt(before) * data + math.sqrt(1 - before - variance) * noise
        return x if variance == 0 else x + math.sqrt(variance) * fresh


def denoiser(
    model: Callable, y: Tensor | None, cfg: float, channels: int | None = 3, interval: Interval = (0.0, 1.0)
) -> Denoiser:
    """The predicted noise with guidance, as a function of (x, t): noise_no_label + cfg (noise_label - noise_no_label).

    model: a callable (x, t, y) with a `config`, whose output holds the noise in as many channels as x has, and behind
        it the variance, or nothing. y: (batch,) labels; None for a model without classes.
    channels: how many of the channels are guided, the first ones. The official repository guides three of its four
        latent channels; the fourth, and the variance, are those with the label. None guides all, but no variance.
    interval: the times t in which guidance acts; elsewhere, and with cfg 1, one pass of the network is enough.
    Returns the noise and the variance (None where the model has none), each of the shape of x.
    """

    def split(output: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
        noise, variance = output[:, : x.shape[1]].to(x.dtype), output[:, x.shape[1] :].to(x.dtype)
        return noise, variance if variance.shape[1] else None

    model = check_guidance(model, y, cfg, interval)
    weight = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    labels = () if y is None else (y,)

    def denoise(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        scale = guidance_scale(t, cfg, interval)  # (batch,) or ()
        seen = x if weight is None else x.to(weight.dtype)  # the state is in float32 even where the weights are not
        if not labels or (scale == 1).all():
            return split(model(seen, t, *labels), x)
        no_label = torch.full_like(y, model.config.num_classes)
        both = model(torch.cat([seen, seen]), torch.cat([t, t]), torch.cat([y, no_label]))  # (2 * batch, ...)
        (noise, variance), (without, _) = (split(half, x) for half in both.chunk(2))
        guided = without[:, :channels] + per_image(scale, x) * (noise - without)[:, :channels]
        return torch.cat([guided, noise[:, guided.shape[1] :]], dim=1), variance

    return denoise


class DiffusionSampler(BaseSampler):
    """Sample with a model that predicts noise, as the released DiT weights do; `sample` is that of `Sampler`.

    model: a DiT with as many output channels as the input has (noise), or twice as many (noise and variance).
    steps: how many of the thousand steps are kept, 2 to 1000, or which ones: numbers from 0 to 999, upwards.
    cfg, guided_channels, cfg_interval: see `denoiser`; 4.0 and 3 are those of the official repository.
    method: "ddpm" draws noise anew at each step, "ddim" only as much as eta says (0 to 1).
    variance: of ddpm: "learned" by the model, "small" or "large" (the bounds); None: learned where it is.
    decode: makes pictures in [0, 1] of the samples, as `dit_course.pretrained.vae.decoder(vae)` does; None: none.
    The further noise of a picture follows from its first noise alone: picture i does not depend on how many are drawn.
    """

    def __init__(
        self,
        model: nn.Module,
        steps: int | Sequence[int] = 250,
        cfg: float = 4.0,
        method: Literal["ddpm", "ddim"] = "ddpm",
        eta: float = 0.0,
        guided_channels: int | None = 3,
        cfg_interval: Interval = (0.0, 1.0),
        variance: Literal["learned", "small", "large"] | None = None,
        decode: Callable[[Tensor], Tensor] | None = None,
    ):
        self.schedule = Schedule(steps)
        super().__init__(model, len(self.schedule), cfg, cfg_interval)
        config = self.model.config
        channels, outputs = config.channels, config.out_channels or config.channels
        if outputs not in (channels, 2 * channels):
            raise ValueError(
                f"this model predicts {outputs} channels from {channels}: expected {channels} (the noise) or "
                f"{2 * channels} (noise and variance), as in weights of the DiT paper"
            )
        variance = variance or ("learned" if outputs > channels else "small")
        if variance not in ("learned", "small", "large") or (variance == "learned" and outputs == channels):
            kinds = '"small" or "large"' + (' or "learned"' if outputs > channels else ": this model has learned none")
            raise ValueError(f"variance = {variance!r}, but it must be {kinds}")
        if method not in ("ddpm", "ddim"):
            raise ValueError(f'method must be "ddpm" or "ddim", not {method!r}')
        if not 0 <= eta <= 1 or (eta and method == "ddpm"):
            raise ValueError(f"eta = {eta}, but it must lie between 0 and 1, and above 0 only for ddim: ddpm has none")
        if guided_channels is not None and guided_channels < 1:
            raise ValueError(f"guided_channels = {guided_channels}, but at least 1 must be guided (None guides all)")
        self.method, self.eta, self.variance = method, eta, variance
        self.guided_channels, self.decode = guided_channels, decode

    def integrate(self, noise: Tensor, y: Tensor | None, callback: Callback | None = None) -> Tensor:
        """From noise (batch, channels, height, width) and labels (batch,) to latents of this shape, or to pictures."""
        denoise = denoiser(self.model, y, self.cfg, self.guided_channels, self.cfg_interval)
        generators = [_generator_of(picture) for picture in noise]
        noise = noise.to(torch.promote_types(noise.dtype, torch.float32))
        times = [step / self.schedule.total for step in self.schedule.steps]
        x, report = start(noise, torch.tensor([*reversed(times), 0.0]), callback)
        for index in reversed(range(len(times))):
            t = torch.full((len(x),), times[index], device=x.device)  # (batch,)
            x = self._step(x, denoise(x, t), index, generators)
            report(x)
        return x if self.decode is None else self.decode(x)

    def _step(self, x: Tensor, predicted: tuple[Tensor, Tensor | None], index: int, generators) -> Tensor:
        noise, learned = predicted
        if self.method == "ddim" and self.eta == 0:
            return self.schedule.ddim(x, noise, index)
        fresh = torch.stack([torch.randn(x.shape[1:], generator=generator) for generator in generators]).to(x.device)
        if self.method == "ddim":
            return self.schedule.ddim(x, noise, index, fresh, self.eta)
        spread = {"learned": learned, "small": -1.0, "large": 1.0}[self.variance]
        return self.schedule.ddpm(x, noise, index, fresh, spread)


def _generator_of(noise: Tensor) -> torch.Generator:
    """The source of a picture's further noise, on the CPU, so that it is the same for every batch and device."""
    seed = hashlib.blake2b(noise.float().cpu().numpy().tobytes(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(seed))
