"""Registers and timesteps in colour: patch 2, width 192, depth 6, a run of fixed steps for each variant and seed.

What is compared is paired: within a seed all variants start from the same weights and see the same pictures, mirrors,
noise and dropped labels in the same order; uniform and logit-normal times come from the same normal numbers.
"""

import time
from pathlib import Path

import torch
from torch import Tensor, nn

from dit_course.checkpoints import load_classifier
from dit_course.data import to_float
from dit_course.dit import DiT, DiTConfig
from dit_course.ema import EMA
from dit_course.evaluation import measure
from dit_course.flow import RectifiedFlow, interpolate, velocity_target
from dit_course.sampling import Sampler
from dit_course.studies.gpu.machine import (
    DEVICE,
    Captured,
    adamw,
    in_bf16,
    load,
    machine,
    options,
    say,
    set_rate,
    wait_for,
    write_rows,
)
from dit_course.training import learning_rate

BATCH, LR, WARMUP, DECAY, EMA_DECAY = 256, 1.5e-3, 200, 0.4, 0.999
TIMES = [(i + 0.5) / 10 for i in range(10)]
VARIANTS = {
    "baseline": (4, "logit_normal"),
    "registers 0": (0, "logit_normal"),
    "uniform timesteps": (4, "uniform"),
}


def paired_times(kind: str):
    """Times of that kind from n normal numbers: uniform ones by the normal distribution function."""

    def sample(n: int, generator=None) -> Tensor:
        z = torch.randn(n, device=DEVICE)
        return torch.sigmoid(z) if kind == "logit_normal" else (1 + torch.erf(z * 0.5**0.5)) / 2

    return sample


def new_model(registers: int, seed: int, dry: bool) -> DiT:
    """The same starting weights for every number of registers."""
    shared = {"image_size": 32, "channels": 3, "num_classes": 10}
    size = {"patch_size": 2, "width": 192, "depth": 6}
    if dry:
        size = {"patch_size": 8, "width": 24, "depth": 2, "heads": 2}
    torch.manual_seed(seed)
    model = DiT(DiTConfig(**shared, **size, registers=4))
    if registers == 4:
        return model
    without = DiT(DiTConfig(**shared, **size, registers=registers))
    state = model.state_dict() | {"registers": without.registers.detach()}
    without.load_state_dict(state)
    return without


