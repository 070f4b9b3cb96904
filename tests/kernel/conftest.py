"""The tests of this folder run in a kernel that has ESP: User-Mode Linux, one boot for each file.

They are written as all tests are.  Outside, each of them stands for itself: the first of a file prepares what needs the
network (the file's ``PREPARED``), boots, and runs pytest on the file inside; then each reports what became of it there.
Inside, this module only says so over the serial line.  A file that says ``OUTSIDE = True`` is run as it is.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.interop.combinations import FULL
from tests.support import user_mode_linux

HERE: Final = Path(__file__).resolve().parent
INSIDE: Final = user_mode_linux.INSIDE_VARIABLE in os.environ
SECONDS: Final = 150.0
"""A file's time inside, unless it says otherwise: all its tests, on one CPU that may be a fifth as fast as ours."""
PREPARING_S: Final = 300.0
MARK: Final = "@outcome "
TOLD: Final = ("SECURESOCK_REQUIRE_SYSTEM", FULL)


class Inside(pytest.Item):
    """A test that runs inside, and reports here."""

    def runtest(self) -> None:
        """Fail or skip as it did there."""
        faulthandler.cancel_dump_traceback_later()  # pytest's: the first of a file takes as long as all of it
        boots = self.session.stash.setdefault(BOOTS, {})
        if self.path not in boots:
            boots[self.path] = Boot(self)
        found = boots[self.path].outcomes.get(self.nodeid)
        if found is None:
            pytest.fail(f"it did not come to its end inside:\n{boots[self.path].output[-6000:]}", pytrace=False)
        if found["verdict"] == "skipped":
            pytest.skip(found["text"])
        if found["verdict"] == "failed":
            pytest.fail(f"inside User-Mode Linux:\n{found['text']}", pytrace=False)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it stands in its file is pytest's to find inside."""
        return self.path, None, self.name


class Boot:
    """One file's tests, run inside."""

    def __init__(self, first: Inside) -> None:
        module = _module(first)
        environment = {name: os.environ[name] for name in TOLD if name in os.environ}
        for prepare in getattr(module, "PREPARED", ()):
            prepare()
        tests = [item.nodeid for item in first.session.items if item.path == first.path]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", *tests]
        self.outcomes: dict[str, dict[str, str]] = {}
        self.output = user_mode_linux.run_inside(command, _seconds(module), environment, self._hear).output

    def _hear(self, line: str) -> None:
        _, mark, told = line.partition(MARK)
        if mark:
            outcome: dict[str, str] = json.loads(told)
            self.outcomes[outcome["test"]] = outcome


BOOTS: Final = pytest.StashKey[dict[Path, Boot]]()


def _module(item: pytest.Item) -> Any:
    parent = item.getparent(pytest.Module)
    return parent.obj if parent else None


def _seconds(module: object) -> float:
    return float(getattr(module, "SECONDS", SECONDS))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Outside: what belongs inside is put in the place of each test."""
    items[:] = [_outside(item) if HERE in item.path.parents and not INSIDE else item for item in items]


def _outside(item: pytest.Item) -> pytest.Item:
    module = _module(item)
    if getattr(module, "OUTSIDE", False):
        found: pytest.Item = item
    else:
        found = Inside.from_parent(item.parent, name=item.name)
        found.own_markers = list(item.own_markers)
        limit = _seconds(module) + (PREPARING_S if getattr(module, "PREPARED", ()) else 0.0) + 30.0
        found.add_marker(pytest.mark.timeout(limit))
    for mark in (pytest.mark.needs_root, pytest.mark.needs_program("linux.uml"), pytest.mark.needs_program("insmod")):
        found.add_marker(mark)
    return found


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Inside: tell what happened.  A phase that failed counts, whatever the others did."""
    if INSIDE and (report.when == "call" or report.outcome != "passed"):
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        if report.outcome == "failed":
            text = "\n".join((text, *(f"-- {title}\n{said}" for title, said in report.sections)))
        _tell([{"test": report.nodeid, "verdict": report.outcome, "text": text}])


def _tell(outcomes: Iterable[dict[str, str]]) -> None:
    with Path("/dev/console").open("w") as serial:
        for each in outcomes:
            serial.write(f"\n{MARK}{json.dumps(each)}\n")
