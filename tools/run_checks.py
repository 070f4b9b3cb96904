"""Everything that is judged without running the suites: style, types, imports, house rules, documents, packaging.

    python -m tools.run_checks [CHECK ...]

Every check runs, also after one failed, so that one run shows all there is to mend.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tools.closing_lines import Result, forget_results, print_results, write_result

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


class Check(NamedTuple):
    """A command that must end with status 0, run in the clone's root."""

    name: str
    command: Sequence[str | Path]


def checks() -> list[Check]:
    """All checks, the quick ones first."""
    module = [sys.executable, "-m"]
    return [
        Check("ruff", [BIN / "ruff", "check", "."]),
        Check("format", [BIN / "ruff", "format", "--check", "--quiet", "."]),
        Check("house-rules", [*module, "tools.house_rules"]),
        Check("imports", [BIN / "lint-imports"]),
        Check("mypy", [*module, "mypy"]),
        Check("pyright", [BIN / "pyright"]),
        Check("documents", [*module, "tools.check_documents"]),
        Check("wheel", [*module, "tools.check_wheel"]),
    ]


def run_check(check: Check) -> Result:
    """Run one; its output goes through as it comes."""
    print(f"\n== {check.name}", flush=True)
    started = time.monotonic()
    done = subprocess.run(check.command, cwd=ROOT, check=False, stdin=subprocess.DEVNULL)
    took_s = time.monotonic() - started
    failed = done.returncode != 0
    problems = (f"ended with status {done.returncode}",) if failed else ()
    return Result(check.name, int(not failed), int(failed), 0, took_s, 0.0, problems, ())


def main() -> int:
    """Run the checks named, or all; 0 when all passed."""
    every = checks()
    if unknown := set(sys.argv[1:]) - {check.name for check in every}:
        sys.exit(f"no check is called {', '.join(sorted(unknown))}")
    forget_results("check")
    results = []
    for check in every:
        if not sys.argv[1:] or check.name in sys.argv[1:]:
            results.append(run_check(check))
            write_result("check", results[-1])
    print_results("checks", results)
    return 1 if any(result.failed for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
