"""Lesson 08: what people write for solvers, guidance and the Sampler."""

from itertools import pairwise

import torch

from dit_course import sampling
from dit_course.flow import per_image, step
from dit_course.generation import check_guidance, start
from dit_course.sampling import expand_time
from mutants import mutant, right_answer


def solver(rule):
    """A solver whose step is rule(v, x, t, t_next), v(x, t) with one time for all; the rest as the lesson gives it."""

    def answer(velocity, noise, ts, callback=None):
        x, report = start(noise, ts, callback)
        for t, t_next in pairwise(ts):
            x = rule(lambda x, t: velocity(x, expand_time(t, x)), x, t, t_next)
            report(x)
        return x

    answer.__name__ = rule.__name__
    return answer


def written(exercise, hint):
    """Register a wrong step of a solver."""
    return lambda rule: mutant(exercise, hint)(solver(rule))


def also_right(exercise):
    """Register a right step of a solver."""
    return lambda rule: right_answer(exercise)(solver(rule))


# -- euler -----------------------------------------------------------------------------------------


@also_right("euler")
def spelled_out(v, x, t, t_next):
    return x + (t_next - t) * v(x, t)


@also_right("euler")
def downhill(v, x, t, t_next):
    return x - v(x, t) * (t - t_next)


@right_answer(exercise="euler")
def by_index(velocity, noise, ts, callback=None):
    x, report = start(noise, ts, callback)
    for i in range(len(ts) - 1):
        t = torch.full((x.shape[0],), float(ts[i]))
        x = torch.add(x, velocity(x, t), alpha=float(ts[i + 1] - ts[i]))
        report(x)
    return x


@right_answer(exercise="euler")
def with_its_own_callback(velocity, noise, ts, callback=None):
    if callback:
        callback(0, ts[0].item(), noise)
    x = noise.clone()
    for i, size in enumerate(ts.diff()):
        x += size * velocity(x.clone(), ts[i].repeat(len(x)))
        if callback:
            callback(i + 1, ts[i + 1].item(), x.clone())
    return x


@mutant(exercise="euler", hint="each picture needs its time")
def a_scalar_time(velocity, noise, ts, callback=None):
    x = noise
    for t, t_next in pairwise(ts):
        x = step(x, velocity(x, t), t, t_next)
    return x


@mutant(exercise="euler", hint="each picture needs its time")
def a_plain_number(velocity, noise, ts, callback=None):
    x = noise
    for t, t_next in pairwise(ts.tolist()):
        x = x + (t_next - t) * velocity(x, t)
    return x


@mutant(exercise="euler", hint="changes its input in place")
def in_place(velocity, noise, ts, callback=None):
    x, report = start(noise, ts, callback)
    for t, t_next in pairwise(ts):
        x += (t_next - t) * velocity(x, expand_time(t, x))
        report(x)
    return x


@mutant(exercise="euler", hint="your answer is its input, unchanged")
def not_kept(velocity, noise, ts, callback=None):
    x = noise
    for t, t_next in pairwise(ts):
        step(x, velocity(x, expand_time(t, x)), t, t_next)
    return x


@mutant(exercise="euler", hint="returns a list")
def all_states(velocity, noise, ts, callback=None):
    states = [noise]
    for t, t_next in pairwise(ts):
        states.append(step(states[-1], velocity(states[-1], expand_time(t, noise)), t, t_next))
    return states


@mutant(exercise="euler", hint="the callback does not get every state")
def silent(velocity, noise, ts, callback=None):
    return sampling.euler(velocity, noise, ts)


@mutant(exercise="euler", hint="the callback does not get every state")
def another_name(velocity, noise, ts, callback=None):
    x, report = start(noise, ts, callback)
    y = x
    for t, t_next in pairwise(ts):
        y = step(y, velocity(y, expand_time(t, x)), t, t_next)
        report(x)
    return y


@written("euler", "the velocity is evaluated")
def evaluated_twice(v, x, t, t_next):
    print(v(x, t).mean())
    return step(x, v(x, t), t, t_next)


