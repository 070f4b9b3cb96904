"""Builds sdist and wheel, installs the wheel into an empty environment, and runs the demo from there.

    python -m tools.check_wheel

The wheel is built from the sdist, so that a file missing in the sdist shows.  What the wheel needs comes from the
lock; `pip check` then holds it against the wheel's own metadata.  The demo's answer is judged, not only its status.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from tools import leftovers
from tools.bootstrap import LOCK, part_for_running, read_lock

ROOT = Path(__file__).resolve().parent.parent
DEMO_SECONDS = 60.0
_IN_WHEEL = ("securesock/__init__.py", "securesock/py.typed", "/licenses/LICENSE", "/entry_points.txt")
_IN_SDIST = ("/src/securesock/__init__.py", "/tests/conftest.py", "/README.md", "/CHANGELOG.md", "/LICENSE")


def build(into: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel made from it."""
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", into, ROOT], check=True)
    (sdist,), (wheel,) = into.glob("*.tar.gz"), into.glob("*.whl")
    return sdist, wheel


def missing_files(sdist: Path, wheel: Path) -> list[str]:
    """What ought to be inside them and is not, and what ought not to be and is."""
    with tarfile.open(sdist) as archive:
        in_sdist = archive.getnames()
    in_wheel = zipfile.ZipFile(wheel).namelist()
    problems = [f"no {name} in the wheel" for name in _IN_WHEEL if not any(each.endswith(name) for each in in_wheel)]
    problems += [f"no {name} in the sdist" for name in _IN_SDIST if not any(each.endswith(name) for each in in_sdist)]
    strangers = [each for each in in_wheel if not each.startswith(("securesock/", "securesock-"))]
    return problems + [f"{name} in the wheel" for name in strangers]


def install(wheel: Path, environment: Path) -> None:
    """An empty environment with the wheel and the pinned distributions that it needs."""
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    requirements = environment / "run.lock"
    requirements.write_text("".join(entry.text for entry in part_for_running(read_lock(LOCK.read_text()))))
    pip: list[str | Path] = [environment / "bin" / "python", "-m", "pip"]
    quiet = os.environ | {"PIP_ROOT_USER_ACTION": "ignore", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    steps: list[list[str | Path]] = [
        ["install", "--quiet", "--no-input", "--require-hashes", "--requirement", requirements],
        ["install", "--quiet", "--no-input", "--no-deps", "--no-index", wheel],
        ["check"],
    ]
    for arguments in steps:
        done = subprocess.run([*pip, *arguments], check=False, env=quiet, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{done.stdout}{done.stderr}pip {arguments[0]} failed in the empty environment")


def judge_demo(answer: dict[str, Any]) -> list[str]:
    """What in the demo's own JSON is not as promised."""
    problems = [
        f"the demo says {key}={answer.get(key)!r}" for key in ("secured", "encrypted") if answer.get(key) is not True
    ]
    if answer.get("clear_text_bytes_on_wire") != 0:
        problems.append(f"clear text on the wire: {answer.get('clear_text_bytes_on_wire')!r} bytes")
    for side in ("client", "server"):
        if not isinstance(answer.get(side), dict) or not answer[side].get("peer_machine"):
            problems.append(f"the {side} names no peer")
    refusals = answer.get("refusals") or []
    if not refusals:
        problems.append("the demo shows no refusals")
    problems += [f"not refused: {each.get('case')}" for each in refusals if each.get("refused") is not True]
    return problems


def run_demo(environment: Path, folder: Path) -> list[str]:
    """Run the installed demo from a folder that has nothing of the clone in reach."""
    command: list[str | Path] = [environment / "bin" / "securesock", "demo", "--json"]
    # -P, PYTHONPATH and the clone's own folder out of the way: what runs is the wheel.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        command, check=False, cwd=folder, env=clean, capture_output=True, text=True, timeout=DEMO_SECONDS
    )
    if done.returncode:
        return [f"the demo ended with status {done.returncode}:\n{done.stdout}{done.stderr}"]
    return judge_demo(json.loads(done.stdout))


def main() -> int:
    """Build, look inside, install, run; 0 when all of it is as it should be."""
    with leftovers.folder("wheel") as folder:
        sdist, wheel = build(folder / "built")
        problems = missing_files(sdist, wheel)
        install(wheel, folder / "environment")
        (folder / "elsewhere").mkdir()
        problems += run_demo(folder / "environment", folder / "elsewhere")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
