"""Programs that Debian 12 does not have yet: Debian unstable's, in a root folder of their own.

Made once by debootstrap from the mirror that this machine itself uses, and kept under build/; a change of what is
wanted makes it anew.  Nothing of it is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tools import leftovers
from tools.fresh_check import apt_sources, codename_of, mirror_for

BUILD: Final = Path(__file__).resolve().parent.parent.parent / "build"
ROOT_FOLDER: Final = BUILD / "debian-unstable"
PACKAGES: Final = (
    "strongswan-swanctl",  # configures the daemon
    "charon-systemd",
    "libstrongswan-standard-plugins",  # OpenSSL's algorithms, ML-KEM among them
    "libcharon-extra-plugins",
    "iproute2",
    "tshark",  # newer than Debian 12's: it knows ChaCha20-Poly1305 and ESN
)
_WANTED: Final = "srv/wanted-by-securesock"


def debian_unstable() -> Path:
    """The root folder; made if it is not there."""
    wanted = " ".join(PACKAGES)
    stamp = ROOT_FOLDER / _WANTED
    if stamp.is_file() and stamp.read_text() == wanted:
        return ROOT_FOLDER
    BUILD.mkdir(exist_ok=True)
    # under a name that a killed run's leftovers are known by, until it is whole
    with leftovers.folder("debian-unstable", parent=BUILD) as folder:
        made = folder / "root"
        _debootstrap(made)
        _install(made)
        (made / _WANTED).write_text(wanted)
        if ROOT_FOLDER.exists():
            ROOT_FOLDER.rename(folder / "old")
        made.rename(ROOT_FOLDER)
    return ROOT_FOLDER


def _debootstrap(made: Path) -> None:
    mirror = mirror_for(codename_of(Path("/etc/os-release").read_text()), apt_sources(Path("/etc/apt")))
    command = ["debootstrap", "--variant=minbase"]
    if mirror.signed_by.startswith("/"):
        command.append(f"--keyring={mirror.signed_by}")
    _run([*command, "sid", str(made), mirror.uri])


def _install(made: Path) -> None:
    """apt of the new system: debootstrap's own idea of dependencies is too simple for what is wanted."""
    (made / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")  # invoke-rc.d(8): nothing is started
    (made / "usr/sbin/policy-rc.d").chmod(0o755)
    for name in ("etc/resolv.conf", "etc/hosts"):
        (made / name).unlink(missing_ok=True)
        shutil.copyfile(Path("/") / name, made / name)
    # a mirror that is a snapshot is older than what it says about itself; its signature holds all the same
    apt = ["chroot", str(made), "apt-get", "--quiet=2", "--option=Acquire::Check-Valid-Until=false"]
    _run([*apt, "update"])
    _run([*apt, "--yes", "--no-install-recommends", "install", *PACKAGES])
    _run([*apt, "clean"])


def _run(command: list[str]) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
