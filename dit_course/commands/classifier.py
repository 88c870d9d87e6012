"""`python -m dit_course classifier`: train the judge that `evaluate` asks."""

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
    """Where to write it, without ending; runs/DATA-classifier unless told."""
    start: str | None = None
    """Go on from this judge: PATH-classifier.safetensors is named PATH here."""
    config: ClassifierConfig = field(default_factory=ClassifierConfig)
    """The training."""

    def run(self) -> None:
        """Train, report each epoch, save."""
        train, test = (load_dataset(self.data, split) for split in ("train", "test"))
        run(
            train,
            test,
            self.config,
            self.out or Path("runs") / f"{self.data.rpartition('/')[2]}-classifier",
            self.start,
        )
