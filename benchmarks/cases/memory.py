"""What 2,000 idle accepted connections cost the process that accepted them, beside plain sockets."""

from __future__ import annotations

import resource
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.bulk_contexts import write_identities
from benchmarks.harness import Bound, Contest, Measure, case
from benchmarks.small_clients import KINDS, Server

CONNECTIONS: Final = 2000
FIRST: Final = 20
"""Opened before the first look, so that what a process needs once is not shared out over its connections."""
DESCRIPTORS: Final = 3 * CONNECTIONS


@case(
    "resident memory of an idle accepted connection",
    unit="KiB",
    better="lower",
    bound=Bound("difference", at_most=64.0, peer_name="plain TCP"),
)
def idle_memory() -> Iterator[Contest]:
    """A new server process for each measurement; every connection has carried one message each way."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, most) if most > 0 else DESCRIPTORS, most))
    with tempfile.TemporaryDirectory() as name:
        write_identities(Path(name))
        ours, *peers = (_cost(Path(name), kind) for kind in KINDS)
        yield Contest(ours, dict(zip(list(KINDS.values())[1:], peers, strict=True)))


def _cost(folder: Path, kind: str) -> Measure:
    def measure() -> float:
        # the server ends first: a client's close() would wait for each connection's end
        with ExitStack() as stack, Server(folder, "hold", kind) as server:
            _open(server, stack, FIRST)
            before = server.resident_kib()
            _open(server, stack, CONNECTIONS)
            return (server.resident_kib() - before) / CONNECTIONS

    return measure


def _open(server: Server, stack: ExitStack, count: int) -> None:
    for _ in range(count):
        connection: socket.socket = stack.enter_context(server.connect())
        connection.sendall(b"one message")
        if connection.recv(100) != b"one message":
            raise RuntimeError("another message came back")
