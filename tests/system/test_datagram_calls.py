"""The calls of a datagram socket in both families, and what they raise: too long, refused, out of time, closed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from time import monotonic

import pytest

import securesock as ss
from securesock.drivers import aio_datagrams as aio_driver
from securesock.drivers import datagrams as driver
from securesock.drivers.aio_datagrams import SecuredDatagramTransport
from securesock.planes.userspace import association, deadlines
from securesock.sockets.aio import create_datagram_endpoint
from tests.support.event_loops import on_every_loop
from tests.support.loopback import PATIENCE_S, client_context, server_context, shorten_silence, until

FOUR, SIX = (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")
FAMILIES = pytest.mark.parametrize("where", [FOUR, SIX], ids=["IPv4", "IPv6"])
TOO_LONG = (65500, 65528, 65536, 1 << 20)
"""More than an IP packet holds with ESP around it, than UDP's length says, than is kept of first datagrams."""


@contextlib.contextmanager
def bound(
    context: ss.SecurityContext, where: tuple[int, str] = FOUR, timeout: float | None = PATIENCE_S
) -> Iterator[ss.SecureSocket]:
    with ss.SecureSocket(where[0], socket.SOCK_DGRAM, context=context) as sock:
        sock.bind((where[1], 0))
        sock.settimeout(timeout)
        yield sock


@contextlib.contextmanager
def pair(where: tuple[int, str] = FOUR) -> Iterator[tuple[ss.SecureSocket, ss.SecureSocket, ss.Address]]:
    """A client, a server that has heard of it, and the server's address."""
    with bound(server_context(), where) as server, bound(client_context(), where) as client:
        client.sendto(b"first", server.getsockname())
        assert server.recvfrom(100) == (b"first", client.getsockname())
        yield client, server, server.getsockname()


@contextlib.contextmanager
def silent(where: tuple[int, str] = FOUR) -> Iterator[ss.Address]:
    """An address where nobody answers."""
    with socket.socket(where[0], socket.SOCK_DGRAM) as sock:
        sock.bind((where[1], 0))
        yield sock.getsockname()


# how much may wait


def room(sock: ss.SecureSocket | socket.socket) -> int:
    return int(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whether an application has set it")
def test_more_may_wait_than_by_default() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain, pair() as (client, server, _):
        assert room(client) > room(plain)
        assert room(server) > room(plain)


def test_as_much_may_wait_as_the_application_has_said_before_or_after() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        said = room(plain)
    with bound(server_context()) as server, bound(client_context()) as client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        client.sendto(b"first", server.getsockname())
        assert server.recvfrom(100)[0] == b"first"
        assert room(server) == said
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        client.sendto(b"second", server.getsockname())
        assert room(client) == said


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whether an application has set it")
@on_every_loop
async def test_more_may_wait_for_an_asyncio_endpoint_unless_its_socket_says_otherwise() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        default = room(plain)
    for said in (None, 16384):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        if said is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, said)
        before = room(sock)
        transport, _ = await create_datagram_endpoint(asyncio.DatagramProtocol, sock=sock, context=server_context())
        after = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        transport.close()
        await asyncio.sleep(0)
        assert after > default if said is None else after == before


# both families


@FAMILIES
def test_every_call_sends_and_receives_whole_datagrams(where: tuple[int, str]) -> None:
    with pair(where) as (client, server, to):
        ours = client.getsockname()
        for length in (0, 1, 1400, 1500, 9000, 65000):
            data = os.urandom(length)
            assert client.sendto(data, to) == length
            assert server.recvfrom(65536) == (data, ours)
        batch = [b"%04d" % number * 300 for number in range(40)] + [b"", b"short", bytes(20000), b"end"]
        assert client.send_batch(batch, to) == len(batch)
        received: list[tuple[bytes, ss.Address]] = []
        while len(received) < len(batch):
            received += server.recv_batch(16)
        assert received == [(each, ours) for each in batch]
        assert client.sendmsg([b"in ", b"pieces"], (), 0, to) == 9
        data, ancillary, flags, sender = server.recvmsg(100, 256)
        assert (data, flags, sender) == (b"in pieces", 0, ours)
        assert ancillary[0] == (ss.SOL_SECURESOCK, ss.SCM_PRINCIPAL, b"host/client.example")
        client.connect(to)
        assert client.getpeername() == to
        client.sendall(b"connected")
        buffer = bytearray(20)
        assert server.recvfrom_into(buffer) == (9, ours)
        server.sendto(b"back", ours)
        assert client.recv(100) == b"back"
        for end, address in ((client, to), (server, ours)):
            info = end.query_security(address)
            assert (info.secured, info.requested_address, info.differences) == (True, to[:2], ())


