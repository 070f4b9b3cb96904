"""The rules that tests/conftest.py lays on every test, seen on small tests of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with nothing but the project's own conftest files and pytest settings."""
    (tmp_path / "tests" / "system").mkdir(parents=True)
    shutil.copy(TESTS / "conftest.py", tmp_path / "tests")
    shutil.copy(TESTS / "system" / "conftest.py", tmp_path / "tests" / "system")
    shutil.copy(TESTS.parent / "pyproject.toml", tmp_path)
    return tmp_path


def run_test(clone: Path, suite: str, text: str, **environment: str) -> tuple[int, str]:
    """Status and output of pytest over one test file."""
    (clone / "tests" / suite).mkdir(exist_ok=True)
    (clone / "tests" / suite / "test_it.py").write_text(text)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SECURESOCK_", "PYTEST_"))}
    environment = {"SECURESOCK_LEAK_PATIENCE_S": "0.2", "PYTHONPATH": str(TESTS.parent / "src")} | environment
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=clone, env=clean | environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_a_test_has_the_mark_and_the_time_limit_of_its_suite(request: pytest.FixtureRequest) -> None:
    limit = request.node.get_closest_marker("timeout")

    assert request.node.get_closest_marker("unit") is not None
    assert limit is not None
    assert limit.args == (20,)


def test_what_the_machine_lacks_skips_with_its_reason(clone: Path) -> None:
    text = "import pytest\n@pytest.mark.needs_program('no-such-program')\ndef test_it(): assert False\n"

    status, output = run_test(clone, "system", text)

    assert status == 0
    assert "1 skipped" in output
    assert "needs the program no-such-program" in output


def test_what_the_machine_lacks_fails_where_all_must_be_there(clone: Path) -> None:
    text = "import pytest\n@pytest.mark.needs_program('no-such-program')\ndef test_it(): assert False\n"

    status, output = run_test(clone, "system", text, SECURESOCK_REQUIRE_SYSTEM="1")

    assert status == 1
    assert "needs the program no-such-program, and SECURESOCK_REQUIRE_SYSTEM is set" in output


def test_a_warning_fails_a_test(clone: Path) -> None:
    status, output = run_test(clone, "unit", "import warnings\ndef test_it(): warnings.warn('old')\n")

    assert status == 1
    assert "UserWarning: old" in output


def test_values_of_locals_are_not_shown_on_failure(clone: Path) -> None:
    text = "def test_it():\n    key = 'c0ffee' * 3\n    raise RuntimeError('no')\n"

    status, output = run_test(clone, "unit", text, PYTEST_ADDOPTS="--showlocals")

    assert status == 1
    assert "c0ffeec0ffee" not in output


def test_a_system_test_that_leaves_a_thread_fails(clone: Path) -> None:
    text = (
        "import threading\nrelease = threading.Event()\n"
        "def test_it(): threading.Thread(target=release.wait, args=(30,), name='left', daemon=True).start()\n"
    )

    status, output = run_test(clone, "system", text)

    assert status == 1
    assert "left behind: thread left" in output


def test_a_system_test_that_leaves_a_descriptor_fails(clone: Path) -> None:
    status, output = run_test(clone, "system", "import os\ndef test_it(): os.open('/dev/null', os.O_RDONLY)\n")

    assert status == 1
    assert "/dev/null" in output
    assert "left behind: descriptor" in output


def test_what_a_process_makes_once_is_no_leak(clone: Path) -> None:
    text = (
        "import securesock as ss\n"
        "def test_it():\n"
        "    context = ss.SecurityContext(ss.Identity.ephemeral('host/a.example'))\n"
        "    with ss.create_server(('127.0.0.1', 0), context=context) as listener: listener.getsockname()\n"
    )

    status, output = run_test(clone, "system", text)

    assert status == 0, output


def test_a_system_test_that_cleans_up_passes(clone: Path) -> None:
    text = "import socket\ndef test_it():\n    with socket.socket() as it: assert it.fileno() >= 0\n"

    status, output = run_test(clone, "system", text)

    assert status == 0, output
