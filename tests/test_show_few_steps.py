"""The figure of lesson 11: it says what it shows, and names what it cannot draw."""

import pytest

from dit_course import show
from dit_course.show.layout import PAGE_WIDTH

ROWS = [
    {"solver": solver, "evaluations": count, "frechet_distance": distance, "recall": recall}
    for solver, count, distance, recall in (
        ("euler", 2, 90.0, 0.1),
        ("euler", 30, 3.0, 0.5),
        ("student", 4, 2.8, 0.5),
        ("student", 1, 3.5, 0.4),
    )
]


def test_evaluations_say_what_each_line_reaches_in_the_order_of_their_counts():
    picture = show.evaluations(ROWS, ["frechet_distance", "recall"], title="A message")
    assert picture.alt.startswith("A message. Line charts over the number of evaluations. euler, frechet_distance: 90 ")
    assert "student, recall: 0.4 with 1, 0.5 with 4" in picture.alt
    assert picture.width <= PAGE_WIDTH
    other = [{**row, "recall": 0.2} for row in ROWS]
    assert show.evaluations(other, ["frechet_distance", "recall"], title="A message").png != picture.png
    assert show.evaluations(ROWS, ["recall"]).alt.startswith("What an evaluation buys: euler, student. ")


def test_names_of_lines_do_not_cover_each_other():
    """Two lines that end in one point: their names are moved apart, so that another text changes both places."""
    near = [{**row, "recall": 0.5} for row in ROWS]
    assert show.evaluations(near, ["recall"]).png != show.evaluations(near[:2], ["recall"]).png


@pytest.mark.parametrize(("rows", "goals", "words"), [(ROWS, ["fid"], "no fid"), ([], ["recall"], "no rows")])
def test_a_goal_that_is_not_there_is_named(rows, goals, words):
    with pytest.raises(ValueError, match=words):
        show.evaluations(rows, goals)


def test_variety_draws_a_line_for_each_number_of_evaluations_over_guidance():
    rows = [
        {
            "solver": solver,
            "evaluations": count,
            "cfg": cfg,
            "class_accuracy": 0.7 + 0.05 * cfg,
            "recall": top - 0.1 * cfg,
        }
        for solver, count, top in (("student", 1, 0.6), ("ab2", 30, 0.8))
        for cfg in (3, 1)
    ]
    picture = show.variety(rows, title="A message")
    assert picture.alt == (
        "A message. Lines over the guidance scale. student, 1 evaluation: recall from 0.50 to 0.30; "
        "ab2, 30 evaluations: recall from 0.70 to 0.50"
    )
    assert picture.width <= PAGE_WIDTH
    assert show.variety(rows[:2]).png != picture.png
