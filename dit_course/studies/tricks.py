"""What each trick buys: the three-minute network (lesson 06) with one thing changed at a time, and paired seeds.

`python -m dit_course experiment tricks` fills `tricks.csv`, a row for each training, and goes on where it was stopped.
`experiment registers` and others like it run one pair of variants and share that table.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import torch

from dit_course.data import load_dataset
from dit_course.distributed.train_config import TrainConfig
from dit_course.dit import DiT, DiTConfig
from dit_course.ema import EMA
from dit_course.flow import RectifiedFlow
from dit_course.guards import known
from dit_course.studies.experiments import (
    losses_on_test_images,
    measure,
    paired_difference,
    smallest_effect,
    undo_zeros,
)
from dit_course.studies.recipes import RECIPES
from dit_course.studies.table import ResumableTable, read_table
from dit_course.trainer import train

RECIPE = RECIPES["three-minutes"]
BASE, RAW = "three-minute network", "raw weights"
SCALES = (1.0, 2.5)
METRICS = ("validation_loss", *(f"{name}_{cfg:g}" for name in ("class_accuracy", "frechet_distance", "recall")
                                for cfg in SCALES))  # fmt: skip


@dataclass(frozen=True)
class Trick:
    """One way to train. model: what differs in the `DiTConfig`. pace: its share of the steps, for equal time."""

    model: dict = field(default_factory=dict)
    timesteps: str = "logit_normal"
    time_scale: float = 1000.0
    undo_zeros: bool = False
    pace: float = 1.0


TRICKS = {
    BASE: Trick(),
    "4 registers": Trick({"registers": 4}),
    "uniform timesteps": Trick(timesteps="uniform"),
    "QK-norm": Trick({"qk_norm": True}),
    "RMSNorm": Trick({"norm": "rms"}),
    "time scale of 1": Trick(time_scale=1.0),
    "zeros undone": Trick(undo_zeros=True),
    "label dropout 5%": Trick({"label_dropout": 0.05}),
    "label dropout 20%": Trick({"label_dropout": 0.2}),
    "patches of 4 x 4": Trick({"patch_size": 4}, pace=0.37),  # 2 CPU cores: a step takes 2.7 times as long
}
# the studies that run a part of the table: their name, the tricks, a line for people
PARTS = {
    "registers": (("4 registers",), "no register tokens, or four (lesson 04)"),
    "timesteps": (("uniform timesteps",), "uniform or logit-normal timesteps (lesson 05)"),
    "zero-init": (("zeros undone",), "adaLN-Zero, or its zeros overwritten by a second initialization (lesson 03)"),
    "qk-norm": (("QK-norm",), "attention without or with QK-norm (lesson 02)"),
    "norm": (("RMSNorm",), "LayerNorm or RMSNorm (lesson 03)"),
    "time-scale": (("time scale of 1",), "the time embedding with or without its factor of 1000 (lesson 03)"),
    "label-dropout": (("label dropout 5%", "label dropout 20%"), "labels hidden in 5, 10 or 20% (lesson 08)"),
    "patch-size": (("patches of 4 x 4",), "patches of 7 or 4 pixels, for an equal time (lesson 01)"),
}


@dataclass
class Tricks:
    """Train the three-minute network without or with each trick, and compare with what the course does."""

    seeds: int = 5
    """How many training runs of each."""
    steps: int = 1527
    """Optimizer steps of each training: about three minutes on two cores."""
    samples: int = 2000
    """Images sampled from each trained model, at each guidance scale."""
    solver_steps: int = 10
    """Steps of AB2 from noise to image."""
    out: Path = Path("runs/experiments/tricks.csv")
    """The table."""
    only: tuple[str, ...] = tuple(TRICKS)[1:]
    """Which tricks."""

    def run(self) -> None:
        """Train what is missing, print each row, compare."""
        for name in self.only:
            known(TRICKS, name, "trick")
        names = (BASE, *self.only)
        table = ResumableTable(self.out, ("variant", "seed"))
        for row in table.fill(((name, seed) for seed in range(self.seeds) for name in names), self.measure):
            print(f"{row['variant']}, seed {row['seed']}: "
                  f"{', '.join(f'{metric} {row[metric]:.4g}' for metric in METRICS)}", flush=True)  # fmt: skip
        names = (*names, RAW)
        rows = [row for row in with_raw(read_table(self.out)) if row["variant"] in names and row["seed"] < self.seeds]
        for name in names:
            print(name, *(_compared(rows, metric, name) for metric in METRICS), sep="\n  ")
        if self.seeds > 1:
            print(f"The smallest difference that {self.seeds} pairs would show in four of five repetitions:")
            print(*(f"  {metric:<22}{smallest_effect(rows, metric, BASE):9.2g}" for metric in METRICS), sep="\n")

    def measure(self, name: str, seed: int) -> dict:
        """One row: a training, the loss by t, and samples of its averaged weights; of the raw ones for the base."""
        trick, start = TRICKS[name], time.perf_counter()
        steps = round(self.steps * trick.pace)
        model, ema = trained(trick, seed, steps)
        row = {"variant": name, "seed": seed, "steps": steps, "seconds_a_step": (time.perf_counter() - start) / steps}
        found = self._metrics(ema.model)
        raw = self._metrics(model.eval()) if name == BASE else {}
        raw = {f"raw_{metric}": raw.get(metric, float("nan")) for metric in METRICS}
        return row | {metric: found.pop(metric) for metric in METRICS} | found | raw

    def _metrics(self, model: DiT) -> dict[str, float]:
        """The losses on test images, and the judge's numbers of samples at each guidance scale."""
        found = losses_on_test_images(model, RECIPE.data)
        for cfg in SCALES:
            measures = measure(model, RECIPE.data, self.samples, cfg, self.solver_steps)
            found |= {f"{metric}_{cfg:g}": value for metric, value in measures.items()}
        return found


def trained(trick: Trick, seed: int, steps: int) -> tuple[DiT, EMA]:
    """The recipe of three minutes with one thing changed. Seed 3 sees the same images, noise and times in all."""
    dataset = load_dataset(RECIPE.data, "train")
    torch.manual_seed(seed)
    channels, *shape = dataset.images.shape[1:]
    config = {"image_size": tuple(shape), "channels": channels, "num_classes": len(dataset.class_names)}
    model = DiT(DiTConfig(**config | RECIPE.model | trick.model))
    if trick.undo_zeros:
        undo_zeros(model)
    model.time_embed.frequencies *= trick.time_scale / 1000  # the angles are 1000 t times the frequencies
    ema = EMA(model, RECIPE.ema_decay)
    settings = TrainConfig(steps=steps, lr=RECIPE.train.lr, seed=seed)
    for _ in train(model, dataset, settings, flow=RectifiedFlow(trick.timesteps), ema=ema):
        pass
    return model, ema


def with_raw(rows: list[dict]) -> list[dict]:
    """The rows, and for each of the base another one of its raw weights, as a variant of its own."""
    raw = [{**row, "variant": RAW} | {name: row[f"raw_{name}"] for name in METRICS} for row in rows
           if row["variant"] == BASE]  # fmt: skip
    return [*rows, *raw]


def _compared(rows: list[dict], metric: str, name: str) -> str:
    values = [row[metric] for row in rows if row["variant"] == name]
    line = f"{metric:<22}{mean(values):9.4g}"
    if name != BASE and len(values) > 1:
        difference, half = paired_difference(rows, metric, name, BASE)
        line += f"   minus {BASE}: {difference:+.3g} +- {half:.2g} (95%, {len(values)} pairs)"
    return line
