"""ss.aio's transports with protocols of the application's: what is called when, and what a transport promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from securesock.errors import ConnectionBroken, LocalMisuse
from securesock.sockets import aio
from tests.support.aio_peers import CLIENT, LOCALHOST, SERVER, contexts
from tests.support.event_loops import on_every_loop


class Recording(asyncio.Protocol):
    """Writes down what it is told.  ``keep_open``: what eof_received returns."""

    def __init__(self, *, keep_open: bool = False) -> None:
        self.told: list[Any] = []
        self.data = bytearray()
        self.keep_open = keep_open
        self.transport: asyncio.Transport
        self.changed = asyncio.Event()

    def tell(self, what: object) -> None:
        self.told.append(what)
        self.changed.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.tell("made")

    def data_received(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        assert data
        self.data += data
        self.changed.set()

    def eof_received(self) -> bool:
        self.tell("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        self.tell("pause")

    def resume_writing(self) -> None:
        self.tell("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.tell(("lost", exc))

    @property
    def lost(self) -> bool:
        return any(isinstance(each, tuple) for each in self.told)

    @property
    def error(self) -> Exception | None:
        return next(each[1] for each in self.told if isinstance(each, tuple))

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


class Filling(asyncio.BufferedProtocol):
    """An application that has a buffer of its own, and a small one."""

    def __init__(self) -> None:
        self.room = bytearray(1000)
        self.data = bytearray()
        self.ended = asyncio.Event()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.room

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.room[:nbytes]

    def eof_received(self) -> None:
        self.ended.set()


@asynccontextmanager
async def pair(
    client: Callable[[], Any] = Recording, server: Callable[[], Any] = Recording
) -> AsyncIterator[tuple[Any, Any, asyncio.Transport]]:
    """The client's protocol, the server's, the client's transport."""
    made: asyncio.Queue[Any] = asyncio.Queue()

    def factory() -> Any:
        protocol = server()
        made.put_nowait(protocol)
        return protocol

    there = await aio.create_server(factory, LOCALHOST, 0, context=contexts()[0])
    port = there.sockets[0].getsockname()[1]
    transport, ours = await aio.create_connection(client, LOCALHOST, port, peer=SERVER, context=contexts()[1])
    theirs = await made.get()
    try:
        yield ours, theirs, transport
    finally:
        transport.abort()
        if isinstance(theirs, Recording):
            theirs.transport.abort()
            await theirs.until(lambda: theirs.lost)
        if isinstance(ours, Recording):
            await ours.until(lambda: ours.lost)
        there.close()
        await there.wait_closed()


@on_every_loop
async def test_a_connection_is_told_of_once_and_in_order() -> None:
    async with pair() as (client, server, transport):
        assert client.transport is transport
        assert transport.get_protocol() is client
        transport.write(b"to the server")
        await server.until(lambda: server.data == b"to the server")
        transport.close()
        assert transport.is_closing()
        await server.until(lambda: server.lost)
        await client.until(lambda: client.lost)
        assert client.told == ["made", ("lost", None)]
        assert server.told == ["made", "eof", ("lost", None)]


@on_every_loop
async def test_who_the_peer_is_is_known_when_the_connection_is_made() -> None:
    names = []

    class Asking(Recording):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            names.append(str(transport.get_extra_info("security").peer_machine))
            super().connection_made(transport)

    async with pair(Asking, Asking):
        assert sorted(names) == sorted([SERVER, CLIENT])


@on_every_loop
async def test_a_protocol_that_keeps_the_connection_open_goes_on_sending_after_the_end() -> None:
    async with pair(lambda: Recording(keep_open=True)) as (client, server, transport):
        transport.write_eof()
        await server.until(lambda: "eof" in server.told)
    async with pair(Recording, lambda: Recording(keep_open=True)) as (client, server, transport):
        transport.write(b"x")
        transport.write_eof()
        await server.until(lambda: "eof" in server.told)
        assert not server.transport.is_closing()
        server.transport.write(b"still here")
        await client.until(lambda: client.data == b"still here")
        server.transport.close()
        await client.until(lambda: client.lost)
        assert client.told == ["made", "eof", ("lost", None)]


