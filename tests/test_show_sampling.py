"""Figures of lesson 08: they say what they show, and name what they cannot draw."""

import pytest
import torch

from dit_course import show

TIMES = torch.linspace(1, 0, 11)


def test_solver_trajectories_say_what_runs_from_where_to_where():
    places = torch.linspace(1, 0.5, 11)[:, None] * torch.tensor([-1.0, 2.0])
    alone = show.solver_trajectories((TIMES, places))
    assert alone.alt == "2 trajectories from noise to data. Lines from t = 1 to t = 0: exact"
    both = show.solver_trajectories(
        (TIMES, places), (TIMES[::5], places[::5]), title="A message", captions=("true", "euler")
    )
    assert both.alt == "A message. Lines from t = 1 to t = 0: true and euler"
    assert both.png != show.solver_trajectories((TIMES, places), (TIMES[::5], 2 * places[::5]), title="A message").png


@pytest.mark.parametrize("places", [torch.zeros(11), torch.zeros(10, 2), torch.zeros(11, 2, 2)])
def test_trajectories_need_a_state_for_each_time(places):
    with pytest.raises(ValueError, match=r"times \(n,\) and states \(n, count\)"):
        show.solver_trajectories((TIMES, places))


def test_by_evaluations_measures_slopes():
    counts = {"euler": [10, 100, 1000], "heun": [10, 100]}
    values = {"euler": [1.0, 0.1, 0.01], "heun": [1.0, 0.01]}
    picture = show.by_evaluations(counts, values, title="Orders", slopes=True)
    assert picture.alt.startswith(
        "Orders. Line chart with logarithmic axes: euler: slope -1.0 ends at 0.01, heun: slope -2.0"
    )
    assert "slope" not in show.by_evaluations(counts, values).alt
    assert show.by_evaluations(counts, values).alt.startswith("What an evaluation buys: euler, heun")


def test_a_solver_of_ones_own_can_be_drawn_too():
    assert "mine ends at 1" in show.by_evaluations({"mine": [1, 2]}, {"mine": [2.0, 1.0]}).alt


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0, 3.0]])
def test_by_evaluations_needs_a_value_for_each_count(values):
    with pytest.raises(ValueError, match=f"euler: {len(values)} values for 2 numbers of evaluations"):
        show.by_evaluations({"euler": [8, 16]}, {"euler": values})


def test_a_table_names_its_rows_and_columns():
    x = torch.rand(6, 1, 28, 28)
    picture = show.table(x, ["one", "another"], ["a", "b", "c"], title="A message")
    assert picture.alt == "A message. Table of pictures, rows: one, another; columns: a, b, c"
    unnamed = show.table(list(x), ["one", "another"])
    assert unnamed.alt == "Pictures. Table of pictures, rows: one, another"
    assert unnamed.height < picture.height
    assert show.table(x, ["one", "another"], side=28).width < picture.width
    show.table(torch.rand(40, 1, 28, 28), ["a name of some length", "b"], title="T")


def test_the_pictures_of_a_table_stand_row_by_row():
    import io

    import numpy as np
    from PIL import Image

    x = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    x[1] = 200
    page = np.array(Image.open(io.BytesIO(show.table(x, ["a", "b"]).png)).convert("L"))
    ys, xs = np.where(page == 200)
    assert len(ys) == (2 * 112) ** 2  # pixels of the file: twice those of the page
    assert xs.min() > (page == 0).nonzero()[1].min() + 200
    assert ys.max() < page.shape[0] / 2 + 20


def test_a_table_must_be_filled():
    with pytest.raises(ValueError, match="5 pictures do not fill 2 rows of 2"):
        show.table(torch.rand(5, 1, 4, 4), ["a", "b"])
