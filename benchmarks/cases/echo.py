"""64 bytes there and back between two processes on loopback, blocking sockets, one message at a time."""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.bulk_contexts import write_identities
from benchmarks.harness import Bound, Contest, Measure, case
from benchmarks.small_clients import KINDS, Server

MESSAGE: Final = os.urandom(64)
WARM_UP: Final = 200
TRIPS: Final = 4000


@case("64-byte echo, p50", unit="us", better="lower", bound=Bound("ratio", at_most=1.2))
def echo() -> Iterator[Contest]:
    """One connection a side, kept over the rounds."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        write_identities(Path(name))
        measures = {}
        for kind in KINDS:
            server = stack.enter_context(Server(Path(name), "echo", kind))
            connection = stack.enter_context(server.connect())
            measures[kind] = _median_trip(connection)
        yield Contest(measures["ours"], {KINDS[kind]: measures[kind] for kind in ("tls", "plain")})


def _median_trip(connection: socket.socket) -> Measure:
    def trip() -> float:
        started = time.perf_counter()
        connection.sendall(MESSAGE)
        if connection.recv(4096) != MESSAGE:
            raise RuntimeError("another message came back")
        return (time.perf_counter() - started) * 1e6

    def measure() -> float:
        for _ in range(WARM_UP):
            trip()
        return statistics.median(trip() for _ in range(TRIPS))

    return measure
