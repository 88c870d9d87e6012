"""`python -m dit_course evaluate`: how good are a model's pictures, by a protocol that its JSON result
states.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from dit_course.checkpoints import load_classifier, load_pretrained
from dit_course.data import atomic_write, load_dataset
from dit_course.evaluation import class_accuracy, frechet_distance, in_batches
from dit_course.sampling import Sampler


@dataclass
class Evaluate:
    """Measure a model: class accuracy and Frechet distance, judged by the shipped classifier."""

    model: str = "fashion-mnist"
    """A shipped model, a run's folder, or a .safetensors file."""
    data: str = "fashion-mnist"
    """The data set it is compared with; a classifier must have been shipped for it."""
    samples: int = 1000
    """How many pictures are drawn, as many of each class."""
    cfg: float = 2.0
    """Guidance scale."""
    cfg_interval: tuple[float, float] = (0.0, 1.0)
    """The times t between which guidance acts."""
    steps: int = 15
    """Steps from noise to picture."""
    solver: Literal["euler", "heun", "ab2"] = "ab2"
    """How each step is taken."""
    seed: int = 0
    """The same seed gives the same numbers."""
    out: Path | None = None
    """Also write the result as JSON."""

    def run(self) -> None:
        """Draw, judge, print, write."""
        print(f"drawing {self.samples} pictures ...", flush=True)
        result = self.measure()
        self._report(result)
        if self.out:
            atomic_write(self.out, (json.dumps(result, indent=2) + "\n").encode())

    def measure(self) -> dict:
        """Draw and judge; the result states its protocol."""
        if self.samples < 2:
            raise ValueError(f"samples = {self.samples}, but a distribution needs at least 2 (1000 is usual)")
        model, classifier = load_pretrained(self.model), load_classifier(self.data)
        sampler = Sampler(model, self.steps, self.solver, self.cfg, self.cfg_interval)
        evaluations = count_evaluations(sampler)
        test = load_dataset(self.data, "test")
        if model.config.num_classes != len(test.class_names):
            raise ValueError(
                f"{self.model} knows {model.config.num_classes} classes, {self.data} has {len(test.class_names)}"
            )
        start = time.perf_counter()
        labels = torch.arange(self.samples) % len(test.class_names)
        pictures = sampler.sample(self.samples, labels, seed=self.seed)
        seconds = time.perf_counter() - start
        real, drawn = (in_batches(classifier.features, images) for images in (test.images, pictures))
        # what a perfect model would get with so few samples: as many real pictures, of the training split
        train_images = load_dataset(self.data, "train").images
        order = torch.randperm(len(train_images), generator=torch.Generator().manual_seed(self.seed))
        chosen = order[: self.samples]
        floor = frechet_distance(in_batches(classifier.features, train_images[chosen]), real)
        correct = {
            name: class_accuracy(classifier, pictures[labels == i], labels[labels == i])
            for i, name in enumerate(test.class_names)
            if (labels == i).any()
        }
        protocol = asdict(self) | {
            "out": None,
            "evaluations_per_sample": evaluations,
            "reference": "test split",
            "features": f"{self.data}-classifier",
            "real_accuracy": class_accuracy(classifier, *test),
        }
        return {
            "class_accuracy": class_accuracy(classifier, pictures, labels),
            "frechet_distance": frechet_distance(drawn, real),
            "frechet_distance_of_real_pictures": floor,
            "class_accuracy_by_class": correct,
            "seconds": round(seconds, 1),
            "protocol": protocol,
        }

    def _report(self, result: dict) -> None:
        protocol = result["protocol"]
        print(f"{self.samples} samples of {self.model}, seed {self.seed}, drawn in {result['seconds']} s:")
        print(f"  cfg {self.cfg} for t in {self.cfg_interval}, {self.steps} {self.solver} steps, ", end="")
        print(f"{protocol['evaluations_per_sample']} network evaluations each (guided ones counted twice)")
        real, floor = protocol["real_accuracy"], result["frechet_distance_of_real_pictures"]
        print(f"in the class asked for {result['class_accuracy']:8.1%}  (real test pictures: {real:.1%})")
        print(f"Frechet distance       {result['frechet_distance']:8.2f}  (as many real ones: {floor:.2f};", end="")
        print(" in the classifier's features, not Inception's)")
        if self.samples < 1000:
            print(
                "                                 (so few samples say little about a distribution: take --samples 1000)"
            )
        for name, accuracy in result["class_accuracy_by_class"].items():
            print(f"  {name:<22} {accuracy:7.1%}")


def count_evaluations(sampler: Sampler) -> int:
    """Network evaluations for one sample, counted while one is drawn: a guided step costs two."""
    seen = []
    hook = sampler.model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    try:
        sampler.sample(1, seed=0)
    finally:
        hook.remove()
    return sum(seen)
