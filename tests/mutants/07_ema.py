"""Lesson 07: what people write for running averages, their half-lives and profiles, and the average of the weights."""

import copy
import math
from itertools import pairwise

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


@mutant(exercise="running_average", hint="decay and 1 - decay are swapped")
def swapped(values, decay):
    averages = [values[0]]
    for value in values[1:]:
        averages.append((1 - decay) * averages[-1] + decay * value)
    return torch.stack(averages)


@mutant(exercise="running_average", hint="your average starts at zero")
def from_zero(values, decay):
    average, averages = torch.zeros_like(values[0]), []
    for value in values:
        average = decay * average + (1 - decay) * value
        averages.append(average)
    return torch.stack(averages)


@mutant(exercise="running_average", hint="your average starts at zero")
def from_zero_without_the_first(values, decay):
    return from_zero(values, decay)[1:]


@mutant(exercise="running_average", hint="averaged with the value before it")
def with_the_value_before(values, decay):
    pairs = [decay * old + (1 - decay) * new for old, new in pairwise(values)]
    return torch.stack([values[0], *pairs])


@mutant(exercise="running_average", hint="only the last average comes back")
def last_alone(values, decay):
    average = values[0]
    for value in values[1:]:
        average = decay * average + (1 - decay) * value
    return average


@mutant(exercise="running_average", hint="the first one is missing")
def first_missing(values, decay):
    average, averages = values[0], []
    for value in values[1:]:
        average = decay * average + (1 - decay) * value
        averages.append(average)
    return torch.stack(averages)


@mutant(exercise="running_average", hint="plain mean of all values so far")
def means(values, decay):
    return torch.stack([values[: n + 1].mean(0) for n in range(len(values))])


@mutant(exercise="running_average", hint="the new value is added whole")
def adds_whole(values, decay):
    averages = [values[0]]
    for value in values[1:]:
        averages.append(decay * averages[-1] + value)
    return torch.stack(averages)


@mutant(exercise="running_average", hint="the old average is kept whole")
def keeps_whole(values, decay):
    averages = [values[0]]
    for value in values[1:]:
        averages.append(averages[-1] + (1 - decay) * value)
    return torch.stack(averages)


@mutant(exercise="running_average", hint="your averages are all the same")
def never_assigned(values, decay):
    average, averages = values[0], [values[0]]
    for value in values[1:]:
        decay * average + (1 - decay) * value
        averages.append(average)
    return torch.stack(averages)


@mutant(exercise="running_average", hint="your averages are all the same")
def one_tensor_many_times(values, decay):
    average, averages = values[0].clone(), []
    for value in values:
        average.lerp_(value, 1 - decay)
        averages.append(average)
    return torch.stack(averages)


@mutant(exercise="running_average", hint="one place too late")
def appended_before(values, decay):
    average, averages = values[0], [values[0]]
    for value in values[1:]:
        averages.append(average)
        average = decay * average + (1 - decay) * value
    return torch.stack(averages)


@mutant(exercise="running_average", hint="one place too late")
def short_of_the_last(values, decay):
    return by_steps_towards(values, decay)[:-1]


@mutant(exercise="running_average", hint="as in Adam")
def bias_corrected(values, decay):
    counts = torch.arange(1, len(values) + 1).reshape(-1, *[1] * (values.ndim - 1))
    return from_zero(values, decay) / (1 - decay**counts)


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


@mutant(exercise="half_life", hint="the window 1 / (1 - decay)")
def the_window(decay):
    return 1 / (1 - decay)


@mutant(exercise="half_life", hint="until 37 % (1 / e) are left")
def to_one_e_th(decay):
    return -1 / torch.log(decay)


@mutant(exercise="half_life", hint="upside down")
def upside_down(decay):
    return torch.log(decay) / math.log(0.5)


@mutant(exercise="half_life", hint="different bases")
def two_bases(decay):
    return -math.log2(2) / torch.log10(decay)


@mutant(exercise="half_life", hint="different bases")
def natural_over_two(decay):
    return math.log(0.5) / torch.log2(decay)


