"""Programs that Debian 12 does not have yet: Debian unstable's, in a root folder of their own.

Made once by debootstrap from the mirror that this machine itself uses, and kept under build/; a change of what is
wanted makes it anew.  Nothing of it is installed.
"""

from __future__ import annotations

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
)
_WANTED: Final = "srv/wanted-by-securesock"


def debian_unstable() -> Path:
    """The root folder; made if it is not there."""
    wanted = " ".join(PACKAGES)
    stamp = ROOT_FOLDER / _WANTED
    if stamp.is_file() and stamp.read_text() == wanted:
        return ROOT_FOLDER
    BUILD.mkdir(exist_ok=True)
    mirror = mirror_for(codename_of(Path("/etc/os-release").read_text()), apt_sources(Path("/etc/apt")))
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    if mirror.signed_by.startswith("/"):
        command.append(f"--keyring={mirror.signed_by}")
    # under a name that a killed run's leftovers are known by, until it is whole
    with leftovers.folder("debian-unstable", parent=BUILD) as folder:
        made = folder / "root"
        done = subprocess.run(
            [*command, "sid", str(made), mirror.uri], check=False, capture_output=True, text=True, errors="replace"
        )
        assert done.returncode == 0, f"debootstrap failed:\n{done.stdout[-2000:]}\n{done.stderr[-1000:]}"
        (made / _WANTED).write_text(wanted)
        if ROOT_FOLDER.exists():
            ROOT_FOLDER.rename(folder / "old")
        made.rename(ROOT_FOLDER)
    return ROOT_FOLDER
