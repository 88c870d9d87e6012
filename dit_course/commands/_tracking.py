"""Where a run reports to, besides its own log.csv: nowhere, TensorBoard, or Weights & Biases."""

from pathlib import Path


class NoTracker:
    """Reports to nobody; the interface of the others."""

    def __enter__(self):
        """Start reporting."""
        return self

    def __exit__(self, *_):
        """Send what is left."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Report numbers of a step."""

    def images(self, step: int, files: dict[str, Path]) -> None:
        """Report pictures of a step."""


class TensorBoard(NoTracker):
    """Event files in the run's folder: tensorboard --logdir runs."""

    def __init__(self, out: Path):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(out / "tensorboard")

    def __exit__(self, *_):
        """Send what is left."""
        self.writer.close()

    def log(self, step: int, values: dict[str, float]) -> None:
        """Report numbers of a step."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def images(self, step: int, files: dict[str, Path]) -> None:
        """Report pictures of a step."""
        from torchvision.io import ImageReadMode, decode_image

        for name, file in files.items():
            self.writer.add_image(f"samples/{name}", decode_image(str(file), ImageReadMode.RGB), step)


class Wandb(NoTracker):
    """Weights & Biases; without a network set WANDB_MODE=offline."""

    def __init__(self, out: Path, config: dict):
        import wandb

        self.wandb = wandb
        self.run = wandb.init(project="dit_course", name=out.name, dir=out, config=config)

    def __exit__(self, failure, *_):
        """Send what is left."""
        self.run.finish(exit_code=int(failure is not None))

    def log(self, step: int, values: dict[str, float]) -> None:
        """Report numbers of a step."""
        self.run.log(values, step=step)

    def images(self, step: int, files: dict[str, Path]) -> None:
        """Report pictures of a step."""
        self.run.log({f"samples/{name}": self.wandb.Image(str(file)) for name, file in files.items()}, step=step)


def make_tracker(name: str, out: Path, config: dict) -> NoTracker:
    """The tracker of that name. Raises ValueError when its package is not installed."""
    try:
        if name == "tensorboard":
            return TensorBoard(out)
        if name == "wandb":
            return Wandb(out, config)
    except ImportError as error:
        raise ValueError(
            f"--track {name} needs the package {name}: pip install 'dit-course[{name}]' ({error})"
        ) from error
    return NoTracker()
