"""Pictures to learn from: one uint8 tensor and its labels, whatever the source."""

import errno
import gzip
import operator
import os
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

SPLITS = ("train", "test")
PACKED = Path(__file__).resolve().parent / "_data"  # only in a wheel: models, judges and tables (see hatch_build.py)


class Dataset(tuple):
    """Images and labels that unpack like a pair, `images, labels = dataset`, and know their classes' names.

    images: (N, C, H, W) uint8. labels: (N,) int64. class_names: as many as there are classes.
    """

    images: Tensor = property(lambda self: self[0])
    labels: Tensor = property(lambda self: self[1])

    def __new__(cls, images: Tensor, labels: Tensor, class_names: tuple[str, ...], name: str = ""):
        """Pair images with their labels."""
        dataset = super().__new__(cls, (images, labels))
        dataset.class_names = tuple(class_names)
        dataset.name = name
        return dataset

    def __getnewargs__(self):
        """What copy and pickle hand to `__new__`."""
        return (*self, self.class_names, self.name)


def load_dataset(
    name: str, split: str = "train", image_size: int | tuple[int, int] | None = None, channels: int = 3
) -> Dataset:
    """Load a data set into memory: images uint8 (N, C, H, W) and labels int64 (N,).

    name: "fashion-mnist" (in the course's repository; a package without it downloads it), "cifar10" (the pictures of
        data/cifar10/SPLIT/CLASS/ if they are there, else torchvision's, downloaded when it is missing), or
        "folder:PATH", one sub-folder a class. When PATH holds folders "train" and "test", `split` chooses between them.
    image_size, channels: for folders only: every picture is cropped to this shape around its middle and scaled to
        image_size (32 unless told); channels is 1 (gray) or 3 (colour).
    Raises ValueError for an unknown name, FileNotFoundError when data is missing, OSError when it is damaged; each
    says what to do.
    """
    if split not in SPLITS:
        raise ValueError(f'split must be "train" or "test", not {split!r}')
    if name.startswith("folder:"):
        path = Path(name.removeprefix("folder:")).expanduser()
        return _folder(path, split, 32 if image_size is None else image_size, channels)
    if name not in LOADERS:
        raise ValueError(f"unknown data set {name!r}: take {', '.join(LOADERS)}, or folder:PATH for your own pictures")
    return LOADERS[name](split)


def data_root() -> Path:
    """The folder of data sets and checkpoints: $DIT_COURSE_DATA, `data/` of the course's repository, or the wheel's."""
    repository = Path(__file__).resolve().parent.parent / "data"
    return Path(os.environ.get("DIT_COURSE_DATA") or (PACKED if PACKED.is_dir() else repository))


