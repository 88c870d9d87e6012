"""`python -m dit_course evaluate`: metrics of a model's samples, by a protocol that its JSON result states."""

import hashlib
import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from dit_course import __version__
from dit_course.checkpoints import load_classifier, load_pretrained, weights_file
from dit_course.commands._inception import NAME, inception_features
from dit_course.commands._network import make_sampler
from dit_course.data import Dataset, atomic_write, load_dataset
from dit_course.dit import DiT
from dit_course.evaluation import (
    MOST_NEIGHBOURS,
    class_accuracy,
    frechet_distance,
    in_batches,
    measure,
    nearest_neighbours,
    pixel_distance,
)
from dit_course.few_steps import FewStepDiT
from dit_course.generation import BaseSampler
from dit_course.sampling import Sampler

STEPS = 15  # of all models but students: 30 evaluations where guided
BATCH = 50  # images sampled at once: more do not fit a small processor's cache
LOOKED_UP = 500  # samples whose nearest training image is searched
MEASURES = ("class_accuracy", "frechet_distance", "precision", "recall")
ROWS = {
    "class_accuracy": ("in the class asked for", "{:.1%}"),
    "frechet_distance": ("Frechet distance, the judge's features", "{:.2f}"),
    "frechet_inception_distance": ("Frechet distance, Inception's (FID)", "{:.2f}"),
    "precision": ("precision: look like real ones", "{:.1%}"),
    "recall": ("recall: real ones they cover", "{:.1%}"),
    "nearest_training_distance": ("to the nearest training picture", "{:.3f}"),
}


@dataclass
class Evaluate:
    """Measure a model: accuracy, Frechet distance, precision, recall, copies; judged by the shipped classifier.

    The teacher of a few-step student is measured beside it, with its usual steps.
    """

    model: str = "fashion-mnist"
    """A shipped model, a run's folder, or a .safetensors file."""
    data: str | None = None
    """The data set it is compared with; by default the one it was trained on."""
    samples: int = 1000
    """How many samples, as many of each class."""
    cfg: float = 2.0
    """Guidance scale."""
    cfg_interval: tuple[float, float] = (0.0, 1.0)
    """The times t between which guidance acts."""
    steps: int | None = None
    """Steps from noise to image; by default 15, 1 for a few-step student."""
    solver: Literal["euler", "heun", "ab2"] = "ab2"
    """The ODE solver; a few-step student needs none."""
    seed: int = 0
    """The same seed gives the same numbers."""
    out: Path | None = None
    """Where the result goes: OUT.json, and its table as OUT.md; by default runs/evaluation-MODEL."""
    judge: str | None = None
    """The data set whose shipped classifier judges, fashion-mnist or cifar10; by default that of the data."""
    inception: bool = False
    """Also give the FID, in Inception's features; needs pip install torch-fidelity."""
    inception_weights: Path | None = None
    """The file of Inception's weights, where there is no network."""

    def run(self) -> None:
        """Sample, measure, print, write."""
        print(f"drawing {self.samples} pictures ...", flush=True)
        result = self.measure()
        table = _table(result)
        out = self.out or Path("runs") / f"evaluation-{Path(self.model).stem}"
        out = out.with_suffix(".json")
        atomic_write(out, (json.dumps(result, indent=2) + "\n").encode())
        atomic_write(out.with_suffix(".md"), table.encode())
        print(table)
        if self.samples < 1000:
            print("So few samples say little about a distribution: take --samples 1000.")
        print(f"Written: {out} and {out.with_suffix('.md')}")

    def measure(self) -> dict:
        """Sample and measure; the result states its protocol."""
        if self.samples < 4:  # three neighbours and oneself
            raise ValueError(f"samples = {self.samples}, but a distribution needs at least 4 (1000 is usual)")
        model, data = load_pretrained(self.model), self.data or trained_on(self.model)
        judge = load_classifier(self.judge or data)
        test, training = (mixed(load_dataset(data, split)) for split in ("test", "train"))
        if model.config.num_classes != len(test.class_names):
            raise ValueError(
                f"{self.model} knows {model.config.num_classes} classes, {data} has {len(test.class_names)}"
            )
        if judge.config["channels"] != test.images.shape[1] or model.config.channels != test.images.shape[1]:
            raise ValueError(
                f"{data} has {test.images.shape[1]} channel(s), the model draws {model.config.channels}, and the judge "
                f"looks at {judge.config['channels']}: compare a model with the --data it was trained on"
            )
        inception = inception_features(self.inception_weights) if self.inception else None
        sampler = make_sampler(model, self.steps, self.cfg, STEPS, self.solver, self.cfg_interval)
        start = time.perf_counter()
        pictures, labels = draw(sampler, self.samples, self.seed)
        seconds = time.perf_counter() - start
        # what a perfect model would get with so few samples: as many real pictures, of the training split
        order = torch.randperm(len(training.images), generator=torch.Generator().manual_seed(self.seed))
        others = order[: self.samples]
        drawn = named(measure(judge, pictures, labels, test.images))
        beside = self.beside(model, judge, test.images)
        real = named(measure(judge, training.images[others], training.labels[others], test.images))
        real["class_accuracy"] = class_accuracy(judge, *test)  # the judge has seen the training pictures
        for scores, images in ((drawn, pictures), (real, test.images)):
            images = images[:LOOKED_UP]
            nearest = training.images[nearest_neighbours(images, training.images)]
            scores["nearest_training_distance"] = pixel_distance(images, nearest).median().item()
        if inception:
            of_test = in_batches(inception, test.images, BATCH)
            for scores, images in ((drawn, pictures), (real, training.images[others])):
                scores["frechet_inception_distance"] = frechet_distance(in_batches(inception, images, BATCH), of_test)
        by_class = {
            name: class_accuracy(judge, pictures[labels == i], labels[labels == i])
            for i, name in enumerate(test.class_names)
            if (labels == i).any()
        }
        return {
            **drawn,
            **beside,
            "real_pictures": real,
            "class_accuracy_by_class": by_class,
            "seconds": round(seconds, 1),
            "protocol": self.protocol(data, sampler, len(test.images)),
        }

    def beside(self, model: DiT, judge: nn.Module, real: Tensor) -> dict:
        """The teacher of a student, measured alike; nothing for another model, or where the teacher is not here."""
        name = described(self.model).get("teacher") if isinstance(model, FewStepDiT) else None
        if name is None:
            return {}
        try:
            sampler = Sampler(load_pretrained(name), STEPS, Evaluate.solver, self.cfg)
        except FileNotFoundError:
            return {}
        scores = named(measure(judge, *draw(sampler, self.samples, self.seed), real))
        return {"teacher": {"model": name, "evaluations_per_sample": count_evaluations(sampler), **scores}}

    def protocol(self, data: str, sampler: BaseSampler, reference: int) -> dict:
        """All that the numbers depend on: results with different protocols are not comparable."""
        judge = f"{self.judge or data}-classifier"
        return {
            "model": self.model,
            "model_sha256": sha256(weights_file(self.model)),
            "data": data,
            "samples": self.samples,
            "seed": self.seed,
            "labels": "all classes in turn",
            "cfg": self.cfg,
            "cfg_interval": list(self.cfg_interval),
            "solver": self.solver if isinstance(sampler, Sampler) else None,
            "steps": sampler.steps,
            "evaluations_per_sample": count_evaluations(sampler),
            "pictures": "rounded to bytes, never resized or compressed",
            "reference": {"split": "test", "count": reference, "flipped": False},
            "real_pictures": "accuracy and copies: test split; the rest: as many of the training split",
            "neighbours": {"k": 3, "count": min(self.samples, reference, MOST_NEIGHBOURS)},
            "looked_up": {"split": "train", "count": min(self.samples, LOOKED_UP), "statistic": "median"},
            "features": judge,
            "judge_sha256": sha256(weights_file(judge)),
            "inception": NAME if self.inception else None,
            "versions": {"dit_course": __version__, "torch": torch.__version__, "python": platform.python_version()},
        }


