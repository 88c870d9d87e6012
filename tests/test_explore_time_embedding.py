"""The sliders for time and factor: their numbers are the network's, and errors are shown."""

import base64
import sys
import threading

import ipywidgets
import numpy as np
import pytest
import torch
from canvas_pixels import decoded, pasted

from dit_course import explore
from dit_course.authoring.notebooks import WIDGET_VIEW
from dit_course.conditioning import TimestepEmbedder
from dit_course.explore.engine.keyboard import Accessible
from dit_course.explore.time_embedding import FACTORS, TIMES, SinusoidChart, compute, sinusoids

MODULE = sys.modules["dit_course.explore.time_embedding"]  # the name itself is the function


def shown(view):
    """The pixels that the canvas paints."""
    return pasted(view.canvas)


def test_its_sinusoids_are_those_of_the_network():
    t = torch.rand(9)
    torch.testing.assert_close(sinusoids(t, 1000).float(), TimestepEmbedder(4).sinusoids(t), atol=3e-4, rtol=0)
    torch.testing.assert_close(sinusoids(t, 1).float(), TimestepEmbedder(4).sinusoids(t / 1000), atol=3e-4, rtol=0)


def test_a_time_is_like_itself_and_the_factor_sharpens():
    found = {factor: compute(0.3, factor) for factor in FACTORS}
    for one in found.values():
        assert one.vector.shape == (256,)
        assert one.similar.shape == TIMES.shape
        assert one.similar.argmax() == 300
        assert one.similar.max() == pytest.approx(1)
    shares = [found[factor].alike for factor in FACTORS]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.8
    assert shares[-1] < 0.01


def test_it_says_what_is_shown_and_every_move_draws_again():
    view = explore.time_embedding(0.3, factor=1000)
    assert "t = 0.30, factor 1,000: 0.1% of all times" in view.status
    seen = [shown(view).tobytes()]
    view.t.value = 0.5
    seen.append(shown(view).tobytes())
    view.factor.value = 1
    seen.append(shown(view).tobytes())
    assert len(set(seen)) == 3
    assert "t = 0.50, factor 1:" in view.status
    assert view.canvas.alt == [view.picture.alt]


def test_the_drawing_has_one_size_at_every_place():
    pictures = [SinusoidChart().picture(t, factor) for t in (0.0, 0.5, 1.0) for factor in FACTORS]
    assert len({(picture.width, picture.height) for picture in pictures}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"), [((1.5, 1), "t = 1.5, but times lie"), ((0.5, 7), "knows 1, 10, 100, 1000")]
)
def test_what_the_sliders_cannot_show_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        explore.time_embedding(*arguments)


def test_the_controls_have_names_and_keys():
    view = explore.time_embedding()
    assert (view.t.description, view.factor.description) == ("t", "factor")
    assert isinstance(view.t, ipywidgets.FloatSlider)
    assert isinstance(view.children[-1], Accessible)


def test_many_events_at_once_end_with_what_the_sliders_say():
    view = explore.time_embedding()
    threads = [threading.Thread(target=setattr, args=(view.t, "value", t)) for t in (0.1, 0.9, 0.4, 0.7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    view.t.value = 0.25
    assert "t = 0.25" in view.status
    assert np.array_equal(shown(view), shown(explore.time_embedding(0.25, 1)))


def test_an_error_in_a_callback_is_shown_and_the_next_move_mends_it(monkeypatch):
    view = explore.time_embedding()
    with monkeypatch.context() as patch:
        patch.setattr(MODULE, "compute", lambda *_: (_ for _ in ()).throw(RuntimeError("no <memory>")))
        view.t.value = 0.4
    assert "RuntimeError: no <memory>" in view.status
    view.t.value = 0.6
    assert "t = 0.60" in view.status


def test_it_is_live_in_jupyterlab_and_a_still_picture_elsewhere():
    view = explore.time_embedding()
    data, metadata = view._repr_mimebundle_()
    assert data[WIDGET_VIEW]["model_id"] == view.model_id
    assert np.array_equal(decoded(base64.b64decode(data["image/png"])), pasted(view.canvas))
    assert metadata["image/png"]["alt"].startswith("t = 0.30, factor 1")
