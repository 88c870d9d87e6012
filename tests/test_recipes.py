"""Recipes: what they say is what `train` starts from, and every option beside them still counts."""

from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from dit_course import TrainConfig
from dit_course.__main__ import main, parse
from dit_course.commands.train import Train
from dit_course.data import Dataset
from dit_course.dit import DiT, DiTConfig
from dit_course.studies.recipes import RECIPES, find_recipe

LESSON = Path(__file__).resolve().parent.parent / "notebooks" / "06_training.ipynb"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_what_the_command_starts_from(name):
    command, recipe = parse(["train", "--recipe", name]), RECIPES[name]
    assert command.data == recipe.data
    assert command.train == recipe.train
    assert command.out.name == name  # two recipes never meet in one folder
    assert {key: getattr(command.model, key) for key in recipe.model} == recipe.model


@pytest.mark.parametrize("name", RECIPES)
def test_its_network_fits_its_data(name):
    import torch

    side, channels = {"fashion-mnist": (28, 1), "cifar10": (32, 3)}[RECIPES[name].data]
    images = torch.zeros(1, channels, side, side, dtype=torch.uint8)
    dataset = Dataset(images, torch.zeros(1, dtype=torch.int64), tuple("0123456789"))
    config = parse(["train", "--recipe", name]).model.config_for(dataset)
    with torch.device("meta"):
        DiT(config)
    assert config == DiTConfig(image_size=side, channels=channels, **RECIPES[name].model)


def test_options_beside_a_recipe_count():
    command = parse(["train", "--recipe=cifar10-laptop", "--lr", "0.5", "--depth", "3", "--data", "folder:x"])
    assert command.train.lr == 0.5
    assert command.train.minutes == RECIPES["cifar10-laptop"].train.minutes
    assert (command.model.depth, command.model.width) == (3, RECIPES["cifar10-laptop"].model["width"])
    assert command.data == "folder:x"


def test_steps_given_beside_a_recipe_by_minutes_end_the_training():
    assert parse(["train", "--recipe", "three-minutes", "--steps", "5"]).train.minutes is None
    assert parse(["train", "--recipe", "three-minutes", "--steps", "5", "--minutes", "2"]).train.minutes == 2


def test_without_a_recipe_nothing_changes():
    assert parse(["train"]) == Train()
    assert parse(["train"]).train == TrainConfig()


def test_just_a_dit_is_the_original():
    recipe = RECIPES["just-a-dit"]  # facts.md: DiT-S/2, 4 registers, 200k x 128, AdamW 1e-4, logit-normal, EMA 0.9999
    assert recipe.model == {"patch_size": 2, "width": 384, "depth": 12, "heads": 6, "registers": 4}
    assert (recipe.train.steps, recipe.train.batch_size, recipe.train.lr) == (200_000, 128, 1e-4)
    assert (recipe.timesteps, recipe.ema_decay) == ("logit_normal", 0.9999)


def test_lesson_06_trains_by_the_recipe():
    cell = next(c.source for c in nbformat.read(LESSON, 4).cells if c.source.startswith("from dit_course import EMA"))
    names = {"DiTConfig": DiTConfig, "TrainConfig": TrainConfig}
    lines = [line for line in cell.splitlines() if line.startswith(("MINUTES", "lean", "config", "recipe"))]
    exec("\n".join(lines), names)
    recipe = RECIPES["three-minutes"]
    assert names["config"] == DiTConfig(image_size=28, channels=1, **recipe.model)
    assert names["recipe"] == replace(recipe.train, minutes=0.9 * recipe.train.minutes)
    assert f"EMA(model, decay={recipe.ema_decay})" in cell


def test_an_unknown_recipe_is_one_line(capsys):
    with pytest.raises(ValueError, match="take one of three-minutes"):
        find_recipe("nonsense")
    assert main(["train", "--recipe", "nonsense"]) == 1
    assert capsys.readouterr().err.startswith("error: unknown recipe 'nonsense'")
