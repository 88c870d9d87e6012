"""Text and color bars put into pixels."""

import numpy as np
import pytest

from dit_course.show.layout import DENSITY, blank_figure, rendered
from dit_course.show.text import BAR, color_bar, percent, write


def blank(height=40, width=120):
    """White, in pixels of the page."""
    return np.full((DENSITY * height, DENSITY * width, 3), 255, np.uint8)


def box(image):
    """Top, bottom, left, right of the ink, in pixels of the page."""
    rows, columns = (np.flatnonzero((image < 200).any(axis=axes)) for axes in ((1, 2), (0, 2)))
    return [float(place) / DENSITY for place in (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)]


@pytest.mark.parametrize("align", ["left", "center", "right"])
def test_a_line_stands_where_matplotlib_would_put_it(align):
    image, figure = blank(), blank_figure(120, 40)
    write(image, "H12 Hxg", 60, 25, 12, align=align)
    figure.text(0.5, 15 / 40, "H12 Hxg", fontsize=12, family="DejaVu Sans", ha=align, va="baseline")
    assert np.allclose(box(image), box(rendered(figure)), atol=1.5)


def test_it_takes_the_ink_and_blends_with_what_is_there():
    image = blank()
    image[:] = (0, 0, 200)
    write(image, "MMM", 10, 25, 20, ink="#ff0000")
    assert (image == (255, 0, 0)).all(axis=2).any()
    assert (image[..., 1] == 0).all()  # between blue and red there is no green
    assert (image == (0, 0, 200)).all(axis=2).any()


@pytest.mark.parametrize("place", [(-20, 20), (110, 20), (50, 2), (50, 45), (-500, 20), (50, 500), (500, -500)])
def test_what_lies_outside_is_cut_off(place):
    image, large = blank(), blank(2040, 2120)
    write(image, "Quilt", *place)
    write(large, "Quilt", place[0] + 1000, place[1] + 1000)
    y, x = 1000 * DENSITY, 1000 * DENSITY
    assert np.array_equal(image, large[y : y + image.shape[0], x : x + image.shape[1]])


def test_a_bar_has_its_highest_color_on_top_and_three_numbers():
    image, colors = blank(100, 90), np.arange(200, dtype=np.uint8)[:, None].repeat(3, axis=1)
    color_bar(image, colors, (10, 5, 80), ["0", "5", "10"])
    bar = image[20:180, 20, 0].astype(int)
    assert (np.diff(bar[2:-2]) <= 0).all()
    assert bar[2] > 190
    assert bar[-3] < 10
    inked = (image[:, DENSITY * (5 + BAR + 2) :] < 128).any(axis=(1, 2)).astype(int)
    assert (np.diff(inked) == 1).sum() == 3


def test_shares_are_short():
    assert [percent(share) for share in (0, 1, 0.124, 0.0141, 0.00061)] == ["0%", "100%", "12%", "1.4%", "0.061%"]
