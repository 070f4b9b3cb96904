"""Every line and every branch of some modules, or a failure: those where a path that nobody tried is a hole.

    python -m tools.full_coverage

pyproject.toml says which modules and by which tests, in [tool.securesock.full-coverage].  The tests are the quick ones
that look at these modules alone; what only a whole connection reaches does not count as tried.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Gate(NamedTuple):
    """What is to be covered in full, as paths of modules, and by which tests."""

    modules: Sequence[str]
    tests: Sequence[str]


class Gap(NamedTuple):
    """What of a module was not tried: lines, and branches as (from line, to line; negative: out of the function)."""

    module: str
    lines: Sequence[int]
    branches: Sequence[tuple[int, int]]

    def __str__(self) -> str:
        parts = [f"line {line}" for line in self.lines]
        parts += [f"line {line} to {to if to > 0 else 'the end'}" for line, to in self.branches]
        return f"{self.module}: never tried: {', '.join(parts) or 'anything'}"


def read_gate(text: str) -> Gate:
    """The gate of a pyproject.toml; KeyError without one."""
    table = tomllib.loads(text)["tool"]["securesock"]["full-coverage"]
    return Gate(table["modules"], table["tests"])


def gaps(report: dict[str, dict[str, dict[str, list[int]]]], modules: Sequence[str]) -> list[Gap]:
    """What is missing in a JSON report of coverage; a module that is not in it was not tried at all."""
    found = []
    for module in modules:
        entry = report["files"].get(module)
        if entry is None:
            found.append(Gap(module, (), ()))
            continue
        lines = entry["missing_lines"]
        branches = [(each[0], each[1]) for each in _pairs(entry["missing_branches"])]
        if lines or branches:
            found.append(Gap(module, lines, branches))
    return found


def _pairs(branches: object) -> list[tuple[int, int]]:
    return [(int(each[0]), int(each[1])) for each in branches] if isinstance(branches, list) else []


def run(gate: Gate, root: Path = ROOT) -> list[Gap]:
    """Run the tests and say what they left out; CalledProcessError when one of them fails."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        environment = {**os.environ, "COVERAGE_FILE": str(Path(folder) / "data")}
        coverage = [sys.executable, "-m", "coverage"]
        include = ",".join(gate.modules)
        tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *gate.tests]
        commands = (
            [*coverage, "run", "--branch", f"--rcfile={os.devnull}", f"--include={include}", *tests],
            [*coverage, "json", "-q", f"--rcfile={os.devnull}", "-o", str(report)],
        )
        for command in commands:
            subprocess.run(command, cwd=root, env=environment, check=True, stdout=sys.stderr)
        return gaps(json.loads(report.read_text()), gate.modules)


def main() -> int:
    """Print what was left out; 0 when that is nothing."""
    gate = read_gate((ROOT / "pyproject.toml").read_text())
    found = run(gate)
    for gap in found:
        print(gap)
    if not found:
        print(f"{len(gate.modules)} modules: every line and every branch")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
