"""Which pictures a training step sees, and with which randomness: all of it decided by (seed, step) alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from dit_course.data import to_float


def checked(model: nn.Module, dataset: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The data set, once it is sure that the model can learn from it."""
    try:
        images, labels = dataset
        shape, dtype, label_dtype = images.shape, images.dtype, labels.dtype
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError("dataset must be a pair of tensors (images, labels), as load_dataset returns it") from error
    if dtype != torch.uint8 or label_dtype != torch.int64:
        raise ValueError(f"dataset must hold uint8 images and int64 labels, not {dtype} and {label_dtype}")
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(f"{len(images)} images and {len(labels)} labels: expected as many of each, and at least one")
    config = getattr(model, "config", None)
    if config is not None:
        expected = (config.channels, *config.image_shape)
        if tuple(shape[1:]) != expected:
            raise ValueError(f"the images are {tuple(shape[1:])}, but the model is made for {expected}")
        if config.num_classes is not None and int(labels.max()) >= config.num_classes:
            raise ValueError(f"a label is {int(labels.max())}, but the model knows only 0 to {config.num_classes - 1}")
    return images, labels


@contextmanager
def randomness(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Inside, torch's random numbers come from (seed, step) alone; outside, nothing has changed."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(_seed_of(seed, step))
        yield


def _seed_of(*numbers: int) -> int:
    """One well-mixed 32-bit seed from several numbers: torch's CPU generator looks at no more bits than
    that.
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def batch_indices(count: int, batch_size: int, seed: int, step: int) -> Tensor:
    """The pictures of a step: (batch_size,). Every epoch is a permutation; its last, incomplete batch is
    left out.
    """
    if count < batch_size:
        return torch.randint(count, (batch_size,))
    epoch, batch = divmod(step, count // batch_size)
    order = _epoch_order(count, seed, epoch)
    return order[batch * batch_size : (batch + 1) * batch_size]


@lru_cache(maxsize=1)
def _epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(_seed_of(seed, epoch, 1))
    return torch.randperm(count, generator=generator)


def prepare(images: Tensor, labels: Tensor, chosen: Tensor, flip: bool) -> tuple[Tensor, Tensor]:
    """A batch as the network wants it: bytes to floats in [-1, 1], mirrored where asked for."""
    x = to_float(images[chosen])
    if flip:
        mirrored = torch.rand(len(x), device=x.device) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    return x, labels[chosen]