def cache_root() -> Path:
    """Where data goes that is unpacked or downloaded, when its usual folder is no place to write to."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dit_course"


def _download_root() -> Path:
    return cache_root() if data_root() == PACKED else data_root()


def to_float(images: Tensor) -> Tensor:
    """Bytes 0..255 to floats in [-1, 1], the range that the models work in."""
    return images.float() / 127.5 - 1


# bytes of each file once unpacked: a header, then 28 x 28 bytes an image or 1 a label
FASHION_MNIST = {
    "train-images-idx3-ubyte": 16 + 60_000 * 28 * 28,
    "train-labels-idx1-ubyte": 8 + 60_000,
    "t10k-images-idx3-ubyte": 16 + 10_000 * 28 * 28,
    "t10k-labels-idx1-ubyte": 8 + 10_000,
}


def _fashion_mnist(split: str) -> Dataset:
    from torchvision.datasets import FashionMNIST

    if data_root() == PACKED:  # 30 MB: no part of the package
        root = cache_root()
        advice = "or set DIT_COURSE_DATA to the folder data/ of the course's repository"
        _downloaded(FashionMNIST, root, split, "Fashion-MNIST", advice)
    else:
        root = _unpacked(data_root())
    try:
        source = FashionMNIST(root, train=split == "train")
        if len(source.data) != len(source.targets):
            raise ValueError(f"{len(source.data)} images but {len(source.targets)} labels")
        if source.targets.max() >= len(source.classes):
            raise ValueError(f"a label of {int(source.targets.max())}, but there are {len(source.classes)} classes")
    except Exception as error:  # torchvision says neither which file nor what to do
        folder = root / "FashionMNIST" / "raw"
        raise OSError(
            f"Fashion-MNIST in {folder} is damaged ({_one_line(error)}): "
            "delete its files that end in -ubyte, and the course unpacks them again"
        ) from error
    names = tuple(name.lower() for name in source.classes)
    images = source.data[:, None].contiguous()  # (n, h, w) -> (n, 1, h, w)
    return Dataset(images, source.targets.long(), names, "fashion-mnist")


def _unpacked(shipped: Path) -> Path:
    """Unpack the .gz files once; returns the root folder in which torchvision finds them."""
    folder = shipped / "FashionMNIST" / "raw"
    complete = all((folder / name).exists() for name in FASHION_MNIST)
    # a teacher's copy of the course may be read-only
    root = shipped if complete or not folder.exists() or os.access(folder, os.W_OK) else cache_root()
    advice = "it is part of the course's repository: get it again with `git checkout -- data`"
    for name, size in FASHION_MNIST.items():
        unpacked = root / "FashionMNIST" / "raw" / name
        if unpacked.exists() and unpacked.stat().st_size == size:
            continue
        archive = folder / f"{name}.gz"
        if not archive.exists():
            raise FileNotFoundError(f"{archive} is missing: {advice}, or set DIT_COURSE_DATA to your data's folder")
        try:
            content = gzip.decompress(archive.read_bytes())
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise OSError(f"{archive} is damaged ({error}): {advice}") from error
        if len(content) != size:
            raise OSError(f"{archive} is damaged ({len(content)} bytes unpacked, expected {size}): {advice}")
        atomic_write(unpacked, content)
    return root


def atomic_write(path: Path, content: bytes | Callable[[Path], None]) -> None:
    """Write a file whole or not at all: under another name beside it, then renamed.

    content: bytes, or a function that writes the file it is given. Raises OSError (disk full, folder read-only) and
    leaves nothing behind.
    """
    path = Path(path)
    try:
        if path.parent.exists() and not path.parent.is_dir():
            raise OSError(errno.ENOTDIR, f"{path.parent} is a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        # same suffix: ffmpeg and Pillow choose the format by it
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=f".partial{path.suffix}")
    except OSError as error:
        problem = f"cannot write {path}: {error.strerror or error}; choose a folder you may write to"
        raise _os_error(error.errno, problem) from error
    os.close(handle)
    partial = Path(name)
    try:
        if callable(content):
            content(partial)
        else:
            partial.write_bytes(content)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())  # a power cut must not leave an empty file behind the new name
        partial.chmod(0o644)  # mkstemp makes files private
        partial.replace(path)
    except OSError as error:
        problem = f"cannot write {path}: {error.strerror or error}; nothing was left behind"
        raise _os_error(error.errno, problem) from error
    finally:
        partial.unlink(missing_ok=True)


def _os_error(errno: int | None, problem: str) -> OSError:
    """Of the kind that belongs to errno, such as PermissionError. (Pillow's and ffmpeg's have none.)"""
    return OSError(problem) if errno is None else OSError(errno, problem)


# in its own order, which is that of the alphabet too
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _cifar10(split: str) -> Dataset:
    from torchvision.datasets import CIFAR10

    root = _download_root()
    if (root / "cifar10").is_dir():
        pictures = _folder(root / "cifar10", split, 32, 3)
        if pictures.class_names != CIFAR10_CLASSES:
            raise ValueError(
                f"{root / 'cifar10'} holds the classes {', '.join(pictures.class_names)}, but CIFAR-10 has "
                f"{', '.join(CIFAR10_CLASSES)}: rename that folder, and use --data folder:PATH for your own pictures"
            )
        return Dataset(*pictures, CIFAR10_CLASSES, "cifar10")
    advice = "or put the folder cifar-10-batches-py there, or use --data folder:PATH with pictures of your own"
    source = _downloaded(CIFAR10, root, split, "CIFAR-10", advice)
    images = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()  # (n, h, w, c) -> (n, c, h, w)
    return Dataset(images, torch.tensor(source.targets), tuple(source.classes), "cifar10")


def _downloaded(kind: type, root: Path, split: str, name: str, advice: str):
    """A data set of torchvision, downloaded into root where it is missing; FileNotFoundError when that fails."""
    try:
        return kind(root, train=split == "train", download=True)
    except Exception as error:  # no network, a broken archive, a full disk: torchvision raises many kinds
        raise FileNotFoundError(
            f"{name} is not in {root} and could not be downloaded ({type(error).__name__}: {_one_line(error)}): "
            f"connect to a network once, {advice}"
        ) from error


def _folder(path: Path, split: str, image_size: int | tuple[int, int], channels: int) -> Dataset:
    if channels not in (1, 3):
        raise ValueError(f"channels = {channels}: pictures from a folder are gray (1) or in colour (3)")
    size = _sides(image_size)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is no folder: give folder:PATH, where PATH holds one sub-folder a class")
    if (path / "train").is_dir() and (path / "test").is_dir():
        of = {half: _pictures(path / half) for half in SPLITS}
        filled = [{name for name, found in of[half].items() if found} for half in SPLITS]
        if odd := sorted(filled[0] ^ filled[1]):  # else the same number would mean different classes
            raise ValueError(f"{path}: train and test must hold the same classes, but only one has {', '.join(odd)}")
        path, files = path / split, of[split]
    elif split == "test":
        raise FileNotFoundError(
            f"{path} has no test split: it needs the sub-folders train and test, each with one folder a class"
        )
    else:
        files = _pictures(path)
    classes = [name for name in files if files[name]]
    images, labels, skipped = [], [], []
    for label, name in enumerate(classes):
        for file in files[name]:
            try:
                images.append(_read_image(file, size, channels))
                labels.append(label)
            except Exception as error:  # for broken files Pillow raises nearly anything, struct.error included
                skipped.append(f"{file} ({_one_line(error)})")
    if skipped:
        listed = "; ".join(skipped[:5]) + (f"; and {len(skipped) - 5} more" if len(skipped) > 5 else "")
        warnings.warn(f"skipped {len(skipped)} unreadable file(s): {listed}", stacklevel=3)
    unreadable = [name for label, name in enumerate(classes) if label not in set(labels)]
    if not images or unreadable:
        where = f"the folder(s) {', '.join(unreadable)} of {path}" if images else str(path)
        raise FileNotFoundError(f"no readable picture in {where}: expected PATH/class/picture.png (or jpg, webp, ...)")
    if empty := [name for name in files if not files[name]]:
        warnings.warn(f"{path} has no picture in {', '.join(empty)}: left out of the classes", stacklevel=3)
    return Dataset(torch.stack(images), torch.tensor(labels), classes, f"folder:{path.name}")


def _sides(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size that was given as one number or as two; ValueError for what is neither."""
    sides = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    try:
        height, width = (operator.index(side) for side in sides)  # numpy's whole numbers are welcome
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise ValueError(f"image_size = {image_size!r}, but it must be a whole number of pixels, or (height, width)")
    return height, width


