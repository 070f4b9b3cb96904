"""ss.aio.create_datagram_endpoint on real sockets, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator

import pytest

import securesock as ss
from securesock.sockets.aio import create_datagram_endpoint
from securesock.types import SecurityInfo
from tests.support.event_loops import on_every_loop
from tests.support.loopback import client_context, server_context, stranger_context

PATIENCE_S = 20.0
Told = tuple[bytes, ss.Address]


class Recorder(asyncio.DatagramProtocol):
    """What an endpoint tells its protocol."""

    def __init__(self, *, echo: bool = False) -> None:
        self.received: asyncio.Queue[Told] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._echo = echo

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: ss.Address) -> None:
        self.received.put_nowait((data, addr))
        if self._echo:
            self.transport.sendto(data.upper(), addr)

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    async def next(self) -> Told:
        return await asyncio.wait_for(self.received.get(), PATIENCE_S)

    async def error(self) -> Exception:
        return await asyncio.wait_for(self.errors.get(), PATIENCE_S)


@contextlib.asynccontextmanager
async def endpoint(
    context: ss.SecurityContext,
    *,
    echo: bool = False,
    remote: ss.Address | None = None,
    peer: str | None = None,
    settings: ss.SecuritySettings | None = None,
) -> AsyncIterator[Recorder]:
    transport, protocol = await create_datagram_endpoint(
        lambda: Recorder(echo=echo),
        ("127.0.0.1", 0),
        None if remote is None else (remote[0], remote[1]),
        peer=peer,
        settings=settings,
        context=context,
    )
    try:
        yield protocol
    finally:
        transport.close()
        await asyncio.wait_for(protocol.lost, PATIENCE_S)


def address_of(recorder: Recorder) -> ss.Address:
    address: ss.Address = recorder.transport.get_extra_info("sockname")
    return address


@on_every_loop
async def test_datagrams_go_both_ways_and_the_transport_knows_the_peer() -> None:
    async with endpoint(server_context(), echo=True) as server:
        where = address_of(server)
        async with endpoint(client_context(), remote=where, peer="host/server.example") as client:
            assert client.transport.get_extra_info("security") is None
            client.transport.sendto(b"hello")
            assert await client.next() == (b"HELLO", where)
            assert await server.next() == (b"hello", address_of(client))
            info = client.transport.get_extra_info("security")
            assert isinstance(info, SecurityInfo)
            assert info.secured
            assert str(info.peer_machine) == "host/server.example"
            assert str(server.transport.query_security(address_of(client)).peer_machine) == "host/client.example"
            with pytest.raises(ValueError, match="Invalid address"):
                client.transport.sendto(b"elsewhere", ("127.0.0.1", 9))


@on_every_loop
async def test_one_endpoint_has_many_peers_and_large_datagrams_are_whole() -> None:
    async with (
        endpoint(server_context()) as server,
        endpoint(server_context()) as other,
        endpoint(client_context()) as client,
    ):
        payload = os.urandom(60000)
        for target in (server, other):
            client.transport.sendto(payload, address_of(target))
        assert await server.next() == await other.next() == (payload, address_of(client))


@on_every_loop
async def test_both_ends_begin_at_once() -> None:
    async with endpoint(server_context()) as one, endpoint(server_context()) as two:
        for number in range(20):
            one.transport.sendto(b"%d" % number, address_of(two))
            two.transport.sendto(b"%d" % number, address_of(one))
        for side in (one, two):
            assert sorted([int((await side.next())[0]) for _ in range(20)]) == list(range(20))


@on_every_loop
async def test_a_blocking_socket_and_an_endpoint_understand_each_other() -> None:
    loop = asyncio.get_running_loop()
    async with endpoint(server_context(), echo=True) as server:
        with ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=client_context()) as sock:
            sock.settimeout(PATIENCE_S)
            await loop.run_in_executor(None, sock.sendto, b"hello", address_of(server))
            assert await loop.run_in_executor(None, sock.recvfrom, 100) == (b"HELLO", address_of(server))


@on_every_loop
async def test_a_wrong_name_is_told_as_an_error() -> None:
    async with endpoint(server_context()) as server:
        async with endpoint(client_context(), remote=address_of(server), peer="host/other.example") as client:
            client.transport.sendto(b"not for you")
            assert isinstance(await client.error(), ss.AuthenticationFailed)
            info = client.transport.get_extra_info("security")
            assert not info.secured
        assert server.received.empty()


@on_every_loop
async def test_a_stranger_is_counted_and_the_endpoint_works_on() -> None:
    async with endpoint(server_context(), echo=True) as server:
        async with endpoint(stranger_context(), remote=address_of(server)) as stranger:
            stranger.transport.sendto(b"let me in")
            assert isinstance(await stranger.error(), ss.AuthenticationFailed)
        async with endpoint(client_context()) as client:
            client.transport.sendto(b"hello", address_of(server))
            assert (await client.next())[0] == b"HELLO"
        assert sum(server.transport.refusals.values()) >= 1


@on_every_loop
async def test_names_are_given_by_address() -> None:
    async with endpoint(server_context()) as server, endpoint(client_context()) as client:
        transport, where = client.transport, address_of(server)
        transport.set_peer_target_name("host/other.example", where)
        transport.sendto(b"not for you", where)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.received.get(), 0.3)
        transport.sendto(b"and again", where)
        assert isinstance(await client.error(), ss.AuthenticationFailed)
        transport.delete_peer_target_name(where)
        transport.set_peer_target_name("host/server.example", where)
        transport.sendto(b"for you", where)
        assert (await server.next())[0] == b"for you"


@on_every_loop
async def test_close_lets_kept_datagrams_go_first() -> None:
    async with endpoint(server_context()) as server:
        async with endpoint(client_context()) as client:
            client.transport.sendto(b"kept", address_of(server))
        assert client.transport.is_closing()
        assert (await server.next())[0] == b"kept"


@on_every_loop
async def test_more_first_datagrams_than_are_kept_are_told() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        async with endpoint(client_context()) as client:
            for _ in range(65):
                client.transport.sendto(b"x", silent.getsockname())
            assert isinstance(await client.error(), BlockingIOError)
            client.transport.abort()


@on_every_loop
async def test_what_cannot_be_is_misuse() -> None:
    with pytest.raises(ss.LocalMisuse, match="broadcast"):
        await create_datagram_endpoint(Recorder, ("127.0.0.1", 0), allow_broadcast=True, context=client_context())
    with pytest.raises(ss.LocalMisuse, match="remote_addr"):
        await create_datagram_endpoint(Recorder, ("127.0.0.1", 0), peer="host/x.example", context=client_context())
    async with endpoint(client_context()) as client:
        for wrong in (None, ("localhost", 9), ("127.0.0.1",), "127.0.0.1", ("127.0.0.1", 0)):
            with pytest.raises(ss.LocalMisuse):
                client.transport.sendto(b"x", wrong)
