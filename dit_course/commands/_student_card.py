"""The card of a few-step student: its numbers beside its teacher's, pictures from 1, 2 and 4 evaluations."""

import json
from pathlib import Path

import torch

from dit_course import show
from dit_course.checkpoints import load_classifier, load_pretrained
from dit_course.commands.evaluate import MEASURES, STEPS, count_evaluations, draw, named
from dit_course.data import atomic_write, load_dataset
from dit_course.evaluation import measure
from dit_course.few_steps import FewStepDiT, FewStepSampler
from dit_course.sampling import Sampler

CARD = """# Model card: {name}

A student of `{teacher}` that draws {data} pictures in one to four evaluations of the network. The guidance
scale, 1 to 6, is one of its inputs, so a guided picture costs no second evaluation.

    student = load_pretrained("{name}")
    FewStepSampler(student, steps=1, cfg=2.5).sample(10)

| | |
|---|---|
| Network | the teacher's, and two more embedders, for the span of a step and the guidance scale: {parameters:.2f} M |
| Learned | {method} |
| Weights | their running average (EMA, decay {ema_decay}) |
| Trained | {steps:,} steps of {batch_size}, {minutes:.1f} minutes on {machine}, seed {seed}{then} |
| Stored | `{name}.safetensors` in half precision, configuration and training in `{name}.json` |

## Numbers

{samples} samples, guidance scale (cfg) {cfg:g}, mean of {seeds} seeds of noise (each of them: `evaluation.json`). The
judge is `{data}-classifier`, trained on real pictures only. The teacher takes {teacher_steps} steps of `ab2`.

| | evaluations | in the class asked for | Frechet distance | of the teacher's | precision | recall |
|---|---:|---:|---:|---:|---:|---:|
{rows}

Again, for one seed: `python -m dit_course evaluate --model {name} --steps 1 --cfg {cfg:g}`. The distance is
measured in the judge's features, and is not comparable with an FID.

## Samples, not selected

A column for each class; all four grids begin with the same noises.

{pictures}

One evaluation each, while the guidance scale goes from 1 to 6:

![Ten pictures, guidance 1 to 6](guidance.gif)

## Limits

What its teacher cannot draw, it cannot either; and it covers less of what there is (recall). It knows guidance scales
from 1 to 6 only, at all times: there is no interval, and no picture without a class.
"""
THEN = (
    "; then {steps} of {batch_size} with learning rate {lr:g}, {minutes:.0f} minutes on {machine}, {quarters:.0%} of "
    "the pairs being the four steps of a sampling with four evaluations"
)
EVALUATIONS, SEEDS = (1, 2, 4), 3


def export_student(out: Path, student: FewStepDiT, training: dict, samples: int, cfg: float) -> dict:
    """Measure, draw and describe a student: evaluation.json, pictures and README.md in `out`; returns the result."""
    teacher = load_pretrained(training["teacher"])
    samplers = {f"student, {steps}": FewStepSampler(student, steps, cfg) for steps in EVALUATIONS}
    samplers["teacher"] = Sampler(teacher, STEPS, "ab2", cfg)
    result = measured(samplers, training["data"], samples) | {"cfg": cfg, "teacher": training["teacher"]}
    atomic_write(out / "evaluation.json", (json.dumps(result, indent=2) + "\n").encode())
    pictures = []
    for name, sampler in samplers.items():
        evaluations = result["evaluations"][name]
        title = f"{'Teacher' if name == 'teacher' else 'Student'}, {evaluations} evaluation{'s' * (evaluations > 1)}"
        file = f"samples-{name.replace(', ', '-')}.png"
        show.save_image(sampler.sample(40, seed=0), out / file, columns=10, title=title)
        pictures.append(f"![{title}]({file})")
    scales = torch.linspace(1, 6, 26).tolist()
    frames = [FewStepSampler(student, 1, scale).sample(10, seed=0) for scale in scales]
    show.save_animation(frames, out / "guidance.gif", scale=2, columns=10)
    atomic_write(out / "README.md", _card(out.name, student, training, result, pictures).encode())
    return result


def measured(samplers: dict, data: str, samples: int) -> dict:
    """The measures of each sampler for each seed, and their means."""
    judge, real, rows = load_classifier(data), load_dataset(data, "test").images, []
    evaluations = {name: count_evaluations(sampler) for name, sampler in samplers.items()}
    for seed in range(SEEDS):
        for name, sampler in samplers.items():
            scores = named(measure(judge, *draw(sampler, samples, seed), real))
            rows.append({"sampler": name, "evaluations": evaluations[name], "seed": seed, **scores})
            print(", ".join(f"{key} {value:.4g}" if key in MEASURES else f"{value}" for key, value in rows[-1].items()))
    means = {
        name: {key: sum(row[key] for row in rows if row["sampler"] == name) / SEEDS for key in MEASURES}
        for name in samplers
    }
    return {"samples": samples, "seeds": SEEDS, "evaluations": evaluations, "means": means, "rows": rows}


def _card(name: str, student: FewStepDiT, training: dict, result: dict, pictures: list[str]) -> str:
    reference = result["means"]["teacher"]["frechet_distance"]
    rows = [
        f"| {sampler.partition(',')[0]} | {result['evaluations'][sampler]} | {mean['class_accuracy']:.1%} "
        f"| {mean['frechet_distance']:.2f} | {mean['frechet_distance'] / reference:.2f}x | {mean['precision']:.1%} "
        f"| {mean['recall']:.1%} |"
        for sampler, mean in result["means"].items()
    ]
    settings = training.get("train", training)  # the GPU session's students have no `train`
    then = training.get("then")
    facts = {key: training[key] for key in ("teacher", "data", "method", "ema_decay", "steps", "machine")}
    return CARD.format(
        name=name,
        parameters=sum(p.numel() for p in student.parameters()) / 1e6,
        batch_size=settings["batch_size"],
        seed=settings["seed"],
        minutes=training["seconds"] / 60,
        then=THEN.format(**then, minutes=then["seconds"] / 60) if then else "",
        samples=result["samples"],
        seeds=result["seeds"],
        cfg=result["cfg"],
        teacher_steps=STEPS,
        rows="\n".join(rows),
        pictures="\n\n".join(pictures),
        **facts,
    )
