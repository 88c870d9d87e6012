"""`python -m dit_course experiment bugs`: what each planted bug does to a training (lesson 12, `bugs.csv`, `bugs.npz`).

About half an hour on two cores.
"""

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from dit_course.checkpoints import load_classifier
from dit_course.data import atomic_write, data_root, load_dataset
from dit_course.evaluation import class_accuracy, frechet_distance, in_batches
from dit_course.studies.bugs.code import right_code
from dit_course.studies.bugs.planted import BUGS, find_bug, plant
from dit_course.studies.experiments import real_features
from dit_course.studies.recipes import RECIPES
from dit_course.studies.table import ResumableTable, read_table

RIGHT = "no bug"
SHOWN = 20  # samples that are kept for the lesson, two of each class
BATCH = {"time_along_width": 28}  # this one is seen where the batch is as large as the pictures are wide


@dataclass
class Symptoms:
    """Train the three-minute network with each planted bug, and keep its losses, its samples and their scores."""

    steps: int = 600
    """Optimizer steps of each training."""
    samples: int = 300
    """Samples that are scored."""
    out: Path = Path("runs/experiments/bugs.csv")
    """The table; losses and pictures go to a .npz file beside it."""

    def run(self) -> None:
        """Train what is missing, print each row."""
        table = ResumableTable(self.out, ("name",), steps=self.steps)
        for row in table.fill([(RIGHT,), *((bug.name,) for bug in BUGS)], self.measure):
            print(*row.values(), flush=True)
        print(f"Written: {self.out} and {self.out.with_suffix('.npz')}")

    def measure(self, name: str) -> dict:
        """One row; its pictures and losses join the archive."""
        losses, pictures, labels = trained(name, self.steps, self.samples)
        judge = load_classifier("fashion-mnist")
        self._keep(name, losses, pictures)
        features = in_batches(judge.features, pictures)
        return {
            "name": name,
            "steps": self.steps,
            "loss": round(losses[-100:].mean().item(), 4),
            "class_accuracy": round(class_accuracy(judge, pictures, labels), 4),
            "frechet_distance": round(frechet_distance(features, real_features("fashion-mnist")), 2),
        }

    def _keep(self, name: str, losses: Tensor, pictures: Tensor) -> None:
        path, file = self.out.with_suffix(".npz"), io.BytesIO()
        arrays = dict(np.load(path)) if path.exists() else {}
        arrays[f"{name}/losses"] = losses.half().numpy()
        arrays[f"{name}/pictures"] = (pictures[:SHOWN] * 255).round().byte().numpy()
        np.savez_compressed(file, **arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, file.getvalue())


def trained(name: str, steps: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Train with a bug and sample with it: losses (steps,), pictures (count, 1, 28, 28) in [0, 1], labels (count,)."""
    code = right_code() if name == RIGHT else plant(name)
    only_samples = name == RIGHT or all(room == "sampling" for room, *_ in find_bug(name).patches)
    losses, weights = _trained(RIGHT if only_samples else name, steps)
    model = code.DiT(_config(code)).eval()
    model.load_state_dict(weights)
    labels = torch.arange(count) % 10
    return losses, code.Sampler(model, steps=20, cfg=2.5).sample(count, labels, seed=0), labels


@lru_cache(maxsize=1)
def _trained(name: str, steps: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Losses and averaged weights of a training with the code of this name."""
    code = right_code() if name == RIGHT else plant(name)
    images, labels = load_dataset("fashion-mnist")
    torch.manual_seed(0)
    model = code.DiT(_config(code))
    ema = code.EMA(model, decay=0.9999)
    flow, batch = code.RectifiedFlow("logit_normal"), BATCH.get(name, 64)
    lr = RECIPES["three-minutes"].train.lr
    losses = list(code.training_loop(model, flow, images, labels, steps, batch_size=batch, lr=lr, ema=ema))
    return torch.stack(losses), ema.model.state_dict()


def _config(code: SimpleNamespace):
    return code.DiTConfig(image_size=28, channels=1, **RECIPES["three-minutes"].model)


def load_symptoms(name: str) -> SimpleNamespace:
    """What was seen of a bug, as shipped: `losses` (steps,), `pictures` (20, 1, 28, 28) in [0, 1], and its scores.

    name: a bug's, or "no bug". Raises FileNotFoundError where nothing was shipped.
    """
    folder = data_root() / "experiments"
    rows = {row["name"]: row for row in read_table(folder / "bugs.csv")}
    with np.load(folder / "bugs.npz") as arrays:
        losses = torch.from_numpy(arrays[f"{name}/losses"]).float()
        pictures = torch.from_numpy(arrays[f"{name}/pictures"]).float() / 255
    return SimpleNamespace(losses=losses, pictures=pictures, **rows[name])
