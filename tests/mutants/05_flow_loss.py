"""Lesson 05: what people write for the path, its ends, times, and the loss."""

import math
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from dit_course import flow
from dit_course.flow import per_image, step
from mutants import mutant, right_answer

# -- interpolate -----------------------------------------------------------------------------------


@right_answer(exercise="interpolate")
def from_the_data_on(x, noise, t):
    return x + per_image(t, x) * (noise - x)


@right_answer(exercise="interpolate")
def by_lerp(x, noise, t):
    return torch.lerp(x, noise, per_image(t, x))


@right_answer(exercise="interpolate")
def picture_by_picture(x, noise, t):
    return torch.stack([(1 - t[i]) * x[i] + t[i] * noise[i] for i in range(len(x))])


@right_answer(exercise="interpolate")
def by_einsum(x, noise, t):
    return torch.einsum("b,b...->b...", 1 - t, x) + torch.einsum("b,b...->b...", t, noise)


@right_answer(exercise="interpolate")
def by_view(x, noise, t):
    t = t.view(-1, *[1] * (x.dim() - 1))
    return noise * t + x - x * t


@mutant(exercise="interpolate", hint="does yours fit one number of axes only?")
def four_axes(x, noise, t):
    t = t.reshape(-1, 1, 1, 1)
    return (1 - t) * x + t * noise


@mutant(exercise="interpolate", hint="does yours fit one number of axes only?")
def one_more_axis(x, noise, t):
    t = t[:, None]
    return (1 - t) * x + t * noise


# -- velocity_target -------------------------------------------------------------------------------


@right_answer(exercise="velocity_target")
def by_sub(x, noise):
    return torch.sub(noise, x)


@right_answer(exercise="velocity_target")
def as_a_derivative(x, noise):
    return torch.func.jvp(lambda t: (1 - t) * x + t * noise, (x.new_tensor(0.3),), (x.new_tensor(1.0),))[1]


@right_answer(exercise="velocity_target")
def minus_and_plus(x, noise):
    return -x + noise


@mutant(exercise="velocity_target", hint="your answer is its input, unchanged")
def data_prediction(x, noise):
    return x


@mutant(exercise="velocity_target", hint="your answer is 0.5 times the right one")
def halved(x, noise):
    return (noise - x) / 2


@mutant(exercise="velocity_target", hint="it should be a tensor")
def a_number(x, noise):
    return (noise - x).mean().item()


@mutant(exercise="velocity_target", hint="missing 1 required positional argument")
def with_a_time(x, noise, t):
    return noise - x


# -- data_from_velocity ----------------------------------------------------------------------------


@right_answer(exercise="data_from_velocity")
def by_a_step(x_t, velocity, t):
    return step(x_t, velocity, t, torch.zeros_like(t))


@right_answer(exercise="data_from_velocity")
def each_picture(x_t, velocity, t):
    return torch.stack([place - time * speed for place, speed, time in zip(x_t, velocity, t, strict=True)])


@right_answer(exercise="data_from_velocity")
def with_new_axes(x_t, velocity, t):
    while t.ndim < x_t.ndim:
        t = t.unsqueeze(-1)
    return x_t - t * velocity


@mutant(exercise="data_from_velocity", hint="does yours fit one number of axes only?")
def for_pictures_only(x_t, velocity, t):
    return x_t - t[:, None, None, None] * velocity


# -- noise_from_velocity ---------------------------------------------------------------------------


@right_answer(exercise="noise_from_velocity")
def by_a_step_forward(x_t, velocity, t):
    return step(x_t, velocity, t, torch.ones_like(t))


@right_answer(exercise="noise_from_velocity")
def by_addcmul(x_t, velocity, t):
    return torch.addcmul(x_t, 1 - t.view(-1, *[1] * (x_t.ndim - 1)), velocity)


@right_answer(exercise="noise_from_velocity")
def by_way_of_the_data(x_t, velocity, t):
    return x_t - per_image(t, x_t) * velocity + velocity


@mutant(exercise="noise_from_velocity", hint="does yours fit one number of axes only?")
def for_points_only(x_t, velocity, t):
    return x_t + (1 - t)[:, None] * velocity


