"""Gives changed programs to the checks, in a process that may hang or die, and keeps what came of it."""

import hashlib
import inspect
import json
import os
import queue
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
CACHE = ROOT / ".cache" / "mutation.jsonl"
EQUIVALENT = Path(__file__).with_name("equivalent.toml")  # changes that do no harm, by the reason
SECONDS = 4.0  # for each case of a check: what is right takes milliseconds
HUNG, SLOW = 90.0, 600.0  # seconds on one change, and between changes, after which the process is ended from outside
LUCKY = (1, 2, 3)  # other seeds, that a survivor is tried on
WORKER = "mutation.runner"  # what is run as a process
KEPT = ("hash", "status", "verdict", "seconds", "luck")
SURVIVED, REFUSED = "survived", "refused"


@dataclass
class Row:
    """What came of one exercise. seconds: without what was known from earlier runs."""

    exercise: str
    lesson: str = ""
    made: int = 0
    refused: int = 0
    equivalent: int = 0
    survivors: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    never: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)  # listed, but no change any more, or refused by now
    verdicts: list[dict] = field(default_factory=list)

    @property
    def tried(self) -> int:
        """How many programs the check has seen."""
        return self.refused + self.equivalent + len(self.survivors)


def listed() -> dict[str, dict[str, str]]:
    """Reasons by exercise and change: {"RMSNorm": {"operator, method: before -> after": reason}}."""
    entries = tomllib.loads(EQUIVALENT.read_text())
    return {
        exercise: {change: reason for reason, changes in groups.items() for change in changes}
        for exercise, groups in entries.items()
    }


def tidy(rows: list[Row]) -> None:
    """Write the list again without what is stale."""
    head = [line for line in EQUIVALENT.read_text().splitlines() if line.startswith("#")]
    stale = {(row.exercise, text.partition(": ")[2]) for row in rows for text in row.stale}
    lines = []
    for exercise, groups in tomllib.loads(EQUIVALENT.read_text()).items():
        left = {why: [key for key in keys if (exercise, key) not in stale] for why, keys in groups.items()}
        lines += ["", f"[{exercise}]"] if any(left.values()) else []
        for why, keys in left.items():
            if keys:
                quoted = [f"    {json.dumps(key, ensure_ascii=False)}," for key in keys]
                lines += [f"{json.dumps(why, ensure_ascii=False)} = [", *quoted, "]"]
    EQUIVALENT.write_text("\n".join([*head, *lines]) + "\n")


def run(exercises: list[str], share: float = 1.0, seed: int = 0, minutes: float | None = None, note: Callable = print):
    """Try the changes of these exercises: all or a share. Returns a Row for each begun."""
    job = {"share": share, "seed": seed}
    deadline = time.monotonic() + 60 * minutes if minutes else float("inf")
    rows: dict[str, Row] = {}
    equivalent = listed()
    left = list(exercises)
    while left and time.monotonic() < deadline:
        hanging = None
        for event in _events({**job, "exercises": list(left)}, deadline):
            match event:
                case {"made": made, **facts}:
                    row = rows[event["exercise"]] = Row(event["exercise"], facts["lesson"], made, never=facts["never"])
                    known = equivalent.get(row.exercise, {})
                    row.stale = [f"no change any more: {key}" for key in known if key not in facts["keys"]]
                case {"begin": hanging}:
                    pass
                case {"status": _}:
                    hanging = None
                    _count(rows[event["exercise"]], event, equivalent.get(event["exercise"], {}))
                case {"done": exercise}:
                    left.remove(exercise)
                    row = rows[exercise]
                    note(f"{exercise}: {row.tried} tried, {len(row.survivors)} survivors, {row.seconds:.0f} s")
                case {"ended": reason} if hanging:
                    event = {**hanging, "status": REFUSED, "verdict": reason, "seconds": HUNG}
                    _keep(event)
                case {"ended": reason} if reason:
                    raise RuntimeError(f"the process that tries the changes ended: {reason}")
        if hanging is None and left and time.monotonic() < deadline:
            raise RuntimeError("the process that tries the changes ended too early")
    return list(rows.values())


def _count(row: Row, event: dict, equivalent: dict[str, str]) -> None:
    row.seconds += event["seconds"]
    key = event["key"]
    if event["status"] == REFUSED:
        row.refused += 1
        row.verdicts.append(event)
        row.stale += [f"refused by now: {key}"] if key in equivalent else []
    elif key in equivalent:
        row.equivalent += 1
    else:
        row.survivors.append(event)


def table(rows: list[Row]) -> Iterator[str]:
    """The lines that are printed at the end."""
    columns = ("tried", "refused", "equivalent", "survivors", "seconds")
    yield f"{'exercise':<28}" + "".join(f"{column:>11}" for column in columns)
    together = [0] * len(columns)
    for row in rows:
        numbers = [row.tried, row.refused, row.equivalent, len(row.survivors), row.seconds]
        together = [a + b for a, b in zip(together, numbers, strict=True)]
        yield f"{row.lesson} {row.exercise:<25}" + "".join(f"{number:>11,.0f}" for number in numbers)
    yield f"{'together':<28}" + "".join(f"{number:>11,.0f}" for number in together)


