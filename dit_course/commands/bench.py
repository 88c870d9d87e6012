"""`python -m dit_course bench`: how fast this machine trains and samples, and how near that is to its peak."""

import csv
import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from dit_course.commands._network import Network
from dit_course.commands._operators import operator_table, operators
from dit_course.data import Dataset
from dit_course.distributed.rows import RowsInThreads
from dit_course.distributed.train_config import TrainConfig
from dit_course.dit import DiT, DiTConfig
from dit_course.ema import EMA
from dit_course.sampling import Sampler
from dit_course.scaling import count_multiply_adds
from dit_course.trainer import train

FIELDS = ("what", "threads", "images_per_second", "slowest", "fastest", "share_of_peak", "peak_memory_mb")
LIKE_DIFFUSERS = {"width": 128, "depth": 6, "registers": 0, "qk_norm": False, "norm": "layer"}
# threads share the operations of a step, or the rows of a batch; our own training on a CPU does the latter
WHOLE, BY_ROWS = "eager, whole batch", "diffusers by rows"
TARGETS = {"diffusers": 1.5, "peak": 0.55, "sampling": 3.0}


@dataclass
class Entry:
    """One thing that is timed. once: do it one time, for `images` pictures of `multiply_adds` each."""

    what: str
    threads: int
    images: int
    multiply_adds: float
    once: Callable[[], object]
    speeds: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    memory: float = 0.0

    @property
    def speed(self) -> float:
        """The median of the rounds, in pictures a second."""
        return statistics.median(self.speeds)

    def row(self) -> dict[str, object]:
        """What is printed and written."""
        share = statistics.median(self.shares) if self.shares else None
        speeds = (round(speed, 1) for speed in (self.speed, min(self.speeds), max(self.speeds)))
        values = (self.what, self.threads, *speeds, share and round(share, 3), self.memory)
        return dict(zip(FIELDS, values, strict=True))


