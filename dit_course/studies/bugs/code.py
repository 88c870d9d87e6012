"""The rooms of the package as one namespace, as they are or with some lines replaced.

A patched copy is made from the rooms' source, so that it cannot drift from it: a patch whose old lines are gone raises.
"""

import linecache
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import dit_course
from dit_course import ROOMS

# in the order in which one imports from another
COPIED = (
    "data", "patches", "attention", "conditioning", "blocks", "dit", "flow", "training", "ema", "wrappers",
    "generation", "sampling",
)  # fmt: skip
# what a namespace offers: the public names of these rooms, and three more that probes can use
OFFERED = {room: names for room, names in ROOMS.items() if room in COPIED} | {
    "data": ("to_float",),  # data sets are loaded by the course itself
    "flow": (*ROOMS["flow"], "step"),
    "training": (*ROOMS["training"], "batch_indices"),
}
_HOUSE = Path(dit_course.__file__).parent


def right_code() -> SimpleNamespace:
    """The course's own code: `code.DiT`, `code.RectifiedFlow`, `code.Sampler`, and what they are made of."""
    return _namespace("dit_course", "the course's code")


def patched_code(name: str, patches: Sequence[tuple[str, str, str]]) -> SimpleNamespace:
    """The same namespace, from a copy of the rooms in which lines were replaced.

    name: a Python identifier, part of the copy's module names. patches: (room, old, new) each, where `old` stands in
    the room's source exactly once. Raises ValueError when it does not: the room has changed, and the patch must follow.
    """
    package = f"{name}_code"
    for room in COPIED:
        source = (_HOUSE / f"{room}.py").read_text(encoding="utf-8")
        for _, old, new in (patch for patch in patches if patch[0] == room):
            if source.count(old) != 1:
                raise ValueError(f"{name}: {room}.py holds {old!r} {source.count(old)} times, not once")
            source = source.replace(old, new)
        # the copy's rooms know each other, and not the originals
        source = re.sub(rf"\bdit_course\.({'|'.join(COPIED)})\b", rf"{package}.\1", source)
        _load(f"{package}.{room}", source)
    return _namespace(package, name)


def _load(name: str, source: str) -> None:
    """Make a module from source; tracebacks and `inspect.getsource` find it in linecache."""
    package = name.rpartition(".")[0]
    sys.modules.setdefault(package, ModuleType(package))
    module, file = ModuleType(name), str(_HOUSE / f"<{name}>")  # in the package: no line of it is a learner's
    module.__file__, module.__package__ = file, package
    sys.modules[name] = module
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), module.__dict__)


def _namespace(package: str, name: str) -> SimpleNamespace:
    from importlib import import_module

    rooms = {room: sys.modules.get(f"{package}.{room}") or import_module(f"{package}.{room}") for room in OFFERED}
    return SimpleNamespace(
        name=name, **{wanted: getattr(rooms[room], wanted) for room, names in OFFERED.items() for wanted in names}
    )
