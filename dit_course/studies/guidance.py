"""What guidance buys and what it costs: makes `data/experiments/guidance.csv` for lesson 09.

    python -m dit_course.studies.guidance --ship 1 2 5

About an hour on two cores; what is drawn is kept in `runs/tradeoff`, and a run that was stopped goes on where it was.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from dit_course.checkpoints import load_classifier, load_pretrained, weights_file
from dit_course.commands.evaluate import MEASURES, Evaluate, draw, named, sha256
from dit_course.data import atomic_write, load_dataset
from dit_course.evaluation import measure
from dit_course.sampling import Sampler


@dataclass
class Tradeoff:
    """Measure a model at several guidance scales and seeds, as a table. It may be stopped and given again."""

    model: str = "fashion-mnist"
    """A shipped model, a run's folder, or a .safetensors file."""
    data: str = "fashion-mnist"
    """The data set it is compared with."""
    scales: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0)
    """Guidance scales."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each draws its own pictures, the same noise for all scales."""
    samples: int = 1000
    """Pictures for each scale and seed."""
    out: Path = Path("data/experiments/guidance.csv")
    """The table."""
    kept: Path = Path("runs/tradeoff")
    """Where the pictures are kept."""
    ship: tuple[float, ...] = ()
    """Also write the first seed's pictures at these scales beside the table, as NPZ: lesson 09 looks at them."""

    def run(self) -> None:
        """Draw what is not there yet, measure, write."""
        rows = []
        for row in self.rows():
            rows.append(row)
            print(", ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
        text = io.StringIO()
        writer = csv.DictWriter(text, ["cfg", "seed", "samples", *MEASURES], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
        atomic_write(self.out, text.getvalue().encode())
        print(f"Written: {self.out}")
        if self.ship:
            pictures = {f"cfg {scale:g}": self.pictures(scale, self.seeds[0])[0].numpy() for scale in self.ship}
            npz = self.out.with_name(f"{self.out.stem}-samples.npz")
            atomic_write(npz, lambda path: np.savez_compressed(path, **pictures))
            print(f"Written: {npz}")

    def rows(self) -> Iterator[dict[str, float]]:
        """One for each scale and seed, measured as `evaluate` does."""
        judge, real = load_classifier(self.data), load_dataset(self.data, "test").images
        for seed in self.seeds:
            for scale in self.scales:
                scores = named(measure(judge, *self.pictures(scale, seed), real))
                yield {"cfg": scale, "seed": seed, "samples": self.samples, **scores}

    def pictures(self, scale: float, seed: int) -> tuple[Tensor, Tensor]:
        """As drawn by an earlier run of this model, or drawn now; and their labels."""
        fingerprint = sha256(weights_file(self.model))[:12]
        file = self.kept / f"{fingerprint}-cfg-{scale:g}-seed-{seed}-{self.samples}.npy"
        model = load_pretrained(self.model)
        if file.exists():
            return torch.from_numpy(np.load(file)), torch.arange(self.samples) % model.config.num_classes
        pictures, labels = draw(Sampler(model, Evaluate.steps, Evaluate.solver, scale), self.samples, seed)
        atomic_write(file, lambda path: np.save(path, pictures.numpy()))
        return pictures, labels


if __name__ == "__main__":
    tyro.cli(Tradeoff, config=(tyro.conf.OmitArgPrefixes,)).run()
