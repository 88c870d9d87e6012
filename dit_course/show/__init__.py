"""Pictures, curves and films: one call, one message.

`images`, `trajectory` and `loss_curve` give a `Picture`: the last line of a cell shows it, `display(...)` shows it
anywhere else, `.save(path)` keeps it. So do the figures of the lessons: `patches`, `tokens`, `maps`, `difference`,
`costs`
(lesson 01); `clouds`, `distances`, `bias`, `balls`, `nearness`, `trade_off` (lesson 09).
`animation` gives a film that plays in the notebook; `save_image` and
`save_animation` write files, whole or not at all.
"""

from dit_course.show.figures import images, loss_curve, save_image, trajectory
from dit_course.show.film import Recorder, animation, save_animation
from dit_course.show.lesson_evaluation import balls, bias, clouds, distances, nearness, trade_off
from dit_course.show.lesson_patches import costs, difference, maps, patches, tokens
from dit_course.show.pixels import grid, to_bytes
from dit_course.show.sheet import PALETTE, Picture, Sheet, to_png

__all__ = [
    "PALETTE",
    "Picture",
    "Recorder",
    "Sheet",
    "animation",
    "balls",
    "bias",
    "clouds",
    "costs",
    "difference",
    "distances",
    "grid",
    "images",
    "loss_curve",
    "maps",
    "nearness",
    "patches",
    "save_animation",
    "save_image",
    "to_bytes",
    "to_png",
    "tokens",
    "trade_off",
    "trajectory",
]
