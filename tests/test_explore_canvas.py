"""The canvas: what travels to the browser, how much of it, and that it adds up to the picture."""

import numpy as np
import pytest
import torch
from canvas_pixels import decoded, pasted

from dit_course.explore.engine.canvas import Canvas, changed
from dit_course.show import ImageGrid


def messages(canvas):
    """What a browser would be sent from now on: lists of changed traits."""
    sent = []

    class Comm:
        kernel, comm_id = object(), "0"

        def send(self, data=None, buffers=(), **_):
            state = dict.fromkeys(path[0] for path in data["buffer_paths"]) if "buffer_paths" in data else {}
            sent.append(({**data.get("state", {}), **state}, sum(memoryview(part).nbytes for part in buffers)))

        def on_msg(self, *_):
            pass

        def close(self, *_, **__):
            pass

    canvas.comm = Comm()
    return sent


@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_in_a_grid_add_up_to_the_grid(channels):
    grid = ImageGrid((6, channels, 5, 7), ["a", "b", "c", "d", "e", "f"], 3)
    pixels = torch.randint(0, 255, (6, channels, 5, 7), dtype=torch.uint8)
    canvas = Canvas()
    canvas.show(grid, pixels, "six images", "below")
    assert np.array_equal(pasted(canvas), grid.paint(pixels))
    assert (canvas.width, canvas.height) == (grid.width, grid.height)
    assert (canvas.alt, canvas.status, canvas.sequence) == (["six images"], ["below"], 1)


def test_a_move_sends_the_tiles_and_not_the_background():
    grid = ImageGrid((4, 1, 28, 28), ["a"] * 4)
    canvas = Canvas()
    canvas.show(grid, torch.zeros(4, 1, 28, 28, dtype=torch.uint8), "", "")
    sent = messages(canvas)
    canvas.show(grid, torch.ones(4, 1, 28, 28, dtype=torch.uint8), "new", "newer")
    assert len(sent) == 1
    state, size = sent[0]
    assert set(state) == {"tiles", "alt", "status", "sequence"}
    assert size == 4 * 28 * 28


def test_an_animation_has_a_picture_and_texts_for_each_frame():
    grid = ImageGrid((2, 1, 4, 4), ["", ""])
    frames = torch.randint(0, 255, (5, 2, 1, 4, 4), dtype=torch.uint8)
    canvas = Canvas()
    canvas.show_frames(grid, frames, [f"frame {i}" for i in range(5)], [str(i) for i in range(5)])
    for frame in range(5):
        assert np.array_equal(pasted(canvas, frame), grid.paint(frames[frame]))
    assert len(canvas.alt) == len(canvas.status) == 5


def test_of_a_drawing_only_what_changed_travels():
    first = np.full((200, 300, 3), 255, np.uint8)
    first[::7] = 3
    second = first.copy()
    second[21:40, 100:151] = np.random.default_rng(0).integers(0, 255, (19, 51, 3))
    canvas = Canvas()
    canvas.draw(first, "first", "")
    assert np.array_equal(decoded(canvas.background), first)
    sent = messages(canvas)
    canvas.draw(second, "second", "")
    assert set(sent[-1][0]) == {"patch", "patch_box", "alt", "sequence"}
    assert canvas.patch_box == [10, 50, 10, 26]  # whole pixels of the page
    assert np.array_equal(pasted(canvas), second)
    canvas.draw(first, "first again", "")
    assert canvas.patch == b""
    assert np.array_equal(pasted(canvas), first)
    other = 255 - first
    canvas.draw(other, "all of it", "")
    assert np.array_equal(pasted(canvas), other)
    patch = canvas.patch_of(second)
    canvas.draw(second, "made earlier", "", patch=patch)
    assert canvas.patch is patch.png
    assert np.array_equal(pasted(canvas), second)
    canvas.draw(np.zeros((20, 30, 3), np.uint8), "smaller", "")
    assert (canvas.width, canvas.height) == (15, 10)
    canvas.draw(second, "the old patch is of another background", "", patch=patch)
    assert np.array_equal(pasted(canvas), second)


def test_a_drawing_after_pictures_leaves_none_of_them():
    canvas = Canvas()
    grid = ImageGrid((1, 1, 4, 4))
    canvas.show(grid, torch.zeros(1, 1, 4, 4, dtype=torch.uint8), "", "")
    drawing = np.full(grid.blank.shape, 255, np.uint8)
    canvas.draw(drawing, "", "")
    assert np.array_equal(pasted(canvas), drawing)
    canvas.show(grid, torch.zeros(1, 1, 4, 4, dtype=torch.uint8), "", "")
    assert np.array_equal(pasted(canvas), grid.paint(torch.zeros(1, 1, 4, 4, dtype=torch.uint8)))


def test_a_screen_gets_no_more_pixels_than_it_has():
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 255, (60, 80, 3), dtype=np.uint8) for _ in range(2))
    canvas = Canvas()
    canvas.draw(first, "", "")
    fine = canvas.patch_of(second)
    canvas._handle_custom_msg({"acknowledged": 1, "pixels": 1}, [])
    canvas.draw(second, "", "")
    assert canvas.patch_box == [0, 0, 30, 40]
    means = second.reshape(30, 2, 40, 2, 3).astype(float).mean(axis=(1, 3))  # of 2 x 2 pixels
    assert np.abs(decoded(canvas.patch) - means).max() <= 0.5
    coarse = canvas.patch_of(second)
    canvas._handle_custom_msg({"acknowledged": 2, "pixels": 1.25}, [])  # the page was enlarged
    canvas.draw(second, "", "", patch=coarse)
    assert canvas.patch == fine.png
    for pixels, side in ((1, 1), (2, 2), (1, 2)):  # a background that is fine enough stays
        canvas._handle_custom_msg({"pixels": pixels}, [])
        if pixels == 1 and side == 1:
            grid = ImageGrid((1, 1, 4, 4), ["one"])
        canvas.show(grid, torch.zeros(1, 1, 4, 4, dtype=torch.uint8), "", "")
        assert decoded(canvas.background).shape == (side * canvas.height, side * canvas.width, 3)


def test_where_drawings_differ():
    a = np.zeros((10, 12, 3), np.uint8)
    assert changed(a, a) == (0, 0, 0, 0)
    assert changed(a, np.zeros((10, 14, 3), np.uint8)) is None
    b = a.copy()
    b[3, 5, 1] = b[9, 11, 0] = 1
    assert changed(a, b) == (2, 4, 8, 8)


def test_errors_are_shown_and_the_next_picture_takes_them_away():
    canvas = Canvas()
    canvas.set_status("ValueError: no", wrong=True)
    assert (canvas.status, canvas.wrong) == (["ValueError: no"], True)
    canvas.draw(np.zeros((4, 4, 3), np.uint8), "", "fine")
    assert not canvas.wrong


def test_what_the_browser_has_painted_is_known():
    canvas = Canvas()
    assert not canvas.watched
    for content in ({"acknowledged": 3}, {"acknowledged": 2}, {"other": 1}, "words", {"acknowledged": "x"}):
        canvas._handle_custom_msg(content, [])
    assert canvas.watched
    assert canvas.acknowledged == 3


def test_it_has_a_name_and_a_role():
    source = canvas_source()
    for word in ('"role", "img"', "aria-label", "devicePixelRatio", "imageSmoothingEnabled", '"alert"', '"status"'):
        assert word in source


def canvas_source():
    from pathlib import Path

    from dit_course.explore.engine import canvas

    return Path(canvas.__file__).with_name("canvas.js").read_text(encoding="utf-8")
