"""The guidance sliders with a few-step student: what they show is what the sampler draws, at every event."""

import numpy as np
import pytest
import torch

from dit_course import DiT, DiTConfig, FewStepDiT, FewStepSampler, explore
from dit_course.explore.engine.worker import Job
from dit_course.explore.few_steps import FewSteps
from dit_course.explore.guidance import EVERY_CLASS, Guidance
from dit_course.show import to_bytes


@pytest.fixture
def student() -> FewStepDiT:
    torch.manual_seed(0)
    shape = {"image_size": 8, "patch_size": 4, "channels": 1, "width": 16, "depth": 1, "heads": 2}
    student = FewStepDiT(DiTConfig(**shape, num_classes=3, label_dropout=0.0))
    for parameter in student.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    student.class_names = ("coat", "hat", "glove")
    return student.eval()


def sampled(student, steps, cfg, labels, seed):
    return to_bytes(FewStepSampler(student, steps, cfg).sample(len(labels), labels, seed))


def test_it_shows_what_the_sampler_draws(student):
    view = explore.guidance(student, cfg=3.0, seed=5)
    assert isinstance(view, FewSteps)
    assert [control.description for control in view.controls] == ["guidance", "class", "seed", "evaluations"]
    assert torch.equal(view._shown[0], sampled(student, 1, 3.0, [0, 1, 2], 5))
    view.steps.value, view.label.value = 4, 2
    assert torch.equal(view._shown[0], sampled(student, 4, 3.0, [2] * 10, 5))
    assert view.status == "glove, guidance 3.0, seed 5, 4 evaluations per picture"
    view.cfg.value, view.seed.value, view.label.value = 6.0, 6, EVERY_CLASS
    assert torch.equal(view._shown[0], sampled(student, 4, 6.0, [0, 1, 2], 6))
    assert view.picture.alt == "every class, guidance 6.0, seed 6, 4 evaluations per picture"


def test_every_event_paints_the_final_images(student, monkeypatch):
    view, painted = explore.guidance(student), []
    monkeypatch.setattr(view.canvas, "show", lambda grid, pixels, alt, status, rough: painted.append((status, rough)))
    for cfg in (3.0, 3.5, 4.0):
        view.cfg.value = cfg
    caption = "every class, guidance {}, seed 0, 1 evaluation per picture"
    assert painted == [(caption.format(cfg), False) for cfg in ("3.0", "3.5", "4.0")]


def test_the_next_moves_are_sampled_beforehand(student, monkeypatch):
    view = explore.guidance(student, seed=3)
    view.prefetch(Job(view.worker, live=False), view.state())
    monkeypatch.setattr(FewStepSampler, "sample", None)
    view.seed.value = 4
    view.seed.value = 3
    view.steps.value = 2
    assert "2 evaluations" in view.status


def test_new_weights_are_seen(student):
    view = explore.guidance(student)
    before = view._shown[0]
    with torch.no_grad():
        student.final.linear.weight.mul_(3)
    view.seed.value = 1
    view.seed.value = 0
    assert not np.array_equal(before, view._shown[0])
    assert torch.equal(view._shown[0], sampled(student, 1, 2.5, [0, 1, 2], 0))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cfg": 0.5}, "1 to 6"),
        ({"cfg": 8.0}, "1 to 6"),
        ({"steps": 0}, "steps = 0"),
        ({"label": "sock"}, "unknown class"),
        ({"interval": (0.2, 0.8)}, "leave interval out"),
    ],
)
def test_settings_that_make_no_sense(student, settings, words):
    with pytest.raises(ValueError, match=words):
        explore.guidance(student, **settings)


def test_other_models_keep_their_sliders(student):
    assert isinstance(explore.guidance(DiT(student.config), steps=1), Guidance)
