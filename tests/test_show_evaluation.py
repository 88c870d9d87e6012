"""Figures of lesson 09: their titles and texts are true, and wrong input is named."""

import pytest
import torch

from dit_course import show


def test_clouds_have_a_panel_each():
    real = torch.randn(200, 8)
    picture = show.feature_clouds(
        real, {"other real ones": real[:50], "cfg 1": real[:50] + 1, "cheater": real[:3], "x": real}
    )
    assert picture.alt.endswith("in two of 8 dimensions: other real ones, cfg 1, cheater, x")


def test_distances_are_in_the_alt_text():
    picture = show.distances({"as above": 1.5, "with JPEG": 3.25}, title="Bars")
    assert picture.alt == "Bars. Bars: as above 1.50, with JPEG 3.25"
    show.distances({"one": 0.0})


def test_bias_says_from_where_to_where():
    picture = show.frechet_bias([100, 1000], [5.0, 0.6], 0.1, 490.0)
    assert picture.alt == "Real against real: 5.0 with 100 samples, 0.6 with 1,000. The fitted curve ends at 0.10"
    with pytest.raises(ValueError, match="1 distances for 2 numbers of samples"):
        show.frechet_bias([1, 2], [1.0], 0, 0)


def test_balls_count_as_the_measure_does():
    from dit_course import precision_recall

    real, drawn = torch.randn(50, 2), 0.5 * torch.randn(40, 2)
    precision, recall = precision_recall(real, drawn)
    assert show.knn_balls(real, drawn).alt.startswith(f"Precision {precision:.0%}, recall {recall:.0%}")


def test_nearness_says_the_medians():
    picture = show.nearest_distances({"real test pictures": torch.tensor([0.1, 0.2, 0.3]), "memorizer": torch.zeros(4)})
    assert "real test pictures 0.20, memorizer 0.00" in picture.alt


def test_a_trade_off_names_the_lowest_distance():
    rows = [
        {
            "cfg": cfg,
            "seed": seed,
            "class_accuracy": 0.1 * cfg,
            "frechet_distance": (cfg - 2) ** 2 + seed,
            "precision": 0.5,
            "recall": 0.3,
        }
        for cfg in (1.0, 2.0, 4.0)
        for seed in (0, 1)
    ]
    picture = show.trade_off(rows)
    assert "the distance is lowest at 2." in picture.alt
    assert "class_accuracy from 0.1 to 0.4" in picture.alt
