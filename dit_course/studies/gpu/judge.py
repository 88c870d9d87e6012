"""A judge of CIFAR-10 in two minutes: a wide network learns the classes, a small one learns what the wide one thinks.

Distillation: Hinton et al. 2015, arXiv 1503.02531, with the same augmented pictures for both.
"""

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dit_course.checkpoints import save_tensors
from dit_course.evaluation import class_accuracy
from dit_course.studies.gpu.machine import DEVICE, Captured, in_bf16, load, machine, options, say, wait_for
from dit_course.studies.judges import ResidualClassifier

BATCH, SHIFT, HOLE = 512, 4, 8
MOMENTUM, WEIGHT_DECAY, TEMPERATURE, OWN = 0.9, 5e-4, 2.0, 0.1


def augment(images: Tensor) -> Tensor:
    """Bytes (n, c, h, w) to floats in [0, 1]: each shifted, mirrored, and with a gray square, at random of its own."""
    n, channels, height, width = images.shape
    x = F.pad(images.float() / 255, [SHIFT] * 4, mode="reflect")
    draw = torch.rand(5, n, device=x.device)
    rows = (draw[0] * (2 * SHIFT + 1)).long()[:, None] + torch.arange(height, device=x.device)  # (n, h)
    columns = (draw[1] * (2 * SHIFT + 1)).long()[:, None] + torch.arange(width, device=x.device)  # (n, w)
    columns = torch.where(draw[2, :, None] < 0.5, columns, columns.flip(1))
    each = torch.arange(n, device=x.device)[:, None, None, None]
    channel = torch.arange(channels, device=x.device)[:, None, None]
    x = x[each, channel, rows[:, None, :, None], columns[:, None, None, :]]  # (n, c, h, w)
    top = (draw[3] * (height - HOLE + 1)).long()[:, None]  # (n, 1)
    left = (draw[4] * (width - HOLE + 1)).long()[:, None]
    in_rows = (torch.arange(height, device=x.device) - top) // HOLE == 0  # (n, h)
    in_columns = (torch.arange(width, device=x.device) - left) // HOLE == 0  # (n, w)
    hole = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    return x.masked_fill(hole, 0.5)


class Descent:
    """Gradient descent with Nesterov momentum, written out so that a CUDA graph can hold it: the rate is a tensor."""

    def __init__(self, model: nn.Module):
        self.parameters = list(model.parameters())
        self.momenta = [torch.zeros_like(p) for p in self.parameters]
        self.rate = torch.zeros((), device=DEVICE)

    @torch.no_grad()
    def step(self) -> None:
        """One step; matrices decay, scales and biases do not."""
        gradients = [p.grad for p in self.parameters]
        decayed = [i for i, p in enumerate(self.parameters) if p.ndim > 1]
        torch._foreach_add_([gradients[i] for i in decayed], [self.parameters[i] for i in decayed], alpha=WEIGHT_DECAY)
        torch._foreach_mul_(self.momenta, MOMENTUM)
        torch._foreach_add_(self.momenta, gradients)
        torch._foreach_add_(gradients, self.momenta, alpha=MOMENTUM)
        torch._foreach_mul_(gradients, self.rate)
        torch._foreach_sub_(self.parameters, gradients)
        for p in self.parameters:
            p.grad = None


def distillation(logits: Tensor, wanted: Tensor, labels: Tensor) -> Tensor:
    """How far a network's softened opinion is from its teacher's, and a little of the classes themselves."""
    soft = F.kl_div(
        F.log_softmax(logits / TEMPERATURE, 1), F.log_softmax(wanted / TEMPERATURE, 1),
        reduction="batchmean", log_target=True,
    )  # fmt: skip
    return (1 - OWN) * TEMPERATURE**2 * soft + OWN * F.cross_entropy(logits, labels)


