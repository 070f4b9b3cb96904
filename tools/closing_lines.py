"""The last lines of a run: every suite and check with its time, and one line of totals.

Each part of a run leaves its result under build/results as it ends; ``python -m tools.closing_lines`` reads them
all, so that the totals of `make check` and `make test` together can be printed after both.  The last line has
exactly the form "N passed, N failed, N skipped", for machines that read it.

    python -m tools.closing_lines [TARGET THAT FAILED ...]

A make target that failed before it could leave a result (no index to install from, say) is named on the command line
and counts as one failure.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).resolve().parent.parent / "build" / "results"


class Result(NamedTuple):
    """What one suite or check came to; times in seconds, share_s 0 where none is set."""

    name: str
    passed: int
    failed: int
    skipped: int
    took_s: float
    share_s: float
    problems: tuple[str, ...]
    skip_reasons: tuple[str, ...]


def forget_results(kind: str) -> None:
    """Forget what earlier runs of this kind ("suite" or "check") left."""
    for path in RESULTS.glob(f"{kind}-*.json"):
        path.unlink()


def write_result(kind: str, result: Result) -> None:
    """Leave a result for the closing lines."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    number = len(list(RESULTS.glob(f"{kind}-*.json")))
    (RESULTS / f"{kind}-{number:02}-{result.name}.json").write_text(json.dumps(result._asdict()))


def read_results() -> list[Result]:
    """Every result that is there: checks first, then suites, in the order in which they ran."""
    loaded = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    return [Result(**each | {key: tuple(each[key]) for key in ("problems", "skip_reasons")}) for each in loaded]


def result_line(result: Result) -> str:
    """One line of the table."""
    verdict = "FAILED" if result.failed else "skipped" if result.skipped and not result.passed else "passed"
    share = f" of {result.share_s:.0f} s" if result.share_s else ""
    counts = f"{result.passed} passed, {result.failed} failed, {result.skipped} skipped"
    return f"  {result.name:<18} {verdict:<8} {counts:<40} {result.took_s:6.1f} s{share}"


def print_results(title: str, results: Sequence[Result]) -> None:
    """The table, with every problem and every reason of a skip under its line."""
    print(f"\n{title}:")
    for result in results:
        print(result_line(result))
        for problem in result.problems:
            print(f"      {problem}")
        for reason in result.skip_reasons:
            print(f"      skipped: {reason}")
    took_s = sum(result.took_s for result in results)
    print(f"  {'in all':<18} {'FAILED' if any(result.failed for result in results) else 'passed':<49} {took_s:6.1f} s")
    sys.stdout.flush()


def main() -> int:
    """Print everything that left a result; 1 when anything failed or nothing ran."""
    results = read_results()
    if not any(result.failed for result in results):
        results += [Result(f"make {name}", 0, 1, 0, 0.0, 0.0, ("ended early",), ()) for name in sys.argv[1:]]
    print_results("checks and suites run and skipped", results)
    totals = [sum(getattr(result, part) for result in results) for part in ("passed", "failed", "skipped")]
    print("{} passed, {} failed, {} skipped".format(*totals))
    return 1 if totals[1] or not totals[0] else 0


if __name__ == "__main__":
    sys.exit(main())
