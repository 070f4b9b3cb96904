"""Makes .venv and installs into it what a make target needs, from the committed lock alone.

    python3 -m tools.bootstrap run     the package and what it needs to run
    python3 -m tools.bootstrap dev     all of the lock: tests, checks, builds

Every distribution comes by name, version and hash; where from is pip's own configuration, which this module
neither reads nor changes.  The lock is one file; ``run`` installs the part of it that pyproject.toml's
dependencies reach, followed through the "via" comments that pip-compile writes.

A stamp inside .venv records what was installed, so that a second run costs nothing.  A failed or interrupted
installation leaves no stamp and the next run does it again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import NamedTuple

from tools import system_packages

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements" / "dev.lock"
PYTHON = VENV / "bin" / "python"

# Who needs an entry of the run-time part: the project itself, and the back end that builds it.
RUN_ROOTS = frozenset({"securesock (pyproject.toml)"})
BUILD_BACKEND = "hatchling"
MINIMUM_PYTHON = (3, 11)

_ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==")
_VIA = re.compile(r"^    # (?:via )?\s*(?P<parent>\S.*)$")


class LockEntry(NamedTuple):
    """One distribution of the lock: its lines as they stand, and the names that ask for it."""

    name: str
    text: str
    parents: frozenset[str]


def read_lock(text: str) -> list[LockEntry]:
    """The entries of a lock that pip-compile wrote with hashes and annotations."""
    entries: list[LockEntry] = []
    name, lines, parents = "", list[str](), set[str]()

    def finish() -> None:
        if name:
            entries.append(LockEntry(name, "".join(lines), frozenset(parents)))

    for line in text.splitlines(keepends=True):
        if found := _ENTRY.match(line):
            finish()
            name, lines, parents = found["name"].lower(), [line], set()
        elif line.startswith("    --hash="):
            lines.append(line)
        elif (found := _VIA.match(line)) and found["parent"] != "via":
            parents.add(found["parent"].lower())
    finish()
    return entries


def part_for_running(entries: Iterable[LockEntry]) -> list[LockEntry]:
    """The entries that the package needs to be built and to run, in the order of the lock."""
    every = list(entries)
    wanted = set(RUN_ROOTS)
    while True:
        reached = {entry.name for entry in every if entry.parents & wanted or entry.name == BUILD_BACKEND}
        if reached <= wanted:
            return [entry for entry in every if entry.name in wanted]
        wanted |= reached


def make_environment() -> None:
    """Make .venv with pip in it, or end the program with one line that says what is missing."""
    if sys.version_info < MINIMUM_PYTHON:
        sys.exit(f"securesock needs Python 3.11 or later; {sys.executable} is {sys.version.split()[0]}")
    if importlib.util.find_spec("ensurepip") is None:
        # Debian leaves ensurepip out of python3: venv then makes an environment without pip and fails.
        system_packages.install_or_explain(["python3-venv"], why="python3 here cannot make virtual environments")
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    (VENV / "made-for").write_text(_place())


def install(level: str) -> None:
    """Bring .venv to ``level`` ("run" or "dev"); does nothing when it is there already."""
    stamp = VENV / f"installed-{level}"
    fingerprint = _fingerprint()
    usable = PYTHON.exists() and _reads(VENV / "made-for", _place())
    if usable and any(_reads(VENV / f"installed-{name}", fingerprint) for name in ("dev", level)):
        return
    if not usable:
        make_environment()
    for name in ("run", "dev"):
        (VENV / f"installed-{name}").unlink(missing_ok=True)
    requirements = LOCK
    if level == "run":
        requirements = VENV / "run.lock"
        requirements.write_text("".join(entry.text for entry in part_for_running(read_lock(LOCK.read_text()))))
    print(f"installing into {VENV.name} ({level})", flush=True)
    _pip("--require-hashes", "--requirement", requirements)
    _pip("--no-deps", "--no-build-isolation", "--editable", ROOT)
    stamp.write_text(fingerprint)


def _pip(*arguments: str | Path) -> None:
    """pip install; its words are shown when it fails."""
    environment = os.environ | {"PIP_ROOT_USER_ACTION": "ignore", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--no-input", *map(str, arguments)]
    done = subprocess.run(command, check=False, env=environment, text=True, stdout=PIPE, stderr=STDOUT)
    if done.returncode:
        sys.exit(f"{done.stdout}\npip failed with status {done.returncode}; its message is above")


def _fingerprint() -> str:
    """Changes when the lock or the package's metadata does."""
    digest = hashlib.sha256()
    for path in (LOCK, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _place() -> str:
    """An environment is good for one interpreter in one folder: its scripts name both."""
    return f"{sys.executable} {sys.version}\n{VENV}\n"


def _reads(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


def main() -> None:
    """Read the level from the command line."""
    if len(sys.argv) != 2 or sys.argv[1] not in ("run", "dev"):
        sys.exit("usage: python3 -m tools.bootstrap run|dev")
    install(sys.argv[1])


if __name__ == "__main__":
    main()
