"""From thirty evaluations to one: a student that predicts whole steps, guidance included (lesson 11).

A velocity says where a path goes at one moment; the average velocity of a whole step says where it ends. So the student
gets two numbers more than its teacher, the time t_next at which its step ends and the guidance scale, and learns

    u(x_t, t, t_next) = (x_t - x_next) / (t - t_next),

x_next being where the teacher's guided path through x_t is at t_next.

Shortcut models: Frans et al. 2024, arXiv 2410.12557; mean flows: Geng et al. 2025, arXiv 2505.13447; consistency
models: Song et al. 2023, arXiv 2303.01469; guidance distillation: Meng et al. 2022, arXiv 2210.03142; the teacher's
paths as data: reflow, Liu et al. 2022, arXiv 2209.03003.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dit_course.conditioning import TimestepEmbedder
from dit_course.dit import DiT, DiTConfig, drop_registers
from dit_course.flow import interpolate, per_image, step
from dit_course.generation import BaseSampler, Callback, start
from dit_course.guards import check_span, whole
from dit_course.patches import unpatchify
from dit_course.sampling import ab2, expand_time

AverageVelocity = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x_t, t, t_next) -> u, labels and guidance built in
CFG_RANGE = (1.0, 6.0)  # the guidance scales that a student learns


class ZeroEmbedder(TimestepEmbedder):
    """One further number as a vector, zero until it is trained.

    resolution: what the number is multiplied by in place of the 1000 of times. Spans and guidance scales act smoothly,
    so their fastest sinusoid may be slow.
    """

    def __init__(self, width: int, resolution: float):
        super().__init__(width)
        self.resolution = resolution
        nn.init.zeros_(self.output.weight)

    def forward(self, value: Tensor) -> Tensor:
        """value: (batch,). Returns (batch, width)."""
        return super().forward(value * (self.resolution / 1000))


class FewStepDiT(DiT):
    """A DiT that predicts the average velocity of a step from t to t_next, for any guidance scale, in one evaluation.

    Both new inputs come in through zero-initialised layers, so that a student made by `from_teacher` *is* its teacher
    at first. Called like a DiT, without them, it predicts the velocity at t (t_next = t), not guided (cfg = 1).
    """

    def __init__(self, config: DiTConfig):
        super().__init__(config)
        self.span_embed = ZeroEmbedder(config.width, resolution=100)
        self.cfg_embed = ZeroEmbedder(config.width, resolution=10)

    @classmethod
    def from_teacher(cls, teacher: DiT) -> "FewStepDiT":
        """A student with the weights of a trained DiT. It drops no labels: guidance is an input, not a second pass."""
        student = cls(replace(teacher.config, label_dropout=0.0))
        student.load_state_dict(student.state_dict() | teacher.state_dict())
        student.class_names = teacher.class_names
        return student.to(teacher.registers)

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, t_next: Tensor | None = None, cfg: Tensor | None = None
    ) -> Tensor:
        """Predict the average velocity between t and t_next on the guided path through x.

        x, t, y: as in `DiT`. t_next: (batch,) in [0, t], where the step ends. cfg: (batch,) guidance scales.
        Returns (batch, out_channels, height, width).
        """
        self._check(x, t, y)
        check_span(t, t_next)
        span = torch.zeros_like(t) if t_next is None else t - t_next
        cfg = torch.ones_like(t) if cfg is None else cfg
        condition = self.condition(t, y) + self.span_embed(span) + self.cfg_embed(cfg)  # (batch, width)
        tokens = self.embed(x)
        for block in self.blocks:
            tokens = block(tokens, condition)
        patches = self.final(drop_registers(tokens, self.config.registers), condition)
        out_channels = self.config.out_channels or self.config.channels
        return unpatchify(patches, self.config.patch_size, out_channels, *self.config.image_shape)

    def at(self, y: Tensor | None, cfg: Tensor) -> AverageVelocity:
        """The average velocity u(x_t, t, t_next) for these labels and guidance scales, (batch,) each."""
        return lambda x_t, t, t_next: self(x_t, t, y, t_next, cfg)


def guided_velocity(teacher: DiT, x_t: Tensor, t: Tensor, y: Tensor | None, cfg: Tensor) -> Tensor:
    """The teacher's velocity with a guidance scale of its own for every picture (Meng et al. 2022, equation 2).

    x_t: (batch, ...). t, cfg: (batch,). y: (batch,) labels; None for a teacher without classes, which has no guidance.
    Returns the shape of x_t.
    """
    if y is None:
        return teacher(x_t, t)
    no_label = torch.full_like(y, teacher.config.num_classes)
    both = teacher(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([y, no_label]))  # (2 * batch, ...)
    with_label, without = both.chunk(2)
    return without + per_image(cfg, x_t) * (with_label - without)


def shortcut_target(average: AverageVelocity, x_t: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
    """One step over a span equals two steps over its halves (Frans et al. 2024, equation 4).

    average: u(x_t, t, t_next), best of the student's running average. t, t_next: (batch,).
    Returns the mean of both halves, the shape of x_t. Where the span is 0, it is what `average` says there.
    """
    t_middle = (t + t_next) / 2
    first = average(x_t, t, t_middle)
    second = average(step(x_t, first, t, t_middle), t_middle, t_next)
    return (first + second) / 2


def mean_flow_target(average: AverageVelocity, x_t: Tensor, t: Tensor, t_next: Tensor, velocity: Tensor) -> Tensor:
    """What the average velocity must be, from how it changes along the path (Geng et al. 2025, equation 6).

    (t - t_next) u is the way from x_next to x_t. Its derivative along the path is v, so u = v - (t - t_next) u', where
    u' is how u changes along the path: one derivative in the direction (v, 1), forward through the network.
    velocity: v at (x_t, t), the shape of x_t. Returns the same shape, without history.
    """
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # the fused attention has no forward derivative
        along = (velocity, torch.ones_like(t))
        _, change = torch.func.jvp(lambda x, time: average(x, time, t_next), (x_t, t), along)
    return velocity - per_image(t - t_next, x_t) * change


def path_target(x_t: Tensor, x_next: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
    """The average velocity between two states of one path, t > t_next: (x_t - x_next) / (t - t_next)."""
    return (x_t - x_next) / per_image(t - t_next, x_t)


@torch.no_grad()
def teacher_paths(teacher: DiT, noise: Tensor, y: Tensor | None, cfg: Tensor, ts: Tensor) -> Tensor:
    """All states of the teacher's guided paths from noise to picture, by `ab2`.

    noise: (batch, ...). y, cfg: (batch,). ts: (steps + 1,) times, downwards from 1. Returns (steps + 1, batch, ...).
    """
    states = []
    ab2(lambda x, t: guided_velocity(teacher, x, t, y, cfg), noise, ts, lambda index, t, x: states.append(x))
    return torch.stack(states)


def random_cfg(n: int, generator: Generator | None = None, device=None) -> Tensor:
    """n guidance scales in `CFG_RANGE`, as many between 1 and 2 as between 3 and 6 (log-uniform): (n,)."""
    low, high = torch.tensor(CFG_RANGE).log().tolist()
    return torch.empty(n, device=device).uniform_(low, high, generator=generator).exp()


class SelfConsistency:
    """The loss of a student that learns from itself: `RectifiedFlow`'s signature, so that `train` drives it.

    A share `base` of every batch learns the teacher's guided velocity, span 0. The rest learns that one step equals two
    half steps of the target network; their spans are powers of 1/2, from 1 down to (1/2)^shortest, on their grid.
    `draw` first, then `error`: several processes draw the whole batch, and each computes the error of its own rows.
    target: the network that takes the half steps; None for the student itself.
    """

    def __init__(self, teacher: DiT, target: nn.Module | None = None, base: float = 0.25, shortest: int = 7):
        if not 0 <= base <= 1 or whole(shortest, least=0) is None:
            raise ValueError(
                f"base = {base}, shortest = {shortest}, but base must be a share between 0 and 1, and shortest a whole "
                "number: spans are 1, 1/2, ... (1/2)^shortest"
            )
        self.teacher, self.target, self.base, self.shortest = teacher, target, base, shortest

    def loss(self, model: nn.Module, x: Tensor, y: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        """Mean squared error to the target: a scalar. x: (batch, ...) in [-1, 1]. y: (batch,) labels or None."""
        return self.error(model, *self.draw(x, y, generator))

    def draw(self, x: Tensor, y: Tensor | None = None, generator: Generator | None = None) -> tuple:
        """All that is random in the loss of a batch: x_t, t, t_next, y and cfg, each (batch, ...); y may be None."""
        n, device = len(x), x.device
        noise = torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype)
        span, t = self.sample_steps(n, generator, device)
        cfg = random_cfg(n, generator, device) if y is not None else torch.ones(n, device=device)
        return interpolate(x, noise, t), t, t - span, y, cfg

    def error(self, model: nn.Module, x_t: Tensor, t: Tensor, t_next: Tensor, y: Tensor | None, cfg: Tensor) -> Tensor:
        """The mean squared error of what was drawn, or of some rows of it: a scalar. Rows of span 0 come first."""
        b = int((t == t_next).sum())
        first, rest = (None, None) if y is None else (y[:b], y[b:])
        average, targets = self.target or model, []
        with torch.no_grad():
            if b:
                targets += [guided_velocity(self.teacher, x_t[:b], t[:b], first, cfg[:b])]
            if b < len(x_t):
                half_step = lambda x, t, s: average(x, t, rest, s, cfg[b:])  # noqa: E731
                targets += [shortcut_target(half_step, x_t[b:], t[b:], t_next[b:])]
        return (model(x_t, t, y, t_next, cfg).float() - torch.cat(targets).float()).square().mean()

    def sample_steps(self, n: int, generator: Generator | None, device) -> tuple[Tensor, Tensor]:
        """Spans and starting times, (n,) each; the first `base` of them have span 0 and any time."""
        span = 0.5 ** torch.randint(self.shortest + 1, (n,), generator=generator, device=device)
        t = span * (1 + (torch.rand(n, generator=generator, device=device) / span).floor().clamp(max=1 / span - 1))
        any_time = torch.rand(n, generator=generator, device=device)
        first = torch.arange(n, device=device) < round(self.base * n)
        return span.masked_fill(first, 0.0), torch.where(first, any_time, t)


class FewStepSampler(BaseSampler):
    """Draw pictures with a `FewStepDiT`: `steps` evaluations in all, guided ones too. Otherwise as `Sampler`."""

    def __init__(self, student: FewStepDiT, steps: int = 1, cfg: float = 2.5):
        super().__init__(student, steps, cfg, (0.0, 1.0))
        low, high = CFG_RANGE
        if not low <= cfg <= high:
            raise ValueError(f"cfg = {cfg}, but a student knows the guidance scales from {low:g} to {high:g} only")

    def integrate(self, noise: Tensor, y: Tensor | None, callback: Callback | None = None) -> Tensor:
        """From noise (batch, channels, height, width) and labels (batch,) to images of this shape in [0, 1]."""
        ts = torch.linspace(1, 0, self.steps + 1, device=noise.device)
        average = self.model.at(y, expand_time(torch.tensor(self.cfg), noise))
        x, report = start(noise, ts, callback)
        for t, t_next in pairwise(ts):
            x = step(x, average(x, expand_time(t, x), expand_time(t_next, x)), t, t_next)
            report(x)
        return ((x.float() + 1) / 2).clamp(0, 1)  # [-1, 1] -> [0, 1]
