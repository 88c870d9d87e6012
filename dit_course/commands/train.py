"""`python -m dit_course train`: the generator of `training.py` with a progress bar, pictures on the way, and a log."""

import csv
import json
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from dit_course import show
from dit_course.checkpoints import checkpoints_in, save_pretrained
from dit_course.commands.tracking import make_tracker
from dit_course.data import Dataset, atomic_write, load_dataset
from dit_course.dit import DiT, DiTConfig, named_config
from dit_course.ema import EMA
from dit_course.flow import RectifiedFlow
from dit_course.recipes import find_recipe
from dit_course.sampling import Sampler
from dit_course.training import Step, TrainConfig, train


@dataclass
class Network:
    """What a user chooses of a `DiTConfig`; the data decides the rest. The defaults suit some minutes on two cores."""

    size: str | None = None
    """A size of the DiT paper, such as DiT-S/2, instead of patch size, width, depth and heads."""
    patch_size: int = 4
    """Side of a patch in pixels; a divisor of the image's sides."""
    width: int = 96
    """Features of a token; a multiple of 4 and of the heads."""
    depth: int = 4
    """How many blocks."""
    heads: int = 4
    """How many attention heads share the width."""
    mlp_ratio: float = 4.0
    """How much wider than a token the MLP is inside."""
    registers: int = 4
    """Extra learned tokens that belong to no patch."""
    label_dropout: float = 0.1
    """How often training hides the label; without it there is no guidance."""
    qk_norm: bool = True
    """Whether queries and keys pass through an RMSNorm."""
    norm: Literal["rms", "layer"] = "rms"
    """The blocks' norm: RMSNorm, or LayerNorm as in the paper."""
    unconditional: bool = False
    """Train without classes."""

    def config_for(self, dataset: Dataset) -> DiTConfig:
        """The network's configuration, with the shape and the classes of the data."""
        channels, height, width = dataset.images.shape[1:]
        options = {name: value for name, value in vars(self).items() if name not in ("size", "unconditional")}
        options |= {
            "image_size": height if height == width else (height, width),
            "channels": channels,
            "num_classes": None if self.unconditional else len(dataset.class_names),
        }
        if self.size is None:
            return DiTConfig(**options)
        return named_config(self.size, **{name: options[name] for name in options if name not in NAMED_BY_SIZE})


NAMED_BY_SIZE = ("patch_size", "width", "depth", "heads")


@dataclass
class Train:
    """Train a DiT. A run that was killed goes on when the same command is given again."""

    recipe: str | None = None
    """A known training to start from: three-minutes, fashion-mnist, cifar10-laptop, cifar10 or just-a-dit."""
    data: str = "fashion-mnist"
    """fashion-mnist, cifar10, or folder:PATH with one sub-folder of pictures a class."""
    out: Path | None = None
    """The run's folder; runs/DATA unless told."""
    fresh: bool = False
    """Start again, even if the folder holds a run."""
    image_size: int = 32
    """For folder:PATH: every picture is cropped and scaled to this many pixels a side."""
    channels: Literal[1, 3] = 3
    """For folder:PATH: gray (1) or colour (3)."""
    model: Network = field(default_factory=Network)
    """The network."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The training."""
    timesteps: Literal["logit_normal", "uniform"] = "logit_normal"
    """How often each time t is trained."""
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

    @classmethod
    def of_recipe(cls, name: str | None, by_steps: bool = False) -> "Train":
        """What a recipe says. by_steps: the number of steps ends the training, whatever minutes the recipe names.

        Raises ValueError for an unknown name.
        """
        if name is None:
            return cls()
        recipe = find_recipe(name)
        training = replace(recipe.train, minutes=None) if by_steps else recipe.train
        return cls(
            recipe=name,
            data=recipe.data,
            out=Path("runs") / name,
            model=Network(**recipe.model),
            train=training,
            timesteps=recipe.timesteps,
            ema_decay=recipe.ema_decay,
            **recipe.extra,
        )

    def run(self) -> None:
        """Train, draw, save."""
        if self.sample_every < 1:
            raise ValueError(f"sample_every = {self.sample_every}, but it must be at least 1")
        dataset = load_dataset(self.data, "train", image_size=self.image_size, channels=self.channels)
        config = self.model.config_for(dataset)
        device = _device(self.device)
        out = self.out or Path("runs") / self.data.rpartition("/")[2].replace("folder:", "")
        if self.fresh:
            _forget(out)
        _remember(out / "config.json", {"data": self.data, "model": asdict(config), "timesteps": self.timesteps})

        torch.manual_seed(self.train.seed)  # the first weights; `train` seeds each step by itself
        model = DiT(config).to(device)
        model.class_names = dataset.class_names if config.num_classes else None
        ema = EMA(model, self.ema_decay)
        flow = RectifiedFlow(self.timesteps)
        gallery = Gallery(out, self)
        parameters = sum(p.numel() for p in model.parameters())
        print(f"{self.data}: {len(dataset.images)} images; {parameters / 1e6:.2f} M parameters; run in {out}")

        tracker = make_tracker(self.track, out, {**asdict(config), **asdict(self.train), "data": self.data})
        with tracker, _gentle_stop() as stopped:
            with _bar(self.train) as bar:
                about = {"model": asdict(config), "data": self.data}
                steps = train(model, dataset, self.train, flow=flow, ema=ema, folder=out, about=about)
                for step in self._watched(steps, out, bar, tracker):
                    if step.index % self.sample_every == 0 and step.index != step.total:
                        tracker.images(step.index, gallery.draw(model, ema, step.index))
                    if stopped:
                        steps.close()  # saves
                        break
            newest = json.loads(Path(f"{checkpoints_in(out)[0]}.json").read_text())
            if stopped:
                print(f"stopped and saved after step {newest['step']}; the same command goes on from there")
            elif (out / "model.json").exists():
                print(f"{out} holds a finished run: --fresh starts again, --out takes another folder")
                print(f"draw from it: python -m dit_course sample --model {out} --cfg 2.5 --out {out}/grid.png")
            else:
                print("drawing grids and GIFs ...", flush=True)
                tracker.images(newest["step"], gallery.draw(model, ema, newest["step"]))
                self._finish(out, model, ema, newest)

    def _watched(self, steps: Iterator[Step], out: Path, bar: tqdm, tracker) -> Iterator[Step]:
        """Pass the steps on, and note each: in the log, in the bar, and now and then in the tracker."""
        log = None
        for step in steps:
            if log is None:
                log = Log(out / "log.csv", step.index)
                (out / "model.json").unlink(missing_ok=True)  # of an older run; written again when this one is done
            log.write(step)
            _advance(bar, step)
            if step.index % 10 == 0:
                values = {"learning_rate": step.learning_rate, "images_per_second": step.images_per_second}
                tracker.log(step.index, {"loss": step.loss, **values})
            yield step

    def _finish(self, out: Path, model: DiT, ema: EMA, newest: dict) -> None:
        """Save the averaged weights for `load_pretrained` and say where everything is."""
        with (out / "log.csv").open(newline="") as file:
            final_loss = float(list(csv.DictReader(file))[-1]["loss"])
        plan = newest["plan"]
        again = f"--steps {plan['total'] or plan['last']} --decay-steps {plan['decay_steps'] if plan['total'] else 0}"
        again += f" --stop-after {plan['last']}" if plan["last"] else ""
        facts = {
            "command": shlex.join(["python", "-m", "dit_course", *sys.argv[1:]]),
            "data": self.data,
            "train": asdict(self.train),
            "timesteps": self.timesteps,
            "ema_decay": self.ema_decay,
            "steps": newest["step"],
            "again": again,
            "seconds": round(newest["seconds"], 1),
            "final_loss": final_loss,
        }
        ema.model.class_names = model.class_names
        save_pretrained(out / "model", ema.model, training=facts)
        print(f"{newest['step']} steps in {newest['seconds'] / 60:.1f} minutes; weights, grids and GIFs are in {out}")
        print(f"draw more: python -m dit_course sample --model {out} --cfg 2.5 --out {out}/grid.png")
        if self.train.minutes is not None:
            print(f"the same run, bit for bit: {again}, no --minutes")


