"""The round trip with real nbgrader for every lesson: `make test-classroom`. Not collected with the other tests.

Three students of each lesson: one hands in what was fetched, one has every second answer wrong, one all of them right.
"""

import classroom as class_of
import pytest

from dit_course.authoring import classroom, release
from dit_course.authoring.grading_limits import limits_of

NAMES = [path.stem for path in release.sources() if classroom.has_exercises(path)]


@pytest.mark.skipif(class_of.MISSING is not None, reason=class_of.MISSING or "")
@pytest.mark.parametrize("name", NAMES)
def test_points_are_those_expected(name, tmp_path, capsys):
    rows, slowest = class_of.all_steps(tmp_path, name)
    with capsys.disabled():
        print(f"\n{name}: the slowest cell took {slowest:.1f} s, and has {limits_of(name)[0]}", end=" ")
        for student, expected, given, seconds in rows:
            print(f"\n| {name} | {student} | {expected:g} | {given:g} | {seconds:.0f} |", end=" ", flush=True)
