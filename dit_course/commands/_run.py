"""What `train` and `distill` share: the generator of `trainer.py` with a progress bar, pictures and a log."""

import csv
import json
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from dit_course.checkpoints import checkpoints_in, save_pretrained
from dit_course.commands._network import named_device
from dit_course.commands._progress import Gallery, Log, advance, progress_bar
from dit_course.commands._tracking import make_tracker
from dit_course.data import Dataset, atomic_write, load_dataset
from dit_course.distributed import graceful_interrupt, process_group
from dit_course.distributed.single import SingleProcess
from dit_course.distributed.train_config import Step, TrainConfig
from dit_course.dit import DiT, DiTConfig
from dit_course.ema import EMA
from dit_course.few_steps import SelfConsistency
from dit_course.flow import RectifiedFlow
from dit_course.trainer import train


@dataclass
class Run:
    """The options that all trainings share, and what is done with them. A command says what it trains.

    It brings the network, what the network learns, and the words for both: the methods that are not written here.
    """

    data: str = "fashion-mnist"
    """fashion-mnist, cifar10, or folder:PATH with one sub-folder of pictures a class."""
    out: Path | None = None
    """The run's folder; runs/DATA, or runs/NAME of a folder of pictures, unless told."""
    fresh: bool = False
    """Start again, even if the folder holds a run."""
    image_size: int = 32
    """For folder:PATH: every picture is cropped and scaled to this many pixels a side."""
    channels: Literal[1, 3] = 3
    """For folder:PATH: gray (1) or colour (3)."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The training."""
    ema_decay: float = 0.9999
    """The running average of the weights, with warm-up."""
    sample_every: int = 1000
    """Steps between picture grids and GIFs; they are drawn at the end in any case."""
    sample_cfg: tuple[float, ...] = (1.0, 2.5, 5.0)
    """The guidance scales at which they are drawn."""
    sample_steps: int = 20
    """Steps from noise to picture."""
    track: Literal["none", "tensorboard", "wandb"] = "none"
    """Where to log besides log.csv; tensorboard and wandb are optional extras."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the fastest there is."""

    def config_for(self, dataset: Dataset) -> DiTConfig:
        """The configuration of the network."""
        raise NotImplementedError

    def network(self, config: DiTConfig) -> DiT:
        """The network before its first step."""
        raise NotImplementedError

    def flow(self, ema: EMA) -> RectifiedFlow | SelfConsistency:
        """What is learned; ema: the running average of the network's weights."""
        raise NotImplementedError

    def learned(self) -> dict:
        """What is learned, in words and numbers, for the card and for the run's folder."""
        raise NotImplementedError

    def default_out(self) -> Path:
        """The run's folder, unless told."""
        raise NotImplementedError

    def run(self) -> None:
        """Train, draw, save. Of several processes, process 0 alone prints, samples and writes."""
        if self.sample_every < 1:
            raise ValueError(f"sample_every = {self.sample_every}, but it must be at least 1")
        dataset = load_dataset(self.data, "train", image_size=self.image_size, channels=self.channels)
        config = self.config_for(dataset)
        group = process_group(named_device(self.device), self.train.shard)
        if group.world_size == 1 and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true":
            print("note: accelerate launch --cpu has started one process; for several: --multi_gpu in its place")
        out = self.out or self.default_out()
        try:
            with group.peer_errors(lambda: next(map(str, checkpoints_in(out)), "none was written")):
                self._run(out, group, dataset, config)
        finally:
            group.close()

    def _run(self, out: Path, group: SingleProcess, dataset: Dataset, config: DiTConfig) -> None:
        if self.fresh and group.is_main:
            _forget(out)
        group.barrier()
        facts = {"data": self.data, "model": asdict(config), **self.learned()}
        _require_same_run(out / "config.json", facts)
        group.barrier()  # all have looked
        if group.is_main:
            atomic_write(out / "config.json", (json.dumps(facts, indent=2) + "\n").encode())

        torch.manual_seed(self.train.seed)  # the first weights; `train` seeds each step by itself
        model = self.network(config).to("cpu" if group.sharded else group.device or named_device(self.device))
        model.class_names = dataset.class_names if config.num_classes else None
        ema = EMA(model, self.ema_decay)
        flow = self.flow(ema)
        gallery = Gallery(out, self.sample_steps, self.sample_cfg, self.train.seed)
        if group.is_main:
            millions = sum(p.numel() for p in model.parameters()) / 1e6
            together = f" in {group.world_size} processes" if group.world_size > 1 else ""
            print(f"{self.data}: {len(dataset.images)} images; {millions:.2f} M parameters; run in {out}{together}")

        options = {**asdict(config), **asdict(self.train), "data": self.data}
        tracker = make_tracker(self.track if group.is_main else "none", out, options)

        def draw(index: int) -> None:
            networks = group.gather_model(model), group.gather_model(ema.model)
            if group.is_main:
                tracker.images(index, gallery.draw(*networks, index))

        with tracker, graceful_interrupt(group):
            with progress_bar(self.train, group.is_main) as bar:
                about = {"model": asdict(config), "class_names": model.class_names, **self._facts()}
                steps = train(model, dataset, self.train, flow=flow, ema=ema, folder=out, about=about, group=group)
                for step in self._watched(steps, out, bar, tracker) if group.is_main else steps:
                    if step.index % self.sample_every == 0 and step.index != step.total:
                        draw(step.index)
                    if group.stopping:
                        steps.close()  # saves
                        break
            group.barrier()  # until process 0 has written its checkpoint
            newest = json.loads(Path(f"{checkpoints_in(out)[0]}.json").read_text())
            if group.stopping:
                if group.is_main:
                    print(f"stopped and saved after step {newest['step']}; the same command goes on from there")
            elif (out / "model.json").exists():
                if group.is_main:
                    print(f"{out} holds a finished run: --fresh starts again, --out takes another folder")
                    print(f"draw from it: python -m dit_course sample --model {out} --cfg 2.5 --out {out}/grid.png")
            else:
                if group.is_main:
                    print("drawing grids and GIFs ...", flush=True)
                group.barrier()  # all have seen that there is no model.json yet
                draw(newest["step"])
                average = group.gather_model(ema.model)
                if group.is_main:
                    self._finish(out, model, average, newest)

    def _watched(self, steps: Iterator[Step], out: Path, bar: tqdm, tracker) -> Iterator[Step]:
        """Pass the steps on, and note each: in the log, in the bar, and now and then in the tracker.

        Reading a loss makes a GPU wait: there, some steps are noted together, but no later than their checkpoint.
        """
        log, unread = None, []

        def note() -> None:
            for step in unread:
                log.write(step)
                if step.index % 10 == 0:
                    values = {"learning_rate": step.learning_rate, "images_per_second": step.images_per_second}
                    tracker.log(step.index, {"loss": step.loss, **values})
            if unread:
                advance(bar, unread[-1])
            unread.clear()

        try:
            for step in steps:
                if log is None:
                    log = Log(out / "log.csv", step.index)
                    (out / "model.json").unlink(missing_ok=True)  # of an older run; written again when this one is done
                unread.append(step)
                every = 1 if step.loss_tensor.device.type == "cpu" else 25
                if step.index % every == 0 or step.index % self.train.checkpoint_every == 0:
                    note()
                yield step
        finally:
            note()

    def _facts(self) -> dict:
        """What a model card tells of the training, beside its configuration."""
        command = shlex.join(["python", "-m", "dit_course", *sys.argv[1:]])
        return {"command": command, "data": self.data, **self.learned(), "ema_decay": self.ema_decay}

    def _finish(self, out: Path, model: DiT, average: DiT, newest: dict) -> None:
        """Save the averaged weights for `load_pretrained` and say where everything is."""
        with (out / "log.csv").open(newline="") as file:
            final_loss = float(list(csv.DictReader(file))[-1]["loss"])
        plan = newest["plan"]
        again = f"--steps {plan['total'] or plan['last']} --decay-steps {plan['decay_steps'] if plan['total'] else 0}"
        again += f" --stop-after {plan['last']}" if plan["last"] else ""
        facts = {
            **self._facts(),
            "train": asdict(self.train),
            "steps": newest["step"],
            "again": again,
            "seconds": round(newest["seconds"], 1),
            "final_loss": final_loss,
        }
        average.class_names = model.class_names
        save_pretrained(out / "model", average, training=facts)
        print(f"{newest['step']} steps in {newest['seconds'] / 60:.1f} minutes; weights, grids and GIFs are in {out}")
        print(f"draw more: python -m dit_course sample --model {out} --cfg 2.5 --out {out}/grid.png")
        if self.train.minutes is not None:
            print(f"the same run, bit for bit: {again}, no --minutes")


def _forget(out: Path) -> None:
    """Remove a run's checkpoints and log, but no pictures and nothing that is not ours."""
    for file in [
        *out.glob("checkpoint-*.json"),
        *out.glob("checkpoint-*.safetensors"),
        out / "log.csv",
        out / "config.json",
    ]:
        file.unlink(missing_ok=True)


def _require_same_run(path: Path, facts: dict) -> None:
    """A folder that holds a run about something else is an error."""
    facts = json.loads(json.dumps(facts))  # tuples become lists, as they will when read again
    if path.exists():
        try:
            before = json.loads(path.read_text())
        except ValueError:
            before = None
        if before not in (None, facts) and checkpoints_in(path.parent):
            raise ValueError(
                f"{path.parent} holds a run with another model or other data: give --out another folder, or --fresh"
            )
