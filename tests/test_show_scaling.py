"""Figures of lesson 10: their alt texts, and what they refuse."""

import pytest
import torch

from dit_course import DiT, DiTConfig, show

ROWS = [
    {"size": size, "patch": patch, "training_flops": flops * 49 / patch**2, "seed": seed}
    | {"validation_loss": loss + 0.01 * seed}
    for patch in (7, 4)
    for size, flops, loss in (("tiny", 1e12, 0.4), ("large", 1e13, 0.3))
    for seed in (0, 1)
]  # fmt: skip


def test_the_scaling_figure_says_from_where_to_where():
    picture = show.scaling(ROWS, laws={7: torch.tensor([40.0, -0.17])})
    assert "8 trainings as dots, 2 seeds" in picture.alt
    assert picture.alt.startswith("More work, lower loss on test pictures at each patch size")
    assert "patches of 7: from 0.405 to 0.305 over 2 sizes" in picture.alt
    assert picture.png[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="there is validation_loss"):
        show.scaling(ROWS, "fid")
    with pytest.raises(ValueError, match="there is none"):
        show.scaling([])


def test_a_power_law_with_points_outside():
    picture = show.power_law({"a": (1.0, 8.0), "b": (10.0, 4.0)}, torch.tensor([8.0, -0.3]), fitted=["a"], y="FID")
    assert picture.alt.startswith("FID = 8 · work ^ -0.30")
    assert "a 8, b 4" in picture.alt


def test_phases_find_the_sinusoid_that_is_furthest_off():
    right = DiT(DiTConfig(image_size=8, width=16, depth=1, heads=2)).time_embed.frequencies
    picture = show.step_phases({"float32": right, "bfloat16": right.bfloat16()})
    turns = (1000 * (right.bfloat16().float() - right).abs().max() / (2 * torch.pi)).item()
    assert f"{turns:.1g} turns off" in picture.alt
    assert "float32, bfloat16" in picture.alt
