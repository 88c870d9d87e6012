"""The scaling experiment and lesson 10's arithmetic."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dit_course import DiT, count_multiply_adds, count_parameters
from dit_course.__main__ import parse
from dit_course.data import data_root
from dit_course.scaling import (
    PATCH_SIZES,
    SIZES,
    even_tokens,
    fit_power_law,
    gpu_hours,
    means_of,
    scaled_config,
    to_bfloat16,
    training_flops,
)
from dit_course.studies.experiments import load_experiment
from dit_course.studies.scaling import Scaling, ScalingSettings
from dit_course.studies.table import read_table

TINY = ScalingSettings(steps=1, batch_size=4, samples=20, solver_steps=1)
SHIPPED = data_root() / "experiments" / "scaling.csv"


def test_sizes_grow_in_work_and_parameters():
    for patch in PATCH_SIZES:
        configs = [scaled_config(size, patch) for size in SIZES]
        for count in (count_parameters, count_multiply_adds):
            totals = [sum(count(config).values()) for config in configs]
            assert all(1.7 < b / a < 4 for a, b in pairwise(totals)), totals
        assert all(config.width > patch**2 for config in configs)  # as many features as a patch has noise, and more
    with pytest.raises(ValueError, match="take one of tiny"):
        scaled_config("huge", 4)


def test_training_flops_are_what_torch_counts_but_for_the_first_layers_inputs():
    config = scaled_config("small", 7)
    model, batch = DiT(config), 3
    for parameter in model.parameters():  # zeros would cut the gradients off
        torch.nn.init.normal_(parameter, std=0.1)
    x = torch.randn(batch, 1, 28, 28, requires_grad=True)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(x, torch.rand(batch), torch.zeros(batch, dtype=torch.int64)).square().mean().backward()
    assert counter.get_total_flops() == pytest.approx(training_flops(config, batch), rel=0.01)


def test_pairs_and_linear_layers_are_even_where_it_says():
    config = scaled_config("large", 4)
    config = replace(config, image_size=(4 * 24, 4 * 32))  # 768 tokens, and 6 x 128 = 768
    work = count_multiply_adds(config)
    assert even_tokens(config.width) == 768
    assert work["pairs of tokens"] == work["attention"] + work["MLP"]
    assert even_tokens(100, 2.0) == 400


def test_a_power_law_is_found_again():
    x = torch.tensor([1.0, 10.0, 200.0, 5000.0])
    factor, exponent = fit_power_law(x, 3 * x**-0.25)
    assert (factor.item(), exponent.item()) == pytest.approx((3, -0.25), abs=1e-5)


def test_bfloat16_is_rounded_as_torch_rounds():
    spread = torch.logspace(-30, 30, 10_000)
    x = torch.cat([torch.randn(10_000) * spread, torch.tensor([0.0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8])])
    assert torch.equal(to_bfloat16(x), x.bfloat16().float())


def test_hours_of_a_gpu():
    assert gpu_hours(989e12 * 0.4 * 3600) == pytest.approx(1)
    assert gpu_hours(3.6e15, teraflops=1, utilization=0.5) == pytest.approx(2)


def test_means_are_taken_over_seeds():
    rows = [
        {"patch": patch, "training_flops": flops, "seed": seed, "loss": flops + seed}
        for patch in (4, 7)
        for flops in (20.0, 10.0)
        for seed in (0, 1)
    ]
    x, y = means_of(rows, "loss", 7)
    assert (x.tolist(), y.tolist()) == ([10.0, 20.0], [10.5, 20.5])


def test_the_table_grows_row_by_row_and_goes_on_where_it_was_stopped(tmp_path, capsys):
    path = tmp_path / "scaling.csv"
    command = Scaling(seeds=2, out=path, sizes=("tiny", "small"), patches=(7,), settings=TINY)
    running = command.rows()
    first = next(running)
    running.close()
    (row,) = read_table(path)
    assert (
        row["parameters"] == first["parameters"] == sum(p.numel() for p in DiT(scaled_config("tiny", 7)).parameters())
    )
    assert row["training_flops"] == training_flops(scaled_config("tiny", 7), 4)
    command.run()
    assert [(r["size"], r["seed"]) for r in read_table(path)] == [
        ("tiny", 0), ("small", 0), ("tiny", 1), ("small", 1),
    ]  # fmt: skip
    assert "small/7: 2 seeds, mean loss" in capsys.readouterr().out
    assert list(command.rows()) == []
    with pytest.raises(ValueError, match="steps = 1, batch_size = 4"):
        list(replace(command, settings=replace(TINY, steps=2)).rows())


def test_one_seed_sees_the_same_pictures_and_noise_whatever_the_size(tmp_path):
    still = replace(TINY, lr=1e-12)  # nothing is learned, so all answer 0 and have the same loss
    rows = list(Scaling(seeds=1, out=tmp_path / "s.csv", sizes=("tiny", "medium"), settings=still).rows())
    assert len({f"{row['validation_loss']:.4f}" for row in rows}) == 1


def test_the_command_is_there():
    assert parse(["experiment", "scaling", "--seeds", "1", "--steps", "7"]).study.settings.steps == 7
    assert parse(["scaling", "--seeds", "1", "--steps", "7"]).settings.steps == 7  # the name of older texts


@pytest.mark.skipif(not SHIPPED.exists(), reason="the founder's run is not there yet")
def test_the_shipped_table_is_complete():
    rows = load_experiment("scaling")
    seeds = {(size, patch): set() for size in SIZES for patch in PATCH_SIZES}
    for row in rows:
        seeds[row["size"], row["patch"]].add(row["seed"])
        config = scaled_config(row["size"], row["patch"])
        assert row["multiply_adds"] == sum(count_multiply_adds(config).values())
        assert row["parameters"] == sum(count_parameters(config).values())
    assert len(set(map(frozenset, seeds.values()))) == 1
    assert len(seeds["tiny", 7]) >= 2
    assert {(row["steps"], row["batch_size"]) for row in rows} == {
        (ScalingSettings().steps, ScalingSettings().batch_size)
    }
