"""How a mistake is recognized: by the result of a wrong version, or by a rule."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from dit_course.check.engine.compare import same


@dataclass(frozen=True)
class MatchesOutput:
    """A mistake recognized by its result: the answer equals that of a wrong version, NaN where that is NaN."""

    hint: str
    wrong: Callable

    def fits(self, trial) -> bool:
        """Whether the answer did the same in this case. A wrong version that cannot do it does not fit."""
        try:
            return same(trial.outcome.value.nan_to_num(1e9), trial.case.imitate(self.wrong).nan_to_num(1e9))
        except Exception:
            return False


@dataclass(frozen=True)
class MatchesRule:
    """A mistake recognized by a rule: `rule(got, expected)`, both tensors."""

    hint: str
    rule: Callable[[Tensor, Tensor], bool]

    def fits(self, trial) -> bool:
        """Whether the rule says so."""
        return bool(self.rule(trial.outcome.value, trial.expected))


def with_hints(mistakes: Sequence) -> list:
    """Each wrong version with the hint that stands before it; what brings its own stays as it is."""
    found, hint = [], ""
    for mistake in mistakes:
        if isinstance(mistake, str):
            hint = mistake
        else:
            found.append(mistake if hasattr(mistake, "fits") else MatchesOutput(hint, mistake))
    return found