@mutant(exercise="euler", hint="`velocity` is a function here")
def never_called(velocity, noise, ts, callback=None):
    x = noise
    for t, t_next in pairwise(ts):
        x = step(x, velocity, t, t_next)
    return x


@mutant(exercise="euler", hint="are the two in the right order?")
def time_first(velocity, noise, ts, callback=None):
    x = noise
    for t, t_next in pairwise(ts):
        x = step(x, velocity(x, expand_time(x, t)), t, t_next)
    return x


# -- heun ------------------------------------------------------------------------------------------


@also_right("heun")
def two_halves(v, x, t, t_next):
    here = v(x, t)
    there = v(x + (t_next - t) * here, t_next)
    return step(step(x, here / 2, t, t_next), there / 2, t, t_next)


@also_right("heun")
def by_correction(v, x, t, t_next):
    here = v(x, t)
    ahead = step(x, here, t, t_next)
    return ahead + (t_next - t) * (v(ahead, t_next) - here) / 2


@also_right("heun")
def by_stack(v, x, t, t_next):
    here = v(x, t)
    both = torch.stack([here, v(step(x, here, t, t_next), t_next)])
    return step(x, both.mean(dim=0), t, t_next)


@mutant(exercise="heun", hint="the callback does not get every state with its time")
def told_old_times(velocity, noise, ts, callback=None):
    return sampling.heun(velocity, noise, ts, callback and (lambda index, t, x: callback(index, t / 2, x)))


@mutant(exercise="ab2", hint="the velocity is evaluated")
def two_evaluations(velocity, noise, ts, callback=None):
    return sampling.ab2(lambda x, t: (velocity(x, t) + velocity(x, t)) / 2, noise, ts, callback)


@written("heun", "the velocity is evaluated")
def three_evaluations(v, x, t, t_next):
    return step(x, (v(x, t) + v(step(x, v(x, t), t, t_next), t_next)) / 2, t, t_next)


@mutant(exercise="heun", hint="each picture needs its time")
def heun_with_scalars(velocity, noise, ts, callback=None):
    x = noise
    for t, t_next in pairwise(ts):
        here = velocity(x, t)
        x = step(x, (here + velocity(step(x, here, t, t_next), t_next)) / 2, t, t_next)
    return x


# -- ab2 -------------------------------------------------------------------------------------------


@right_answer(exercise="ab2")
def by_weights(velocity, noise, ts, callback=None):
    x, report = start(noise, ts, callback)
    past = past_size = None
    for t, t_next in pairwise(ts):
        here, size = velocity(x, expand_time(t, x)), t_next - t
        weight = 0 if past is None else float(size / (2 * past_size))
        x = x + size * ((1 + weight) * here - weight * (here if past is None else past))
        past, past_size = here, size
        report(x)
    return x


@right_answer(exercise="ab2")
def by_slope(velocity, noise, ts, callback=None):
    (x, report), past = start(noise, ts, callback), None
    for i in range(len(ts) - 1):
        here, size = velocity(x, expand_time(ts[i], x)), ts[i + 1] - ts[i]
        slope = 0 if past is None else (here - past) / (ts[i] - ts[i - 1])
        x, past = x + size * (here + slope * size / 2), here
        report(x)
    return x


@right_answer(exercise="ab2")
def by_extrapolation(velocity, noise, ts, callback=None):
    x, report = start(noise, ts, callback)
    past, past_size = None, None
    for t, t_next in pairwise(ts):
        here, size = velocity(x, expand_time(t, x)), t_next - t
        middle = here if past is None else torch.lerp(past, here, 1 + (size / past_size / 2).to(x.dtype))
        x = torch.addcmul(x, middle, size.to(x.dtype))
        past, past_size = here, size
        report(x)
    return x


@mutant(exercise="ab2", hint="in the first step there is no past")
def no_first_step(velocity, noise, ts, callback=None):
    x, report = start(noise, ts, callback)
    past, past_size = None, None
    for t, t_next in pairwise(ts):
        here, size = velocity(x, expand_time(t, x)), t_next - t
        x = step(x, here + (here - past) * (size / past_size / 2), t, t_next)
        past, past_size = here, size
        report(x)
    return x


