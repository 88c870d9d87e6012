"""`python -m dit_course experiment few-steps`: what does an evaluation buy, with and without distillation? (lesson 11)

About ten minutes on two cores; the table ships as `few-steps.csv`.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from dit_course.checkpoints import load_classifier, load_pretrained
from dit_course.data import load_dataset
from dit_course.evaluation import measure
from dit_course.few_steps import FewStepSampler
from dit_course.sampling import Sampler
from dit_course.studies.table import ResumableTable

CFG = 2.5
KEYS = [("student", 1), ("student", 2), ("student", 4)]
KEYS += [(solver, count) for count in (2, 4, 8, 16, 30) for solver in ("euler", "ab2")]


@dataclass
class FewSteps:
    """What does an evaluation buy? The shipped student and its teacher, guided."""

    out: Path = Path("runs/experiments/few-steps.csv")
    """The table."""
    samples: int = 1000
    """Samples for each row."""
    seed: int = 0
    """Of the noise."""

    def run(self) -> None:
        """Measure what is missing, print each row."""
        table = ResumableTable(self.out, ("solver", "evaluations"), seed=self.seed, samples=self.samples)
        for row in table.fill(KEYS, self.measure):
            print(*row.values(), flush=True)
        print(f"Written: {self.out}")

    def measure(self, solver: str, evaluations: int) -> dict:
        """One row. Guided steps of the teacher cost two evaluations, those of the student one."""
        if solver == "student":
            sampler = FewStepSampler(load_pretrained("fashion-mnist-few-steps"), evaluations, CFG)
        else:
            sampler = Sampler(load_pretrained("fashion-mnist"), evaluations // 2, solver, CFG)
        labels = torch.arange(self.samples) % 10
        images = sampler.sample(self.samples, labels, seed=self.seed)
        real = load_dataset("fashion-mnist", split="test").images
        real = real[torch.randperm(len(real), generator=torch.Generator().manual_seed(0))]
        numbers = measure(load_classifier("fashion-mnist"), images, labels, real).tolist()
        names = ("class_accuracy", "frechet_distance", "precision", "recall")
        return {"seed": self.seed, "samples": self.samples, "solver": solver, "evaluations": evaluations} | {
            name: round(number, 4) for name, number in zip(names, numbers, strict=True)
        }
