"""Lesson 07: what people write for running averages, their half-lives and profiles, and the average of the weights."""

import copy
import math

import torch

from dit_course import ema
from mutants import mutant, right_answer

# -- running_average -------------------------------------------------------------------------------


@right_answer(exercise="running_average")
def by_steps_towards(values, decay):
    averages = [values[0]]
    for value in values[1:]:
        averages.append(averages[-1] + (1 - decay) * (value - averages[-1]))
    return torch.stack(averages)


@right_answer(exercise="running_average")
def by_lerp_and_filling(values, decay):
    out = torch.empty_like(values)
    average = values[0].clone()
    for i, value in enumerate(values):
        average = average.lerp(value, 1 - decay)
        out[i] = average
    return out


@right_answer(exercise="running_average")
def by_a_matrix_of_powers(values, decay):
    n = torch.arange(len(values))
    ages = (n[:, None] - n).clamp(min=0)
    weights = torch.where(n[:, None] >= n, decay**ages * (1 - decay), 0.0)
    weights[:, 0] = decay**n
    return torch.tensordot(weights.to(values.dtype), values, dims=1)


@mutant(exercise="running_average", hint="changes its input in place")
def in_place(values, decay):
    for i in range(1, len(values)):
        values[i] = decay * values[i - 1] + (1 - decay) * values[i]
    return values.clone()


# -- half_life -------------------------------------------------------------------------------------


@right_answer(exercise="half_life")
def by_log2(decay):
    return -1 / torch.log2(decay)


@right_answer(exercise="half_life")
def by_tensors(decay):
    return torch.log(torch.full_like(decay, 0.5)) / decay.log()


@right_answer(exercise="half_life")
def by_numbers(decay):
    return torch.tensor([math.log(2) / -math.log(d) for d in decay.flatten()], dtype=decay.dtype).reshape(
        decay.shape
    ) + (0 * decay)


@mutant(exercise="half_life", hint="the sign is wrong")
def two_for_one_half(decay):
    return math.log(2) / torch.log(decay)


@mutant(exercise="half_life", hint="TypeError")
def math_of_a_tensor(decay):
    return math.log("0.5") / torch.log(decay)


# -- profile ---------------------------------------------------------------------------------------


@right_answer(exercise="averaging_weights")
def by_a_loop(decays):
    shares = [torch.ones_like(decays[0])]
    for decay in decays:
        shares = [decay * share for share in shares] + [1 - decay]
    return torch.stack(shares)


@right_answer(exercise="averaging_weights")
def by_products(decays):
    shares = [decays.prod()]
    for i in range(len(decays)):
        shares.append((1 - decays[i]) * decays[i + 1 :].prod())
    return torch.stack(shares)


@right_answer(exercise="averaging_weights")
def by_averaging_unit_vectors(decays):
    units = torch.eye(len(decays) + 1, dtype=decays.dtype)
    average = units[0]
    for decay, unit in zip(decays, units[1:], strict=True):
        average = decay * average + (1 - decay) * unit
    return average


@right_answer(exercise="averaging_weights")
def by_differences(decays):
    """What is left of everything up to i, less what is left of everything before it."""
    kept = torch.cat([decays.flip(0).cumprod(0).flip(0), torch.ones_like(decays[:1])])
    return torch.cat([kept[:1], kept[1:] - kept[:-1]])


@mutant(exercise="averaging_weights", hint="your shares do not add up to 1")
def next_updates_share(decays):
    return torch.stack([decays.prod(), *[(1 - decays[i]) * decays[i + 2 :].prod() for i in range(len(decays))]])


# -- EMA -------------------------------------------------------------------------------------------


class Mine(ema.EMA):
    """A learner's class, written with a loop."""

    def update(self, model):
        with torch.no_grad():
            keep = self.current_decay()
            for ours, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
                ours.mul_(keep).add_((1 - keep) * theirs)
            for ours, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
                ours.copy_(theirs)
        self.updates += 1


@right_answer(exercise="EMA")
class ByALoop(Mine):
    pass


@right_answer(exercise="EMA")
class ByNames(ema.EMA):
    def update(self, model):
        keep, trained = self.current_decay(), model.state_dict()
        learned = dict(self.model.named_parameters())
        for name, ours in self.model.state_dict().items():
            ours.copy_(keep * ours + (1 - keep) * trained[name] if name in learned else trained[name])
        self.updates = self.updates + 1


@right_answer(exercise="EMA")
class ByData(ema.EMA):
    def current_decay(self):
        decay = self.decay
        if self.warmup:
            decay = torch.tensor([decay, (1 + self.updates) / (10 + self.updates)], dtype=torch.float64).min()
        return decay

    def update(self, model):
        for ours, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            keep = float(self.current_decay())
            ours.data = ours.data * keep + theirs.data * (1 - keep)
        for name, buffer in model.named_buffers():
            self.model.get_buffer(name).copy_(buffer)
        self.updates += 1


@mutant(exercise="EMA", hint="not tried yet")
class Stub(ema.EMA):
    def current_decay(self):
        raise NotImplementedError

    def update(self, model):
        raise NotImplementedError


@mutant(exercise="EMA", hint="`current_decay` is written, `update` is not yet")
class HalfDone(ema.EMA):
    def update(self, model):
        raise NotImplementedError


@mutant(exercise="EMA", hint="`update` is written, `current_decay` is not yet")
class OtherHalf(Mine):
    def current_decay(self):
        raise NotImplementedError