@on_every_loop
async def test_after_write_eof_nothing_more_is_written_and_after_close_it_is_discarded() -> None:
    async with pair(Recording, lambda: Recording(keep_open=True)) as (_client, server, transport):
        transport.write(b"all")
        transport.write_eof()
        transport.write_eof()
        with pytest.raises(RuntimeError, match="write_eof"):
            transport.write(b"more")
        transport.close()
        transport.write(b"more")
        await server.until(lambda: "eof" in server.told)
        assert server.data == b"all"


@on_every_loop
async def test_only_bytes_are_written() -> None:
    async with pair() as (_client, server, transport):
        for wrong in ("text", 5, None, [1]):
            with pytest.raises(TypeError):
                transport.write(wrong)
        transport.write(b"")
        transport.write(memoryview(bytearray(range(8))).cast("I"))
        await server.until(lambda: len(server.data) == 8)
        assert server.data == bytes(range(8))


@on_every_loop
async def test_a_buffer_may_be_used_again_as_soon_as_it_was_written() -> None:
    async with pair(Recording, lambda: Recording(keep_open=True)) as (_client, server, transport):
        server.transport.pause_reading()
        buffer = bytearray(1 << 20)
        expected = bytearray()
        for number in range(12):
            buffer[:] = bytes((number,)) * len(buffer)
            transport.write(buffer)
            expected += buffer
        buffer[:] = bytes(len(buffer))
        transport.write_eof()
        server.transport.resume_reading()
        await server.until(lambda: "eof" in server.told)
        assert server.data == expected


@on_every_loop
async def test_writing_is_paused_above_one_limit_and_resumed_below_the_other() -> None:
    async with pair(Recording, lambda: Recording(keep_open=True)) as (client, server, transport):
        server.transport.pause_reading()
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(high=100_000, low=50_000)
        assert transport.get_write_buffer_limits() == (50_000, 100_000)
        written = 0
        while "pause" not in client.told:
            transport.write(bytes(50_000))
            written += 50_000
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() > 100_000
        assert client.told == ["made", "pause"]
        server.transport.resume_reading()
        await client.until(lambda: "resume" in client.told)
        assert transport.get_write_buffer_size() <= 50_000
        await server.until(lambda: len(server.data) == written)
        assert client.told == ["made", "pause", "resume"]
        with pytest.raises(ValueError, match="high"):
            transport.set_write_buffer_limits(high=1, low=2)


@on_every_loop
async def test_a_transport_whose_limit_is_lowered_below_what_waits_pauses_at_once() -> None:
    async with pair(Recording, lambda: Recording(keep_open=True)) as (client, server, transport):
        server.transport.pause_reading()
        transport.set_write_buffer_limits(high=1 << 30)
        while not transport.get_write_buffer_size():
            transport.write(bytes(500_000))
        assert client.told == ["made"]
        transport.set_write_buffer_limits(high=0)
        assert client.told == ["made", "pause"]


@on_every_loop
async def test_nothing_is_delivered_while_reading_is_paused() -> None:
    async with pair() as (client, server, transport):
        server.transport.pause_reading()
        assert not server.transport.is_reading()
        transport.write(b"patience")
        server.transport.write(b"I am here")
        await client.until(lambda: client.data == b"I am here")
        transport.write_eof()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not server.data
        assert "eof" not in server.told
        server.transport.resume_reading()
        assert server.transport.is_reading()
        assert not server.data  # in the loop's next turn, never within resume_reading()
        await server.until(lambda: "eof" in server.told)
        assert server.data == b"patience"


@on_every_loop
async def test_an_application_that_pauses_in_the_middle_is_obeyed_at_once() -> None:
    class Sipping(Recording):
        def data_received(self, data: bytes) -> None:
            assert self.transport.is_reading()
            super().data_received(data)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    async with pair(Recording, Sipping) as (_client, server, transport):
        data = bytes(range(256)) * 8192
        transport.write(data)
        await server.until(lambda: len(server.data) == len(data))
        assert server.data == data


@on_every_loop
async def test_a_buffered_protocol_gets_its_data_in_its_own_buffer() -> None:
    async with pair(Recording, Filling) as (_client, server, transport):
        data = bytes(range(256)) * 500
        transport.write(data)
        transport.write_eof()
        await server.ended.wait()
        assert server.data == data


