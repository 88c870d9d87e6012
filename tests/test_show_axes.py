"""What the charts share: names of curves never overlap, and no curve is dropped."""

from functools import partialmethod
from itertools import pairwise

import numpy as np
import pytest
import torch

from dit_course import show
from dit_course.show.axes import colors, spread
from dit_course.show.layout import PALETTE

NAMES = [f"curve {number}" for number in range(6)]  # more than there are colors
T = [0.1, 0.5, 0.9]


@pytest.mark.parametrize(
    ("heights", "gap", "expected"),
    [
        ([1.0, 2.0, 3.0], 0.5, [1.0, 2.0, 3.0]),
        ([2.0, 1.0, 1.1], 0.5, [2.0, 1.0, 1.5]),
        ([1.0, 1.0, 1.0], 0.5, [1.0, 1.5, 2.0]),
        ([0.0, 0.05, 1.0], 0.2, [0.0, 0.2, 1.0]),
        ([0.1, 0.0], 0.2, [0.2, 0.0]),
    ],
)
def test_names_are_moved_upwards_where_they_would_overlap(heights, gap, expected):
    assert spread(heights, gap) == expected


def test_names_keep_their_distance_and_stay_where_there_is_room():
    heights = spread([0.5, 0.5, 0.9, 0.49], 0.1)
    assert all(b - a >= 0.1 - 1e-9 for a, b in pairwise(sorted(heights)))
    assert (heights[2], heights[3]) == (0.9, 0.49)


def test_colors_start_again():
    assert colors("abc", "model", "noise") == [PALETTE["model"], PALETTE["noise"], PALETTE["model"]]


def drawn_curves(monkeypatch, draw):
    """The number of curves, bars or clouds that a figure draws with data of their own, and its alt text."""
    from matplotlib.axes import Axes

    calls = []
    for name in ("plot", "loglog", "bar", "barh"):
        counted = partialmethod(lambda self, draw, *a, **b: calls.append(a) or draw(self, *a, **b), getattr(Axes, name))
        monkeypatch.setattr(Axes, name, counted)
    picture = draw()
    return len(calls), picture.alt


values = {name: [1.0 + i, 2.0 + i, 3.0 + i] for i, name in enumerate(NAMES)}
ROWS = [
    {"size": "tiny", "patch": patch, "training_flops": flops, "seed": 0, "validation_loss": 1 / flops}
    for patch in range(1, 7)
    for flops in (10.0 * patch, 20.0 * patch)
]


@pytest.mark.parametrize(
    ("draw", "least"),
    [
        (lambda: show.token_costs(T, values), 6),
        (lambda: show.side_by_side([1, 2, 3], {"panel": values}, "x", "t"), 6),
        (lambda: show.block_changes(values), 6),
        (lambda: show.init_race(values), 12),  # the steps and their mean
        (lambda: show.parameter_shares({name: {"part": 1.0, "rest": 2.0} for name in NAMES}), 6),
        (lambda: show.over_time(T, values, "y", "t"), 6),
        (lambda: show.loss_by_time(T, values), 6),
        (lambda: show.running_averages(torch.zeros(3), {n: torch.tensor(v) for n, v in values.items()}), 7),
        (lambda: show.profiles({name: torch.tensor([0.0, 0.5, 0.5]) for name in NAMES}), 6),
        (lambda: show.scaling(ROWS), 6),
        (lambda: show.step_phases({n: torch.tensor(v) for n, v in values.items()}), 6),
    ],
)
def test_no_curve_is_dropped(draw, least, monkeypatch):
    count, alt = drawn_curves(monkeypatch, draw)
    assert count >= least
    named = [name for name in NAMES if name in alt] or [patch for patch in range(1, 7) if f"patches of {patch}:" in alt]
    assert len(named) == 6 or "logarithmic axes" in alt


@pytest.mark.parametrize("draw", [show.loss_curves, show.rates, lambda curves: show.gradient_norms(curves, 1.0)])
def test_too_many_lines_are_refused_where_they_could_not_be_told_apart(draw):
    with pytest.raises(ValueError, match="6 lines in one figure: at most 4"):
        draw({name: np.ones(3) for name in NAMES})
