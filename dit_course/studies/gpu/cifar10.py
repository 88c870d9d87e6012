"""CIFAR-10's pictures, from archives of SPLIT/CLASS/NUMBER.jpg to one file of tensors."""

import argparse
import io
import tarfile
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def _pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).transpose(2, 0, 1)  # (h, w, c) -> (c, h, w)


def decode(archive: Path, processes: int, limit: int | None) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Images uint8 (n, 3, 32, 32), labels int64 (n,), names of classes in the order of the alphabet."""
    files = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith(".jpg"):
                files[member.name] = tar.extractfile(member).read()
    names = sorted({Path(name).parent.name for name in files})
    chosen = sorted(files)[:: max(1, len(files) // limit) if limit else 1]
    with Pool(processes) as pool:
        images = pool.map(_pixels, [files[name] for name in chosen], chunksize=500)
    labels = [names.index(Path(name).parent.name) for name in chosen]
    return torch.from_numpy(np.stack(images)), torch.tensor(labels), names


def main() -> None:
    """Decode FOLDER/train.tar.xz and FOLDER/test.tar.xz to OUT, whole or not at all."""
    parser = argparse.ArgumentParser("cifar10")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--limit", type=int, help="about so many pictures of each, for a dry run")
    args = parser.parse_args()
    data = {s: decode(args.folder / f"{s}.tar.xz", args.processes, args.limit) for s in ("test", "train")}
    torch.save(data, args.out.with_suffix(".partial"))
    args.out.with_suffix(".partial").replace(args.out)
    print({split: tuple(images.shape) for split, (images, _, _) in data.items()}, data["test"][2], flush=True)


if __name__ == "__main__":
    main()
