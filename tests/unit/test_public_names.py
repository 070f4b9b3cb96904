"""The public names: all there, none imported before it is used, none misspelt without a checker's word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import securesock

ROOT = Path(__file__).resolve().parents[2]


def test_every_public_name_is_there() -> None:
    for name in securesock.__all__:
        assert getattr(securesock, name) is not None
    assert set(securesock.__all__) <= set(dir(securesock))


def test_what_tests_stand_on_is_there_by_name_and_not_for_whoever_imports_everything() -> None:
    for name in ("Authority", "FakeClock", "FakeNetwork", "Pair", *securesock.testing.__all__):
        assert getattr(securesock.testing, name) is not None
    assert "testing" not in securesock.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = getattr(securesock, "no_such" + "_name")


def test_a_type_checker_objects_to_an_unknown_name(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import securesock as ss\nss.no_such_name\n")
    command = [sys.executable, "-m", "mypy", "--strict", str(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 1, done.stdout + done.stderr
    assert "no_such_name" in done.stdout


def test_importing_loads_no_command_line_and_starts_no_thread() -> None:
    script = (
        "import sys, threading, securesock\n"
        "loaded = {'typer', 'rich', 'OpenSSL', 'asyncio', 'securesock.cli'} & set(sys.modules)\n"
        "sys.exit(f'{loaded} {threading.enumerate()}' if loaded or threading.active_count() > 1 else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT / "src")

    assert done.returncode == 0, done.stderr