# -- rules that these four share -------------------------------------------------------------------


def shared(right):
    """A result without its axes of size 1, one whose large numbers are cut off, and clamped times."""

    def squeezed(*args):
        return right(*args).squeeze()

    def cut_off(*args):
        return right(*args).clamp(-1, 1)

    def ends_cut_off(x, other, t):
        return right(x, other, t.clamp(0.02, 0.98))

    mutant(right.__name__, "an axis of size 1 is gone")(squeezed)
    mutant(right.__name__, "large numbers are cut off")(cut_off)
    if right is not flow.velocity_target:
        mutant(right.__name__, "only t = 0 and t = 1 come out wrong")(ends_cut_off)


for right in (flow.interpolate, flow.velocity_target, flow.data_from_velocity, flow.noise_from_velocity):
    shared(right)

# -- RectifiedFlow ---------------------------------------------------------------------------------


def predict(model, x_t, t, y):
    return model(x_t, t) if y is None else model(x_t, t, y)


def reduced(error, reduction):
    return error.mean() if reduction == "mean" else error.flatten(1).mean(1)


STEPS = {  # of `loss`, each made of those before it
    "t": lambda r: r.flow.timesteps(len(r.x), r.generator),
    "noise": lambda r: torch.randn(r.x.shape, generator=r.generator),
    "x_t": lambda r: flow.interpolate(r.x, r.noise, r.t),
    "told": lambda r: r.t,
    "labels": lambda r: r.y,
    "prediction": lambda r: predict(r.model, r.x_t, r.told, r.labels),
    "target": lambda r: r.noise - r.x,
    "error": lambda r: (r.prediction - r.target).square(),
    "loss": lambda r: reduced(r.error, r.reduction),
}


def with_loss(**changes):
    """A `RectifiedFlow` whose `loss` takes some of its steps otherwise."""

    class Flow(flow.RectifiedFlow):
        def loss(self, model, x, y=None, generator=None, reduction="mean"):
            record = SimpleNamespace(flow=self, model=model, x=x, y=y, generator=generator, reduction=reduction)
            for step_of_loss, made in (STEPS | changes).items():
                setattr(record, step_of_loss, made(record))
            return record.loss

    Flow.__name__ = f"another_{'_and_'.join(changes)}"
    return Flow


@right_answer(exercise="RectifiedFlow")
class NoiseFirst(flow.RectifiedFlow):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise = torch.randn(x.shape, generator=generator)
        t = self.timesteps(len(x), generator)
        prediction = predict(model, flow.interpolate(x, noise, t), t, y)
        return reduced((noise - x - prediction) ** 2, reduction)


@right_answer(exercise="RectifiedFlow")
class ByMseLoss(flow.RectifiedFlow):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t, noise = self.timesteps(len(x), generator), torch.randn(x.shape, generator=generator)
        prediction = predict(model, flow.interpolate(x, noise, t), t, y)
        error = F.mse_loss(prediction, flow.velocity_target(x, noise), reduction="none")
        return error.mean() if reduction == "mean" else error.mean(dim=(1, 2, 3))


@right_answer(exercise="RectifiedFlow")
class WithoutHelpers(flow.RectifiedFlow):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(x.shape[0], generator)
        noise = torch.empty_like(x).normal_(generator=generator)
        s = t.reshape(-1, 1, 1, 1)
        x_t = x * (1 - s) + noise * s
        prediction = model(x_t, t) if y is None else model(x_t, t, y)
        each = (prediction - (noise - x)).pow(2).flatten(1).mean(1)
        return each if reduction == "none" else each.mean()


