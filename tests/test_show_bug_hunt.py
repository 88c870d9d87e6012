"""Figures of lesson 12: they say what they show, and name what they cannot draw."""

from types import SimpleNamespace

import pytest
import torch

from dit_course import show


def case(title, end, accuracy=0.8):
    losses = torch.linspace(1.7, end, 300)
    pictures = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    seen = SimpleNamespace(losses=losses, pictures=pictures, class_accuracy=accuracy, frechet_distance=12.34)
    return SimpleNamespace(title=title, seen=seen)


def test_symptoms_are_told_for_each_case():
    right = case("right code", 0.2)
    picture = show.symptoms(right, case("case A", 0.3, 0.1), beside=right)
    assert picture.alt.startswith("Loss, samples and scores: right code, case A. A loss curve and twenty samples")
    assert "case A: 10% in their class, Fréchet distance 12.3, loss 0.3" in picture.alt
    assert show.symptoms(right, case("case A", 0.9), beside=right).png != picture.png
    assert show.symptoms(case("case A", 0.3), beside=right).alt.startswith("Loss, samples and scores: case A.")
    assert show.symptoms(right, beside=right, title="A message").alt.startswith("A message. ")


def test_a_loss_that_is_not_finite_is_drawn_above_the_chart():
    exploded = case("case V", 0.2)
    exploded.seen.losses[100:] = float("nan")
    assert (
        "case V: 80% in their class, Fréchet distance 12.3, loss 9.0"
        in show.symptoms(exploded, beside=case("", 0.2)).alt
    )


def test_the_scoreboard_counts_what_was_caught():
    bugs = {"A": "A: reversed time", "B": "B: cold EMA", "C": "C: late time"}
    picture = show.scoreboard({"probe_solver": ["A", "C"], "shapes_fit": []}, bugs)
    assert picture.alt == (
        "2 probes catch 2 of 3 bugs. A table of probes and bugs: probe_solver: A, C; shapes_fit: none"
    )
    assert show.scoreboard({"probe_solver": ["A"], "shapes_fit": []}, bugs).png != picture.png


def test_what_cannot_be_drawn_is_named():
    with pytest.raises(ValueError, match="there is no case to show"):
        show.symptoms(beside=case("right code", 0.2))
    with pytest.raises(ValueError, match="Z was caught and is not among the bugs: A"):
        show.scoreboard({"probe": ["Z"]}, {"A": "A"})
