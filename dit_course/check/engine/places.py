"""Whose code a line is: the learner's, the package's, or a library's."""

import contextlib
import linecache
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from types import FrameType, TracebackType

from dit_course.notebook import shell

PACKAGE = Path(__file__).resolve().parents[2]
LIBRARY = ("site-packages", "dist-packages")
# those of a user count, too, and of the Python that a virtual environment builds on, as on a JupyterHub
FOLDERS = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
FOLDERS += [folder for folder in sys.path if Path(folder).name in LIBRARY]
LIBRARIES = tuple({str(Path(folder).resolve()) for folder in FOLDERS})


def learner_line(traceback: TracebackType | None) -> str:
    """The innermost line that the learner wrote, or "" when there is none."""
    frame, line = None, 0
    while traceback is not None:
        if is_learners(traceback.tb_frame):
            frame, line = traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next
    if frame is None:
        return ""
    file = frame.f_code.co_filename
    text = linecache.getline(file, line, frame.f_globals).strip()
    return f"{_cell(file)}, line {line}" + (f': "{text}"' if text else "")


def is_learners(frame: FrameType) -> bool:
    """Whether a frame runs code of the learner."""
    return is_learners_file(frame.f_code.co_filename)


@lru_cache(maxsize=10_000)
def is_learners_file(file: str) -> bool:
    """Whether code of this file is the learner's."""
    if file.startswith("<frozen"):
        return False
    folder = Path(file).resolve()
    return not folder.is_relative_to(PACKAGE) and not any(folder.is_relative_to(library) for library in LIBRARIES)


def _cell(file: str) -> str:
    """In a notebook the number of the cell, elsewhere the file's name."""
    with contextlib.suppress(Exception):
        kind, name = shell().compile.format_code_name(file)
        if kind == "Cell":
            return name  # In[3], as in JupyterLab's own error messages
    return Path(file).name
