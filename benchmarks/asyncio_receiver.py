"""The other process of the asyncio bulk benchmark: it reads as much as it is told and says when it has it.

    python -m benchmarks.asyncio_receiver FOLDER

FOLDER holds server.pem, server.key and ca.pem.  It prints one line, a JSON object of ports by name, and serves until
its input ends.  A client says how many bytes will come (8 bytes, big-endian), sends them, and is answered by one byte;
again and again, until it ends its stream.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from pathlib import Path

from securesock.engine.context import SecurityContext
from securesock.identity.identity import Identity
from securesock.sockets import aio

READ = 1 << 20


async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One client."""
    while count := int.from_bytes(await reader.read(8), "big"):
        while count > 0:
            data = await reader.read(READ)
            if not data:
                raise EOFError("the sender stopped before it had sent what it promised")
            count -= len(data)
        writer.write(b"!")
    writer.close()


def tls_context(folder: Path, kind: str) -> ssl.SSLContext:
    """TLS 1.3, both ends proven, with the same certificates as ours."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if kind == "server" else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(folder / "ca.pem")
    context.load_cert_chain(folder / f"{kind}.pem", folder / f"{kind}.key")
    return context


def our_context(folder: Path, kind: str) -> SecurityContext:
    """The default policy, with the same certificates."""
    certificate, key = str(folder / f"{kind}.pem"), str(folder / f"{kind}.key")
    return SecurityContext(Identity.from_pem(certificate, key, trust=[str(folder / "ca.pem")]))


async def serve(folder: Path) -> None:
    """All three servers, until standard input ends."""
    ours = await aio.start_server(receive, "127.0.0.1", 0, context=our_context(folder, "server"))
    tls = await asyncio.start_server(receive, "127.0.0.1", 0, ssl=tls_context(folder, "server"))
    plain = await asyncio.start_server(receive, "127.0.0.1", 0)
    listening = {"ours": ours.sockets, "tls": tls.sockets, "plain": plain.sockets}
    print(json.dumps({name: each[0].getsockname()[1] for name, each in listening.items()}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
