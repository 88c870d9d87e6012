"""What lesson 05's random functions are tried with: fair to every order of draws, and clear about each mistake."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import Generator, Tensor

from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import Case
from dit_course.check.engine.modules import AnswerError, explain_errors
from dit_course.check.lesson_05_flow_loss.chance import (
    has_no_mean,
    is_cut_off,
    is_independent,
    is_noise,
    is_normal,
    is_table,
)
from dit_course.flow import per_image, uniform, velocity_target

ANOTHER = "your result is another one at every call, though its generator starts the same"


# -- wrong versions --------------------------------------------------------------------------------


def weighted(of_data: Callable, of_noise: Callable) -> Callable:
    """A wrong `interpolate`: other shares of data and noise."""
    return lambda x, noise, t: of_data(per_image(t, x)) * x + of_noise(per_image(t, x)) * noise


def of_the_same_z(make: Callable, draw: Callable = torch.randn) -> Callable:
    """A wrong `logit_normal` that makes something else, make(z, mean, std), of the same random numbers."""
    return lambda n, generator, mean=0.0, std=1.0: make(draw(n, generator=generator), mean, std)


# -- times: however they are drawn, they only have to be distributed right ----------------------


@dataclass(frozen=True)
class TimesCase(Case):
    """args: (n, mean and std or nothing). An answer whose times have the right distribution counts as the course's own.

    So a right answer may draw its numbers differently. reference: the course's version.
    """

    seed: int = 0
    reference: Callable = None

    def draw(self, answer: Callable, seed: int | None = None, elsewhere: int = 0) -> object:
        """One call, with a generator that starts at `seed`, and torch's own at `elsewhere`."""
        n, *shape = self.args
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(elsewhere)
            return answer(n, Generator().manual_seed(self.seed if seed is None else seed), *shape)

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Raises AnswerError where the generator does not decide."""
        n, *shape = self.args
        t = self.draw(answer, elsewhere=int(torch.randint(10_000, ())))
        if answer is self.reference or not is_table(t, (n,)):
            return t, self.args
        if not torch.equal(t, self.draw(answer, elsewhere=10_001)):
            raise AnswerError(f"{ANOTHER}: hand `generator` on to torch.randn")
        if not is_normal(torch.logit(t.double()), *(shape or (0.0, 1.0))):
            return t, self.args
        if torch.equal(t, self.draw(answer, seed=self.seed + 1)):
            raise AnswerError("your times are the same for every generator: hand `generator` on to torch.randn")
        z = (torch.logit(t.double()) - (shape or (0.0, 1.0))[0]) / (shape or (0.0, 1.0))[1]
        if not is_independent(z):
            raise AnswerError("your times are distributed right, but one tells about another: draw each by itself")
        generator = Generator().manual_seed(self.seed)
        if torch.equal(answer(n, generator, *shape), answer(n, generator, *shape)):
            raise AnswerError("your times are the same at every call: draw new ones from `generator` each time")
        alone = answer(n, None, *shape)  # torch's own generator
        return (self.draw(self.reference).to(t.dtype) if is_table(alone, (n,)) else alone), self.args

    def imitate(self, wrong: Callable) -> object:
        """What a wrong version makes of the same generator."""
        return self.draw(wrong)


# -- the loss: the model knows the velocity, and is off by a known amount ----------------------------


SLIPS = {  # words of an error in a loss, and what is said behind them
    "Dimension out of range": "this error is a single number already: keep the errors of all pixels, (batch, ...), "
    "until the means are taken",
}


def loss_of(errors: Callable[[SimpleNamespace], Tensor]) -> Callable[[SimpleNamespace], Tensor]:
    """A wrong loss: the right mean of wrong errors."""
    return lambda record: reduced(errors(record), record.reduction)


def reduced(error: Tensor, reduction: str) -> Tensor:
    """The mean of errors (batch, ...): over all of them ("mean"), or of each picture ("none", (batch,))."""
    return error.mean() if reduction == "mean" else error.flatten(1).mean(dim=1)


@dataclass(frozen=True)
class LossCase(Case):
    """`answer(timesteps).loss(model, x, y, generator, reduction)` with a model that takes notes.

    The model finds the noise out from x_t and t, and predicts the velocity plus `offset`. So the right loss is the
    mean square of the offset, whatever noise and times were drawn, and in whatever order.
    """

    x: Tensor = None
    y: Tensor | None = None
    offset: Tensor = None
    reduction: str = "mean"
    seed: int = 0
    record: SimpleNamespace = field(default_factory=SimpleNamespace, compare=False)

    def inputs(self) -> tuple:
        """What the answer is given."""
        return self.reduction, self.x

    def imitate(self, wrong: Callable[[SimpleNamespace], Tensor]) -> Tensor:
        """The loss that a wrong version makes of the answer's own times, noise and predictions."""
        return wrong(self.record)

    def use(self, answer: type, track: bool = False) -> tuple[object, tuple]:
        """Raises AnswerError where the model is called with something else than it should be."""
        (notes,) = self.run(answer, self.offset.clone().requires_grad_(track), Generator().manual_seed(self.seed))
        self.record.__dict__.update(vars(notes))
        if notes.calls:
            self._look_at(notes)
            with torch.enable_grad(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(10_001)
                live = self.offset.clone().requires_grad_()
                again, later = self.run(answer, live, Generator().manual_seed(self.seed), 2)
                self._compare(notes, again)
                self._look_at_target(again)
                self._look_at_later(again, later)
                self._look_at_later(*self.run(answer, live, None, 2))
            if not callable(getattr(answer("uniform"), "timesteps", None)):
                raise AnswerError(
                    '`RectifiedFlow("uniform")` finds no times: the line in `__init__` was right as it was'
                )
        elif isinstance(notes.loss, Tensor):
            raise AnswerError("the model is never called: model(x_t, t, y) gives its prediction")
        return notes.loss, (self.reduction, notes.given)

    def run(self, answer: type, offset: Tensor, generator: Generator | None, times: int = 1) -> list[SimpleNamespace]:
        """Some calls, and notes of each: `drawn` (times drawn), `calls` (x_t and t that the model saw), `loss`."""
        made = []

        def timesteps(n: int, generator: Generator | None = None) -> Tensor:
            t = 0.1 + 0.8 * uniform(n, generator)
            t[0], t[-1] = t[0] / 100, 1 - t[-1] / 100  # near the ends
            made[-1].drawn.append(t)
            return t.clone()

        def model(x_t: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
            notes = made[-1]
            self._look_at_call(x_t, t, labels)
            notes.calls.append((x_t.detach(), t.detach()))
            notes.x_t, notes.t = x_t.detach().double(), per_image(t.detach().double(), self.x.double())
            notes.noise = (notes.x_t - (1 - notes.t) * notes.x) / notes.t
            notes.target = velocity_target(notes.x, notes.noise)
            notes.live = notes.target.float() + offset
            notes.predicted = notes.live.detach().double()
            notes.error = notes.predicted - notes.target
            return notes.live

        with explain_errors(SLIPS):
            own = answer(timesteps)
            for _ in range(times):
                facts = {"given": self.x.clone(), "reduction": self.reduction, "x": self.x.double()}
                made.append(SimpleNamespace(drawn=[], calls=[], **facts))
                made[-1].loss = own.loss(model, made[-1].given, self.y, generator, self.reduction)
        return made

    def _look_at_call(self, x_t: object, t: object, labels: tuple) -> None:
        """The model's own complaints about what it is called with."""
        n, shape = len(self.x), tuple(self.x.shape)
        if not isinstance(x_t, Tensor) or not isinstance(t, Tensor):
            raise AnswerError("the model takes (x_t, t) or (x_t, t, y), all of them tensors")
        if tuple(x_t.shape) != shape:
            raise AnswerError(f"the model gets x_t of shape {tuple(x_t.shape)}: it should be that of x, {shape}")
        if tuple(t.shape) != (n,):
            raise AnswerError(
                f"the model gets t of shape {tuple(t.shape)}: it should be one time for each picture, ({n},)"
            )
        if (self.y is None) != (len(labels) == 0):
            raise AnswerError("call model(x_t, t, y) where there are labels, and model(x_t, t) where y is None")
        if self.y is not None and same(t, self.y):
            raise AnswerError("t and y have changed places: model(x_t, t, y) takes the times first")
        if self.y is not None and not (len(labels) == 1 and same(labels[0], self.y)):
            raise AnswerError("the model does not get the labels y")

    def _look_at(self, notes: SimpleNamespace) -> None:
        """Complaints about the times, the path and the noise."""
        n, (x_t, t) = len(self.x), notes.calls[-1]
        if not notes.drawn:
            raise AnswerError("the times do not come from self.timesteps(len(x), generator)")
        if len(notes.drawn) > len(notes.calls):
            raise AnswerError("times are drawn twice: the model must be told the very t at which x_t was made")
        drawn = notes.drawn[-1]
        if len(drawn) == 1 != n:
            raise AnswerError("there is one time for all pictures: self.timesteps(len(x), generator) draws one each")
        if not same(t, drawn):
            if same(t, 1 - drawn):
                raise AnswerError("the model is told 1 - t: t = 1 is noise everywhere in this course")
            if same(t, 1000 * drawn):
                raise AnswerError("the model is told 1000 t: its embedding of t multiplies by 1000 itself")
            raise AnswerError("the model is told another t than the one that was drawn")
        if is_cut_off(x_t):
            raise AnswerError("x_t is cut off, as a clamp does it: a point on the path may lie anywhere")
        for text, noise in self._paths(x_t.double(), per_image(drawn.double(), self.x.double())):
            if is_noise(noise, self.x.double()):
                if text:
                    raise AnswerError(text)
                break
        else:
            self._look_at_noise(notes.noise)
        self._look_at_shares(notes.noise)
        if has_no_mean(notes.noise):
            raise AnswerError("the mean is taken out of your noise: it is normal numbers, just as they come")

    def _paths(self, x_t: Tensor, t: Tensor) -> list[tuple[str, Tensor]]:
        """Which noise was there, if x_t was made like this? A sentence for each, "" for the right one."""
        x = self.x.double()
        return [
            ("", (x_t - (1 - t) * x) / t),
            ("x and noise have changed places on the path: interpolate takes x first", (x_t - t * x) / (1 - t)),
            ("x_t is the noise alone: put the picture on its path with interpolate(x, noise, t)", x_t),
            ("x_t is the velocity: put the picture on its path with interpolate(x, noise, t)", x_t + x),
            ("the picture does not fade in your x_t: interpolate(x, noise, t) mixes both", (x_t - x) / t),
        ]

    def _look_at_shares(self, noise: Tensor) -> None:
        if same(noise[0], noise[1], 1e-3):
            raise AnswerError(
                "all pictures get the same noise: each needs its own, so take the shape of x, batch and all"
            )
        if not is_independent(noise):
            raise AnswerError(
                "numbers of your noise know of each other: every pixel, channel and picture has its own, so draw "
                "them in the shape of x"
            )

    def _look_at_noise(self, noise: Tensor) -> None:
        mean, std = noise.mean().item(), noise.std().item()
        if same(noise, self.x, 1e-3):
            raise AnswerError("x_t is the picture itself: put it on its path with interpolate(x, noise, t)")
        if noise.min() > -0.01 and noise.max() < 1.01:
            raise AnswerError("the noise lies between 0 and 1: torch.rand is uniform, torch.randn is normal")
        self._look_at_shares((noise - mean) / std)
        said = f"it has mean {mean:.2f} and std {std:.2f}" if abs(mean) > 0.1 or abs(std - 1) > 0.1 else "it is not"
        raise AnswerError(
            f"the noise in your x_t should be normal with mean 0 and std 1, but {said}: look at how it is made"
        )

    def _look_at_target(self, notes: SimpleNamespace) -> None:
        """A complaint about a target made of another noise than x_t: the gradient of the loss tells the target."""
        if not (isinstance(notes.loss, Tensor) and notes.loss.requires_grad and notes.loss.device.type == "cpu"):
            return
        (slope,) = torch.autograd.grad(notes.loss.sum(), notes.live, allow_unused=True)
        if slope is None:
            return
        count = self.x.numel() / notes.loss.numel()  # over how many errors each mean was taken
        noise = notes.predicted - slope.double() * count / 2 + notes.x  # of a mean squared error
        if is_noise(noise, notes.x) and is_noise((noise + notes.noise) / math.sqrt(2), notes.x):
            raise AnswerError("your target is made of another noise than your x_t: draw it once, and use it for both")

    def _compare(self, notes: SimpleNamespace, again: SimpleNamespace) -> None:
        """A generator that starts the same must give the same draws."""
        if not again.calls or not same(notes.calls[-1][1], again.calls[-1][1]):
            raise AnswerError(f"{ANOTHER}: hand `generator` on to self.timesteps")
        if not same(notes.calls[-1][0], again.calls[-1][0]):
            raise AnswerError(f"{ANOTHER}: the noise does not come from it (torch.randn takes generator=generator)")

    def _look_at_later(self, first: SimpleNamespace, later: SimpleNamespace) -> None:
        """A second call draws anew, also from torch's own random numbers."""
        if not later.calls or same(later.calls[-1][1], first.calls[-1][1]):
            raise AnswerError("at a second call the times are those of the first: draw new ones from `generator`")
        if same(later.noise, first.noise, 1e-2):
            raise AnswerError("at a second call the noise is that of the first: draw new noise from `generator`")
