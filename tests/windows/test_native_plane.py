"""The native plane against a stand-in Fwpuclnt.dll: see on_windows/test_native_plane.py, which runs under wine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.windows_python import WindowsPython, compile_for_windows, windows_path
from tools.run_suites import read_report

HERE = Path(__file__).resolve().parent


@pytest.fixture
def stand_in(windows_python: WindowsPython, tmp_path: Path) -> Iterator[None]:
    """Where Windows has its own: in the system's folder, the only one that the plane looks in."""
    place = windows_python.home / "prefix" / "drive_c" / "windows" / "system32" / "fwpuclnt.dll"
    kept = tmp_path / "wines-own.dll"
    shutil.move(place, kept)
    try:
        compile_for_windows(HERE / "fwpuclnt.c", place, "-shared", "-static", "-lws2_32", "-ladvapi32")
        yield
    finally:
        shutil.move(kept, place)


@pytest.mark.timeout(200)
@pytest.mark.usefixtures("stand_in")
def test_the_system_is_told_and_its_answers_and_errors_come_back(windows_python: WindowsPython, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    options = ["-q", "-p", "no:cacheprovider", "--timeout=60", f"--junitxml={windows_path(report)}"]
    tests = "tests/windows/on_windows/test_native_plane.py"
    done = windows_python.run("-m", "pytest", *options, tests, timeout_s=180, native=["fwpuclnt"])
    outcomes = read_report(report)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {each.verdict for each in outcomes} == {"passed"}, done.stdout
    assert len(outcomes) > 80
