"""Debian packages that suites need: the one list, what of it is missing, and installing it without side effects.

The list is system-packages.txt.  Installing starts no service: for its duration a policy-rc.d refuses every start,
and it is removed afterwards, also when the run is interrupted.  Nothing is installed unless this is Debian (or a
child of it), the user is root, and SECURESOCK_NO_APT is not set.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

LIST = Path(__file__).resolve().parent.parent / "system-packages.txt"
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_ASIDE = POLICY.with_name("policy-rc.d.before-securesock")
# invoke-rc.d(8): status 101 means "action forbidden by policy"; the marker tells ours from an administrator's.
_POLICY_MARKER = "# written by securesock's make test, removed when it ends"
_POLICY_TEXT = f"#!/bin/sh\n{_POLICY_MARKER}\nexit 101\n"


class SystemPackage(NamedTuple):
    """One line of the list: the package, a program it brings, and why it is needed."""

    name: str
    program: str
    reason: str

    @property
    def present(self) -> bool:
        """Whether its program is found where root's programs are."""
        return find_program(self.program) is not None


def find_program(name: str) -> str | None:
    """The path of a program, looking also where only root's PATH does."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))


def read_list(text: str) -> list[SystemPackage]:
    """The packages of system-packages.txt; a line without its three parts raises ValueError naming it."""
    packages: list[SystemPackage] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split(maxsplit=2)
        if len(parts) != 3:
            raise ValueError(f"line {number}: package, program and reason are needed: {line!r}")
        packages.append(SystemPackage(*parts))
    return packages


def reason_not_to_install() -> str | None:
    """Why nothing can be installed here, or None."""
    if os.environ.get("SECURESOCK_NO_APT"):
        return "SECURESOCK_NO_APT is set"
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "not root"
    if shutil.which("apt-get") is None or not Path("/etc/debian_version").exists():
        return "not a Debian system"
    return None


def install_missing() -> list[SystemPackage]:
    """Print the list, install what is missing where that is allowed, and return what is still missing."""
    packages = read_list(LIST.read_text())
    print("system packages:", " ".join(package.name for package in packages), flush=True)
    missing = [package for package in packages if not package.present]
    if not missing:
        return []
    if reason := reason_not_to_install():
        print(f"not installed ({reason}):", " ".join(package.name for package in missing), flush=True)
        return missing
    install([package.name for package in missing])
    return [package for package in missing if not package.present]


def install_or_explain(names: Sequence[str], why: str) -> None:
    """Install what a command cannot do without, or end the program with one line that names it."""
    if reason_not_to_install() is not None:
        sys.exit(f"{why}: install the package {' '.join(names)} (apt-get install {' '.join(names)}) and run this again")
    if not install(names):
        sys.exit(f"{why}, and apt-get could not install {' '.join(names)}; its message is above")


def install(names: Sequence[str]) -> bool:
    """apt-get install, nothing recommended, nothing started; False, and apt's words, when it failed."""
    print("installing system packages:", " ".join(names), flush=True)
    with _no_service_starts():
        # A failed update is not yet a failure: the lists may still name what the mirror has.
        updated = _apt_get("update")
        installed = _apt_get("install", "--yes", "--no-install-recommends", *names)
    if installed.returncode:
        print(f"{updated.stdout}{installed.stdout}", flush=True)
    return installed.returncode == 0


def _apt_get(*arguments: str) -> subprocess.CompletedProcess[str]:
    """apt-get without questions, terminal or progress."""
    return subprocess.run(
        ["apt-get", "--quiet=2", "--option=Dpkg::Use-Pty=0", *arguments],
        check=False,
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Hold a policy-rc.d that forbids every start; one that was there before steps aside and comes back."""
    _restore_policy()  # what a killed run left

    def interrupted(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # SIGTERM and SIGHUP end Python without running finally; SIGINT already raises.
    previous = {number: signal.signal(number, interrupted) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        if POLICY.exists():
            POLICY.rename(POLICY_ASIDE)
        POLICY.write_text(_POLICY_TEXT)
        POLICY.chmod(0o755)
        yield
    finally:
        _restore_policy()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _restore_policy() -> None:
    """Take ours away and put back the one that stepped aside.  Does nothing where neither is there."""
    if POLICY.exists() and _POLICY_MARKER in POLICY.read_text():
        POLICY.unlink()
    if POLICY_ASIDE.exists():
        POLICY_ASIDE.rename(POLICY)
