"""`python -m dit_course export`: a run's model in half precision, with a model card, as the course ships it.

Of an unfinished run the last checkpoint is exported. With `--onnx` it becomes one file that other programs run.
"""

import csv
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from dit_course import show
from dit_course.checkpoints import checkpoints_in, load_checkpoint, load_pretrained, save_pretrained, weights_file
from dit_course.commands._student_card import export_student
from dit_course.commands.evaluate import Evaluate
from dit_course.data import atomic_write
from dit_course.dit import DiT, DiTConfig
from dit_course.ema import EMA
from dit_course.few_steps import FewStepDiT
from dit_course.pretrained.onnx_file import export_onnx
from dit_course.sampling import Sampler

CARD = """# Model card: {name}

A Diffusion Transformer that draws {data} pictures from noise, class by class. Made for teaching: it shows what a
model of this size can do after this much training, and it is small enough to move a slider with.

| | |
|---|---|
| Network | DiT, {parameters:.2f} M parameters: {network} |
| Learned | rectified flow, {timesteps} timesteps |
| Weights | their running average (EMA, decay {ema_decay}, with warm-up) |
| Trained | {steps:,} steps of {batch_size} pictures, {minutes:.0f} minutes on {machine}, seed {seed} |
| Optimizer | AdamW, learning rate {lr}, {warmup} steps of warm-up, then flat{decay} |
| Stored | `{name}.safetensors` in half precision, configuration in `{name}.json` |

The last batch's loss was {final_loss:.3f}. Command:

    {command}

{again}

## Numbers

{samples} samples, {per_class} a class, guidance scale (cfg) {cfg}, {solver_steps} steps of `{solver}`: {evaluations}
network evaluations each, guided ones counted twice; seed {evaluation_seed}. The judge is `{data}-classifier`, trained
on real pictures only; it is right on {real_accuracy:.1%} of the real test pictures.

| | |
|---|---|
| in the class asked for | {accuracy:.1%} |
| Frechet distance to the test pictures, in the judge's features | {frechet:.2f} |
| the same of as many real training pictures | {floor:.2f} |
| precision: samples that lie among real pictures | {precision:.1%} (of real ones: {real_precision:.1%}) |
| recall: real pictures that lie among the samples | {recall:.1%} (of real ones: {real_recall:.1%}) |
| distance to the nearest training picture, median | {nearest:.3f} (of real test pictures: {real_nearest:.3f}) |

{by_class}

The distance is not comparable with an FID in Inception's features. High accuracy is partly guidance's work: it makes
pictures more typical, and less varied. Again: `python -m dit_course evaluate --model {name} --cfg {cfg:g}`.

## Loss

![Loss curve](loss.png)

## Samples, not selected

{pictures}

{raw}## Limits

{limits}
"""
AGAIN = """With `{again}` in place of `--minutes` it gives the same weights, bit for bit, on
the same kind of machine."""
RAW = """The same noise with the raw weights of the last step:

{}

"""
UNFINISHED = (
    "The training was not over when these weights were taken: the same command goes on from its last checkpoint."
)
LIMITS = {
    "fashion-mnist": """It knows ten kinds of clothing in 28 x 28 gray pixels and nothing else. Patterns and prints come
out vague, and thin straps break. Nothing here was selected, and no pictures of people were used.""",
    "cifar10": """It knows ten kinds of things in 32 x 32 pixels and nothing else, and it was trained for a small part
of the time that others take on a GPU: colors and outlines are right more often than limbs, wheels and faces. Nothing
here was selected. The pictures it has seen are CIFAR-10's (Krizhevsky 2009), stored as JPEG on their way here; they are
not shipped, because their authors name no license.""",
}
SCALES = (1.0, 2.5, 5.0)
STATE = ("step", "plan", "model", "class_names", "ema_updates", "bytes")  # of a checkpoint, no fact of the training


