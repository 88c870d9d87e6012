"""What test_distributed.py lets two processes do: torchrun --nproc-per-node 2 tests/two_processes.py FOLDER."""

import json
import sys
from pathlib import Path

import torch

from dit_course import EMA, DiT, DiTConfig, NonFiniteLoss, RectifiedFlow, TrainConfig, train
from dit_course.distributed import process_group
from dit_course.few_steps import FewStepDiT, SelfConsistency

SIZES = {"image_size": 8, "patch_size": 4, "channels": 1, "width": 16, "depth": 2, "heads": 2, "num_classes": 3}
CONFIG = DiTConfig(**SIZES, label_dropout=0.3)
TRAINING = {"steps": 6, "batch_size": 8, "lr": 1e-2, "warmup": 2, "flip": True, "checkpoint_every": 4, "seed": 5}


def small_data(n: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 3
    return torch.randint(256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8), labels


def run(
    folder: Path, stop_at: int = 0, config: DiTConfig = CONFIG, data_size: int = 24, distilled: bool = False, **changes
) -> dict:
    """Train a small network, or distill it; the losses, the norms, and where it began."""
    torch.manual_seed(0)
    model = DiT(config)
    for parameter in model.parameters():  # zeroed layers hide all the others
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    teacher, model = model, FewStepDiT.from_teacher(model) if distilled else model
    ema, losses, norms, first = EMA(model, 0.9), [], [], None
    flow = SelfConsistency(teacher.requires_grad_(False).eval(), ema.model) if distilled else None
    config = TrainConfig(**(TRAINING | changes))
    for step in train(model, small_data(data_size), config, flow=flow, ema=ema, folder=folder):
        first = step.index if first is None else first
        losses.append(step.loss)
        norms.append(step.gradient_norm)
        if step.index == stop_at:
            break
    return {"first": first, "losses": losses, "norms": norms, "total": step.total, "last": step.index}


class Broken(RectifiedFlow):
    """The pictures of process 1 alone make the loss infinite."""

    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        each = super().loss(model, x, y, generator, reduction)
        return torch.where(torch.arange(len(x)) >= len(x) // 2, each * float("inf"), each)


def broken() -> str:
    try:
        list(train(DiT(CONFIG), small_data(), TrainConfig(**TRAINING), flow=Broken()))
    except NonFiniteLoss as error:
        return str(error)
    return "nothing was noticed"


def uneven() -> str:
    try:
        list(train(DiT(CONFIG), small_data(), TrainConfig(**TRAINING | {"batch_size": 6, "accumulate": 2})))
    except ValueError as error:
        return str(error)
    return "nothing was noticed"


def main(folder: Path) -> None:
    group = process_group("cpu")
    results = {
        "two": run(folder / "two"),
        "few": run(folder / "few", data_size=5),  # fewer pictures than a batch: drawn at random
        "both": run(folder / "both", accumulate=2),
        "student": run(folder / "student", distilled=True),
        "stopped student": run(folder / "stopped student", stop_at=3, distilled=True),
        "sharded": run(folder / "sharded", shard=True, accumulate=2),
        "bare": run(folder / "bare", config=DiTConfig(**SIZES, registers=0), shard=True),
        "bf16": run(folder / "bf16", precision="bf16"),
        "sharded bf16": run(folder / "sharded bf16", precision="bf16", shard=True),
        "stopped": run(folder / "stopped", stop_at=3),
        "stopped shards": run(folder / "stopped shards", stop_at=3, shard=True),
        "resumed": run(folder / "of one"),
        "resumed shards": run(folder / "of one, for shards", shard=True),
        "clock": run(folder / "clock", minutes=0.01),
        "broken": broken(),
        "uneven": uneven(),
    }
    (folder / f"process-{group.rank}.json").write_text(json.dumps(results))
    group.close()


def from_a_notebook(folder: Path, port: str) -> None:
    """What a notebook does, after it has computed something itself."""
    from accelerate import notebook_launcher

    torch.randn(500, 500) @ torch.randn(500, 500)
    notebook_launcher(run, (folder,), num_processes=2, use_port=port)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        from_a_notebook(Path(sys.argv[1]), sys.argv[2])
    else:
        torch.set_num_threads(1)
        main(Path(sys.argv[1]))
