"""Non-blocking sockets, timeouts, and what stays to be sent."""

from __future__ import annotations

import errno
import functools
import select
import socket
import threading
from collections.abc import Callable
from time import monotonic

import pytest

import securesock as ss
from tests.support.loopback import PATIENCE_S, client_context, connect, connected, echo, server_context, serving, until


def _retrying(sock: ss.SecureSocket, call: Callable[[], object]) -> object:
    """What an event loop does: wait for what the call asks for, and call again."""
    deadline = monotonic() + PATIENCE_S
    while monotonic() < deadline:
        try:
            return call()
        except ss.WantRead:
            select.select([sock], [], [], PATIENCE_S)
        except ss.WantWrite:
            select.select([], [sock], [], PATIENCE_S)
    raise AssertionError("it never came to an end")


def _nonblocking_client() -> ss.SecureSocket:
    sock = ss.SecureSocket(context=client_context())
    sock.setblocking(False)
    sock.set_peer_target_name("host/server.example")
    return sock


def test_connect_says_in_progress_and_do_handshake_goes_on_until_it_returns() -> None:
    with serving(echo) as server, _nonblocking_client() as sock:
        with pytest.raises(BlockingIOError) as caught:
            sock.connect(server.address)
        assert caught.value.errno == errno.EINPROGRESS
        _retrying(sock, sock.do_handshake)
        sock.do_handshake()
        assert sock.query_security().secured
        with pytest.raises(OSError) as again:
            sock.connect(server.address)
        assert again.value.errno == errno.EISCONN


def test_a_second_connect_while_the_first_is_under_way_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, _nonblocking_client() as sock:
        with pytest.raises(BlockingIOError):
            sock.connect(silent.getsockname())
        with pytest.raises(BlockingIOError) as caught:
            sock.connect(silent.getsockname())
        assert caught.value.errno == errno.EALREADY


def test_connect_ex_returns_what_connect_raises() -> None:
    with serving(echo) as server, _nonblocking_client() as sock:
        assert sock.connect_ex(server.address) == errno.EINPROGRESS
        _retrying(sock, sock.do_handshake)
    with socket.socket() as closed, ss.SecureSocket(context=client_context()) as sock:
        closed.bind(("127.0.0.1", 0))
        assert sock.connect_ex(closed.getsockname()) == errno.ECONNREFUSED
    with serving(echo) as server, ss.SecureSocket(context=client_context()) as sock:
        sock.set_peer_target_name("host/other.example")
        assert sock.connect_ex(server.address) == errno.EACCES
        with pytest.raises(ss.AuthenticationFailed):
            sock.do_handshake()
    with ss.SecureSocket(context=client_context()) as sock, pytest.raises(ss.LocalMisuse):
        sock.connect_ex(("", 9))


def test_send_and_recv_drive_the_negotiation_and_no_byte_leaves_unsealed() -> None:
    with ss.create_server(("127.0.0.1", 0), context=server_context()) as listener, _nonblocking_client() as sock:
        listener.settimeout(PATIENCE_S)
        sock.connect_ex(listener.getsockname())
        with pytest.raises(BlockingIOError):
            sock.recv(100)
        assert _retrying(sock, lambda: sock.send(b"first")) == 5
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(100) == b"first"
            accepted.sendall(b"second")
            assert _retrying(sock, lambda: sock.recv(100)) == b"second"
            sock.close()


def test_before_the_negotiation_is_done_nothing_of_the_application_leaves() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, _nonblocking_client() as sock:
        sock.connect_ex(silent.getsockname())
        carrier, _ = silent.accept()
        with carrier:
            for _ in range(5):
                with pytest.raises(BlockingIOError):
                    sock.send(b"TOP SECRET")
            carrier.settimeout(PATIENCE_S)
            received = carrier.recv(1 << 16)
            assert received.startswith(b"IKETCP")
            assert b"TOP SECRET" not in received