@mutant(exercise="half_life", hint="nearly right when decay is close to 1")
def near_one(decay):
    return math.log(2) / (1 - decay)


@mutant(exercise="half_life", hint="nearly right when decay is close to 1")
def half_a_window(decay):
    return 0.5 / (1 - decay)


@mutant(exercise="half_life", hint="what is left *after*")
def power_of_one_half(decay):
    return 0.5**decay


@mutant(exercise="half_life", hint="half-life of 1 - decay")
def of_what_comes_in(decay):
    return math.log(0.5) / torch.log(1 - decay)


@mutant(exercise="half_life", hint="your result is rounded")
def rounded_up(decay):
    return torch.ceil(math.log(0.5) / torch.log(decay))


@mutant(exercise="half_life", hint="one logarithm alone")
def one_logarithm(decay):
    return torch.log2(decay)


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


@mutant(exercise="averaging_weights", hint="the start is missing")
def no_start(decays):
    return by_a_loop(decays)[1:]


@mutant(exercise="averaging_weights", hint="your shares run backwards")
def newest_first(decays):
    return by_a_loop(decays).flip(0)


@mutant(exercise="averaging_weights", hint="shrunk by its own update, too")
def own_decay_too(decays):
    return torch.stack([decays.prod(), *[(1 - decays[i]) * decays[i:].prod() for i in range(len(decays))]])


@mutant(exercise="averaging_weights", hint="a value came in with the share 1 - decay")
def not_taken(decays):
    return torch.stack([decays.prod(), *[decays[i + 1 :].prod() for i in range(len(decays))]])


@mutant(exercise="averaging_weights", hint="only what came in is there")
def only_taken(decays):
    return torch.cat([torch.ones(1), 1 - decays])


@mutant(exercise="averaging_weights", hint="only what came in is there")
def only_one_minus(decays):
    return 1 - decays


@mutant(exercise="averaging_weights", hint="the products run from the wrong side")
def forwards(decays):
    return torch.stack([decays.prod(), *[(1 - decays[i]) * decays[:i].prod() for i in range(len(decays))]])


@mutant(exercise="averaging_weights", hint="the products run from the wrong side")
def forwards_by_cumprod(decays):
    kept = torch.cat([torch.ones(1), decays.cumprod(0)])
    return torch.cat([torch.ones(1), 1 - decays]) * kept


@mutant(exercise="averaging_weights", hint="one decay is used for all updates")
def first_decay(decays):
    n, d = len(decays), decays[0]
    return torch.stack([d**n, *[(1 - d) * d ** (n - 1 - i) for i in range(n)]])


@mutant(exercise="averaging_weights", hint="one decay is used for all updates")
def last_decay(decays):
    return first_decay(decays.flip(0))


@mutant(exercise="averaging_weights", hint="the start still counts whole")
def whole_start(decays):
    return torch.cat([torch.ones(1), by_a_loop(decays)[1:]])


@mutant(exercise="averaging_weights", hint="scaled so that they add up to 1")
def scaled_to_one(decays):
    shares = own_decay_too(decays)
    return shares / shares.sum()


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


@mutant(exercise="EMA", hint="decay and 1 - decay are swapped")
class SwappedShares(ema.EMA):
    @torch.no_grad()
    def update(self, model):
        for ours, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            ours.lerp_(theirs, self.current_decay())
        for ours, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            ours.copy_(theirs)
        self.updates += 1


@mutant(exercise="EMA", hint="only renames")
class Renamed(ema.EMA):
    @torch.no_grad()
    def update(self, model):
        keep = self.current_decay()
        for ours, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            ours = keep * ours + (1 - keep) * theirs
        for ours, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            ours.copy_(theirs)
        self.updates += 1


@mutant(exercise="EMA", hint="only a copy of the newest weights")
class NewestCopy(ema.EMA):
    def update(self, model):
        self.model.load_state_dict(model.state_dict())
        self.updates += 1


@mutant(exercise="EMA", hint="`update` does not use it")
class DecayItself(ema.EMA):
    @torch.no_grad()
    def update(self, model):
        for ours, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            ours.lerp_(theirs, 1 - self.decay)
        for ours, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            ours.copy_(theirs)
        self.updates += 1


