"""Does it help? What studies (`dit_course experiment`) share: measures, shipped tables, paired intervals.

Variants are trained with the same seeds: seed 3 means the same images, noise and times in the same order, whatever is
varied. So they are compared pair by pair, and what the seeds have in common cancels in the difference.
"""

import math
from functools import cache
from statistics import mean, stdev

import torch
from torch import Tensor, nn

from dit_course.checkpoints import load_classifier
from dit_course.data import data_root, load_dataset, to_float
from dit_course.dit import DiT
from dit_course.evaluation import class_accuracy, frechet_distance, in_batches, precision_recall
from dit_course.flow import interpolate, velocity_target
from dit_course.sampling import Sampler
from dit_course.studies.table import read_table

TIMES = [(i + 0.5) / 10 for i in range(10)]  # where the loss on test images is measured: the middles of ten bins
BATCH = 100  # images that pass through a network at once: more do not fit a small processor's cache
# Student's t distribution by degrees of freedom: its 97.5% quantile, and its 80% quantile
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
POWER = {1: 1.376, 2: 1.061, 3: 0.978, 4: 0.941, 5: 0.920, 6: 0.906, 7: 0.896, 8: 0.889, 9: 0.883}


def undo_zeros(model: nn.Module) -> None:
    """The bug: a second initialization, over the whole model, that overwrites the zeros of adaLN-Zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


@torch.no_grad()
def measure(model: DiT, data: str, samples: int, cfg: float, solver_steps: int) -> dict[str, float]:
    """The judge's metrics of samples by AB2, the same noise for all: class_accuracy, frechet_distance and recall."""
    judge, real = load_classifier(data), real_features(data)
    labels = torch.arange(samples) % model.config.num_classes
    drawn = Sampler(model, solver_steps, "ab2", cfg).sample(samples, labels, seed=0, batch_size=BATCH)
    ours = in_batches(judge.features, drawn)
    return {
        "class_accuracy": class_accuracy(judge.head, ours, labels),
        "frechet_distance": frechet_distance(ours, real),
        "recall": precision_recall(real[:samples], ours)[1].item(),
    }


@torch.no_grad()
def losses_on_test_images(model: DiT, data: str) -> dict[str, float]:
    """The loss on a thousand test images: its mean over t, and at each of `TIMES`. All get the same noise."""
    test = load_dataset(data, "test")
    x, y = to_float(test.images[:1000]), test.labels[:1000]
    noise, losses = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)), {}
    for value in TIMES:
        t = torch.full((len(x),), value)
        parts = zip(*(part.split(BATCH) for part in (interpolate(x, noise, t), t, y)), strict=True)
        velocity = torch.cat([model(*part) for part in parts])
        losses[f"loss_at_{value:.2f}"] = (velocity - velocity_target(x, noise)).square().mean().item()
    return {"validation_loss": mean(losses.values())} | losses


@cache
def real_features(data: str) -> Tensor:
    """The classifier's features of all test images: (n, d)."""
    return in_batches(load_classifier(data).features, load_dataset(data, "test").images)


def load_experiment(name: str) -> list[dict]:
    """The shipped results of an experiment: a row for each training run.

    "tricks" has variant, seed, steps, seconds_a_step, validation_loss (mean over t), loss_at_0.05 to loss_at_0.95 (the
    loss on test images at these times), and class_accuracy in [0, 1], frechet_distance (in the features of the shipped
    classifier) and recall in [0, 1], each at guidance scales 1 and 2.5: class_accuracy_2.5.
    Raises FileNotFoundError where none was shipped.
    """
    path = data_root() / "experiments" / f"{name}.csv"
    if not path.exists():
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.csv"))) or "none"
        raise FileNotFoundError(f"no results of an experiment {name!r} are shipped: there is {there}")
    return read_table(path)


def paired_difference(rows: list[dict], metric: str, a: str, b: str) -> tuple[float, float]:
    """How much larger `metric` is for variant a than for variant b: (mean, half width of the 95% interval).

    The differences of pairs with one seed are taken as normally distributed (Student's t). Where the interval holds 0,
    nothing was measured. Raises ValueError for fewer than two pairs.
    """
    differences = _differences(rows, metric, a, b)
    quantile = STUDENT.get(len(differences) - 1, 2.0)
    return mean(differences), quantile * stdev(differences) / math.sqrt(len(differences))


def smallest_effect(rows: list[dict], metric: str, base: str) -> float:
    """The smallest true difference from `base` that such pairs would show in four of five repetitions (80% power).

    (t_0.975 + t_0.8) s / sqrt(n) for n pairs, s being the standard deviation of their differences, pooled over all
    variants (Cohen 1988, "Statistical power analysis", chapter 2).
    """
    others = dict.fromkeys(row["variant"] for row in rows if row["variant"] != base)
    differences = [_differences(rows, metric, name, base) for name in others]
    n = min(len(values) for values in differences)
    pooled = math.sqrt(mean(stdev(values) ** 2 for values in differences))
    return (STUDENT.get(n - 1, 2.0) + POWER.get(n - 1, 0.85)) * pooled / math.sqrt(n)


def _differences(rows: list[dict], metric: str, a: str, b: str) -> list[float]:
    """Variant a minus variant b, for each seed that both have."""
    values = {(row["variant"], row["seed"]): row[metric] for row in rows}
    seeds = sorted(seed for variant, seed in values if variant == a and (b, seed) in values)
    if len(seeds) < 2:
        raise ValueError(f"{len(seeds)} seeds of both {a!r} and {b!r}: a spread needs at least two")
    return [values[a, seed] - values[b, seed] for seed in seeds]
