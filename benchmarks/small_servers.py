"""The other process of the small benchmarks: echoes 64 bytes, or holds idle connections and says what they cost.

    python -m benchmarks.small_servers FOLDER echo|hold ours|tls|plain

FOLDER is what bulk_contexts.write_identities wrote.  It prints its port and serves until its input ends.  A server
that holds
connections answers each line of input with its resident memory in KiB.
"""

from __future__ import annotations

import gc
import socket
import sys
import threading
from pathlib import Path
from typing import Final

import securesock
from benchmarks.bulk_contexts import our_context, tls_context

BACKLOG: Final = 128


def listen(folder: Path, kind: str) -> socket.socket:
    """A listener of the kind; for TLS the handshake runs in accept, as ours does in its own thread."""
    if kind == "ours":
        return securesock.create_server(("127.0.0.1", 0), backlog=BACKLOG, context=our_context(folder, "server"))
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    return tls_context(folder, "server").wrap_socket(listener, server_side=True) if kind == "tls" else listener


def echo(listener: socket.socket) -> None:
    """One client after another."""
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data)


def hold(listener: socket.socket, held: list[socket.socket]) -> None:
    """Answer one message of each client and keep the connection."""
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(connection.recv(4096))
        held.append(connection)


def resident_kib() -> int:
    """VmRSS of this process."""
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def main(folder: Path, task: str, kind: str) -> None:
    """Serve."""
    listener = listen(folder, kind)
    held: list[socket.socket] = []
    work, arguments = (echo, (listener,)) if task == "echo" else (hold, (listener, held))
    threading.Thread(target=work, args=arguments, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    for _ in sys.stdin:
        print(resident_kib(), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
