"""Paired trainings: the same seeds for all variants, tables that grow row by row, honest intervals."""

import re
from dataclasses import replace

import pytest
import torch

from dit_course import DiT, DiTConfig, show
from dit_course.__main__ import main, parse
from dit_course.commands.experiment import STUDIES
from dit_course.studies import tricks
from dit_course.studies.experiments import (
    TIMES,
    load_experiment,
    losses_on_test_images,
    paired_difference,
    smallest_effect,
    undo_zeros,
)
from dit_course.studies.solvers import EVALUATIONS, Solvers
from dit_course.studies.table import read_table, write_table


def rows_of(**values):
    return [{"variant": v, "seed": i, "steps": 1, "x": x} for v, xs in values.items() for i, x in enumerate(xs)]


def test_the_difference_is_paired():
    rows = rows_of(a=[11.0, 22.0, 33.0], b=[10.0, 20.0, 30.0])
    middle, half = paired_difference(rows, "x", "a", "b")
    assert middle == pytest.approx(2)
    assert half == pytest.approx(4.303 * 1 / 3**0.5)  # differences 1, 2, 3: standard deviation 1
    assert paired_difference(rows, "x", "b", "a")[0] == pytest.approx(-2)


def test_seeds_that_only_one_variant_has_are_left_out():
    rows = rows_of(a=[1.0, 2.0, 99.0], b=[0.0, 1.0])
    assert paired_difference(rows, "x", "a", "b") == (pytest.approx(1), pytest.approx(0))
    with pytest.raises(ValueError, match="at least two"):
        paired_difference(rows_of(a=[1.0], b=[2.0]), "x", "a", "b")


def test_the_smallest_effect_is_one_that_pairs_show_in_four_of_five_repetitions():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 5, generator=generator)  # differences of five pairs, standard deviation 1
    ours = rows_of(a=[1.0, 2.0, 3.0, 4.0, 5.0], b=[0.0] * 5)
    deviation = 2.5**0.5  # of the differences 1 to 5
    effect = smallest_effect(ours, "x", "b") / deviation
    shifted = noise + effect
    half = 2.776 * shifted.std(dim=1) / 5**0.5
    assert (shifted.mean(dim=1) > half).float().mean().item() == pytest.approx(0.8, abs=0.03)


def test_undo_zeros_does_what_the_bug_does():
    model = DiT(DiTConfig(image_size=8, patch_size=4, channels=1, width=16, depth=1, heads=2))
    x, t, y = torch.randn(2, 1, 8, 8), torch.rand(2), torch.zeros(2, dtype=torch.int64)
    assert not model(x, t, y).any()
    undo_zeros(model)
    assert model(x, t, y).any()


def test_an_unknown_experiment_is_named():
    with pytest.raises(FileNotFoundError, match="magic"):
        load_experiment("magic")
    with pytest.raises(ValueError, match="take one of three-minute network, 4 registers"):
        tricks.Tricks(only=("magic",)).run()


def test_the_loss_on_test_images_is_the_mean_over_the_times():
    model = DiT(DiTConfig(image_size=28, patch_size=7, channels=1, width=16, depth=1, heads=2))
    losses = losses_on_test_images(model.eval(), "fashion-mnist")
    found = [losses[f"loss_at_{t:.2f}"] for t in TIMES]
    assert losses["validation_loss"] == pytest.approx(sum(found) / 10)
    assert found == pytest.approx([found[0]] * 10)  # a new model answers 0, whatever the time


