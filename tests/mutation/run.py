"""Try changed solutions on their checks: `python tests/mutation/run.py --exercise RMSNorm EMA --survivors`."""

import argparse
import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from dit_course import check  # noqa: E402 (found only now)
from mutation.programs import changeable  # noqa: E402
from mutation.runner import run, table, tidy, times  # noqa: E402


def main() -> int:
    """Returns 1 where a change was called right and is not listed, or is listed for nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exercise", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--lesson", nargs="*", default=[], metavar="NN")
    parser.add_argument("--share", type=float, default=1.0, help="of all changes, chosen by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="stop after so many")
    parser.add_argument("--survivors", action="store_true", help="print the changes that were called right")
    parser.add_argument("--verdicts", action="store_true", help="print what the check said to each refused change")
    parser.add_argument("--times", action="store_true", help="print how long each check takes, and nothing else")
    parser.add_argument("--tidy", action="store_true", help="take out of equivalent.toml what is refused or gone")
    options = parser.parse_args()
    names = [name for name in changeable() if not options.lesson or getattr(check, name).lesson in options.lesson]
    unknown = set(options.exercise) - set(names)
    if unknown:
        parser.error(f"there is no exercise {', '.join(sorted(unknown))}: there are {', '.join(names)}")
    names = [name for name in names if not options.exercise or name in options.exercise]

    if options.times:
        print("\n".join(times(names)))
        return 0
    rows = run(names, options.share, options.seed, options.minutes, lambda text: print(text, file=sys.stderr))
    for row in rows if options.verdicts else []:
        for event in row.verdicts:
            print(f"{row.exercise} | {event['key']}\n    {event['verdict']}")
    for row in rows if options.survivors else []:
        print(f"[{row.exercise}]") if row.survivors else None
        for event in row.survivors:
            luck = f"  # refused with seed {event['luck'][0]}" if event.get("luck") else ""
            print(f"    {json.dumps(event['key'])},{'  # given' if event['given'] else ''}{luck}")
    print("\n".join(table(rows)))
    if options.tidy:
        tidy(rows)
    for row in rows:
        for text in row.never:
            print(f"{row.exercise}: no case ever runs {text}")
        for text in row.stale:
            print(f"{row.exercise}: listed, but {text}")
    for text in missing(names, rows):
        print(text)
    return int(any(row.survivors or row.stale for row in rows))


def missing(names: list[str], rows: list) -> list[str]:
    """What the time was too short for."""
    begun = {row.exercise for row in rows}
    left = [name for name in names if name not in begun]
    return [f"no time for {', '.join(left)}"] if left else []


if __name__ == "__main__":
    sys.exit(main())
