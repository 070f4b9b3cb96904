"""What the two netcats (streams and datagrams) share: reading input, counting what comes, saying who is there.

What was proven goes to standard error, the data to standard output; with --json one object with both.  It must not
know which kind of socket is talked over.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Final, TypeAlias

from ..errors import LocalMisuse
from ..types import Json, SecurityInfo

__all__ = ["Received", "Sink", "print_chunk", "read_address", "read_some", "say_who", "summary"]

KEPT_FOR_JSON: Final = 16 << 20
"""Of received data at most this much goes into the object of --json; all of it is counted."""

Sink: TypeAlias = Callable[[bytes], None]


@dataclass
class Received:
    """Counts what comes and keeps its beginning."""

    count: int = 0
    data: bytes = b""

    def __call__(self, chunk: bytes) -> None:
        """Take one chunk."""
        self.count += len(chunk)
        if len(self.data) < KEPT_FOR_JSON:
            self.data += chunk[: KEPT_FOR_JSON - len(self.data)]


def read_some(source: IO[bytes], most: int) -> bytes:
    """What is there now, so that a terminal's or a program's lines go out at once."""
    read1 = getattr(source, "read1", None)
    data: bytes = read1(most) if read1 is not None else source.read(most)
    return data


def print_chunk(chunk: bytes) -> None:
    """To standard output, at once."""
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def read_address(text: str, default_host: str | None) -> tuple[str, int]:
    """HOST:PORT, [IPV6]:PORT or, where there is a default host, PORT."""
    host, colon, port = text.rpartition(":")
    if not colon and default_host is not None:
        host = default_host
    elif not host:
        raise LocalMisuse(f"{text} is no HOST:PORT")
    if not port.isdecimal() or int(port) > 65535:
        raise LocalMisuse(f"{text} has no port number at its end")
    return host.removeprefix("[").removesuffix("]"), int(port)


def say_who(info: SecurityInfo) -> None:
    """A line on standard error: who is at the other end, and under which protection."""
    if not info.secured:
        print(f"securesock: NOT secured, in clear: {'; '.join(info.differences)}", file=sys.stderr)
        return
    peer = info.peer_user or info.peer_machine
    print(f"securesock: connected with {peer}, {info.quick_mode_suite}, {info.key_exchange}", file=sys.stderr)


def summary(info: SecurityInfo, sent: int, received: Received) -> dict[str, Json]:
    """The object of --json."""
    return {
        "security": info.to_dict(),
        "sent": sent,
        "received": received.count,
        "data": base64.b64encode(received.data).decode(),
    }
