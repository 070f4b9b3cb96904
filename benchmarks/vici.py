"""As much of strongSwan's control protocol (VICI) as beginning and ending an IKE_SA takes.

A packet is its length (4 bytes), its type (1), for a request its name, and pairs of key and value.
"""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType
from typing import Final

__all__ = ["Vici"]

_REQUEST: Final = 0
_RESPONSE: Final = 1
_KEY_VALUE: Final = 3
PATIENCE_S: Final = 20.0


class Vici:
    """A connection to a charon; a context manager."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(str(path))

    def __enter__(self) -> Vici:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def command(self, name: str, **values: str) -> None:
        """Ask, and wait until it is done; RuntimeError when charon says that it is not."""
        pairs = b"".join(
            bytes((_KEY_VALUE, len(key))) + key.encode() + len(value).to_bytes(2, "big") + value.encode()
            for key, value in values.items()
        )
        body = bytes((_REQUEST, len(name))) + name.encode() + pairs
        self._socket.sendall(len(body).to_bytes(4, "big") + body)
        answer = self._take(int.from_bytes(self._take(4), "big"))
        if answer[0] != _RESPONSE or b"success\0\x03yes" not in answer:
            raise RuntimeError(f"charon did not {name}: {answer!r}")

    def _take(self, count: int) -> bytes:
        taken = b""
        while len(taken) < count:
            more = self._socket.recv(count - len(taken))
            if not more:
                raise RuntimeError("charon closed its control socket")
            taken += more
        return taken
