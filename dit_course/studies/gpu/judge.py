"""A judge of CIFAR-10 in a minute: nine layers, augmentation, one cycle of the learning rate."""

import time

import torch
import torch.nn.functional as F
from torch import Tensor

from dit_course.checkpoints import save_tensors
from dit_course.evaluation import class_accuracy
from dit_course.judges import ResidualClassifier
from dit_course.studies.gpu.machine import DEVICE, load, machine, options, say

BATCH, SHIFT, HOLE = 512, 4, 8


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
    top, left = (draw[3:] * (torch.tensor([[height], [width]], device=x.device) - HOLE + 1)).long()[:, :, None]
    in_rows = (torch.arange(height, device=x.device) - top) // HOLE == 0  # (n, h)
    in_columns = (torch.arange(width, device=x.device) - left) // HOLE == 0  # (n, w)
    hole = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    return x.masked_fill(hole, 0.5)


def main() -> None:
    """Train, measure, save as `load_classifier` reads it."""
    args = options("judge", epochs=64, width=56, seconds=150.0, lr=0.25)
    train, test = (load("cifar10", split, args.cifar10) for split in ("train", "test"))
    torch.manual_seed(0)
    model = ResidualClassifier(3, 10, 8 if args.dry else args.width).to(DEVICE, memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, args.lr, momentum=0.9, nesterov=True)
    batch = min(BATCH, len(train.images))
    per_epoch = len(train.images) // batch
    total = 2 if args.dry else args.epochs * per_epoch
    learner = model if args.eager else torch.compile(model, dynamic=False)
    start, done, losses, last_shown = time.perf_counter(), 0, [], 0.0
    while done < total:
        for chosen in torch.randperm(len(train.images), device=DEVICE)[: per_epoch * batch].split(batch):
            if done and time.perf_counter() - start > 0.8 * args.seconds and total - done > 0.25 * done:
                total = done + max(1, done // 4)  # slower than planned: come down from here
                say(f"judge: slow, ends after {total} steps")
            at = done / total
            for group in optimizer.param_groups:  # up for a fifth, then down to 0
                group["lr"] = args.lr * min(at / 0.2 + 1e-3, (1 - at) / 0.8)
            model.train()
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda"):
                logits = learner(augment(train.images[chosen]).contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), train.labels[chosen], label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            done += 1
            if done % 200 == 0:
                losses.append(round(loss.item(), 4))
                if time.perf_counter() - last_shown > 10:
                    last_shown = time.perf_counter()
                    say(f"judge: step {done} of {total}, loss {losses[-1]}, {last_shown - start:.0f} s")
            if done >= total:
                break
    seconds = time.perf_counter() - start
    model.eval()
    accuracy = class_accuracy(model, *test)
    stored = {k: v.half() if v.ndim == 4 or k.startswith("head") else v for k, v in model.state_dict().items()}
    model.load_state_dict(stored)
    about = {
        "config": model.config, "test_accuracy": class_accuracy(model, *test), "data": "cifar10",
        "training": {
            "steps": done, "batch_size": batch, "epochs": round(done / per_epoch, 1), "lr": args.lr,
            "optimizer": "SGD, Nesterov 0.9", "weight_decay": 5e-4, "label_smoothing": 0.1,
            "shift": SHIFT, "flip": True, "cutout": HOLE, "bf16": True, "seed": 0, "seconds": round(seconds, 1),
            "machine": machine(), "losses_every_200": losses,
        },
        "class_names": list(train.class_names),
    }  # fmt: skip
    save_tensors(args.out / "cifar10-classifier", stored, about)
    say(f"judge: {accuracy:.2%} of the test pictures ({about['test_accuracy']:.2%} in half precision), {seconds:.0f} s")


if __name__ == "__main__":
    main()
