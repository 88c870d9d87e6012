"""`python -m dit_course experiment guidance`: what guidance buys and costs (lesson 09, `guidance.csv`).

About an hour on two cores. The samples are kept in `runs/guidance`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from dit_course.checkpoints import load_classifier, load_pretrained, weights_file
from dit_course.commands.evaluate import STEPS, Evaluate, draw, named, sha256
from dit_course.data import atomic_write, load_dataset
from dit_course.evaluation import measure
from dit_course.sampling import Sampler
from dit_course.studies.table import ResumableTable


@dataclass
class Guidance:
    """What does guidance buy, and what does it cost? The metrics of samples at several guidance scales."""

    model: str = "fashion-mnist"
    """A shipped model, a run's folder, or a .safetensors file."""
    data: str = "fashion-mnist"
    """The data set it is compared with."""
    scales: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0)
    """Guidance scales."""
    seeds: int = 3
    """How many seeds; each has the same noise for all scales."""
    samples: int = 1000
    """Samples for each scale and seed."""
    out: Path = Path("runs/experiments/guidance.csv")
    """The table; take another one for another model."""
    kept: Path = Path("runs/guidance")
    """Where the samples are kept."""
    ship: tuple[float, ...] = ()
    """Also write the first seed's samples at these scales beside the table, as NPZ: lesson 09 needs them."""

    def run(self) -> None:
        """Sample what is missing, measure, write."""
        table = ResumableTable(self.out, ("cfg", "seed"), samples=self.samples)
        keys = [(scale, seed) for seed in range(self.seeds) for scale in self.scales]
        for row in table.fill(keys, self.measure):
            print(", ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
        print(f"Written: {self.out}")
        if self.ship:
            images = {f"cfg {scale:g}": self.images(scale, 0)[0].numpy() for scale in self.ship}
            npz = self.out.with_name(f"{self.out.stem}-samples.npz")
            atomic_write(npz, lambda path: np.savez_compressed(path, **images))
            print(f"Written: {npz}")

    def measure(self, cfg: float, seed: int) -> dict[str, float]:
        """One row, measured as `evaluate` does."""
        judge, real = load_classifier(self.data), load_dataset(self.data, "test").images
        scores = named(measure(judge, *self.images(cfg, seed), real))
        return {"cfg": cfg, "seed": seed, "samples": self.samples, **scores}

    def images(self, scale: float, seed: int) -> tuple[Tensor, Tensor]:
        """Samples of this model and their labels, from an earlier run or made now."""
        fingerprint = sha256(weights_file(self.model))[:12]
        file = self.kept / f"{fingerprint}-cfg-{scale:g}-seed-{seed}-{self.samples}.npy"
        model = load_pretrained(self.model)
        if file.exists():
            return torch.from_numpy(np.load(file)), torch.arange(self.samples) % model.config.num_classes
        images, labels = draw(Sampler(model, STEPS, Evaluate.solver, scale), self.samples, seed)
        atomic_write(file, lambda path: np.save(path, images.numpy()))
        return images, labels


if __name__ == "__main__":  # the command of older texts
    tyro.cli(Guidance, config=(tyro.conf.OmitArgPrefixes,)).run()
