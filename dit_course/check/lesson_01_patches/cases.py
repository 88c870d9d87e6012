"""What lesson 01's exercises are tried on."""

import torch
from torch import Tensor

from dit_course.check.engine.exercise import Draw

FLAG = """
..........................
.####################.....
.######################...
.##....................#..
.##.####.##.#######.....#.
.##.#..#.##.#.#.#.#......#
.##.####.##.#######.....#.
.##....................#..
.######################...
.####################.....
.##.......................
.##.......................
.##.......................
.##.......................
"""


def flag_image() -> Tensor:
    """A flag on its pole, on a sky that grows brighter: (1, 28, 28), not the same from any two sides."""
    lines = FLAG.split()
    flag = torch.tensor([[float(mark == "#") for mark in line] for line in lines])  # (14, 26)
    sky = torch.linspace(0, 0.4, 28)[:, None] + torch.linspace(0, 0.1, 28)
    sky[1:27, 1:27] += 0.5 * flag.repeat_interleave(2, dim=0)[:26]
    return sky[None]


def random_sizes(draw: Draw) -> tuple[int, int, int, int, int]:
    """batch, channels, rows, columns, patch size: all different, and the tokens as many as nothing else is."""
    while True:
        batch, channels, rows, columns, p = draw.sizes(5)
        if rows * columns not in (batch, channels * p * p):
            return batch, channels, rows, columns, p


def image_inputs(draw: Draw) -> list[tuple[Tensor, int]]:
    """Pictures and a patch size, three times: two flags, a random shape, and another of one picture in float64."""
    sets = [(torch.stack([flag_image(), flag_image().flip(2)]), 4)]
    for dtype in (torch.float32, torch.float64):
        while True:
            batch, channels, rows, columns, p = random_sizes(draw)
            if p not in [used for _, used in sets]:
                break
        batch = batch if dtype == torch.float32 else 1
        sets.append((draw.normal(batch, channels, rows * p, columns * p, dtype=dtype), p))
    return sets


def label(images: Tensor, p: int) -> str:
    """The pictures in words."""
    batch, channels, height, width = images.shape
    return f"{batch}x{channels}x{height}x{width} in patches of {p}"
