"""A short run of every fuzz target, and proof that a crash is found, saved and shown."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from fuzz.registry import load_targets
from fuzz.run import Fuzzer

ROOT = Path(__file__).resolve().parents[2]
# For all targets together, and half a second each at least; the suite's share is 60 s.
SECONDS = 20.0

pytestmark = pytest.mark.skipif(find_spec("atheris") is None, reason="needs atheris, which is for Linux on x86-64")


def run(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    folders = [*sys.path, *([str(path)] if path else [])]
    return subprocess.run(
        [sys.executable, "-m", "fuzz.run", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.fixture(scope="module")
def fuzzer() -> Iterator[Fuzzer]:
    """The parsers are instrumented once; each target has a process of its own anyway."""
    with Fuzzer() as running:
        yield running


@pytest.mark.parametrize("name", sorted(load_targets()))
def test_nothing_crashes(name: str, fuzzer: Fuzzer, capsys: pytest.CaptureFixture[str]) -> None:
    targets = load_targets()
    passed = fuzzer.fuzz(targets[name], SECONDS / len(targets))
    output = capsys.readouterr().out
    assert passed, output
    assert "nothing found" in output


def test_a_crash_is_found_saved_and_printed_in_hex(tmp_path: Path) -> None:
    (tmp_path / "broken_targets.py").write_text(
        "from fuzz.registry import fuzz_target\n"
        "@fuzz_target()\n"
        "def fragile(data):\n"
        "    if len(data) > 2:\n"
        "        raise KeyError('three bytes')\n"
    )
    done = run("fragile", "--module", "broken_targets", "--seconds", "20", path=tmp_path)
    assert done.returncode == 1
    assert "KeyError: 'three bytes'" in done.stdout
    saved = list((ROOT / "build" / "fuzz" / "fragile").glob("crash-*"))
    assert len(saved) == 1
    assert saved[0].read_bytes().hex() in done.stdout
    assert len(saved[0].read_bytes()) > 2


def test_a_seed_that_crashes_is_found_without_any_search(tmp_path: Path) -> None:
    (tmp_path / "broken_targets.py").write_text(
        "from fuzz.registry import fuzz_target\n"
        "@fuzz_target(seeds_of='esp_header')\n"
        "def broken(data):\n"
        "    if len(data) == 16:\n"
        "        raise KeyError('the seed')\n"
    )
    done = run("broken", "--module", "broken_targets", "--seconds", "1", path=tmp_path)
    assert done.returncode == 1
    assert "01020304000000051011121314151617" in done.stdout