@mutant(exercise="ab2", hint="check whether `past is None`")
def if_past(velocity, noise, ts, callback=None):
    x, report = start(noise, ts, callback)
    past, past_size = None, None
    for t, t_next in pairwise(ts):
        here, size = velocity(x, expand_time(t, x)), t_next - t
        x = step(x, here + (here - past) * (size / past_size / 2) if past else here, t, t_next)
        past, past_size = here, size
        report(x)
    return x


# -- guided ----------------------------------------------------------------------------------------


def guiding(velocity):
    """A `guided` whose inner function is velocity(model, y, no_label, cfg, inside, scale, x, t)."""

    def answer(model, y=None, cfg=2.0, interval=(0.0, 1.0)):
        model = check_guidance(model, y, cfg, interval)
        if y is None:
            return model
        no_label = torch.full_like(y, model.config.num_classes)

        def inner(x, t):
            inside = (t >= interval[0]) & (t <= interval[1])
            scale = per_image(1 + (cfg - 1) * inside.to(x.dtype), x)
            return velocity(model, y, no_label, cfg, inside, scale, x, t)

        return inner

    answer.__name__ = velocity.__name__
    return answer


def steered(hint):
    """Register a wrong `guided`."""
    return lambda velocity: mutant("guided", hint)(guiding(velocity))


def two_passes(model, y, no_label, x, t):
    return model(x, t, y), model(x, t, no_label)


@lambda velocity: right_answer("guided")(guiding(velocity))
def by_lerp(model, y, no_label, cfg, inside, scale, x, t):
    if torch.all(scale == 1):
        return model(x, t, y)
    both = model(torch.cat((x, x), dim=0), t.tile(2), torch.cat((y, no_label)))
    return torch.lerp(both[len(x) :], both[: len(x)], scale.expand_as(x))


@lambda velocity: right_answer("guided")(guiding(velocity))
def from_the_label(model, y, no_label, cfg, inside, scale, x, t):
    if cfg == 1 or not inside.any():
        return model(x, t, y)
    without, with_label = model(x.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([no_label, y])).split(len(x))
    return with_label + (scale - 1) * (with_label - without)


@lambda velocity: right_answer("guided")(guiding(velocity))
def by_where(model, y, no_label, cfg, inside, scale, x, t):
    if (scale == 1).all():
        return model(x, t, y)
    labels = torch.stack([y, no_label], dim=1).flatten()  # each picture twice, side by side
    pairs = model(x.repeat_interleave(2, dim=0), t.repeat_interleave(2), labels).unflatten(0, (len(x), 2))
    with_label, without = pairs.unbind(dim=1)
    return torch.where(per_image(inside, x).bool(), cfg * with_label + (1 - cfg) * without, with_label)


@steered("one batch of double size is quicker")
def in_two_passes(model, y, no_label, cfg, inside, scale, x, t):
    if (scale == 1).all():
        return model(x, t, y)
    with_label, without = two_passes(model, y, no_label, x, t)
    return without + scale * (with_label - without)


@steered("views of one batch, and are changed in place")
def in_place_on_the_halves(model, y, no_label, cfg, inside, scale, x, t):
    if (scale == 1).all():
        return model(x, t, y)
    with_label, without = model(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, no_label])).chunk(2)
    with_label -= without
    return without + scale * with_label


@steered("the network saw 10 pictures where 5 are enough")
def always_two(model, y, no_label, cfg, inside, scale, x, t):
    with_label, without = two_passes(model, y, no_label, x, t)
    return without + scale * (with_label - without)


@steered("the network saw 10 pictures where 5 are enough")
def interval_paid(model, y, no_label, cfg, inside, scale, x, t):
    if cfg == 1:
        return model(x, t, y)
    with_label, without = two_passes(model, y, no_label, x, t)
    return without + scale * (with_label - without)


