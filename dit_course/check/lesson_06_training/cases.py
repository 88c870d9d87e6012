"""Small worlds in which lesson 06's exercises are tried: what comes back is all that an answer returned and changed."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import SGD

from dit_course.check.engine.exercise import Case, Draw
from dit_course.check.engine.modules import AnswerError, said_instead

NO_RETURN = "your answer returns nothing: is the `return` missing?"
NOT_USED = "one parameter has no gradient (its .grad is None, as of a layer that was not used): leave it out"
STEP_FIRST = (
    "the weights change between the loss and its backward, so the gradient would be that of other weights: the "
    "optimizer steps once the gradients are there"
)
RUNNING_TOTAL = (
    "go backward from each part's own loss, not from the running total: what earlier parts have left in it is gone"
)


class Pocket(nn.Module):
    """A network that fits into a pocket: (x, t, y) -> velocity, with a layer `final` as a DiT has."""

    def __init__(self, draw: Draw, pixels: int, classes: int = 3, width: int = 5):
        super().__init__()
        self.hidden, self.label = nn.Linear(pixels + 1, width), nn.Embedding(classes, width)
        self.final = nn.Linear(width, pixels)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.5 * draw.normal(*parameter.shape))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """x: (batch, C, H, W); t, y: (batch,)."""
        tokens = torch.cat([x.flatten(1), t[:, None]], dim=1)  # (batch, pixels + 1)
        return self.final(torch.tanh(self.hidden(tokens) + self.label(y))).reshape(x.shape)


class PocketFlow:
    """A loss that does not depend on the noise it draws, but notices when the noise is new."""

    def __init__(self):
        self.noises: list[Tensor] = []

    def loss(self, model, x: Tensor, y: Tensor, generator=None, reduction: str = "mean") -> Tensor:
        """As that of `RectifiedFlow`. Raises AnswerError when dropout would be off."""
        if not model.training:
            raise AnswerError(
                "the model is in evaluation mode (`.eval()`) when its loss is computed, so that no label is dropped: "
                "leave the mode to whoever calls you"
            )
        self.noises.append(torch.randn(4, generator=generator))
        error = (model(x, torch.full((len(x),), 0.5), y) + x).square()
        return error.flatten(1).mean(dim=1) if reduction == "none" else error.mean()


def flat(tensors) -> Tensor:
    """All numbers of some tensors in one row, without history."""
    return torch.cat([x.detach().flatten().double() for x in tensors])


def number(value: object, name: str) -> Tensor:
    """A result that should be one number, as a tensor; AnswerError for anything else."""
    if value is None:
        raise AnswerError(NO_RETURN)
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.detach().double().reshape(())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return torch.tensor(value, dtype=torch.float64)
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
    raise AnswerError(f"{name} should be one number, but your answer returns a {type(value).__name__}{shape}")


def without_history(value: object, name: str) -> None:
    """AnswerError when a result carries its computation along."""
    if isinstance(value, Tensor) and value.requires_grad:
        raise AnswerError(
            f"{name} that you return still carries its history, so the memory of the whole step stays taken for as "
            "long as somebody keeps it: .detach() lets go"
        )


@dataclass(frozen=True)
class World(Case):
    """A case whose result is made of all that an answer returned and changed: `play` says how.

    `args` are for `play`, and never handed to an answer as they are.
    """

    gives = tuple  # not a tensor, or not only: the tests' general answers leave these exercises out

    def use(self, answer: Callable, track: bool = False) -> tuple[Tensor, tuple]:
        """Play with fresh copies of everything."""
        result = self.play(answer, *self.args)
        return result.detach() if isinstance(result, Tensor) else result, ()

    def inputs(self) -> tuple:
        """Nothing that must stay as it is."""
        return ()

    def imitate(self, wrong: Callable) -> Tensor:
        """What a wrong version makes of it."""
        return self.use(wrong)[0]

    def play(self, answer: Callable, *args) -> Tensor:
        """Everything that the answer returned and changed, in one row of numbers."""
        raise NotImplementedError("a subclass says what is played")


# -- overfit ---------------------------------------------------------------------------------------


class Overfitting(World):
    """args: seed, (batch, C, H, W), steps, lr."""

    may_seed = True  # so that a run can be repeated

    def play(self, answer: Callable, seed: int, shape: tuple, steps: int, lr: float) -> object:
        """The losses, as they come, and those of a second call, which goes on where the first one ended."""
        draw, flow = Draw(seed), PocketFlow()
        given = Pocket(draw, math.prod(shape[1:])), flow, draw.normal(*shape), torch.arange(shape[0]) % 3, steps, lr
        losses = answer(*given)
        if any(not torch.equal(noise, flow.noises[0]) for noise in flow.noises):
            raise AnswerError(
                "the noise is new in every step, so every step poses another problem: to overfit is to see the very "
                "same noise and times again and again. What decides about them in your code?"
            )
        without_history(losses, "each loss")
        if isinstance(losses, list) and losses and not isinstance(losses[0], Tensor):
            raise AnswerError("your answer returns a list of plain numbers: keep tensors, and stack them at the end")
        right = isinstance(losses, Tensor) and losses.shape == (steps,)
        return torch.cat([losses, answer(*given)]) if right else losses


# -- learning_rate ---------------------------------------------------------------------------------


class Schedule(World):
    """args: total, highest, warmup, decay."""

    def play(self, answer: Callable, total: float, highest: float, warmup: int, decay: int) -> Tensor:
        """The rates of all steps; of the first twelve where there is no end."""
        what = "decay" if warmup else "warmup"
        zero = f"your code divides by zero when `{what}` is 0: a training without that part must work, too"
        steps = range(12 if math.isinf(total) else math.ceil(total))
        with said_instead({"division by zero": zero, "divided by zero": zero, "modulo by zero": zero}):
            return torch.stack(
                [number(answer(done, total, highest, warmup, decay), "the learning rate") for done in steps]
            )


# -- clip_gradients --------------------------------------------------------------------------------


class Gradients(World):
    """args: seed, how long the whole gradient is, most."""

    def play(self, answer: Callable, seed: int, length: float, most: float) -> Tensor:
        """The norm that is returned, then all gradients and weights. The second parameter has no gradient."""
        draw = Draw(seed)
        shapes = [(2, 3), (4,), (1,), (2, 2, 2)]
        parameters = [nn.Parameter(draw.normal(*shape)) for shape in shapes]
        used = parameters[:1] + parameters[2:]
        gradients = [draw.normal(*parameter.shape) for parameter in used]
        scale = length / flat(gradients).norm().item()
        for parameter, gradient in zip(used, gradients, strict=True):
            parameter.grad = scale * gradient
        with said_instead({"NoneType": NOT_USED}):
            norm = number(answer((p for p in parameters), most), "the norm")
        if any(p.grad is None for p in used):
            raise AnswerError("the gradients are gone (.grad is None): they should be shorter, not forgotten")
        if length == 0 and flat(p.grad for p in used).isnan().any():
            raise AnswerError(
                "a gradient that is 0 everywhere becomes NaN: something is divided by its norm, which is 0"
            )
        return torch.cat([norm[None], flat(p.grad for p in used), flat(parameters)])


# -- training_step ---------------------------------------------------------------------------------


class Stop(Exception):
    """What the guard of a check raises."""


class Watched(SGD):
    """Gradient descent that remembers whether it ever had a gradient to go by."""

    steps, useful = 0, 0

    def step(self, closure=None):
        """Note, and step."""
        self.steps += 1
        self.useful += any(
            p.grad is not None and bool(p.grad.count_nonzero()) for group in self.param_groups for p in group["params"]
        )
        return super().step(closure)


class Stepping(World):
    """args: seed, (batch, C, H, W), clip."""

    def play(self, answer: Callable, seed: int, shape: tuple, clip: float) -> Tensor:
        """Losses and norms of three steps, those that the guard got, then the weights after the first and last step.

        The guard of the second step returns None, that of the third one True.
        """
        draw, flow = Draw(seed), PocketFlow()
        model = Pocket(draw, math.prod(shape[1:]))
        optimizer = Watched(model.parameters(), 0.5, momentum=0.5)
        said, weights, told = [], [flat(model.parameters())], []

        def guard(loss, norm):
            told.append((loss, norm, flat(model.parameters())))
            return True if len(told) > 1 else None

        for step in range(3):
            given = flow, optimizer, draw.normal(*shape), torch.arange(shape[0]) % 3, clip
            with said_instead({"modified by an inplace operation": STEP_FIRST}):
                said += self.pair(answer(model, *given, guard if step else None))
            if len(flow.noises) > step + 1:
                raise AnswerError(
                    "the loss is computed more than once: each time it draws other noise, and it costs a whole pass "
                    "of the network"
                )
            weights.append(flat(model.parameters()))
        if not optimizer.steps:
            raise AnswerError("the weights never change: who moves them along the gradient?")
        if not optimizer.useful:
            raise AnswerError(
                "whenever the optimizer steps, there is no gradient: it has been erased before, or not been computed "
                "yet"
            )
        said += self.guarded(told, weights[1:])
        self.raised(answer, model, given)
        return torch.cat([torch.stack(said), weights[1], weights[3]])

    def pair(self, outcome: object) -> list[Tensor]:
        """The loss and the norm, once it is sure that they are there."""
        if outcome is None:
            raise AnswerError(NO_RETURN + " The loss and the norm of the gradient are wanted")
        if not isinstance(outcome, tuple | list) or len(outcome) != 2:
            raise AnswerError(
                "two things are wanted back: the loss, and the norm of the gradient (`return loss, norm`)"
            )
        for value, name in zip(outcome, ("the loss", "the norm"), strict=True):
            without_history(value, name)
        if any(isinstance(value, float) for value in outcome):
            raise AnswerError(
                "your answer returns plain numbers: .item() makes a GPU stop and wait in every step. Return tensors, "
                "and let whoever wants the number ask for it"
            )
        return [number(value, name) for value, name in zip(outcome, ("the loss", "the norm"), strict=True)]

    def guarded(self, told: list[tuple], before: list[Tensor]) -> list[Tensor]:
        """What the guard got in each step. AnswerError when it is not called once a step, or called too late."""
        if len(told) != 2:
            raise AnswerError(
                f"`guard` is {'never called' if not told else f'called {len(told)} times in 2 steps'}: where one is "
                "given, it wants to see loss and norm, once a step"
            )
        if any(not torch.equal(weights, then) for (*_, weights), then in zip(told, before, strict=False)):
            raise AnswerError(
                "`guard` is called too late: the weights have changed already, and it is there to prevent just that"
            )
        return [number(value, "what `guard` gets") for *pair, _ in told for value in pair]

    def raised(self, answer: Callable, model: nn.Module, given: tuple) -> None:
        """AnswerError when what the guard raises does not come through."""

        def guard(loss, norm):
            raise Stop

        with contextlib.suppress(Stop):
            answer(model, *given, guard)
            raise AnswerError(
                "`guard` raises an error, and your code goes on: let it through, so that the training stops"
            )


# -- accumulate_gradients --------------------------------------------------------------------------


class Accumulating(World):
    """args: seed, batch, parts."""

    def play(self, answer: Callable, seed: int, batch: int, parts: int) -> Tensor:
        """The losses that two calls return, then the gradients of both together."""
        draw = Draw(seed)
        model, sizes = Pocket(draw, 6), []
        model.label.eval()
        x, y = draw.normal(batch, 1, 2, 3), torch.arange(batch) % 3
        arrived, before = [], []
        model.final.weight.register_hook(arrived.append)

        def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            sizes.append(len(x))
            before.append(len(arrived))
            return (model(x, torch.full((len(x),), 0.5), y) + x).square().mean()

        with said_instead({"backward through the graph a second time": RUNNING_TOTAL}):
            losses = [answer(model, loss_of, x, y, parts) for _ in range(2)]
        if any(loss is None for loss in losses):
            raise AnswerError(NO_RETURN)
        for loss in losses:
            without_history(loss, "the loss")
        if not sizes or max(sizes) > math.ceil(batch / parts):
            largest = max(sizes, default=0)
            raise AnswerError(
                f"the loss was computed for {largest} pictures at once, of {batch} in {parts} parts: only one part "
                "fits into memory at a time"
            )
        if parts > 1 and before[1] == 0:
            raise AnswerError(
                "no gradient has arrived when the second part begins: then the histories of all parts lie in memory "
                "together, as with the whole batch. Go backward after each part"
            )
        if any(p.grad is None for p in model.parameters()):
            raise AnswerError("no gradient has arrived: who calls backward?")
        if not model.training or model.label.training:
            raise AnswerError("the model is in another mode than before: leave `.train()` and `.eval()` to the caller")
        return torch.stack([*(number(loss, "the loss") for loss in losses), *flat(p.grad for p in model.parameters())])
