"""Images, charts and animations: one call, one message.

`images`, `trajectory` and `loss_curve` return a `Picture`: the last line of a cell shows it, `display(...)` shows it
anywhere else, `.save(path)` writes it. So do the figures of the lessons, which live in `lesson_*.py`, and `experiment`
(training runs with paired seeds). `animation` plays in the notebook; `save_image` and `save_animation` write files,
whole or not at all.
"""

# ruff: noqa: F401 (all imports are public)

from dit_course.show.animation import Recorder, animation, save_animation
from dit_course.show.arrays import grid, to_bytes
from dit_course.show.experiment import experiment, paired_losses, tricks
from dit_course.show.figures import images, loss_curve, save_image, trajectory
from dit_course.show.layout import PALETTE, ImageGrid, Picture, to_png
from dit_course.show.lesson_01_patches import difference, heatmaps, patches, token_costs, tokens
from dit_course.show.lesson_02_attention import attention_from_patch, attention_map, attention_table, side_by_side
from dit_course.show.lesson_03_adaln_blocks import block_changes, components, init_race, modulations, sinusoids
from dit_course.show.lesson_04_registers import attention_shares, parameter_shares, token_norms
from dit_course.show.lesson_05_flow_loss import densities, field, over_time, plane, trajectories
from dit_course.show.lesson_06_training import (
    gradient_norms,
    loss_and_pictures,
    loss_by_time,
    loss_curves,
    rates,
    recipes,
    training,
)
from dit_course.show.lesson_07_ema import profiles, quadratic_trajectories, raw_and_averaged, running_averages
from dit_course.show.lesson_08_cfg_sampling import by_evaluations, solver_trajectories, table
from dit_course.show.lesson_09_evaluation import (
    distances,
    feature_clouds,
    frechet_bias,
    knn_balls,
    nearest_distances,
    trade_off,
)
from dit_course.show.lesson_10_scaling_up import power_law, scaling, step_phases
from dit_course.show.lesson_11_few_steps import evaluations, variety
from dit_course.show.lesson_12_bug_hunt import scoreboard, symptoms

__all__ = sorted(name for name, value in vars().items() if callable(value) or name == "PALETTE")
