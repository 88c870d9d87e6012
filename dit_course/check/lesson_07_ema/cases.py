"""How an `EMA` is tried: a small model, its training, and a table of what the average is after each update."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dit_course import ema
from dit_course.check.engine.exercise import Case
from dit_course.check.engine.modules import AnswerError


def tiny_model() -> nn.Module:
    """What averages are tried on: matrices, biases, and the buffers of a batch norm."""
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))


def fill(model: nn.Module, normal: Callable[..., Tensor], step: int) -> None:
    """Other weights and buffers, as after a step of a training."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(normal(*parameter.shape))
        for buffer in model.buffers():
            buffer.copy_(normal(*buffer.shape).abs() if buffer.is_floating_point() else torch.tensor(7 * step + 3))


@dataclass(frozen=True)
class AverageCase(Case):
    """An `EMA` is made of a small model, and updated as that changes. args: ((decay, warmup), how many updates).

    The result is a table, a row for each update: the decay, the count of updates, all averaged weights, all buffers.
    """

    normal: Callable[..., Tensor] = None
    models: list = field(default_factory=list)

    def __post_init__(self):
        for step in range(self.args[1] + 1):
            self.models.append(tiny_model().train())
            fill(self.models[-1], self.normal, step)

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Make the average, update it, and write down what it is each time."""
        settings, updates = self.args
        model = tiny_model().train()
        model[0].eval().bias.requires_grad_(False)  # frozen, as in fine-tuning
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        model.load_state_dict(self.models[0].state_dict())
        before = _mode(model)
        average = answer(model, *settings)
        _both_are_written(answer, model, settings)
        rows, held = [], [average.model, *average.model.parameters()]
        for step in range(1, updates + 1):
            model.load_state_dict(self.models[step].state_dict())
            decay = average.current_decay()
            if not isinstance(decay, int | float | Tensor):
                raise AnswerError(f"`current_decay` returns {_what(decay)}, and should return a number")
            average.update(model)
            self._look_at(average, model, step)
            if _mode(model) != before:
                raise AnswerError(
                    "the model that is being trained comes out in another mode, or with other gradients or "
                    "`requires_grad`: leave it as it is, only `self.model` is yours"
                )
            now = average.model, *average.model.parameters()
            if any(ours is not then for ours, then in zip(now, held, strict=False)):
                raise AnswerError(
                    "`update` puts something new in the place of `self.model` or its tensors, and whoever holds it, as "
                    "a Sampler does, keeps the old: change the values of its tensors in place"
                )
            values = [x.detach().double().flatten() for x in (*average.model.parameters(), *average.model.buffers())]
            rows.append(torch.cat([torch.tensor([float(decay), average.updates], dtype=torch.float64), *values]))
        return torch.stack(rows), self.args

    def imitate(self, wrong: Callable) -> object:
        """The table of a wrong version."""
        return self.use(wrong)[0]

    def _look_at(self, average: ema.EMA, model: nn.Module, step: int) -> None:
        """Complain where trained and averaged model have got into each other's way."""
        state = self.models[step].state_dict()
        if not all(torch.equal(x, state[name]) for name, x in model.state_dict().items()):
            raise AnswerError(
                "`update` changes the model that is being trained: only `self.model`, the average, is to change"
            )
        own, trained = ({x.data_ptr() for x in part.state_dict().values()} for part in (average.model, model))
        if own & trained:
            raise AnswerError(
                "the average has become the trained model itself, so both change together: copy values "
                "into the tensors of `self.model`, and leave the tensors where they are"
            )
        if any(x.requires_grad for x in average.model.parameters()):
            raise AnswerError("the averaged weights want gradients, and nobody trains them: change them in place")
        if any(part.training for part in average.model.modules()):
            raise AnswerError(
                "`self.model` is in training mode, where label dropout is on: one samples from it, so it is to stay in "
                "evaluation mode (`.eval()`)"
            )


def _mode(model: nn.Module) -> list:
    """Of all parts of a model whether they train, of all parameters whether they want and have gradients."""
    parameters = list(model.parameters())
    return [part.training for part in model.modules()] + [(p.requires_grad, p.grad is None) for p in parameters]


def _both_are_written(answer: Callable, model: nn.Module, settings: tuple) -> None:
    """Complain when one of the two methods is written and the other not; with neither it is not tried yet."""
    written = {}
    for name in ("current_decay", "update"):
        average = answer(model, *settings)
        if name == "update":
            average.current_decay = lambda: 0.5
        try:
            average.current_decay() if name == "current_decay" else average.update(model)
            written[name] = True
        except NotImplementedError as error:  # PyTorch raises it, too, with a message: lerp_ of whole numbers
            written[name] = bool(error.args)
        except Exception:  # is met again where it is explained
            written[name] = True
    if not any(written.values()):
        raise NotImplementedError
    for name, done in written.items():
        if not done:
            other = next(kept for kept in written if kept != name)
            raise AnswerError(f"`{other}` is written, `{name}` is not yet: the average needs both")


def _what(value: object) -> str:
    return "nothing (is the `return` missing?)" if value is None else f"a {type(value).__name__}"
