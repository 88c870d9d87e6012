"""What it takes to sample for real, around a solver: settings, labels, class names, seeds, batches (a service).

`sampling.py` shows how noise becomes an image (lesson 08), `pretrained/ddpm.py` how it does with the weights of the DiT
paper; both build on the `BaseSampler` here.
"""

import math
import operator
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dit_course.distributed.threads import Threads, divisible, worthwhile
from dit_course.guards import check_labels, whole
from dit_course.wrappers import unwrap

Callback = Callable[[int, float, Tensor], None]
Interval = tuple[float, float]  # of times, (low, high)


def start(noise: Tensor, ts: Tensor, callback: Callback | None = None) -> tuple[Tensor, Callable[[Tensor], None]]:
    """The first state of a trajectory, the noise, and `report(x)`, which hands each further state to the callback.

    callback: called with (index, t, x), with the first state at once. Raises ValueError when ts is no row of times.
    """
    if ts.ndim != 1 or len(ts) < 2:
        raise ValueError(
            f"ts has shape {tuple(ts.shape)}, expected (steps + 1,), as in torch.linspace(1, 0, steps + 1)"
        )
    moments = enumerate(ts)

    def report(x: Tensor) -> None:
        if callback is not None:
            index, t = next(moments)
            callback(index, float(t), x)

    report(noise)
    return noise, report


def check_scale(cfg: float, interval: Interval) -> None:
    """Raise ValueError for a guidance scale or an interval that makes no sense."""
    if not math.isfinite(cfg) or cfg < 0:
        raise ValueError(f"cfg = {cfg}, but the guidance scale must be a finite number, at least 0 (1 to 5 is usual)")
    low, high = interval
    if not 0 <= low <= high <= 1:
        raise ValueError(f"cfg interval ({low}, {high}) must be two times with 0 <= low <= high <= 1")


def check_guidance(model: Callable, y: Tensor | None, cfg: float, interval: Interval) -> Callable:
    """The network to guide, out of its wrapper. Raises ValueError where model, labels and guidance do not fit."""
    check_scale(cfg, interval)
    model = unwrap(model, keep_compiled=True)
    if y is None and cfg != 1:
        raise ValueError(f"cfg = {cfg} has nothing to guide with: without labels only cfg = 1 makes sense")
    if y is not None and model.config.num_classes is None:
        raise ValueError("this model has no classes: leave y out, and take cfg = 1")
    return model


class BaseSampler:
    """All of sampling but the integration from noise to images: a subclass brings `integrate`.

    model: a DiT, bare or wrapped (`EMA`, DataParallel, DDP, torch.compile). steps: how many, from noise to data.
    cfg, cfg_interval: see `sampling.guided`. A model without classes takes cfg 1 whatever is set.
    Raises ValueError at once when a setting makes no sense.
    """

    def __init__(self, model: nn.Module, steps: int, cfg: float, cfg_interval: Interval):
        problem = f"steps = {steps!r}, but it must be a whole number, at least 1 (20 is usual)"
        self.steps = whole(steps, problem=problem)
        check_scale(cfg, cfg_interval)
        self.model = unwrap(model, keep_compiled=True)
        self.cfg = cfg if self.model.config.num_classes is not None else 1.0
        self.cfg_interval = cfg_interval

    @property
    def classes(self) -> range:
        """The numbers of the model's classes. Raises ValueError when it has none."""
        if self.model.config.num_classes is None:
            raise ValueError("this model has no classes")
        return range(self.model.config.num_classes)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        labels: Tensor | Sequence[int | str] | int | str | None = None,
        seed: int | None = None,
        callback: Callback | None = None,
        batch_size: int = 250,
    ) -> Tensor:
        """Sample n images.

        labels: a class for all, or one for each: numbers, or names where the model knows them; None goes through the
            classes in turn.
        seed: the same seed gives the same images, and image i does not depend on n. None takes a new one.
        callback: called with (index, t, x), x in [-1, 1], before the first step and after each.
        batch_size: how many are sampled at once (with a callback: all).
        Returns (n, channels, height, width) on the model's device, in [0, 1].
        """
        n = whole(n, problem=f"n = {n!r}, but it must be a whole number of images, at least 1")
        problem = f"batch_size = {batch_size!r}, but it must be a whole number, at least 1"
        batch_size = whole(batch_size, problem=problem)
        weight = next(self.model.parameters())
        noise = self._noise(n, seed).to(weight.device, weight.dtype)
        y = self._labels(n, labels)
        y = None if y is None else y.to(weight.device)
        threads = worthwhile(n) if callback is None and weight.device.type == "cpu" and self._divisible() else 1
        batches = torch.arange(n).split(n if callback else min(batch_size, math.ceil(n / threads)))

        @torch.no_grad()
        def images(i: Tensor) -> Tensor:
            return self.integrate(noise[i], None if y is None else y[i], callback)

        was_training = self.model.training
        self.model.eval()  # label dropout is for training
        try:
            return torch.cat(Threads(threads).map(images, batches) if threads > 1 else [images(i) for i in batches])
        finally:
            self.model.train(was_training)

    def _divisible(self) -> bool:
        """Whether several threads may integrate at once: a learner's sampler, solver or network stays in one."""
        parts = (type(self), getattr(self, "solver", type(self)))
        ours = all(str(part.__module__).startswith("dit_course.") for part in parts)
        return ours and divisible(self.model) and not torch.is_autocast_enabled("cpu")

    def integrate(self, noise: Tensor, y: Tensor | None, callback: Callback | None = None) -> Tensor:
        """From noise (batch, channels, height, width) and labels (batch,) to images of this shape in [0, 1]."""
        raise NotImplementedError

    def _noise(self, n: int, seed: int | None) -> Tensor:
        """One image after the other and on the CPU, so that image i is the same for every n and device."""
        generator = torch.Generator()
        generator.seed() if seed is None else generator.manual_seed(seed)
        shape = (self.model.config.channels, *self.model.config.image_shape)
        return torch.stack([torch.randn(shape, generator=generator) for _ in range(n)])

    def _labels(self, n: int, labels) -> Tensor | None:
        num_classes = self.model.config.num_classes
        if num_classes is None:
            if labels is not None:
                raise ValueError("this model has no classes: leave labels out")
            return None
        if labels is None:
            return torch.arange(n) % num_classes
        if isinstance(labels, str) or not hasattr(labels, "__len__") or getattr(labels, "ndim", 1) == 0:
            labels = [labels] * n  # one for all: a name, a number, a tensor of one number
        if not isinstance(labels, Tensor):
            labels = torch.tensor([self._class_number(label) for label in labels])
        if labels.shape != (n,):
            raise ValueError(f"{n} images need {n} labels (or one for all), not shape {tuple(labels.shape)}")
        labels = labels.cpu()
        check_labels(labels, num_classes)
        return labels

    def _class_number(self, label: int | str) -> int:
        names = getattr(self.model, "class_names", None) or ()
        if isinstance(label, str) and label not in names:
            known = ", ".join(names) or "none by name: use numbers"
            raise ValueError(f"unknown class {label!r}; this model knows {known}")
        if isinstance(label, str):
            return names.index(label)
        try:
            return operator.index(label)
        except TypeError:
            raise TypeError(f"labels are whole numbers or names of classes, not {label!r}") from None
