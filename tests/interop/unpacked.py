"""Debian packages unpacked into a folder of their own and not installed: the one would remove another's daemon.

Fetched once by apt from where this machine has its packages, and kept under build/.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tools import leftovers

BUILD: Final = Path(__file__).resolve().parent.parent.parent / "build"
LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"
_WANTED: Final = "wanted-by-securesock"


def unpacked(name: str, packages: tuple[str, ...]) -> Path:
    """The folder build/NAME with these packages in it; made if it is not there."""
    whole, wanted = BUILD / name, " ".join(packages)
    stamp = whole / _WANTED
    if stamp.is_file() and stamp.read_text() == wanted:
        return whole
    BUILD.mkdir(exist_ok=True)
    with leftovers.folder(name, parent=BUILD) as folder:
        files = folder / "packages"
        files.mkdir()
        fetch = ["apt-get", "--quiet=2", "download", *packages]
        if _run(fetch, files).returncode:
            _run(["apt-get", "--quiet=2", "update"], files)  # of a machine that never looked, or long ago
            done = _run(fetch, files)
            assert done.returncode == 0, f"apt-get download failed:\n{done.stdout}"
        made = folder / "root"
        made.mkdir()
        for file in sorted(files.glob("*.deb")):
            done = _run(["dpkg", "--extract", str(file), str(made)], files)
            assert done.returncode == 0, done.stdout
        (made / _WANTED).write_text(wanted)
        if whole.exists():
            whole.rename(folder / "old")
        made.rename(whole)
    return whole


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
