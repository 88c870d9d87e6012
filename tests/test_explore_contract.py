"""What every slider promises: each move draws again, from any thread; errors are shown; it is live and static."""

import base64
import importlib
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from canvas_pixels import decoded, shown
from torch.nn.utils import parameters_to_vector

from dit_course import explore
from dit_course.authoring.notebooks import WIDGET_VIEW
from dit_course.explore.attention import NO_CLASS
from dit_course.explore.engine.keyboard import Accessible
from dit_course.explore.engine.still import SENTENCE
from dit_course.explore.guidance import EVERY_CLASS


@dataclass
class Case:
    """arguments: of the slider, after its model. moves: of each control, and all their descriptions. broken: what
    draws, to be made to fail. alt: the beginning of its text. titled: whether the static picture has a title more."""

    moves: dict[str, Any]
    names: list[str]
    broken: str
    alt: str
    arguments: tuple = ()
    model: dict | None = None
    titled: bool = False


IMAGE = torch.arange(96, dtype=torch.uint8).reshape(1, 8, 12)
SMALL = {"image_size": 8, "channels": 1, "width": 16, "depth": 1, "heads": 2, "registers": 0, "num_classes": 3}
CASES = {
    "attention": Case(
        {"block": 0, "head": 1, "patch": 7, "t": 0.9, "label": NO_CLASS},
        ["block", "head", "patch", "time t", "class"],
        "attention_maps",
        "patch 4: row 1, column 1 looks, block 1, all heads on average, t = 0.50: most at",
        (IMAGE, 0),
        {"channels": 1},
    ),
    "ema": Case(
        {"decay": 0.99, "step": 4, "warmup": False},
        ["decay", "step", "warm-up"],
        "pictures_of",
        "decay 0.95, with warm-up, step 10",
        (10,),
        SMALL,
    ),
    "guidance": Case(
        {"cfg": 4.0, "label": EVERY_CLASS, "seed": 8, "steps": 3},
        ["guidance", "class", "seed", "steps"],
        "integrate",
        "class 0, guidance 3.0, seed 0, 1 steps",
        (3.0, 0, 0, 1),
        SMALL,
        titled=True,
    ),
    "noising": Case({"t": 0.9}, ["t"], "draw", "t = 0.30: 0.70 of the picture", (IMAGE,), titled=True),
    "patches": Case({"patch_size": 4}, ["patch size"], "draw", "patches of 2 x 2, 24 tokens of 4", (IMAGE,)),
    "positions": Case(
        {"patch": 0, "feature": 15},
        ["patch", "feature"],
        "PositionMaps.paint",
        "patch 7: row 1, column 2",
        ((3, 5), 16),
    ),
    "registers": Case(
        {"block": 2, "t": 0.0, "label": 1},
        ["block", "time", "class"],
        "look_inside",
        "t = 0.50, class 3, after block 1",
        (3,),
        {},
    ),
    "time_embedding": Case({"t": 0.5, "factor": 1000}, ["t", "factor"], "compute", "t = 0.30, factor 1:"),
    "timesteps": Case(
        {"mean": 1.0, "std": 0.6}, ["mean", "std"], "caption", "Logit-normal times, mean 0.0 and std 1.0"
    ),
}


@pytest.fixture(params=CASES)
def name(request):
    return request.param


@pytest.fixture
def make(name, small_dit):
    """Makes the slider as if for the first time."""

    def made():
        case = CASES[name]
        torch.manual_seed(0)
        first = [] if case.model is None else [small_dit(**case.model).float()]
        if name == "ema":  # weights of ten steps that wander about
            weights = parameters_to_vector(first[0].parameters()).detach()
            return explore.ema(*first, weights + 0.1 * torch.randn(case.arguments[0] + 1, len(weights)))
        return getattr(explore, name)(*first, *case.arguments)

    return made


def test_every_control_draws_again_and_back(name, make):
    view = make()
    seen, before = [shown(view).tobytes()], {control: getattr(view, control).value for control in CASES[name].moves}
    for control, value in CASES[name].moves.items():
        getattr(view, control).value = value
        seen.append(shown(view).tobytes())
        assert seen[-1] != seen[-2], control
    for control, value in before.items():
        getattr(view, control).value = value
    assert shown(view).tobytes() == seen[0]


def test_the_controls_have_names_and_keys(name, make):
    view = make()
    assert [control.description for control in view.controls] == CASES[name].names
    assert isinstance(view.children[-1], Accessible)


def test_many_events_at_once_end_with_what_the_slider_says(name, make):
    """JupyterLab delivers them in several threads."""
    view = make()
    control, value = next(iter(CASES[name].moves.items()))
    values = [value, getattr(view, control).value] * 3
    threads = [threading.Thread(target=setattr, args=(getattr(view, control), "value", v)) for v in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fresh = make()
    getattr(fresh, control).value = getattr(view, control).value
    assert np.array_equal(shown(view), shown(fresh))
    assert view.picture.alt == fresh.picture.alt


def test_an_error_in_a_callback_is_shown_and_the_next_move_mends_it(name, make, monkeypatch):
    view = make()
    where = importlib.import_module(f"dit_course.explore.{name}")
    *owner, broken = CASES[name].broken.split(".")
    first = "t" if name in ("attention", "registers") else next(iter(CASES[name].moves))  # what is computed anew
    before = getattr(view, first).value
    with monkeypatch.context() as patch:
        fails = lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no <memory>"))  # noqa: E731
        patch.setattr(getattr(where, owner[0]) if owner else where, broken, fails)
        getattr(view, first).value = CASES[name].moves[first]
    assert view.canvas.wrong
    assert "RuntimeError: no <memory>" in view.status
    getattr(view, first).value = before
    assert not view.canvas.wrong
    assert "no <memory>" not in view.status


def test_it_is_live_in_jupyterlab_and_a_static_picture_elsewhere(name, make):
    view = make()
    data, metadata = view._repr_mimebundle_()
    assert data[WIDGET_VIEW]["model_id"] == view.model_id
    static, live = decoded(base64.b64decode(data["image/png"])), shown(view)
    assert static.shape[1] >= live.shape[1]
    assert CASES[name].titled or np.array_equal(static[: len(live)], live)
    below = static[len(view.picture.pixels) :]
    assert len(below) < len(static) / 3
    assert (below < 0xA0).any()  # the sentence
    assert data["text/plain"] == f"<Picture: {view.picture.alt}> {SENTENCE}"
    assert metadata["image/png"]["alt"] == view.picture.alt
    assert view.picture.alt.startswith(CASES[name].alt)
    assert CASES[name].titled or view.canvas.alt == [view.picture.alt]
