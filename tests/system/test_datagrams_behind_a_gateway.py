"""Real sockets behind a gateway, which is a socket of ours at UDP 4500: what a connected one hears, and what it does
not.

The kernel cannot tell: every datagram comes from the gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

import securesock as ss
from securesock.sockets.aio import create_datagram_endpoint
from tests.support.event_loops import on_every_loop
from tests.support.loopback import PATIENCE_S, client_context, server_context, until

GATEWAY = "127.0.0.71"
OURS, SERVICE, NEIGHBOUR = "10.91.0.1", ("10.92.0.1", 7), ("10.92.0.1", 9)
TO_GATEWAY = ss.PeerEntry("10.92.0.0/24", gateway=GATEWAY, inner=OURS, peer="host/server.example")
FROM_US = ss.PeerEntry("10.91.0.0/24", gateway="127.0.0.1", inner=SERVICE[0], inner_port=SERVICE[1])


def ours() -> ss.SecurityContext:
    return replace(client_context(), peers=(TO_GATEWAY,))


@contextlib.contextmanager
def gateway() -> Iterator[ss.SecureSocket]:
    """It speaks from SERVICE alone."""
    entry = replace(FROM_US, peer="host/client.example")
    with ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=replace(server_context(), peers=(entry,))) as sock:
        sock.bind((GATEWAY, 4500))
        sock.settimeout(PATIENCE_S)
        sock.fileno()  # the process's own thread negotiates while nobody receives
        yield sock


@contextlib.contextmanager
def connected_to(where: tuple[str, int]) -> Iterator[tuple[ss.SecureSocket, ss.SecureSocket, ss.Address]]:
    """A socket that is connected to an address behind the gateway, the gateway, and our address as that writes it."""
    with gateway() as peer, ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=ours()) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE_S)
        sock.connect(where)
        assert sock.getpeername() == where
        sock.send(b"hello")
        yield sock, peer, (OURS, sock.getsockname()[1])


def by_waiting(sock: ss.SecureSocket) -> bytes:
    return sock.recv(100)


def by_batch(sock: ss.SecureSocket) -> bytes:
    return sock.recv_batch(10)[0][0]


def by_selector(sock: ss.SecureSocket) -> bytes:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        if not selector.select(sock.gettimeout()):
            raise TimeoutError
    sock.setblocking(False)
    return sock.recvmsg(100)[0]


RECEIVING = pytest.mark.parametrize("receive", [by_waiting, by_batch, by_selector])


@RECEIVING
def test_a_connected_socket_hears_its_peer_behind_the_gateway(receive: Callable[[ss.SecureSocket], bytes]) -> None:
    with connected_to(SERVICE) as (sock, peer, our_address):
        assert peer.recvfrom(100) == (b"hello", our_address)
        peer.sendto(b"answer", our_address)
        assert receive(sock) == b"answer"
        assert dict(sock.refusals) == {}


@RECEIVING
def test_a_connected_socket_hears_nobody_else_behind_the_gateway(receive: Callable[[ss.SecureSocket], bytes]) -> None:
    with connected_to(NEIGHBOUR) as (sock, peer, our_address):
        until(lambda: peer.refusals.get("wrong-selectors"), "which has no such port")
        for number in range(3):
            peer.sendto(b"from the service %d" % number, our_address)
        until(lambda: sock.refusals.get("other-peer") == 3)
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            receive(sock)
        sock.settimeout(PATIENCE_S)
        sock.connect(SERVICE)
        peer.sendto(b"and now", our_address)
        assert receive(sock) == b"and now"


class _Hearing(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: ss.Address) -> None:
        self.heard.put_nowait(data)


@pytest.mark.parametrize("where", [SERVICE, NEIGHBOUR], ids=["the peer", "another"])
@on_every_loop
async def test_an_endpoint_hears_its_remote_address_behind_the_gateway_and_no_other(where: tuple[str, int]) -> None:
    with gateway() as peer:
        transport, protocol = await create_datagram_endpoint(
            _Hearing, ("127.0.0.1", 0), where, peer="host/server.example", context=ours()
        )
        transport.sendto(b"hello")
        peer.setblocking(False)
        await asyncio.to_thread(until, lambda: _came(peer) or peer.refusals.get("wrong-selectors"))
        our_address = (OURS, transport.get_extra_info("sockname")[1])
        peer.settimeout(PATIENCE_S)
        for number in range(3):
            peer.sendto(b"%d" % number, our_address)
        if where == SERVICE:
            assert [await asyncio.wait_for(protocol.heard.get(), PATIENCE_S) for _ in range(3)] == [b"0", b"1", b"2"]
        else:
            await asyncio.to_thread(until, lambda: transport.refusals.get("other-peer") == 3)
            assert protocol.heard.empty()
        transport.close()


def _came(sock: ss.SecureSocket) -> bool:
    try:
        return bool(sock.recv(100))
    except BlockingIOError:
        return False