WRONG = {
    "the sign of the target is wrong": [{"target": lambda r: r.x - r.noise}],
    "your target is the noise": [{"target": lambda r: r.noise}],
    "your target is the picture": [{"target": lambda r: r.x}],
    "your target is x_t": [{"target": lambda r: r.x_t}],
    "your target is a part of the path": [{"target": lambda r: r.noise - r.x_t}, {"target": lambda r: r.x_t - r.x}],
    "made of another noise than your x_t": [
        {"target": lambda r: torch.randn(r.x.shape, generator=r.generator) - r.x},
        {"target": lambda r: torch.randn_like(r.x) - r.x},
        {"x_t": lambda r: flow.interpolate(r.x, torch.randn(r.x.shape, generator=r.generator), r.t)},
    ],
    "compare the velocities themselves": [
        {"error": lambda r: (flow.data_from_velocity(r.x_t, r.prediction, r.t) - r.x).square()},
        {"error": lambda r: (flow.noise_from_velocity(r.x_t, r.prediction, r.t) - r.noise).square()},
    ],
    "only made positive": [{"error": lambda r: (r.prediction - r.target).abs()}],
    "too high and too low cancel": [
        {"error": lambda r: r.target - r.prediction},
        {"error": lambda r: r.prediction - r.target},
    ],
    "beyond 1 the errors are not squared": [
        {"error": lambda r: F.huber_loss(r.prediction, r.target, reduction="none")},
        {"error": lambda r: F.smooth_l1_loss(r.prediction, r.target, reduction="none")},
    ],
    "the squared error is halved": [{"loss": lambda r: reduced(r.error, r.reduction) / 2}],
    "a root over the mean": [{"loss": lambda r: reduced(r.error, r.reduction).sqrt()}],
    "the squared errors are summed": [
        {"loss": lambda r: r.error.sum()},
        {"loss": lambda r: reduced(r.error.flatten(1).sum(1)[:, None], r.reduction)},
    ],
    "the reduction is ignored": [
        {"loss": lambda r: r.error.mean()},
        {"loss": lambda r: reduced(r.error, "none")},
    ],
    "every pixel keeps its own error": [
        {"loss": lambda r: r.error},
        {"loss": lambda r: F.mse_loss(r.prediction, r.target, reduction=r.reduction)},
    ],
    "this error is a single number already": [
        {"error": lambda r: (r.prediction - r.target).square().mean()},
        {"error": lambda r: (r.prediction - r.target).mean().square()},
    ],
    "over which axes?": [{"loss": lambda r: r.error.mean() if r.reduction == "mean" else r.error.mean(dim=(0, 2, 3))}],
    "it should be a tensor": [{"loss": lambda r: r.error.mean().item()}],
    "the gradient of a parameter is not": [
        {"loss": lambda r: torch.tensor(reduced(r.error, r.reduction).tolist(), requires_grad=True)}
    ],
    "x and noise have changed places on the path": [{"x_t": lambda r: flow.interpolate(r.noise, r.x, r.t)}],
    "x_t is the noise alone": [{"x_t": lambda r: r.noise}],
    "x_t is the picture itself": [{"x_t": lambda r: r.x}],
    "x_t is the velocity": [{"x_t": lambda r: r.noise - r.x}],
    "the picture does not fade": [{"x_t": lambda r: r.x + per_image(r.t, r.x) * r.noise}],
    "x_t is cut off": [{"x_t": lambda r: flow.interpolate(r.x, r.noise, r.t).clamp(-1, 1)}],
    "changes its input in place": [{"x_t": lambda r: r.x.add_(per_image(r.t, r.x) * (r.noise - r.x))}],
    "the model gets x_t of shape": [
        {"prediction": lambda r: torch.cat([r.model(r.x_t[i : i + 1], r.t[i : i + 1]) for i in range(len(r.x))])}
    ],
    "the noise lies between 0 and 1": [{"noise": lambda r: torch.rand(r.x.shape, generator=r.generator)}],
    "the noise in your x_t should be normal with mean 0 and std 1": [
        {"noise": lambda r: 2 * torch.randn(r.x.shape, generator=r.generator)},
        {"noise": lambda r: torch.randn(r.x.shape, generator=r.generator).clamp(-2, 2)},
    ],
    "all pictures get the same noise": [
        {"noise": lambda r: torch.randn(r.x.shape[1:], generator=r.generator).expand_as(r.x)}
    ],
    "numbers of your noise know of each other": [
        {"noise": lambda r: torch.randn(r.x[:, :1].shape, generator=r.generator).expand_as(r.x)},
        {"noise": lambda r: torch.randn(r.x[..., :1].shape, generator=r.generator).expand_as(r.x)},
    ],
    "the mean is taken out of your noise": [
        {"noise": lambda r: (z := torch.randn(r.x.shape, generator=r.generator)) - z.mean((1, 2, 3), keepdim=True)}
    ],
    "though its generator starts the same: the noise does not come from it": [
        {"noise": lambda r: torch.randn_like(r.x)}
    ],
    "at a second call the noise is that of the first": [
        {"noise": lambda r: torch.randn(r.x.shape, generator=torch.Generator().manual_seed(0))}
    ],
    "at a second call the times are those of the first": [
        {"t": lambda r: r.flow.timesteps(len(r.x), torch.Generator().manual_seed(0))},
        {"t": lambda r: r.flow.timesteps(len(r.x), r.generator or torch.manual_seed(0))},
    ],
    "hand `generator` on to self.timesteps": [{"t": lambda r: r.flow.timesteps(len(r.x))}],
    "the times do not come from self.timesteps": [{"t": lambda r: torch.rand(len(r.x), generator=r.generator)}],
    "there is one time for all pictures": [{"t": lambda r: r.flow.timesteps(1, r.generator).expand(len(r.x))}],
    "times are drawn twice": [{"told": lambda r: r.flow.timesteps(len(r.x), r.generator)}],
    "the model is told 1 - t": [{"told": lambda r: 1 - r.t}],
    "the model is told 1000 t": [{"told": lambda r: 1000 * r.t}],
    "the model is told another t": [{"told": lambda r: r.t**2}, {"t": lambda r: STEPS["t"](r).clamp(0.02, 0.98)}],
    "it should be one time for each picture": [{"told": lambda r: per_image(r.t, r.x)}],
    "the model takes (x_t, t) or (x_t, t, y), all of them tensors": [{"told": lambda r: r.t[0].item()}],
    "the model does not get the labels y": [{"labels": lambda r: None if r.y is None else torch.zeros_like(r.y)}],
    "call model(x_t, t, y) where there are labels": [
        {"labels": lambda r: None},
        {"prediction": lambda r: r.model(r.x_t, r.t, r.y)},
    ],
    "t and y have changed places": [{"told": lambda r: r.y, "labels": lambda r: r.t}],
    "the model is never called": [{"prediction": lambda r: r.x_t}],
}
for hint, versions in WRONG.items():
    for changes in versions:
        mutant("RectifiedFlow", hint)(with_loss(**changes))


