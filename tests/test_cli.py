"""The command line as a user types it: what it writes, that seeds decide everything, and one line for every mistake."""

import contextlib
import csv
import json
import os
import shutil
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from dit_course.__main__ import main
from dit_course.checkpoints import load_pretrained, save_pretrained
from dit_course.commands import _student_card, evaluate
from dit_course.commands.train import default_out
from dit_course.data import Dataset, load_dataset
from dit_course.dit import DiT, DiTConfig
from dit_course.few_steps import FewStepDiT
from dit_course.studies import guidance

TINY = ["--width", "16", "--depth", "1", "--heads", "2", "--batch-size", "8"]
TINY += ["--sample-steps", "2", "--checkpoint-every", "3"]


def train_tiny(out: Path, *more: str) -> int:
    return main(["train", "--out", str(out), *TINY, *more])


def losses(run: Path) -> list[str]:
    with (run / "log.csv").open(newline="") as file:
        return [row["loss"] for row in csv.DictReader(file)]


@pytest.fixture(autouse=True)
def few_real(monkeypatch: pytest.MonkeyPatch) -> int:
    """Of the real pictures that samples are compared with, 500: all take seconds each time; test_wheel.py takes all."""

    def load(*args: str) -> Dataset:
        found = load_dataset(*args)
        return Dataset(found.images[:500], found.labels[:500], found.class_names, found.name)

    for module in (evaluate, _student_card, guidance):
        monkeypatch.setattr(module, "load_dataset", load)
    return 500


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    assert train_tiny(out, "--steps", "6", "--sample-every", "4") == 0
    return out


def test_train_leaves_weights_a_log_grids_and_gifs_at_three_scales(run: Path):
    assert len(losses(run)) == 6
    for step in (4, 6):
        for kind in ("raw", "ema"):
            for cfg in ("1.0", "2.5", "5.0"):
                stem = run / "samples" / f"step-{step:07d}-{kind}-cfg-{cfg}"
                with Image.open(f"{stem}.png") as grid, Image.open(f"{stem}.gif") as gif:
                    assert grid.width > 10 * 28
                    assert gif.n_frames >= 3
    model = load_pretrained(run)
    assert model.class_names[7] == "sneaker"
    assert not model.training
    facts = json.loads((run / "model.json").read_text())
    assert facts["training"]["steps"] == 6
    assert (facts["config"]["width"], facts["config"]["channels"], facts["config"]["num_classes"]) == (16, 1, 10)


def test_the_shipped_weights_are_the_average_and_not_the_raw_ones(run: Path):
    from safetensors.torch import load_file

    last = load_file(run / "checkpoint-00000006.safetensors")
    shipped = load_file(run / "model.safetensors")
    name = "blocks.0.mlp.up.weight"
    assert torch.equal(shipped[name], last[f"ema.{name}"])
    assert not torch.equal(shipped[name], last[f"model.{name}"])