@FAMILIES
def test_without_waiting_there_is_nothing_and_then_there_is(where: tuple[int, str]) -> None:
    with pair(where) as (client, server, to):
        server.setblocking(False)
        for receive in (server.recv, server.recvfrom, server.recv_batch):
            with pytest.raises(BlockingIOError):
                receive(10)
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.recv(10)
        server.settimeout(PATIENCE_S)
        client.sendto(b"now", to)
        assert server.recv(10) == b"now"


def test_sizes_below_zero_are_the_callers_errors_and_cost_no_datagram() -> None:
    with pair() as (client, server, to):
        client.sendto(b"whole", to)
        for call in (
            lambda: server.recv(-1),
            lambda: server.recvfrom(-1),
            lambda: server.recvmsg(-1),
            lambda: server.recvmsg(10, -1),
            lambda: server.recv_into(bytearray(9), -1),
            lambda: server.recvfrom_into(bytearray(9), 10),
            lambda: server.recv_batch(0),
        ):
            with pytest.raises(ValueError, match=r"negative|too small|at least"):
                call()
        assert server.recv(10) == b"whole"
        assert client.send_batch([], to) == 0


def test_a_socket_of_both_families_is_reached_by_either_and_reaches_either() -> None:
    with bound(server_context(), (socket.AF_INET6, "::")) as both:
        port = both.getsockname()[1]
        for where in (FOUR, SIX):
            with bound(client_context(), where) as client:
                client.sendto(b"hello", (where[1], port))
                data, sender = both.recvfrom(100)
                assert data == b"hello"
                both.sendto(b"back", sender)
                assert client.recvfrom(100)[0] == b"back"
                # written as the application likes, it is the same peer
                assert both.query_security((where[1], client.getsockname()[1])).differences == ()
            with bound(server_context(), where) as server, bound(client_context(), (socket.AF_INET6, "::")) as client:
                client.sendto(b"hello", (where[1], server.getsockname()[1]))
                assert server.recv(100) == b"hello"
                info = client.query_security((where[1], server.getsockname()[1]))
                assert str(info.peer_machine) == where[1]


# too long


@pytest.mark.parametrize("length", TOO_LONG)
def test_what_no_packet_can_hold_is_the_systems_error_from_the_first_datagram_on(length: int) -> None:
    with bound(server_context()) as server, bound(client_context()) as client:
        server.fileno()  # nobody receives: the process's own thread negotiates
        to = server.getsockname()
        for call in (
            lambda: client.sendto(bytes(length), to),
            lambda: client.sendto(bytes(length), to),
            lambda: client.sendmsg([bytes(length)], (), 0, to),
            lambda: client.send_batch([bytes(length)], to),
        ):
            with pytest.raises(OSError, match="Message too long") as caught:
                call()
            assert caught.value.errno == errno.EMSGSIZE
            assert not isinstance(caught.value, ss.SecureSocketError)
        client.sendto(b"still", to)
        assert server.recv(100) == b"still"


@pytest.mark.parametrize("length", [65528, 65536, 1 << 20])
def test_a_first_datagram_that_no_packet_can_hold_is_not_kept(length: int) -> None:
    with bound(server_context()) as server, bound(client_context()) as client:
        client.setblocking(False)
        client.sendto(b"kept", server.getsockname())
        with pytest.raises(OSError, match="Message too long"):
            client.sendto(bytes(length), server.getsockname())
        assert server.recv(100) == b"kept"


def test_a_batch_stops_before_what_is_too_long_and_says_how_many_went() -> None:
    with pair() as (client, server, to):
        batch = [b"one", b"two", bytes(65528), b"four"]
        assert client.send_batch(batch, to) == 2
        with pytest.raises(OSError, match="Message too long"):
            client.send_batch(batch[2:], to)
        assert client.send_batch(batch[3:], to) == 1
        assert [server.recv(100) for _ in range(3)] == [b"one", b"two", b"four"]


