"""Two ends for tests of ss.aio: identities, contexts, a server that collects its clients, an endpoint, a relay."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from securesock.engine.context import SecurityContext
from securesock.identity.identity import Identity
from securesock.policy.negotiation import DEFAULT_QUICK_MODE
from securesock.sockets import aio
from securesock.types import Address, Lifetimes

LOCALHOST = "127.0.0.1"
SERVER, CLIENT = "host/server.example", "host/client.example"


@functools.cache
def identities() -> tuple[Identity, Identity]:
    """The server's and the client's, of one authority."""
    server = Identity.ephemeral(SERVER)
    return server, Identity.ephemeral(CLIENT, authority=server.authority)


def contexts(*, max_packets: int | None = None) -> tuple[SecurityContext, SecurityContext]:
    """The server's and the client's; ``max_packets`` is the CHILD_SA's limit at both ends."""
    quick_mode = DEFAULT_QUICK_MODE
    if max_packets is not None:
        quick_mode = replace(quick_mode, lifetimes=Lifetimes(3600.0, 1 << 40, max_packets))
    server, client = identities()
    return SecurityContext(server, quick_mode=quick_mode), SecurityContext(client, quick_mode=quick_mode)


class AnswersQuestions(asyncio.DatagramProtocol):
    """An endpoint that answers questions, and what it was told."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.told.put_nowait(data)
        if data == b"question":
            self.transport.sendto(b"answer", addr)

    def error_received(self, exc: Exception) -> None:
        self.told.put_nowait(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


class Streams:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


class Listening:
    """A server whose clients wait in ``accepted``."""

    def __init__(self) -> None:
        self.accepted: asyncio.Queue[Streams] = asyncio.Queue()
        self.everybody: list[Streams] = []
        self.server: aio.Server

    @property
    def port(self) -> int:
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.everybody.append(Streams(reader, writer))
        self.accepted.put_nowait(self.everybody[-1])

    async def refused(self, reason: str, count: int = 1) -> None:
        """Until so many were refused; all of them must have been for this reason."""
        while sum(self.server.refusals.values()) < count:
            await asyncio.sleep(0)
        assert self.server.refusals == {reason: count}


@asynccontextmanager
async def listening(context: SecurityContext | None = None, **options: object) -> AsyncIterator[Listening]:
    """A server, and no client of it left at the end."""
    listening = Listening()
    listening.server = await aio.start_server(
        listening.take,
        LOCALHOST,
        0,
        context=context or contexts()[0],
        **options,
    )
    try:
        yield listening
    finally:
        listening.server.close()
        for each in listening.everybody:
            await each.close()
        await listening.server.wait_closed()


async def connect(port: int, context: SecurityContext | None = None, **options: object) -> Streams:
    """A client that expects SERVER."""
    options = {"peer": SERVER, "context": context or contexts()[1], **options}
    return Streams(*await aio.open_connection(LOCALHOST, port, **options))


@asynccontextmanager
async def connected(
    server: SecurityContext | None = None, client: SecurityContext | None = None
) -> AsyncIterator[tuple[Streams, Streams]]:
    """(client, server) of one connection."""
    async with listening(server) as there:
        ours = await connect(there.port, client)
        try:
            yield ours, await there.accepted.get()
        finally:
            await ours.close()


class Relay:
    """Plain TCP between a client and a port; ``to_server`` and ``to_client`` may change what passes, b"" drops it.

    ``hold`` stops it until ``release``; one that is to ``keep_open`` does not pass on the end of either side.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._open = asyncio.Event()
        self._open.set()
        self.to_server: Callable[[bytes], bytes] = lambda data: data
        self.to_client: Callable[[bytes], bytes] = lambda data: data
        self.keep_open = False
        self.port = 0

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def cut(self) -> None:
        """End both carriers in order, without a word of either end's."""
        for writer in self._writers:
            writer.close()

    def reset(self) -> None:
        """End both carriers with a TCP reset."""
        for writer in self._writers:
            writer.transport.get_extra_info("socket").setsockopt(1, 13, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(LOCALHOST, self._target)
        self._writers += [writer, there_writer]
        for source, target, side in ((reader, there_writer, "to_server"), (there_reader, writer, "to_client")):
            self._tasks.append(asyncio.create_task(self._pump(source, target, side)))

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, side: str) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                await self._open.wait()
                change: Callable[[bytes], bytes] = getattr(self, side)
                target.write(change(data))
                await target.drain()
            if not target.is_closing() and not self.keep_open:
                target.write_eof()

    @classmethod
    @asynccontextmanager
    async def between(cls, port: int) -> AsyncIterator[Relay]:
        relay = cls(port)
        server = await asyncio.start_server(relay._serve, LOCALHOST, 0)
        relay.port = server.sockets[0].getsockname()[1]
        try:
            yield relay
        finally:
            server.close()
            relay._open.set()
            for task in relay._tasks:
                task.cancel()
            await asyncio.gather(*relay._tasks, return_exceptions=True)
            for writer in relay._writers:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
            await server.wait_closed()
