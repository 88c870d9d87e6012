"""Pictures to latents and back, with the VAE of Stable Diffusion, through diffusers (an extra of lesson 10).

DiT on ImageNet sees no pixels: an autoencoder turns a picture of 256 x 256 x 3 into latents of 32 x 32 x 4, and back
(Rombach et al. 2022, arXiv 2112.10752). Times 0.18215 they spread about as wide as the noise.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

SCALE = 0.18215  # of the VAE of Stable Diffusion 1 and 2, and of the DiT paper


def load_vae(name: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """The autoencoder in a folder that diffusers wrote (or in its subfolder "vae"), in eval mode.

    name: the folder; or a name on the Hugging Face Hub, such as stabilityai/sd-vae-ft-mse: then diffusers downloads it.
    Raises ValueError where diffusers is missing, OSError where the autoencoder is.
    """
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        raise ValueError(f"a VAE needs the package diffusers: pip install 'dit-course[latents]' ({error})") from error
    folder = Path(name).expanduser()
    folder = folder / "vae" if (folder / "vae").is_dir() else folder
    local = folder.is_dir() or len(folder.parts) != 2  # only owner/name is a name on the Hub
    if local and not (folder / "config.json").exists():
        raise FileNotFoundError(f"{folder} holds no config.json: give a folder that diffusers wrote for a VAE")
    try:
        place = str(folder) if local else str(name)
        # else it says at length that accelerate, which is not needed, is missing
        vae = AutoencoderKL.from_pretrained(place, local_files_only=local, low_cpu_mem_usage=False)
    except Exception as error:  # the network, the disk, a damaged file, another class: there is no VAE
        reason = " ".join(str(error).split())[:300]
        raise OSError(f"the VAE {name} cannot be loaded ({type(error).__name__}: {reason}): give its folder") from error
    return vae.to(device).eval()


@torch.no_grad()
def encode(
    vae: nn.Module,
    pictures: Tensor,
    generator: Generator | None = None,
    mean: bool = False,
    batch_size: int = 8,
    scale: float = SCALE,
) -> Tensor:
    """Pictures to latents, as a DiT is trained on.

    pictures: (n, 3, height, width), bytes, or floats in [0, 1]; the sides are multiples of 8 for the VAE named above.
    generator: on the VAE's device; the VAE answers with a distribution, of which one sample is drawn. mean: take its
        mean instead. batch_size: how many pictures at once. scale: what the latents are multiplied with.
    Returns (n, 4, height / 8, width / 8) in float32, on the VAE's device.
    """
    if pictures.ndim != 4 or pictures.shape[1] != vae.config.in_channels:
        expected = f"(n, {vae.config.in_channels}, height, width)"
        raise ValueError(f"pictures have shape {tuple(pictures.shape)}, expected {expected}: gray ones need expand")
    latents = []
    for some in pictures.split(batch_size):
        some = some / 255 if some.dtype == torch.uint8 else some
        if some.min() < 0 or some.max() > 1:
            raise ValueError("pictures reach beyond [0, 1]: take (x + 1) / 2 of those in [-1, 1]")
        found = vae.encode(_like(vae, 2 * some - 1)).latent_dist  # [0, 1] -> [-1, 1]
        latents.append(scale * (found.mode() if mean else found.sample(generator)).float())
    return torch.cat(latents)


@torch.no_grad()
def decode(vae: nn.Module, latents: Tensor, batch_size: int = 8, scale: float = SCALE) -> Tensor:
    """Latents to pictures: the way back from `encode`.

    latents: (n, channels, height, width). batch_size: how many at once.
    Returns (n, 3, 8 height, 8 width) in float32, in [0, 1], on the VAE's device.
    """
    if latents.ndim != 4 or latents.shape[1] != vae.config.latent_channels:
        expected = f"(n, {vae.config.latent_channels}, height, width)"
        raise ValueError(
            f"latents have shape {tuple(latents.shape)}, but this VAE decodes {expected}: take another VAE"
        )
    pictures = [vae.decode(_like(vae, some / scale)).sample.float() for some in latents.split(batch_size)]
    return ((torch.cat(pictures) + 1) / 2).clamp(0, 1)  # [-1, 1] -> [0, 1]


def decoder(vae: nn.Module, batch_size: int = 8, scale: float = SCALE) -> Callable[[Tensor], Tensor]:
    """`decode` with this VAE, as a function of latents alone: for `DiffusionSampler(model, decode=decoder(vae))`."""
    return lambda latents: decode(vae, latents, batch_size, scale)


def _like(vae: nn.Module, x: Tensor) -> Tensor:
    weight = next(vae.parameters())
    return x.to(weight.device, weight.dtype)
