"""Which solver draws best for the same number of evaluations? Makes `data/experiments/solvers.csv` for lesson 08.

    python -m dit_course.studies.solvers

About an hour on two busy cores; rows are written as they come, and a run that was stopped goes on where it was.
"""

import csv
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from dit_course.checkpoints import load_classifier, load_pretrained
from dit_course.data import data_root, load_dataset
from dit_course.evaluation import class_accuracy, frechet_distance, in_batches
from dit_course.flow import step
from dit_course.sampling import SOLVERS, Sampler, expand_time

EVALUATIONS = (4, 8, 16, 32)
PICTURES, COMPARED, EXACT_STEPS = 500, 50, 128
FIELDS = ("seed", "solver", "evaluations", "frechet_distance", "class_accuracy", "distance_to_exact")


def slipped(velocity, noise: Tensor, ts: Tensor, callback=None) -> Tensor:
    """Euler's steps with the labels of another grid, linspace(1, 0, steps): they slip ahead, up to a whole step."""
    x, labels = noise, torch.linspace(1, 0, len(ts) - 1)
    for label, (t, t_next) in zip(labels, pairwise(ts), strict=True):
        x = step(x, velocity(x, expand_time(label, x)), t, t_next)
    return x


def experiment(file: Path, seeds: tuple[int, ...] = (0, 1)) -> None:
    """Measure every solver at every number of evaluations, without guidance, and add what is missing to the file.

    distance_to_exact: root of the mean squared difference of pixels in [0, 1] to what 128 steps of `ab2` draw from the
    same noise, over the first 50 pictures. The Frechet distance is that to the test pictures, in the features of the
    course's classifier.
    """
    model, judge = load_pretrained("fashion-mnist"), load_classifier("fashion-mnist")
    real = in_batches(judge.features, load_dataset("fashion-mnist", "test").images)
    labels = torch.arange(PICTURES) % model.config.num_classes
    done = _done(file)
    for seed in seeds:
        exact = Sampler(model, EXACT_STEPS, "ab2", cfg=1.0).sample(COMPARED, labels[:COMPARED], seed=seed)
        for evaluations in EVALUATIONS:
            for name, solver in {**SOLVERS, "slipped": slipped}.items():
                if (seed, name, evaluations) in done:
                    continue
                steps = evaluations // 2 if name == "heun" else evaluations
                pictures = Sampler(model, steps, solver, cfg=1.0).sample(PICTURES, labels, seed=seed)
                distance = frechet_distance(in_batches(judge.features, pictures), real)
                apart = (pictures[:COMPARED] - exact).square().mean().sqrt().item()
                accuracy = class_accuracy(judge, pictures, labels)
                _add(file, (seed, name, evaluations, round(distance, 3), round(accuracy, 4), round(apart, 4)))


def _done(file: Path) -> set[tuple[int, str, int]]:
    if not file.exists():
        return set()
    with file.open(newline="") as lines:
        return {(int(row["seed"]), row["solver"], int(row["evaluations"])) for row in csv.DictReader(lines)}


def _add(file: Path, row: tuple) -> None:
    new = not file.exists()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerows([FIELDS, row] if new else [row])
    print(*row, flush=True)


if __name__ == "__main__":
    experiment(data_root() / "experiments" / "solvers.csv")
