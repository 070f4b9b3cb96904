"""Bulk in one direction with blocking sockets, two processes on loopback, beside ssl and plain TCP.

The same program on all sides: ``sendall`` here, ``recv_into`` a buffer of 1 MiB there, TLS 1.3 and our default policy,
both with AES-256-GCM and both ends' P-256 certificates, every check on.  The clock runs from the first send until the
receiver has said that it read the last byte; connecting and the first 32 MiB are not counted.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import securesock
from benchmarks.bulk_contexts import SERVER_NAME, our_context, tls_context, write_identities
from benchmarks.harness import Bound, Contest, Measure, case

BULK: Final = 1 << 30
WARM_UP: Final = 32 << 20
_HOST: Final = "127.0.0.1"


@case("bulk, 1 MiB sends", unit="MiB/s", better="higher", bound=Bound("ratio", at_least=2.0), aim=2.5)
def bulk_1_mib() -> Iterator[Contest]:
    """One connection a measurement."""
    yield from _bulk(1 << 20)


@case("bulk, 64 KiB sends", unit="MiB/s", better="higher", bound=Bound("ratio", at_least=1.6), aim=2.0)
def bulk_64_kib() -> Iterator[Contest]:
    """One connection a measurement."""
    yield from _bulk(1 << 16)


def _bulk(size: int) -> Iterator[Contest]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_identities(folder)
        command = [sys.executable, "-m", "benchmarks.blocking_receiver", name]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as receiver:
            if receiver.stdout is None:
                raise RuntimeError("the receiver has no output")
            ports: dict[str, int] = json.loads(receiver.stdout.readline())
            yield _contest(folder, ports, size)
            receiver.communicate()


def _contest(folder: Path, ports: dict[str, int], size: int) -> Contest:
    ours, tls = our_context(folder, "client"), tls_context(folder, "client")

    def connect_ours() -> socket.socket:
        connection = securesock.create_connection((_HOST, ports["ours"]), peer=f"host/{SERVER_NAME}", context=ours)
        suite = connection.query_security().quick_mode_suite
        if "AES-256-GCM-16" not in suite:
            raise RuntimeError(f"another suite than the one to be measured: {suite}")
        return connection

    def connect_tls() -> socket.socket:
        connection = tls.wrap_socket(socket.create_connection((_HOST, ports["tls"])), server_hostname=SERVER_NAME)
        cipher = connection.cipher()
        if cipher is None or cipher[0] != "TLS_AES_256_GCM_SHA384":
            raise RuntimeError(f"another suite than the one to be measured: {cipher}")
        return connection

    def connect_plain() -> socket.socket:
        return socket.create_connection((_HOST, ports["plain"]))

    peers = {"ssl (TLS 1.3)": _measured(connect_tls, size), "plain TCP": _measured(connect_plain, size)}
    return Contest(_measured(connect_ours, size), peers)


def _measured(connect: Callable[[], socket.socket], size: int) -> Measure:
    data = os.urandom(size)

    def transfer() -> float:
        with connect() as connection:
            _send(connection, data, WARM_UP)
            started = time.perf_counter()
            _send(connection, data, BULK)
            return BULK / (1 << 20) / (time.perf_counter() - started)

    return transfer


def _send(connection: socket.socket, data: bytes, count: int) -> None:
    connection.sendall(count.to_bytes(8, "big"))
    for _ in range(count // len(data)):
        connection.sendall(data)
    if connection.recv(1) != b"!":
        raise RuntimeError("the receiver said something else")
