"""What explorers show where no widget runs."""

import sys
from types import SimpleNamespace

import IPython
import numpy as np
import pytest
import torch
from canvas_pixels import decoded

from dit_course import explore
from dit_course.explore.engine.still import ADVICE, SENTENCE, VS_CODE, advise, still_of
from dit_course.show.layout import PAGE_WIDTH, Picture

IMAGE = torch.arange(96, dtype=torch.uint8).reshape(1, 8, 12)


@pytest.mark.parametrize("width", [160, 300, PAGE_WIDTH])
def test_a_still_is_the_picture_above_the_sentence(width):
    pixels = np.full((80, 2 * width, 3), 77, dtype=np.uint8)
    still = still_of(Picture.of(pixels, "gray"))
    page = decoded(still.png)
    assert still.alt == "gray"
    assert np.array_equal(page[:80], pixels)
    ink = (page[80:] < 0xA0).any(axis=(0, 2)).nonzero()[0]
    assert 0 < ink[0] < ink[-1] < 2 * width - 8  # all of it, up to the right margin
    assert len(page) - 80 < 2 * 120


def test_a_file_alone_stays_as_it_is():
    picture = Picture(b"", 10, 10, "no pixels")
    assert still_of(picture) is picture


def test_vs_code_is_told_once_where_its_sliders_are(monkeypatch, capsys):
    notebook = SimpleNamespace(user_ns={})
    monkeypatch.setattr(IPython, "get_ipython", lambda: notebook)
    for names, text in (({}, ""), ({VS_CODE: "lesson.ipynb"}, f"{ADVICE}\n")):
        advise.cache_clear()
        notebook.user_ns = names
        view = explore.patches(IMAGE)
        for _ in range(2):
            view._repr_mimebundle_()
        assert capsys.readouterr().out == text
    advise.cache_clear()
    assert "jupyter.widgetScriptSources" in ADVICE
    assert SENTENCE.count(".") == 1


def test_colab_gets_what_loads_widgets_of_other_packages(monkeypatch):
    output = SimpleNamespace(
        enable_custom_widget_manager=lambda: None, _widgets=SimpleNamespace(_installed_url="https://example.org/m.js")
    )
    monkeypatch.setitem(sys.modules, "google.colab.output", output)
    data, metadata = explore.patches(IMAGE)._repr_mimebundle_()
    (widget,) = (kind for kind in data if "widget" in kind)
    assert metadata[widget] == {"colab": {"custom_widget_manager": {"url": "https://example.org/m.js"}}}
    assert metadata["image/png"]["alt"]
