"""Released weights of DiT, from a file to a model (lesson 10): the official checkpoint, or a folder of diffusers.

What the weights are called is the business of `layouts`, the sampler that they need is `ddpm.DiffusionSampler`.
"""

import argparse
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from dit_course.dit import SIZES, DiT
from dit_course.pretrained.layouts import config_of_diffusers, config_of_official, load_diffusers, load_official
from dit_course.wrappers import without_prefixes

Weights = dict[str, Tensor]


def load_released(path: str | Path, heads: int | None = None, image_size: int | None = None) -> DiT:
    """A DiT with released weights: a file in the official layout, or a folder that diffusers wrote."""
    if Path(path).expanduser().is_dir():
        if heads is not None or image_size is not None:
            raise ValueError(
                f"{path} is a folder of diffusers, whose config.json knows heads and image size: omit both"
            )
        return load_diffusers_folder(path)
    return load_official_checkpoint(path, heads, image_size)


def load_official_checkpoint(path: str | Path, heads: int | None = None, image_size: int | None = None) -> DiT:
    """A DiT with the weights of an official checkpoint, such as DiT-XL-2-256x256.pt, in eval mode, on the CPU.

    path: a .pt file (the released weights, or a whole checkpoint of the official train.py), or .safetensors with the
        same names.
    heads: how many attention heads; None: those of the paper's size of this width (S 6, B 12, L and XL 16).
    image_size: the side of what the network sees, latents for the released models; None: as the positions say.
    With 1000 classes the model gets ImageNet's names, see `imagenet_names`.
    Raises FileNotFoundError, OSError for damaged files, ValueError for what is no DiT.
    """
    weights = read_weights(path)
    if "proj_out_2.weight" in weights:
        raise ValueError(
            f"{path} has the names of diffusers: give its folder, with the config.json that knows heads and image size"
        )
    config = config_of_official(weights, 1, image_size)
    if heads is None:
        heads = next((size["heads"] for size in SIZES.values() if size["width"] == config.width), None)
    if heads is None:
        raise ValueError(f"width {config.width} is none of the paper's sizes: say how many heads there are (--heads)")
    model = DiT(config_of_official(weights, heads, image_size))
    return _named(load_official(model, weights))


def load_diffusers_folder(path: str | Path) -> DiT:
    """A DiT with weights that diffusers wrote, in eval mode, on the CPU.

    path: a folder of `DiTTransformer2DModel.save_pretrained`, or of `DiTPipeline`, with the network in "transformer".
    Errors as in `load_official_checkpoint`.
    """
    folder = Path(path).expanduser()
    folder = folder / "transformer" if (folder / "transformer").is_dir() else folder
    names = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
    file = next((folder / name for name in names if (folder / name).exists()), None)
    if file is None or not (folder / "config.json").exists():
        raise FileNotFoundError(f"{folder} holds no config.json with {names[0]}: give a folder that diffusers wrote")
    try:
        about = json.loads((folder / "config.json").read_text())
        heads, image_size = about["num_attention_heads"], about["sample_size"]
    except (ValueError, KeyError) as error:
        raise OSError(f"{folder / 'config.json'} describes no DiT of diffusers ({error}): get it again") from error
    if about.get("activation_fn", "gelu-approximate") != "gelu-approximate":
        raise ValueError(
            f"{folder} uses {about['activation_fn']}, ours is gelu-approximate: take weights of a plain DiT"
        )
    weights = read_weights(file)
    model = DiT(config_of_diffusers(weights, heads, image_size))
    return _named(load_diffusers(model, weights, about.get("norm_eps", 1e-5)))


def read_weights(path: str | Path) -> Weights:
    """The tensors of a .safetensors file or of a torch file; of a training checkpoint the average ("ema").

    Only tensors and plain values are unpacked (`weights_only`): a file can run no code here. Large files are mapped
    into memory, not copied.
    Raises FileNotFoundError, OSError for a damaged file, ValueError for one that holds something else.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{path} does not exist: give the file of the weights")
    try:
        if file.suffix == ".safetensors":
            return without_prefixes(load_file(file))
        with torch.serialization.safe_globals([argparse.Namespace]):  # official checkpoints keep their options so
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than weights, or is no torch file, and was not unpacked: save its state dict alone"
        ) from error
    except Exception as error:  # what a damaged file makes a reader stumble over can be anything
        if isinstance(error, OSError) and error.errno:
            raise
        reason = (str(error).splitlines() or [""])[0][:200]
        problem = f"{path} is damaged, or no file of weights ({type(error).__name__}: {reason})"
        raise OSError(f"{problem}: get it again") from error
    for part in ("ema", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(part), Mapping):
            return without_prefixes(content[part])
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a state dict: names and tensors")
    return without_prefixes(content)


def imagenet_names() -> tuple[str, ...]:
    """The names of ImageNet's 1000 classes, in the order of its folders, as torchvision knows them."""
    from torchvision.models import get_model_weights

    return tuple(get_model_weights("resnet18").DEFAULT.meta["categories"])


def _named(model: DiT) -> DiT:
    if model.config.num_classes == 1000:
        model.class_names = imagenet_names()
    return model.eval()
