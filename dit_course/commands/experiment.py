"""`python -m dit_course experiment`: train variants with paired seeds, and compare them."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import tyro

from dit_course.studies.experiments import EXPERIMENTS, Settings, paired_difference, read_table, run_experiment

METRICS = ("validation_loss", "class_accuracy", "frechet_distance")


@dataclass
class Experiment:
    """Does it help? Train variants that differ in one thing, with paired seeds. Goes on where it was stopped."""

    name: tyro.conf.Positional[str] = "registers"
    """registers, timesteps, zero-init, qk-norm or norm."""
    seeds: int = 5
    """How many trainings of each variant."""
    out: Path | None = None
    """The table; runs/experiments/NAME.csv unless told."""
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
