"""What RMSNorm costs: DiT-S/2 training steps with three norms, eager and compiled, and their rounding in bfloat16."""

import statistics
import time
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dit_course.attention import RMSNorm
from dit_course.dit import DiT
from dit_course.flow import RectifiedFlow
from dit_course.studies.gpu.machine import DEVICE, machine, options, say, wait_for


class WrittenOut(RMSNorm):
    """As in lesson 02 at the time of measuring: the mean square in float32, the division in the input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., width)."""
        mean_square = x.float().square().mean(dim=-1, keepdim=True)  # (..., 1)
        x = x * torch.rsqrt(mean_square + self.eps).to(x.dtype)
        return x if self.weight is None else x * self.weight.to(x.dtype)


class Functional(RMSNorm):
    """torch's own, in one kernel where weight and input have one dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., width)."""
        weight = None if self.weight is None else self.weight.to(x.dtype)
        return F.rms_norm(x, x.shape[-1:], weight, self.eps)


VARIANTS = {  # name: (class of norm, further settings of the network, compiled)
    "(a) RMSNorm written out, eager": (WrittenOut, {}, False),
    "(b) RMSNorm by F.rms_norm, eager": (Functional, {}, False),
    "(c) LayerNorm, no QK-norm, eager": (None, {"norm": "layer", "qk_norm": False}, False),
    "(a) RMSNorm written out, compiled": (WrittenOut, {}, True),
    "(b) RMSNorm by F.rms_norm, compiled": (Functional, {}, True),
}


def swap_norms(model: nn.Module, kind: type[RMSNorm] | None) -> nn.Module:
    """The same model with another RMSNorm."""
    for module in model.modules():
        if kind is not None and isinstance(module, RMSNorm):
            module.__class__ = kind
    return model


def training_step_of(kind, settings: dict, compiled: bool, args):
    """A function that takes one training step in bfloat16, and returns the loss."""
    torch.manual_seed(0)
    size = {"image_size": 8} if args.dry else {"image_size": 32}
    model = swap_norms(DiT.from_name("DiT-S/2", channels=3, num_classes=10, **size, **settings), kind).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    batch = 2 if args.dry else args.batch
    x = torch.rand(batch, 3, *model.config.image_shape, device=DEVICE) * 2 - 1
    y = torch.randint(10, (batch,), device=DEVICE)
    flow, learner = RectifiedFlow(), torch.compile(model, dynamic=False) if compiled else model

    def step() -> Tensor:
        with torch.autocast(DEVICE.type, torch.bfloat16):
            loss = flow.loss(learner, x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step, batch


def time_steps(step, seconds: float) -> list[float]:
    """Seconds of each of some steps, between device events."""
    if DEVICE.type == "cpu":
        start = time.perf_counter()
        step()
        return [time.perf_counter() - start]
    marks, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(marks) < 12:
        marks.append(torch.cuda.Event(enable_timing=True))
        marks[-1].record()
        step()
        if len(marks) % 8 == 0:
            torch.cuda.synchronize()
    marks.append(torch.cuda.Event(enable_timing=True))
    marks[-1].record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) / 1000 for a, b in pairwise(marks)]


def rounding() -> list[str]:
    """How far bfloat16 results are from float64's, mean and largest relative error; a Markdown table."""
    torch.manual_seed(0)
    lines = ["| input | norm | output | mean error | largest error |", "|---|---|---|---:|---:|"]
    for scale in (1e-4, 1.0, 300.0):
        x = (scale * torch.randn(4096, 384)).bfloat16()
        exact = F.rms_norm(x.double(), (384,), None, 1e-6)
        for kind in (WrittenOut, Functional):
            for autocast in (False, True):
                with torch.autocast(DEVICE.type, torch.bfloat16, enabled=autocast):
                    result = kind(384, scale=False)(x.to(DEVICE))
                error = (result.cpu().double() - exact).abs() / exact.abs().clamp(min=1e-3)
                name = kind.__name__ + (", autocast" if autocast else "")
                lines.append(f"| {scale:g} | {name} | {result.dtype} | {error.mean():.2e} | {error.max():.2e} |")
    return lines


def main() -> None:
    """Prepare all (compiling is slow), wait for the gate, time them in turns."""
    args = options("norms", batch=256, rounds=2, seconds=1.2, only="", wait_for="")
    steps, lines, speeds = {}, [], {}
    chosen = {name: v for name, v in VARIANTS.items() if name.startswith(args.only)}
    if args.dry:
        chosen = dict(list(chosen.items())[:3])
    for name, variant in chosen.items():
        if variant[2] and args.wait_for:  # compiled ahead by other processes: here it is read from the cache
            for other in args.wait_for.split(","):
                wait_for(args.out / other, 90)
        start = time.perf_counter()
        step, batch = training_step_of(*variant, args)
        for _ in range(1 if args.dry else 3):
            loss = step()
        say(f"norms: {name} ready after {time.perf_counter() - start:.0f} s, loss {loss.item():.3f}")
        steps[name], speeds[name] = step, []
    if args.only:
        (args.out / f"norms-compiled-{args.only[1]}").touch()
        return  # compiled for the process that measures
    wait_for(args.gate, 120)
    for turn in range(args.rounds):
        for name, step in steps.items():
            step()
            speeds[name].append(batch / statistics.median(time_steps(step, 0 if args.dry else args.seconds)))
        say(f"norms: round {turn + 1} done")
        first = statistics.median(speeds[next(iter(speeds))])
        lines = [
            f"DiT-S/2, 32x32x3, 4 registers, batch {batch}, bf16 autocast, AdamW (fused), clipping; {machine()}, torch "
            f"{torch.__version__}; median of {turn + 1} rounds of {args.seconds:g} s, in turns (range: the rounds).",
            "",
            "| training step | images a second | range | relative |", "|---|---:|---:|---:|",
        ]  # fmt: skip
        for name, values in speeds.items():
            middle = statistics.median(values)
            lines.append(f"| {name} | {middle:,.0f} | {min(values):,.0f}-{max(values):,.0f} | {middle / first:.2f}x |")
        (args.out / "norms.md").write_text("\n".join(lines) + "\n")
    lines += ["", "Rounding in bfloat16, against float64 (inputs: normal, times the scale):", "", *rounding()]
    (args.out / "norms.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
