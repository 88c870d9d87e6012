"""Pictures, curves and films: one call, one message.

`images`, `trajectory` and `loss_curve` give a `Picture`: the last line of a cell shows it, `display(...)` shows it
anywhere else, `.save(path)` keeps it. So do the figures of the lessons, which live in `lesson_*.py`, and `experiment`
(trainings with paired seeds). `animation` gives a film that plays in the notebook; `save_image` and `save_animation`
write files, whole or not at all.
"""

from dit_course.show.animation import Recorder, animation, save_animation
from dit_course.show.arrays import grid, to_bytes
from dit_course.show.experiment import experiment, paired_losses
from dit_course.show.figures import images, loss_curve, save_image, trajectory
from dit_course.show.layout import PALETTE, Picture, Sheet, to_png
from dit_course.show.lesson_01_patches import costs, difference, maps, patches, tokens
from dit_course.show.lesson_02_attention import attention_map, attention_table, looks, side_by_side
from dit_course.show.lesson_03_adaln_blocks import block_changes, components, modulations, race, sinusoids
from dit_course.show.lesson_04_registers import attention_shares, lengths, parts
from dit_course.show.lesson_05_flow_loss import densities, field, over_time, plane, roads
from dit_course.show.lesson_06_training import (
    gradient_norms,
    loss_and_pictures,
    loss_by_time,
    loss_curves,
    rates,
    recipes,
    training,
)
from dit_course.show.lesson_07_ema import bowl, profiles, raw_and_averaged, running_averages
from dit_course.show.lesson_08_cfg_sampling import by_evaluations, solver_roads, table
from dit_course.show.lesson_09_evaluation import balls, bias, clouds, distances, nearness, trade_off
from dit_course.show.lesson_10_scaling_up import phases, power_law, scaling

__all__ = [
    "PALETTE",
    "Picture",
    "Recorder",
    "Sheet",
    "animation",
    "attention_map",
    "attention_shares",
    "attention_table",
    "balls",
    "bias",
    "block_changes",
    "bowl",
    "by_evaluations",
    "clouds",
    "components",
    "costs",
    "densities",
    "difference",
    "distances",
    "experiment",
    "field",
    "gradient_norms",
    "grid",
    "images",
    "lengths",
    "looks",
    "loss_and_pictures",
    "loss_by_time",
    "loss_curve",
    "loss_curves",
    "maps",
    "modulations",
    "nearness",
    "over_time",
    "paired_losses",
    "parts",
    "patches",
    "phases",
    "plane",
    "power_law",
    "profiles",
    "race",
    "rates",
    "raw_and_averaged",
    "recipes",
    "roads",
    "running_averages",
    "save_animation",
    "save_image",
    "scaling",
    "side_by_side",
    "sinusoids",
    "solver_roads",
    "table",
    "to_bytes",
    "to_png",
    "tokens",
    "trade_off",
    "training",
    "trajectory",
]
