"""Listeners: readiness, the backlog, strangers, and the standard library's servers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import select
import selectors
import socket
import socketserver
import threading
from collections.abc import Iterator
from time import monotonic, time

import pytest

import securesock as ss
from securesock.drivers.negotiating import flush
from securesock.engine.asking import expected_peer
from securesock.engine.connect import connecting
from securesock.engine.half_open import HALF_OPEN
from securesock.sockets import negotiation
from securesock.sockets.planes import stream_plane
from tests.support.loopback import (
    PATIENCE_S,
    client_context,
    connect,
    echo,
    server_context,
    serving,
    stranger_context,
    until,
)


@pytest.fixture
def listener() -> Iterator[ss.SecureSocket]:
    with ss.create_server(("127.0.0.1", 0), context=server_context()) as listening:
        listening.settimeout(PATIENCE_S)
        yield listening


def _readable(sock: ss.SecureSocket, timeout: float = 0) -> bool:
    return bool(select.select([sock], [], [], timeout)[0])


def _refuse(sock: ss.SecureSocket) -> None:
    sock.setblocking(False)
    sock.close()


# -- readiness ---------------------------------------------------------------------------------------------------------


def test_the_descriptor_is_readable_exactly_while_accept_would_return(listener: ss.SecureSocket) -> None:
    assert not _readable(listener)
    with socket.create_connection(listener.getsockname()):
        # A carrier that has negotiated nothing makes nothing readable.
        assert not _readable(listener, 0.1)
    with connect(listener.getsockname()), connect(listener.getsockname()):
        for _ in range(2):
            assert _readable(listener, PATIENCE_S)
            accepted, _ = listener.accept()
            _refuse(accepted)
        assert not _readable(listener)
    listener.setblocking(False)
    with pytest.raises(BlockingIOError) as caught:
        listener.accept()
    assert caught.value.errno == errno.EAGAIN


def test_selectors_see_a_listener(listener: ss.SecureSocket) -> None:
    with selectors.DefaultSelector() as selector, connect(listener.getsockname()):
        selector.register(listener, selectors.EVENT_READ, "here")
        assert [key.data for key, _ in selector.select(PATIENCE_S)] == ["here"]
        accepted, _ = listener.accept()
        _refuse(accepted)
        assert selector.select(0) == []


def test_an_event_loop_accepts_from_a_listener(listener: ss.SecureSocket) -> None:
    listener.setblocking(False)

    async def accept_one() -> str:
        accepting = asyncio.ensure_future(asyncio.get_running_loop().sock_accept(listener))
        client = await asyncio.to_thread(connect, listener.getsockname())
        accepted, address = await accepting
        assert isinstance(accepted, ss.SecureSocket)
        assert address == client.getsockname()
        peer = str(accepted.query_security().peer_machine)
        accepted.close()
        await asyncio.to_thread(client.close)
        return peer

    # not the proactor of Windows, which reads descriptors itself: it gets ss.aio
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(accept_one()) == "host/client.example"


class _EchoHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        echo(self.request)


class _SecureTcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _EchoHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = ss.SecureSocket(socket.AF_INET, socket.SOCK_STREAM, context=server_context())
        self.server_bind()
        self.server_activate()


def test_a_threading_tcp_server_serves_and_shuts_down() -> None:
    with _SecureTcpServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        for _ in range(3):
            with connect(server.server_address) as sock:
                sock.sendall(b"over socketserver")
                assert sock.recv(100) == b"over socketserver"
        server.shutdown()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_an_accepted_socket_has_the_default_timeout_and_the_clients_address(listener: ss.SecureSocket) -> None:
    listener.settimeout(PATIENCE_S)
    with connect(listener.getsockname()) as sock:
        accepted, address = listener.accept()
        assert accepted.gettimeout() is None
        assert address == sock.getsockname() == accepted.getpeername()
        assert accepted.getsockname() == listener.getsockname()
        _refuse(accepted)


# -- the backlog -------------------------------------------------------------------------------------------------------


def test_beyond_the_backlog_new_carriers_wait_in_the_kernel() -> None:
    with ss.create_server(("127.0.0.1", 0), backlog=2, context=server_context()) as listener:
        listener.settimeout(PATIENCE_S)
        first = [connect(listener.getsockname()) for _ in range(2)]
        # Nobody negotiates with a third one, until there is room.
        with pytest.raises(TimeoutError):
            connect(listener.getsockname(), timeout=0.3)
        for _ in first:
            accepted, _ = listener.accept()
            _refuse(accepted)
        with connect(listener.getsockname()):
            accepted, _ = listener.accept()
            _refuse(accepted)
        for sock in first:
            sock.close()


def test_close_resets_what_nobody_accepted_and_frees_the_port() -> None:
    listener = ss.create_server(("127.0.0.1", 0), context=server_context())
    address = listener.getsockname()
    with connect(address) as sock:
        assert _readable(listener, PATIENCE_S)
        listener.close()
        assert listener.fileno() == -1
        with pytest.raises(ss.StreamTruncated):
            sock.recv(1)
        again = ss.create_server(address, context=server_context())
        again.close()
    with pytest.raises(ConnectionRefusedError):
        connect(address)
    with pytest.raises(OSError, match="closed"):
        listener.accept()


def test_close_wakes_a_thread_that_waits_in_accept() -> None:
    listener = ss.create_server(("127.0.0.1", 0), context=server_context())
    raised: list[int | None] = []

    def accept() -> None:
        try:
            listener.accept()
        except OSError as error:
            raised.append(error.errno)

    thread = threading.Thread(target=accept)
    thread.start()
    listener.close()
    thread.join(PATIENCE_S)
    assert raised == [errno.EBADF]


# -- strangers ---------------------------------------------------------------------------------------------------------


def test_a_silent_client_delays_nobody_and_is_refused_after_two_seconds(listener: ss.SecureSocket) -> None:
    with socket.create_connection(listener.getsockname()) as silent:
        started = monotonic()
        with connect(listener.getsockname()):
            accepted, _ = listener.accept()
            _refuse(accepted)
        assert monotonic() - started < 1.5
        silent.settimeout(PATIENCE_S)
        with pytest.raises(ConnectionResetError):
            silent.recv(1)
        assert 1.9 < monotonic() - started < 5
    until(lambda: listener.refusals["silent"] == 1)


_GARBAGE = {
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "zeros": bytes(64),
    "a length of 0": b"IKETCP\0\0",
    "a length of 1": b"IKETCP\0\1",
    "a length of 5": b"IKETCP\0\5\0\0\0",
    "an IKE header cut short by its own length": b"IKETCP" + (16).to_bytes(2, "big") + bytes(14),
    "an IKE message of nonsense": b"IKETCP" + (40).to_bytes(2, "big") + bytes(4) + bytes(range(34)),
    "a frame beyond 16 KiB": b"IKETCP" + (16385).to_bytes(2, "big") + bytes(4),
    "an ESP packet out of nowhere": b"IKETCP" + (60).to_bytes(2, "big") + b"\1\2\3\4" + bytes(54),
    "half a prefix and the end": b"IKE",
}


@pytest.mark.parametrize("name", sorted(_GARBAGE))
def test_garbage_ends_its_own_connection_and_nothing_else(listener: ss.SecureSocket, name: str) -> None:
    with socket.create_connection(listener.getsockname()) as stranger:
        stranger.settimeout(PATIENCE_S)
        stranger.sendall(_GARBAGE[name])
        if name.startswith("half"):
            stranger.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(1 << 16) == b""
    until(lambda: sum(listener.refusals.values()) == 1)
    assert not _readable(listener)
    with connect(listener.getsockname()):
        accepted, _ = listener.accept()
        _refuse(accepted)


@pytest.mark.parametrize(
    "beginning", [b"IKE", b"IKETCP", b"IKETCP\1", b"IKETCP" + (200).to_bytes(2, "big") + bytes(4) + bytes(50)]
)
def test_half_a_message_and_silence_is_refused_in_two_seconds(
    listener: ss.SecureSocket, beginning: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert negotiation.FIRST_MESSAGE_S == 2.0  # as long as a silent one, whose two seconds are waited for above
    monkeypatch.setattr(negotiation, "FIRST_MESSAGE_S", 0.2)
    with socket.create_connection(listener.getsockname()) as stranger:
        stranger.sendall(beginning)
        stranger.settimeout(PATIENCE_S)
        started = monotonic()
        with pytest.raises(ConnectionResetError):
            stranger.recv(1)
        assert monotonic() - started < 5
    until(lambda: listener.refusals["no-first-message"] == 1)


def test_a_client_that_goes_before_it_confirmed_is_a_counted_refusal(listener: ss.SecureSocket) -> None:
    """It proved who it is, and then ended the carrier without its first segment: no application sees it."""
    with socket.create_connection(listener.getsockname()) as carrier:
        config = connecting(
            client_context(),
            ss.SecuritySettings(),
            expected_peer("host/server.example"),
            carrier.getsockname(),
            carrier.getpeername(),
            0.0,
        )
        machine = stream_plane("auto").make_stream(dataclasses.replace(config, wall_offset_s=time() - monotonic()))
        machine.start(monotonic())
        while machine.state == "negotiating":
            assert flush(machine, carrier)
            machine.inbound_received(carrier.recv_into(machine.inbound_buffer()), monotonic())
            machine.inbound_release()
        assert machine.state == "established"
        # Whatever it has to say now would be the confirmation: it goes instead.
        assert not _readable(listener, 0.2)
    until(lambda: sum(listener.refusals.values()) == 1)
    assert not _readable(listener)


def test_refusals_do_not_stay_half_open(listener: ss.SecureSocket) -> None:
    for _ in range(5):
        with pytest.raises(ss.AuthenticationFailed):
            connect(listener.getsockname(), context=stranger_context())
    until(lambda: len(HALF_OPEN) == 0)
    assert sum(listener.refusals.values()) == 5


def test_one_source_holds_no_more_than_its_share(listener: ss.SecureSocket) -> None:
    strangers = [socket.create_connection(listener.getsockname()) for _ in range(80)]
    try:
        until(lambda: listener.refusals["evicted"] == 16)
        assert len(HALF_OPEN) == 64
    finally:
        for each in strangers:
            each.close()
    until(lambda: len(HALF_OPEN) == 0)


@pytest.mark.timeout(120)
def test_five_thousand_silent_connections_keep_no_honest_client_waiting() -> None:
    resource = pytest.importorskip("resource", reason="descriptors are not limited on this platform")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 12_000)), hard))
    with serving(echo) as server:
        address = server.address
        flooding = threading.Event()
        done = threading.Event()

        def flood() -> None:
            held: list[socket.socket] = []
            for number in range(5000):
                stranger = socket.socket()
                stranger.bind(("127.0.0.2", 0))
                stranger.settimeout(PATIENCE_S)
                stranger.connect(address)
                held.append(stranger)
                if number == 500:
                    flooding.set()
            done.set()
            for each in held:
                each.close()

        thread = threading.Thread(target=flood)
        thread.start()
        assert flooding.wait(PATIENCE_S)
        slowest = 0.0
        honest = 0
        while not done.is_set() or honest < 20:
            started = monotonic()
            with connect(address, timeout=5) as sock:
                slowest = max(slowest, monotonic() - started)
                sock.sendall(b"honest")
                assert sock.recv(100) == b"honest"
            honest += 1
        thread.join(PATIENCE_S * 3)
        assert slowest < 1.0
        assert len(HALF_OPEN) <= 64 + 1
    until(lambda: len(HALF_OPEN) == 0)


def test_two_listeners_are_served_by_one_thread() -> None:
    with serving(echo) as one, serving(echo) as other:
        for server in (one, other):
            with connect(server.address) as sock:
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
        names = [thread.name for thread in threading.enumerate() if thread.name.startswith("securesock")]
        assert names == ["securesock"]


def test_a_second_listen_changes_the_backlog(listener: ss.SecureSocket) -> None:
    listener.listen(1)
    first = connect(listener.getsockname())
    with pytest.raises(TimeoutError):
        connect(listener.getsockname(), timeout=0.2)
    listener.listen(5)
    socks = [first, *(connect(listener.getsockname()) for _ in range(3))]
    for sock in socks:
        accepted, _ = listener.accept()
        _refuse(accepted)
        sock.close()
    assert len(socks) == 4
