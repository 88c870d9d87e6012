"""Famous bugs of public DiT and flow-matching code, planted into the course's own rooms (lesson 12)."""

from dit_course.studies.bugs.cases import LETTERS, Case, open_case
from dit_course.studies.bugs.code import right_code
from dit_course.studies.bugs.planted import BUGS, Bug, find_bug, plant

__all__ = ["BUGS", "LETTERS", "Bug", "Case", "find_bug", "open_case", "plant", "right_code"]
