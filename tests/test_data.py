"""The data: Fashion-MNIST, CIFAR-10, folders of pictures, and files written whole or not at all."""

import copy
import errno
import gzip
import os
import pickle
import shutil
import signal
import stat
import sys
import warnings
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import dit_course.data
from dit_course.data import CIFAR10_CLASSES, FASHION_MNIST, Dataset, atomic_write, data_root, load_dataset, to_float

CLASSES = ("t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


# Fashion-MNIST


@pytest.fixture(scope="module")
def fashion_train():
    return load_dataset("fashion-mnist")


@pytest.fixture(scope="module")
def fashion_test():
    return load_dataset("fashion-mnist", split="test")


def test_fashion_mnist_is_complete(fashion_train, fashion_test):
    for dataset, n in ((fashion_train, 60_000), (fashion_test, 10_000)):
        images, labels = dataset
        assert images.shape == (n, 1, 28, 28)
        assert images.dtype == torch.uint8
        assert images.is_contiguous()
        assert labels.shape == (n,)
        assert labels.dtype == torch.int64
        assert labels.bincount().tolist() == [n // 10] * 10
        assert dataset.class_names == CLASSES


def test_fashion_mnist_has_its_known_mean_and_std(fashion_train):
    counts = torch.bincount(fashion_train.images.flatten(), minlength=256).double()
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * values).sum() / counts.sum()
    std = ((counts * (values - mean) ** 2).sum() / counts.sum()).sqrt()
    assert round(mean.item(), 4) == 0.2860
    assert round(std.item(), 4) == 0.3530


def test_fashion_mnist_is_what_the_files_say(fashion_test):
    """Read a second time, without torchvision."""
    raw = data_root() / "FashionMNIST" / "raw"
    labels = gzip.decompress((raw / "t10k-labels-idx1-ubyte.gz").read_bytes())
    assert fashion_test.labels.tolist() == list(labels[8:])
    assert fashion_test.labels[:5].tolist() == [9, 2, 1, 1, 6]
    images = np.frombuffer(gzip.decompress((raw / "t10k-images-idx3-ubyte.gz").read_bytes())[16:], dtype=np.uint8)
    assert np.array_equal(fashion_test.images.numpy().reshape(-1), images)


def test_fashion_mnist_needs_no_network(socket_disabled):
    assert len(load_dataset("fashion-mnist", split="test").labels) == 10_000


def test_datasets_unpack_like_a_pair_and_know_more(fashion_test):
    images, labels = fashion_test
    assert images is fashion_test.images
    assert labels is fashion_test.labels
    assert fashion_test.name == "fashion-mnist"
    small = Dataset(images[:3], labels[:3], ["a", "b"])
    assert small.class_names == ("a", "b")
    for twin in (copy.copy(small), copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert torch.equal(twin.images, small.images)
        assert torch.equal(twin.labels, small.labels)
        assert (twin.class_names, twin.name) == (small.class_names, small.name)


def test_to_float_spreads_bytes_over_minus_one_to_one():
    floats = to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    torch.testing.assert_close(floats, torch.tensor([-1.0, -0.6, 1.0]))


def test_data_lives_in_the_repository_or_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv("DIT_COURSE_DATA", str(tmp_path))
    assert data_root() == tmp_path
    for nothing in ("", None):
        monkeypatch.setenv("DIT_COURSE_DATA", nothing) if nothing is not None else monkeypatch.delenv("DIT_COURSE_DATA")
        assert data_root() == Path(dit_course.data.__file__).parents[1] / "data"


# damaged files


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A small copy of the data folder: the test split packed, and the training split unpacked, but full of zeros."""
    folder = tmp_path / "data" / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    shipped = data_root() / "FashionMNIST" / "raw"
    for name, size in FASHION_MNIST.items():
        if name.startswith("t10k"):
            shutil.copy(shipped / f"{name}.gz", folder)
        else:
            with (folder / name).open("wb") as file:
                file.truncate(size)
    monkeypatch.setenv("DIT_COURSE_DATA", str(tmp_path / "data"))
    return folder


IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def test_files_are_unpacked_once(raw, monkeypatch):
    load_dataset("fashion-mnist", "test")
    before = {file.name: file.stat().st_mtime_ns for file in raw.iterdir()}
    assert {IMAGES, LABELS} < set(before)
    load_dataset("fashion-mnist", "test")
    assert {file.name: file.stat().st_mtime_ns for file in raw.iterdir()} == before


def test_an_unpacked_file_that_was_cut_short_is_mended(raw, fashion_test):
    (raw / IMAGES).write_bytes(b"\0\0\x08\x03")
    assert torch.equal(load_dataset("fashion-mnist", "test").images, fashion_test.images)
    assert (raw / IMAGES).stat().st_size == FASHION_MNIST[IMAGES]


def cut_short(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes(byte ^ 255 for byte in content[middle : middle + 50]) + content[middle + 50 :]


def other_content(content):
    return gzip.compress(b"something else")


@pytest.mark.parametrize(
    "damage", [cut_short, flipped, other_content, lambda _: b"<html>no gzip</html>", lambda _: b""]
)
@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_damaged_archives_are_named(raw, name, damage, one_line_error):
    archive = raw / f"{name}.gz"
    archive.write_bytes(damage(archive.read_bytes()))
    with one_line_error(OSError, archive, "damaged", "git checkout"):
        load_dataset("fashion-mnist", "test")
    assert not (raw / name).exists()
    assert not list(raw.glob(".*"))


@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_missing_archives_are_named(raw, name, one_line_error):
    (raw / f"{name}.gz").unlink()
    with one_line_error(FileNotFoundError, raw / f"{name}.gz", "missing", "DIT_COURSE_DATA"):
        load_dataset("fashion-mnist", "test")


def test_a_missing_data_folder_is_named_and_not_created(tmp_path, monkeypatch, one_line_error):
    monkeypatch.setenv("DIT_COURSE_DATA", str(tmp_path / "nowhere"))
    with one_line_error(FileNotFoundError, tmp_path / "nowhere"):
        load_dataset("fashion-mnist")
    assert not (tmp_path / "nowhere").exists()


def corrupt(file, place, content):
    with file.open("rb+") as opened:
        opened.seek(place)
        opened.write(content)


@pytest.mark.parametrize(
    ("name", "place", "content"),
    [
        (IMAGES, 0, b"\xff\xff\xff\xff"),  # no IDX at all
        (IMAGES, 2, b"\x09"),  # another type
        (IMAGES, 4, (9_999).to_bytes(4, "big")),  # another number of pictures
        (IMAGES, 8, (27).to_bytes(4, "big")),  # another height
        (LABELS, 0, b"\0\0\x08\x03"),  # images where labels belong
        (LABELS, 4, (9_999).to_bytes(4, "big")),
        (LABELS, 5000, b"\xc8"),  # class 200
    ],
)
def test_corrupted_idx_files_are_refused(raw, name, place, content, one_line_error):
    load_dataset("fashion-mnist", "test")
    corrupt(raw / name, place, content)
    with one_line_error(OSError, raw, "damaged", "-ubyte"):
        load_dataset("fashion-mnist", "test")
    for file in raw.glob("t10k*-ubyte"):  # the advice
        file.unlink()
    assert len(load_dataset("fashion-mnist", "test").labels) == 10_000


def test_zeros_are_no_training_set(raw, one_line_error):
    with one_line_error(OSError, raw, "damaged"):
        load_dataset("fashion-mnist", "train")


def test_from_a_folder_that_cannot_be_written_data_is_unpacked_into_the_cache(raw, tmp_path, monkeypatch, fashion_test):
    for name in FASHION_MNIST:
        (raw / name).unlink(missing_ok=True)
        archive = raw / f"{name}.gz"
        if not archive.exists():
            archive.write_bytes(gzip.compress(bytes(FASHION_MNIST[name]), compresslevel=1))
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(raw)))  # root may write anywhere
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert torch.equal(load_dataset("fashion-mnist", "test").images, fashion_test.images)
    assert {file.suffix for file in raw.iterdir()} == {".gz"}
    assert (tmp_path / "cache" / "dit_course" / "FashionMNIST" / "raw" / IMAGES).exists()


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """As in a package that was installed from a wheel, without the repository; returns the user's cache."""
    monkeypatch.delenv("DIT_COURSE_DATA", raising=False)
    monkeypatch.setattr(dit_course.data, "PACKED", tmp_path / "site-packages" / "_data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "site-packages" / "_data").mkdir(parents=True)
    return tmp_path / "cache" / "dit_course"


def test_a_wheel_takes_fashion_mnist_from_the_cache_once_it_is_there(wheel, socket_disabled, fashion_test):
    shipped = Path(dit_course.data.__file__).parents[1] / "data/FashionMNIST/raw"
    for archive in shipped.glob("*.gz"):
        atomic_write(wheel / "FashionMNIST/raw" / archive.stem, gzip.decompress(archive.read_bytes()))
    assert torch.equal(load_dataset("fashion-mnist", "test").images, fashion_test.images)
    assert not list(data_root().iterdir())


@pytest.mark.filterwarnings("ignore:A test tried to use socket")
@pytest.mark.parametrize(
    ("name", "known", "advice"),
    [("fashion-mnist", "Fashion-MNIST", "DIT_COURSE_DATA"), ("cifar10", "CIFAR-10", "cifar-10-batches-py")],
)
def test_a_wheel_without_a_network_says_what_to_do(wheel, socket_disabled, name, known, advice, one_line_error):
    with one_line_error(FileNotFoundError, known, wheel, "network", advice):
        load_dataset(name)
    assert not list(data_root().iterdir())


@pytest.mark.parametrize("name", ["mnist", "", "fashion_mnist", "cifar100"])
def test_unknown_data_sets_are_named(name, one_line_error):
    with one_line_error(ValueError, repr(name), "fashion-mnist", "cifar10", "folder:PATH"):
        load_dataset(name)


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10", "folder:."])
def test_unknown_splits_are_named(name, one_line_error):
    with one_line_error(ValueError, "validation", "train", "test"):
        load_dataset(name, split="validation")


# CIFAR-10


@pytest.mark.filterwarnings("ignore:A test tried to use socket")
def test_cifar10_without_a_network_says_what_to_do(socket_disabled, tmp_path, monkeypatch, one_line_error):
    monkeypatch.setenv("DIT_COURSE_DATA", str(tmp_path))
    with one_line_error(FileNotFoundError, tmp_path, "network", "cifar-10-batches-py", "folder:PATH"):
        load_dataset("cifar10")
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


@pytest.mark.parametrize("split", ["train", "test"])
def test_cifar10_comes_through_torchvision(split, tmp_path, monkeypatch):
    import torchvision.datasets

    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)

    def fake(root, train, download):
        assert (root, train, download) == (tmp_path, split == "train", True)
        return SimpleNamespace(data=pixels, targets=[3, 1, 0, 9], classes=["airplane", "automobile"])

    monkeypatch.setenv("DIT_COURSE_DATA", str(tmp_path))
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fake)
    dataset = load_dataset("cifar10", split)
    assert dataset.images.dtype == torch.uint8
    assert dataset.images.is_contiguous()
    assert dataset.images[2, 1, 5, 7] == pixels[2, 5, 7, 1]
    assert dataset.labels.tolist() == [3, 1, 0, 9]
    assert dataset.labels.dtype == torch.int64
    assert dataset.class_names == ("airplane", "automobile")
    assert dataset.name == "cifar10"


def test_cifar10_may_lie_there_as_pictures(tmp_path, monkeypatch, one_line_error):
    monkeypatch.setenv("DIT_COURSE_DATA", str(tmp_path))
    for split, number in product(("train", "test"), range(10)):
        save(tmp_path / "cifar10" / split / CIFAR10_CLASSES[number] / "1.png", plain((20 * number, 7, 0), (32, 32)))
    train, test = load_dataset("cifar10"), load_dataset("cifar10", "test")
    assert train.images.shape == test.images.shape == (10, 3, 32, 32)
    assert train.images[4, :, 0, 0].tolist() == [80, 7, 0]
    assert (train.labels.tolist(), train.name) == (list(range(10)), "cifar10")
    assert train.class_names == test.class_names == CIFAR10_CLASSES
    for split in ("train", "test"):
        (tmp_path / "cifar10" / split / "truck").rename(tmp_path / "cifar10" / split / "lorry")
    with one_line_error(ValueError, "lorry", "truck", "folder:PATH"):
        load_dataset("cifar10")


# folders


def save(path, picture, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return path


def plain(colour=(200, 40, 90), size=(10, 10), mode="RGB"):
    return Image.new(mode, size, colour)


def load(path, **options):
    return load_dataset(f"folder:{path}", **{"image_size": 8, **options})


def colour_of(dataset, i=0):
    """The colour of a picture that has only one."""
    pixels = dataset.images[i].flatten(1).int()
    assert (pixels.amax(dim=1) - pixels.amin(dim=1) <= 1).all(), "not of one colour"
    return pixels[:, 0].tolist()


def test_each_sub_folder_is_a_class(tmp_path):
    save(tmp_path / "dog" / "2.png", plain((3, 0, 0)))
    save(tmp_path / "dog" / "1.PNG", plain((2, 0, 0)))
    save(tmp_path / "cat" / "deeper" / "a.png", plain((1, 0, 0)))
    save(tmp_path / "emu" / "a.png", plain((4, 0, 0)))
    dataset = load(tmp_path)
    assert dataset.class_names == ("cat", "dog", "emu")
    assert dataset.labels.tolist() == [0, 1, 1, 2]
    assert dataset.labels.dtype == torch.int64
    assert dataset.images.dtype == torch.uint8
    assert dataset.images.shape == (4, 3, 8, 8)
    assert [colour_of(dataset, i)[0] for i in range(4)] == [1, 2, 3, 4]
    assert dataset.name == f"folder:{tmp_path.name}"


def grey_16_bit():
    return Image.fromarray(np.full((10, 10), 128 * 257, dtype=np.uint16))


RED, GREY, WHITE = [200, 40, 90], [128] * 3, [255] * 3
MODES = {
    "RGB.png": (plain(), RED),
    "RGB.jpg": (plain(), RED),
    "RGB.webp": (plain(), RED),
    "RGB.bmp": (plain(), RED),
    "RGB.ppm": (plain(), RED),
    "RGB.gif": (plain(), RED),
    "P.png": (plain().quantize(4), RED),
    "P.gif": (plain().quantize(4), RED),
    "RGBA.png": (plain((200, 40, 90, 255), mode="RGBA"), RED),
    "RGBA-invisible.png": (plain((200, 40, 90, 0), mode="RGBA"), WHITE),
    "RGBA-half.png": (plain((200, 40, 90, 128), mode="RGBA"), [227, 147, 172]),
    "CMYK.tif": (plain((55, 215, 165, 0), mode="CMYK"), RED),
    "CMYK.jpg": (plain((55, 215, 165, 0), mode="CMYK"), RED),
    "YCbCr.jpg": (plain().convert("YCbCr"), RED),
    "L.png": (plain(128, mode="L"), GREY),
    "L.pgm": (plain(128, mode="L"), GREY),
    "LA.png": (plain((128, 255), mode="LA"), GREY),
    "LA-invisible.png": (plain((0, 0), mode="LA"), WHITE),
    "1.png": (plain(1, mode="1"), WHITE),
    "1.tif": (plain(0, mode="1"), [0] * 3),
    "I16.png": (grey_16_bit(), GREY),
    "I16.tif": (grey_16_bit(), GREY),
    "I.tif": (plain(128 * 257, mode="I"), GREY),
    "I16.pgm": (grey_16_bit(), GREY),
    "F.tif": (Image.fromarray(np.full((10, 10), 0.5, dtype=np.float32)), WHITE),  # its brightest is white
}


@pytest.mark.parametrize("name", MODES)
def test_pictures_of_every_mode(tmp_path, name):
    picture, expected = MODES[name]
    save(tmp_path / "class" / name, picture)
    assert colour_of(load(tmp_path)) == pytest.approx(expected, abs=3)
    luma = 0.299 * expected[0] + 0.587 * expected[1] + 0.114 * expected[2]
    assert colour_of(load(tmp_path, channels=1)) == pytest.approx([luma], abs=3)


def test_a_palette_with_a_transparent_colour(tmp_path):
    picture = plain().quantize(4)
    save(tmp_path / "class" / "P.png", picture, transparency=picture.getpixel((0, 0)))
    assert colour_of(load(tmp_path)) == WHITE


def test_the_16_bits_are_spread_over_all_bytes(tmp_path):
    ramp = np.repeat(np.arange(256, dtype=np.uint16)[None] * 257, 256, axis=0)
    save(tmp_path / "class" / "ramp.png", Image.fromarray(ramp))
    assert torch.equal(load(tmp_path, image_size=256, channels=1).images[0, 0, 7], torch.arange(256).byte())


def striped(colours, size):
    """Vertical stripes."""
    picture = Image.new("RGB", size)
    for i, colour in enumerate(colours):
        picture.paste(colour, (i * size[0] // len(colours), 0, (i + 1) * size[0] // len(colours), size[1]))
    return picture


@pytest.mark.parametrize(
    ("orientation", "turned"), [(1, "rg/rg"), (2, "gr/gr"), (3, "gr/gr"), (5, "rr/gg"), (6, "rr/gg"), (8, "gg/rr")]
)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_pictures_are_turned_as_their_camera_says(tmp_path, orientation, turned, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "class" / f"a.{suffix}", striped(["#ff0000", "#00ff00"], (32, 32)), exif=exif)
    image = load(tmp_path, image_size=32).images[0]
    corners = [["rgb"[int(image[:, y, x].argmax())] for x in (4, 27)] for y in (4, 27)]
    assert "/".join("".join(row) for row in corners) == turned


def test_pictures_are_cropped_around_their_middle(tmp_path):
    save(tmp_path / "class" / "wide.png", striped(["red", "#00ff00", "blue"], (30, 10)))
    save(tmp_path / "tall" / "tall.png", striped(["red", "#00ff00", "blue"], (30, 10)).rotate(90, expand=True))
    dataset = load(tmp_path)
    for i in (0, 1):
        assert (dataset.images[i, 1] > 200).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5), (640, 480)])
def test_pictures_of_any_size_become_the_size_asked_for(tmp_path, size):
    save(tmp_path / "class" / "a.png", plain(size=size))
    for image_size, expected in (
        (8, (8, 8)),
        (np.int64(8), (8, 8)),
        ((6, 10), (6, 10)),
        ([6, 10], (6, 10)),
        (None, (32, 32)),
    ):
        dataset = load(tmp_path, image_size=image_size)
        assert dataset.images.shape == (1, 3, *expected)
        assert colour_of(dataset) == RED


def test_height_comes_first(tmp_path):
    save(tmp_path / "class" / "a.png", striped(["red", "blue"], (20, 10)))
    image = load(tmp_path, image_size=(4, 8)).images[0]
    assert (image[0, :, :3] > 250).all()
    assert (image[2, :, 5:] > 250).all()


def test_other_files_are_passed_over_in_silence(tmp_path, recwarn):
    save(tmp_path / "class" / "a.png", plain())
    for name in ("notes.txt", "Thumbs.db", ".DS_Store", "model.pt", "noextension"):
        (tmp_path / "class" / name).write_text("no picture")
    (tmp_path / "readme.md").write_text("no class")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    dataset = load(tmp_path)
    assert dataset.class_names == ("class",)
    assert len(dataset.images) == 1
    assert not recwarn.list


def test_unreadable_files_are_named_and_skipped(tmp_path):
    save(tmp_path / "cat" / "good.png", plain())
    whole = save(tmp_path / "dog" / "good.jpg", plain(size=(100, 100))).read_bytes()
    bad = {
        tmp_path / "dog" / "empty.png": b"",
        tmp_path / "dog" / "text.jpg": b"hello",
        tmp_path / "cat" / "cut.jpg": whole[: len(whole) // 2],
    }
    for path, content in bad.items():
        path.write_bytes(content)
    with pytest.warns(UserWarning, match="skipped 3 unreadable file") as caught:
        dataset = load(tmp_path)
    assert dataset.labels.tolist() == [0, 1]
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "\n" not in message
    assert all(str(path) in message for path in bad)


def test_of_many_unreadable_files_five_are_named(tmp_path):
    save(tmp_path / "class" / "good.png", plain())
    for i in range(9):
        (tmp_path / "class" / f"bad{i}.png").write_bytes(b"hello")
    with pytest.warns(UserWarning, match="skipped 9 unreadable") as caught:
        load(tmp_path)
    assert [f"bad{i}.png" in str(caught[0].message) for i in range(9)] == [True] * 5 + [False] * 4
    assert "and 4 more" in str(caught[0].message)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tif", "ppm"])
def test_whatever_is_wrong_with_a_picture_it_is_only_skipped(tmp_path, suffix):
    """Cut short or scribbled over at random: Pillow raises struct.error, DecompressionBombError and more."""
    save(tmp_path / "class" / "good.png", plain())
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a camera"
    noise = np.random.default_rng(0).integers(0, 256, (20, 14, 3), dtype=np.uint8)
    whole = save(tmp_path / f"whole.{suffix}", Image.fromarray(noise), exif=exif).read_bytes()
    random = np.random.default_rng(1)
    for i in range(60):
        content = bytearray(whole)
        if i % 3 == 0:
            content = content[: random.integers(len(content))]
        for place in random.integers(min(len(content), 200) or 1, size=4 if i % 3 else 0):
            content[place] = random.integers(256)
        (tmp_path / "class" / f"{i}.{suffix}").write_bytes(bytes(content))
    with warnings.catch_warnings(record=True) as caught:  # Pillow warns too
        warnings.simplefilter("always")
        assert 1 <= len(load(tmp_path).images) < 61
    assert sum(str(warning.message).startswith("skipped") for warning in caught) == 1


def test_a_picture_too_large_to_be_true_is_skipped(tmp_path):
    save(tmp_path / "class" / "good.png", plain())
    bomb = bytearray(save(tmp_path / "bomb.bmp", plain()).read_bytes())
    bomb[18:26] = (60_000).to_bytes(4, "little") * 2
    (tmp_path / "class" / "bomb.bmp").write_bytes(bytes(bomb))
    with pytest.warns(UserWarning, match=r"bomb\.bmp"):
        assert len(load(tmp_path).images) == 1


def test_train_and_test_folders_are_the_splits(tmp_path):
    for split, red in (("train", 10), ("test", 20)):
        for name in ("cat", "dog"):
            save(tmp_path / split / name / "a.png", plain((red, 0, 0)))
    for split, red in (("train", 10), ("test", 20)):
        dataset = load(tmp_path, split=split)
        assert dataset.class_names == ("cat", "dog")
        assert colour_of(dataset)[0] == red


def test_train_and_test_must_number_their_classes_alike(tmp_path, one_line_error):
    save(tmp_path / "train" / "cat" / "a.png", plain())
    save(tmp_path / "train" / "dog" / "a.png", plain())
    save(tmp_path / "test" / "dog" / "a.png", plain())
    for split in ("train", "test"):
        with one_line_error(ValueError, tmp_path, "same classes", "cat"):
            load(tmp_path, split=split)


def test_without_a_test_folder_there_is_no_test_split(tmp_path, one_line_error):
    save(tmp_path / "cat" / "a.png", plain())
    with one_line_error(FileNotFoundError, tmp_path, "no test split"):
        load(tmp_path, split="test")


def test_folders_without_pictures_are_errors(tmp_path, one_line_error):
    with one_line_error(FileNotFoundError, tmp_path / "nowhere", "no folder"):
        load(tmp_path / "nowhere")
    with one_line_error(FileNotFoundError, tmp_path, "no readable picture", "PATH/class"):
        load(tmp_path)
    picture = save(tmp_path / "loose.png", plain())
    with one_line_error(FileNotFoundError, tmp_path, "no readable picture", "PATH/class"):
        load(tmp_path)
    with one_line_error(FileNotFoundError, picture, "no folder"):
        load(picture)
    save(tmp_path / "cat" / "a.png", plain())
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "broken.png").write_bytes(b"hello")
    with pytest.warns(UserWarning, match=r"broken\.png"), one_line_error(FileNotFoundError, "dog"):
        load(tmp_path)


def test_an_empty_class_is_named_and_left_out(tmp_path, one_line_error):
    for name in ("ant", "dog"):
        (tmp_path / name).mkdir()
    with one_line_error(FileNotFoundError, tmp_path, "no readable picture"):
        load(tmp_path)
    save(tmp_path / "cat" / "a.png", plain((1, 0, 0)))
    save(tmp_path / "emu" / "a.png", plain((2, 0, 0)))
    with pytest.warns(UserWarning, match=r"has no picture in ant, dog: left out") as caught:
        dataset = load(tmp_path)
    assert len(caught) == 1
    assert dataset.class_names == ("cat", "emu")
    assert dataset.labels.tolist() == [0, 1]


def test_empty_classes_of_two_splits(tmp_path, one_line_error):
    for split in ("train", "test"):
        save(tmp_path / split / "cat" / "a.png", plain())
        (tmp_path / split / "ant").mkdir()
    for split in ("train", "test"):
        with pytest.warns(UserWarning, match="no picture in ant"):
            assert load(tmp_path, split=split).class_names == ("cat",)
    save(tmp_path / "train" / "ant" / "a.png", plain())  # now the test split alone has none
    with one_line_error(ValueError, "same classes", "ant"):
        load(tmp_path)


def test_folders_that_a_mac_or_an_editor_leaves_are_no_classes(tmp_path, recwarn):
    for place in ("cat", "__MACOSX/cat", ".thumbnails", "cat/.thumbnails", "cat/__MACOSX", "cat/kittens"):
        save(tmp_path / place / "a.png", plain())
    dataset = load(tmp_path)
    assert dataset.class_names == ("cat",)
    assert len(dataset.images) == 2
    assert not recwarn.list


@pytest.mark.parametrize(
    ("option", "values"),
    [("channels", [0, 2, 4, "3", None]), ("image_size", [0, -8, 8.5, "8", (8,), (8, 0), (8, 8, 3)])],
)
def test_channels_are_one_or_three_and_sides_whole_numbers(tmp_path, option, values, one_line_error):
    save(tmp_path / "cat" / "a.png", plain())
    for value in values:
        with one_line_error(ValueError, option, value):
            load(tmp_path, **{option: value})


def test_a_path_may_start_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    save(tmp_path / "pictures" / "cat" / "a.png", plain())
    assert len(load_dataset("folder:~/pictures").images) == 1


# atomic_write


def test_atomic_write_writes(tmp_path):
    path = tmp_path / "new" / "folder" / "file.bin"
    atomic_write(path, b"one")
    assert path.read_bytes() == b"one"
    atomic_write(str(path), b"two")
    assert path.read_bytes() == b"two"
    atomic_write(path, lambda partial: partial.write_text("three"))
    assert path.read_text() == "three"
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]


