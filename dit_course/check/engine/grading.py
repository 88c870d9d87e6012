"""What nbgrader adds to a check cell, where students do not see it: `demand_right("patchify", patchify, seed=7)`."""

from dit_course.check.engine.verdict import NOT_TRIED, RIGHT, Verdict, exercises, refusal, verdicts


def demand_right(name: str, answer: object, seed: int) -> None:
    """Raise AssertionError with the verdict, unless the check has just called this answer right, and does so again.

    seed: of the cases of the second time, which students have not seen. No variable of the environment matters, nor
    what `check` means in the notebook.
    """
    exercise = next(exercise for exercise in exercises if exercise.name == name)
    verdict = verdicts.get(name, Verdict(NOT_TRIED))
    if verdict.status == RIGHT:
        verdict = exercise.examine(answer, seed)
    if verdict.status != RIGHT:
        raise refusal(name, verdict)
