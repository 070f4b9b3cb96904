"""Runs the cases, prints a table, and writes benchmarks/results.json.

    python -m benchmarks [PART OF A NAME ...]

Ends with status 1 when a row breaks its bound.  results.json is written only when all cases ran, so that all of it
comes from one run.
"""

from __future__ import annotations

import json
import os
import platform
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness import Case, Row, is_bounded, load_cases, run_case
from tools import system_packages

RESULTS = Path(__file__).resolve().parent / "results.json"
_LINE = "{:<44} {:>10} {:>10}  {:<9} {:<40} {:>6} {:>6}  {}"


def main() -> int:
    """Run what is asked for; 0 when every bound was kept."""
    cases = load_cases()
    wanted = [each for each in cases if not sys.argv[1:] or any(part in each.name for part in sys.argv[1:])]
    if not wanted:
        sys.exit(f"no case has a name with {' or '.join(sys.argv[1:])}; there are: {'; '.join(c.name for c in cases)}")
    if any(_lacks(each) for each in wanted):
        system_packages.install_missing()
    print(_machine(), flush=True)
    print(_LINE.format("", "ours", "peer", "unit", "peer is", "ratio", "spread", ""), flush=True)
    rows: list[Row] = []
    broken = 0
    left_out = 0
    for each in wanted:
        if lacks := _lacks(each):
            left_out += 1
            print(f"{each.name}: left out, it needs {', '.join(lacks)}", flush=True)
            continue
        found = run_case(each)
        for row in found:
            verdict = _verdict(each, row, found)
            broken += verdict.startswith("BROKEN")
            numbers = [_shown(row.ours), _shown(row.peer)]
            shown = [row.name, *numbers, row.unit, row.peer_name, f"{row.ratio:.2f}", f"{row.spread:.2f}", verdict]
            print(_LINE.format(*shown), flush=True)
        rows += found
    if len(wanted) == len(cases) and not left_out:
        RESULTS.write_text(json.dumps([row._asdict() for row in rows], indent=2) + "\n")
        print(f"written to {RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS}")
    return 1 if broken else 0


def _lacks(case: Case) -> list[str]:
    """What a case needs and is not there."""
    lacks = [each for each in case.needs if system_packages.find_program(each) is None]
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return ["root", *lacks] if case.needs and not root else lacks


def _verdict(case: Case, row: Row, rows: list[Row]) -> str:
    if case.bound is None or not is_bounded(case, row, rows):
        return ""
    kept = "kept" if case.bound.is_kept(row) else "BROKEN"
    value = f": {case.bound.value_of(row):.2f}" if case.bound.of == "difference" else ""
    return f"{kept}: {case.bound}{value}" + (f", aim {case.aim:g}" if case.aim is not None else "")


def _shown(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _machine() -> str:
    """What one has to know to compare two tables."""
    today = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{today}, {python}, {ssl.OPENSSL_VERSION}, {platform.system()} {platform.release()}, {_processor()}{load}"


def _processor() -> str:
    """The processor's name and how many of it this process may use."""
    name = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} x {name}"


if __name__ == "__main__":
    sys.exit(main())