@mutant(exercise="EMA", hint="there is no warm-up")
class NoWarmup(Mine):
    def current_decay(self):
        return self.decay


@mutant(exercise="EMA", hint="even when `warmup=False`")
class WarmupAnyway(Mine):
    def current_decay(self):
        return min(self.decay, (1 + self.updates) / (10 + self.updates))


@mutant(exercise="EMA", hint="the larger is taken")
class MaxForMin(Mine):
    def current_decay(self):
        return max(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay


@mutant(exercise="EMA", hint="the warm-up never ends")
class WarmupWithoutEnd(Mine):
    def current_decay(self):
        return (1 + self.updates) / (10 + self.updates) if self.warmup else self.decay


@mutant(exercise="EMA", hint="never counted up")
class NeverCounted(ema.EMA):
    def update(self, model):
        count = self.updates
        super().update(model)
        self.updates = count


@mutant(exercise="EMA", hint="counted up before the decay is asked for")
class CountedFirst(ema.EMA):
    def update(self, model):
        self.updates += 1
        super().update(model)
        self.updates -= 1


@mutant(exercise="EMA", hint="once an update, not once a tensor")
class CountedEach(ema.EMA):
    @torch.no_grad()
    def update(self, model):
        for ours, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            ours.lerp_(theirs, 1 - self.current_decay())
            self.updates += 1
        for ours, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            ours.copy_(theirs)


@mutant(exercise="EMA", hint="off by one")
class FromOne(Mine):
    def current_decay(self):
        return min(self.decay, (2 + self.updates) / (11 + self.updates)) if self.warmup else self.decay


@mutant(exercise="EMA", hint="stay what they were at the start: copy them")
class WithoutBuffers(ema.EMA):
    @torch.no_grad()
    def update(self, model):
        for ours, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            ours.lerp_(theirs, 1 - self.current_decay())
        self.updates += 1


@mutant(exercise="EMA", hint="the buffers are averaged, too")
class AveragedBuffers(ema.EMA):
    def update(self, model):
        keep = self.current_decay()
        for ours, theirs in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            ours.copy_(keep * ours + (1 - keep) * theirs if ours.is_floating_point() else theirs)
        self.updates += 1


@mutant(exercise="EMA", hint="only matrices are averaged")
class Matrices(ema.EMA):
    def update(self, model):
        before = [p.clone() for p in self.model.parameters()]
        super().update(model)
        with torch.no_grad():
            for ours, old in zip(self.model.parameters(), before, strict=True):
                ours.copy_(ours if ours.ndim == 2 else old)


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


@mutant(exercise="power_decays", hint="the exponent is one too small")
def without_one(sigma_rel, updates):
    return decays_of(power_of(sigma_rel, 1e-9) - 1, updates)


@mutant(exercise="power_decays", hint="the exponent is missing")
def without_power(sigma_rel, updates):
    return 1 - 1 / torch.arange(1, updates + 1, dtype=torch.float64)


@mutant(exercise="power_decays", hint="sigma_rel itself stands where gamma belongs")
def sigma_for_gamma(sigma_rel, updates):
    return decays_of(sigma_rel, updates)


@mutant(exercise="power_decays", hint="NaN or infinite")
def from_zero_on(sigma_rel, updates):
    return (1 - 1 / torch.arange(updates, dtype=torch.float64)) ** (power_of(sigma_rel) + 1)


@mutant(exercise="power_decays", hint="the updates are counted from 2")
def from_two_on(sigma_rel, updates):
    return decays_of(power_of(sigma_rel, 1e-9), updates + 1)[1:]


@mutant(exercise="power_decays", hint="what each update takes in")
def taken_in(sigma_rel, updates):
    return 1 - decays_of(power_of(sigma_rel, 1e-9), updates)


@mutant(exercise="power_decays", hint="that is a profile")
def the_profile(sigma_rel, updates):
    shares = torch.arange(1, updates + 1, dtype=torch.float64) ** power_of(sigma_rel, 1e-9)
    return shares / shares.sum()


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