@mutant(exercise="RectifiedFlow", hint="no gradient gets through")
class WithoutGradient(flow.RectifiedFlow):
    @torch.no_grad()
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        return super().loss(model, x, y, generator, reduction)


@mutant(exercise="RectifiedFlow", hint="the line in `__init__` was right as it was")
class WithoutNames(flow.RectifiedFlow):
    def __init__(self, timesteps="logit_normal"):
        self.timesteps = timesteps


@mutant(exercise="RectifiedFlow", hint="should be a class")
def a_function(model, x, y=None):
    return flow.RectifiedFlow().loss(model, x, y)


# -- logit_normal ----------------------------------------------------------------------------------


@right_answer(exercise="logit_normal")
def by_hand(n, generator=None, mean=0.0, std=1.0):
    return 1 / (1 + torch.exp(-(mean + std * torch.randn(n, generator=generator))))


@right_answer(exercise="logit_normal")
def by_normal(n, generator=None, mean=0.0, std=1.0):
    return torch.normal(mean, std, (n,), generator=generator).sigmoid()


@right_answer(exercise="logit_normal")
def from_uniform_numbers(n, generator=None, mean=0.0, std=1.0):
    u = torch.rand(n, generator=generator).clamp(1e-6, 1 - 1e-6)
    return torch.sigmoid(mean + std * torch.special.ndtri(u))


@right_answer(exercise="logit_normal")
def one_by_one(n, generator=None, mean=0.0, std=1.0):
    return torch.stack([torch.sigmoid(mean + std * torch.randn((), generator=generator)) for _ in range(n)])


@right_answer(exercise="logit_normal")
def in_place(n, generator=None, mean=0.0, std=1.0):
    return torch.empty(n).normal_(mean, std, generator=generator).sigmoid_()


