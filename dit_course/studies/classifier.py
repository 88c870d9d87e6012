"""Train the classifier of real images by whose features and decisions samples are judged."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dit_course.checkpoints import load_classifier, save_tensors, weights_file
from dit_course.data import Dataset
from dit_course.evaluation import Classifier, class_accuracy


@dataclass(frozen=True)
class ClassifierConfig:
    """How the classifier is trained.

    flip: mirror half of the images. shift: move them by up to this many pixels. bf16: multiply in bfloat16
    (autocast), 1.5 times as fast where the processor can.
    """

    epochs: int = 8
    batch_size: int = 128
    lr: float = 3e-3
    weight_decay: float = 1e-2
    width: int = 32
    shift: int = 2
    flip: bool = True
    bf16: bool = False
    seed: int = 0


def train_classifier(
    train: Dataset, test: Dataset, config: ClassifierConfig, start: Classifier | None = None
) -> Iterator[tuple[int, float, Classifier]]:
    """Yield (epoch, accuracy on `test`, classifier) after each epoch; the last one is the result.

    start: go on from this one instead of a new one; its width is what it is.
    """
    torch.manual_seed(config.seed)
    images, labels = train
    model = start or Classifier(images.shape[1], len(train.class_names), config.width)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
    batches = len(images) // config.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.epochs * batches)
    for epoch in range(1, config.epochs + 1):
        model.train()
        for chosen in torch.randperm(len(images))[: batches * config.batch_size].split(config.batch_size):
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
                logits = model(_augment(images[chosen].float() / 255, config))
                loss = F.cross_entropy(logits, labels[chosen], label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        yield epoch, class_accuracy(model, *test), model


def _augment(images: Tensor, config: ClassifierConfig) -> Tensor:
    """Shift and mirror whole batches at once; empty space comes in at the border."""
    height, width = images.shape[2:]
    padded = F.pad(images, [config.shift] * 4)
    top, left = torch.randint(2 * config.shift + 1, (2,)).tolist()
    images = padded[:, :, top : top + height, left : left + width]
    mirrored = torch.rand(len(images)) < (0.5 if config.flip else 0)
    return torch.where(mirrored.reshape(-1, 1, 1, 1), images.flip(3), images)


def save_classifier(path: Path, classifier: Classifier, **about) -> None:
    """Write the classifier to PATH.safetensors and PATH.json, for `load_classifier`."""
    save_tensors(path, classifier.state_dict(), {"config": classifier.config, **about})


def run(train: Dataset, test: Dataset, config: ClassifierConfig, out: Path, start: str | Path | None = None) -> float:
    """Train, report each epoch, save; returns the test accuracy. start: a classifier to go on from, name or path."""
    before, history = None, {}
    if start is not None:
        before = load_classifier(start)
        described = weights_file(f"{start}-classifier").with_suffix(".json")
        history = {"before": json.loads(described.read_text())["training"]}
    started = time.perf_counter()
    for epoch, accuracy, model in train_classifier(train, test, config, before):  # noqa: B007
        seconds = time.perf_counter() - started
        print(f"epoch {epoch}/{config.epochs}: test accuracy {accuracy:.2%} ({seconds:.0f} s)", flush=True)
    about = {
        "test_accuracy": accuracy,
        "data": train.name,
        "training": vars(config) | {"width": model.config["width"], "seconds": round(seconds)},
        **history,
    }
    save_classifier(out, model, **about, class_names=list(train.class_names))
    return accuracy
