"""allow_insecure with ss.aio, at both ends: when a connection is in clear, when never, and what is said of it."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from securesock.engine.half_open import HALF_OPEN
from securesock.errors import AuthenticationFailed, ConnectionBroken, KeyingTimeout, LocalMisuse
from securesock.sockets import aio, aio_admitting, aio_opening
from securesock.types import SecuritySettings
from tests.support.aio_peers import LOCALHOST, SERVER, Listening, Relay, Streams, connect, contexts, listening
from tests.support.event_loops import on_every_loop

CLEAR_TOO = SecuritySettings(allow_insecure=True)
PREFIX = b"IKETCP"


@asynccontextmanager
async def plain_server(first: bytes = b"", *, close: int = 0) -> AsyncIterator[tuple[int, asyncio.Queue[Streams]]]:
    """One that knows no IKE: it says ``first``, and closes the first ``close`` connections at once."""
    accepted: asyncio.Queue[Streams] = asyncio.Queue()
    everybody: list[Streams] = []

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        everybody.append(Streams(reader, writer))
        if len(everybody) <= close:
            writer.close()
            return
        writer.write(first)
        accepted.put_nowait(everybody[-1])

    server = await asyncio.start_server(take, LOCALHOST, 0)
    try:
        yield server.sockets[0].getsockname()[1], accepted
    finally:
        server.close()
        for each in everybody:
            await each.close()
        await server.wait_closed()


async def plain_client(there: Listening, data: bytes) -> Streams:
    reader, writer = await asyncio.open_connection(LOCALHOST, there.port)
    writer.write(data)
    return Streams(reader, writer)


@on_every_loop
async def test_two_ends_that_can_are_secured_even_if_they_need_not_be() -> None:
    async with listening(settings=CLEAR_TOO) as there:
        client = await connect(there.port, settings=CLEAR_TOO)
        server = await there.accepted.get()
        for end in (client, server):
            info = end.writer.get_extra_info("security")
            assert info.secured
            assert info.asked == CLEAR_TOO
        client.writer.write(b"hello")
        assert await server.reader.readexactly(5) == b"hello"
        await client.close()


@pytest.mark.parametrize(
    ("first", "close", "why"),
    [(b"\0\0", 0, "does not speak IKE"), (b"", 1, "before it answered|closed|does not speak"), (b"", 0, "within")],
    ids=["other bytes", "closed", "silence"],
)
@on_every_loop
async def test_a_client_repeats_in_clear_what_was_no_ike(
    first: bytes, close: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio_opening, "SILENCE_S", 0.2)
    async with plain_server(first, close=close) as (port, accepted):
        client = await connect(port, settings=CLEAR_TOO)
        if not close:
            await accepted.get()  # the attempt with IKE
        server = await accepted.get()
        info = client.writer.get_extra_info("security")
        assert not info.secured
        assert not info.encrypted
        assert info.peer_machine is None
        assert re.search(why, info.negotiation_error)
        assert any("clear text" in each for each in info.differences)
        client.writer.write(b"in clear")
        assert await server.reader.readexactly(8) == b"in clear"
        server.writer.write(b"an answer")
        assert await client.reader.readexactly(len(first) + 9) == first + b"an answer"
        await client.close()


@on_every_loop
async def test_without_the_setting_nothing_is_ever_repeated_in_clear() -> None:
    async with plain_server(b"\0\0") as (port, accepted):
        with pytest.raises(OSError, match="frame"):
            await connect(port)
        only = await accepted.get()
        assert (await only.reader.read()).startswith(PREFIX)
        assert accepted.empty()


@on_every_loop
async def test_after_one_word_of_ike_nothing_is_repeated_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio_opening, "SILENCE_S", 0.2)
    async with listening() as there:
        with pytest.raises(AuthenticationFailed):
            await connect(there.port, peer="host/other.example", settings=CLEAR_TOO)
        assert there.accepted.empty()
        async with Relay.between(there.port) as relay:
            answers = []

            def only_the_first(data: bytes) -> bytes:
                answers.append(data)
                return data if len(answers) == 1 else b""

            monkeypatch.setattr(aio_opening, "NEGOTIATION_S", 0.5)
            relay.to_client = only_the_first
            with pytest.raises(KeyingTimeout):
                await connect(relay.port, settings=CLEAR_TOO)


@on_every_loop
async def test_a_clear_connection_keeps_the_local_address_it_was_given() -> None:
    async with plain_server(b"\0\0") as (port, _accepted):
        client = await connect(port, settings=CLEAR_TOO, local_addr=("127.0.0.3", 0))
        assert client.writer.get_extra_info("sockname")[0] == "127.0.0.3"
        await client.close()


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"I", b"IKE", b"IKETC?", b"IKEtcp" * 40_000])
@on_every_loop
async def test_a_server_takes_what_cannot_be_ike_for_clear_text(data: bytes) -> None:
    async with listening(settings=CLEAR_TOO) as there:
        client = await plain_client(there, data)
        if PREFIX.startswith(data):
            client.writer.write(b"?")
            data += b"?"
        server = await there.accepted.get()
        info = server.writer.get_extra_info("security")
        assert not info.secured
        assert "not IKE" in info.negotiation_error
        assert await server.reader.readexactly(len(data)) == data
        server.writer.write(b"answer")
        server.writer.write_eof()
        assert await client.reader.read() == b"answer"
        await client.close()
    assert len(HALF_OPEN) == 0


@on_every_loop
async def test_a_server_hands_a_silent_client_on_in_clear_and_that_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio_admitting, "FIRST_MESSAGE_S", 0.1)
    async with listening(settings=CLEAR_TOO) as there:
        for first in (b"", b"IK"):
            late = await plain_client(there, first)
            server = await there.accepted.get()
            assert "did not begin" in server.writer.get_extra_info("security").negotiation_error
            server.writer.write(b"220 ready\r\n")
            assert await late.reader.readline() == b"220 ready\r\n"
            # Neither at once nor byte by byte does it get through.
            for each in PREFIX[len(first) :]:
                late.writer.write(bytes((each,)))
                await late.writer.drain()
            with pytest.raises(ConnectionBroken, match="began IKE"):
                await server.reader.read(100)
            await late.close()
        honest = await plain_client(there, b"")
        server = await there.accepted.get()
        honest.writer.write(b"IKEA")
        assert await server.reader.readexactly(4) == b"IKEA"
        honest.writer.write(b"IKETCP is a word like any other now")
        assert (await server.reader.readexactly(10)).startswith(PREFIX)
        await honest.close()
    assert len(HALF_OPEN) == 0


@on_every_loop
async def test_a_client_in_clear_may_have_nothing_to_say() -> None:
    async with listening(settings=CLEAR_TOO) as there:
        for data in (b"", b"IKET"):
            client = await plain_client(there, data)
            client.writer.write_eof()
            server = await there.accepted.get()
            assert await server.reader.read() == data
            server.writer.write(b"goodbye")
            server.writer.close()
            assert await client.reader.read() == b"goodbye"
            await client.close()


@on_every_loop
async def test_a_buffered_protocol_gets_the_first_clear_bytes_too() -> None:
    ended = asyncio.Event()

    class Filling(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.room = bytearray(3)
            self.data = bytearray()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.room

        def buffer_updated(self, nbytes: int) -> None:
            self.data += self.room[:nbytes]

        def connection_lost(self, exc: Exception | None) -> None:
            ended.set()

    filling = Filling()
    server = await aio.create_server(lambda: filling, LOCALHOST, 0, settings=CLEAR_TOO, context=contexts()[0])
    _, writer = await asyncio.open_connection(LOCALHOST, server.sockets[0].getsockname()[1])
    writer.write(b"clear text and more")
    writer.close()
    await writer.wait_closed()
    await ended.wait()
    assert filling.data == b"clear text and more"
    server.close()
    await server.wait_closed()


@on_every_loop
async def test_reading_that_is_paused_before_the_first_bytes_keeps_them() -> None:
    got = bytearray()
    made: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
    lost = asyncio.Event()

    class Pausing(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            made.set_result(transport)

        def data_received(self, data: bytes) -> None:
            got.extend(data)

        def connection_lost(self, exc: Exception | None) -> None:
            lost.set()

    protocol = Pausing()
    server = await aio.create_server(lambda: protocol, LOCALHOST, 0, settings=CLEAR_TOO, context=contexts()[0])
    _, writer = await asyncio.open_connection(LOCALHOST, server.sockets[0].getsockname()[1])
    writer.write(b"first bytes")
    transport = await made
    assert transport.get_protocol() is protocol
    assert not transport.is_reading()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not got
    transport.resume_reading()
    while not got:
        await asyncio.sleep(0)
    assert got == b"first bytes"
    assert transport.can_write_eof()
    assert transport.get_write_buffer_size() == 0
    assert transport.get_write_buffer_limits()[1] > 0
    transport.close()
    assert transport.is_closing()
    await lost.wait()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


@on_every_loop
async def test_what_contradicts_itself_is_refused() -> None:
    with pytest.raises(LocalMisuse):
        SecuritySettings(guarantee_encryption=True, allow_insecure=True)
    async with listening() as there:
        with socket.create_connection((LOCALHOST, there.port)) as sock, pytest.raises(LocalMisuse, match="repeated"):
            await aio.open_connection(sock=sock, peer=SERVER, settings=CLEAR_TOO, context=contexts()[1])