@steered("each picture needs its time")
def times_not_doubled(model, y, no_label, cfg, inside, scale, x, t):
    both = model(torch.cat([x, x]), t, torch.cat([y, no_label]))
    return both.chunk(2)[0]


@steered("each picture needs its time")
def times_doubled_twice(model, y, no_label, cfg, inside, scale, x, t):
    both = torch.cat([x, x])
    return model(both, t.repeat(len(both)), torch.cat([y, no_label])).chunk(2)[0]


@steered("labels of shape")
def labels_not_doubled(model, y, no_label, cfg, inside, scale, x, t):
    return model(torch.cat([x, x]), torch.cat([t, t]), y).chunk(2)[0]


@steered('4 is its "no label"')
def minus_one(model, y, no_label, cfg, inside, scale, x, t):
    with_label, without = two_passes(model, y, torch.full_like(y, -1), x, t)
    return without + scale * (with_label - without)


@mutant(exercise="guided", hint="should return a function")
def called_at_once(model, y=None, cfg=2.0, interval=(0.0, 1.0)):
    return model(torch.zeros(len(y), 1, 3, 2), torch.zeros(len(y)), y)


@steered("check whether it is so for all of them")
def if_scale(model, y, no_label, cfg, inside, scale, x, t):
    return model(x, t, y) if scale == 1 else model(x, t, no_label)


@steered("per_image(scale, x) shapes it for the batch")
def scale_not_shaped(model, y, no_label, cfg, inside, scale, x, t):
    if (scale == 1).all():
        return model(x, t, y)
    with_label, without = two_passes(model, y, no_label, x, t)
    return without + scale.flatten() * (with_label - without)


@steered("`split` takes the length of a piece")
def cut_to_pieces(model, y, no_label, cfg, inside, scale, x, t):
    with_label, without = model(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, no_label])).split(2)
    return without + scale * (with_label - without)


@steered("torch.cat takes one list")
def cat_of_two(model, y, no_label, cfg, inside, scale, x, t):
    return model(torch.cat(x, x), torch.cat(t, t), torch.cat(y, no_label)).chunk(2)[0]


@steered("the model is called without labels")
def no_label_is_none(model, y, no_label, cfg, inside, scale, x, t):
    with_label, without = model(x, t, y), model(x, t, None)
    return without + scale * (with_label - without)


# -- Sampler ---------------------------------------------------------------------------------------


def sampler(integrate):
    """A class with this method `integrate`; the rest as the lesson gives it."""
    return type(integrate.__name__, (sampling.Sampler,), {"integrate": integrate})


def integrated(hint):
    """Register a wrong `Sampler`."""
    return lambda integrate: mutant("Sampler", hint)(sampler(integrate))


def solved(self, noise, y, callback=None, **changes):
    """The state at the end; changes: ts, cfg, interval, solver."""
    ts = changes.get("ts", torch.linspace(1, 0, self.steps + 1))
    velocity = sampling.guided(self.model, y, changes.get("cfg", self.cfg), changes.get("interval", self.cfg_interval))
    return changes.get("solver", self.solver)(velocity, noise, ts, callback)


@lambda integrate: right_answer("Sampler")(sampler(integrate))
def in_one_line(self, noise, y, callback=None):
    return solved(self, noise, y, callback).mul(0.5).add(0.5).clip(min=0, max=1)


@lambda integrate: right_answer("Sampler")(sampler(integrate))
def clamped_first(self, noise, y, callback=None):
    ts = 1 - torch.arange(self.steps + 1) / self.steps
    return (solved(self, noise, y, callback, ts=ts).clamp(-1, 1) + 1) / 2


@lambda integrate: right_answer("Sampler")(sampler(integrate))
def by_parts(self, noise, y, callback=None):
    model, scale, times = self.model, self.cfg, torch.arange(self.steps, -1, -1) / self.steps
    velocity = sampling.guided(model, y, cfg=scale, interval=self.cfg_interval)
    end = self.solver(velocity, noise, times, callback=callback)
    return torch.clip(end / 2 + 0.5, 0.0, 1.0)


