"""The gate of full coverage: what it lets through, and what it says is missing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import full_coverage
from tools.full_coverage import Gap, Gate, gaps, read_gate, run

BRANCHING = "def sign(number):\n    if number < 0:\n        return -1\n    return 1\n"


def test_the_gate_is_read_from_the_project() -> None:
    gate = read_gate((full_coverage.ROOT / "pyproject.toml").read_text())
    for path in (*gate.modules, *gate.tests):
        assert (full_coverage.ROOT / path).is_file(), path
    assert "src/securesock/policy/arbitration.py" in gate.modules
    assert "src/securesock/wire/winsock_structures.py" in gate.modules
    with pytest.raises(KeyError):
        read_gate("[tool.securesock]\n")


def test_a_gap_is_said_in_words() -> None:
    assert str(Gap("a.py", (3,), ((2, 3), (5, -1)))) == "a.py: never tried: line 3, line 2 to 3, line 5 to the end"
    assert str(Gap("a.py", (), ())) == "a.py: never tried: anything"


def test_a_module_that_no_test_imports_is_a_gap() -> None:
    assert gaps({"files": {}}, ["a.py"]) == [Gap("a.py", (), ())]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "sign.py").write_text(BRANCHING)
    return tmp_path


@pytest.mark.parametrize(
    ("tests", "missing"),
    [
        ("assert sign(1) == 1 and sign(-1) == -1", []),
        ("assert sign(1) == 1", [Gap("sign.py", [3], [(2, 3)])]),
        ("assert sign(-1) == -1", [Gap("sign.py", [4], [(2, 4)])]),
    ],
)
def test_it_runs_the_tests_and_finds_what_they_leave_out(place: Path, tests: str, missing: list[Gap]) -> None:
    (place / "test_sign.py").write_text(f"from sign import sign\n\ndef test_sign():\n    {tests}\n")
    assert run(Gate(["sign.py"], ["test_sign.py"]), place) == missing


def test_a_test_that_fails_is_no_coverage(place: Path) -> None:
    (place / "test_sign.py").write_text("from sign import sign\n\ndef test_sign():\n    assert sign(1) == 2\n")
    with pytest.raises(subprocess.CalledProcessError):
        run(Gate(["sign.py"], ["test_sign.py"]), place)
