"""What commands share: the network's options, the device, which sampler draws."""

from dataclasses import dataclass
from typing import Literal

import torch

from dit_course.data import Dataset
from dit_course.dit import DiT, DiTConfig, named_config
from dit_course.few_steps import FewStepDiT, FewStepSampler
from dit_course.generation import BaseSampler, Interval
from dit_course.sampling import Sampler


@dataclass
class Network:
    """The options of a `DiTConfig`; the data decides the rest. The defaults suit some minutes on two cores."""

    size: str | None = None
    """A size of the DiT paper, such as DiT-S/2, instead of patch size, width, depth and heads."""
    patch_size: int = 4
    """Side of a patch in pixels; a divisor of the image's sides."""
    width: int = 96
    """Features of a token; a multiple of 4 and of the heads."""
    depth: int = 4
    """How many blocks."""
    heads: int = 4
    """How many attention heads share the width."""
    mlp_ratio: float = 4.0
    """How much wider than a token the MLP is inside."""
    registers: int = 4
    """Extra learned tokens that belong to no patch."""
    label_dropout: float = 0.1
    """How often training hides the label; without it there is no guidance."""
    qk_norm: bool = True
    """Whether queries and keys pass through an RMSNorm."""
    norm: Literal["rms", "layer"] = "rms"
    """The blocks' norm: RMSNorm, or LayerNorm as in the paper."""
    unconditional: bool = False
    """Train without classes."""

    def config_for(self, dataset: Dataset) -> DiTConfig:
        """The network's configuration, with the shape and the classes of the data."""
        channels, height, width = dataset.images.shape[1:]
        options = {name: value for name, value in vars(self).items() if name not in ("size", "unconditional")}
        options |= {
            "image_size": height if height == width else (height, width),
            "channels": channels,
            "num_classes": None if self.unconditional else len(dataset.class_names),
        }
        if self.size is None:
            return DiTConfig(**options)
        return named_config(self.size, **{name: options[name] for name in options if name not in NAMED_BY_SIZE})


NAMED_BY_SIZE = ("patch_size", "width", "depth", "heads")


def make_sampler(
    model: DiT, steps: int | None, cfg: float, usual: int, solver: str = "euler", interval: Interval = (0.0, 1.0)
) -> BaseSampler:
    """A `FewStepSampler` for a few-step student, else a `Sampler`.

    steps: None for one evaluation by a student, and for `usual` steps by others. A student needs no solver.
    """
    if not isinstance(model, FewStepDiT):
        return Sampler(model, usual if steps is None else steps, solver, cfg, interval)
    if tuple(interval) != (0.0, 1.0):
        raise ValueError("a few-step student has its guidance built in, at all times: leave --cfg-interval out")
    return FewStepSampler(model, 1 if steps is None else steps, cfg)


def named_device(name: str) -> torch.device:
    """cpu, cuda, mps, or "auto" for the fastest there is; ValueError for one that cannot be used here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {name!r} cannot be used here ({str(error).splitlines()[0]}): try --device cpu"
        ) from error
    return torch.device(name)
