"""The controls of the explorers, in one style; invalid values are an error before a slider would clamp them."""

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

SIZE = (60, 380)  # room for the name of a control, and for all of it, in pixels


def slider(name: str, value: float, least: float, most: float, step: float = 1, size: tuple[int, int] = SIZE):
    """A slider for a number, a whole one where its step is whole. Raises ValueError for a value outside."""
    if not least <= value <= most:
        raise ValueError(f"{name} = {value!r}, but the slider goes from {least} to {most}")
    options = {"min": least, "max": most, "step": step, "description": name, **styled(size)}
    if isinstance(step, int):
        return widgets.IntSlider(value, **options)
    return widgets.FloatSlider(value, readout_format=".2f" if step < 0.1 else ".1f", **options)


def choice(name: str, options: Sequence, value: Any, size: tuple[int, int] = SIZE, kind=widgets.SelectionSlider):
    """A slider, or a menu, over values or pairs (text, value). Raises ValueError for a value that is none of them."""
    values = [option[1] if isinstance(option, tuple) else option for option in options]
    if value not in values:
        raise ValueError(f"{name} = {value!r}, but the choice is from {values[0]} to {values[-1]}")
    return kind(options=options, value=value, description=name, **styled(size))


def class_menu(names: Sequence[str], label: int | None, no_class: str, size: tuple[int, int] = SIZE):
    """A menu of classes by their numbers, after one choice that is no class, which label None stands for."""
    options = [(no_class, no_class), *((name, number) for number, name in enumerate(names))]
    return choice("class", options, no_class if label is None else label, size, widgets.Dropdown)


def styled(size: tuple[int, int]) -> dict:
    """The layout of a control of this size."""
    return {"style": {"description_width": f"{size[0]}px"}, "layout": {"width": f"{size[1]}px"}}