def test_atomic_write_hands_over_a_name_of_the_same_kind_in_the_same_folder(tmp_path):
    def write(partial):
        assert partial.suffix == ".png"
        assert partial.parent == tmp_path
        assert partial.name != "picture.png"
        plain().save(partial)

    atomic_write(tmp_path / "picture.png", write)
    assert Image.open(tmp_path / "picture.png").size == (10, 10)


@pytest.mark.skipif(os.name == "nt", reason="needs hard links")
def test_atomic_write_puts_a_new_file_in_the_place_of_the_old_one(tmp_path):
    """Written into the old one, a power cut would leave half of each."""
    path, old = tmp_path / "file", tmp_path / "old"
    path.write_bytes(b"the old content")
    old.hardlink_to(path)
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
    assert old.read_bytes() == b"the old content"


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_atomic_write_makes_files_that_others_may_read(tmp_path):
    atomic_write(tmp_path / "file", b"")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


@pytest.mark.parametrize("failure", [RuntimeError("oh"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("before", [None, b"the old content"])
def test_a_crash_inside_leaves_nothing_behind(tmp_path, failure, before):
    path = tmp_path / "file.bin"
    if before is not None:
        path.write_bytes(before)

    def crash(partial):
        partial.write_bytes(b"half")
        raise failure

    with pytest.raises(type(failure)):
        atomic_write(path, crash)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == (
        {} if before is None else {"file.bin": before}
    )


@pytest.mark.parametrize("content", [b"0123456789", lambda partial: partial.write_bytes(b"0123456789")])
def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, content, one_line_error):
    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:5])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file.bin"
    path.write_bytes(b"the old content")
    monkeypatch.setattr(Path, "write_bytes", full)
    with one_line_error(OSError, path, "cannot write", "No space left") as full_disk:
        atomic_write(path, content)
    assert full_disk.error.errno == errno.ENOSPC
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"file.bin": b"the old content"}


