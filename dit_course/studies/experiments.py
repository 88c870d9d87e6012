"""Does it help? Small training runs that differ in one thing, with paired seeds: `python -m dit_course experiment`.

Each variant is trained with the same seeds: seed 3 means the same images, noise and times in the same order, whatever
is varied. So variants are compared pair by pair, and what the seeds have in common cancels in the difference.
The results ship in `data/experiments/NAME.csv`, a row for each training run.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import mean, stdev

import torch
import tyro
from torch import Tensor, nn

from dit_course.checkpoints import load_classifier
from dit_course.data import data_root, load_dataset, to_float
from dit_course.distributed.train_config import TrainConfig
from dit_course.dit import DiT, DiTConfig
from dit_course.ema import EMA
from dit_course.evaluation import class_accuracy, frechet_distance, in_batches
from dit_course.flow import RectifiedFlow, interpolate, velocity_target
from dit_course.guards import known
from dit_course.sampling import Sampler
from dit_course.studies.table import ResumableTable, read_table
from dit_course.trainer import train

TIMES = [(i + 0.5) / 10 for i in range(10)]  # where the loss on test images is measured: the middles of ten bins
# the 97.5 % quantile of Student's t distribution, by degrees of freedom
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


@dataclass(frozen=True)
class Variant:
    """One way to train. model: what differs in the `DiTConfig`. timesteps: see `RectifiedFlow`."""

    name: str
    model: dict = field(default_factory=dict)
    timesteps: str = "logit_normal"
    undo_zeros: bool = False
    """Initialize all linear layers again after the model is made, as 5 of 10 public small DiTs do."""

    def key(self) -> tuple:
        """Equal for variants that are the same training."""
        return tuple(sorted(self.model.items())), self.timesteps, self.undo_zeros


# the last of each is the baseline, which the others are compared with
EXPERIMENTS = {
    "registers": [Variant("0", {"registers": 0}), Variant("4")],
    "timesteps": [Variant("uniform", timesteps="uniform"), Variant("logit-normal")],
    "zero-init": [Variant("zeros undone", undo_zeros=True), Variant("adaLN-Zero")],
    "qk-norm": [Variant("without", {"qk_norm": False}), Variant("with QK-norm")],
    "norm": [Variant("LayerNorm", {"norm": "layer"}), Variant("RMSNorm")],
}


ABOUT = {
    "registers": "no register tokens, or four (lesson 04)",
    "timesteps": "uniform or logit-normal timesteps (lesson 05)",
    "zero-init": "adaLN-Zero, or its zeros overwritten by a second initialization (lesson 03)",
    "qk-norm": "attention without or with QK-norm",
    "norm": "LayerNorm or RMSNorm",
}
METRICS = ("validation_loss", "class_accuracy", "frechet_distance")


@dataclass(frozen=True)
class Settings:
    """What all variants of an experiment share."""

    data: str = "fashion-mnist"
    """The data set; there must be a classifier for it."""
    steps: int = 500
    """Optimizer steps of each training."""
    batch_size: int = 64
    """Images in a step."""
    lr: float = 2e-3
    """The highest learning rate."""
    width: int = 64
    """Features of a token."""
    depth: int = 3
    """How many blocks."""
    samples: int = 500
    """Images sampled from each trained model for its evaluation."""
    cfg: float = 2.0
    """Guidance scale at which they are sampled."""
    solver_steps: int = 10
    """Steps of AB2 from noise to image."""


def run_variant(variant: Variant, seed: int, settings: Settings) -> dict[str, float]:
    """Train one variant with one seed and measure its averaged weights: one row of the table."""
    dataset = load_dataset(settings.data, "train")
    torch.manual_seed(seed)
    channels, *shape = dataset.images.shape[1:]
    shared = {"width": settings.width, "depth": settings.depth, "heads": 4, "num_classes": len(dataset.class_names)}
    model = DiT(DiTConfig(image_size=tuple(shape), channels=channels, **shared | variant.model))
    if variant.undo_zeros:
        undo_zeros(model)
    ema = EMA(model, decay=0.999)
    config = TrainConfig(steps=settings.steps, batch_size=settings.batch_size, lr=settings.lr, seed=seed)
    for _ in train(model, dataset, config, flow=RectifiedFlow(variant.timesteps), ema=ema):
        pass
    return {"variant": variant.name, "seed": seed, "steps": settings.steps} | measure(ema.model, settings)


def undo_zeros(model: nn.Module) -> None:
    """The bug: a second initialization, over the whole model, that overwrites the zeros of adaLN-Zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


@torch.no_grad()
def measure(model: DiT, settings: Settings) -> dict[str, float]:
    """The loss on test images, its mean over t and at each of `TIMES`, and the classifier's metrics of samples."""
    judge, losses = load_classifier(settings.data), losses_on_test_images(model, settings.data)
    labels = torch.arange(settings.samples) % model.config.num_classes
    sampler = Sampler(model, settings.solver_steps, "ab2", settings.cfg)
    drawn = sampler.sample(settings.samples, labels, seed=0)
    real, ours = real_features(settings.data), in_batches(judge.features, drawn)
    return {
        "validation_loss": mean(losses.values()),
        "class_accuracy": class_accuracy(judge, drawn, labels),
        "frechet_distance": frechet_distance(ours, real),
    } | losses


