"""Building a learner's module and giving it the course's weights, so that both must compute the same."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

watchers: list[Callable[[nn.Module, nn.Module], None]] = []  # see `when_built`


class AnswerError(Exception):
    """Something about an answer that is said to the learner as it is."""


@contextlib.contextmanager
def explain_errors(hints: Mapping[str, str]) -> Iterator[None]:
    """Behind the words of an error that holds a key of `hints` its hint is put; the error goes on."""
    try:
        yield
    except AnswerError:
        raise
    except Exception as error:
        hint = next((hint for words, hint in hints.items() if words in str(error)), "")
        if hint:
            error.args = (f"{error}: {hint}",)
        raise


@contextlib.contextmanager
def said_instead(texts: Mapping[str, str]) -> Iterator[None]:
    """An error whose words hold a key of `texts` becomes an AnswerError that says the text."""
    try:
        yield
    except Exception as error:
        text = next((text for words, text in texts.items() if words in str(error)), "")
        if not text or isinstance(error, AnswerError):
            raise
        raise AnswerError(text) from None


def randomize_parameters(module: nn.Module, normal: Callable[..., Tensor]) -> None:
    """Give all parameters random values, in place: what starts at zero hides what comes after it."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(normal(*parameter.shape) / max(1, parameter[:1].numel()) ** 0.5)


def load_reference_weights(answer: Callable, args: tuple, model: nn.Module) -> nn.Module:
    """An instance of a learner's class with the weights of the course's module, in its dtype.

    Raises AnswerError when it is no module, or has other parameters.
    """
    module = answer(*args)
    if not isinstance(module, nn.Module):
        raise AnswerError(f"`{answer.__name__}` is no module: let the class inherit from nn.Module")
    module.to(next(model.parameters()).dtype).train(model.training)
    with torch.no_grad():
        for own, (_, value) in matched(module, model):
            own.copy_(value)
    for look in watchers:
        look(module, model)
    return module


@contextlib.contextmanager
def when_built(look: Callable[[nn.Module, nn.Module], None]) -> Iterator[None]:
    """Have `look(module, model)` called with each module that gets the weights of the course's model, inside."""
    watchers.append(look)
    try:
        yield
    finally:
        watchers.remove(look)


def matched(module: nn.Module, model: nn.Module) -> list[tuple[Tensor, tuple[str, Tensor]]]:
    """Pairs of a learner's parameters and the course's (name, values), brought into the learner's shape.

    The same name and shape is preferred, then the same shape, then a matrix the other way round, then as many numbers
    in another shape (a convolution's kernel is a linear map's weight); among several the first that is left.
    """
    left = dict(module.named_parameters())
    pairs = []
    fits = (
        lambda name, own, wanted, value: name == wanted and own.shape == value.shape,
        lambda name, own, wanted, value: own.shape == value.shape,
        lambda name, own, wanted, value: value.ndim == 2 and own.shape == value.T.shape,
        lambda name, own, wanted, value: own.numel() == value.numel(),
    )
    for wanted, value in model.named_parameters():
        for fit in fits:
            found = next((name for name, own in left.items() if fit(name, own, wanted, value)), None)
            if found is not None:
                break
        else:
            raise AnswerError(_missing(wanted, value, module))
        own = left.pop(found)
        turned = own.shape != value.shape and value.ndim == 2 and own.shape == value.T.shape
        pairs.append((own, (wanted, value.T if turned else value.reshape(own.shape))))
    if left:
        names = ", ".join(f"{name} {tuple(own.shape)}" for name, own in left.items())
        raise AnswerError(f"your module has parameters that it does not need: {names}")
    return pairs


def _missing(name: str, value: Tensor, module: nn.Module) -> str:
    shapes = [f"{own} {tuple(x.shape)}" for own, x in module.named_parameters()]
    if not shapes:
        hidden = [
            key for key, x in vars(module).items() if isinstance(x, Tensor | list | dict) and not key.startswith("_")
        ]
        where = f" (`self.{hidden[0]}` is not seen)" if hidden else ""
        return f"your module has no parameters: only layers and nn.Parameter that are kept in `self` count{where}"
    kind = "bias" if name.endswith("bias") else "weight"
    return f"your module has no {kind} of shape {tuple(value.shape)}; it has {', '.join(shapes)}"
