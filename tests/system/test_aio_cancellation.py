"""Cancelled at any await, ss.aio leaves nothing half-owned: no descriptor, no place among the half-open, no task.

Each test runs its coroutine again and again, and cancels it one suspension later every time, until it gets through.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from securesock.drivers.reactor import reactor
from securesock.engine.half_open import HALF_OPEN
from securesock.sockets import aio, aio_opening
from securesock.types import SecuritySettings
from tests.support.aio_peers import LOCALHOST, SERVER, Listening, Streams, connect, contexts, listening
from tests.support.event_loops import on_every_loop


@types.coroutine
def cancelled_at(step: int, body: Coroutine[Any, Any, Any]) -> Generator[Any, Any, tuple[bool, Any]]:
    """Run ``body`` and cancel it while it waits for the ``step``-th time: (was it cancelled, what it returned)."""
    task = asyncio.current_task()
    assert task is not None
    waits, sent = 0, None
    error: BaseException | None = None
    while True:
        try:
            waited_for = body.throw(error) if error is not None else body.send(sent)
        except StopIteration as done:
            return False, done.value
        except asyncio.CancelledError:
            task.uncancel()
            return True, None
        if waits == step:
            asyncio.get_running_loop().call_soon(task.cancel)
        waits += 1
        sent, error = None, None
        try:
            sent = yield waited_for
        except (asyncio.CancelledError, OSError) as thrown:
            error = thrown


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def settled(condition: Callable[[], object]) -> None:
    """Until it is so; the test's own time limit ends it otherwise."""
    while not condition():
        await asyncio.sleep(0)


async def every_step(attempt: Callable[[], Coroutine[Any, Any, Any]], undo: Callable[[Any], Awaitable[None]]) -> int:
    """How many suspensions there were to cancel."""
    reactor()  # it stays, and so do its descriptors
    before = descriptors()
    for step in range(1000):
        was_cancelled, result = await cancelled_at(step, attempt())
        if not was_cancelled:
            await undo(result)
        await settled(lambda: descriptors() == before and not len(HALF_OPEN))
        if not was_cancelled:
            return step
    raise AssertionError("it never got through")


@asynccontextmanager
async def quiet_server() -> AsyncIterator[Listening]:
    """One whose accepted connections are closed when the client's end is read."""
    async with listening() as there:

        async def serve() -> None:
            while True:
                server = await there.accepted.get()
                there.everybody.remove(server)
                with suppress(OSError):
                    await server.reader.read()
                await server.close()

        serving = asyncio.create_task(serve())
        yield there
        serving.cancel()


async def close(streams: Streams) -> None:
    await streams.close()


@on_every_loop
async def test_opening_a_connection_by_name_is_cancelled_anywhere() -> None:
    async with quiet_server() as there:
        _, client = contexts()

        async def attempt() -> Streams:
            options = {"peer": SERVER, "context": client}
            return Streams(*await aio.open_connection("localhost", there.port, **options))

        assert await every_step(attempt, close) >= 3  # the name, TCP, the negotiation
        await close(await connect(there.port))


@on_every_loop
async def test_opening_a_connection_in_clear_is_cancelled_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio_opening, "SILENCE_S", 0.05)

    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.close()

    plain = await asyncio.start_server(ignore, LOCALHOST, 0)
    port = plain.sockets[0].getsockname()[1]
    settings = SecuritySettings(allow_insecure=True)

    async def attempt() -> Streams:
        return await connect(port, settings=settings)

    assert await every_step(attempt, close) >= 3  # TCP, the negotiation, TCP again
    plain.close()
    await plain.wait_closed()


@on_every_loop
async def test_starting_a_server_is_cancelled_anywhere() -> None:
    async def attempt() -> aio.Server:
        return await aio.start_server(lambda *streams: None, "localhost", 0, context=contexts()[0])

    async def stop(server: aio.Server) -> None:
        server.close()
        await server.wait_closed()

    await stop(await attempt())  # some loops open a descriptor for the first of their servers and keep it
    assert await every_step(attempt, stop) >= 1


@on_every_loop
async def test_a_cancelled_read_write_or_close_loses_nothing() -> None:
    data = bytes(8 << 20)
    async with listening() as there:
        client = await connect(there.port)
        server = await there.accepted.get()

        async def receive() -> int:
            received = 0
            while received < len(data):
                was_cancelled, got = await cancelled_at(0, server.reader.read(1 << 20))
                received += 0 if was_cancelled else len(got)
            return received

        receiving = asyncio.create_task(receive())
        client.writer.write(data)
        was_cancelled, _ = await cancelled_at(0, client.writer.drain())
        assert was_cancelled
        assert await receiving == len(data)
        client.writer.write(b"the end")
        client.writer.close()
        await cancelled_at(0, client.writer.wait_closed())
        assert await server.reader.read() == b"the end"


@on_every_loop
async def test_a_server_that_serves_forever_is_closed_when_it_is_cancelled() -> None:
    server = await aio.start_server(lambda *streams: None, LOCALHOST, 0, context=contexts()[0], start_serving=False)
    assert not server.is_serving()
    port = server.sockets[0].getsockname()[1]
    serving = asyncio.create_task(server.serve_forever())
    await settled(server.is_serving)
    _, writer = await asyncio.open_connection(LOCALHOST, port)
    await settled(lambda: len(HALF_OPEN))
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not server.is_serving()
    assert server.sockets == ()
    assert not len(HALF_OPEN)
    await server.wait_closed()
    writer.close()
    try:
        await writer.wait_closed()
    except ConnectionResetError:
        assert writer.is_closing()
