"""64 bytes there and back between two processes on loopback, blocking sockets, one message at a time."""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
    """Each end on a core of its own, as two hosts are; one connection a side, kept over the rounds."""
    cores = sorted(os.sched_getaffinity(0))
    with _kept_to(cores[0]), _connections(cores[-1]) as measures:
        yield Contest(measures["ours"], {KINDS[kind]: measures[kind] for kind in ("tls", "plain")})


@case("64-byte echo, both ends on one core, p50", unit="us", better="lower")
def echo_on_one_core() -> Iterator[Contest]:
    """Nothing is awaited there but the work of both ends."""
    core = min(os.sched_getaffinity(0))
    with _kept_to(core), _connections(core) as measures:
        yield Contest(measures["ours"], {KINDS[kind]: measures[kind] for kind in ("tls", "plain")})


@contextmanager
def _kept_to(core: int) -> Iterator[None]:
    """This thread on one core: where the scheduler puts two ends decides more than what they do."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _connections(core: int) -> Iterator[dict[str, Measure]]:
    """To a server of each kind on ``core``."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        write_identities(Path(name))
        measures = {}
        for kind in KINDS:
            server = stack.enter_context(Server(Path(name), "echo", kind))
            connection = stack.enter_context(server.connect())
            server.keep_to(core)
            measures[kind] = _median_trip(connection)
        yield measures


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
