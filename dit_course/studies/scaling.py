"""`python -m dit_course experiment scaling`: do larger networks sample better? (lesson 10, `scaling.csv`)"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import mean

import torch

from dit_course.data import load_dataset
from dit_course.distributed.train_config import TrainConfig
from dit_course.dit import DiT
from dit_course.ema import EMA
from dit_course.scaling import PATCH_SIZES, SIZES, count_multiply_adds, count_parameters, scaled_config, training_flops
from dit_course.studies.experiments import losses_on_test_images, measure
from dit_course.studies.table import ResumableTable, read_table
from dit_course.trainer import train


@dataclass(frozen=True)
class ScalingSettings:
    """What all training runs share."""

    steps: int = 1000
    """Optimizer steps."""
    batch_size: int = 32
    """Images in a step."""
    lr: float = 8e-3
    """The highest learning rate, one for all: 500 steps of tiny/7 and large/7 with 2e-3, 4e-3 and 8e-3 were best with
    the highest, both of them (loss 0.507, 0.448, 0.407 and 0.381, 0.351, 0.341)."""
    samples: int = 1000
    """Images sampled from each trained network for its evaluation, without guidance, as in the paper's figure."""
    solver_steps: int = 10
    """Steps of AB2 from noise to image."""


@dataclass
class Scaling:
    """Do larger networks sample better? Train sizes and patch sizes with paired seeds; resumes."""

    seeds: int = 3
    """How many training runs of each network."""
    out: Path = Path("runs/experiments/scaling.csv")
    """The table: a row is added as soon as a training run is done."""
    sizes: tuple[str, ...] = tuple(SIZES)
    """Which sizes."""
    patches: tuple[int, ...] = PATCH_SIZES
    """Which patch sizes, in pixels."""
    settings: ScalingSettings = field(default_factory=ScalingSettings)
    """What all training runs share."""

    def run(self) -> None:
        """Train what is missing, print each row and, at the end, the means."""
        for row in self.rows():
            print(
                f"{row['size']}/{row['patch']}, seed {row['seed']}: {row['training_flops']:.2g} FLOPs, loss "
                f"{row['validation_loss']:.4f}, accuracy {row['class_accuracy']:.1%}, Frechet "
                f"{row['frechet_distance']:.2f} ({row['seconds']:.0f} s of training)",
                flush=True,
            )
        rows = read_table(self.out)
        for size, patch in dict.fromkeys((row["size"], row["patch"]) for row in rows):
            same = [row for row in rows if (row["size"], row["patch"]) == (size, patch)]
            loss, distance = (mean(row[name] for row in same) for name in ("validation_loss", "frechet_distance"))
            print(f"{size}/{patch}: {len(same)} seeds, mean loss {loss:.4f}, mean Frechet distance {distance:.2f}")

    def rows(self) -> Iterator[dict]:
        """Run what is missing in the table, and yield each new row once it is written.

        Raises ValueError for a table made with other settings, or an unknown size.
        """
        shared = {"steps": self.settings.steps, "batch_size": self.settings.batch_size}
        table = ResumableTable(self.out, ("size", "patch", "seed"), **shared)
        keys = product(range(self.seeds), self.sizes, self.patches)
        wanted = ((size, patch, seed) for seed, size, patch in keys)
        return table.fill(wanted, lambda *key: train_and_measure(*key, self.settings))


def train_and_measure(size: str, patch: int, seed: int, settings: ScalingSettings) -> dict:
    """Train one network with one seed and measure its averaged weights: one row of the table.

    Equal seeds see the same images, noise and times in the same order, whatever the size.
    """
    config = scaled_config(size, patch)
    torch.manual_seed(seed)
    model = DiT(config)
    ema = EMA(model, decay=0.999)
    how = TrainConfig(steps=settings.steps, batch_size=settings.batch_size, lr=settings.lr, seed=seed, precision="fp32")
    start = time.perf_counter()
    for step in train(model, load_dataset("fashion-mnist", "train"), how, ema=ema):
        if step.index % 200 == 0:
            print(f"  {size}/{patch}, seed {seed}: step {step.index}, {time.perf_counter() - start:.0f} s", flush=True)
    losses = losses_on_test_images(ema.model, "fashion-mnist")
    judged = measure(ema.model, "fashion-mnist", settings.samples, cfg=1.0, solver_steps=settings.solver_steps)
    facts = {
        "size": size,
        "width": config.width,
        "depth": config.depth,
        "heads": config.heads,
        "patch": patch,
        "parameters": sum(count_parameters(config).values()),
        "multiply_adds": sum(count_multiply_adds(config).values()),
        "training_flops": training_flops(config, settings.steps * settings.batch_size),
        "seed": seed,
        "steps": settings.steps,
        "batch_size": settings.batch_size,
    }
    metrics = {name: judged[name] for name in ("class_accuracy", "frechet_distance")}
    return (
        facts
        | {"validation_loss": losses.pop("validation_loss")}
        | metrics
        | losses
        | {"seconds": round(step.seconds, 1)}
    )