def test_a_nonblocking_send_takes_what_it_sealed_and_the_rest_goes_first_later() -> None:
    with connected() as (ours, theirs):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        ours.setblocking(False)
        data = bytes(range(256)) * 8_000
        sent = 0
        saw_rest = False
        with pytest.raises(ss.WantWrite):
            while sent < len(data):
                count = ours.send(data[sent:])
                assert count > 0
                sent += count
                saw_rest |= ours.want_write
        assert saw_rest
        assert ours.want_write
        with pytest.raises(ss.WantWrite):
            ours.send(b"")
        received = bytearray()

        def receive() -> None:
            while chunk := theirs.recv(1 << 20):
                received.extend(chunk)

        thread = threading.Thread(target=receive)
        thread.start()
        while sent < len(data):
            count = _retrying(ours, functools.partial(ours.send, memoryview(data)[sent:]))
            assert isinstance(count, int)
            sent += count
        _retrying(ours, lambda: ours.send(b""))
        assert not ours.want_write
        _retrying(ours, lambda: ours.shutdown(socket.SHUT_WR))
        thread.join(PATIENCE_S)
        assert received == data


def test_a_nonblocking_recv_wants_to_read_and_delivers_the_authenticated_end() -> None:
    with connected() as (ours, theirs):
        ours.setblocking(False)
        with pytest.raises(ss.WantRead) as caught:
            ours.recv(1)
        assert caught.value.errno == errno.EAGAIN
        assert isinstance(caught.value, BlockingIOError)
        theirs.sendall(b"x")
        assert _retrying(ours, lambda: ours.recv(10)) == b"x"
        theirs.shutdown(socket.SHUT_WR)
        assert _retrying(ours, lambda: ours.recv(10)) == b""


def test_makefile_of_a_nonblocking_socket_says_none_when_there_is_nothing() -> None:
    with connected() as (ours, _):
        ours.setblocking(False)
        with ours.makefile("rb", buffering=0) as raw:
            assert raw.read(10) is None


# -- timeouts ----------------------------------------------------------------------------------------------------------


def test_recv_times_out_and_the_connection_goes_on() -> None:
    with connected() as (ours, theirs):
        ours.settimeout(0.05)
        started = monotonic()
        with pytest.raises(TimeoutError) as caught:
            ours.recv(1)
        assert 0.04 < monotonic() - started < PATIENCE_S / 2
        assert not isinstance(caught.value, ss.SecureSocketError)
        theirs.sendall(b"x")
        ours.settimeout(PATIENCE_S)
        assert ours.recv(1) == b"x"


def test_accept_times_out_and_the_listener_goes_on() -> None:
    with ss.create_server(("127.0.0.1", 0), context=server_context()) as listener:
        listener.settimeout(0.05)
        with pytest.raises(TimeoutError):
            listener.accept()
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
        listener.settimeout(PATIENCE_S)
        with connect(listener.getsockname()):
            accepted, _ = listener.accept()
            accepted.setblocking(False)
            accepted.close()


def test_one_deadline_covers_tcp_and_the_negotiation() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = monotonic()
        with pytest.raises(TimeoutError) as caught:
            connect(silent.getsockname(), timeout=0.3)
        assert 0.25 < monotonic() - started < 5
        assert not isinstance(caught.value, ss.SecureSocketError)


def test_after_a_timeout_the_socket_is_of_no_further_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ss.SecureSocket(context=client_context()) as sock:
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.connect(silent.getsockname())
        with pytest.raises(TimeoutError):
            sock.recv(1)
        with pytest.raises(ss.LocalMisuse, match="another"):
            sock.connect(silent.getsockname())
        assert "timed out" in sock.query_security().negotiation_error
        carrier, _ = silent.accept()
        with carrier:
            carrier.settimeout(PATIENCE_S)
            while carrier.recv(1 << 16):
                pass


def test_sendall_that_times_out_breaks_the_connection() -> None:
    with connected() as (ours, _):
        ours.settimeout(0.1)
        with pytest.raises(TimeoutError):
            ours.sendall(bytes(64 << 20))
        with pytest.raises(BrokenPipeError):
            ours.send(b"x")
        with pytest.raises(BrokenPipeError):
            ours.sendall(b"x")


