"""Runs the suites of tests/suites.toml, each in a process of its own, against its share of the time.

    python -m tools.run_suites [SUITE ...]

First the leftovers of killed runs are removed and the system packages are seen to.  A suite fails when a test
fails, when it has no tests, or when it takes more than twice its share; it is ended then, not waited for.  With
SECURESOCK_REQUIRE_SYSTEM set a skipped test is a failure unless tests/allowed_skips.toml lists it with a reason.

What happened goes to build/results/<suite>.json, from which closing_lines sums up.
"""

from __future__ import annotations

import fnmatch
import os
import signal
import subprocess
import sys
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tools import leftovers, system_packages
from tools.closing_lines import Result, forget_results, print_results, write_result

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
REPORTS = ROOT / "build" / "reports"
OVERTIME = 2.0  # a suite fails over this many times its share


class Suite(NamedTuple):
    """A folder of tests and its share of the time, in seconds."""

    name: str
    seconds: float
    holds: str


class Outcome(NamedTuple):
    """One test of a report: its id, and why it failed or skipped."""

    test: str
    verdict: str
    reason: str


def read_suites(text: str) -> list[Suite]:
    """The suites of suites.toml, in its order."""
    return [Suite(each["name"], float(each["seconds"]), each["holds"]) for each in tomllib.loads(text)["suite"]]


def read_allowed_skips(text: str) -> dict[str, str]:
    """Patterns of test ids that may skip, each with its reason; a missing reason is a KeyError."""
    return {each["test"]: each["reason"] for each in tomllib.loads(text)["skip"] if each["reason"].strip()}


def read_report(path: Path) -> list[Outcome]:
    """The tests of a JUnit report that pytest wrote.  A test that errs and fails counts once."""
    outcomes: dict[str, Outcome] = {}
    if not path.exists():
        return []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        if not case.get("name"):
            continue  # the one in which pytest was interrupted: it neither passed nor failed
        module = case.get("classname", "").replace(".", "/")
        test = f"{module}::{case.get('name', '')}"
        verdict, reason = "passed", ""
        for found in ("skipped", "error", "failure"):
            node = case.find(found)
            if node is not None:
                verdict = "skipped" if found == "skipped" else "failed"
                reason = node.get("message") or ""
        if outcomes.get(test, Outcome(test, "passed", "")).verdict != "failed":
            outcomes[test] = Outcome(test, verdict, reason)
    return list(outcomes.values())


def judge(
    suite: Suite, outcomes: Sequence[Outcome], status: int, took_s: float, allowed: dict[str, str], strict: bool
) -> Result:
    """What a finished run of a suite amounts to."""
    problems: list[str] = []
    skips = [outcome for outcome in outcomes if outcome.verdict == "skipped"]
    refused = [skip for skip in skips if not any(fnmatch.fnmatch(skip.test, pattern) for pattern in allowed)]
    failed = sum(outcome.verdict == "failed" for outcome in outcomes)
    if strict:
        problems += [f"{skip.test} skipped: {skip.reason}" for skip in refused]
        failed += len(refused)
        skips = [skip for skip in skips if skip not in refused]
    if not outcomes:
        problems.append("no tests ran")
    if took_s > suite.seconds * OVERTIME:
        problems.append(f"took {took_s:.0f} s, more than twice its share of {suite.seconds:.0f} s")
    if status not in (0, 1):
        problems.append(f"pytest ended with status {status}")
    # A problem that no test stands for still has to count.
    if (problems or status) and not failed:
        failed = 1
    passed = sum(outcome.verdict == "passed" for outcome in outcomes)
    reasons = sorted({skip.reason for skip in skips})
    return Result(suite.name, passed, failed, len(skips), took_s, suite.seconds, tuple(problems), tuple(reasons))


def run_suite(suite: Suite, allowed: dict[str, str], strict: bool) -> Result:
    """Run one suite to its end, or to twice its share of the time."""
    folder = TESTS / suite.name
    if not folder.is_dir():
        return Result(suite.name, 0, 1, 0, 0.0, suite.seconds, (f"there is no folder tests/{suite.name}",), ())
    print(f"\n== {suite.name}: {suite.holds}", flush=True)
    report = REPORTS / f"{suite.name}.xml"
    report.unlink(missing_ok=True)
    report.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pytest", "-rs", str(folder), f"--junitxml={report}"]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # as a shell leaves it to what runs in the background; a suite would inherit that and could not be asked to end
        signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            status = process.wait(timeout=suite.seconds * OVERTIME)
        except subprocess.TimeoutExpired:
            status = _end(process)
        finally:
            if process.poll() is None:  # this run itself is being interrupted
                _end(process)
    took_s = time.monotonic() - started
    return judge(suite, read_report(report), status, took_s, allowed, strict)


def _end(process: subprocess.Popen[bytes]) -> int:
    """End a suite with every process it started: first asked, so that it says where it stood, then made to."""
    for number, grace_s in ((signal.SIGINT, 10.0), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
            return process.wait(timeout=grace_s)
        except ProcessLookupError:
            return process.wait()
        except subprocess.TimeoutExpired:
            continue
    return process.wait()


def main() -> int:
    """Run the suites named, or all; 0 when all passed."""
    suites = read_suites((TESTS / "suites.toml").read_text())
    if unknown := set(sys.argv[1:]) - {suite.name for suite in suites}:
        sys.exit(f"no suite is called {', '.join(sorted(unknown))}")
    chosen = [suite for suite in suites if not sys.argv[1:] or suite.name in sys.argv[1:]]
    allowed = read_allowed_skips((TESTS / "allowed_skips.toml").read_text())
    strict = bool(os.environ.get("SECURESOCK_REQUIRE_SYSTEM"))
    leftovers.remove_of_dead_runs()
    system_packages.install_missing()
    forget_results("suite")
    results = []
    for suite in chosen:
        results.append(run_suite(suite, allowed, strict))
        write_result("suite", results[-1])
    print_results("suites", results)
    return 1 if any(result.failed for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
