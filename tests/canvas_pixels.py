"""The pixels of files, and what a browser paints from the traits of a canvas: as canvas.js does, at density 2."""

import io

import numpy as np
from PIL import Image

from dit_course.show.layout import DENSITY


def decoded(png):
    """The pixels (height, width, 3) of a PNG."""
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))


def pixels_of(picture):
    """The pixels of a `Picture`'s file: (height, width) where it is gray, else (height, width, 3)."""
    return np.array(Image.open(io.BytesIO(picture.png)))


def pasted(canvas, frame=None):
    """What a canvas shows: (height, width, 3) uint8."""
    page = decoded(canvas.background)
    frame = canvas.frame_index if frame is None else frame
    frames, n, channels, height, width = canvas.size
    if n:
        tiles = np.frombuffer(canvas.tiles, np.uint8).reshape(frames, n, channels, height, width)[frame]
        zoom = DENSITY * canvas.tile[0] // height
        for (top, left), tile in zip(canvas.corners, tiles, strict=True):
            large = tile.repeat(zoom, axis=1).repeat(zoom, axis=2).transpose(1, 2, 0)
            y, x = DENSITY * top, DENSITY * left
            page[y : y + large.shape[0], x : x + large.shape[1]] = large
    if canvas.patch:
        top, left, *_ = (int(DENSITY * side) for side in canvas.patch_box)
        patch = decoded(canvas.patch)
        page[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
    return page


def shown(view):
    """What the canvas of a view shows."""
    return pasted(view.canvas)
