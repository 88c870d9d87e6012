"""Figures of lesson 03: what they say is what was counted, and wrong input is named."""

import pytest
import torch
from canvas_pixels import pixels_of

from dit_course import show
from dit_course.conditioning import TimestepEmbedder
from dit_course.show.lesson_03_adaln_blocks import count_components, principal


@pytest.fixture
def tables():
    """Time embeddings without and with the factor 1000."""
    embedder, t = TimestepEmbedder(4), torch.linspace(0, 1, 2001)
    return {"t": embedder.sinusoids(t / 1000), "1000 t": embedder.sinusoids(t)}


def test_sinusoids_are_tables_of_grays(tables):
    picture = show.sinusoids({name: table[::20] for name, table in tables.items()}, title="Times")
    assert picture.alt == "Times: tables of grays for t, 1000 t"
    assert pixels_of(picture).ndim == 2  # gray


def test_components_are_counted_in_the_title(tables):
    picture = show.components(tables)
    assert picture.alt.startswith("Directions that hold 99.9% of the variance: 2 for t, 96 for 1000 t.")


def test_principal_components_are_those_of_the_covariance():
    table = torch.randn(50, 6).double() * torch.tensor([9, 5, 3, 2, 1, 0.5])
    shares, scores = principal(table)
    variances = torch.linalg.eigvalsh(torch.cov(table.T)).flip(0)
    torch.testing.assert_close(shares, variances / variances.sum())
    assert scores.shape == (50, 4)
    assert torch.equal(scores.abs().amax(dim=0), torch.ones(4, dtype=torch.float64))
    assert count_components(torch.tensor([0.5, 0.4, 0.1]), 0.85) == 2
    assert count_components(torch.tensor([1.0, 0.0]), 0.85) == 1


def test_changes_of_blocks_are_bars_and_zeros_are_written():
    picture = show.block_changes({"new": [0, 0.0], "spoiled": torch.tensor([0.5, 0.25])}, title="T")
    assert picture.alt == "T new: 0, 0; spoiled: 0.5, 0.25"
    assert show.block_changes({"new": [0.0]}).alt.endswith("new: 0")  # nothing but zeros is no division by zero
    with pytest.raises(ValueError, match=r"models of one depth are compared, these have \[1, 2\] blocks"):
        show.block_changes({"a": [1], "b": [1, 2]})


def test_a_race_says_where_each_ends():
    picture = show.init_race({"first": [2.0] * 20 + [1.0] * 9, "second": [3.0] * 29})
    assert picture.alt.endswith("first ends at 1.00, second ends at 3.00")
    assert pixels_of(picture).ndim == 3
    assert "a ends at 1.00" in show.init_race({"a": [1.0, 1.0]}).alt  # shorter than the running mean


def test_modulations_have_a_panel_for_each_of_the_six_parts():
    picture = show.modulations(torch.rand(3, 6, 11), title="Gates")
    assert picture.alt == "Gates. Six line charts over t, a line for each of 3 blocks"
    assert show.modulations(torch.rand(1, 6, 5)).alt.endswith("each of 1 blocks")
    with pytest.raises(ValueError, match=r"\(blocks, 6, times\), not \(3, 5, 11\)"):
        show.modulations(torch.rand(3, 5, 11))
