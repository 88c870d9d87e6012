"""Plausible wrong versions of lesson 07's exercises."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dit_course import ema
from dit_course.check.stretch_solutions import power_decays

# -- running_average -------------------------------------------------------------------------------


def averaged(values: Tensor, decay: float, start=None, keep=None, new=None) -> Tensor:
    """A running average that starts elsewhere (None: at the first value), or with other shares of old and new."""
    average = values[0] if start is None else torch.full_like(values[0], start)
    averages = [average] if start is None else []
    for value in values[len(averages) :]:
        average = (decay if keep is None else keep) * average + (1 - decay if new is None else new) * value
        averages.append(average)
    return torch.stack(averages)


def of_two(values: Tensor, decay: float) -> Tensor:
    """Each value with the one before it."""
    return torch.cat([values[:1], decay * values[:-1] + (1 - decay) * values[1:]])


def plain_mean(values: Tensor, decay: float) -> Tensor:
    """The mean of all so far."""
    count = torch.arange(1, len(values) + 1, dtype=values.dtype).reshape(-1, *[1] * (values.ndim - 1))
    return values.cumsum(0) / count


def one_late(values: Tensor, decay: float) -> Tensor:
    """The average before the value of its place came in."""
    right = ema.running_average(values, decay)
    return torch.cat([right[:1], right[:-1]])


def corrected(values: Tensor, decay: float) -> Tensor:
    """From zero, divided by what is not zero's."""
    count = torch.arange(1, len(values) + 1, dtype=values.dtype).reshape(-1, *[1] * (values.ndim - 1))
    return averaged(values, decay, start=0) / (1 - decay**count)


# -- profile ---------------------------------------------------------------------------------------


def taken(decays: Tensor) -> Tensor:
    """What came in at once: 1, then 1 - decay."""
    return torch.cat([torch.ones_like(decays[:1]), 1 - decays])


def with_own(decays: Tensor) -> Tensor:
    """Each value shrunk by its own update, too."""
    kept = decays.flip(0).cumprod(0).flip(0)
    return taken(decays) * torch.cat([kept[:1], kept])


def forward_start(decays: Tensor) -> Tensor:
    """Products of all decays up to a value."""
    return taken(decays) * torch.cat([torch.ones_like(decays[:1]), decays.cumprod(0)])


def forward_mended(decays: Tensor) -> Tensor:
    """The same, with the right share of the start."""
    shares = forward_start(decays)
    return torch.cat([decays.prod()[None], shares[1:]])


def forward_before(decays: Tensor) -> Tensor:
    """Products of the decays before a value."""
    before = torch.cat([torch.ones_like(decays[:1]), decays.cumprod(0)[:-1]])
    return torch.cat([decays.prod()[None], (1 - decays) * before])


def forward_own(decays: Tensor) -> Tensor:
    """Products of all decays up to the next value's."""
    return taken(decays) * torch.cat([decays, torch.ones_like(decays[:1])]).cumprod(0)


FORWARD = (forward_start, forward_mended, forward_before, forward_own)


def scaled(shares: Tensor) -> Tensor:
    """Made to add up to 1."""
    return shares / shares.sum()


def not_one(got: Tensor, expected: Tensor) -> bool:
    """Whether shares of the right shape, none of them negative and not all of them zero, do not add up to 1."""
    if got.shape != expected.shape or bool((got < 0).any()) or got.max() > 1 or not got.any():
        return False
    shift = got - expected
    return abs(got.sum().item() - 1) > 1e-3 and bool((shift - shift.mean()).abs().max() > 1e-3)


# -- EMA -------------------------------------------------------------------------------------------


class Altered(ema.EMA):
    """An `EMA` whose update is made of steps that can be done otherwise."""

    def keep(self) -> float:
        """The share that is kept."""
        return self.current_decay()

    def mix(self, ours: Tensor, theirs: Tensor) -> None:
        """Of a parameter."""
        ours.lerp_(theirs, 1 - self.keep())

    def buffer(self, ours: Tensor, theirs: Tensor) -> None:
        """Of a buffer."""
        ours.copy_(theirs)

    def count(self) -> None:
        """Of the updates."""
        self.updates += 1

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """All of it."""
        for ours, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            self.mix(ours, theirs)
        for ours, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            self.buffer(ours, theirs)
        self.count()


def changed(**methods: Callable) -> type:
    """A wrong `EMA`: `Altered` with other methods."""
    return type("Wrong", (Altered,), methods)


