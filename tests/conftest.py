"""What holds for every test: its suite's mark, a time limit, no chance, and nothing skipped in silence.

A test belongs to the suite whose folder it lies in (tests/suites.toml).  What it needs of the machine it says with
``@pytest.mark.needs_root`` and ``@pytest.mark.needs_program("ip")``: where that is missing it skips and says why,
and with SECURESOCK_REQUIRE_SYSTEM set it fails instead.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import shutil
from pathlib import Path

import hypothesis
import pytest

# What tests share asserts too, and should say what it compared.
pytest.register_assert_rewrite("tests.support")

TESTS = Path(__file__).resolve().parent
REQUIRE_SYSTEM = bool(os.environ.get("SECURESOCK_REQUIRE_SYSTEM"))
# Seconds for one test.  Machines on a fake clock need none; a suite with real processes waits for the scheduler.
TIME_LIMIT_S = {
    "unit": 20,
    "vectors": 20,
    "pair": 30,
    "property": 60,
    "coverage": 60,
    "fuzz": 60,
    "system": 60,
    "demo": 90,
    "interop": 60,
    "windows": 200,
    "kernel": 90,  # inside a kernel on one CPU that may be a fifth as fast
}
DEFAULT_TIME_LIMIT_S = 120

# The same examples in every run: a failure seen by one is seen by all.  `make fuzz` is where new ones are looked for.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, print_blob=True)
hypothesis.settings.register_profile("searching", deadline=None, max_examples=5000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("SECURESOCK_HYPOTHESIS", "repeatable"))


def suite_of(path: Path) -> str:
    """The suite that a test file belongs to."""
    return path.resolve().relative_to(TESTS).parts[0]


def pytest_configure(config: pytest.Config) -> None:
    """Marks are declared here; locals are never shown, because some of them are keys."""
    for name in (*TIME_LIMIT_S, "soak"):
        config.addinivalue_line("markers", f"{name}: a test of the suite tests/{name}")
    config.addinivalue_line("markers", "needs_root: runs only as root")
    config.addinivalue_line("markers", "needs_program(name): runs only where this program is installed")
    config.option.showlocals = False
    if not faulthandler.is_enabled():
        faulthandler.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its suite and limit its time, unless it says otherwise."""
    for item in items:
        suite = suite_of(item.path)
        item.add_marker(getattr(pytest.mark, suite))
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIME_LIMIT_S.get(suite, DEFAULT_TIME_LIMIT_S)))


def pytest_collection_finish() -> None:
    """What is there before the first test is no test's garbage: a test that has the collector run looks at its own."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip aloud what this machine cannot run; fail it where everything has to be there."""
    if reason := _what_is_missing(item):
        if REQUIRE_SYSTEM:
            pytest.fail(f"{reason}, and SECURESOCK_REQUIRE_SYSTEM is set", pytrace=False)
        pytest.skip(reason)


def _what_is_missing(item: pytest.Item) -> str | None:
    if item.get_closest_marker("needs_root") and (not hasattr(os, "geteuid") or os.geteuid() != 0):
        return "needs root"
    where = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    for mark in item.iter_markers("needs_program"):
        for name in mark.args:
            if shutil.which(name, path=where) is None:
                return f"needs the program {name}"
    return None