@mutant(exercise="EMA", hint="changes the model that is being trained")
class WrongWay(ema.EMA):
    @torch.no_grad()
    def update(self, model):
        for ours, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            theirs.lerp_(ours, self.current_decay())
        self.updates += 1


@mutant(exercise="EMA", hint="has become the trained model itself")
class Same(ema.EMA):
    def update(self, model):
        self.model = model
        self.updates += 1


@mutant(exercise="EMA", hint="want gradients, and nobody trains them")
class CopiedWhole(ema.EMA):
    def update(self, model):
        keep, old = self.current_decay(), self.model
        self.model = copy.deepcopy(model)
        with torch.no_grad():
            for ours, before in zip(self.model.parameters(), old.parameters(), strict=True):
                ours.lerp_(before, keep)
        self.updates += 1


@mutant(exercise="EMA", hint="puts something new in the place of `self.model`")
class CopiedFrozen(CopiedWhole):
    def update(self, model):
        super().update(model)
        self.model.eval().requires_grad_(False)


@mutant(exercise="EMA", hint="`self.model` is in training mode")
class NotForSampling(Mine):
    def update(self, model):
        super().update(model)
        self.model.train()


@mutant(exercise="EMA", hint="comes out in another mode")
class FreezesTheModel(Mine):
    def update(self, model):
        super().update(model.eval())


@mutant(exercise="EMA", hint="`current_decay` returns nothing")
class NoReturn(Mine):
    def current_decay(self):
        pass


@mutant(exercise="EMA", hint="result type Float can't be cast")
class EveryTensor(ema.EMA):
    """Averaging counters, too, is an error of PyTorch's own."""

    def update(self, model):
        for ours, theirs in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            ours.mul_(self.current_decay())
            ours.add_((1 - self.current_decay()) * theirs)
        self.updates += 1


@mutant(exercise="EMA", hint="AttributeError: 'EMA' object has no attribute 'weights'")
class Misspelt(ema.EMA):
    def update(self, model):
        raise AttributeError("'EMA' object has no attribute 'weights'")


@mutant(exercise="EMA", hint="took too long", seconds=0.2)
class WithoutEnd(ema.EMA):
    def update(self, model):
        while True:
            pass


@mutant(exercise="EMA", hint="should be a class")
def a_function(model, decay=0.9999, warmup=True):
    return ema.EMA(model, decay, warmup)


# -- power_decays ----------------------------------------------------------------------------------


def width(gamma):
    return ((gamma + 1) / (gamma + 2) ** 2 / (gamma + 3)) ** 0.5


def power_of(sigma_rel, step=1e-4):
    """By walking up, in ever finer steps."""
    gamma, stride = 0.0, 10.0
    while stride > step:
        while width(gamma + stride) > sigma_rel:
            gamma += stride
        stride /= 10
    return gamma


def decays_of(gamma, updates):
    return (1 - 1 / torch.arange(1, updates + 1, dtype=torch.float64)) ** (gamma + 1)


@right_answer(exercise="power_decays")
def by_walking(sigma_rel, updates):
    return decays_of(power_of(sigma_rel, 1e-9), updates)


@right_answer(exercise="power_decays")
def by_roots(sigma_rel, updates):
    """(gamma + 2)^2 (gamma + 3) = (gamma + 1) / sigma^2, a cubic: its largest real root."""
    import numpy as np

    roots = np.roots([1, 7, 16 - sigma_rel**-2, 12 - sigma_rel**-2])
    return decays_of(max(roots.real[abs(roots.imag) < 1e-9]), updates)


@right_answer(exercise="power_decays")
def by_products_of_shares(sigma_rel, updates):
    """As quotients: t - 1 to the power, divided by t to the power."""
    t, gamma = torch.arange(updates, dtype=torch.float64), power_of(sigma_rel, 1e-9)
    return (t / (t + 1)) ** (gamma + 1)


@mutant(exercise="power_decays", hint="NaN or infinite")
def from_zero_on(sigma_rel, updates):
    return (1 - 1 / torch.arange(updates, dtype=torch.float64)) ** (power_of(sigma_rel) + 1)


@mutant(exercise="power_decays", hint="not near enough")
def coarse(sigma_rel, updates):
    return decays_of(round(power_of(sigma_rel)) + 0.3, updates)


@mutant(exercise="power_decays", hint="torch.float32 and should be torch.float64")
def in_single(sigma_rel, updates):
    return decays_of(power_of(sigma_rel, 1e-9), updates).float()


@mutant(exercise="power_decays", hint="does the search go the right way")
def searched_the_wrong_way(sigma_rel, updates):
    return decays_of(1e6, updates)


@mutant(exercise="power_decays", hint="does the search go the right way")
def halved_ten_times(sigma_rel, updates):
    return decays_of(976.0, updates)


@mutant(exercise="EMA", hint="the average has become the trained model itself")
class SharedBuffers(ema.EMA):
    @torch.no_grad()
    def update(self, model):
        for ours, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            ours.lerp_(theirs, 1 - self.current_decay())
        for ours, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            ours.data = theirs.data
        self.updates += 1


@mutant(exercise="EMA", hint="an error stopped your code")
class LerpOfWholeNumbers(ema.EMA):
    @torch.no_grad()
    def update(self, model):
        for ours, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            ours.lerp_(theirs, 1 - self.current_decay())
        for ours, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            ours.lerp_(theirs, 1 - self.current_decay())
        self.updates += 1
