"""Several processes train what one would train: under torchrun and accelerate, in shards, stopped, killed, resumed."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from two_processes import CONFIG, SIZES, run

from dit_course import DiT, DiTConfig, RectifiedFlow, TrainConfig, train
from dit_course.__main__ import main
from dit_course.checkpoints import checkpoints_in, load_pretrained
from dit_course.distributed.rows import BatchShard

TESTS = Path(__file__).parent
TORCHRUN = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", "PORT"]
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "PORT"]
TINY = "--width 16 --depth 1 --heads 2 --batch-size 8 --sample-steps 1 --sample-cfg 2.0 --checkpoint-every 3"


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def start(launcher: list[str], *program: str) -> subprocess.Popen:
    """A launcher and what it starts, in a process group of its own, on a port that is free."""
    port = free_port()
    command = [sys.executable, "-m", *(port if word == "PORT" else word for word in launcher), *program]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def train_command(out: Path, *more: str) -> list[str]:
    return ["-m", "dit_course", "train", "--out", str(out), "--device", "cpu", *TINY.split(), *more]


def losses(folder: Path) -> list[float]:
    return [float(row.split(",")[1]) for row in (folder / "log.csv").read_text().splitlines()[1:]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """What one process trains: the same runs, each in a folder."""
    return tmp_path_factory.mktemp("alone")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Runs of two processes together, and of one that are to be gone on with."""
    folder = tmp_path_factory.mktemp("together")
    for name in ("of one", "of one, for shards"):
        run(folder / name, stop_at=3)
    launched = start(TORCHRUN, str(TESTS / "two_processes.py"), str(folder))
    output, errors = launched.communicate(timeout=400)
    assert launched.returncode == 0, output + errors
    return folder


@pytest.fixture(scope="module")
def results(folder) -> dict:
    return json.loads((folder / "process-0.json").read_text())


def close(numbers, tolerance=1e-5):
    return pytest.approx(numbers, rel=tolerance, abs=tolerance)


def same_weights(folder: Path, other: Path, tolerance=1e-5) -> None:
    ours, theirs = (load_file(f"{checkpoints_in(place)[0]}.safetensors") for place in (folder, other))
    empty = {name for name, tensor in theirs.items() if not tensor.numel()}  # no registers
    counters = {f"{name.rpartition('.')[0]}.step" for name in empty}
    assert ours.keys() - empty - counters == theirs.keys() - empty - counters
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=tolerance, atol=tolerance, msg=name)


# --- the same training --------------------------------------------------------------------------------------------


def test_a_batch_is_shared_out_without_gaps():
    rows = [list(range(24))[part] for rank in range(3) for part in BatchShard(rank, 3, 2).parts(24)]
    assert sorted(row for part in rows for row in part) == list(range(24))
    assert {len(part) for part in rows} == {4}
    assert BatchShard().parts(7) == [slice(0, 7)]
    with pytest.raises(ValueError, match="take a multiple of 6"):
        BatchShard(0, 3, 2).parts(20)


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulated_parts_are_one_batch(parts: int, alone: Path):
    whole, accumulated = run(alone / f"whole {parts}"), run(alone / f"parts {parts}", accumulate=parts)
    assert accumulated["losses"] == close(whole["losses"])
    assert accumulated["norms"] == close(whole["norms"])
    same_weights(alone / f"parts {parts}", alone / f"whole {parts}", 1e-4)


@pytest.mark.parametrize("name", ["two", "both", "student", "sharded", "few", "bare"])
def test_two_processes_train_what_one_trains(name: str, results: dict, folder: Path, alone: Path):
    options = {"few": {"data_size": 5}, "bare": {"config": DiTConfig(**SIZES, registers=0)}}
    options["student"] = {"distilled": True}
    expected = run(alone / name, **options.get(name, {}))
    assert results[name]["losses"] == close(expected["losses"])
    assert results[name]["norms"] == close(expected["norms"], 1e-4)
    same_weights(folder / name, alone / name, 1e-4)  # the average and the optimizer among them


@pytest.mark.parametrize("name", ["bf16", "sharded bf16"])
def test_bf16_is_near(name: str, results: dict, alone: Path):
    expected = run(alone / f"fp32 for {name}")
    assert results[name]["losses"] == close(expected["losses"], 0.05)
    assert results[name]["losses"] != close(expected["losses"], 1e-7)


@pytest.mark.parametrize("name", ["stopped", "stopped shards", "stopped student"])
def test_one_process_goes_on_where_two_were_stopped(name: str, results: dict, folder: Path, alone: Path):
    options = {"distilled": name.endswith("student")}
    expected, rest = run(alone / f"whole, {name}", **options), run(folder / name, **options)
    assert (results[name]["last"], rest["first"]) == (3, 4)
    assert results[name]["losses"] + rest["losses"] == close(expected["losses"])


@pytest.mark.parametrize("name", ["resumed", "resumed shards"])
def test_two_processes_go_on_where_one_was_stopped(name: str, results: dict, alone: Path):
    expected = run(alone / f"whole, {name}")
    assert results[name]["first"] == 4
    assert results[name]["losses"] == close(expected["losses"][3:])


def test_all_processes_decide_the_same(results: dict, folder: Path):
    """Both see the same losses, end after the same step by the clock, and stop together when one of them fails."""
    other = json.loads((folder / "process-1.json").read_text())
    assert other == results
    assert results["clock"]["total"] is not None
    assert re.search("the loss is inf .* at step 1", results["broken"])
    assert "take a multiple of 4" in results["uneven"]


