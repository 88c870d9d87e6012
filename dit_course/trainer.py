"""`train`: the loop of lesson 06 for real work, with checkpoints and resume, a time limit, bf16 and several processes.

It takes the steps of `training.training_loop`, as a generator: whoever drives it decides what to log, sample and when
to stop.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from dit_course.checkpoints import checkpoints_in, load_checkpoint, save_checkpoint
from dit_course.data import to_float
from dit_course.distributed import process_group
from dit_course.distributed.rows import BatchShard, RowsInThreads
from dit_course.distributed.single import SingleProcess
from dit_course.distributed.threads import divisible, one_torch_thread, worthwhile
from dit_course.distributed.train_config import NonFiniteLoss, Step, TrainConfig
from dit_course.dit import DiT
from dit_course.few_steps import SelfConsistency
from dit_course.flow import RectifiedFlow
from dit_course.training import batch_indices, learning_rate, randomness, training_step
from dit_course.wrappers import unwrap


@dataclass
class StepBudget:
    """How many steps there will be, how many of them decay, and after which one the time was over."""

    total: int | None
    decay_steps: int
    last: int | None = None

    @classmethod
    def of(cls, config: TrainConfig) -> "StepBudget":
        """What the configuration alone says."""
        total = config.steps if config.minutes is None else None
        decay_steps = round(config.decay * config.steps) if config.decay_steps is None else config.decay_steps
        return cls(total, decay_steps, config.stop_after)

    def fix(self, config: TrainConfig, steps_done: int, seconds: float) -> None:
        """With `minutes`: when it is time for the decay, fix the number of steps at the speed seen so far."""
        limit = math.inf if config.minutes is None else 60 * config.minutes
        if seconds >= 1.03 * limit and self.last is None:  # the machine has grown slower meanwhile
            self.last = steps_done
        if self.total is None and steps_done and seconds >= (1 - config.decay) * limit:
            self.decay_steps = max(1, round((limit - seconds) * steps_done / seconds))
            self.total = steps_done + self.decay_steps

    def learning_rate(self, config: TrainConfig, steps_done: int) -> float:
        """Of the step after so many: see the function of that name. While the end is open, there is no decay yet."""
        total, decay_steps = (math.inf, 0) if self.total is None else (self.total, self.decay_steps)
        return learning_rate(steps_done, total, config.lr, config.warmup, decay_steps)

    def progress(self, config: TrainConfig, steps_done: int, seconds: float) -> float:
        """The fraction of the training that is done, in steps or in minutes, whichever is further."""
        return min(1.0, max(steps_done / self.end, seconds / (60 * config.minutes) if config.minutes else 0.0))

    def decaying(self, steps_done: int) -> bool:
        """Whether the decay has begun, or the training is over: then its end can no longer be moved."""
        return steps_done >= self.end or (self.total is not None and steps_done >= self.total - self.decay_steps)

    @property
    def end(self) -> float:
        """After how many steps the training is over; infinite while that is open."""
        return min(self.total or math.inf, self.last or math.inf)


def train(
    model: nn.Module,
    dataset: tuple[Tensor, Tensor],
    config: TrainConfig,
    *,
    flow: RectifiedFlow | SelfConsistency | None = None,
    ema: Any = None,
    folder: str | Path | None = None,
    about: dict[str, Any] | None = None,
    group: SingleProcess | None = None,
) -> Iterator[Step]:
    """Train `model`, in place, and yield a `Step` after each optimizer step.

    model: a DiT, or torch.compile of one.
    dataset: images uint8 (N, C, H, W) and labels int64 (N,), as `load_dataset` returns them; both move to the model's
        device once, and no worker processes are needed.
    flow: what is learned, a `RectifiedFlow` or a student's `SelfConsistency` (lesson 11); None takes logit-normal
        timesteps. ema: an `EMA` to update after each step (lesson 07).
    folder: where checkpoints go, every `config.checkpoint_every` steps and at the end. If it holds one already, the run
        resumes from it; on the CPU its losses and weights equal those of an uninterrupted run, bit for bit.
    about: further facts for the checkpoint's JSON.
    group: the processes that share the batches; None: those that a launcher has started (lesson 10), else this one.
    Raises NonFiniteLoss when the loss is nan or infinite, ValueError when data, model and the folder's run do not fit,
    PeerLost when another process has gone.
    """
    given, model = model, _bare(model)
    images, labels = check_dataset(model, dataset)
    group, flow = group or process_group(next(model.parameters()).device, config.shard), flow or RectifiedFlow()
    parts = BatchShard(group.rank, group.world_size, config.accumulate).parts(config.batch_size)
    device = group.to_device(model, ema)
    images, labels = images.to(device), labels.to(device) if _has_classes(model) else None
    optimizer = AdamW(model.parameters(), config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)
    budget, done, seconds = StepBudget.of(config), 0, 0.0
    if folder is not None:
        budget, done, seconds = _resume(Path(folder), model, optimizer, ema, config, budget, group)
    bf16 = _use_bf16(config, device)
    learner, optimizer = group.prepare(model, optimizer, ema, bf16)
    plain = not config.compile and given is model and isinstance(model, DiT) and divisible(model)
    learner = _Autocast(_compiled(learner, model, given, config), bf16)
    if device.type == "cpu" and group.world_size == 1 and plain and not bf16:
        rows = config.batch_size // config.accumulate
        threads = min(rows, config.row_threads or worthwhile(rows))
        learner = RowsInThreads(learner, threads) if threads > 1 else learner
    # other flows may run networks of their own, such as a student's teacher: these get all of torch's threads
    small_work = isinstance(learner, RowsInThreads) and type(flow) is RectifiedFlow
    between_rows = one_torch_thread if small_work else nullcontext
    alone = group.world_size == len(parts) == 1
    one_step = training_step if alone else partial(group.training_step, accumulate=config.accumulate)
    check_every = 1 if device.type == "cpu" else 25  # reading the loss makes a GPU wait
    saved, throughput, newest = done, Throughput(config.batch_size), partial(_newest, folder)

    def save() -> None:
        state = {"step": done, "seconds": seconds, "plan": asdict(budget), "train": asdict(config)}
        with group.peer_errors(newest):
            save_checkpoint(Path(folder), model, optimizer, ema, state | (about or {}), gather=group.gather)

    try:
        while done < budget.end:
            start = time.perf_counter()
            model.train()
            rate = budget.learning_rate(config, done)
            for parameters in optimizer.param_groups:
                parameters["lr"] = rate
            time_to_save = folder is not None and (done + 1) % config.checkpoint_every == 0
            check = (done + 1) % check_every == 0 or time_to_save or done + 1 == budget.end
            guard = partial(_require_finite, step=done + 1, rate=rate, newest=newest) if check else None
            with group.peer_errors(newest), randomness(config.seed, done, device), between_rows():
                chosen = batch_indices(len(images), config.batch_size, config.seed, done)
                x, y = make_batch(images, labels, chosen.to(device), config.flip)
                loss, norm = one_step(learner, flow, optimizer, x, y, config.clip, guard)
                if ema is not None:
                    group.update_ema(ema, model)
                elapsed = time.perf_counter() - start
                seconds = group.sync_clock_and_stop(seconds + elapsed, check)
            done += 1
            if check or group.world_size == 1:  # the clock of process 0 decides
                budget.fix(config, done, seconds)
            speed, progress = throughput.update(elapsed, check), budget.progress(config, done, seconds)
            yield Step(done, loss, norm, rate, speed, seconds, budget.total, progress)
            if time_to_save:  # after whoever drives the loop has noted the loss: a log is never behind its checkpoint
                save()
                saved = done
    except GeneratorExit:  # whoever drives the loop has stopped, between two steps: keep what was learned
        if folder is not None and saved != done:
            save()
        raise
    if folder is not None and saved != done:
        save()


class Throughput:
    """Images per second over the last steps: batch size / mean seconds per step.

    The host waits for a GPU only in steps that read the loss, so only the time between two of these is a measurement.
    """

    def __init__(self, batch_size: int):
        self.batch_size, self.mean, self.seconds, self.steps = batch_size, None, 0.0, 0

    def update(self, seconds: float, synchronized: bool) -> float:
        """After a step of so many seconds; synchronized: the device had finished when they were taken."""
        self.seconds, self.steps = self.seconds + seconds, self.steps + 1
        recent = self.seconds / self.steps
        if synchronized:
            before, keep = recent if self.mean is None else self.mean, 0.95**self.steps
            self.mean = keep * before + (1 - keep) * recent
            self.seconds, self.steps = 0.0, 0
        return self.batch_size / (self.mean or recent)


class _Autocast(nn.Module):
    """A model whose forward pass runs in bfloat16 where asked for; its parameters are the model's own."""

    def __init__(self, model: nn.Module, bf16: bool):
        super().__init__()
        self.model, self.bf16 = model, bf16

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            return self.model(x, *condition)


