"""The bench: every line is there, times are taken in turns, and targets are judged by ratios of the same round."""

import csv
import sys
from pathlib import Path

import pytest
import torch

from dit_course.__main__ import main
from dit_course.commands._operators import operator_table, operators
from dit_course.commands.bench import Entry, matrix_peak, slow_bf16, targets

TINY = "--width 16 --depth 1 --heads 2 --batch-size 4 --rounds 2 --seconds 0.01 --per-class 1 --no-compile --device cpu"


def test_the_bench_prints_and_writes_a_line_for_all_it_measures(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)  # not installed
    threads = torch.get_num_threads()
    assert main(["bench", *TINY.split(), "--csv", str(tmp_path / "bench.csv")]) == 0
    assert torch.get_num_threads() == threads
    output = capsys.readouterr().out
    assert "diffusers is not installed: left out" in output
    assert "GFLOP/s" in output
    assert "drawing, ab2 15 against euler 50" in output
    with (tmp_path / "bench.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["what"] for row in rows} == {"train, eager", "train, bf16", "draw, euler 50", "draw, ab2 15"}
    for row in rows:
        assert 0 < float(row["slowest"]) <= float(row["images_per_second"]) <= float(row["fastest"])
        assert 0 < float(row["share_of_peak"]) < 1


def test_diffusers_network_is_trained_by_the_same_loop():
    from dit_course import DiTConfig, TrainConfig, train
    from dit_course.commands.bench import DiffusersNetwork

    config = DiTConfig(image_size=8, channels=1, width=16, depth=1, heads=2)
    data = torch.zeros(8, 1, 8, 8, dtype=torch.uint8), torch.arange(8)
    assert len(list(train(DiffusersNetwork(config), data, TrainConfig(steps=2, batch_size=4)))) == 2


def test_targets_compare_what_was_timed_in_the_same_round():
    speeds = {"train, eager": [2, 20, 200], "train, diffusers": [1, 10, 100], "draw, ab2 15": [4, 4, 4]}
    speeds["draw, euler 50"] = [1, 2, 4]
    entries = [Entry(what, 1, 1, 1.0, print, values, [0.5, 0.6, 0.1]) for what, values in speeds.items()]
    against, peak, drawing = targets(entries)
    assert "2.00 (target 1.50: met)" in against
    assert "0.50 (target 0.55: missed)" in peak
    assert "2.00 (target 3.00: missed)" in drawing


def test_a_gpu_is_compared_in_bf16_and_a_cpu_by_rows():
    speeds = {name: [2.0] for name in ("train, eager", "train, diffusers", "draw, ab2 15", "draw, euler 50")}
    speeds |= {"train, bf16": [9.0], "train, diffusers bf16": [3.0], "train, diffusers by rows": [1.0]}
    lines = list(targets([Entry(what, 1, 1, 1.0, print, values, [0.5]) for what, values in speeds.items()]))
    assert "train, bf16, against diffusers in bf16: 3.00 (target 1.50: met)" in lines
    assert "train, eager, against diffusers by rows: 2.00" in lines


def test_the_peak_is_that_of_this_machine():
    assert 1e8 < matrix_peak(torch.device("cpu"), 0.05, side=128) < 1e14


def test_rounds_without_end_are_refused(capsys):
    assert main(["bench", "--rounds", "0"]) == 1
    assert "rounds = 0" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--rounds", "--no-compile", "--csv"])
def test_help_names_the_options(option: str, capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    assert option in capsys.readouterr().out


def test_a_profiled_step_has_the_arithmetic_that_is_counted():
    from dit_course import DiT, DiTConfig, TrainConfig, train
    from dit_course.scaling import count_multiply_adds

    config = DiTConfig(image_size=16, patch_size=4, channels=1, width=64, depth=2, heads=2, registers=0, qk_norm=False)
    data = torch.zeros(8, 1, 16, 16, dtype=torch.uint8), torch.arange(8)
    steps = train(DiT(config), data, TrainConfig(steps=10**9, batch_size=8))
    rows = operators(steps, count=2)
    counted = 3 * 8 * 2 * sum(count_multiply_adds(config).values()) / 1e9  # backward is twice the work of forward
    assert sum(row["gflop"] for row in rows) == pytest.approx(counted, rel=0.15)  # attention itself is not counted
    assert [row["milliseconds"] for row in rows] == sorted((row["milliseconds"] for row in rows), reverse=True)
    (adamw,) = (row for row in rows if row["name"] == "aten::_fused_adamw_")
    assert adamw["calls"] == 1
    lines = list(operator_table(rows))
    assert len(lines) == 2 + 14 + 1
    shares = [float(line.split("%")[0].split()[-1]) for line in lines[2:]]
    assert sum(shares) == pytest.approx(100, abs=1)


def test_the_bench_shows_a_profile_instead(capsys):
    assert main(["bench", *TINY.split(), "--profile"]) == 0
    output = capsys.readouterr().out
    assert "aten::mm" in output
    assert "GFLOP/s" in output
    assert "draw, ab2" not in output


@pytest.mark.parametrize(
    ("able", "said"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_a_cpu_without_bf16_instructions_is_named(able, said, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert ("no bfloat16 instructions" in slow_bf16()) == said