def test_all_studies_are_listed_and_take_their_own_options(capsys):
    assert main(["experiment", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(STUDIES)
    assert list(STUDIES) == [*tricks.PARTS, "tricks", "scaling", "solvers", "bugs", "guidance"]
    assert all(re.search(r" \d+ min", line) for line in lines)
    norm = parse(["experiment", "norm", "--seeds", "2", "--steps", "7"]).study
    assert (norm.only, norm.seeds, norm.steps) == (("RMSNorm",), 2, 7)
    assert parse(["experiment"]).study.only == ("4 registers",)
    assert parse(["experiment", "guidance", "--scales", "1", "2"]).study.scales == (1.0, 2.0)
    with pytest.raises(SystemExit):
        parse(["experiment", "magic"])
    assert capsys.readouterr().err.startswith("error: unknown experiment 'magic': take one of registers, timesteps")


def test_each_trick_has_a_study_of_its_own():
    assert sorted(name for names, _ in tricks.PARTS.values() for name in names) == sorted(list(tricks.TRICKS)[1:])


def test_solvers_are_measured_and_go_on_where_they_were_stopped(tmp_path):
    command = Solvers(seeds=1, out=tmp_path / "solvers.csv", samples=10, compared=2)
    write_table(command.out, [command.measure(0, "euler", "euler", 4)])
    (first,) = read_table(command.out)
    missing = [(0, name, count) for count in EVALUATIONS for name in ("euler", "heun", "ab2", "slipped")][1:]
    stub = {"frechet_distance": 1.0, "class_accuracy": 0.5, "distance_to_exact": 0.1}
    called = []

    def measure(seed, name, solver, evaluations):
        called.append((seed, name, evaluations))
        return {"seed": seed, "solver": name, "evaluations": evaluations} | stub

    command.measure = measure
    command.run()
    assert called == missing
    rows = read_table(command.out)
    assert (rows[0], len(rows)) == (first, 16)
    assert first["distance_to_exact"] > 0


def test_the_shipped_table_is_complete_and_paired():
    rows = load_experiment("tricks")
    steps = {name: round(tricks.Tricks.steps * trick.pace) for name, trick in tricks.TRICKS.items()}
    assert {(row["variant"], row["seed"]): row["steps"] for row in rows} == {
        (name, seed): steps[name] for name in tricks.TRICKS for seed in range(5)
    }
    assert all(0 <= row["class_accuracy_2.5"] <= 1 and row["frechet_distance_2.5"] > 0 for row in rows)


def test_the_figure_says_what_the_means_are():
    rows = [row | {"class_accuracy": row["x"]} for row in rows_of(uniform=[0.4, 0.6], normal=[0.5, 0.7])]
    picture = show.experiment(rows)
    assert "uniform: 50.0%" in picture.alt
    assert "normal: 60.0%" in picture.alt
    with pytest.raises(ValueError, match="there is x"):
        show.experiment(rows_of(a=[1.0]), "fid")


def test_the_figure_of_losses_over_t_says_who_is_better_where():
    rows = [
        row | {"loss_at_0.25": row["x"], "loss_at_0.75": 1.0 + row["seed"]}
        for row in rows_of(a=[3.0, 5.0], b=[1.0, 2.0])
    ]
    picture = show.paired_losses(rows, "a", "b")
    assert "+2.500 at t = 0.25, +0.000 at t = 0.75" in picture.alt


def weight_of(model, data):
    loss = model.patch_embed.projection.weight.abs().mean().item()
    return {"validation_loss": loss, "loss_at_0.50": loss}


def test_the_figure_of_tricks_says_each_difference_in_points():
    rows = [
        {"variant": name, "seed": seed} | {metric: value + 0.01 * seed for metric in tricks.METRICS}
        for name, value in ((tricks.BASE, 0.5), ("QK-norm", 0.75))
        for seed in (0, 1)
    ]
    alt = show.tricks(rows, tricks.BASE).alt
    assert "2 pairs" in alt
    assert "class accuracy at guidance 2.5: QK-norm +25.0 ± 0.0" in alt
    assert "frechet distance at guidance 1: QK-norm +0.2 ± 0.0" in alt


def test_each_trick_is_compared_with_the_base_and_raw_weights_come_free(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tricks, "losses_on_test_images", weight_of)  # the real one takes seconds
    only = ("patches of 4 x 4",)
    command = tricks.Tricks(seeds=2, steps=5, samples=20, solver_steps=1, out=tmp_path / "tricks.csv", only=only)
    command.run()
    rows = {(row["variant"], row["seed"]): row for row in read_table(command.out)}
    assert {key: row["steps"] for key, row in rows.items()} == {
        **{(tricks.BASE, seed): 5 for seed in (0, 1)},
        **{("patches of 4 x 4", seed): 2 for seed in (0, 1)},
    }
    base = rows[tricks.BASE, 0]
    assert base["raw_validation_loss"] > 0
    assert base["raw_validation_loss"] != base["validation_loss"]
    assert (
        rows["patches of 4 x 4", 0]["raw_validation_loss"] != rows["patches of 4 x 4", 0]["raw_validation_loss"]
    )  # nan
    raw = [row for row in tricks.with_raw(list(rows.values())) if row["variant"] == tricks.RAW]
    assert [row["recall_2.5"] for row in raw] == [rows[tricks.BASE, seed]["raw_recall_2.5"] for seed in (0, 1)]
    assert "minus three-minute network" in capsys.readouterr().out.split("raw weights")[-1]


def test_the_base_is_the_three_minute_recipe_and_each_trick_changes_one_thing():
    usual = tricks.Trick()
    assert tricks.TRICKS[tricks.BASE] == usual
    for name, trick in tricks.TRICKS.items():
        changed = [
            field for field in ("timesteps", "time_scale", "undo_zeros") if vars(trick)[field] != vars(usual)[field]
        ]
        assert len(changed) + len(trick.model) == (name != tricks.BASE), name
        assert all(tricks.RECIPE.model.get(key) != value for key, value in trick.model.items()), name
    model, _ = tricks.trained(replace(usual, time_scale=1.0), seed=0, steps=1)
    assert model.time_embed.frequencies[0] == pytest.approx(1 / 1000)
