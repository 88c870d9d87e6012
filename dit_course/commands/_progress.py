"""What can be seen of a training run: its samples, its log, its progress bar."""

import csv
import sys
from pathlib import Path

from tqdm import tqdm

from dit_course import show
from dit_course.commands._network import make_sampler
from dit_course.data import atomic_write
from dit_course.distributed.train_config import Step, TrainConfig
from dit_course.dit import DiT


class Gallery:
    """Grids and GIFs of the same noise at several guidance scales, with raw and with averaged weights."""

    def __init__(self, out: Path, steps: int, scales: tuple[float, ...], seed: int):
        self.folder = out / "samples"
        self.steps, self.scales, self.seed = steps, scales, seed

    def draw(self, model: DiT, average: DiT, step: int) -> dict[str, Path]:
        """Write samples/step-N-raw|ema-cfg-S.png and .gif; returns the grids by name."""
        grids = {}
        unconditional = model.config.num_classes is None
        for kind, network in (("raw", model), ("ema", average)):
            for cfg in (1.0,) if unconditional else self.scales:
                recorder = show.Recorder()
                sampler = make_sampler(network, self.steps, cfg, usual=20)
                columns = min(model.config.num_classes or 10, 10)
                pictures = sampler.sample(2 * columns, seed=self.seed, callback=recorder)
                name = f"step-{step:07d}-{kind}-cfg-{cfg:.1f}"
                show.save_image(pictures, self.folder / f"{name}.png", columns=columns)
                show.save_animation(recorder.frames, self.folder / f"{name}.gif", columns=columns)
                grids[f"{kind} cfg {cfg:.1f}"] = self.folder / f"{name}.png"
        return grids


class Log:
    """log.csv, a row a step. A resumed run first drops the rows that it will write again."""

    FIELDS = ("step", "loss", "gradient_norm", "learning_rate", "images_per_second", "seconds")

    def __init__(self, path: Path, next_step: int):
        kept = []
        if path.exists() and next_step > 1:
            with path.open(newline="") as file:
                kept = [row for row in csv.DictReader(file) if _is_before(row, next_step)]
        text = ",".join(self.FIELDS) + "\n" + "".join(",".join(row[f] for f in self.FIELDS) + "\n" for row in kept)
        atomic_write(path, text.encode())
        self.path = path

    def write(self, step: Step) -> None:
        """Add a row, in full precision, so that two runs can be compared bit for bit."""
        row = [step.index, repr(step.loss), repr(step.gradient_norm), repr(step.learning_rate),
               f"{step.images_per_second:.1f}", f"{step.seconds:.2f}"]  # fmt: skip
        with self.path.open("a") as file:
            file.write(",".join(map(str, row)) + "\n")


def _is_before(row: dict[str, str], next_step: int) -> bool:
    # the last row of a killed run may have been cut
    return None not in row.values() and row["step"].isdecimal() and int(row["step"]) < next_step


def progress_bar(config: TrainConfig, shown: bool = True) -> tqdm:
    """A bar of steps or of minutes. shown: False for all but one process of a group."""
    options = {"file": sys.stdout, "dynamic_ncols": True, "mininterval": 0.5, "disable": not shown}
    if config.minutes is None:
        return tqdm(total=config.steps, unit="step", **options)
    form = "{percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} min{postfix}"
    return tqdm(total=config.minutes, bar_format=form, **options)


def advance(bar: tqdm, step: Step) -> None:
    """Move the bar to a step."""
    if bar.disable:  # reading the loss makes a GPU wait
        return
    bar.n = step.index if bar.unit == "step" else min(step.seconds / 60, bar.total)
    bar.set_postfix(
        step=step.index, loss=f"{step.loss:.3f}", images_per_s=f"{step.images_per_second:.0f}", refresh=False
    )
    bar.update(0)
