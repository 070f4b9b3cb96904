"""OpenIKED's iked in a network namespace of User-Mode Linux, from Debian's package unpacked and not installed.

It looks for keys in /etc/iked and for the user _iked, and speaks to the kernel through PF_KEY alone; all three are in
the guest, whose writes nobody keeps.  So there is one of it at a time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.interop.certificates import Proofs, key_pem, pem
from tests.interop.network import PATIENCE_S
from tests.interop.strongswan import last_words, wait_until
from tests.interop.unpacked import LIBRARIES, unpacked
from tests.support.user_mode_linux import INSIDE_VARIABLE
from tools import leftovers

PACKAGES: Final = ("openiked", "libevent-2.1-7")
ETC: Final = Path("/etc/iked")
USER: Final = "_iked"
NUMBER: Final = 64321  # of the user and its group; none of Debian's
FOLDERS: Final = ("ca", "certs", "crls", "private", "pubkeys/ipv4", "pubkeys/fqdn", "pubkeys/ufqdn", "export", "ocsp")
# Its control socket is there before its configuration: what comes in between is answered and then forgotten.
LOADED: Final = "stickyaddress"


def openiked() -> Path:
    """Its files, unpacked."""
    return unpacked("openiked", PACKAGES)


class Iked:
    """A running iked."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._root = root
        self.environment = {**os.environ, "LD_LIBRARY_PATH": str(root / LIBRARIES)}

    @property
    def log(self) -> str:
        """Everything it has written."""
        return (self._folder / "iked.log").read_text(errors="replace")

    def initiate(self) -> None:
        """Have it begin; its policy says "active", and it was started quiet."""
        self._control("active")

    def _control(self, *arguments: str) -> str:
        command = [str(self._root / "usr/sbin/ikectl"), "-s", str(self._folder / "iked.sock"), *arguments]
        done = subprocess.run(
            command, env=self.environment, check=True, capture_output=True, text=True, timeout=PATIENCE_S
        )
        return done.stdout

    def wait_for(self, words: str) -> str:
        """The log, once it holds ``words``."""
        wait_until(lambda: words in self.log, f"iked never said {words!r}")
        return self.log


@contextlib.contextmanager
def iked(
    namespace: str, folder: Path, policy: str, proofs: Proofs | str, *, user: tuple[str, str] | None = None
) -> Iterator[Iked]:
    """iked with one policy, started quiet, on UDP 4500 alone; ``proofs`` a secret or certificates.

    With ``user``, a name and a password, whoever begins must be that user, by EAP-MSCHAPv2.
    """
    assert INSIDE_VARIABLE in os.environ, "it would leave files on this machine"
    running = Iked(folder, openiked())
    _settle(folder, proofs)
    proof = f'psk "{proofs}"' if isinstance(proofs, str) else ""
    configuration = folder / "iked.conf"
    known = ""
    if user is not None:
        known, proof = 'user "{}" "{}"\n'.format(*user), 'eap "mschap-v2"'
    configuration.write_text(f"set nomobike\n{known}{policy} \\\n\t{proof}\n")
    configuration.chmod(0o600)
    with (folder / "iked.log").open("w") as log:
        child = subprocess.Popen(
            [
                *(
                    "ip",
                    "netns",
                    "exec",
                    namespace,
                    str(openiked() / "usr/sbin/iked"),
                    "-d",
                    "-vv",
                    "-S",
                    "-t",
                ),
                *("-f", str(configuration), "-s", str(folder / "iked.sock")),
            ],
            env=running.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    with leftovers.process(child), last_words("iked", lambda: running.log):
        wait_until(lambda: LOADED in running.log or child.poll() is not None, "iked did not load its policy")
        yield running
        child.terminate()  # and its three others with it
        child.wait(PATIENCE_S)


def _settle(folder: Path, proofs: Proofs | str) -> None:
    """Where it looks for its user, its keys and its certificates."""
    for name, line in (("passwd", f"x:{NUMBER}:{NUMBER}::{folder}/empty:/usr/sbin/nologin"), ("group", f"x:{NUMBER}:")):
        file = Path("/etc") / name
        kept = [each for each in file.read_text().splitlines() if not each.startswith(f"{USER}:")]
        file.write_text("\n".join([*kept, f"{USER}:{line}", ""]))
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    (folder / "empty").mkdir()
    shutil.rmtree(ETC, ignore_errors=True)
    for name in FOLDERS:
        (ETC / name).mkdir(parents=True)
    key = ec.generate_private_key(ec.SECP256R1()) if isinstance(proofs, str) else proofs.key
    private = ETC / "private" / "local.key"
    private.write_text(key_pem(key))
    private.chmod(0o600)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (ETC / "local.pub").write_bytes(public)
    if not isinstance(proofs, str):
        (ETC / "ca" / "ca.crt").write_text(pem(proofs.anchor))
        (ETC / "certs" / "b.test.crt").write_text(pem(proofs.leaf))