@on_every_loop
async def test_another_protocol_may_take_over() -> None:
    second = Recording()

    class Handing(Recording):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.set_protocol(second)

    async with pair(Recording, Handing) as (_client, server, transport):
        second.transport = server.transport
        transport.write(b"first")
        await server.until(lambda: server.data == b"first")
        assert server.transport.get_protocol() is second
        transport.write(b"second")
        await second.until(lambda: second.data == b"second")
        transport.close()
        await second.until(lambda: second.lost)
        assert server.told == ["made"]
        server.tell(("lost", None))


@on_every_loop
async def test_an_abort_is_an_error_for_the_peer_and_none_for_oneself() -> None:
    async with pair(Recording, lambda: Recording(keep_open=True)) as (client, server, transport):
        transport.write(b"before")
        await server.until(lambda: server.data == b"before")
        transport.abort()
        assert transport.is_closing()
        await client.until(lambda: client.lost)
        assert client.error is None
        await server.until(lambda: server.lost)
        assert isinstance(server.error, ConnectionBroken)
        assert "eof" not in server.told
        transport.abort()
        transport.close()


@on_every_loop
async def test_a_connection_may_be_closed_and_aborted_from_within_every_call() -> None:
    for end in ("close", "abort"):
        for moment in ("connection_made", "data_received", "eof_received"):

            class Ending(Recording):
                def connection_made(self, transport: asyncio.BaseTransport) -> None:
                    super().connection_made(transport)
                    self.perhaps("connection_made")

                def data_received(self, data: bytes) -> None:
                    super().data_received(data)
                    self.perhaps("data_received")

                def eof_received(self) -> bool:
                    super().eof_received()
                    self.perhaps("eof_received")
                    return True

                def perhaps(self, here: str, moment: str = moment, end: str = end) -> None:
                    if here == moment:
                        getattr(self.transport, end)()

            async with pair(Recording, Ending) as (client, server, transport):
                transport.write(b"data")
                transport.write_eof()
                await server.until(lambda server=server: server.lost)
                assert server.error is None
                assert server.told[0] == "made"
                assert server.told[-1] == ("lost", None)
                await client.until(lambda client=client: client.lost)
                assert (client.error is None) == (end == "close")


def test_an_exception_of_the_applications_ends_its_connection() -> None:
    """Here the loop is told of the exception, as it is of one in any protocol: so not with on_every_loop."""
    told: list[dict[str, Any]] = []

    class Broken(Recording):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError("a defect of the application's")

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        async with pair(lambda: Recording(keep_open=True), Broken) as (client, server, transport):
            transport.write(b"data")
            await server.until(lambda: server.lost)
            assert isinstance(server.error, ZeroDivisionError)
            await client.until(lambda: client.lost)
            assert isinstance(client.error, ConnectionResetError)

    asyncio.run(body())
    assert [type(context["exception"]) for context in told] == [ZeroDivisionError]


def test_an_exception_of_the_applications_when_it_reads_on_ends_its_connection() -> None:
    told: list[dict[str, Any]] = []

    class Broken(Recording):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError("a defect of the application's")

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        async with pair(lambda: Recording(keep_open=True), Broken) as (client, server, transport):
            server.transport.pause_reading()
            transport.write(b"data")
            server.transport.write(b"read on")
            await client.until(lambda: client.data == b"read on")
            server.transport.resume_reading()
            await server.until(lambda: server.lost)
            await client.until(lambda: client.lost)
            assert isinstance(client.error, ConnectionBroken)

    asyncio.run(body())
    assert [type(context["exception"]) for context in told] == [ZeroDivisionError]


@on_every_loop
async def test_what_cannot_be_is_said_before_anything_is_begun() -> None:
    with pytest.raises(LocalMisuse):
        await aio.create_connection(Recording, LOCALHOST, 1, peer="not a name!", context=contexts()[1])
    with pytest.raises(LocalMisuse):
        await aio.create_connection(Recording, context=contexts()[1])
    with pytest.raises(LocalMisuse):
        await aio.create_server(Recording, LOCALHOST, 0, context=contexts()[0], allow=["*.*.!"])
    with pytest.raises(LocalMisuse):
        await aio.create_server(Recording, LOCALHOST, 0, context=contexts()[0], public_addresses=[("name", 5)])
    with pytest.raises(LocalMisuse):
        await aio.create_connection(Recording, LOCALHOST, 1, settings=object(), context=contexts()[1])
