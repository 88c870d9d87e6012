"""Lesson 05: what people write for the path, its ends, times, and the loss."""

import math

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
def by_way_of_the_data(x_t, velocity, t):
    return x_t - per_image(t, x_t) * velocity + velocity


@mutant(exercise="noise_from_velocity", hint="does yours fit one number of axes only?")
def for_points_only(x_t, velocity, t):
    return x_t + (1 - t)[:, None] * velocity


# -- RectifiedFlow ---------------------------------------------------------------------------------


def predict(model, x_t, t, y):
    return model(x_t, t) if y is None else model(x_t, t, y)


def reduced(error, reduction):
    return error.mean() if reduction == "mean" else error.flatten(1).mean(1)


class Given(flow.RectifiedFlow):
    """What the notebook gives: all but `loss`."""

    def pieces(self, model, x, y, generator):
        """Noise and prediction, as they should be."""
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        return noise, predict(model, flow.interpolate(x, noise, t), t, y)


@right_answer(exercise="RectifiedFlow")
class NoiseFirst(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise = torch.randn(x.shape, generator=generator)
        t = self.timesteps(len(x), generator)
        prediction = predict(model, flow.interpolate(x, noise, t), t, y)
        return reduced((noise - x - prediction) ** 2, reduction)


@right_answer(exercise="RectifiedFlow")
class ByMseLoss(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise, prediction = self.pieces(model, x, y, generator)
        error = F.mse_loss(prediction, flow.velocity_target(x, noise), reduction="none")
        return error.mean() if reduction == "mean" else error.mean(dim=(1, 2, 3))


@right_answer(exercise="RectifiedFlow")
class WithoutHelpers(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(x.shape[0], generator)
        noise = torch.empty_like(x).normal_(generator=generator)
        s = t.reshape(-1, 1, 1, 1)
        x_t = x * (1 - s) + noise * s
        prediction = model(x_t, t) if y is None else model(x_t, t, y)
        each = (prediction - (noise - x)).pow(2).flatten(1).mean(1)
        return each if reduction == "none" else each.mean()


@mutant(exercise="RectifiedFlow", hint="the sign of the target is wrong")
class TargetBackwards(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise, prediction = self.pieces(model, x, y, generator)
        return reduced((prediction - (x - noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="your target is the noise")
class NoiseTarget(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise, prediction = self.pieces(model, x, y, generator)
        return reduced((prediction - noise).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="your target is the picture")
class PictureTarget(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        _, prediction = self.pieces(model, x, y, generator)
        return reduced((prediction - x).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="your target is x_t")
class PlaceTarget(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        x_t = flow.interpolate(x, torch.randn(x.shape, generator=generator), t)
        return reduced((predict(model, x_t, t, y) - x_t).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="only made positive")
class Absolute(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise, prediction = self.pieces(model, x, y, generator)
        return reduced((prediction - flow.velocity_target(x, noise)).abs(), reduction)


@mutant(exercise="RectifiedFlow", hint="too high and too low cancel")
class NotSquared(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise, prediction = self.pieces(model, x, y, generator)
        return reduced(flow.velocity_target(x, noise) - prediction, reduction)


@mutant(exercise="RectifiedFlow", hint="too high and too low cancel")
class OnlyTheDifference(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise, prediction = self.pieces(model, x, y, generator)
        return reduced(prediction - flow.velocity_target(x, noise), reduction)


@mutant(exercise="RectifiedFlow", hint="the squared error is halved")
class Halved(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise, prediction = self.pieces(model, x, y, generator)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction) / 2


@mutant(exercise="RectifiedFlow", hint="a root over the mean")
class RootMeanSquare(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise, prediction = self.pieces(model, x, y, generator)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction).sqrt()


@mutant(exercise="RectifiedFlow", hint="the squared errors are summed")
class Summed(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise, prediction = self.pieces(model, x, y, generator)
        return (prediction - flow.velocity_target(x, noise)).square().sum()


@mutant(exercise="RectifiedFlow", hint="the squared errors are summed")
class SummedOfEach(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise, prediction = self.pieces(model, x, y, generator)
        each = (prediction - flow.velocity_target(x, noise)).square().flatten(1).sum(1)
        return each.mean() if reduction == "mean" else each


@mutant(exercise="RectifiedFlow", hint="the reduction is ignored")
class AlwaysTheMean(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise, prediction = self.pieces(model, x, y, generator)
        return F.mse_loss(prediction, flow.velocity_target(x, noise))


@mutant(exercise="RectifiedFlow", hint="the reduction is ignored")
class AlwaysEach(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise, prediction = self.pieces(model, x, y, generator)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), "none")


@mutant(exercise="RectifiedFlow", hint="every pixel keeps its own error")
class NotAveraged(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise, prediction = self.pieces(model, x, y, generator)
        return (prediction - flow.velocity_target(x, noise)).square()


@mutant(exercise="RectifiedFlow", hint="every pixel keeps its own error")
class ReductionHandedOn(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise, prediction = self.pieces(model, x, y, generator)
        return F.mse_loss(prediction, flow.velocity_target(x, noise), reduction=reduction)


@mutant(exercise="RectifiedFlow", hint="x and noise have changed places on the path")
class SwappedPath(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        prediction = predict(model, flow.interpolate(noise, x, t), t, y)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="x_t is the noise alone")
class OnlyNoise(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        return reduced((predict(model, noise, t, y) - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="x_t is the picture itself")
class CleanPicture(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        return reduced((predict(model, x, t, y) - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="x_t is the velocity")
class VelocityIn(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        target = flow.velocity_target(x, torch.randn(x.shape, generator=generator))
        return reduced((predict(model, target, t, y) - target).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="the picture does not fade")
class NoiseOnTop(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        x_t = x + per_image(t, x) * noise
        return reduced((predict(model, x_t, t, y) - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="the noise lies between 0 and 1")
class UniformNoise(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.rand(x.shape, generator=generator)
        prediction = predict(model, flow.interpolate(x, noise, t), t, y)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="the noise in your x_t should be normal with mean 0 and std 1")
class LoudNoise(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = 2 * torch.randn(x.shape, generator=generator)
        prediction = predict(model, flow.interpolate(x, noise, t), t, y)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="all pictures get the same noise")
class SharedNoise(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape[1:], generator=generator).expand_as(x)
        prediction = predict(model, flow.interpolate(x, noise, t), t, y)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="the times do not come from self.timesteps")
class TimesOfItsOwn(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = torch.rand(len(x), generator=generator)
        noise = torch.randn(x.shape, generator=generator)
        prediction = predict(model, flow.interpolate(x, noise, t), t, y)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="there is one time for all pictures")
class OneTime(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(1, generator).expand(len(x))
        noise = torch.randn(x.shape, generator=generator)
        prediction = predict(model, flow.interpolate(x, noise, t), t, y)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="times are drawn twice")
class TimesTwice(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise = torch.randn(x.shape, generator=generator)
        x_t = flow.interpolate(x, noise, self.timesteps(len(x), generator))
        prediction = predict(model, x_t, self.timesteps(len(x), generator), y)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="the model is told 1 - t")
class TimeReversed(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        prediction = predict(model, flow.interpolate(x, noise, t), 1 - t, y)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="the model is told 1000 t")
class Thousands(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        prediction = predict(model, flow.interpolate(x, noise, t), 1000 * t, y)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="the model is told another t")
class TimeSquared(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        prediction = predict(model, flow.interpolate(x, noise, t), t**2, y)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="it should be one time for each picture")
class ShapedTime(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = per_image(self.timesteps(len(x), generator), x)
        noise = torch.randn(x.shape, generator=generator)
        prediction = predict(model, (1 - t) * x + t * noise, t, y)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="though its generator starts the same: the noise does not come from it")
class NoiseFromElsewhere(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn_like(x)
        prediction = predict(model, flow.interpolate(x, noise, t), t, y)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="hand `generator` on to self.timesteps")
class TimesFromElsewhere(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x))
        noise = torch.randn(x.shape, generator=generator)
        prediction = predict(model, flow.interpolate(x, noise, t), t, y)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="the model does not get the labels y")
class WrongLabels(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        y = None if y is None else torch.zeros_like(y)
        noise, prediction = self.pieces(model, x, y, generator)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="call model(x_t, t, y) where there are labels")
class LabelsForgotten(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        noise, prediction = self.pieces(model, x, None, generator)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="call model(x_t, t, y) where there are labels")
class AlwaysLabels(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        prediction = model(flow.interpolate(x, noise, t), t, y)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="the model is never called")
class NeverCalled(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        x_t = flow.interpolate(x, noise, t)
        return reduced((x_t - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="the model gets x_t of shape")
class OneAtATime(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        x_t = flow.interpolate(x, noise, t)
        prediction = torch.cat([model(x_t[i : i + 1], t[i : i + 1]) for i in range(len(x))])
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="no gradient gets through")
class WithoutGradient(Given):
    @torch.no_grad()
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        return super().loss(model, x, y, generator, reduction)


@mutant(exercise="RectifiedFlow", hint="it should be a tensor")
class AsANumber(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        return super().loss(model, x, y, generator, "mean").item()


@mutant(exercise="RectifiedFlow", hint="changes its input in place")
class InPlace(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        target = noise - x
        x += per_image(t, x) * target
        return reduced((predict(model, x, t, y) - target).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="the model takes (x_t, t) or (x_t, t, y), all of them tensors")
class PlainTime(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        prediction = predict(model, flow.interpolate(x, noise, t), t[0].item(), y)
        return reduced((prediction - flow.velocity_target(x, noise)).square(), reduction)


@mutant(exercise="RectifiedFlow", hint="should be a class")
def a_function(model, x, y=None):
    return flow.RectifiedFlow().loss(model, x, y)


@mutant(exercise="RectifiedFlow", hint="made of another noise than your x_t")
class AnotherNoise(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        x_t = flow.interpolate(x, noise, t)
        prediction = predict(model, x_t, t, y)
        error = (prediction - (torch.randn(x.shape, generator=generator) - x)).square()
        return reduced(error, reduction)


@mutant(exercise="RectifiedFlow", hint="made of another noise than your x_t")
class AnotherNoiseFromElsewhere(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        x_t = flow.interpolate(x, noise, t)
        prediction = predict(model, x_t, t, y)
        error = (prediction - (torch.randn_like(x) - x)).square()
        return reduced(error, reduction)


@mutant(exercise="RectifiedFlow", hint="made of another noise than your x_t")
class AnotherNoiseOnThePath(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        x_t = flow.interpolate(x, torch.randn(x.shape, generator=generator), t)
        prediction = predict(model, x_t, t, y)
        error = (prediction - (noise - x)).square()
        return reduced(error, reduction)


@mutant(exercise="RectifiedFlow", hint="your target is a part of the path")
class FromThePlace(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        x_t = flow.interpolate(x, noise, t)
        prediction = predict(model, x_t, t, y)
        error = (prediction - (noise - x_t)).square()
        return reduced(error, reduction)


@mutant(exercise="RectifiedFlow", hint="your target is a part of the path")
class ToThePlace(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        x_t = flow.interpolate(x, noise, t)
        prediction = predict(model, x_t, t, y)
        error = (prediction - (x_t - x)).square()
        return reduced(error, reduction)


@mutant(exercise="RectifiedFlow", hint="compare the velocities themselves")
class ComparedPictures(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        x_t = flow.interpolate(x, noise, t)
        prediction = predict(model, x_t, t, y)
        error = (flow.data_from_velocity(x_t, prediction, t) - x).square()
        return reduced(error, reduction)


@mutant(exercise="RectifiedFlow", hint="compare the velocities themselves")
class ComparedNoises(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        x_t = flow.interpolate(x, noise, t)
        prediction = predict(model, x_t, t, y)
        error = (flow.noise_from_velocity(x_t, prediction, t) - noise).square()
        return reduced(error, reduction)


@mutant(exercise="RectifiedFlow", hint="this error is a single number already")
class AveragedTwice(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        x_t = flow.interpolate(x, noise, t)
        prediction = predict(model, x_t, t, y)
        error = (prediction - (noise - x)).square().mean()
        return reduced(error, reduction)


@mutant(exercise="RectifiedFlow", hint="this error is a single number already")
class AveragedFirst(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        x_t = flow.interpolate(x, noise, t)
        prediction = predict(model, x_t, t, y)
        error = (prediction - (noise - x)).mean().square()
        return reduced(error, reduction)


@mutant(exercise="RectifiedFlow", hint="what takes your means?")
class AveragedWrongAxes(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        x_t = flow.interpolate(x, noise, t)
        prediction = predict(model, x_t, t, y)
        error = (prediction - (noise - x)).square()
        return error.mean() if reduction == "mean" else error.mean(dim=(0, 2, 3))


@mutant(exercise="RectifiedFlow", hint="t and y have changed places")
class TimeAndLabelsSwapped(Given):
    def loss(self, model, x, y=None, generator=None, reduction="mean"):
        t = self.timesteps(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        x_t = flow.interpolate(x, noise, t)
        prediction = predict(model, x_t, y, t)
        error = (prediction - (noise - x)).square()
        return reduced(error, reduction)


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
