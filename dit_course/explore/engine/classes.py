"""The classes of a model, for the menus of the explorers."""

from torch import nn


def class_names(model: nn.Module) -> list[str]:
    """The names of a model's classes, "class 0" and so on where it has no names; [] for a model without classes."""
    count = model.config.num_classes or 0
    names = list(getattr(model, "class_names", None) or [])
    return names if len(names) == count else [f"class {number}" for number in range(count)]


def class_number(names: list[str], label: int | str | None) -> int | None:
    """The number of a class that is given by number or name (None stays None); ValueError for an unknown one."""
    if label not in (None, *names, *range(len(names))):
        raise ValueError(f"unknown class {label!r}; this model knows {', '.join(names) or 'no classes'}")
    return names.index(label) if isinstance(label, str) else label
