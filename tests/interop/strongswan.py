"""strongSwan's charon in a network namespace of its own; nothing of it touches the machine.

A context manager: a charon that was given its configuration.  It is the machine's own strongSwan, or that of another
root folder (debian_unstable), which it then sees in the place of the machine's.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tools import leftovers

PATIENCE_S: Final = 20.0
PLUGINS: Final = (
    "random nonce openssl pem pkcs1 pkcs8 pubkey x509 constraints kdf drbg hmac sha1 sha2 gcm aes curve25519 chapoly "
    "{esp} socket-default vici updown {more}"
)
IN_USER_SPACE: Final = "kernel-libipsec kernel-netlink"
IN_KERNEL: Final = "kernel-netlink"


class Charon:
    """A running charon; ``log`` is what it has said so far."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], within: Sequence[str] = ()) -> None:
        self._folder = folder
        self._process = process
        self._within = within

    @property
    def log(self) -> str:
        """Everything it has written."""
        return (self._folder / "charon.log").read_text()

    def kill(self) -> None:
        """End it without a word to anybody."""
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def initiate(self) -> None:
        """Have it begin; whether it succeeds is in the log."""
        self.swanctl("--initiate", "--child", "net", "--timeout", "10", check=False)

    def rekey_ike(self) -> None:
        """Have it replace the IKE_SA."""
        self.swanctl("--rekey", "--ike", "peer")

    def rekey_child(self) -> None:
        """Have it replace the CHILD_SA."""
        self.swanctl("--rekey", "--child", "net")

    def swanctl(self, *arguments: str, check: bool = True) -> None:
        """One command of swanctl."""
        done = subprocess.run(
            [*self._within, "swanctl", *arguments, "--uri", f"unix://{self._folder}/charon.vici"],
            env={**os.environ, "SWANCTL_DIR": str(self._folder / "swanctl")},
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0 or not check, f"swanctl {arguments}: {done.stdout}"

    def wait_for(self, words: str) -> str:
        """The log, once it holds ``words``."""
        wait_until(lambda: words in self.log, f"charon never said {words!r}:\n{self.log[-2000:]}")
        return self.log


def wait_until(holds: Callable[[], bool], otherwise: str) -> None:
    """Look until it holds; AssertionError after PATIENCE_S."""
    limit = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < limit, otherwise
        pause.wait(0.02)


@contextlib.contextmanager
def last_words(name: str, log: Callable[[], str]) -> Iterator[None]:
    """Where the block fails, what the other side said stands beside the failure."""
    try:
        yield
    finally:
        if (error := sys.exception()) is not None:
            error.add_note(f"{name}'s last words:\n{log()[-6000:]}")


@contextlib.contextmanager
def charon(
    namespace: str,
    folder: Path,
    connection: str,
    secrets: str = "",
    *,
    esp: str = IN_USER_SPACE,
    more: str = "",
    options: str = "",
    pools: str = "",
    root: Path | None = None,
) -> Iterator[Charon]:
    """charon with one connection called peer; certificates and keys lie in folder/swanctl already.

    ``esp``: the plugins that carry it, ``more``: further ones; ``options``: further lines of its strongswan.conf;
    ``pools``: of addresses to assign; ``root``: the folder that it takes for the machine's root, in which ``folder`` is
    then seen under its own name.
    """
    within: tuple[str, ...] = () if root is None else ("chroot", str(root))
    swanctl = folder / "swanctl"
    swanctl.mkdir(exist_ok=True)
    (swanctl / "swanctl.conf").write_text(
        f"connections {{\n peer {{\n{connection}\n }}\n}}\nsecrets {{\n{secrets}\n}}\npools {{\n{pools}\n}}\n"
    )
    (folder / "strongswan.conf").write_text(
        f"""charon-systemd {{
  load = {PLUGINS.format(esp=esp, more=more)}
  {options}
  install_virtual_ip = no
  plugins {{
    vici {{ socket = unix://{folder}/charon.vici }}
  }}
  filelog {{
    log {{
      path = {folder}/charon.log
      default = 1
      flush_line = yes
    }}
  }}
  journal {{ default = -1 }}
  syslog {{
    daemon {{ default = -1 }}
    auth {{ default = -1 }}
  }}
}}
"""
    )
    (folder / "charon.vici").unlink(missing_ok=True)  # of one that was killed
    with contextlib.nullcontext() if root is None else _seen_in(root, folder):
        child = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *within, "/usr/sbin/charon-systemd"],
            env={**os.environ, "STRONGSWAN_CONF": str(folder / "strongswan.conf")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with leftovers.process(child):
            wait_until((folder / "charon.vici").exists, "charon did not start")
            running = Charon(folder, child, within)
            running.swanctl("--load-all", "--noprompt")
            with last_words("charon", lambda: running.log):
                yield running


@contextlib.contextmanager
def _seen_in(root: Path, folder: Path) -> Iterator[None]:
    """``folder`` under its own name in another root; nothing of it is mounted afterwards."""
    seen = root / folder.relative_to("/")
    seen.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", str(folder), str(seen)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(seen)], check=True)