@torch.no_grad()
def losses_on_test_images(model: DiT, data: str) -> dict[str, float]:
    """The loss on a thousand test images at each of `TIMES`, with the same noise for everybody."""
    test = load_dataset(data, "test")
    x, y = to_float(test.images[:1000]), test.labels[:1000]
    noise, losses = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)), {}
    for value in TIMES:
        t = torch.full((len(x),), value)
        velocity = model(interpolate(x, noise, t), t, y)
        losses[f"loss_at_{value:.2f}"] = (velocity - velocity_target(x, noise)).square().mean().item()
    return losses


@cache
def real_features(data: str) -> Tensor:
    """The classifier's features of all test images: (n, d)."""
    return in_batches(load_classifier(data).features, load_dataset(data, "test").images)


def run_experiment(name: str, seeds: int, settings: Settings, path: Path) -> Iterator[dict]:
    """Run what is missing in the table at `path`, one training at a time, and yield each new row once it is written.

    The same training may stand in another experiment's table beside it: then its numbers are taken from there.
    Raises ValueError for an unknown name, or a table made with another number of steps.
    """
    variants = {variant.name: variant for variant in known(EXPERIMENTS, name, "experiment")}
    table = ResumableTable(path, ("variant", "seed"), sort=True, steps=settings.steps)

    def compute(variant: str, seed: int) -> dict:
        found = _found(variants[variant], seed, settings, path)
        return found or run_variant(variants[variant], seed, settings)

    return table.fill(((variant, seed) for seed in range(seeds) for variant in variants), compute)


def _found(variant: Variant, seed: int, settings: Settings, path: Path) -> dict | None:
    """The row of the same training in another experiment's table, under this variant's name."""
    for other, variants in EXPERIMENTS.items():
        table = path.parent / f"{other}.csv"
        names = [v.name for v in variants if v.key() == variant.key()]
        if names and table != path and table.exists():
            for row in read_table(table):
                if (row["variant"], row["seed"], row["steps"]) == (names[0], seed, settings.steps):
                    return row | {"variant": variant.name}
    return None


def load_experiment(name: str) -> list[dict]:
    """The shipped results of an experiment: a row for each training run.

    Keys: variant, seed, steps, validation_loss (mean over t), class_accuracy in [0, 1], frechet_distance (in the
    features of the shipped classifier), and loss_at_0.05 to loss_at_0.95, the loss on test images at these times.
    Raises FileNotFoundError where none was shipped.
    """
    path = data_root() / "experiments" / f"{name}.csv"
    if not path.exists():
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.csv"))) or "none"
        raise FileNotFoundError(f"no results of an experiment {name!r} are shipped: there is {there}")
    return read_table(path)


def paired_difference(rows: list[dict], metric: str, a: str, b: str) -> tuple[float, float]:
    """How much larger `metric` is for variant a than for variant b: (mean, half width of the 95 % interval).

    The differences of pairs with one seed are taken as normally distributed (Student's t). Where the interval holds 0,
    nothing was measured. Raises ValueError for fewer than two pairs.
    """
    values = {(row["variant"], row["seed"]): row[metric] for row in rows}
    seeds = sorted(seed for variant, seed in values if variant == a and (b, seed) in values)
    if len(seeds) < 2:
        raise ValueError(f"{len(seeds)} seeds of both {a!r} and {b!r}: a spread needs at least two")
    differences = [values[a, seed] - values[b, seed] for seed in seeds]
    quantile = STUDENT.get(len(seeds) - 1, 2.0)
    return mean(differences), quantile * stdev(differences) / math.sqrt(len(seeds))


@dataclass
class Paired:
    """Train variants that differ in one thing, with paired seeds, and compare them."""

    name: tyro.conf.Suppress[str]
    """A key of `EXPERIMENTS`."""
    seeds: int = 5
    """How many training runs of each variant."""
    out: Path | None = None
    """The table; runs/experiments/NAME.csv unless given."""
    settings: Settings = field(default_factory=Settings)
    """What all variants share."""

    def run(self) -> None:
        """Train what is missing, print each row, compare."""
        path = self.out or Path("runs") / "experiments" / f"{self.name}.csv"
        start = time.perf_counter()
        for row in run_experiment(self.name, self.seeds, self.settings, path):
            numbers = ", ".join(f"{metric} {row[metric]:.4g}" for metric in METRICS)
            print(f"{row['variant']}, seed {row['seed']}: {numbers} ({time.perf_counter() - start:.0f} s)", flush=True)
        rows = read_table(path)
        *others, base = [variant.name for variant in EXPERIMENTS[self.name]]
        print(f"{path}: {self.settings.steps} steps, {self.seeds} seeds")
        for metric in METRICS:
            for name in (*others, base):
                line = f"  {metric:<18}{name:<16}{mean(row[metric] for row in rows if row['variant'] == name):9.4g}"
                if name != base and self.seeds > 1:
                    difference, half = paired_difference(rows, metric, name, base)
                    line += f"   minus {base}: {difference:+.3g} +- {half:.2g} (95 %, paired)"
                print(line)