class Gallery:
    """Grids and GIFs of the same noise at several guidance scales, with raw and with averaged weights."""

    def __init__(self, out: Path, command: Train):
        self.folder = out / "samples"
        self.command = command

    def draw(self, model: DiT, ema: EMA, step: int) -> dict[str, Path]:
        """Write samples/step-N-raw|ema-cfg-S.png and .gif; returns the grids by name."""
        grids = {}
        unconditional = model.config.num_classes is None
        for kind, network in (("raw", model), ("ema", ema.model)):
            for cfg in (1.0,) if unconditional else self.command.sample_cfg:
                recorder = show.Recorder()
                sampler = Sampler(network, steps=self.command.sample_steps, cfg=cfg)
                columns = min(model.config.num_classes or 10, 10)
                pictures = sampler.sample(2 * columns, seed=self.command.train.seed, callback=recorder)
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


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {name!r} cannot be used here ({str(error).splitlines()[0]}): try --device cpu"
        ) from error
    return torch.device(name)


def _forget(out: Path) -> None:
    """Remove a run's checkpoints and log, but no pictures and nothing that is not ours."""
    for file in [
        *out.glob("checkpoint-*.json"),
        *out.glob("checkpoint-*.safetensors"),
        out / "log.csv",
        out / "config.json",
    ]:
        file.unlink(missing_ok=True)


def _remember(path: Path, facts: dict) -> None:
    """Note what the run is about; a folder that holds a run about something else is an error."""
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
    atomic_write(path, (json.dumps(facts, indent=2) + "\n").encode())


def _bar(config: TrainConfig) -> tqdm:
    if config.minutes is None:
        return tqdm(total=config.steps, unit="step", file=sys.stdout, dynamic_ncols=True, mininterval=0.5)
    form = "{percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} min{postfix}"
    return tqdm(total=config.minutes, bar_format=form, file=sys.stdout, dynamic_ncols=True, mininterval=0.5)


def _advance(bar: tqdm, step: Step) -> None:
    bar.n = step.index if bar.unit == "step" else min(step.seconds / 60, bar.total)
    bar.set_postfix(
        step=step.index, loss=f"{step.loss:.3f}", images_per_s=f"{step.images_per_second:.0f}", refresh=False
    )
    bar.update(0)


@contextmanager
def _gentle_stop() -> Iterator[list[bool]]:
    """Ctrl-C ends the training after the step in hand, so that nothing is lost; a second one ends it at once."""
    stopped: list[bool] = []

    def stop(*_) -> None:
        stopped.append(True)
        print("\nstopping after this step, then saving (Ctrl-C again loses what is not saved)", flush=True)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
