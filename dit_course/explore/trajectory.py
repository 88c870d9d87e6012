"""A slider for time: sample once, keep every state, then move back and forth between noise and data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ipywidgets as widgets
import torch
from torch import Tensor, nn

from dit_course.explore.engine.controls import slider
from dit_course.explore.engine.guidance_cache import pictures_of
from dit_course.explore.engine.view import View
from dit_course.explore.engine.worker import Job
from dit_course.flow import data_from_velocity
from dit_course.sampling import Sampler, Velocity
from dit_course.show import ImageGrid, Picture, save_animation

MILLISECONDS = 150  # between two states when it plays
SHOWN = (0, 0.2, 0.4, 0.6, 0.8, 1)  # shares of the steps after which the static picture shows a state


def trajectory(
    model: nn.Module,
    labels: Sequence[int | str] | int | str | None = None,
    n: int = 6,
    seed: int = 0,
    steps: int = 30,
    solver: str = "euler",
    cfg: float = 2.0,
    cfg_interval: tuple[float, float] = (0.0, 1.0),
) -> "TrajectoryView":
    """A slider for time over one run of the sampler, with a Play button.

    Above the state x_t, below the data that the velocity predicts from there. `.save("run.gif")` and `.save("run.mp4")`
    write an animation. Arguments as in `Sampler`; n: the number of images, one for each of the labels where these are a
    list.
    """
    if not (labels is None or isinstance(labels, int | str)):
        n = len(labels)
    return TrajectoryView(record(model, labels, n, seed, steps, solver, cfg, cfg_interval))


@dataclass(frozen=True)
class Recording:
    """One run of the sampler: everything that the slider can show.

    states, predictions (of the data): (steps + 1, n, C, H, W) uint8. times: (steps + 1) of t, from 1 down to 0. about:
    the settings, as text.
    """

    states: Tensor
    predictions: Tensor
    times: list[float]
    about: str

    def frame(self, index: int) -> Tensor:
        """Both rows at one step: (2 * n, C, H, W) uint8."""
        return torch.cat([self.states[index], self.predictions[index]])

    def frames(self) -> list[Tensor]:
        """All frames, for `save_animation`."""
        return [self.frame(index) for index in range(len(self.times))]


class RecordingVelocity:
    """A velocity that records, for every time, the data that it predicts.

    Heun's solver evaluates a time twice, first at a provisional state, then at the state itself: the last one counts.
    """

    def __init__(self, velocity: Velocity):
        self.velocity, self.predictions = velocity, {}

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """(batch, ...), (batch,) -> (batch, ...)."""
        velocity = self.velocity(x, t)
        self.predictions[round(float(t[0]), 5)] = data_from_velocity(x, velocity, t)
        return velocity


def record(model, labels, n, seed, steps, solver, cfg, cfg_interval) -> Recording:
    """Sample once, and keep the states and the data predicted from each of them."""
    states, times, recorded = [], [], []

    def recording_solver(velocity, noise, ts, callback=None):
        recorded.append(RecordingVelocity(velocity))
        return plain.solver(recorded[0], noise, ts, callback)

    def keep(index: int, t: float, x: Tensor) -> None:
        states.append(x)
        times.append(t)

    plain = Sampler(model, steps, solver, cfg, cfg_interval)
    Sampler(model, steps, recording_solver, cfg, cfg_interval).sample(n, labels, seed, keep)
    found = [recorded[0].predictions.get(round(t, 5), states[-1]) for t in times[:-1]] + states[-1:]  # at t = 0: itself
    name = getattr(solver, "__name__", solver)
    about = f"{steps} steps of {name}, guidance {plain.cfg:g}, seed {seed}"
    return Recording(_stored(states), _stored(found), times, about)


class TrajectoryView(View):
    """The view that `trajectory` makes. `recording` holds all states, `picture` shows some of them.

    The browser holds all frames: moving the slider sends nothing to the kernel, so it works while a cell runs.
    """

    def __init__(self, recording: Recording):
        self.recording = recording
        self.grid = ImageGrid(recording.frame(0).shape, captions(recording.states.shape[1]), recording.states.shape[1])
        last = len(recording.times) - 1
        self.index = slider("step", 0, 0, last, size=(50, 420))
        self.play = widgets.Play(
            value=0, min=0, max=last, interval=MILLISECONDS, show_repeat=False, description="play the run"
        )
        super().__init__([self.index], [widgets.HBox([self.play, self.index])])
        self.links = [
            widgets.jslink((self.play, "value"), (self.index, "value")),
            widgets.jslink((self.index, "value"), (self.canvas, "frame_index")),
        ]

    def render(self, job: Job, state: tuple[int]) -> None:
        """Send all frames, once; after that only the frame index changes, which the browser does by itself."""
        if not self.canvas.sequence:
            statuses = [f"t = {t:.2f}, {self.recording.about}" for t in self.recording.times]
            alts = [f"above x_t, below the data it predicts: {status}" for status in statuses]
            self.canvas.show_frames(self.grid, torch.stack(self.recording.frames()), alts, statuses)
        if not self.canvas.watched:
            self.canvas.frame_index = state[0]

    @property
    def picture(self) -> Picture:
        """Some states of the first image side by side, for where no kernel runs."""
        last = len(self.recording.times) - 1
        chosen = sorted({round(share * last) for share in SHOWN})
        rows = [[part[i, 0] for i in chosen] for part in (self.recording.states, self.recording.predictions)]
        times = [f"t = {self.recording.times[i]:.2f}" for i in chosen]
        pixels = torch.stack([*rows[0], *rows[1]])  # (2 * times, c, h, w)
        title = "Above the state, below the image predicted from it"
        grid = ImageGrid(pixels.shape, [""] * len(chosen) + times, len(chosen), title)
        return Picture.of(grid.paint(pixels), f"{title}, at {', '.join(times)}: {self.recording.about}")

    def save(self, path: str | Path, fps: float = 8) -> None:
        """Write the whole run as an animation, .gif or .mp4: the states above, the predictions below."""
        save_animation(self.recording.frames(), path, fps=fps, columns=self.recording.states.shape[1])


def captions(n: int) -> list[str]:
    """The first image of each row names the row."""
    return [name if i == 0 else "" for name in ("state x_t", "predicted data") for i in range(n)]


def _stored(states: Sequence[Tensor]) -> Tensor:
    """States in [-1, 1] and beyond -> (times, n, c, h, w) uint8, clamped."""
    return torch.stack([pictures_of(x) for x in states])
