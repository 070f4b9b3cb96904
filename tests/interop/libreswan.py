"""libreswan's pluto in a network namespace of User-Mode Linux, from Debian's packages unpacked and not installed.

Its package would remove strongSwan's daemon.  It has paths compiled in, which are made where they do no harm: in the
guest, whose writes nobody keeps.  Its keys and certificates lie in a database of NSS.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from tests.interop.certificates import Proofs
from tests.interop.network import PATIENCE_S
from tests.interop.strongswan import last_words, wait_until
from tests.interop.unpacked import LIBRARIES, unpacked
from tests.support.user_mode_linux import INSIDE_VARIABLE
from tools import leftovers

PACKAGES: Final = (
    *("libreswan", "libnss3-tools", "libnss3", "libnspr4", "libldns3", "libevent-core-2.1-7"),
    *("libevent-pthreads-2.1-7", "libunbound8", "libcap-ng0", "libcurl3-nss", "libldap-2.5-0", "libsasl2-2"),
    *("librtmp1", "libssh2-1", "libpsl5", "libnghttp2-14", "libbrotli1", "libaudit1"),
)
COMPILED_IN: Final = Path("/usr/libexec/ipsec")
PASSWORD: Final = "of-no-worth"  # pk12util wants one around what it reads
CONNECTION: Final = """config setup
\tdnssec-enable=no
\tuniqueids=no

conn net
\tauto=add
\tikev2=insist
\tleft=10.90.0.1
\tleftid=@a.test
\tright=10.90.0.2
\trightid=@b.test
\tmobike=no
\tleftupdown=%disabled
\trightupdown=%disabled
"""


def libreswan() -> Path:
    """Its files, unpacked."""
    return unpacked("libreswan", PACKAGES)


class Pluto:
    """A running pluto."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._root = root
        self.environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(root / LIBRARIES),
            "IPSEC_EXECDIR": str(COMPILED_IN),
        }

    @property
    def log(self) -> str:
        """Everything it has written."""
        return (self._folder / "pluto.log").read_text(errors="replace")

    def whack(self, *arguments: str) -> str:
        """One command to it; what it answered."""
        done = self.run("usr/libexec/ipsec/whack", "--rundir", str(self._folder), *arguments)
        return done.stdout

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of its programs."""
        return subprocess.run(
            [str(self._root / program), *arguments],
            env=self.environment,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
        )

    def initiate(self) -> None:
        """Have it begin; whether it succeeds is in the log."""
        self.whack("--initiate", "--asynchronous", "--name", "net")

    def rekey_ike(self) -> None:
        """Have it replace the IKE_SA."""
        self.whack("--rekey-ike", "--name", "net")

    def rekey_child(self) -> None:
        """Have it replace the CHILD_SA."""
        self.whack("--rekey-ipsec", "--name", "net")

    def wait_for(self, words: str) -> str:
        """The log, once it holds ``words``."""
        wait_until(lambda: words in self.log, f"pluto never said {words!r}")
        return self.log


@contextlib.contextmanager
def pluto(
    namespace: str, folder: Path, options: dict[str, str], proofs: Proofs | str, *, ppk: str = ""
) -> Iterator[Pluto]:
    """pluto with one connection, net; ``options`` are further lines of it, ``proofs`` a secret or certificates."""
    assert INSIDE_VARIABLE in os.environ, "it would leave files on this machine"
    root = libreswan()
    COMPILED_IN.parent.mkdir(exist_ok=True)
    if not COMPILED_IN.exists():
        COMPILED_IN.symlink_to(root / "usr/libexec/ipsec")
    running = Pluto(folder, root)
    made = running.run("usr/bin/certutil", "-N", "-d", f"sql:{folder}", "--empty-password")
    assert made.returncode == 0, made.stdout
    if isinstance(proofs, str):
        line = f'@a.test @b.test : PPKS "our ppk" "{ppk}"\n' if ppk else ""
        (folder / "ipsec.secrets").write_text(f'@a.test @b.test : PSK "{proofs}"\n{line}')
    else:
        options = options | {
            "rightcert": "b.test",
            "leftca": "%same",
            "leftsendcert": "always",
            "rightsendcert": "always",
        }
        _import(running, folder, proofs)
        (folder / "ipsec.secrets").write_text("")
    (folder / "ipsec.secrets").chmod(0o600)
    lines = "".join(f"\t{name}={value}\n" for name, value in options.items())
    (folder / "ipsec.conf").write_text(CONNECTION + lines)
    arguments = {"config": "ipsec.conf", "secretsfile": "ipsec.secrets", "logfile": "pluto.log"}
    folders = [word for name in ("ipsecdir", "nssdir", "rundir", "dumpdir") for word in (f"--{name}", str(folder))]
    files = [word for name, file in arguments.items() for word in (f"--{name}", str(folder / file))]
    child = subprocess.Popen(
        ["ip", "netns", "exec", namespace, str(COMPILED_IN / "pluto"), "--nofork", *files, *folders, "--log-no-append"],
        env=running.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with leftovers.process(child), last_words("pluto", lambda: running.log):
        # addconn runs after its socket is there, and is what makes it listen
        wait_until(lambda: '"net"' in running.whack("--status"), "pluto did not load the connection")
        yield running


def _import(running: Pluto, folder: Path, proofs: Proofs) -> None:
    data = pkcs12.serialize_key_and_certificates(
        b"b.test", proofs.key, proofs.leaf, [proofs.anchor], BestAvailableEncryption(PASSWORD.encode())
    )
    file = folder / "peer.p12"
    file.write_bytes(data)
    done = running.run("usr/bin/pk12util", "-i", str(file), "-d", f"sql:{folder}", "-W", PASSWORD, "-K", "")
    assert done.returncode == 0, done.stdout
    authority = next(line.rsplit(maxsplit=1)[0] for line in _listed(running, folder) if "authority" in line)
    # without these it is no authority to it
    done = running.run("usr/bin/certutil", "-M", "-d", f"sql:{folder}", "-n", authority.strip(), "-t", "CT,,")
    assert done.returncode == 0, done.stdout


def _listed(running: Pluto, folder: Path) -> list[str]:
    return running.run("usr/bin/certutil", "-L", "-d", f"sql:{folder}").stdout.splitlines()
