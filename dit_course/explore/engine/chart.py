"""A chart whose axes, ticks and names are drawn once: a move of a slider redraws only what moves."""

from collections.abc import Sequence

import numpy as np

from dit_course.show.layout import without_alpha


class Chart:
    """A matplotlib figure with some parts that move.

    moving: lines, texts and patches that are changed with their `set_...` between two drawings; the limits of the
    axes stay. Drawing them takes a tenth of the time that the whole figure takes.
    """

    def __init__(self, figure, moving: Sequence):
        self.figure, self.moving = figure, tuple(moving)
        for artist in self.moving:
            artist.set_animated(True)
        figure.canvas.draw()
        self._saved_region = figure.canvas.copy_from_bbox(figure.bbox)
        self._background = without_alpha(self._buffer())  # without what moves
        self._packed_background = self._packed().copy()

    def pixels(self) -> np.ndarray:
        """The chart as it is now: (height, width, 3) uint8."""
        self.figure.canvas.restore_region(self._saved_region)
        for artist in self.moving:
            self.figure.draw_artist(artist)
        pixels = self._background.copy()
        differs = self._packed() != self._packed_background
        rows = np.flatnonzero(differs.any(axis=1))
        if len(rows):  # the alpha channel is taken off only where something was drawn
            columns = np.flatnonzero(differs[rows[0] : rows[-1] + 1].any(axis=0))
            box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            pixels[box] = without_alpha(self._buffer()[box])
        return pixels

    def _buffer(self) -> np.ndarray:
        return np.asarray(self.figure.canvas.buffer_rgba())  # (height, width, 4)

    def _packed(self) -> np.ndarray:
        return self._buffer().view(np.uint32)[..., 0]  # (height, width): the four bytes of a pixel as one number
