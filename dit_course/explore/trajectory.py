"""A slider for time: sample once, keep every state, then walk back and forth between noise and data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ipywidgets as widgets
import torch
from torch import Tensor, nn

from dit_course.explore.engine.view import View
from dit_course.explore.engine.worker import Job
from dit_course.flow import data_from_velocity
from dit_course.sampling import Sampler, Velocity
from dit_course.show import ImageGrid, Picture, save_animation, to_bytes

MILLISECONDS = 150  # between two states when it plays
STILL = (0, 0.2, 0.4, 0.6, 0.8, 1)  # how far along the way the moments of the still picture lie


def trajectory(
    model: nn.Module,
    labels: Sequence[int | str] | int | str | None = None,
    n: int = 6,
    seed: int = 0,
    steps: int = 30,
    solver: str = "euler",
    cfg: float = 2.0,
    cfg_interval: tuple[float, float] = (0.0, 1.0),
) -> "Trajectory":
    """A slider for time over one run of the sampler, with a Play button.

    Above the state x_t, below the data that the velocity points to from there. `.save("film.gif")` and
    `.save("film.mp4")` keep it as a film. Arguments as in `Sampler`; n: how many pictures, one for each of the labels
    where these are a list.
    """
    if not (labels is None or isinstance(labels, int | str)):
        n = len(labels)
    return Trajectory(record(model, labels, n, seed, steps, solver, cfg, cfg_interval))


@dataclass(frozen=True)
class Film:
    """What happened on the way: everything that the slider can show.

    states, pointed: (steps + 1, n, C, H, W) uint8. times: (steps + 1) of t, from 1 down to 0. about: in words.
    """

    states: Tensor
    pointed: Tensor
    times: list[float]
    about: str

    def frame(self, index: int) -> Tensor:
        """Both rows at one moment: (2 * n, C, H, W) uint8."""
        return torch.cat([self.states[index], self.pointed[index]])

    def frames(self) -> list[Tensor]:
        """All moments, for `save_animation`."""
        return [self.frame(index) for index in range(len(self.times))]


class RecordingModel:
    """A velocity that remembers, for every time, to which data it pointed.

    A solver may look ahead: it asks at a time first for a guess and then for the state itself, so the last word counts.
    """

    def __init__(self, velocity: Velocity):
        self.velocity, self.pointed = velocity, {}

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """(batch, ...), (batch,) -> (batch, ...)."""
        velocity = self.velocity(x, t)
        self.pointed[round(float(t[0]), 5)] = data_from_velocity(x, velocity, t)
        return velocity


def record(model, labels, n, seed, steps, solver, cfg, cfg_interval) -> Film:
    """Sample once, and keep the states and the data that each of them points to."""
    states, times, heard = [], [], []

    def listening_solver(velocity, noise, ts, callback=None):
        heard.append(RecordingModel(velocity))
        return sampler_solver(heard[0], noise, ts, callback)

    def keep(index: int, t: float, x: Tensor) -> None:
        states.append(x)
        times.append(t)

    plain = Sampler(model, steps, solver, cfg, cfg_interval)
    sampler_solver = plain.solver
    Sampler(model, steps, listening_solver, cfg, cfg_interval).sample(n, labels, seed, keep)
    pointed = [heard[0].pointed.get(round(t, 5), states[-1]) for t in times[:-1]] + states[-1:]  # at t = 0: itself
    name = getattr(solver, "__name__", solver)
    about = f"{steps} steps of {name}, guidance {plain.cfg:g}, seed {seed}"
    return Film(_stored(states), _stored(pointed), times, about)


class Trajectory(View):
    """The view that `trajectory` makes. `film` holds all states, `picture` is a still of some of them.

    The whole film is in the browser: moving the slider asks nothing of the kernel, not even of a busy one.
    """

    def __init__(self, film: Film):
        self.film = film
        self.sheet = ImageGrid(film.frame(0).shape, captions(film.states.shape[1]), film.states.shape[1])
        last = len(film.times) - 1
        wide = {"style": {"description_width": "50px"}, "layout": {"width": "420px"}}
        self.index = widgets.IntSlider(0, min=0, max=last, description="step", **wide)
        self.play = widgets.Play(
            value=0, min=0, max=last, interval=MILLISECONDS, show_repeat=False, description="play the run"
        )
        super().__init__([self.index], [widgets.HBox([self.play, self.index])])
        self.links = [
            widgets.jslink((self.play, "value"), (self.index, "value")),
            widgets.jslink((self.index, "value"), (self.canvas, "moment")),
        ]

    def answer(self, job: Job, state: tuple[int]) -> None:
        """Hand the film over, once; after that only the moment changes, and a browser sees to that itself."""
        if not self.canvas.frame:
            saids = [f"t = {t:.2f}, {self.film.about}" for t in self.film.times]
            alts = [f"above x_t, below the data it points to: {said}" for said in saids]
            self.canvas.film(self.sheet, torch.stack(self.film.frames()), alts, saids)
        if not self.canvas.watched:
            self.canvas.moment = state[0]

    @property
    def picture(self) -> Picture:
        """Some moments side by side, for the first picture: the still for where no kernel runs."""
        last = len(self.film.times) - 1
        chosen = sorted({round(share * last) for share in STILL})
        rows = [[part[i, 0] for i in chosen] for part in (self.film.states, self.film.pointed)]
        times = [f"t = {self.film.times[i]:.2f}" for i in chosen]
        pixels = torch.stack([*rows[0], *rows[1]])  # (2 * moments, c, h, w)
        title = "Above the state, below the picture that it points to"
        sheet = ImageGrid(pixels.shape, [""] * len(chosen) + times, len(chosen), title)
        return Picture.of(sheet.paint(pixels), f"{title}, at {', '.join(times)}: {self.film.about}")

    def save(self, path: str | Path, fps: float = 8) -> None:
        """Write the whole run as a film, .gif or .mp4: the states above, what they point to below."""
        save_animation(self.film.frames(), path, fps=fps, columns=self.film.states.shape[1])


def captions(n: int) -> list[str]:
    """The first picture of each row says what the row is."""
    return [name if i == 0 else "" for name in ("state x_t", "it points to") for i in range(n)]


def _stored(states: Sequence[Tensor]) -> Tensor:
    """States in [-1, 1] and beyond -> (moments, n, c, h, w) uint8, cut to what a screen can show."""
    return torch.stack([to_bytes(((x.detach().float().cpu() + 1) / 2).clamp(0, 1)) for x in states])
