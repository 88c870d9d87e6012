"""`python -m dit_course distill`: a few-step student of a trained DiT (lesson 11)."""

from dataclasses import dataclass, field
from pathlib import Path

from dit_course.checkpoints import load_pretrained, weights_file
from dit_course.commands._run import Run
from dit_course.commands.evaluate import sha256, trained_on
from dit_course.data import Dataset
from dit_course.distributed.train_config import TrainConfig
from dit_course.dit import DiTConfig
from dit_course.ema import EMA
from dit_course.few_steps import FewStepDiT, FewStepSampler, SelfConsistency


@dataclass
class Distill(Run):
    """Train a few-step student of a DiT, by self-consistency: one step equals two half steps.

    A run that was killed goes on when the same command is given again.
    """

    teacher: str = "fashion-mnist"
    """The DiT to learn from: a shipped model, a run's folder, or a .safetensors file. It must know classes."""
    data: str | None = None
    """The pictures to learn on; by default those that the teacher was trained on."""
    out: Path | None = None
    """The run's folder; runs/TEACHER-few-steps unless told."""
    base: float = 0.25
    """The share of each batch that learns the teacher's velocity; the rest learns from the student's own half steps."""
    shortest: int = 7
    """The shortest steps that are learned have the span (1/2)^shortest."""
    train: TrainConfig = field(default_factory=lambda: TrainConfig(weight_decay=0.0))
    """The training."""
    ema_decay: float = 0.99
    """The running average of the weights, with warm-up: it takes the half steps, and is what is saved."""
    sample_steps: int = 1
    """Evaluations from noise to picture."""

    def run(self) -> None:
        """Train, draw, save."""
        self._teacher = load_pretrained(self.teacher).requires_grad_(False)
        if isinstance(self._teacher, FewStepDiT):
            raise ValueError(f"{self.teacher} is a student itself: give the model that it was distilled from")
        if self._teacher.config.num_classes is None:
            raise ValueError(
                f"{self.teacher} has no classes, so there is no guidance to learn: give a teacher that has classes"
            )
        if self.train.shard:
            raise ValueError("a student is trained whole in every process, beside its teacher: leave --shard out")
        self.data = self.data or trained_on(self.teacher)
        student = FewStepDiT.from_teacher(self._teacher)
        self._config = student.config
        for cfg in self.sample_cfg:  # bad settings are an error before anything is read or written
            FewStepSampler(student, self.sample_steps, cfg)
        SelfConsistency(self._teacher, None, self.base, self.shortest)
        super().run()

    def config_for(self, dataset: Dataset) -> DiTConfig:
        """The teacher's, without label dropout."""
        return self._config

    def network(self, config: DiTConfig) -> FewStepDiT:
        """A student that is its teacher."""
        return FewStepDiT.from_teacher(self._teacher)

    def flow(self, ema: EMA) -> SelfConsistency:
        """Self-consistency; the running average takes the half steps."""
        device = next(ema.model.parameters()).device
        return SelfConsistency(self._teacher.to(device), ema.model, self.base, self.shortest)

    def learned(self) -> dict:
        """From which teacher, and how."""
        return {
            "teacher": self.teacher,
            "teacher_sha256": sha256(weights_file(self.teacher)),
            "method": "self-consistency: one step equals two half steps of the running average, guidance built in",
            "base": self.base,
            "shortest": self.shortest,
        }

    def default_out(self) -> Path:
        """runs/TEACHER-few-steps."""
        file = weights_file(self.teacher)
        return Path("runs") / f"{file.parent.name if file.stem == 'model' else file.stem}-few-steps"