def _pictures(path: Path) -> dict[str, list[Path]]:
    """The picture files of each sub-folder, both in alphabetical order: a class's number is its place here.

    Hidden folders are left out, and those that a Mac leaves in archives.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS

    def shown(folder: str) -> bool:
        return not folder.startswith(".") and folder != "__MACOSX"

    def pictures(folder: Path) -> list[Path]:
        found = (f for f in folder.rglob("*") if f.suffix.lower() in (*IMG_EXTENSIONS, ".gif", ".avif"))
        return sorted(f for f in found if all(map(shown, f.relative_to(folder).parent.parts)))

    return {entry.name: pictures(entry) for entry in sorted(path.iterdir()) if entry.is_dir() and shown(entry.name)}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _read_image(file: Path, size: tuple[int, int], channels: int) -> Tensor:
    """One picture of any size and mode, cropped around its middle and scaled: (channels, *size) uint8."""
    import numpy as np
    from PIL import Image, ImageOps

    with Image.open(file) as picture:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I") or picture.mode == "F":  # 16 or 32 bits: spread over 0..255, do not clip
            values = np.asarray(picture, dtype=np.float64)
            top = 65535 if picture.mode.startswith("I") else max(values.max(), 1e-12)
            picture = Image.fromarray((values / top * 255).clip(0, 255).astype(np.uint8))
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        picture = picture.convert("L" if channels == 1 else "RGB")
        picture = ImageOps.fit(picture, size[::-1], Image.Resampling.LANCZOS)  # Pillow counts (width, height)
    pixels = torch.from_numpy(np.array(picture))  # (h, w) or (h, w, c)
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1)  # -> (c, h, w)


LOADERS = {"fashion-mnist": _fashion_mnist, "cifar10": _cifar10}
