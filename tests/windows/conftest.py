"""The Windows interpreter of this suite, and what only runs inside it.

The folder on_windows holds tests that run under Windows alone; tests here run them there.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tools import leftovers

collect_ignore = [] if sys.platform == "win32" else ["on_windows"]

if sys.platform != "win32":
    from tests.support.windows_python import COMPILER, WINE, WindowsPython, prepare

    WINESERVER = "/usr/lib/wine/wineserver64"

    def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
        """Everything here needs both programs, and time for wine to begin."""
        for item in items:
            item.add_marker(pytest.mark.needs_program(WINE, COMPILER))

    @pytest.fixture(scope="session")
    def windows_python() -> Iterator[WindowsPython]:
        """The interpreter.  A process that waits keeps wine's own alive, which take seconds to begin."""
        python = prepare()
        waits = [*python.command("-c", "import sys; sys.stdin.read()")]
        devnull = subprocess.DEVNULL
        waiting = subprocess.Popen(
            waits, env=python.environment(), stdin=subprocess.PIPE, stdout=devnull, stderr=devnull
        )
        with leftovers.process(waiting):
            yield python
            subprocess.run([WINESERVER, "-k"], env=python.environment(), check=False)
