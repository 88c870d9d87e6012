"""The cases of lesson 12: the planted bugs under letters that give nothing away, with what their victims saw."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import SimpleNamespace

from dit_course.studies.bugs.code import patched_code, right_code
from dit_course.studies.bugs.planted import Bug, find_bug
from dit_course.studies.bugs.symptoms import RIGHT, load_symptoms

# in the order of the lesson, without I and O, which look like numbers
LETTERS = {
    "A": "reversed_time", "B": "cold_ema", "C": "late_time", "D": "wrong_half", "E": "guided_three_channels",
    "F": "never_dropped", "G": "dropped_to_zero", "H": "drops_while_sampling", "J": "zeros_undone", "K": "one_noise",
    "L": "time_along_width", "M": "unscaled_time", "N": "coarse_time", "P": "half_range", "Q": "repeated_noise",
    "R": "swapped_grid", "S": "swapped_modulation", "T": "ema_of_itself", "U": "coarse_ema", "V": "gradients_kept",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One case of the hunt. letter: "" for right code."""

    letter: str = ""

    @property
    def title(self) -> str:
        """For figures: "case A", "right code"."""
        return f"case {self.letter}" if self.letter else "right code"

    @property
    def bug(self) -> Bug:
        """The solution."""
        return find_bug(LETTERS[self.letter])

    @property
    def name(self) -> str:
        """The bug in a few words: "wrong half"."""
        return self.bug.name.replace("_", " ").replace("ema", "EMA")

    @cached_property
    def code(self) -> SimpleNamespace:
        """The faulty package: `code.DiT`, `code.euler`, and what else probes test."""
        return patched_code(f"case_{self.letter}", self.bug.patches) if self.letter else right_code()

    @cached_property
    def seen(self) -> SimpleNamespace:
        """What its victim saw: see `load_symptoms`."""
        return load_symptoms(self.bug.name if self.letter else RIGHT)


@lru_cache
def open_case(letter: str = "") -> Case:
    """The case of a letter, the letters of `LETTERS`, or right code. ValueError for any other."""
    if letter and letter not in LETTERS:
        raise ValueError(f"there is no case {letter!r}: there are {', '.join(LETTERS)}")
    return Case(letter)
