"""`python -m dit_course experiment solvers`: which solver samples best? (lesson 08, `solvers.csv`)

About an hour on two busy cores.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
import tyro
from torch import Tensor

from dit_course.checkpoints import load_classifier, load_pretrained
from dit_course.evaluation import class_accuracy, frechet_distance, in_batches
from dit_course.flow import step
from dit_course.sampling import SOLVERS, Sampler, expand_time
from dit_course.studies.experiments import real_features
from dit_course.studies.table import ResumableTable

EVALUATIONS = (4, 8, 16, 32)
EXACT_STEPS = 128


def slipped(velocity, noise: Tensor, ts: Tensor, callback=None) -> Tensor:
    """Euler's steps with the times of another grid, linspace(1, 0, steps): they slip ahead, up to a whole step."""
    x, labels = noise, torch.linspace(1, 0, len(ts) - 1)
    for label, (t, t_next) in zip(labels, pairwise(ts), strict=True):
        x = step(x, velocity(x, expand_time(label, x)), t, t_next)
    return x


@cache
def exact_samples(count: int, seed: int) -> Tensor:
    """What 128 steps of `ab2` sample: (count, C, H, W) in [0, 1]."""
    model = load_pretrained("fashion-mnist")
    labels = torch.arange(count) % model.config.num_classes
    return Sampler(model, EXACT_STEPS, "ab2", cfg=1.0).sample(count, labels, seed=seed)


@dataclass
class Solvers:
    """Which solver samples best with as many function evaluations? On the shipped model, without guidance."""

    seeds: int = 2
    """How many seeds."""
    out: Path = Path("runs/experiments/solvers.csv")
    """The table."""
    samples: int = 500
    """Samples for each solver, number of evaluations and seed."""
    compared: int = 50
    """How many of them are compared with the exact ones."""

    def run(self) -> None:
        """Measure what is missing, print each row."""
        solvers = {**SOLVERS, "slipped": slipped}
        table = ResumableTable(self.out, ("seed", "solver", "evaluations"))
        keys = [(seed, name, count) for seed in range(self.seeds) for count in EVALUATIONS for name in solvers]
        for row in table.fill(keys, lambda seed, name, count: self.measure(seed, name, solvers[name], count)):
            print(*row.values(), flush=True)
        print(f"Written: {self.out}")

    def measure(self, seed: int, name: str, solver, evaluations: int) -> dict:
        """One row. distance_to_exact: root of the mean squared difference of pixels in [0, 1] to `exact_samples`.

        The Frechet distance is that to the test images, in the classifier's features.
        """
        model, judge = load_pretrained("fashion-mnist"), load_classifier("fashion-mnist")
        labels = torch.arange(self.samples) % model.config.num_classes
        steps = evaluations // 2 if name == "heun" else evaluations
        images = Sampler(model, steps, solver, cfg=1.0).sample(self.samples, labels, seed=seed)
        exact = exact_samples(min(self.compared, self.samples), seed)
        apart = (images[: len(exact)] - exact).square().mean().sqrt().item()
        features = in_batches(judge.features, images)
        return {
            "seed": seed,
            "solver": name,
            "evaluations": evaluations,
            "frechet_distance": round(frechet_distance(features, real_features("fashion-mnist")), 3),
            "class_accuracy": round(class_accuracy(judge, images, labels), 4),
            "distance_to_exact": round(apart, 4),
        }


if __name__ == "__main__":  # the command of older texts
    tyro.cli(Solvers, config=(tyro.conf.OmitArgPrefixes,)).run()
