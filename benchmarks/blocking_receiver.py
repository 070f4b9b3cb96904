"""The other process of the blocking bulk benchmark: it reads as much as it is told and says when it has it.

    python -m benchmarks.blocking_receiver FOLDER

FOLDER is what bulk_contexts.write_identities wrote.  It prints one line, a JSON object of ports by name, and serves
until its input ends.  A client says how many bytes will come (8 bytes, big-endian), sends them, and is answered by one
byte; again and again, until it ends its stream.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import securesock
from benchmarks.bulk_contexts import our_context, tls_context

READ: Final = 1 << 20


def receive(connection: socket.socket) -> None:
    """One client."""
    buffer = memoryview(bytearray(READ))
    with connection:
        while count := _read_count(connection):
            while count > 0:
                taken = connection.recv_into(buffer[: min(READ, count)])
                if not taken:
                    raise EOFError("the sender stopped before it had sent what it promised")
                count -= taken
            connection.sendall(b"!")


def _read_count(connection: socket.socket) -> int:
    said = b""
    while len(said) < 8:
        more = connection.recv(8 - len(said))
        if not more:
            return 0
        said += more
    return int.from_bytes(said, "big")


def serve(listener: socket.socket, wrap: Callable[[socket.socket], socket.socket]) -> None:
    """Clients one after another, in a thread that ends with the process."""

    def run() -> None:
        while True:
            receive(wrap(listener.accept()[0]))

    threading.Thread(target=run, daemon=True).start()


def main(folder: Path) -> None:
    """All three servers, until standard input ends."""
    tls = tls_context(folder, "server")
    ours = securesock.create_server(("127.0.0.1", 0), context=our_context(folder, "server"))
    listeners = {
        "ours": ours,
        "tls": socket.create_server(("127.0.0.1", 0)),
        "plain": socket.create_server(("127.0.0.1", 0)),
    }
    serve(ours, lambda connection: connection)
    serve(listeners["tls"], lambda connection: tls.wrap_socket(connection, server_side=True))
    serve(listeners["plain"], lambda connection: connection)
    print(json.dumps({name: each.getsockname()[1] for name, each in listeners.items()}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
