"""Bulk in one direction with asyncio streams, two processes on loopback, beside asyncio with ssl and plain TCP.

The same program on all sides: ``writer.write(1 MiB); await writer.drain()`` here, ``await reader.read(1 MiB)`` there,
asyncio's defaults everywhere, TLS 1.3 and our default policy, both with AES-256-GCM and both ends' P-256 certificates.
The clock runs from the first write until the receiver has said that it read the last byte; connecting and the first
32 MiB are not counted.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.asyncio_receiver import our_context, tls_context
from benchmarks.harness import Bound, Contest, Measure, case
from securesock.identity.authority import Authority
from securesock.identity.identity import Identity
from securesock.sockets import aio

BULK: Final = 1 << 30
WARM_UP: Final = 32 << 20
PIECE: Final = bytes(1 << 20)
_HOST, _NAME = "127.0.0.1", "server.example"

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@case("bulk, asyncio streams, 1 MiB writes", unit="MiB/s", better="higher", bound=Bound("ratio", at_least=2.0))
def bulk_asyncio() -> Iterator[Contest]:
    """One connection a measurement."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_identities(folder)
        command = [sys.executable, "-m", "benchmarks.asyncio_receiver", name]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as receiver:
            if receiver.stdout is None:
                raise RuntimeError("the receiver has no output")
            ports: dict[str, int] = json.loads(receiver.stdout.readline())
            yield _contest(folder, ports)
            receiver.communicate()


def _contest(folder: Path, ports: dict[str, int]) -> Contest:
    ours, tls = our_context(folder, "client"), tls_context(folder, "client")

    async def connect_ours() -> _Streams:
        reader, writer = await aio.open_connection(_HOST, ports["ours"], peer=f"host/{_NAME}", context=ours)
        suite = writer.get_extra_info("security").quick_mode_suite
        if "AES-256-GCM-16" not in suite:
            raise RuntimeError(f"another suite than the one to be measured: {suite}")
        return reader, writer

    async def connect_tls() -> _Streams:
        reader, writer = await asyncio.open_connection(_HOST, ports["tls"], ssl=tls, server_hostname=_NAME)
        cipher = writer.get_extra_info("cipher")[0]
        if cipher != "TLS_AES_256_GCM_SHA384":
            raise RuntimeError(f"another suite than the one to be measured: {cipher}")
        return reader, writer

    async def connect_plain() -> _Streams:
        return await asyncio.open_connection(_HOST, ports["plain"])

    peers = {"asyncio with ssl (TLS 1.3)": _measured(connect_tls), "asyncio, plain TCP": _measured(connect_plain)}
    return Contest(_measured(connect_ours), peers)


def _measured(connect: Callable[[], Awaitable[_Streams]]) -> Measure:
    async def transfer() -> float:
        reader, writer = await connect()
        await _send(reader, writer, WARM_UP)
        started = time.perf_counter()
        await _send(reader, writer, BULK)
        seconds = time.perf_counter() - started
        writer.close()
        await writer.wait_closed()
        return BULK / (1 << 20) / seconds

    return lambda: asyncio.run(transfer())


async def _send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: int) -> None:
    writer.write(count.to_bytes(8, "big"))
    for _ in range(count // len(PIECE)):
        writer.write(PIECE)
        await writer.drain()
    if await reader.readexactly(1) != b"!":
        raise RuntimeError("the receiver said something else")


def _write_identities(folder: Path) -> None:
    authority = Authority.create("benchmark authority")
    (folder / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    for kind in ("client", "server"):
        identity = Identity.ephemeral(f"host/{kind}.example", authority=authority)
        key = identity.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{kind}.key").write_bytes(key)
        chain = (x509.load_der_x509_certificate(each) for each in identity.certificate_chain)
        (folder / f"{kind}.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in chain))