def test_send_that_times_out_after_sealing_keeps_its_promise() -> None:
    with connected() as (ours, theirs):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        ours.settimeout(0.05)
        sent = 0
        block = bytes(range(256)) * 1024
        with pytest.raises(TimeoutError):
            while True:
                sent += ours.send(block)
        assert ours.want_write
        received = bytearray()

        def receive() -> None:
            while chunk := theirs.recv(1 << 20):
                received.extend(chunk)

        thread = threading.Thread(target=receive)
        thread.start()
        ours.settimeout(PATIENCE_S)
        ours.shutdown(socket.SHUT_WR)
        thread.join(PATIENCE_S)
        assert len(received) == sent


def test_a_nonblocking_sendall_that_stops_half_way_breaks_the_connection() -> None:
    with connected() as (ours, _):
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.sendall(bytes(64 << 20))
        with pytest.raises(BrokenPipeError):
            ours.send(b"x")


# -- create_connection -------------------------------------------------------------------------------------------------


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_create_connection_tries_each_address_with_a_deadline_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.2", 0)) as silent, serving(echo) as server:
        infos = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", _unused_port())),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", silent.getsockname()),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", server.address),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: infos)
        started = monotonic()
        with ss.create_connection(
            ("server.example", 1), 0.5, peer="host/server.example", context=client_context()
        ) as sock:
            assert sock.getpeername() == server.address
            assert sock.gettimeout() == 0.5
        assert monotonic() - started > 0.45


def test_all_errors_come_as_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(echo) as server:
        infos = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", server.address),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", _unused_port())),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: infos)
        with pytest.raises(ExceptionGroup) as group:
            ss.create_connection(("other.example", 1), PATIENCE_S, all_errors=True, context=client_context())
        assert [type(each) for each in group.value.exceptions] == [ss.AuthenticationFailed, ConnectionRefusedError]
        # Alone, the error that says most is raised.
        with pytest.raises(ss.AuthenticationFailed):
            ss.create_connection(("other.example", 1), PATIENCE_S, context=client_context())


def test_misuse_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: asked.append(arguments) or [])
    with pytest.raises(ss.LocalMisuse):
        ss.create_connection(("db.example", 1), peer="not a name", context=client_context())
    with pytest.raises(ss.LocalMisuse):
        ss.create_connection(("", 1), context=client_context())
    assert asked == []


def test_the_systems_own_errors_pass_unchanged() -> None:
    with pytest.raises(ConnectionRefusedError):
        connect(("127.0.0.1", _unused_port()))
    with pytest.raises(socket.gaierror):
        connect(("no-such-host.invalid", 1))


def test_a_source_address_is_used() -> None:
    with (
        serving(echo) as server,
        ss.create_connection(
            server.address, PATIENCE_S, ("127.0.0.3", 0), peer="host/server.example", context=client_context()
        ) as sock,
    ):
        assert sock.getsockname()[0] == "127.0.0.3"


def test_after_a_refused_connection_another_socket_is_needed() -> None:
    with ss.SecureSocket(context=client_context()) as sock:
        with pytest.raises(ConnectionRefusedError):
            sock.connect(("127.0.0.1", _unused_port()))
        with pytest.raises(ss.LocalMisuse, match="another"):
            sock.connect(("127.0.0.1", _unused_port()))
        with pytest.raises(ConnectionRefusedError):
            sock.send(b"x")


def test_a_silent_server_is_given_up_after_ten_seconds_without_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    import securesock.sockets.opening as opening

    monkeypatch.setattr(opening, "NEGOTIATION_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = monotonic()
        with pytest.raises(ss.KeyingTimeout) as caught:
            connect(silent.getsockname(), timeout=None)
        assert monotonic() - started < opening.SILENCE_S  # a limit that has passed is acted on, whatever else is due
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.errno == errno.ETIMEDOUT


def test_close_from_another_thread_ends_a_blocking_connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sock = ss.SecureSocket(context=client_context())
        sock.set_peer_target_name("host/server.example")
        raised: list[int | None] = []

        def connect_it() -> None:
            try:
                sock.connect(silent.getsockname())
            except OSError as error:
                raised.append(error.errno)

        thread = threading.Thread(target=connect_it)
        thread.start()
        carrier, _ = silent.accept()
        with carrier:
            until(lambda: carrier.recv(6, socket.MSG_PEEK) == b"IKETCP")
            sock.close()
            thread.join(PATIENCE_S)
        assert raised == [errno.EBADF]
