"""Pictures, curves and films: one call, one message.

`images`, `trajectory` and `loss_curve` give a `Picture`: the last line of a cell shows it, `display(...)` shows it
anywhere else, `.save(path)` keeps it. So do the figures of the lessons: `patches`, `tokens`, `maps`, `difference`,
`costs` (lesson 01), and `experiment` (trainings with paired seeds). `animation` gives a film that plays in the
notebook; `save_image` and `save_animation` write files, whole or not at all.
"""

from dit_course.show.experiment import experiment
from dit_course.show.figures import images, loss_curve, save_image, trajectory
from dit_course.show.film import Recorder, animation, save_animation
from dit_course.show.lesson_patches import costs, difference, maps, patches, tokens
from dit_course.show.lesson_training import (
    gradient_norms,
    loss_and_pictures,
    loss_by_time,
    loss_curves,
    rates,
    recipes,
    training,
)
from dit_course.show.pixels import grid, to_bytes
from dit_course.show.sheet import PALETTE, Picture, Sheet, to_png

__all__ = [
    "PALETTE",
    "Picture",
    "Recorder",
    "Sheet",
    "animation",
    "costs",
    "difference",
    "experiment",
    "gradient_norms",
    "grid",
    "images",
    "loss_and_pictures",
    "loss_by_time",
    "loss_curve",
    "loss_curves",
    "maps",
    "patches",
    "rates",
    "recipes",
    "save_animation",
    "save_image",
    "to_bytes",
    "to_png",
    "tokens",
    "training",
    "trajectory",
]
