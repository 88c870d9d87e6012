"""Runs authors' notebooks as run_notebooks.py runs learners': `make test-authors`. A wrong answer is an error in them.

Two run side by side, with one thread each, so a lesson has longer than a learner's, which has the machine for itself.
"""

import pytest
from run_notebooks import MOST_SECONDS, names, run

from dit_course.authoring import release

SOURCES = release.sources()
LONGER = 1.5


@pytest.mark.parametrize("notebook", SOURCES, ids=names(SOURCES))
def test_it_runs_from_top_to_bottom_offline_anywhere_and_in_time(notebook, tmp_path):
    status, report, seconds, attempts = run(notebook, tmp_path, DIT_COURSE_STRICT="1")
    assert status == 0, report
    assert attempts == []
    assert seconds <= LONGER * MOST_SECONDS, f"{seconds:.0f} s, and here a lesson has {LONGER * MOST_SECONDS:.0f}"
