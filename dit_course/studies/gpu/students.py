"""A few-step student from its teacher's paths: it never sees a picture of the data set.

The teacher draws guided paths, for guidance scales from 1 to 6, and all states on them are kept in a pool, old ones
making room for new ones. The student learns the average velocity between two states of a path (`path_target`); nearly
half of the pairs are the whole path, from noise to picture. Where a path ends, the pictures are also compared by what
the teacher's first blocks make of them, noised a little: a squared error of pixels alone is smallest for a blur.
"""

import time
from pathlib import Path

import torch
from torch import Tensor, nn

from dit_course.checkpoints import load_classifier, load_pretrained, save_pretrained
from dit_course.commands.evaluate import described
from dit_course.dit import DiT, drop_registers
from dit_course.ema import EMA
from dit_course.evaluation import measure
from dit_course.few_steps import FewStepDiT, FewStepSampler, path_target, random_cfg, teacher_paths
from dit_course.flow import interpolate, step
from dit_course.sampling import Sampler
from dit_course.studies.gpu.colour import find_judge
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
    write_json,
    write_rows,
)

WHOLE, FROM_NOISE, TO_DATA = 0.45, 0.15, 0.15  # shares of a batch: noise to picture, noise to any t, any t to picture
HUBER = 0.03  # errors far below this count as squares, far above as they are
EMA_DECAY, DECAY = 0.999, 0.5
SCALES, EVALUATIONS = (2.5, 1.0, 1.5, 4.0, 6.0), (1, 2, 4)