def test_errors_without_a_number_read_well(tmp_path, one_line_error):
    """Pillow raises OSErrors of its own, which have no errno."""
    with one_line_error(OSError, "mode RGBA") as no_alpha:
        atomic_write(tmp_path / "a.jpg", plain((0, 0, 0, 0), mode="RGBA").save)
    assert str(no_alpha.error).startswith("cannot write")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_is_named(tmp_path, one_line_error):
    (tmp_path / "file").write_text("no folder")
    for path in (tmp_path / "file" / "a.bin", tmp_path / "file" / "deeper" / "a.bin"):
        with one_line_error(OSError, path, "cannot write", "choose a folder"):
            atomic_write(path, b"")
    (tmp_path / "folder").mkdir()
    with one_line_error(OSError, tmp_path / "folder", "cannot write"):
        atomic_write(tmp_path / "folder", b"")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(tmp_path, one_line_error):
    tmp_path.chmod(0o500)
    try:
        with one_line_error(PermissionError, tmp_path / "a.bin", "choose a folder"):
            atomic_write(tmp_path / "a.bin", b"")
    finally:
        tmp_path.chmod(0o700)


def in_a_child(action):
    """Run in a process of its own; its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="forks")


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_killed_in_the_middle_the_old_file_is_still_there(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"the old content")

    def die(partial):
        partial.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_child(lambda: atomic_write(path, die)) == -signal.SIGKILL
    assert path.read_bytes() == b"the old content"
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_disk_that_really_takes_no_more(tmp_path):
    """A limit on the size of files stands in for a full disk: the system itself refuses to write."""
    import resource

    def write():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            atomic_write(tmp_path / "file.bin", bytes(5000))
        except OSError as error:
            os._exit(0 if error.errno == errno.EFBIG and "cannot write" in str(error) else 2)

    assert in_a_child(write) == 0
    assert not list(tmp_path.iterdir())
