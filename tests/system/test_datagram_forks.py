"""A fork ends every datagram socket and endpoint in the child, and nothing of it in the parent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable

import pytest

import securesock as ss
from securesock.sockets.aio import create_datagram_endpoint
from tests.support.event_loops import on_every_loop
from tests.support.loopback import PATIENCE_S, client_context, needs_fork, server_context

pytestmark = [needs_fork, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]

NOWHERE = ("127.0.0.1", 9)


def said_in_child(*calls: Callable[[], object]) -> list[str]:
    """The name of what each call raised in a forked child, or what it returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(int(PATIENCE_S))
        try:
            said = []
            for call in calls:
                try:
                    said.append(str(call()))
                except OSError as error:
                    said.append(type(error).__name__)
            os.write(writing, "\n".join(said).encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        assert select.select([reading], [], [], PATIENCE_S)[0], "the child said nothing"
        return os.read(reading, 1 << 16).decode().split("\n")
    finally:
        os.close(reading)
        os.waitpid(child, 0)


def test_every_call_on_an_inherited_socket_is_misuse_and_the_parents_hears_all_of_its_peers() -> None:
    with contextlib.ExitStack() as stack:
        server, client, another = (
            stack.enter_context(ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=context()))
            for context in (server_context, client_context, client_context)
        )
        for each in (server, client, another):
            each.bind(("127.0.0.1", 0))
            each.settimeout(PATIENCE_S)
        client.sendto(b"first", server.getsockname())
        address = server.recvfrom(100)[1]
        calls: list[Callable[[], object]] = [
            lambda: server.sendto(b"x", address),
            lambda: server.sendmsg([b"x"], (), 0, address),
            lambda: server.send_batch([b"x"], address),
            lambda: server.recv(1),
            lambda: server.recvfrom(1),
            lambda: server.recv_into(bytearray(1)),
            lambda: server.recvmsg(1),
            lambda: server.recv_batch(1),
            lambda: server.query_security(address),
            lambda: server.set_peer_target_name("host/x.example", NOWHERE),
            lambda: server.delete_peer_target_name(address),
            lambda: server.refusals,
            server.fileno,
            # what would change the parent's descriptor, too
            lambda: server.connect(NOWHERE),
            lambda: server.bind(("127.0.0.1", 0)),
        ]
        assert said_in_child(*calls) == ["LocalMisuse"] * len(calls)
        assert said_in_child(server.close, server.fileno) == ["None", "-1"]
        server.sendto(b"still here", address)
        assert client.recv(100) == b"still here"
        another.sendto(b"a newcomer", server.getsockname())
        assert server.recvfrom(100) == (b"a newcomer", another.getsockname())


class _Hearing(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: ss.Address) -> None:
        self.heard.put_nowait(data)

    async def next(self) -> bytes:
        return await asyncio.wait_for(self.heard.get(), PATIENCE_S)


@on_every_loop
async def test_an_inherited_endpoint_is_dead_and_the_parents_lives() -> None:
    server, heard_by_server = await create_datagram_endpoint(_Hearing, ("127.0.0.1", 0), context=server_context())
    where: ss.Address = server.get_extra_info("sockname")
    client, heard_by_client = await create_datagram_endpoint(
        _Hearing, None, (where[0], where[1]), context=client_context()
    )
    address: ss.Address = client.get_extra_info("sockname")
    client.sendto(b"first")
    assert await heard_by_server.next() == b"first"
    calls: list[Callable[[], object]] = [
        lambda: client.sendto(b"x"),
        client.query_security,
        lambda: server.sendto(b"x", address),
        lambda: server.query_security(address),
        lambda: server.set_peer_target_name("host/x.example", NOWHERE),
        lambda: server.delete_peer_target_name(address),
        lambda: server.refusals,
    ]
    assert said_in_child(*calls) == ["LocalMisuse"] * len(calls)
    for end in ("close", "abort"):
        assert said_in_child(
            *(getattr(each, end) for each in (client, server)), client.is_closing, lambda: client.sendto(b"x")
        ) == ["None", "None", "True", "None"]
        for number in range(20):
            client.sendto(b"%d" % number)
            assert await heard_by_server.next() == b"%d" % number
            server.sendto(b"back %d" % number, address)
            assert await heard_by_client.next() == b"back %d" % number
    client.close()
    server.close()
