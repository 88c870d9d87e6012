"""What all parts share: options, devices, data on the device, training steps as CUDA graphs, tables."""

import argparse
import csv
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from dit_course.data import Dataset, load_dataset

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def options(part: str, **more) -> argparse.Namespace:
    """The command line of a part. more: further options with their defaults."""
    parser = argparse.ArgumentParser(part)
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--cifar10", type=Path, help="what cifar10.py has written")
    parser.add_argument("--dry", action="store_true", help="a few steps of everything, for finding mistakes")
    parser.add_argument("--eager", action="store_true", help="neither compile nor capture")
    parser.add_argument("--gate", type=Path, help="compile, then wait until this file exists")
    for name, default in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    args = parser.parse_args()
    args.eager = args.eager or DEVICE.type == "cpu"
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    if DEVICE.type == "cpu":
        torch.set_num_threads(1)
    say(f"{part} on {machine()}, torch {torch.__version__}")
    return args


def say(text: str) -> None:
    """A line of the log, with the time since midnight."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def machine() -> str:
    """What the numbers were measured on."""
    if DEVICE.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"


def wait_for(file: Path | None, seconds: float = 600) -> None:
    """Until the file is there."""
    end = time.monotonic() + seconds
    while file is not None and not file.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{file} did not come")
        time.sleep(0.1)


def load(data: str, split: str, cifar10: Path | None) -> Dataset:
    """A data set on the device, in random order. cifar10: what cifar10.py has written; waits for it."""
    if data == "cifar10":
        wait_for(cifar10)
        images, labels, names = torch.load(cifar10)[split]
    else:
        dataset = load_dataset(data, split)
        images, labels, names = *dataset, dataset.class_names
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return Dataset(images[order].to(DEVICE), labels[order].to(DEVICE), tuple(names), data)


def in_bf16(model: nn.Module, args: argparse.Namespace) -> Callable[..., Tensor]:
    """The model, compiled, its matrix products in bfloat16 where there is a GPU."""
    compiled = model if args.eager else torch.compile(model, dynamic=False)

    def call(*inputs: Tensor) -> Tensor:
        # without the cache of weights, which must not outlive a captured graph
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda", cache_enabled=False):
            return compiled(*inputs)

    call.config = getattr(model, "config", None)
    return call


def adamw(model: nn.Module, lr: float, betas=(0.9, 0.99), weight_decay: float = 0.01) -> AdamW:
    """AdamW whose learning rate is a tensor, so that a captured step can be told another one."""
    rate = torch.tensor(lr, device=DEVICE)
    cuda = DEVICE.type == "cuda"
    return AdamW(model.parameters(), rate, betas=betas, weight_decay=weight_decay, fused=cuda, capturable=cuda)


def set_rate(optimizer: AdamW, lr: float) -> None:
    """The learning rate of the steps to come."""
    for group in optimizer.param_groups:
        group["lr"].fill_(lr)


class Captured:
    """A function of no arguments, run again and again: as one CUDA graph, so that no kernel waits for Python.

    It must keep its tensors in place and ask nothing of the CPU. The first calls, `warmup` of them, are plain.
    """

    def __init__(self, function: Callable[[], Tensor], args: argparse.Namespace, warmup: int = 4):
        self.function, self.graph, self.result = function, None, None
        if args.eager:
            return
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(warmup):
                function()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.result = function()

    def __call__(self) -> Tensor:
        """What the function returned; valid until the next call."""
        if self.graph is None:
            return self.function()
        self.graph.replay()
        return self.result


def write_rows(path: Path, rows: list[dict]) -> None:
    """A CSV of rows with the same keys, whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    partial.replace(path)


def write_json(path: Path, about: dict) -> None:
    """A small JSON file."""
    path.write_text(json.dumps(about, indent=2) + "\n")