def trained_on(model: str) -> str:
    """The data set that a model's description names; ValueError when it names none."""
    training = described(model)
    if "data" not in training:
        raise ValueError(f"the description of {model} does not say what it was trained on: give --data")
    return training["data"]


def described(model: str) -> dict:
    """What the JSON beside a model's weights says about its training."""
    return json.loads(weights_file(model).with_suffix(".json").read_text()).get("training", {})


def mixed(dataset: Dataset) -> Dataset:
    """The same in random order, if it comes class by class: the front of a folder would be one class alone."""
    if (dataset.labels.diff() < 0).any():
        return dataset
    order = torch.randperm(len(dataset.labels), generator=torch.Generator().manual_seed(0))
    return Dataset(dataset.images[order], dataset.labels[order], dataset.class_names, dataset.name)


def draw(sampler: BaseSampler, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Samples (count, c, h, w), rounded to bytes as a file would hold them, and their labels: all classes in turn."""
    labels = torch.arange(count) % sampler.model.config.num_classes
    pictures = sampler.sample(count, labels, seed=seed, batch_size=BATCH)
    return (pictures * 255).round().byte(), labels


def named(scores: Tensor) -> dict[str, float]:
    """The result of `measure`, by name."""
    return dict(zip(MEASURES, scores.tolist(), strict=True))


def sha256(file: Path) -> str:
    """The fingerprint of a file, in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def count_evaluations(sampler: BaseSampler) -> int:
    """Network evaluations for one sample, counted while one is made: a guided step costs two."""
    seen = []
    hook = sampler.model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    try:
        sampler.sample(1, seed=0)
    finally:
        hook.remove()
    return sum(seen)


def _table(result: dict) -> str:
    """Markdown: the metrics of samples beside those of real images, and their protocol."""
    protocol, columns = result["protocol"], {"drawn": result, "real": result["real_pictures"]}
    low, high = protocol["cfg_interval"]
    count = f"{protocol['evaluations_per_sample']} network evaluation{'s' * (protocol['evaluations_per_sample'] > 1)}"
    said = f"cfg {protocol['cfg']}, {count} each."
    if protocol["solver"]:
        said = f"cfg {protocol['cfg']} for t from {low} to {high}, {protocol['steps']} steps of {protocol['solver']}, "
        said += f"{count} each (guided ones count twice)."
    if teacher := result.get("teacher"):
        columns = {"drawn": result, "teacher": teacher, "real": result["real_pictures"]}
        said += f" Teacher: {teacher['model']}, {teacher['evaluations_per_sample']} evaluations."
    lines = [
        f"{protocol['samples']} samples of {protocol['model']}, seed {protocol['seed']}, in {result['seconds']} s:",
        said,
        "",
        f"| {'':<40} |" + "".join(f" {name:>8} |" for name in columns),
        f"|{'-' * 42}|" + f"{'-' * 9}:|" * len(columns),
    ]
    for key, (name, form) in ROWS.items():
        if key in result:
            values = [form.format(scores[key]) if key in scores else "" for scores in columns.values()]
            lines.append(f"| {name:<40} |" + "".join(f" {value:>8} |" for value in values))
    lines += ["", f"| {'in the class asked for, by class':<40} | {'drawn':>8} |", f"|{'-' * 42}|{'-' * 9}:|"]
    lines += [f"| {name:<40} | {share:>8.1%} |" for name, share in result["class_accuracy_by_class"].items()]
    return "\n".join(lines) + "\n"
