"""What of an application's datagrams a tapper on the cable reads: nothing, whichever call, family or end it was.

The count is over both directions, and finds every window where clear text was allowed and the peer has no IPsec: it is
a check that can fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

import securesock as ss
from securesock.sockets.aio import create_datagram_endpoint
from tests.support.datagram_relay import DatagramRelay, clear_windows
from tests.support.loopback import PATIENCE_S, client_context, server_context, shorten_silence, until

HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
FAMILIES = pytest.mark.parametrize("family", HOSTS, ids=["IPv4", "IPv6"])


def datagrams(context: ss.SecurityContext, family: int, settings: ss.SecuritySettings | None = None) -> ss.SecureSocket:
    sock = ss.SecureSocket(family, socket.SOCK_DGRAM, context=context)
    if settings is not None:
        sock.set_security(settings)
    sock.bind((HOSTS[family], 0))
    sock.settimeout(PATIENCE_S)
    return sock


@contextlib.contextmanager
def echoing(family: int) -> Iterator[tuple[ss.SecureSocket, DatagramRelay]]:
    """A secured server that answers each datagram with itself, behind a relay; b"end" ends it."""
    with datagrams(server_context(), family) as server, DatagramRelay(server.getsockname(), family) as relay:

        def run() -> None:
            while (came := server.recvfrom(1 << 16))[0] != b"end":
                server.sendto(came[0], came[1])

        thread = threading.Thread(target=run)
        thread.start()
        yield server, relay
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def by_sendto(sock: ss.SecureSocket, data: bytes, to: ss.Address) -> bytes:
    sock.sendto(data, to)
    return sock.recv(1 << 16)


def by_messages(sock: ss.SecureSocket, data: bytes, to: ss.Address) -> bytes:
    sock.sendmsg([data[:50], data[50:]], (), 0, to)
    return sock.recvmsg(1 << 16, 100)[0]


def by_a_connection(sock: ss.SecureSocket, data: bytes, to: ss.Address) -> bytes:
    sock.connect(to)
    sock.send(data)
    buffer = bytearray(1 << 16)
    return bytes(buffer[: sock.recv_into(buffer)])


def by_batches(sock: ss.SecureSocket, data: bytes, to: ss.Address) -> bytes:
    assert sock.send_batch([data], to) == 1
    return sock.recv_batch(1)[0][0]


def without_waiting(sock: ss.SecureSocket, data: bytes, to: ss.Address) -> bytes:
    """The first datagram is kept until the negotiation is over."""
    sock.setblocking(False)
    sock.sendto(data, to)
    sock.settimeout(PATIENCE_S)
    return sock.recv(1 << 16)


WAYS = [by_sendto, by_messages, by_a_connection, by_batches, without_waiting]


@FAMILIES
@pytest.mark.parametrize("way", WAYS)
def test_nothing_of_a_first_datagram_and_its_answer_can_be_read(
    family: int, way: Callable[[ss.SecureSocket, bytes, ss.Address], bytes]
) -> None:
    payload = os.urandom(1000)
    with echoing(family) as (_, relay), datagrams(client_context(), family) as client:
        assert way(client, payload, relay.address) == payload
        info = client.query_security(relay.address)
        assert (info.secured, info.encrypted) == (True, True)
        client.sendto(b"end", relay.address)
        assert sum(map(len, relay.recorded)) > 2 * len(payload)
    assert clear_windows(payload, relay.recorded) == 0


@FAMILIES
def test_nothing_of_an_asyncio_endpoints_datagrams_can_be_read(family: int) -> None:
    payload = os.urandom(1000)

    async def talk(to: ss.Address) -> bytes:
        came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: ss.Address) -> None:
                came.set_result(data)

        transport, _ = await create_datagram_endpoint(Protocol, None, (to[0], to[1]), context=client_context())
        transport.sendto(payload)
        try:
            return await asyncio.wait_for(came, PATIENCE_S)
        finally:
            transport.sendto(b"end")
            transport.close()

    with echoing(family) as (_, relay):
        assert asyncio.run(talk(relay.address)) == payload
    assert clear_windows(payload, relay.recorded) == 0


@FAMILIES
def test_nothing_of_what_was_meant_for_another_can_be_read(family: int) -> None:
    payload = os.urandom(1000)
    with datagrams(server_context(), family) as server, DatagramRelay(server.getsockname(), family) as relay:
        server.fileno()  # nobody receives: the process's own thread negotiates
        with datagrams(client_context(), family) as client:
            client.set_peer_target_name("host/other.example", relay.address)
            with pytest.raises(ss.AuthenticationFailed):
                client.sendto(payload, relay.address)
            client.setblocking(False)
            client.sendto(payload, relay.address)  # kept, and given up with the next negotiation
            until(lambda: client.refusals.get("first-datagrams-lost"), "the second refusal")
        until(lambda: len(relay.recorded) >= 4)
    assert clear_windows(payload, relay.recorded) == 0


@FAMILIES
def test_the_count_finds_everything_where_clear_text_was_allowed(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_silence(monkeypatch)
    payload = os.urandom(1000)
    insecure = ss.SecuritySettings(allow_insecure=True)
    with socket.socket(family, socket.SOCK_DGRAM) as plain, datagrams(client_context(), family, insecure) as client:
        plain.bind((HOSTS[family], 0))
        plain.settimeout(PATIENCE_S)
        with DatagramRelay(plain.getsockname(), family) as relay:
            client.sendto(payload, relay.address)
            while (came := plain.recvfrom(1 << 16))[0] != payload:
                assert came[0][:4] == bytes(4)  # IKE, until that was silent for long enough
            plain.sendto(payload[::-1], came[1])
            data, ancillary, _, sender = client.recvmsg(1 << 16, 100)
            assert (data, ancillary, sender) == (payload[::-1], [], relay.address)
            info = client.query_security(relay.address)
            assert (info.secured, info.encrypted) == (False, False)
        assert clear_windows(payload, relay.recorded) == clear_windows(payload[::-1], relay.recorded) == 993