def warmed(self: ema.EMA, top: int = 1, bottom: int = 10) -> float:
    """The decay of the warm-up alone."""
    return (top + self.updates) / (bottom + self.updates)


def counting_decay(self: ema.EMA) -> float:
    """The decay; counts, too."""
    decay = ema.EMA.current_decay(self)
    self.updates += 1
    return decay


@torch.no_grad()
def update_counting_once(self: ema.EMA, model: nn.Module) -> None:
    """Update with a decay that is read once, and count nothing."""
    kept = counting_decay(self)
    for ours, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
        ours.lerp_(theirs, 1 - kept)
    for ours, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
        ours.copy_(theirs)


def off(top: int, bottom: int) -> type:
    """An `EMA` whose warm-up counts from elsewhere."""
    return changed(current_decay=lambda self: min(self.decay, warmed(self, top, bottom)) if self.warmup else self.decay)


def count_early(self: ema.EMA, model: nn.Module) -> None:
    """Count, then average."""
    self.updates += 1
    count = self.updates
    Altered.update(self, model)
    self.updates = count


def count_each(self: ema.EMA, ours: Tensor, theirs: Tensor) -> None:
    """Count with each tensor."""
    Altered.mix(self, ours, theirs)
    self.updates += 1


Swapped = changed(mix=lambda self, ours, theirs: ours.lerp_(theirs, self.keep()))
Frozen = changed(mix=lambda self, ours, theirs: None)
Copied = changed(mix=lambda self, ours, theirs: ours.copy_(theirs))
Constant = changed(keep=lambda self: self.decay)
Cold = changed(current_decay=lambda self: self.decay)
AlwaysWarm = changed(current_decay=lambda self: min(self.decay, warmed(self)))
Larger = changed(current_decay=lambda self: max(self.decay, warmed(self)) if self.warmup else self.decay)
Endless = changed(current_decay=lambda self: warmed(self) if self.warmup else self.decay)
Uncounted = changed(count=lambda self: None)
Early = changed(update=count_early)
Twice = changed(mix=count_each, count=lambda self: None)
TwiceMore = changed(mix=count_each)
CountsPerTensor = changed(current_decay=counting_decay, count=lambda self: None)
CountsInDecay = changed(current_decay=counting_decay, update=update_counting_once)
OFFSETS = [off(*pair) for pair in ((2, 11), (0, 9), (0, 10), (1, 9), (1, 11), (2, 10))]
FirstCopied = changed(keep=lambda self: self.current_decay() if self.updates else 0.0)
NoCounters = changed(buffer=lambda self, ours, theirs: ours.copy_(theirs) if ours.is_floating_point() else None)
NoBuffers = changed(buffer=lambda self, ours, theirs: None)
MixedBuffers = changed(
    buffer=lambda self, ours, theirs: (
        ours.lerp_(theirs, 1 - self.keep()) if ours.is_floating_point() else ours.copy_(theirs)
    )
)
MixedFloats = changed(
    buffer=lambda self, ours, theirs: ours.lerp_(theirs, 1 - self.keep()) if ours.is_floating_point() else None
)
NoBias = changed(mix=lambda self, ours, theirs: ours.lerp_(theirs, 1 - self.keep()) if ours.ndim > 1 else None)


# -- power_decays ----------------------------------------------------------------------------------


def gamma_of(sigma_rel: float) -> float:
    """The power whose profile has this width."""
    return torch.log(power_decays(sigma_rel, 2)[1]).item() / torch.log(torch.tensor(0.5)).item() - 1


def powered(gamma: float, updates: int, first: int = 1) -> Tensor:
    """The decays of a power, with the updates counted from another number."""
    t = torch.arange(first, updates + first, dtype=torch.float64)
    return (1 - 1 / t) ** (gamma + 1)


def power_profile(sigma_rel: float, updates: int) -> Tensor:
    """t**gamma, made to add up to 1."""
    shares = torch.arange(1, updates + 1, dtype=torch.float64) ** gamma_of(sigma_rel)
    return shares / shares.sum()


def nearly(got: Tensor, expected: Tensor) -> bool:
    """Whether decays are off by a little, as from a coarse search, and rightly 0 at first."""
    if got.shape != expected.shape or len(got) < 2 or not bool((got[1:] > 0).all()) or got[0].abs() > 1e-6:
        return False
    ratio = torch.log(got[1:].double()) / torch.log(expected[1:])  # of the exponents
    return bool((ratio - ratio.mean()).abs().max() < 0.01 * ratio.mean()) and 0.6 < ratio.mean().item() < 1.6
