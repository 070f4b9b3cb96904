"""What a program waits for: rooms that it does not use are not loaded.

Each program runs in an interpreter of its own, which says which modules it has at the end.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

EVERY_NAME: Final = "from securesock import *"

NEVER: Final = frozenset(
    {
        "OpenSSL",
        "ctypes",
        "json",
        "pickle",
        "securesock.cli",
        "securesock.engine.policy_keys",
        "securesock.engine.socket_policy",
        "securesock.engine.ticket_books",
        "securesock.identity.authority",
        "securesock.identity.configured",
        "securesock.planes.windows",
        "securesock.policy.access",
        "securesock.policy.filter_engine",
        "securesock.policy.store",
        "securesock.sockets.native",
        "securesock.testing",
        "securesock.winsock.answers",
        "securesock.wire.winsock_numbers",
        "securesock.wire.winsock_structures",
        "sqlite3",
        "tomllib",
        "uuid",
    }
)
"""What belongs to the command line, the filtering platform, Winsock, Windows and files that most programs have not."""

WHEN_CONNECTED: Final = frozenset(
    {
        "pathlib",
        "securesock.drivers.aio",
        "securesock.drivers.aio_datagrams",
        "securesock.drivers.datagrams",
        "securesock.keying.contract",
        "securesock.keying.eap",
        "securesock.keying.ikev2",
        "securesock.keying.tickets",
        "securesock.planes",
        "securesock.sad.entries",
        "securesock.sockets.datagram_socket",
        "securesock.sockets.listener",
        "securesock.sockets.opening",
        "securesock.wire.ikev2",
    }
)
"""What carries and keys, which is loaded when the first socket connects, listens, sends or is bound."""


def loaded_by(program: str) -> frozenset[str]:
    """The modules of an interpreter that has run it."""
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT / "src",
    )
    assert done.returncode == 0, done.stderr
    return frozenset(done.stdout.split())


def test_naming_everything_loads_neither_what_keys_and_carries_nor_what_few_use() -> None:
    loaded = loaded_by(EVERY_NAME)

    assert "securesock.sockets.stream_socket" in loaded
    assert not loaded & (NEVER | WHEN_CONNECTED)