@mutant(exercise="logit_normal", hint="torch.logit is the inverse")
def logit_for_sigmoid(n, generator=None, mean=0.0, std=1.0):
    return torch.logit(mean + std * torch.randn(n, generator=generator))


@mutant(exercise="logit_normal", hint="though its generator starts the same")
def generator_forgotten(n, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(mean + std * torch.randn(n))


@mutant(exercise="logit_normal", hint="the same for every generator")
def seeded_inside(n, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(mean + std * torch.randn(n, generator=torch.Generator().manual_seed(0)))


@mutant(exercise="logit_normal", hint="'NoneType' object has no attribute 'device'")
def always_a_generator(n, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(mean + std * torch.randn(n, generator=generator, device=generator.device))


@mutant(exercise="logit_normal", hint="axis of size 1 too many")
def a_column(n, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(mean + std * torch.randn(n, 1, generator=generator))


@mutant(exercise="logit_normal", hint="your answer has shape ()")
def a_single_time(n, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(mean + std * torch.randn((), generator=generator))


@mutant(exercise="logit_normal", hint="there is one time for all")
def one_number(n, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(mean + std * torch.randn(1, generator=generator))


@mutant(exercise="logit_normal", hint="there is one time for all")
def one_number_repeated(n, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(mean + std * torch.randn(1, generator=generator)).repeat(n)


@mutant(exercise="logit_normal", hint="times near 0 and 1 are cut off")
def clamped(n, generator=None, mean=0.0, std=1.0):
    return flow.logit_normal(n, generator, mean, std).clamp(0.02, 0.98)


@mutant(exercise="logit_normal", hint="one tells about another")
def in_order(n, generator=None, mean=0.0, std=1.0):
    return flow.logit_normal(n, generator, mean, std).sort().values


@mutant(exercise="logit_normal", hint="one tells about another")
def in_pairs(n, generator=None, mean=0.0, std=1.0):
    z = torch.randn(n // 2, generator=generator)
    return torch.sigmoid(mean + std * torch.cat([z, -z]))


@mutant(exercise="logit_normal", hint="what should mean and std do to the normal numbers?")
def root_of_std(n, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(mean + std**0.5 * torch.randn(n, generator=generator))


# -- shift -----------------------------------------------------------------------------------------


@right_answer(exercise="shift")
def by_ratio(t, factor):
    return factor * t / (1 - t + factor * t)


@right_answer(exercise="shift")
def by_logit(t, factor):
    return torch.sigmoid(torch.logit(t) + math.log(factor))


@right_answer(exercise="shift")
def from_the_other_end(t, factor):
    return 1 - (1 - t) / (1 + (factor - 1) * t)


@mutant(exercise="shift", hint="right inside, but not at the ends")
def zero_over_zero(t, factor):
    ratio = factor * t / (1 - t)
    return ratio / (1 + ratio)


@mutant(exercise="shift", hint="does the factor stand wherever it should?")
def for_this_factor_only(t, factor):
    return 3 * t / (1 + 2 * t)


# -- loss_at -----------------------------------------------------------------------------------------


@right_answer(exercise="loss_at")
def by_a_named_function(t, model, x, y, seed=0):
    def always(n, generator=None):
        return t * torch.ones(n)

    with torch.no_grad():
        return flow.RectifiedFlow(always).loss(model, x, y, torch.Generator().manual_seed(seed))


@right_answer(exercise="loss_at")
@torch.no_grad()
def without_the_class(t, model, x, y, seed=0):
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    times = torch.full((len(x),), t)
    return (model(flow.interpolate(x, noise, times), times, y) - (noise - x)).square().mean()


@mutant(exercise="loss_at", hint="the model does not get the labels")
def without_labels(t, model, x, y, seed=0):
    return flow.RectifiedFlow(lambda n, generator: torch.full((n,), t)).loss(model, x)


@mutant(exercise="loss_at", hint="the model gets t of shape (1,)")
def one_time(t, model, x, y, seed=0):
    return flow.RectifiedFlow(lambda n, generator: torch.tensor([t])).loss(model, x, y)