def trained(variant: str, seed: int, total: int, train, args, stop_after: float = 1e9) -> tuple[nn.Module, float, int]:
    """The averaged model, seconds a step, and steps done."""
    registers, timesteps = VARIANTS[variant]
    model = new_model(registers, seed, args.dry).to(DEVICE)
    ema, flow = EMA(model, EMA_DECAY), RectifiedFlow(paired_times(timesteps))
    optimizer, learner = adamw(model, LR), in_bf16(model, args)
    batch, count = (8 if args.dry else BATCH), len(train.images)
    orders = [torch.randperm(count, device=DEVICE)[: count // batch * batch] for _ in range(total * batch // count + 2)]
    order = torch.cat(orders).reshape(-1, batch)  # (steps, batch)
    position = torch.zeros((), dtype=torch.int64, device=DEVICE)

    def step() -> Tensor:
        chosen = order.index_select(0, position[None])[0]
        x = to_float(train.images[chosen])
        x = torch.where((torch.rand(batch, device=DEVICE) < 0.5)[:, None, None, None], x.flip(3), x)
        loss = flow.loss(learner, x, train.labels[chosen])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        position.add_(1)
        return loss.detach()

    model.train()
    set_rate(optimizer, 0.0)  # while it is compiled and captured nothing is learned
    start = time.perf_counter()
    step()
    captured = Captured(step, args)
    _start_again(optimizer, position)
    torch.manual_seed(1000 + seed)
    say(f"colour: {variant}, seed {seed}: ready after {time.perf_counter() - start:.0f} s")
    wait_for(args.gate)
    torch.cuda.synchronize() if DEVICE.type == "cuda" else None
    start, shown, done = time.perf_counter(), time.perf_counter(), 0
    while done < total:
        set_rate(optimizer, learning_rate(done, total, LR, WARMUP, round(DECAY * total)))
        loss = captured()
        ema.update(model)
        done += 1
        if done % 50 == 0:
            loss = loss.item()  # waits for the GPU
            if time.perf_counter() - shown > 15:
                shown = time.perf_counter()
                say(f"{variant}, seed {seed}: step {done}, loss {loss:.4f}, {1000 * (shown - start) / done:.1f} ms")
            if time.perf_counter() - start > stop_after:
                break
    return ema.model, (time.perf_counter() - start) / done, done


def _start_again(optimizer, position: Tensor) -> None:
    """Forget the steps that were only for compiling."""
    for state in optimizer.state.values():
        for value in state.values():
            value.zero_()
    position.zero_()


@torch.no_grad()
def judged(model: DiT, judge: nn.Module, test, args) -> dict[str, float]:
    """Loss by t on test pictures; accuracy, Frechet distance, precision, recall at two guidance scales."""
    count, samples, steps = (20, 20, 2) if args.dry else (2000, args.samples, 20)
    x, y = to_float(test.images[:count]), test.labels[:count]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    losses = []
    for moment in TIMES:
        t = torch.full((count,), moment, device=DEVICE)
        parts = zip(x.split(500), noise.split(500), t.split(500), y.split(500), strict=True)
        errors = [(model(interpolate(a, b, c), c, d) - velocity_target(a, b)).square().mean() for a, b, c, d in parts]
        losses.append(torch.stack(errors).mean().item())
    row = {"validation_loss": sum(losses) / len(losses)}
    labels = torch.arange(samples) % 10
    for cfg in (1.0, 2.5):
        drawn = Sampler(model, steps, "ab2", cfg).sample(samples, labels, seed=0, batch_size=500)
        scores = measure(judge, (drawn * 255).round().byte(), labels.to(DEVICE), test.images).tolist()
        names = ("class_accuracy", "frechet_distance", "precision", "recall")
        row |= {f"{name}_cfg_{cfg:g}": value for name, value in zip(names, scores, strict=True)}
    return row | {f"loss_at_{moment:.2f}": loss for moment, loss in zip(TIMES, losses, strict=True)}


def main() -> None:
    """Train and judge what no other process has claimed yet, a table of one row each; or, with --speed, only time them.

    deadline: seconds from now after which no run is begun that would not end in time.
    """
    args = options("colour", steps=0, minutes=1.0, samples=2000, judge="", speed=0.0, deadline=1e9)
    begun = time.perf_counter()
    train = load("cifar10", "train", args.cifar10)
    if args.speed:
        return measure_speed(train, args)
    total = 2 if args.dry else args.steps or agreed_steps(train, args)
    test, longest = load("cifar10", "test", args.cifar10), 0.0
    for seed, variant in ((seed, variant) for seed in (0, 1) for variant in VARIANTS):
        name = f"colour-{variant.replace(' ', '-')}-{seed}"
        start = time.perf_counter()
        if start - begun + longest > args.deadline or not claimed(args.out / f"{name}.claim"):
            continue
        model, seconds, done = trained(variant, seed, total, train, args, args.deadline + begun - start)
        row = {"variant": variant, "seed": seed, "steps": done, "planned": total, "seconds_per_step": seconds}
        row |= judged(model, find_judge(args), test, args) | {"machine": machine()}
        write_rows(args.out / f"{name}.csv", [row])
        say(f"colour: {variant}, seed {seed}: " + ", ".join(f"{k} {v:.3f}" for k, v in list(row.items())[4:14]))
        longest = max(longest, time.perf_counter() - start)


def claimed(file: Path) -> bool:
    """Whether this process was the first to ask for it."""
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def agreed_steps(train, args) -> int:
    """How many steps fit into `args.minutes` a run at today's speed; whoever asks first decides for all."""
    file = args.out / "colour-steps.txt"
    try:
        with file.open("x"):  # fails where it is there
            _, seconds, _ = trained("baseline", 0, 100_000, train, args, 6.0)
        partial = file.with_suffix(".partial")
        steps = (
            int(0.7 * 60 * args.minutes / seconds / 100) * 100
        )  # once all lanes run, a step takes up to 1.7 times as long
        partial.write_text(str(max(500, steps)))
        partial.replace(file)
    except FileExistsError:
        end = time.monotonic() + 150
        while not file.read_text() and time.monotonic() < end:
            time.sleep(0.2)
    steps = int(file.read_text() or 1500)
    say(f"colour: {steps} steps each")
    return steps


def find_judge(args) -> nn.Module:
    """The judge of this session once it is there, else the shipped one."""
    try:
        wait_for(Path(f"{args.judge}-classifier.json"), 60)
        judge = load_classifier(Path(args.judge))
    except TimeoutError:
        say(f"colour: no judge at {args.judge}, the shipped one judges")
        judge = load_classifier("cifar10")
    return judge.to(DEVICE)


def measure_speed(train, args) -> None:
    """Seconds a step of each network, alone on the GPU."""
    rows = []
    for variant in ("baseline", "registers 0"):
        _, seconds, done = trained(variant, 0, 100_000, train, args, args.speed)
        rows.append({"variant": variant, "seconds_per_step": seconds, "images_per_second": BATCH / seconds,
                     "steps": done, "machine": machine()})  # fmt: skip
        write_rows(args.out / "colour-speed.csv", rows)
        say(f"colour: {variant} alone: {1000 * seconds:.2f} ms a step, {BATCH / seconds:,.0f} images a second")


if __name__ == "__main__":
    main()