def make_batch(images: Tensor, labels: Tensor | None, chosen: Tensor, flip: bool) -> tuple[Tensor, Tensor | None]:
    """The chosen images as floats in [-1, 1], half of them mirrored if `flip`, and their labels, if there are any."""
    x = to_float(images[chosen])
    if flip:
        mirrored = torch.rand(len(x), device=x.device) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    return x, None if labels is None else labels[chosen]


def check_dataset(model: nn.Module, dataset: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The images and labels, once it is sure that the model can learn from them; ValueError says what does not fit."""
    try:
        images, labels = dataset
        shape, dtype, label_dtype = images.shape, images.dtype, labels.dtype
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError("dataset must be a pair of tensors (images, labels), as load_dataset returns it") from error
    if dtype != torch.uint8 or label_dtype != torch.int64:
        raise ValueError(f"dataset must hold uint8 images and int64 labels, not {dtype} and {label_dtype}")
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(f"{len(images)} images and {len(labels)} labels: expected as many of each, and at least one")
    config = getattr(model, "config", None)
    if config is not None:
        expected = (config.channels, *config.image_shape)
        if tuple(shape[1:]) != expected:
            raise ValueError(f"the images are {tuple(shape[1:])}, but the model is made for {expected}")
        if config.num_classes is not None and int(labels.max()) >= config.num_classes:
            raise ValueError(f"a label is {int(labels.max())}, but the model knows only 0 to {config.num_classes - 1}")
    return images, labels


FREE = ("checkpoint_every", "accumulate", "shard", "row_threads")  # settings that change nothing of what is learned
END = ("steps", "minutes", "decay", "decay_steps", "stop_after")  # these may change until the decay begins


def _resume(
    folder: Path,
    model: nn.Module,
    optimizer: Optimizer,
    ema: Any,
    config: TrainConfig,
    budget: StepBudget,
    group: SingleProcess,
) -> tuple[StepBudget, int, float]:
    """Load the newest complete checkpoint, if there is one; returns the budget, and steps and seconds done."""
    for leftover in folder.glob(".*.partial*") if group.is_main else ():  # of a run that was killed while it wrote
        leftover.unlink(missing_ok=True)
    found = checkpoints_in(folder)
    number = int(found[0].name.rpartition("-")[2]) if found else 0
    group.require_same(number, f"the processes see different checkpoints in {folder}: let --out be a folder they share")
    if not found:
        return budget, 0, 0.0
    about = load_checkpoint(found[0], model, optimizer, ema)
    now, before = asdict(config) | {"betas": list(config.betas)}, about["train"]
    changed = [name for name in now if now[name] != before.get(name) and name not in FREE]
    old, done = StepBudget(**about["plan"]), about["step"]
    if changed and set(changed) <= set(END) and not old.decaying(done):
        if budget.end <= done or about["seconds"] >= 60 * (config.minutes or math.inf):
            raise ValueError(
                f"{folder} holds a run of {done} steps and {about['seconds'] / 60:.1f} minutes, which is past the end "
                "now asked for: give more steps or minutes to go on, another folder (--out), or start again (--fresh)"
            )
        return budget, done, about["seconds"]  # longer or shorter than first planned
    if changed:
        was = ", ".join(f"{name} was {before.get(name)!r} and is now {now[name]!r}" for name in changed)
        raise ValueError(
            f"{folder} holds a run with other settings ({was}): give the same settings to go on, "
            "another folder (--out), or start again (--fresh)"
        )
    return old, done, about["seconds"]


def _bare(model: nn.Module) -> nn.Module:
    """The model inside torch.compile's wrapper; ValueError for any other, since `train` divides the work itself."""
    outer, inner = getattr(model, "_orig_mod", model), unwrap(model)
    if outer is not inner:
        raise ValueError(
            f"train wants the model itself, not {type(outer).__name__} around it: hand over model.module; "
            "under torchrun, train divides each batch among the processes"
        )
    return inner


def _compiled(learner: nn.Module, model: nn.Module, given: nn.Module, config: TrainConfig) -> nn.Module:
    """The learner compiled, where the configuration says so or the model was given compiled."""
    if learner is model and given is not model:
        return given
    return torch.compile(learner) if config.compile or given is not model else learner


def _has_classes(model: nn.Module) -> bool:
    config = getattr(model, "config", None)
    return config is None or config.num_classes is not None


def _use_bf16(config: TrainConfig, device: torch.device) -> bool:
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return config.precision == "bf16"


def _newest(folder: str | Path | None) -> str:
    found = checkpoints_in(Path(folder)) if folder else []
    return str(found[0]) if found else "none was written"


def _require_finite(loss: Tensor, norm: Tensor, step: int, rate: float, newest: Callable[[], str]) -> None:
    """Raise before nan or inf spoils the weights."""
    if math.isfinite(loss.item()) and math.isfinite(norm.item()):
        return
    raise NonFiniteLoss(
        f"the loss is {loss.item()} (gradient norm {norm.item()}) at step {step}, learning rate {rate:.1e}: "
        f"the last good checkpoint: {newest()}; try again with half the learning rate, or precision fp32"
    )