class DiffusersNetwork(nn.Module):
    """diffusers' DiT of the same sizes, called as ours is, so that the same loop trains it."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        from diffusers import DiTTransformer2DModel

        self.network = DiTTransformer2DModel(
            num_attention_heads=config.heads,
            attention_head_dim=config.width // config.heads,
            in_channels=config.channels,
            out_channels=config.channels,
            num_layers=config.depth,
            sample_size=config.image_shape[0],
            patch_size=config.patch_size,
            num_embeds_ada_norm=config.num_classes,
        )

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """x: (batch, C, H, W); t: (batch,) in [0, 1]; y: (batch,). Returns the shape of x."""
        return self.network(x, timestep=(1000 * t).long(), class_labels=y).sample


@dataclass
class Bench:
    """Measure the speed of training and sampling here: eager, compiled, bf16, threads, and diffusers' DiT."""

    model: Network = field(default_factory=lambda: Network(**LIKE_DIFFUSERS))
    """The network; by default like diffusers' DiT: no registers, no QK-norm, LayerNorm."""
    image_size: int = 28
    """Side of the images in pixels."""
    channels: int = 1
    """Channels of the images."""
    batch_size: int = 64
    """Images in a training step."""
    rounds: int = 5
    """How often everything is timed, in turns; the table holds medians."""
    seconds: float = 2.0
    """How long each is timed in a round, at least one step."""
    compile: bool = True
    """Measure torch.compile, too; needs a C++ compiler and a minute."""
    bf16: bool = True
    """Measure bf16 autocast, too."""
    diffusers: bool = True
    """Measure diffusers' DiT, too, where it is installed."""
    per_class: int = 2
    """Samples of a class, with guidance."""
    profile: bool = False
    """Instead, show what one eager training step consists of: operators with their time, arithmetic and bytes."""
    csv: Path | None = None
    """Write the table there as well."""
    device: str = "auto"
    """cpu, cuda, or auto for the fastest there is."""

    def run(self) -> None:
        """Time all in turns, print the table and what the targets say."""
        if self.rounds < 1 or self.seconds <= 0:
            raise ValueError(f"rounds = {self.rounds}, seconds = {self.seconds}: both must be above 0")
        self.gpu = torch.cuda.is_available() if self.device == "auto" else self.device.startswith("cuda")
        self.place = torch.device("cuda" if self.gpu else "cpu")
        if self.profile:
            self._profile()
            return
        before = torch.get_num_threads()
        try:
            entries, peaks = self._entries(), {}
            if not self.gpu:
                machine = platform.processor() or platform.machine()
                print(f"{machine}, torch {torch.__version__}; fp32 unless named otherwise{slow_bf16()}")
            for entry in entries:  # warm up, compile, look at the memory
                print(f"preparing {entry.what} ...", file=sys.stderr, flush=True)
                torch.set_num_threads(entry.threads)
                with _memory(self.place, entry):
                    for _ in range(3):
                        entry.once()
            for _ in range(self.rounds):
                for threads in sorted({entry.threads for entry in entries}):
                    torch.set_num_threads(threads)
                    peaks.setdefault(threads, []).append(matrix_peak(self.place, min(1.0, self.seconds)))
                for entry in entries:
                    torch.set_num_threads(entry.threads)
                    self._time(entry, peaks[entry.threads][-1])
        finally:
            torch.set_num_threads(before)
        self._report(entries, peaks)

    def _profile(self) -> None:
        (entry,) = self._entries()
        for _ in range(10):
            entry.once()
        for line in operator_table(operators(iter(entry.once, None))):
            print(line)

    def _time(self, entry: Entry, peak: float) -> None:
        start, images = time.perf_counter(), 0
        while images == 0 or time.perf_counter() - start < self.seconds:
            entry.once()
            images += entry.images
        if self.gpu:
            torch.cuda.synchronize()
        entry.speeds.append(images / (time.perf_counter() - start))
        entry.shares.append(2 * entry.multiply_adds * entry.speeds[-1] / peak)

    def _entries(self) -> list[Entry]:
        shape = (4 * self.batch_size, self.channels, self.image_size, self.image_size)
        data = torch.randint(256, shape, dtype=torch.uint8), torch.arange(shape[0]) % 10
        config = self.model.config_for(Dataset(*data, tuple(map(str, range(10))), "bench"))
        forward = sum(count_multiply_adds(config).values())
        threads = torch.get_num_threads()
        entries: list[Entry] = []

        def training(what: str, network: nn.Module, threads: int = threads, by_rows=False, **options) -> None:
            settings = TrainConfig(steps=10**9, batch_size=self.batch_size, **({"precision": "fp32"} | options))
            network = network.to(self.place)
            learner = RowsInThreads(network, threads) if by_rows else network
            steps = train(learner, data, settings, ema=EMA(network))
            # backward is twice the work of forward
            entries.append(Entry(f"train, {what}", threads, self.batch_size, 3 * forward, lambda: next(steps)))

        if self.profile:  # of one thread's operators: a profiler does not look into others
            training("eager", DiT(config), row_threads=1)
            return entries
        training("eager", DiT(config))
        if threads > 1 and not self.gpu:
            training(WHOLE, DiT(config), row_threads=1)
        if threads > 1:
            training("eager", DiT(config), threads=1)
        if self.compile:
            training("compiled", DiT(config), compile=True)
        if self.bf16:
            training("bf16", DiT(config), precision="bf16")
            if self.compile and self.gpu:
                training("compiled bf16", DiT(config), compile=True, precision="bf16")
        if self.diffusers:
            try:
                training("diffusers", DiffusersNetwork(config))
                if self.bf16 and self.gpu:
                    training("diffusers bf16", DiffusersNetwork(config), precision="bf16")
                if threads > 1 and not self.gpu:
                    training(BY_ROWS, DiffusersNetwork(config), by_rows=True)
            except ImportError:
                print("diffusers is not installed: left out (pip install diffusers)")
        model, count = DiT(config).to(self.place), 10 * self.per_class
        for what, steps, solver in (("euler 50", 50, "euler"), ("ab2 15", 15, "ab2")):
            sampler = Sampler(model, steps=steps, solver=solver, cfg=2.5)
            work = 2 * steps * forward  # with and without the label
            entries.append(Entry(f"draw, {what}", threads, count, work, lambda s=sampler: s.sample(count, seed=0)))
        return entries

    def _report(self, entries: list[Entry], peaks: dict[int, list[float]]) -> None:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        if not self.gpu and load > 1.5 * (os.cpu_count() or 1):
            print(f"note: this machine is busy (load {load:.1f} on {os.cpu_count()} cores): trust ratios at most")
        for threads, values in peaks.items():
            print(f"matrix products, fp32, {threads} threads: {statistics.median(values) / 1e9:.0f} GFLOP/s")
        rows = [entry.row() for entry in entries]
        print(f"{'':26s} {'threads':>7s} {'images/s':>9s} {'(range)':>17s} {'of peak':>8s} {'memory':>9s}")
        for row in rows:
            span = f"({row['slowest']:.0f}-{row['fastest']:.0f})"
            share = f"{row['share_of_peak']:.0%}"
            memory = f"{row['peak_memory_mb']:.0f} MB" if row["peak_memory_mb"] else "-"
            speed = f"{row['images_per_second']:.1f}"
            print(f"{row['what']:26s} {row['threads']:7d} {speed:>9s} {span:>17s} {share:>8s} {memory:>9s}")
        for line in targets(entries):
            print(line)
        if self.csv is not None:
            self.csv.parent.mkdir(parents=True, exist_ok=True)
            with self.csv.open("w", newline="") as file:
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


