"""The claim of lesson 06: from random weights to clothes in three minutes on two cores. `make test-learners` runs it.

Not collected with the other tests: it needs the machine for itself, with all cores, as a learner's training does.
"""

import os
from dataclasses import replace

import torch

from dit_course import (
    EMA,
    DiT,
    DiTConfig,
    Sampler,
    class_accuracy,
    load_classifier,
    load_dataset,
    train,
)
from dit_course.studies.recipes import find_recipe

SEED = int(os.environ.get("DIT_COURSE_SEED", "0"))
SAMPLES, CFG, STEPS = 500, 3.0, 15
CLAIMED = 0.8  # of the samples are in the class asked for; the teacher's page has what five seeds gave


def test_three_minutes_make_a_network_that_draws_what_it_is_asked_for(capsys):
    recipe, dataset = find_recipe("three-minutes"), load_dataset("fashion-mnist")
    torch.manual_seed(SEED)
    model = DiT(DiTConfig(image_size=28, channels=1, **recipe.model))
    ema = EMA(model, recipe.ema_decay)
    config = replace(recipe.train, minutes=0.9 * recipe.train.minutes, seed=SEED)
    *_, step = train(model, dataset, config, ema=ema)
    wanted = torch.arange(SAMPLES) % 10
    pictures = Sampler(ema.model, STEPS, "ab2", CFG).sample(SAMPLES, wanted, seed=0)
    share = class_accuracy(load_classifier("fashion-mnist"), pictures, wanted)
    with capsys.disabled():
        print(f"\nseed {SEED}: {step.index} steps in {step.seconds:.0f} s, {share:.1%} in the class asked for ", end="")
    assert step.seconds <= 181
    assert share >= CLAIMED
