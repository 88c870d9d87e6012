"""`python -m dit_course sample --official`: released weights, sampled by diffusion, with latents decoded by a VAE."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from dit_course.pretrained.ddpm import DiffusionSampler
from dit_course.pretrained.load import load_released
from dit_course.pretrained.vae import decoder, load_vae

BATCH = 8  # images at once: DiT-XL/2 with guidance needs about a gigabyte for the activations of these


def official_sampler(
    path: Path,
    vae: str | None,
    heads: int | None,
    device: torch.device,
    steps: int,
    cfg: float,
    interval: tuple[float, float],
    method: Literal["ddpm", "ddim"],
) -> DiffusionSampler:
    """The sampler of a file or a folder of released weights, which returns images.

    vae: where the autoencoder is; None: beside the network in a folder of diffusers' pipeline, and none for pixels.
    Raises ValueError when the latents have no VAE that fits.
    """
    model = load_released(path, heads).to(device)
    channels = model.config.channels
    if vae is None and (Path(path).expanduser() / "vae").is_dir():
        vae = str(path)
    if vae is None and channels not in (1, 3):
        raise ValueError(f"these weights draw latents of {channels} channels: say with --vae where the VAE's folder is")
    decode = _pixels
    if vae is not None:
        network = load_vae(vae, device)
        if network.config.latent_channels != channels:
            found = network.config.latent_channels
            raise ValueError(f"the VAE {vae} has {found} latent channels, the model {channels}: give the VAE that fits")
        decode = decoder(network)
    return DiffusionSampler(model, steps, cfg, method, cfg_interval=interval, decode=decode)


class LatentRecorder:
    """A callback that records states of a sampling run, decoded; `show.Recorder` records all.

    steps: how many there will be. decode: latents to images. most: how many states are recorded, evenly spread.
    frames: (N, C, H, W) in [0, 1] each.
    """

    def __init__(self, steps: int, decode: Callable[[Tensor], Tensor], most: int = 25):
        self.decode, self.frames = decode, []
        self.chosen = {round(i * steps / (most - 1)) for i in range(most)}

    def __call__(self, index: int, t: float, x: Tensor) -> None:
        """Record this state, if it is one of the chosen."""
        if index in self.chosen:
            self.frames.append(self.decode(x).cpu())


@contextmanager
def passes(sampler: DiffusionSampler, count: int, together: bool) -> Iterator[None]:
    """A progress bar of the network's evaluations: with DiT-XL/2 each takes seconds.

    together: whether all are sampled in one batch, as they are with a callback.
    """
    batches = 1 if together else -(-count // BATCH)
    with tqdm(total=batches * sampler.steps, unit="step", mininterval=0.5, delay=1) as bar:

        def advance(*_) -> None:  # what a hook returns would replace the output
            bar.update()

        hook = sampler.model.register_forward_hook(advance)
        try:
            yield
        finally:
            hook.remove()


def _pixels(x: Tensor) -> Tensor:
    return ((x + 1) / 2).clamp(0, 1)  # [-1, 1] -> [0, 1]