def _events(job: dict, deadline: float) -> Iterator[dict]:
    """What the process says, and at its end {"ended": why}; it is ended when it is silent for too long."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(ROOT)]),
        "OMP_NUM_THREADS": "1",
        "DIT_COURSE_STRICT": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", WORKER, json.dumps(job)]
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    patience = SLOW
    try:
        while True:
            try:
                line = lines.get(timeout=max(0.1, min(patience, deadline - time.monotonic())))
            except queue.Empty:
                yield {"ended": "" if time.monotonic() >= deadline else "it hung, and nothing inside could stop it"}
                return
            if line is None:
                code = process.wait()
                yield {"ended": f"it ended the process ({code})" if code else ""}
                return
            event = json.loads(line)
            patience = HUNG if "begin" in event else SLOW
            if event.pop("new", False):
                _keep(event)
            yield event
            if time.monotonic() >= deadline:
                yield {"ended": ""}
                return
    finally:
        process.kill()
        process.wait()


# -- what is kept ----------------------------------------------------------------------------------


def _keep(event: dict) -> None:
    CACHE.parent.mkdir(exist_ok=True)
    with CACHE.open("a") as file:
        file.write(json.dumps({name: event[name] for name in KEPT if name in event}) + "\n")


def kept() -> dict[str, dict]:
    """Results of earlier runs by the hash of program and check."""
    if not CACHE.exists():
        return {}
    return {entry["hash"]: entry for entry in map(json.loads, CACHE.read_text().splitlines())}


@cache
def _fingerprint(folder: Path) -> str:
    """Of all that a verdict depends on: the engine, the check, and the rooms."""
    package = ROOT / "dit_course"
    files = {*(package / "check" / "engine").glob("*.py"), *folder.glob("*.py"), *package.glob("*.py")}
    files |= {*(package / "check").glob("*.py"), Path(__file__).with_name("helpers.py")}
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]


# -- inside of the process -------------------------------------------------------------------------


def work(job: dict, say: Callable[[dict], None]) -> None:
    """Try the changes of some exercises, and say what comes of each."""
    import torch

    from mutation.operators import mutants
    from mutation.probe import kinds, never_run
    from mutation.programs import programs

    torch.set_num_threads(1)
    known = kept()
    for exercise in job["exercises"]:
        program = programs()[exercise]
        seen = kinds(program)
        made = mutants(program, seen)
        folder = Path(inspect.getfile(program.check.cases)).parent
        facts = {"made": len(made), "lesson": program.check.lesson, "never": never_run(program, seen)}
        say({"exercise": exercise, "keys": [mutant.key for mutant in made], **facts})
        for mutant in made:
            name = _digest(f"{exercise} {mutant.text} {_fingerprint(folder)}")
            if int(_digest(f"{job['seed']} {exercise} {mutant.text}"), 16) >= job["share"] * 16**20:
                continue
            facts = {"exercise": exercise, "hash": name, "given": mutant.given, "key": mutant.key}
            if name in known:
                say(facts | known[name] | {"seconds": 0.0})
                continue
            say({"begin": facts})
            say({**facts, **try_one(program, mutant.text), "new": True})
        say({"done": exercise})


def try_one(program, text: str) -> dict:
    """What the check says to one changed program: {"status": ..., "verdict": ..., "seconds": ...}."""
    from dit_course.check.engine.limits import run_limited
    from dit_course.check.engine.verdict import RIGHT

    begin = time.process_time()
    cell = run_limited(lambda: program.answer(text), SECONDS)
    if cell.value is None:
        return {"status": REFUSED, "verdict": f"the cell fails: {cell.error!r}", "seconds": time.process_time() - begin}
    verdict = program.check.examine(cell.value, seed=0, seconds=SECONDS)
    found = {"status": SURVIVED if verdict.status == RIGHT else REFUSED, "verdict": str(verdict)}
    if verdict.status == RIGHT:
        others = (program.check.examine(cell.value, seed=seed, seconds=SECONDS) for seed in LUCKY)
        found["luck"] = [seed for seed, other in zip(LUCKY, others, strict=True) if other.status != RIGHT]
    return found | {"seconds": round(time.process_time() - begin, 3)}


def times(exercises: list[str]) -> Iterator[str]:
    """A line for each exercise: how many seconds the check of its solution takes, the slowest first.

    Without what torch imports when it is used for the first time, several seconds for an optimizer.
    """
    from dit_course.check.engine.exercise import Draw
    from mutation.programs import programs

    found = []
    for name in exercises:
        program = programs()[name]
        answer = program.answer(program.text)
        program.check.cases(Draw(0))[0].use(program.check.reference)
        begin = time.perf_counter()
        status = program.check.examine(answer, seed=0).status
        found.append((time.perf_counter() - begin, program.check.lesson, name, status))
    yield from (
        f"{lesson} {name:<28}{seconds:>7.2f} s  {status}" for seconds, lesson, name, status in sorted(found)[::-1]
    )
    yield f"{'together':<31}{sum(seconds for seconds, *_ in found):>7.2f} s"


def main() -> None:
    """Work, and say what comes of it on standard output."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a program prints does not get between the lines
    work(json.loads(sys.argv[1]), lambda event: out.write(json.dumps(event) + "\n"))


if __name__ == "__main__":
    main()
