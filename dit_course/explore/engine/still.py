"""What an explorer shows where no widget runs: its picture, and one sentence that says why nothing moves."""

import sys
from functools import cache

import numpy as np

from dit_course.show.layout import MARGIN, Picture
from dit_course.show.text import CAPTION, DENSITY, wrapped, write

SENTENCE = "A still picture: it is live where a kernel and Jupyter widgets run, as in JupyterLab."
VS_CODE = "__vsc_ipynb_file__"  # VS Code gives notebooks this name
ADVICE = (
    "No slider below? VS Code loads widgets from the network, once its setting jupyter.widgetScriptSources says from "
    "where (docs/install.md). A still picture is there without: ... at the left, Change Presentation, image/png."
)


def still_of(picture: Picture) -> Picture:
    """The picture with the sentence below it."""
    if picture.pixels is None:
        return picture
    letters = max(10, int((picture.width - 2 * MARGIN) / (0.6 * CAPTION)))
    lines, step = wrapped(SENTENCE, letters), 1.3 * CAPTION
    height, width, _ = picture.pixels.shape
    page = np.full((height + DENSITY * int(step * len(lines) + MARGIN), width, 3), 255, dtype=np.uint8)
    page[:height] = picture.pixels
    for number, line in enumerate(lines):
        write(page, line, MARGIN, height / DENSITY + CAPTION + number * step, CAPTION, "#666666")
    return Picture.of(page, picture.alt)


@cache
def advise() -> None:
    """Print what to do where widgets may not load, once a session: in VS Code, whose message does not say it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and VS_CODE in shell.user_ns:
        print(ADVICE)
