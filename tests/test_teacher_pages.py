"""The teacher's pages tell what the checks really say."""

import mutants
import pytest
import teacher_pages

LESSONS = mutants.lessons()


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_wrong_answers_on_the_page_are_those_that_are_tested(lesson):
    page = (teacher_pages.SOLUTIONS / f"{lesson[:2]}_teacher.md").read_text(encoding="utf-8")
    assert teacher_pages.renewed(page, LESSONS[lesson]) == page, "out of date: run python tests/teacher_pages.py"
    for answer in LESSONS[lesson]:
        if answer.hint:
            assert f"`{answer.exercise}`" in page
            assert teacher_pages.words(answer.make.__name__) in page


def test_a_page_needs_a_place_for_its_tables():
    with pytest.raises(ValueError, match="needs the lines"):
        teacher_pages.renewed("# A page", [])