def slow_bf16() -> str:
    """What to know of bfloat16 on this CPU: without instructions for it, products of it are slower than fp32's."""
    able = torch.cpu.get_capabilities()
    known = able.get("architecture") in ("x86_64", "AMD64")
    return "; no bfloat16 instructions" if known and not (able["avx512_bf16"] or able["amx_bf16"]) else ""


def targets(entries: list[Entry]) -> Iterator[str]:
    """One line for each target of the course: what was measured, a median of the rounds, and whether it is met."""
    by_name = {}
    for entry in entries:
        by_name.setdefault(entry.what, entry)  # the first: with all threads

    def ratio(ours: str, theirs: str) -> float:
        pairs = zip(by_name[ours].speeds, by_name[theirs].speeds, strict=True)
        return statistics.median(a / b for a, b in pairs)

    def line(what: str, value: float, target: float) -> str:
        return f"{what}: {value:.2f} (target {target:.2f}: {'met' if value >= target else 'missed'})"

    best = "train, compiled" if "train, compiled" in by_name else "train, eager"
    for ours in dict.fromkeys(("train, eager", best)):
        if "train, diffusers" in by_name:
            yield line(f"{ours}, against diffusers", ratio(ours, "train, diffusers"), TARGETS["diffusers"])
    if "train, diffusers bf16" in by_name:
        value = ratio("train, bf16", "train, diffusers bf16")
        yield line("train, bf16, against diffusers in bf16", value, TARGETS["diffusers"])
    if f"train, {BY_ROWS}" in by_name:
        yield f"train, eager, against {BY_ROWS}: {ratio('train, eager', f'train, {BY_ROWS}'):.2f}"
    yield line(f"{best}, share of the matrix peak", statistics.median(by_name[best].shares), TARGETS["peak"])
    yield line("drawing, ab2 15 against euler 50", ratio("draw, ab2 15", "draw, euler 50"), TARGETS["sampling"])


def matrix_peak(device: torch.device, seconds: float, side: int = 1024) -> float:
    """FLOP/s of a large product of fp32 matrices, the best of some: the peak of this machine."""
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    out, best, start = torch.empty_like(a), float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - start < seconds:
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


@contextmanager
def _memory(device: torch.device, entry: Entry) -> Iterator[None]:
    """Measure the peak of memory above what was in use before; 0 where the system does not report it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        yield
        entry.memory = (torch.cuda.max_memory_allocated() - start) // 2**20
        return
    start = _status("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
    except OSError:
        start = 0
    yield
    entry.memory = max(0, _status("VmHWM") - start) // 1024 if start else 0


def _status(name: str) -> int:
    """A line of this process's status on Linux, in kilobytes; 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