@dataclass
class Export:
    """Write a run's averaged weights in half precision, with a model card: curve, samples, numbers."""

    run_folder: Path = Path("runs/fashion-mnist")
    """The run to export, or the .safetensors file of a model."""
    out: Path = Path("data/checkpoints/fashion-mnist")
    """Where to: OUT.safetensors and OUT.json, and the card in the folder OUT."""
    cfg: float = Evaluate.cfg
    """The guidance scale of the pictures that are measured."""
    machine: str = f"{os.cpu_count()} CPU cores"
    """What it was trained on, for the card."""
    samples: int = 1000
    """How many samples are measured."""
    onnx: Path | None = None
    """Write only the network, for any number of images, as this ONNX file: for a browser, a phone, onnxruntime."""

    def run(self) -> None:
        """Export, measure, draw, describe."""
        model, training = _trained(self.run_folder)
        if self.onnx is not None:
            export_onnx(model, self.onnx)
            return print(f"{self.onnx}: {self.onnx.stat().st_size / 1e6:.1f} MB")
        save_pretrained(self.out, model, half=True, training={"machine": self.machine} | training)
        model = load_pretrained(self.out.with_suffix(".safetensors"))  # what ships is what is measured
        if isinstance(model, FewStepDiT):
            about = {"machine": self.machine} | training
            return print(export_student(self.out, model, about, self.samples, self.cfg)["means"])
        evaluation = Evaluate(str(self.out.with_suffix(".safetensors")), training["data"], self.samples, self.cfg)
        result = evaluation.measure()
        result["protocol"]["model"] = self.out.name
        atomic_write(self.out / "evaluation.json", (json.dumps(result, indent=2) + "\n").encode())
        networks = {"": model}
        for checkpoint in checkpoints_in(self.run_folder)[:1]:
            networks["raw-"] = DiT(model.config).eval()
            load_checkpoint(checkpoint, networks["raw-"])
        for kind, network in networks.items():
            for cfg in SCALES:
                sampler = Sampler(network, result["protocol"]["steps"], evaluation.solver, cfg)
                grid = self.out / f"samples-{kind}cfg-{cfg:.1f}.png"
                show.save_image(sampler.sample(40, seed=0), grid, columns=10, title=f"Guidance scale {cfg:.1f}")
                recorder = show.Recorder()
                sampler.sample(10, seed=0, callback=recorder)
                show.save_animation(recorder.frames, grid.with_suffix(".gif"), scale=2, columns=10)
        with (self.run_folder / "log.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        curve = show.loss_curve([int(row["step"]) for row in rows], [float(row["loss"]) for row in rows], ema=0.98)
        curve.save(self.out / "loss.png")
        atomic_write(self.out / "README.md", self._card(model, training, result, "raw-" in networks).encode())
        print(
            f"{self.out}: {result['class_accuracy']:.1%} in the class asked for; the card is {self.out / 'README.md'}"
        )

    def _card(self, model, training: dict, result: dict, raw: bool) -> str:
        protocol, real, train = result["protocol"], result["real_pictures"], training["train"]
        config = asdict(model.config)
        again = training.get("again") or f"--steps {training['steps']} --decay-steps {training['decay_steps']}"
        shown = ("patch_size", "width", "depth", "heads", "registers", "norm", "qk_norm")
        return CARD.format(
            name=self.out.name,
            data=training["data"],
            parameters=sum(p.numel() for p in model.parameters()) / 1e6,
            network=", ".join(f"{name.replace('_', ' ')} {config[name]}" for name in shown),
            timesteps=training["timesteps"],
            ema_decay=training["ema_decay"],
            steps=training["steps"],
            again=UNFINISHED if training.get("unfinished") else AGAIN.format(again=again),
            decay="" if training.get("unfinished") else ", then to 0 in a straight line",
            batch_size=train["batch_size"],
            minutes=training["seconds"] / 60,
            machine=f"{self.machine} ({platform.machine()})",
            seed=train["seed"],
            lr=train["lr"],
            warmup=train["warmup"],
            final_loss=training["final_loss"],
            command=training.get("command", "python -m dit_course train"),
            samples=protocol["samples"],
            per_class=protocol["samples"] // len(result["class_accuracy_by_class"]),
            cfg=protocol["cfg"],
            solver_steps=protocol["steps"],
            solver=protocol["solver"],
            evaluations=protocol["evaluations_per_sample"],
            evaluation_seed=protocol["seed"],
            real_accuracy=real["class_accuracy"],
            accuracy=result["class_accuracy"],
            frechet=result["frechet_distance"],
            floor=real["frechet_distance"],
            precision=result["precision"],
            real_precision=real["precision"],
            recall=result["recall"],
            real_recall=real["recall"],
            nearest=result["nearest_training_distance"],
            real_nearest=real["nearest_training_distance"],
            by_class=", ".join(f"{name} {share:.0%}" for name, share in result["class_accuracy_by_class"].items()),
            pictures=_pictures(""),
            raw=RAW.format(_pictures("raw-")) if raw else "",
            limits=LIMITS.get(training["data"], "It knows pictures like those it was trained on, and nothing else."),
        )


def _trained(folder: Path) -> tuple[DiT, dict]:
    """The averaged network of a run, and how it was trained so far."""
    if (folder / "model.json").exists() or folder.suffix == ".safetensors":
        about = json.loads(weights_file(folder).with_suffix(".json").read_text())
        return load_pretrained(folder), about.get("training", {})
    checkpoints = checkpoints_in(folder)
    if not checkpoints:
        raise FileNotFoundError(f"{folder} holds neither a model nor a checkpoint: give the folder of a training run")
    about = json.loads(checkpoints[0].with_suffix(".json").read_text())
    kind = FewStepDiT if "teacher" in about else DiT
    network = kind(DiTConfig(**about["model"]))
    ema = EMA(network, about["ema_decay"])
    load_checkpoint(checkpoints[0], network, ema=ema)
    ema.model.class_names = tuple(about["class_names"]) if about["class_names"] else None
    facts = {name: value for name, value in about.items() if name not in STATE}
    with (folder / "log.csv").open(newline="") as file:
        loss = next(float(row["loss"]) for row in csv.DictReader(file) if int(row["step"]) == about["step"])
    now = {"steps": about["step"], "decay_steps": 0, "final_loss": loss, "unfinished": True}
    return ema.model.eval(), facts | now


def _pictures(kind: str) -> str:
    names = [(cfg, f"samples-{kind}cfg-{cfg:.1f}") for cfg in SCALES]
    return "\n\n".join(f"![Guidance scale {cfg}]({name}.png) ([animation]({name}.gif))" for cfg, name in names)