def fit(model: nn.Module, train, seconds: float, args, teacher: nn.Module | None = None) -> int:
    """Train for so long, compiling not counted, up for a fifth of it, then down to 0; returns the steps taken."""
    images, labels = train
    batch = min(BATCH, len(images))
    orders = [torch.randperm(len(images), device=DEVICE)[: len(images) // batch * batch] for _ in range(150)]
    order = torch.cat(orders).reshape(-1, batch)
    position, descent = torch.zeros((), dtype=torch.int64, device=DEVICE), Descent(model)
    learner, wise = in_bf16(model, args), None if teacher is None else in_bf16(teacher.eval(), args)

    def step() -> Tensor:
        chosen = order.index_select(0, (position % len(order))[None])[0]
        x, y = augment(images[chosen]).contiguous(memory_format=torch.channels_last), labels[chosen]
        logits = learner(x).float()
        if wise is None:
            loss = F.cross_entropy(logits, y)
        else:
            with torch.no_grad():
                wanted = wise(x).float()
            loss = distillation(logits, wanted, y)
        loss.backward()
        descent.step()
        position.add_(1)
        return loss.detach()

    model.train()
    step()
    captured = Captured(step, args)
    for momentum in descent.momenta:
        momentum.zero_()
    wait_for(args.gate)
    start, shown, steps, at = time.perf_counter(), 0.0, 0, 0.0
    while at < 1:
        descent.rate.fill_(args.lr * min(at / 0.2 + 1e-3, (1 - at) / 0.8))
        loss = captured()
        steps += 1
        if steps % 20 == 0 or args.dry:
            loss = loss.item()  # waits for the GPU
            at = steps / 2 if args.dry else (time.perf_counter() - start) / seconds
            if time.perf_counter() - shown > 10:
                shown = time.perf_counter()
                say(f"judge: step {steps}, loss {loss:.4f}, {shown - start:.0f} s")
    model.eval()
    return steps


def main() -> None:
    """Train both, measure, save the small one as `load_classifier` reads it."""
    args = options("judge", width=56, teacher_width=96, seconds=120.0, lr=0.2)
    train, test = (load("cifar10", split, args.cifar10) for split in ("train", "test"))
    torch.manual_seed(0)
    start = time.perf_counter()
    widths = (8, 8) if args.dry else (args.teacher_width, args.width)
    wide, small = (ResidualClassifier(3, 10, w).to(DEVICE, memory_format=torch.channels_last) for w in widths)
    wide_steps = fit(wide, train, 0.4 * args.seconds, args)
    wide_accuracy = class_accuracy(wide, *test)
    say(f"judge: the wide one is right on {wide_accuracy:.2%}, {wide_steps} steps")
    steps = fit(small, train, 0.6 * args.seconds, args, wide)
    accuracy = class_accuracy(small, *test)
    stored = {k: v.half() if v.ndim == 4 or k.startswith("head") else v for k, v in small.state_dict().items()}
    small.load_state_dict(stored)
    about = {
        "config": small.config, "test_accuracy": class_accuracy(small, *test), "data": "cifar10",
        "training": {
            "steps": steps, "batch_size": BATCH, "epochs": round(steps * BATCH / 50_000, 1), "lr": args.lr,
            "optimizer": "SGD, Nesterov 0.9", "weight_decay": WEIGHT_DECAY, "shift": SHIFT, "flip": True,
            "cutout": HOLE, "bf16": True, "seed": 0, "temperature": TEMPERATURE, "share_of_labels": OWN,
            "teacher": {"width": widths[0], "steps": wide_steps, "test_accuracy": wide_accuracy},
            "seconds": round(time.perf_counter() - start, 1), "machine": machine(),
        },
        "class_names": list(train.class_names),
    }  # fmt: skip
    save_tensors(args.out / "cifar10-classifier", stored, about)
    say(f"judge: {accuracy:.2%} of the test pictures, {about['test_accuracy']:.2%} in half precision")


if __name__ == "__main__":
    main()