def test_labels_are_hidden_as_one_process_hides_them(alone: Path):
    """A network without other randomness shows it: dropped labels change the loss."""
    never = run(alone / "never", config=DiTConfig(**SIZES, label_dropout=0.0), accumulate=2)
    often = run(alone / "often", accumulate=2)
    assert never["losses"] != close(often["losses"])
    model = DiT(CONFIG)
    list(train(model, run.__globals__["small_data"](), TrainConfig(steps=1, batch_size=4, accumulate=2)))
    assert model.label_embed.dropout == 0.3  # it is back


def test_flows_of_ones_own_are_asked(alone: Path):
    class Twice(RectifiedFlow):
        def loss(self, *args, **options):
            return 2 * super().loss(*args, **options)

    def first(flow):
        torch.manual_seed(0)
        config = TrainConfig(steps=1, batch_size=8, accumulate=2)
        return next(train(DiT(CONFIG), run.__globals__["small_data"](), config, flow=flow)).loss

    assert first(Twice()) == pytest.approx(2 * first(RectifiedFlow()))


@pytest.mark.skipif(sys.platform != "linux", reason="forks, as notebook_launcher does")
def test_a_notebook_launches_two_processes(alone: Path, tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, str(TESTS / "two_processes.py"), str(tmp_path / "run"), free_port()]
    subprocess.run(command, check=True, timeout=300, env=environment, capture_output=True)
    run(alone / "for the notebook")
    same_weights(tmp_path / "run", alone / "for the notebook", 1e-4)


# --- the same command ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("command") / "one"
    assert main(train_command(out, "--steps", "8")[2:]) == 0
    return out


def finish(launched: subprocess.Popen, seconds: float = 240) -> tuple[str, str]:
    try:
        return launched.communicate(timeout=seconds)
    finally:
        if launched.poll() is None:
            os.killpg(launched.pid, signal.SIGKILL)


def test_accelerate_launch_trains_and_one_process_goes_on(one: Path, tmp_path: Path, capsys):
    out = tmp_path / "run"
    output, errors = finish(launched := start(ACCELERATE, *train_command(out, "--steps", "8")))
    assert launched.returncode == 0, output + errors
    assert output.count("in 2 processes") == 1  # one of them speaks
    assert output.count("8 steps in") == 1
    assert losses(out) == close(losses(one))
    assert {file.name for file in (out / "samples").iterdir()} == {f.name for f in (one / "samples").iterdir()}
    ours, theirs = load_pretrained(out), load_pretrained(one)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-4, atol=1e-5)

    for file in out.glob("checkpoint-00000008.*"):  # as if it had been killed after step 6
        file.unlink()
    (out / "model.json").unlink()
    assert main(train_command(out, "--steps", "8")[2:]) == 0
    assert losses(out) == close(losses(one))
    assert load_pretrained(out).class_names[7] == "sneaker"


def test_torchrun_goes_on_where_one_process_was_in_shards(one: Path, tmp_path: Path):
    out = tmp_path / "run"
    assert main(train_command(out, "--steps", "8")[2:]) == 0
    for file in [*out.glob("checkpoint-00000008.*"), out / "model.json"]:
        file.unlink()
    output, errors = finish(launched := start(TORCHRUN, *train_command(out, "--steps", "8", "--shard")))
    assert launched.returncode == 0, output + errors
    assert losses(out) == close(losses(one))
    torch.testing.assert_close(
        load_pretrained(out).state_dict(), load_pretrained(one).state_dict(), rtol=1e-4, atol=1e-5
    )


def test_accelerate_that_started_one_process_only_is_told(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")  # as accelerate launch --cpu --num_processes 2 sets it
    assert main(train_command(tmp_path / "run", "--steps", "1")[2:]) == 0
    assert "has started one process" in capsys.readouterr().out


def wait_for_steps(launched: subprocess.Popen, out: Path, steps: int) -> None:
    deadline = time.monotonic() + 240
    while not (out / "log.csv").exists() or len(losses(out)) < steps or not checkpoints_in(out):
        assert launched.poll() is None, finish(launched)
        assert time.monotonic() < deadline
        time.sleep(0.05)


def workers_of(launched: subprocess.Popen) -> list[int]:
    children = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(launched.pid)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return sorted(int(line.split()[0]) for line in children if "dit_course" in line)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers as Linux lists them")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_the_job_with_one_line_and_a_checkpoint(victim: int, tmp_path: Path):
    out = tmp_path / "run"
    launched = start(TORCHRUN, *train_command(out, "--steps", "100000"))
    wait_for_steps(launched, out, 5)
    os.kill(workers_of(launched)[victim], signal.SIGKILL)
    _, errors = finish(launched, 120)
    assert launched.returncode != 0
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    newest = checkpoints_in(out)[0]
    assert re.fullmatch(
        f"error: another process .* has gone; the last checkpoint is {newest}; the same command goes on.*", line
    )
    assert errors.count("Traceback") == 1  # the launcher's own report
    assert int(newest.name[-8:]) >= 3


@pytest.mark.skipif(sys.platform != "linux", reason="signals as a terminal sends them")
def test_ctrl_c_saves_once(tmp_path: Path):
    out = tmp_path / "run"
    launched = start(TORCHRUN, *train_command(out, "--steps", "100000", "--checkpoint-every", "1000000"))
    deadline = time.monotonic() + 240
    while not (out / "log.csv").exists() or len(losses(out)) < 5:
        assert launched.poll() is None, finish(launched)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(launched.pid, signal.SIGINT)
    output, _ = finish(launched, 120)
    assert output.count("stopping after this step") == 1
    (said,) = re.findall(r"stopped and saved after step (\d+)", output)
    assert [path.name for path in checkpoints_in(out)] == [f"checkpoint-{int(said):08d}"]
    assert len(losses(out)) == int(said)
