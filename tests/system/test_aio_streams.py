"""ss.aio's streams on real sockets, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from securesock.errors import ConnectionBroken, LocalMisuse, StreamTruncated
from securesock.sockets import aio
from securesock.sockets.stream_socket import SecureSocket
from securesock.types import SecurityInfo
from tests.support.aio_peers import CLIENT, LOCALHOST, SERVER, Relay, Streams, connect, connected, contexts, listening
from tests.support.event_loops import on_every_loop

MUCH = 24 << 20


async def send(streams: Streams, data: bytes, piece: int = 1 << 20) -> None:
    for at in range(0, len(data), piece):
        streams.writer.write(data[at : at + piece])
        await streams.writer.drain()
    streams.writer.write_eof()


async def receive_all(streams: Streams) -> bytes:
    parts = []
    while data := await streams.reader.read(1 << 20):
        parts.append(data)
    return b"".join(parts)


def security(streams: Streams) -> SecurityInfo:
    info = streams.writer.get_extra_info("security")
    assert isinstance(info, SecurityInfo)
    return info


@on_every_loop
async def test_both_ends_know_whom_the_other_proved_to_be_and_how_it_is_protected() -> None:
    async with connected() as (client, server):
        client.writer.write(b"who are you?")
        assert await server.reader.readexactly(12) == b"who are you?"
        ours, theirs = security(client), security(server)
        assert str(ours.peer_machine) == SERVER
        assert str(theirs.peer_machine) == CLIENT
        for info in (ours, theirs):
            assert info.secured
            assert info.encrypted
            assert info.plane == "userspace"
            assert info.keying == "ikev2"
            assert info.latch == "established"
            assert info.established_at is not None
        assert (ours.main_mode_suite, ours.quick_mode_suite) == (theirs.main_mode_suite, theirs.quick_mode_suite)


@on_every_loop
async def test_the_carriers_addresses_and_socket_are_told() -> None:
    async with connected() as (client, server):
        ours, theirs = client.writer.get_extra_info, server.writer.get_extra_info
        assert ours("peername") == theirs("sockname")
        assert ours("sockname") == theirs("peername")
        assert ours("peername")[0] == LOCALHOST
        assert ours("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert ours("no such thing", "default") == "default"


@on_every_loop
async def test_much_data_in_both_directions_at_once_arrives_whole() -> None:
    there, back = os.urandom(MUCH), os.urandom(MUCH)
    async with connected() as (client, server):
        async with asyncio.TaskGroup() as group:
            group.create_task(send(client, there))
            group.create_task(send(server, back, 100_000))
            received = group.create_task(receive_all(server))
            returned = group.create_task(receive_all(client))
        assert hashlib.sha256(received.result()).digest() == hashlib.sha256(there).digest()
        assert hashlib.sha256(returned.result()).digest() == hashlib.sha256(back).digest()


@on_every_loop
async def test_rekeys_in_the_middle_of_a_transfer_lose_nothing() -> None:
    data = os.urandom(MUCH)
    async with connected(*contexts(max_packets=100)) as (client, server):
        async with asyncio.TaskGroup() as group:
            group.create_task(send(client, data))
            group.create_task(send(server, data))
            received = group.create_task(receive_all(server))
            returned = group.create_task(receive_all(client))
        assert received.result() == data
        assert returned.result() == data
        assert security(client).rekeys >= 3
        assert security(server).rekeys >= 3


@on_every_loop
async def test_an_end_that_only_sends_goes_on_through_rekeys() -> None:
    data = os.urandom(MUCH)
    async with connected(*contexts(max_packets=60)) as (client, server):
        async with asyncio.TaskGroup() as group:
            group.create_task(send(client, data))
            received = group.create_task(receive_all(server))
        assert received.result() == data
        assert security(client).rekeys >= 4


@on_every_loop
async def test_each_direction_ends_for_itself() -> None:
    async with connected() as (client, server):
        assert client.writer.can_write_eof()
        client.writer.write(b"question")
        client.writer.write_eof()
        assert await server.reader.read() == b"question"
        for number in range(3):
            server.writer.write(b"answer %d\n" % number)
            assert await client.reader.readline() == b"answer %d\n" % number
        server.writer.write_eof()
        assert await client.reader.read() == b""
        assert client.reader.at_eof()


@on_every_loop
async def test_a_writer_waits_for_a_reader_that_does_not_read() -> None:
    piece = os.urandom(1 << 20)
    async with connected() as (client, server):
        written = 0

        async def write_until_full() -> None:
            nonlocal written
            while True:
                client.writer.write(piece)
                await client.writer.drain()
                written += len(piece)

        # asyncio.timeout: a writer that never waits would go on for ever
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await write_until_full()
        # what waits is bounded: the kernel's buffers, 1 MiB of ours at the other end, and the last write
        assert written < 24 << 20
        client.writer.write_eof()
        received = await receive_all(server)
        assert received == piece * (len(received) // len(piece))
        assert len(received) == written + len(piece)


@on_every_loop
async def test_nothing_of_what_was_written_is_lost_when_it_is_closed_at_once() -> None:
    data = os.urandom(3 << 20)
    async with listening() as there:
        for _ in range(10):
            client = await connect(there.port)
            client.writer.write(data)
            server = await there.accepted.get()
            server.writer.write(b"something that nobody will read")
            client.writer.close()
            assert await server.reader.read() == data
            await client.writer.wait_closed()
            await server.close()


@on_every_loop
async def test_a_cut_carrier_delivers_what_was_proven_and_then_says_that_the_end_is_missing() -> None:
    async with listening() as there, Relay.between(there.port) as relay:
        client = await connect(relay.port)
        server = await there.accepted.get()
        client.writer.write(b"proven\nhalf a li")
        assert await server.reader.readexactly(1) == b"p"
        relay.cut()
        while server.reader.exception() is None:
            await asyncio.sleep(0)
        with pytest.raises(StreamTruncated):
            await server.writer.drain()
        assert await server.reader.readline() == b"roven\n"
        assert not server.reader.at_eof()
        with pytest.raises(StreamTruncated) as told:
            await server.reader.readline()
        assert isinstance(told.value.__cause__, asyncio.IncompleteReadError)
        assert told.value.__cause__.partial == b"half a li"
        for read in (server.reader.read, server.reader.readline, lambda: server.reader.readexactly(1)):
            with pytest.raises(StreamTruncated):
                await read()
        with pytest.raises(StreamTruncated):
            await client.reader.read()
        with pytest.raises(StreamTruncated):
            await server.writer.wait_closed()
        await client.close()


@on_every_loop
async def test_a_reset_carrier_is_a_truncated_stream_too() -> None:
    async with listening() as there, Relay.between(there.port) as relay:
        client = await connect(relay.port)
        server = await there.accepted.get()
        client.writer.write(b"proven")
        assert await server.reader.readexactly(1) == b"p"
        relay.reset()
        assert await server.reader.read(100) == b"roven"
        with pytest.raises(StreamTruncated):
            await server.reader.read(100)
        await client.close()


@on_every_loop
async def test_a_changed_byte_ends_the_connection_for_both_ends_and_delivers_nothing_of_its_packet() -> None:
    async with listening() as there, Relay.between(there.port) as relay:
        client = await connect(relay.port)
        server = await there.accepted.get()
        client.writer.write(b"first")
        assert await server.reader.readexactly(5) == b"first"
        relay.to_server = lambda data: data[:-3] + bytes((data[-3] ^ 1,)) + data[-2:]
        client.writer.write(b"second")
        with pytest.raises(ConnectionBroken):
            await server.reader.read(100)
        assert security(server).latch == "broken"
        # The one who sent it learns by proof, a sealed reset, and not by silence.
        with pytest.raises(ConnectionBroken, match="aborted"):
            await client.reader.read(100)
        await client.close()


@on_every_loop
async def test_both_ends_may_close_at_the_same_moment() -> None:
    async with connected() as (client, server):
        client.writer.write(b"bye")
        server.writer.write(b"bye")
        client.writer.close()
        server.writer.close()
        await asyncio.gather(client.writer.wait_closed(), server.writer.wait_closed())
        assert client.reader.exception() is None
        assert server.reader.exception() is None


@on_every_loop
async def test_small_messages_go_to_and_fro() -> None:
    async with connected() as (client, server):
        for number in range(200):
            client.writer.write(b"%d\n" % number)
            assert int(await server.reader.readline()) == number
            server.writer.write(b"%d\n" % -number)
            assert int(await client.reader.readline()) == -number


@on_every_loop
async def test_what_is_written_before_the_other_end_is_scheduled_is_delivered_in_order() -> None:
    async with connected() as (client, server):
        for number in range(1000):
            client.writer.write(b"%06d" % number)
        client.writer.writelines([b"the", memoryview(b" "), bytearray(b"end")])
        client.writer.write_eof()
        assert await server.reader.read() == b"".join(b"%06d" % number for number in range(1000)) + b"the end"


def handled(handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> list[dict[str, Any]]:
    """What the loop is told when a client meets this handler; the client must see that its answer is not whole."""
    told: list[dict[str, Any]] = []

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        server = await aio.start_server(handler, LOCALHOST, 0, context=contexts()[0])
        client = await connect(server.sockets[0].getsockname()[1])
        client.writer.write(b"question\n")
        assert await client.reader.readexactly(6) == b"half a"
        with pytest.raises(ConnectionBroken, match="aborted"):
            await client.reader.read()
        await client.close()
        server.close()
        await server.wait_closed()

    asyncio.run(body())
    return told


def test_a_handler_that_fails_leaves_no_whole_answer() -> None:
    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"half a")
        raise ZeroDivisionError("a defect of the handler's")

    [told] = handled(fail)
    assert isinstance(told["exception"], ZeroDivisionError)
    assert "client_connected_cb" in told["message"]


def test_a_handler_that_is_cancelled_leaves_no_whole_answer() -> None:
    async def be_cancelled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"half a")
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    assert handled(be_cancelled) == []


def test_a_forgotten_writer_is_an_abort() -> None:
    async def body() -> None:
        async with listening() as there:
            client = await connect(there.port)
            server = await there.accepted.get()
            client.writer.write(b"half a")
            reader = client.reader
            with pytest.warns(ResourceWarning, match="unclosed"):
                del client
                gc.collect()
            assert await server.reader.readexactly(6) == b"half a"
            with pytest.raises(ConnectionBroken, match="aborted"):
                await server.reader.read()
            assert await reader.read() == b""  # as after an end of our own

    asyncio.run(body())


def test_a_plain_function_may_take_the_streams_too() -> None:
    async def body() -> None:
        taken: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
        server = await aio.start_server(
            lambda reader, writer: taken.set_result(writer), LOCALHOST, 0, context=contexts()[0]
        )
        client = await connect(server.sockets[0].getsockname()[1])
        (await taken).close()
        assert await client.reader.read() == b""
        await client.close()
        server.close()
        await server.wait_closed()

    asyncio.run(body())


@on_every_loop
async def test_a_server_closes_or_aborts_its_clients() -> None:
    for call, error in (("close_clients", None), ("abort_clients", ConnectionBroken)):
        async with listening() as there:
            clients = [await connect(there.port) for _ in range(3)]
            for _ in clients:
                await there.accepted.get()
            getattr(there.server, call)()
            for client in clients:
                if error is None:
                    assert await client.reader.read() == b""
                else:
                    with pytest.raises(error):
                        await client.reader.read()
                await client.close()


@on_every_loop
async def test_a_server_is_an_asynchronous_context_manager() -> None:
    server = await aio.start_server(lambda *streams: None, LOCALHOST, 0, context=contexts()[0])
    async with server as same:
        assert same is server
        assert server.is_serving()
        assert server.get_loop() is asyncio.get_running_loop()
        assert len(server.sockets) == 1
        assert server.refusals == {}
    assert not server.is_serving()
    assert server.sockets == ()


@on_every_loop
async def test_ipv6_is_carried_too() -> None:
    server = await aio.start_server(lambda *streams: streams[1].close(), "::1", 0, context=contexts()[0])
    port = server.sockets[0].getsockname()[1]
    reader, writer = await aio.open_connection("::1", port, peer=SERVER, context=contexts()[1])
    assert writer.get_extra_info("peername")[:2] == ("::1", port)
    assert writer.get_extra_info("security").requested_address[:2] == ("::1", port)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


@on_every_loop
async def test_a_connected_socket_may_be_given() -> None:
    loop = asyncio.get_running_loop()
    listener = socket.create_server((LOCALHOST, 0))
    async with listening() as there:
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, (LOCALHOST, there.port))
        reader, writer = await aio.open_connection(sock=sock, peer=SERVER, context=contexts()[1])
        server = await there.accepted.get()
        server.writer.write(b"welcome")
        assert await reader.readexactly(7) == b"welcome"
        writer.close()
        await writer.wait_closed()
    given = await aio.start_server(lambda *streams: streams[1].close(), sock=listener, context=contexts()[0])
    client = await connect(listener.getsockname()[1])
    assert await client.reader.read() == b""
    await client.close()
    given.close()
    await given.wait_closed()


@on_every_loop
async def test_what_is_no_tcp_socket_is_not_taken_for_one() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        with pytest.raises(LocalMisuse, match="TCP"):
            await aio.open_connection(sock=datagrams, peer=SERVER, context=contexts()[1])
        with pytest.raises(LocalMisuse, match="TCP"):
            await aio.start_server(lambda *streams: None, sock=datagrams, context=contexts()[0])
    secured = SecureSocket(socket.AF_INET, socket.SOCK_STREAM, context=contexts()[1])
    with secured, pytest.raises(LocalMisuse, match="plain"):
        await aio.open_connection(sock=secured, peer=SERVER, context=contexts()[1])
