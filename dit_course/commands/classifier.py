"""`python -m dit_course classifier`: train the classifier by which `evaluate` judges samples."""

from dataclasses import dataclass, field
from pathlib import Path

from dit_course.data import load_dataset
from dit_course.studies.classifier import ClassifierConfig, run


@dataclass
class TrainClassifier:
    """Train the small classifier by which samples are judged."""

    data: str = "fashion-mnist"
    """The data set; it needs a test split."""
    out: Path | None = None
    """Where to write it, without suffix; runs/DATA-classifier by default."""
    start: str | None = None
    """Go on from this classifier: PATH-classifier.safetensors is named PATH here."""
    config: ClassifierConfig = field(default_factory=ClassifierConfig)
    """The training."""

    def run(self) -> None:
        """Train, report each epoch, save."""
        train, test = (load_dataset(self.data, split) for split in ("train", "test"))
        out = self.out or Path("runs") / f"{self.data.rpartition('/')[2]}-classifier"
        run(train, test, self.config, out, self.start)