class Pool:
    """States of the teacher's paths: (steps + 1, size, ...) in half precision, with labels, scales and times."""

    def __init__(self, teacher: DiT, size: int, steps: int, chunk: int, args):
        shape = (teacher.config.channels, *teacher.config.image_shape)
        self.teacher, self.velocity, self.steps, self.chunk = teacher, in_bf16(teacher, args), steps, chunk
        self.states = torch.zeros(steps + 1, size, *shape, dtype=torch.float16, device=DEVICE)
        self.times = torch.zeros(steps + 1, size, device=DEVICE)
        self.labels = torch.zeros(size, dtype=torch.int64, device=DEVICE)
        self.cfg = torch.ones(size, device=DEVICE)
        self.filled = torch.zeros((), device=DEVICE)  # on the device: a captured step reads it
        self.drawn = 0

    def grow(self) -> None:
        """One chunk of new paths, in place of the oldest ones where the pool is full."""
        size, chunk = self.states.shape[1], self.chunk
        noise = torch.randn(chunk, *self.states.shape[2:], device=DEVICE)
        y = torch.randint(self.teacher.config.num_classes, (chunk,), device=DEVICE)
        cfg, ts = random_cfg(chunk, device=DEVICE), jittered(self.steps)
        at = self.drawn % size
        here = slice(at, at + chunk)  # chunks divide the size
        self.states[:, here] = teacher_paths(self.velocity, noise, y, cfg, ts).half()
        self.times[:, here] = ts[:, None].to(DEVICE)
        self.labels[here], self.cfg[here] = y, cfg
        self.drawn += chunk
        self.filled.fill_(min(self.drawn, size))

    def pairs(self, n: int, quarters: float = 0.0) -> tuple[Tensor, ...]:
        """n random pairs on paths, x_t, t, x_next, t_next, y, cfg; whole paths first, then those that end at data.

        quarters: the share of pairs that are the four steps of a sampling with four evaluations; they come last.
        """
        path = (torch.rand(n, device=DEVICE) * self.filled).long()
        k, share = self.steps, torch.arange(n, device=DEVICE) / n / (1 - quarters)
        first = (torch.rand(n, device=DEVICE) * k).long()  # 0..k-1
        last = first + 1 + (torch.rand(n, device=DEVICE) * (k - first)).long()  # first+1..k
        anywhere = 1 + (torch.rand(n, device=DEVICE) * k).long()  # 1..k
        last = torch.where(share >= 1 - FROM_NOISE, anywhere, last).clamp(max=k)
        last = last.masked_fill(share < WHOLE + TO_DATA, k)
        first = first.masked_fill((share < WHOLE) | (share >= 1 - FROM_NOISE), 0)
        quarter = k // 4 * torch.randint(4, (n,), device=DEVICE)
        first = torch.where(share >= 1, quarter, first)
        last = torch.where(share >= 1, quarter + k // 4, last)
        x, t = self.states[first, path].float(), self.times[first, path]
        return x, t, self.states[last, path].float(), self.times[last, path], self.labels[path], self.cfg[path]


def jittered(steps: int) -> Tensor:
    """Times from 1 to 0, (steps + 1,): the quarters exactly, as sampling meets them, the others moved at random."""
    ts = torch.linspace(1, 0, steps + 1)
    moved = ts + (torch.rand(steps + 1) - 0.5) * 0.8 / steps
    quarter = torch.arange(steps + 1) % max(1, steps // 4) == 0
    return torch.where(quarter, ts, moved)


class Features(nn.Module):
    """What the teacher's first blocks make of noised pictures, each token scaled to mean square 1."""

    def __init__(self, teacher: DiT, blocks: int):
        super().__init__()
        self.teacher, self.blocks = teacher, blocks

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """x: (batch, C, H, W); t, y: (batch,). Returns (batch, blocks, tokens * width)."""
        condition, tokens, seen = self.teacher.condition(t, y), self.teacher.embed(x), []
        for block in self.teacher.blocks[: self.blocks]:
            tokens = block(tokens, condition)
            patches = drop_registers(tokens, self.teacher.config.registers).float()
            seen.append((patches * torch.rsqrt(patches.square().mean(dim=-1, keepdim=True) + 1e-6)).flatten(1))
        return torch.stack(seen, dim=1)


def huber(error: Tensor, width: float) -> Tensor:
    """The root of the mean square of each row, smooth at 0 (pseudo-Huber): (..., n) -> (...)."""
    return (error.square().mean(dim=-1) + width**2).sqrt() - width


def make_step(student: nn.Module, pool: Pool, optimizer, batch: int, weight: float, args):
    """A function that takes one training step and returns both losses, (2,)."""
    learner, ends = in_bf16(student, args), round((1 - args.quarters) * (WHOLE + TO_DATA) * batch)
    features = in_bf16(Features(pool.teacher, max(1, 2 * len(pool.teacher.blocks) // 3)), args)

    def one_step() -> Tensor:
        x, t, x_next, t_next, y, cfg = pool.pairs(batch, args.quarters)
        average = learner(x, t, y, t_next, cfg).float()
        loss = huber((average - path_target(x, x_next, t, t_next)).flatten(1), HUBER).mean()
        drawn = step(x[:ends], average[:ends], t[:ends], t_next[:ends])
        noise, tau = torch.randn_like(drawn), 0.02 + 0.4 * torch.rand(ends, device=DEVICE)
        with torch.no_grad():
            wanted = features(interpolate(x_next[:ends], noise, tau), tau, y[:ends])
        seen = features(interpolate(drawn, noise, tau), tau, y[:ends])
        perceived = huber(seen - wanted, HUBER).mean()
        (loss + weight * perceived).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return torch.stack([loss.detach(), perceived.detach()])

    return one_step


def distill(teacher: DiT, name: str, args) -> FewStepDiT:
    """Train for `args.seconds`, saving the running average now and then; returns it."""
    torch.manual_seed(0)
    student = load_pretrained(args.start) if args.start else FewStepDiT.from_teacher(teacher)
    student = student.to(DEVICE).train()
    ema, optimizer = EMA(student, EMA_DECAY), adamw(student, args.lr, weight_decay=0.0)
    chunk = 8 if args.dry else args.chunk
    pool = Pool(teacher, 2 * chunk if args.dry else args.pool, 4 if args.dry else args.path_steps, chunk, args)
    start = time.perf_counter()
    pool.grow()
    say(f"{name}: paths compiled after {time.perf_counter() - start:.0f} s")
    set_rate(optimizer, 0.0)
    one_step = make_step(student, pool, optimizer, 16 if args.dry else args.batch, args.features, args)
    one_step()
    captured = Captured(one_step, args)
    for state in optimizer.state.values():
        for value in state.values():
            value.zero_()
    say(f"{name}: ready after {time.perf_counter() - start:.0f} s")
    wait_for(args.gate)
    start = saved = time.perf_counter()
    steps, curve, growing = 0, [], 0.0
    while not args.dry and pool.drawn < args.first:
        pool.grow()
    while steps < 2 if args.dry else (seconds := time.perf_counter() - start) < args.seconds:
        begun = time.perf_counter()
        if steps:
            pool.grow()
        torch.cuda.synchronize() if DEVICE.type == "cuda" else None
        growing += time.perf_counter() - begun
        for _ in range(2 if args.dry else args.steps_per_chunk):
            at = steps / 2 if args.dry else (time.perf_counter() - start) / args.seconds
            set_rate(optimizer, args.lr * max(1e-3, min(1, (steps + 1) / args.warmup, (1 - at) / DECAY)))
            losses = captured()
            ema.update(student)
            steps += 1
        losses = losses.tolist()  # waits for the GPU
        curve.append([steps, round(time.perf_counter() - start, 1), *(round(loss, 5) for loss in losses)])
        if time.perf_counter() - saved > 25 or args.dry:
            saved = time.perf_counter()
            say(f"{name}: step {steps}, {saved - start:.0f} s ({growing:.0f} s for {pool.drawn} paths), loss {losses}")
    seconds = time.perf_counter() - start
    about = {
        "data": args.data, "teacher": args.teacher_name,
        "method": "average velocities on the teacher's own guided paths, and its features",
        "steps": steps, "batch_size": args.batch, "seconds": round(seconds, 1), "paths": pool.drawn,
        "path_steps": args.path_steps, "pool": args.pool, "lr": args.lr, "warmup": args.warmup, "decay": DECAY,
        "ema_decay": EMA_DECAY, "huber": HUBER, "features": args.features, "seed": 0,
        "precision": "bf16" if DEVICE.type == "cuda" else "fp32", "shared_gpu": DEVICE.type == "cuda",
        "shares": {"noise to picture": WHOLE, "noise to any t": FROM_NOISE, "any t to picture": TO_DATA},
        "quarters": args.quarters, "start": args.start, "machine": machine(), "torch": torch.__version__,
        "loss_curve": {"columns": ["step", "seconds", "loss", "features"], "rows": curve[:: max(1, len(curve) // 200)]},
    }  # fmt: skip
    if args.start:  # the student's first training is told first
        about = described(args.start) | {"then": about}
    save_pretrained(args.out / f"{name}-few-steps", ema.model, half=True, training=about)
    say(f"{name}: {steps} steps in {seconds:.0f} s, saved")
    return ema.model


def evaluate(student: FewStepDiT, teacher: DiT, judge: nn.Module, test, name: str, args) -> None:
    """Student and teacher at all scales: a CSV, a row each as soon as it is known."""
    samples, rows = 20 if args.dry else args.samples, []
    labels = torch.arange(samples) % 10
    runs = [(student, s, cfg) for s in EVALUATIONS for cfg in SCALES]
    runs += [(teacher, 15, cfg) for cfg in SCALES] + [(teacher, 30, 2.5)]
    for model, steps, cfg in runs[:: 12 if args.dry else 1]:
        few = isinstance(model, FewStepDiT)
        sampler = FewStepSampler(model, steps, cfg) if few else Sampler(model, steps, "ab2", cfg)
        drawn = (sampler.sample(samples, labels, seed=0, batch_size=500) * 255).round().byte()
        accuracy, distance, precision, recall = measure(judge, drawn, labels.to(DEVICE), test.images).tolist()
        rows.append({
            "model": "student" if few else "teacher", "steps": steps, "cfg": cfg,
            "evaluations": steps * (1 if few or cfg == 1 else 2), "samples": samples,
            "class_accuracy": accuracy, "frechet_distance": distance, "precision": precision, "recall": recall,
        })  # fmt: skip
        write_rows(args.out / f"{name}-few-steps.csv", rows)
        say(f"{name}: {rows[-1]}")


def save_grid(student: FewStepDiT, teacher: DiT, path: Path, dry: bool) -> None:
    """PNG, twenty columns: the teacher with 30 evaluations, then the student with 1, 2, 4; cfg 2.5, the same noise."""
    from PIL import Image

    samplers = [Sampler(teacher, 2 if dry else 15, "ab2", 2.5), *(FewStepSampler(student, s, 2.5) for s in EVALUATIONS)]
    rows = [part for sampler in samplers for part in sampler.sample(40, seed=0).cpu().split(20)]  # 8 x (20, c, h, w)
    grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)  # (c, 8 * h, 20 * w)
    pixels = (grid * 255).round().byte().permute(1, 2, 0).expand(-1, -1, 3)  # (h, w, 3)
    pixels = pixels.repeat_interleave(2, 0).repeat_interleave(2, 1)
    Image.fromarray(pixels.contiguous().numpy()).save(path)


def main() -> None:
    """Distill one teacher, measure, draw."""
    args = options(
        "students", teacher="fashion-mnist", start="", data="fashion-mnist", judge="", seconds=120.0, lr=1e-3,
        batch=512, chunk=1024, pool=65536, first=8192, path_steps=24, steps_per_chunk=100, features=0.5, samples=1000,
        quarters=0.0, warmup=200,
    )  # fmt: skip
    path = Path(args.teacher)
    args.teacher_name = path.parent.name if path.stem == "model" else path.stem
    teacher = load_pretrained(args.teacher).to(DEVICE).requires_grad_(False)
    student = distill(teacher, args.data, args)
    save_grid(student, teacher, args.out / f"{args.data}-few-steps.png", args.dry)
    judge = find_judge(args) if args.judge else load_classifier(args.data).to(DEVICE)
    test = load(args.data, "test", args.cifar10)
    evaluate(student, teacher, judge, test, args.data, args)
    write_json(args.out / f"{args.data}-few-steps-judge.json", {"judge": args.judge.rpartition("/")[2] or args.data})


if __name__ == "__main__":
    main()
