"""The network inside of what is wrapped around it, and weights without a wrapper's prefix."""

from collections.abc import Mapping

from torch import Tensor, nn

from dit_course.ema import EMA

# The attribute in which a wrapper keeps its model: DataParallel, DDP, torch's AveragedModel; torch.compile; FSDP 1;
# activation checkpointing. The names of the weights in its state dict begin with it.
INNER = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def unwrap(model: nn.Module | EMA, keep_compiled: bool = False) -> nn.Module:
    """The network inside of an `EMA`, DataParallel, DDP, torch.compile or FSDP 1 wrapper, nested or not; else `model`.

    keep_compiled: leave torch.compile's wrapper where it is the innermost one: it knows all attributes of its network,
        and is faster to call.
    """
    while (inner := _inner(model)) is not None:
        if keep_compiled and "_orig_mod" in getattr(model, "_modules", {}) and _inner(inner) is None:
            return model
        model = inner
    return model


def _inner(model: nn.Module | EMA) -> nn.Module | None:
    if isinstance(model, EMA):
        return model.model
    # among the submodules: compiled models hand other names on to what they wrap
    children = getattr(model, "_modules", {})
    return next((children[name] for name in INNER if name in children), None)


def without_prefixes(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names that they have in the network itself: wrappers' prefixes, such as `module.`, are taken off.

    Raises ValueError when two names become one.
    """
    plain: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        short = ".".join(part for part in str(name).split(".") if part not in INNER)
        if short in plain:
            raise ValueError(f"the weights hold {short} twice, once as {name}: save one network without its wrappers")
        plain[short] = tensor
    if plain.keys() != state_dict.keys():
        plain.pop("n_averaged", None)  # torch's AveragedModel counts in its state dict
    return plain