def test_the_same_seed_trains_the_same_network_and_another_another(run: Path, tmp_path: Path):
    assert train_tiny(tmp_path / "same", "--steps", "6", "--sample-every", "4") == 0
    assert train_tiny(tmp_path / "other", "--steps", "6", "--seed", "1") == 0
    assert losses(tmp_path / "same") == losses(run) != losses(tmp_path / "other")
    assert (tmp_path / "same/model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert (tmp_path / "other/model.safetensors").read_bytes() != (run / "model.safetensors").read_bytes()


def test_a_finished_run_is_left_alone_and_fresh_starts_again(run: Path, capsys: pytest.CaptureFixture):
    before = (run / "model.safetensors").read_bytes()
    assert train_tiny(run, "--steps", "6", "--sample-every", "4") == 0
    assert "finished run" in capsys.readouterr().out
    assert (run / "model.safetensors").read_bytes() == before
    assert train_tiny(run, "--steps", "6", "--sample-every", "4", "--fresh") == 0
    assert len(losses(run)) == 6


def test_another_model_in_the_same_folder_is_refused(run: Path, capsys: pytest.CaptureFixture):
    assert train_tiny(run, "--steps", "6", "--depth", "2") == 1
    assert "another model or other data" in capsys.readouterr().err


def test_minutes_say_how_to_repeat_the_run_by_steps(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert train_tiny(tmp_path / "clock", "--minutes", "0.01") == 0
    words = capsys.readouterr().out.split()
    repeat = words[words.index("--steps") : words.index("no")]  # up to "no --minutes"
    assert train_tiny(tmp_path / "steps", *[word.strip(",") for word in repeat]) == 0
    assert losses(tmp_path / "clock") == losses(tmp_path / "steps")
    assert (tmp_path / "clock/model.safetensors").read_bytes() == (tmp_path / "steps/model.safetensors").read_bytes()


def test_sample_writes_grid_gif_and_mp4_and_honours_the_seed(run: Path, tmp_path: Path):
    def sample(name: str, *more: str) -> bytes:
        arguments = ["--model", str(run), "--per-class", "1", "--steps", "2", "--out", str(tmp_path / name)]
        assert main(["sample", *arguments, *more]) == 0
        return (tmp_path / name).read_bytes()

    animations = ["--gif", str(tmp_path / "a.gif"), "--mp4", str(tmp_path / "a.mp4")]
    first = sample("a.png", "--seed", "4", *animations)
    assert (tmp_path / "a.gif").read_bytes().startswith(b"GIF8")
    assert b"ftyp" in (tmp_path / "a.mp4").read_bytes()[:32]
    assert first == sample("b.png", "--seed", "4")
    assert first != sample("c.png", "--seed", "5")
    assert sample("d.png", "--seed", "4", "--classes", "bag", "7")


def test_training_on_a_folder_of_pictures_and_without_classes(tmp_path: Path):
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (20 + i, 30), colour).save(tmp_path / "pictures" / name / f"{i}.png")
    data = ["--data", f"folder:{tmp_path / 'pictures'}", "--image-size", "8", "--steps", "2"]
    assert train_tiny(tmp_path / "run", *data) == 0
    assert load_pretrained(tmp_path / "run").class_names == ("blue", "red")
    assert train_tiny(tmp_path / "free", *data, "--unconditional") == 0
    assert load_pretrained(tmp_path / "free").config.num_classes is None
    grid, model = str(tmp_path / "free.png"), str(tmp_path / "free")
    assert main(["sample", "--model", model, "--steps", "2", "--per-class", "1", "--out", grid]) == 0
    assert Path(grid).exists()


@pytest.mark.parametrize("written", ["photos", "photos/", "./photos", "photos/.", "album/../photos", "C:\\photos"])
def test_a_run_is_named_after_its_folder_of_pictures(written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert default_out(f"folder:{written}") == Path("runs/photos")


def test_a_run_has_a_name_wherever_its_pictures_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "shoes").mkdir()
    monkeypatch.chdir(tmp_path / "shoes")
    assert default_out("folder:.") == Path("runs/shoes")
    assert default_out(f"folder:{tmp_path.anchor}") == Path("runs/pictures")
    assert default_out("fashion-mnist") == Path("runs/fashion-mnist")


def test_patch_sizes_that_fit_the_data_are_taken(tmp_path: Path):
    assert train_tiny(tmp_path, "--patch-size", "7", "--steps", "1", "--sample-cfg", "1.0") == 0


def test_tensorboard_gets_numbers_and_pictures(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert train_tiny(tmp_path, "--steps", "10", "--sample-cfg", "1.0", "--track", "tensorboard") == 0
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [10]
    assert events.Scalars("loss")[0].value == pytest.approx(float(losses(tmp_path)[-1]))
    assert set(events.Tags()["images"]) == {"samples/raw cfg 1.0", "samples/ema cfg 1.0"}


def test_wandb_works_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert train_tiny(tmp_path, "--steps", "10", "--sample-cfg", "1.0", "--track", "wandb") == 0
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    deadline = time.monotonic() + 30
    while b"loss" not in log.read_bytes() and time.monotonic() < deadline:  # wandb's own process writes it, soon
        time.sleep(0.2)
    assert b"loss" in log.read_bytes()


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_is_a_line_with_the_cure(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    import sys

    monkeypatch.setitem(sys.modules, {"tensorboard": "torch.utils.tensorboard"}.get(name, name), None)
    assert train_tiny(tmp_path, "--steps", "1", "--track", name) == 1
    assert f"pip install 'dit-course[{name}]'" in one_line_of(capsys)


def one_line_of(capsys: pytest.CaptureFixture) -> str:
    """The error, once it is sure that it is one line without a traceback."""
    text = capsys.readouterr().err.strip()
    assert text.startswith("error: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sample --cfg nan", "finite number"),
        ("sample --steps -3", "steps = -3"),
        ("sample --per-class 0", "at least 1"),
        ("sample --classes sneeker", "unknown class 'sneeker'.*sneaker"),
        ("sample --classes 12", "12.*0 to 9"),
        ("sample --cfg-interval 0.8 0.2", "low <= high"),
        ("sample --solver rk4", "'euler', 'heun', 'ab2'"),
        ("train --steps -5", "steps = -5"),
        ("train --patch-size 5", r"28x28 image cannot be cut into patches of 5.*try 4 or 7"),
        ("train --width 100 --heads 3", "multiple of the number of heads"),
        ("train --data imagenet", "fashion-mnist, cifar10, or folder:PATH"),
        ("train --data folder:nowhere", "nowhere is no folder"),
        ("train --device cuda:99", "device 'cuda:99'"),
        ("train --size DiT-Q/2", "no known size"),
        ("train --lr nan", "lr = nan"),
        ("train --sample-every 0", "sample_every"),
        ("evaluate --samples 1", "at least 4"),
        ("trian", "trian"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(
    arguments: str,
    message: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    import re

    monkeypatch.chdir(tmp_path)
    model = ["--model", str(run)] if arguments.startswith(("sample", "evaluate")) else []
    try:
        status = main([*arguments.split(), *model])
    except SystemExit as stop:
        status = stop.code
    assert status in (1, 2)
    assert re.search(message, one_line_of(capsys))
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_damaged_missing_and_misfitting_checkpoints(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    def error_of(model: Path | str) -> str:
        assert main(["sample", "--model", str(model), "--out", str(tmp_path / "x.png")]) == 1
        assert not (tmp_path / "x.png").exists()
        return one_line_of(capsys)

    assert "does not exist" in error_of("atlantis")
    weights, about = (run / "model.safetensors").read_bytes(), json.loads((run / "model.json").read_text())

    def write(name: str, weights: bytes, about: dict) -> Path:
        (tmp_path / f"{name}.safetensors").write_bytes(weights)
        (tmp_path / f"{name}.json").write_text(json.dumps(about))
        return tmp_path / f"{name}.safetensors"

    assert "is damaged" in error_of(write("cut", weights[:-50], about))
    unsized = {key: value for key, value in about.items() if key != "bytes"}
    assert "is damaged" in error_of(write("cut2", weights[:100], unsized))
    wider = about | {"config": about["config"] | {"width": 32}}
    assert "does not fit the model's configuration" in error_of(write("wide", weights, wider))
    assert "describes no DiT" in error_of(write("odd", weights, about | {"config": {"wings": 2}}))
    (tmp_path / "odd.json").write_text("{")
    assert "no JSON" in error_of(tmp_path / "odd.safetensors")


def test_a_folder_that_cannot_be_written(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "file").write_text("a file, where a folder is wanted")
    target = tmp_path / "file" / "x.png"
    assert main(["sample", "--model", str(run), "--steps", "1", "--per-class", "1", "--out", str(target)]) == 1
    assert "cannot write" in one_line_of(capsys)
    assert train_tiny(tmp_path / "file" / "run", "--steps", "1") == 1
    assert "cannot write" in one_line_of(capsys)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the file-size limit is a matter of POSIX")
def test_a_full_disk_leaves_nothing_half_written(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    """A limit on the size of files stands in for the full disk: writes fail in the same place, half-way."""
    import resource
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        status = main(["sample", "--model", str(run), "--steps", "1", "--out", str(tmp_path / "x.png")])
        sampled = one_line_of(capsys)
        trained = train_tiny(tmp_path / "run", "--steps", "3")
        full = one_line_of(capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert (status, trained) == (1, 1)
    assert "cannot write" in sampled
    assert "cannot write" in full
    left = sorted(f.name for f in tmp_path.rglob("*") if f.is_file())
    assert left == ["config.json", "log.csv"]


def test_help_names_every_command(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("train", "sample", "evaluate", "classifier", "doctor"))


def test_traceback_on_demand(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(os.environ, "DIT_COURSE_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        main(["sample", "--model", "atlantis"])


def test_export_writes_half_the_bytes_and_a_card_with_its_own_numbers(run: Path, tmp_path: Path):
    assert main(["export", "--run-folder", str(run), "--out", str(tmp_path / "mini"), "--samples", "20"]) == 0
    assert (tmp_path / "mini.safetensors").stat().st_size < 0.6 * (run / "model.safetensors").stat().st_size
    result = json.loads((tmp_path / "mini" / "evaluation.json").read_text())
    card = (tmp_path / "mini" / "README.md").read_text()
    assert f"| in the class asked for | {result['class_accuracy']:.1%} |" in card
    assert "6 steps of 8 pictures" in card
    for picture in ("loss.png", "samples-cfg-1.0.png", "samples-cfg-2.5.png", "samples-cfg-5.0.png"):
        assert f"({picture})" in card
        assert (tmp_path / "mini" / picture).exists()
    shipped, trained = load_pretrained(tmp_path / "mini.safetensors"), load_pretrained(run)
    name = "blocks.0.mlp.up.weight"
    torch.testing.assert_close(shipped.state_dict()[name], trained.state_dict()[name], rtol=1e-3, atol=1e-6)
    assert torch.equal(shipped.time_embed.frequencies, trained.time_embed.frequencies)  # not rounded


def test_a_run_that_is_not_over_can_be_exported(run: Path, tmp_path: Path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "model.json").unlink()
    out = ["--out", str(tmp_path / "half"), "--samples", "20"]
    assert main(["export", "--run-folder", str(tmp_path / "run"), *out]) == 0
    shipped, trained = load_pretrained(tmp_path / "half.safetensors"), load_pretrained(run)
    assert shipped.class_names == trained.class_names
    torch.testing.assert_close(shipped.state_dict(), trained.state_dict(), rtol=1e-3, atol=1e-6)  # the average, rounded
    assert "was not over" in (tmp_path / "half" / "README.md").read_text()
    assert main(["export", "--run-folder", str(tmp_path), *out]) == 1


def test_evaluate_twice_gives_the_same_numbers(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, few_real: int):
    results = []
    for name in ("a.json", "b"):  # with the ending or without
        out = ["--samples", "30", "--steps", "3", "--out", str(tmp_path / name)]
        assert main(["evaluate", "--model", str(run), *out]) == 0
        file = (tmp_path / name).with_suffix(".json")
        results.append(json.loads(file.read_text()) | {"seconds": 0})
    assert results[0] == results[1]
    said, table = capsys.readouterr().out, (tmp_path / "b.md").read_text()
    assert table in said
    assert f"{results[0]['class_accuracy']:8.1%}" in table
    protocol = results[0]["protocol"]
    assert protocol["evaluations_per_sample"] == 6
    assert protocol["reference"] == {"split": "test", "count": few_real, "flipped": False}
    stated = {name for name, value in protocol.items() if value not in (None, "")}
    assert {"model_sha256", "samples", "seed", "labels", "cfg", "solver", "features", "judge_sha256"} <= stated
    assert "versions" in stated
    assert protocol["inception"] is None
    assert "frechet_inception_distance" not in results[0]  # the judge's distance is no FID, and never called so


FIDELITY = "torch_fidelity.feature_extractor_inceptionv3"


def pretend_fidelity(monkeypatch, extractor):
    package = ModuleType(FIDELITY)
    package.FeatureExtractorInceptionV3 = extractor
    monkeypatch.setitem(sys.modules, FIDELITY, package)


def test_an_fid_without_its_package_or_its_weights_is_a_line_with_the_cure(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    wanted = ["evaluate", "--model", str(run), "--samples", "10", "--steps", "1", "--inception"]
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.setitem(sys.modules, FIDELITY, None)
    assert main([*wanted, "--out", str(tmp_path / "x")]) == 1
    assert "pip install torch-fidelity" in one_line_of(capsys)

    def no_network(*_):
        raise ConnectionError("no route")

    pretend_fidelity(monkeypatch, no_network)
    assert main([*wanted, "--out", str(tmp_path / "x")]) == 1
    assert "weights cannot be had (ConnectionError: no route)" in one_line_of(capsys)
    assert main([*wanted, "--inception-weights", str(tmp_path / "nowhere.pth"), "--out", str(tmp_path / "x")]) == 1
    assert "nowhere.pth does not exist" in one_line_of(capsys)
    assert not list(tmp_path.iterdir())


def test_an_fid_has_a_name_of_its_own(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Extractor(torch.nn.Module):
        def __init__(self, name: str, features: list[str], weights: str | None):
            super().__init__()
            assert features == ["2048"]

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            assert (x.dtype, x.shape[1]) == (torch.uint8, 3)  # as the true one demands
            return (x.float().mean(dim=(2, 3)) + torch.arange(3),)

    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    pretend_fidelity(monkeypatch, Extractor)
    arguments = ["--samples", "10", "--steps", "1", "--inception", "--out", str(tmp_path / "x")]
    assert main(["evaluate", "--model", str(run), *arguments]) == 0
    result = json.loads((tmp_path / "x.json").read_text())
    assert result["frechet_inception_distance"] != result["frechet_distance"]
    assert "inception" in result["protocol"]["inception"]
    assert "(FID)" in (tmp_path / "x.md").read_text()


def test_a_trade_off_is_measured_as_evaluate_does_and_goes_on_where_it_stopped(run: Path, tmp_path: Path):
    settings = {"model": str(run), "scales": (1.0, 2.0), "samples": 10, "out": tmp_path / "t.csv", "ship": (2.0,)}
    command = guidance.Guidance(**settings, seeds=1, kept=tmp_path / "kept")
    command.run()
    (first, second) = csv.DictReader((tmp_path / "t.csv").open())
    assert (first["cfg"], second["cfg"]) == ("1", "2")
    assert main(["evaluate", "--model", str(run), "--samples", "10", "--out", str(tmp_path / "x")]) == 0
    result = json.loads((tmp_path / "x.json").read_text())
    for name in ("class_accuracy", "frechet_distance", "precision", "recall"):
        assert float(second[name]) == pytest.approx(result[name], rel=1e-5)
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").iterdir()}
    guidance.Guidance(**settings, seeds=2, kept=tmp_path / "kept").run()
    assert len(list(csv.DictReader((tmp_path / "t.csv").open()))) == 4
    assert all(file.stat().st_mtime_ns == time for file, time in kept.items())
    assert (tmp_path / "t-samples.npz").exists()


def test_a_run_killed_before_its_weights_were_written_is_finished_by_the_same_command(run: Path, tmp_path: Path):
    import shutil

    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "model.json").unlink()
    (tmp_path / "run" / "model.safetensors").unlink()
    assert train_tiny(tmp_path / "run", "--steps", "6", "--sample-every", "4") == 0
    assert (tmp_path / "run/model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_ctrl_c_saves_the_step_in_hand_and_the_same_command_goes_on(tmp_path: Path):
    import signal
    import subprocess
    import sys
    import time

    command = [sys.executable, "-m", "dit_course", "train", "--out", str(tmp_path), *TINY, "--steps", "3000"]
    # a shell may start what runs in the background deaf to Ctrl-C
    awake = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **awake) as child:
        deadline = time.monotonic() + 120
        while not (tmp_path / "log.csv").exists() or len(losses(tmp_path)) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=120)[0]
    assert child.returncode == 0
    done = len(losses(tmp_path))
    assert f"stopped and saved after step {done}" in said
    assert (tmp_path / f"checkpoint-{done:08d}.json").exists()


STUDENT = ["--batch-size", "8", "--checkpoint-every", "2", "--steps", "12", "--sample-cfg", "2.5"]


@pytest.fixture(scope="module")
def student(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("student") / "small-few-steps"
    assert main(["distill", "--teacher", str(run), "--out", str(out), *STUDENT]) == 0
    return out


def test_a_distillation_that_was_killed_goes_on_bit_for_bit(run: Path, student: Path, tmp_path: Path):
    import subprocess
    import sys

    command = ["distill", "--teacher", str(run), "--out", str(tmp_path), *STUDENT]
    with subprocess.Popen([sys.executable, "-m", "dit_course", *command], stdout=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob("checkpoint-*[4-9].json")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        child.kill()
    assert not (tmp_path / "model.json").exists()
    assert main(command) == 0
    assert losses(tmp_path) == losses(student)
    assert (tmp_path / "model.safetensors").read_bytes() == (student / "model.safetensors").read_bytes()


def test_a_student_is_sampled_and_measured_beside_its_teacher(student: Path, tmp_path: Path, capsys):
    trained = load_pretrained(student)
    assert isinstance(trained, FewStepDiT)
    assert (student / "samples" / "step-0000012-ema-cfg-2.5.png").exists()
    sample = ["sample", "--model", str(student), "--per-class", "1", "--out", str(tmp_path / "a.png")]
    assert main(sample) == 0
    assert main([*sample, "--steps", "4", "--gif", str(tmp_path / "a.gif")]) == 0
    said = capsys.readouterr().out
    assert "cfg 2.5, one evaluation: " in said
    assert "cfg 2.5, 4 evaluations: " in said
    evaluate = ["evaluate", "--model", str(student), "--samples", "20", "--steps", "2", "--out", str(tmp_path / "x")]
    assert main(evaluate) == 0
    result, table = json.loads((tmp_path / "x.json").read_text()), (tmp_path / "x.md").read_text()
    assert (result["protocol"]["evaluations_per_sample"], result["protocol"]["solver"]) == (2, None)
    assert result["teacher"]["evaluations_per_sample"] == 30
    assert f"| {result['frechet_distance']:8.2f} | {result['teacher']['frechet_distance']:8.2f} |" in table
    assert result["frechet_distance"] != result["teacher"]["frechet_distance"]


def test_a_students_card_has_its_own_numbers(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_student_card, "SEEDS", 1)
    shutil.copytree(student, tmp_path / "run")
    (tmp_path / "run" / "model.json").unlink()  # as if it were not over
    for place, out in ((student, "whole"), (tmp_path / "run", "half")):
        card = tmp_path / out
        assert main(["export", "--run-folder", str(place), "--out", str(card), "--samples", "20"]) == 0
        means = json.loads((card / "evaluation.json").read_text())["means"]
        words = (card / "README.md").read_text()
        for mean in means.values():
            assert f"| {mean['class_accuracy']:.1%} | {mean['frechet_distance']:.2f} |" in words
        for name in ("samples-student-1.png", "samples-student-4.png", "samples-teacher.png", "guidance.gif"):
            assert f"({name})" in words
            assert (card / name).exists()
        assert isinstance(load_pretrained(card.with_suffix(".safetensors")), FewStepDiT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("distill --steps 0", "steps = 0"),
        ("distill --minutes 0", "minutes = 0"),
        ("distill --base 1.5", "base must be a share between 0 and 1"),
        ("distill --teacher FREE", "has no classes.*give a teacher that has classes"),
        ("distill --teacher fashion-mnist-few-steps", "is a student itself"),
        ("distill --teacher atlantis", "does not exist"),
        ("distill --shard", "leave --shard out"),
        ("distill --sample-cfg 8", "from 1 to 6"),
        ("distill --sample-steps 0", "steps = 0"),
        ("distill --data cifar10", "images are|not in"),
        ("sample --model fashion-mnist-few-steps --steps 0", "steps = 0"),
        ("sample --model fashion-mnist-few-steps --cfg 8", "from 1 to 6"),
        ("evaluate --model fashion-mnist-few-steps --cfg-interval 0.2 0.8", "leave --cfg-interval out"),
    ],
)
def test_what_a_student_cannot_do_is_one_line(
    arguments: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    import re

    config = DiTConfig(image_size=28, channels=1, width=16, depth=1, heads=2, num_classes=None)
    save_pretrained(tmp_path / "free" / "model", DiT(config), training={"data": "fashion-mnist"})
    monkeypatch.chdir(tmp_path)
    status = None
    with contextlib.suppress(SystemExit):
        status = main(arguments.replace("FREE", "free").split())
    assert status in (None, 1, 2)
    assert re.search(message, one_line_of(capsys))
    assert not list(tmp_path.rglob("*.png"))


def test_an_interrupt_elsewhere_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("dit_course.commands.sample.load_pretrained", interrupted)
    assert main(["sample"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("train --minute 3", "perhaps --minutes?"),
        ("trian --data x", "take one of train"),
        ("sample --out x.jpg", ".png"),
    ],
)
def test_typos_get_a_suggestion(arguments: str, hint: str, capsys: pytest.CaptureFixture):
    with contextlib.suppress(SystemExit):
        main(arguments.split())
    assert hint in one_line_of(capsys)
