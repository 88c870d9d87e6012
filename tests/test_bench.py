"""The bench: every line is there, times are taken in turns, and targets are judged by ratios of the same round."""

import csv
import sys
from pathlib import Path

import pytest
import torch

from dit_course.__main__ import main
from dit_course.commands.bench import Entry, matrix_peak, targets

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