class _Noting(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[bytes, ss.Address]] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: ss.Address) -> None:
        self.heard.put_nowait((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    async def next(self) -> tuple[bytes, ss.Address]:
        return await asyncio.wait_for(self.heard.get(), PATIENCE_S)

    async def error(self) -> Exception:
        return await asyncio.wait_for(self.errors.get(), PATIENCE_S)


_Ends = tuple[SecuredDatagramTransport, _Noting, SecuredDatagramTransport, _Noting]


@contextlib.asynccontextmanager
async def endpoints(where: tuple[int, str] = FOUR) -> AsyncIterator[_Ends]:
    """A client's transport and protocol, whose remote address is the server's, and the server's."""
    server, server_end = await create_datagram_endpoint(_Noting, (where[1], 0), context=server_context())
    to = server.get_extra_info("sockname")
    client, client_end = await create_datagram_endpoint(_Noting, None, (to[0], to[1]), context=client_context())
    yield client, client_end, server, server_end
    for transport, end in ((client, client_end), (server, server_end)):
        transport.close()
        await asyncio.wait_for(end.lost, PATIENCE_S)


@FAMILIES
@on_every_loop
async def test_an_endpoint_sends_and_receives_whole_datagrams(where: tuple[int, str]) -> None:
    async with endpoints(where) as (client, client_end, server, server_end):
        ours, to = client.get_extra_info("sockname"), server.get_extra_info("sockname")
        assert client.get_extra_info("peername") == to
        sizes = (5, 0, 1, 1400, 1500, 9000, 65000)
        for data in map(os.urandom, sizes):
            client.sendto(data)
            assert await server_end.next() == (data, ours)
            server.sendto(data[::-1], ours)
            assert await client_end.next() == (data[::-1], to)
        for number in range(200):
            client.sendto(b"%04d" % number)
        assert [(await server_end.next())[0] for _ in range(200)] == [b"%04d" % number for number in range(200)]
        assert str(client.query_security().peer_machine) == where[1]
        assert str(server.query_security(ours).peer_machine) == "host/client.example"
        assert dict(client.refusals) == dict(server.refusals) == {}


@on_every_loop
async def test_an_endpoint_tells_what_is_too_long_whenever_that_is_known() -> None:
    async with endpoints() as (client, client_end, _, server_end):
        for number in range(2):  # while it negotiates, and under an SA
            for length in TOO_LONG:
                client.sendto(bytes(length))
            client.sendto(b"still %d" % number)
            assert (await server_end.next())[0] == b"still %d" % number
            errors = [await client_end.error() for _ in TOO_LONG]
            assert {getattr(each, "errno", None) for each in errors} == {errno.EMSGSIZE}
        assert client_end.errors.empty()


@on_every_loop
async def test_what_the_path_says_is_told_to_nobody() -> None:
    """An ICMP message of anybody's: port unreachable, as soon as the server has gone."""
    async with endpoints() as (client, client_end, server, server_end):
        client.sendto(b"hello")
        await server_end.next()
        server.abort()
        await asyncio.wait_for(server_end.lost, PATIENCE_S)
        for _ in range(20):
            client.sendto(b"nobody there")
            await asyncio.sleep(0)
        assert client_end.errors.empty()
        assert client.query_security().secured


# in clear


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that gives no sign of IKE is taken for one without IPsec sooner, and given up sooner."""
    shorten_silence(monkeypatch)
    for module in (association, deadlines):
        monkeypatch.setattr(module, "NEGOTIATION_S", 0.4)


@FAMILIES
@on_every_loop
async def test_an_endpoint_speaks_in_clear_only_where_that_is_allowed_and_the_peer_is_silent(
    where: tuple[int, str], impatient: None
) -> None:
    with socket.socket(where[0], socket.SOCK_DGRAM) as plain:
        plain.bind((where[1], 0))
        plain.settimeout(PATIENCE_S)
        to = plain.getsockname()
        for allowed in (True, False):
            client, end = await create_datagram_endpoint(
                _Noting,
                None,
                (to[0], to[1]),
                settings=ss.SecuritySettings(allow_insecure=allowed),
                context=client_context(),
            )
            ours: ss.Address = client.get_extra_info("sockname")
            client.sendto(b"in clear?")
            if allowed:
                while (came := (await asyncio.to_thread(plain.recvfrom, 65536))[0]) != b"in clear?":
                    assert came[:4] == bytes(4)
                plain.sendto(b"a clear answer", ours)
                assert await end.next() == (b"a clear answer", to)
                info = client.query_security()
                assert (info.secured, info.encrypted, info.peer_machine) == (False, False, None)
                assert "did not answer IKE" in info.negotiation_error
            else:
                plain.sendto(b"unasked", ours)
                assert isinstance(await end.error(), ss.KeyingTimeout)
                assert end.heard.empty()
                assert client.refusals["no-packet"] == 1  # shorter than any
            client.close()
            await asyncio.wait_for(end.lost, PATIENCE_S)
        plain.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                assert plain.recv(65536)[:4] == bytes(4)


@on_every_loop
async def test_an_endpoint_hears_clear_text_of_strangers_and_none_of_its_peers(impatient: None) -> None:
    settings = ss.SecuritySettings(allow_insecure=True)
    server, end = await create_datagram_endpoint(_Noting, ("127.0.0.1", 0), settings=settings, context=server_context())
    to: ss.Address = server.get_extra_info("sockname")
    client, client_end = await create_datagram_endpoint(_Noting, None, (to[0], to[1]), context=client_context())
    where: ss.Address = client.get_extra_info("sockname")
    client.sendto(b"sealed")
    assert await end.next() == (b"sealed", where)
    client.close()
    await asyncio.wait_for(client_end.lost, PATIENCE_S)
    with socket.socket(type=socket.SOCK_DGRAM) as former, socket.socket(type=socket.SOCK_DGRAM) as stranger:
        former.bind(where)
        former.sendto(b"from where a peer was", to)
        stranger.bind(("127.0.0.1", 0))
        stranger.sendto(b"good evening", to)
        assert await end.next() == (b"good evening", stranger.getsockname())
        assert end.heard.empty()
        assert server.refusals["unknown-spi"] == 1
        server.sendto(b"good evening to you", stranger.getsockname())
        stranger.settimeout(PATIENCE_S)
        while (came := await asyncio.to_thread(stranger.recv, 65536)) != b"good evening to you":
            assert came[:4] == bytes(4)
    server.close()
    await asyncio.wait_for(end.lost, PATIENCE_S)


# refused


def test_a_connected_socket_learns_at_a_receiving_call_why_its_peer_is_not_heard() -> None:
    with bound(server_context()) as server, bound(client_context()) as client:
        server.fileno()
        client.connect(server.getsockname())
        client.set_peer_target_name("host/other.example")
        client.setblocking(False)
        client.send(b"not for you")
        client.settimeout(PATIENCE_S)
        with pytest.raises(ss.AuthenticationFailed, match=r"host/other\.example"):
            client.recv(100)  # where it waits
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(100)  # told once
        client.setblocking(False)
        client.send(b"again")
        until(lambda: client.refusals.get("other-name") == 2, "the second refusal")
        with pytest.raises(ss.AuthenticationFailed):
            client.recv(100)  # which does not wait


@pytest.mark.parametrize("receive", ["recv", "recvfrom", "recvmsg", "recv_batch"])
def test_a_socket_of_many_peers_hears_the_good_ones_whatever_the_others_do(receive: str) -> None:
    with bound(server_context()) as server, bound(client_context()) as client, bound(client_context()) as other:
        server.fileno()
        other.fileno()
        client.setblocking(False)
        for sock in (server, other):
            client.set_peer_target_name("host/nobody.example", sock.getsockname())
            client.sendto(b"not for you", sock.getsockname())
        until(lambda: client.refusals.get("other-name") == 2, "two refusals")
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            getattr(client, receive)(100)
        client.settimeout(PATIENCE_S)
        client.delete_peer_target_name(server.getsockname())
        server.sendto(b"from a good one", client.getsockname())
        came = getattr(client, receive)(100)
        assert came == b"from a good one" or came[0] == b"from a good one" or came[0][0] == b"from a good one"


# out of time


@FAMILIES
def test_without_a_timeout_a_first_datagram_is_given_up_with_its_negotiation(
    where: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "NEGOTIATION_S", 0.2)
    with silent(where) as nobody, bound(client_context(), where, None) as client:
        began = monotonic()
        with pytest.raises(ss.KeyingTimeout) as caught:
            client.sendto(b"anybody?", nobody)
        assert monotonic() - began < PATIENCE_S
        assert caught.value.errno == errno.ETIMEDOUT
        assert f"{nobody[0]} port {nobody[1]}" in str(caught.value)


def test_after_a_timeout_the_negotiation_goes_on_and_the_next_call_finds_it() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as cable, bound(server_context()) as server:
        server.fileno()
        cable.bind(("127.0.0.1", 0))
        cable.settimeout(PATIENCE_S)
        with bound(client_context(), FOUR, 0.1) as client:
            with pytest.raises(TimeoutError) as caught:
                client.sendto(b"lost", cable.getsockname())
            assert not isinstance(caught.value, ss.SecureSocketError)
            client.settimeout(PATIENCE_S)
            done = threading.Event()

            def carry() -> None:
                cable.settimeout(0.05)
                while not done.is_set():
                    with contextlib.suppress(TimeoutError):
                        data, source = cable.recvfrom(65536)
                        to_client = source == server.getsockname()
                        cable.sendto(data, client.getsockname() if to_client else server.getsockname())

            thread = threading.Thread(target=carry)
            thread.start()
            client.sendto(b"found", cable.getsockname())
            assert server.recv(100) == b"found"
            server.settimeout(0.05)
            with pytest.raises(TimeoutError):
                server.recv(100)  # what timed out does not come late
            done.set()
            thread.join(PATIENCE_S)


# the end


@pytest.fixture
def close_s(monkeypatch: pytest.MonkeyPatch) -> float:
    """How long close() waits here; it is two seconds."""
    assert driver.CLOSE_S == aio_driver._CLOSE_S == 2.0
    monkeypatch.setattr(driver, "CLOSE_S", 0.2)
    monkeypatch.setattr(aio_driver, "_CLOSE_S", 0.2)
    return 0.2


@pytest.mark.parametrize("timeout", [None, PATIENCE_S])
def test_close_waits_for_first_datagrams_and_no_longer_than_it_may(timeout: float | None, close_s: float) -> None:
    with silent() as nobody:
        client = ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=client_context())
        client.setblocking(False)
        client.sendto(b"kept", nobody)
        client.settimeout(timeout)
        began = monotonic()
        client.close()
        assert close_s * 0.9 < monotonic() - began < 10


def test_a_close_that_does_not_wait_lets_the_port_go_when_it_may_wait_no_longer(close_s: float) -> None:
    with silent() as nobody:
        client = ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=client_context())
        client.bind(("127.0.0.1", 0))
        client.setblocking(False)
        client.sendto(b"kept", nobody)
        address, began = client.getsockname(), monotonic()
        client.close()
        assert not _is_free(address) or monotonic() - began >= close_s
        until(lambda: _is_free(address))
        assert close_s * 0.9 < monotonic() - began < 10


def _is_free(address: ss.Address) -> bool:
    with socket.socket(type=socket.SOCK_DGRAM) as plain:
        try:
            plain.bind(address)
        except OSError:
            return False
        return True


@on_every_loop
async def test_an_endpoint_is_gone_when_its_close_may_wait_no_longer(close_s: float) -> None:
    with silent() as nobody:
        client, end = await create_datagram_endpoint(_Noting, None, (nobody[0], nobody[1]), context=client_context())
        client.sendto(b"kept")
        began = monotonic()
        client.close()
        await asyncio.wait_for(end.lost, PATIENCE_S)
        assert close_s * 0.9 < monotonic() - began < 10


@pytest.mark.parametrize("call", ["sendto", "recv", "recv_batch"])
def test_close_wakes_whoever_waits_and_says_so(call: str) -> None:
    with silent() as nobody:
        client = ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=client_context())
        client.bind(("127.0.0.1", 0))
        calls: dict[str, Callable[[], object]] = {
            "sendto": lambda: client.sendto(b"x", nobody),
            "recv": lambda: client.recv(10),
            "recv_batch": lambda: client.recv_batch(10),
        }
        raised: list[int | None] = []
        began = threading.Event()

        def wait() -> None:
            began.set()
            try:
                calls[call]()
            except OSError as error:
                raised.append(error.errno)

        thread = threading.Thread(target=wait)
        thread.start()
        assert began.wait(PATIENCE_S)
        client.close()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert raised == [errno.EBADF]


@pytest.mark.parametrize(
    ("where", "group"),
    [(FOUR, "224.0.0.251"), (FOUR, "255.255.255.255"), (SIX, "ff02::fb"), (SIX, "::ffff:239.1.2.3")],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_an_address_of_many_hosts_is_refused_at_once(where: tuple[int, str], group: str) -> None:
    with bound(client_context(), where) as sock:
        for call in (lambda: sock.sendto(b"x", (group, 5353)), lambda: sock.connect((group, 5353))):
            with pytest.raises(ss.LocalMisuse, match="nobody who could prove"):
                call()