@integrated("the callback is never called")
def no_callback(self, noise, y, callback=None):
    return ((solved(self, noise, y) + 1) / 2).clamp(0, 1)


@integrated("another one at every call")
def noise_of_its_own(self, noise, y, callback=None):
    return ((solved(self, torch.randn_like(noise), y, callback) + 1) / 2).clamp(0, 1)


@mutant(exercise="Sampler", hint="inherit from BaseSampler")
class OnItsOwn:
    def integrate(self, noise, y, callback=None):
        return noise


@integrated("the model is called without labels")
def along_the_model(self, noise, y, callback=None):
    x = self.solver(self.model, noise, torch.linspace(1, 0, self.steps + 1), callback)
    return ((x + 1) / 2).clamp(0, 1)


# -- class_grid ------------------------------------------------------------------------------------


@right_answer(exercise="class_grid")
def by_loop(sampler, per_class, seed):
    rows = []
    for label in range(sampler.model.config.num_classes):
        rows.append(sampler.sample(per_class, labels=[label] * per_class, seed=seed))
    return torch.cat(rows, dim=0)


@right_answer(exercise="class_grid")
def by_stack_and_flatten(sampler, per_class, seed):
    classes = range(sampler.model.config.num_classes)
    return torch.stack([sampler.sample(per_class, label, seed) for label in classes]).flatten(0, 1)


@right_answer(exercise="class_grid")
def by_filling(sampler, per_class, seed):
    config = sampler.model.config
    grid = torch.zeros(config.num_classes * per_class, config.channels, *config.image_shape)
    for label in sampler.classes:
        grid[label * per_class : (label + 1) * per_class] = sampler.sample(per_class, labels=label, seed=seed)
    return grid


@mutant(exercise="class_grid", hint="as many pictures as there are classes")
def a_square(sampler, per_class, seed):
    classes = sampler.model.config.num_classes
    return torch.cat([sampler.sample(classes, label, seed) for label in range(classes)])


@mutant(exercise="class_grid", hint="another one at every call")
def any_seed(sampler, per_class, seed):
    classes = range(sampler.model.config.num_classes)
    return torch.cat([sampler.sample(per_class, label, seed=int(torch.randint(10**6, ()))) for label in classes])


@mutant(exercise="class_grid", hint="returns a list")
def listed(sampler, per_class, seed):
    return [sampler.sample(per_class, label, seed) for label in range(sampler.model.config.num_classes)]


@mutant(exercise="class_grid", hint="only one row comes back")
def returned_too_early(sampler, per_class, seed):
    for label in range(sampler.model.config.num_classes):
        return sampler.sample(per_class, label, seed)


@mutant(exercise="class_grid", hint="only one picture of each class")
def one_a_class(sampler, per_class, seed):
    return torch.cat([sampler.sample(1, label, seed) for label in range(sampler.model.config.num_classes)])


# -- invert ----------------------------------------------------------------------------------------


@right_answer(exercise="invert")
def by_flip(velocity, pictures, steps):
    return sampling.heun(velocity, pictures, torch.linspace(1, 0, steps + 1).flip(0))


@right_answer(exercise="invert")
def step_by_step(velocity, pictures, steps):
    x = pictures
    for k in range(steps):
        t, t_next = torch.full((len(x),), k / steps), torch.full((len(x),), (k + 1) / steps)
        here = velocity(x, t)
        x = x + (here + velocity(x + here / steps, t_next)) / (2 * steps)
    return x


@right_answer(exercise="invert")
def by_a_mirrored_clock(velocity, pictures, steps):
    return sampling.heun(lambda x, t: -velocity(x, 1 - t), pictures, torch.linspace(1, 0, steps + 1))


@mutant(exercise="invert", hint="a solver wants a row of times")
def a_number_of_steps(velocity, pictures, steps):
    return sampling.heun(velocity, pictures, steps)


@mutant(exercise="invert", hint="`velocity` is a function here")
def minus_a_function(velocity, pictures, steps):
    return sampling.heun(-velocity, pictures, torch.linspace(0, 1, steps + 1))
