"""allow_insecure: when a connection is in clear, when it never is, and that it says so."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic

import pytest

import securesock as ss
from securesock.sockets import negotiation, opening
from tests.support.loopback import (
    LINGER,
    PATIENCE_S,
    Relay,
    client_context,
    connect,
    echo,
    server_context,
    serving,
    stranger_context,
    until,
)

INSECURE = ss.SecuritySettings(allow_insecure=True)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> float:
    """How long silence lasts before it is clear text, where that is not what is looked at: it is two seconds."""
    assert opening.SILENCE_S == negotiation.FIRST_MESSAGE_S == 2.0
    monkeypatch.setattr(opening, "SILENCE_S", 0.2)
    monkeypatch.setattr(negotiation, "FIRST_MESSAGE_S", 0.2)
    return 0.2


class ClearServer:
    """An ordinary TCP server: its nth connection is handled by the nth function, the last one by all the rest."""

    def __init__(self, *handlers: Callable[[socket.socket], None], host: str = "127.0.0.1") -> None:
        self.first_bytes: list[bytes] = []
        self.peers: list[tuple[str, int]] = []
        self._handlers = handlers
        self._listener = socket.create_server((host, 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while True:
            try:
                connection, peer = self._listener.accept()
            except OSError:
                return
            self.peers.append(peer)
            # A client that goes on in clear resets the carrier on which it tried to be secured.
            with connection, suppress(ConnectionResetError, BrokenPipeError):
                connection.settimeout(PATIENCE_S)
                self._handlers[min(number, len(self._handlers) - 1)](connection)
            number += 1

    def close(self) -> None:
        with suppress(OSError):  # Windows ends the accept() under way when the socket is closed
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


@contextmanager
def clear_server(*handlers: Callable[[socket.socket], None]) -> Iterator[ClearServer]:
    server = ClearServer(*handlers)
    try:
        yield server
    finally:
        server.close()


def _clear_echo(connection: socket.socket) -> None:
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def _silent(connection: socket.socket) -> None:
    while connection.recv(1 << 16):
        pass


def _closes(connection: socket.socket) -> None:
    connection.recv(1 << 16)


def _resets(connection: socket.socket) -> None:
    connection.recv(6)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER.pack(1, 0))


def _answers_http(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"<html>" * 100)
    _silent(connection)


def _use(sock: ss.SecureSocket) -> None:
    sock.sendall(b"in clear")
    assert sock.recv(100) == b"in clear"
    info = sock.query_security()
    assert not info.secured
    assert not info.encrypted
    assert info.peer_machine is None
    assert info.negotiation_error
    assert info.differences[0].startswith("asked for IPsec, applied clear text, because the peer")


@pytest.mark.parametrize("first", [_clear_echo, _closes, _resets, _answers_http], ids=lambda each: each.__name__)
def test_a_peer_that_shows_it_does_not_speak_ike_is_reached_in_clear_at_once(
    first: Callable[[socket.socket], None],
) -> None:
    with clear_server(first, _clear_echo) as server:
        started = monotonic()
        with connect(server.address, settings=INSECURE) as sock:
            assert monotonic() - started < 1.5
            _use(sock)
        assert len(server.peers) == 2


def test_a_silent_peer_is_reached_in_clear_after_two_seconds() -> None:
    with clear_server(_silent, _clear_echo) as server:
        started = monotonic()
        with connect(server.address, settings=INSECURE) as sock:
            assert 1.9 < monotonic() - started < 4
            _use(sock)
            assert "within 2 s" in sock.query_security().negotiation_error


def test_without_allow_insecure_never() -> None:
    for settings in (None, ss.SecuritySettings(), ss.SecuritySettings(guarantee_encryption=True)):
        with clear_server(_answers_http) as server:
            with pytest.raises(ss.SecureSocketError) as caught:
                connect(server.address, settings=settings)
            assert isinstance(caught.value, (ss.PeerMisbehaved, ss.PeerIncompatible))
            assert len(server.peers) == 1


def test_a_secured_peer_is_secured_although_clear_text_is_allowed() -> None:
    with serving(echo, settings=INSECURE) as server, connect(server.address, settings=INSECURE) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        assert sock.query_security().secured
        assert server.infos[0].secured


def test_the_clear_connection_keeps_descriptor_options_and_bound_address() -> None:
    with clear_server(_answers_http, _clear_echo) as server, ss.SecureSocket(context=client_context()) as sock:
        sock.set_security(INSECURE)
        sock.set_peer_target_name("host/server.example")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 77)
        sock.bind(("127.0.0.4", 0))
        bound, number = sock.getsockname(), sock.fileno()
        sock.connect(server.address)
        _use(sock)
        if os.name == "posix":  # Windows has no dup2 for sockets
            assert sock.fileno() == number
            assert not os.get_inheritable(number)
        assert sock.getsockname() == bound
        assert server.peers == [bound, bound]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 77


def test_after_one_well_formed_answer_never_in_clear() -> None:
    """The peer answers IKE_SA_INIT, and then the path goes silent, or ends: the answer was IKE, so clear is over."""
    answered = threading.Event()

    def only_the_first_answer(data: bytes) -> bytes | None:
        if answered.is_set():
            return None
        answered.set()
        return data

    with serving(echo) as server, Relay(server.address, to_client=only_the_first_answer) as relay:
        with pytest.raises(ss.SecureSocketError):
            connect(relay.address, settings=INSECURE)
        assert answered.is_set()
        # One carrier and no other.
        assert len(relay._sockets) == 2


def test_a_peer_that_is_not_who_was_meant_is_never_reached_in_clear() -> None:
    with serving(echo, settings=INSECURE) as server:
        with pytest.raises(ss.AuthenticationFailed):
            connect(server.address, peer="host/other.example", settings=INSECURE)
        with pytest.raises(ss.AuthenticationFailed):
            connect(server.address, settings=INSECURE, context=stranger_context())
        assert server.infos == []


def test_errors_of_our_own_never_lead_to_clear_text() -> None:
    with clear_server(_clear_echo) as server:
        context = ss.SecurityContext(client_context().identity, plane="kernel")
        with pytest.raises(ss.PlaneError):
            connect(server.address, settings=INSECURE, context=context)
        with pytest.raises(ss.LocalMisuse):
            connect(server.address, peer="not a name", settings=INSECURE)
        assert server.peers == []


def test_a_socket_timeout_is_no_reason_for_clear_text() -> None:
    with clear_server(_silent, _clear_echo) as server:
        with pytest.raises(TimeoutError):
            connect(server.address, settings=INSECURE, timeout=0.3)
        assert len(server.peers) == 1


def test_one_deadline_covers_the_clear_connection_too(impatient: float) -> None:
    with clear_server(_silent) as server:
        started = monotonic()
        with connect(server.address, settings=INSECURE, timeout=impatient + 0.5) as sock:
            assert impatient <= monotonic() - started < impatient + 0.5
            assert not sock.query_security().secured


def test_after_one_address_failed_to_prove_itself_no_other_is_used_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(echo) as impostor, clear_server(_clear_echo) as server:
        infos = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", impostor.address),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", server.address),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: infos)
        with pytest.raises(ss.AuthenticationFailed):
            ss.create_connection(("other.example", 1), PATIENCE_S, settings=INSECURE, context=client_context())
        assert server.peers == []


def test_a_nonblocking_socket_falls_back_too() -> None:
    import select

    with clear_server(_answers_http, _clear_echo) as server, ss.SecureSocket(context=client_context()) as sock:
        sock.set_security(INSECURE)
        sock.set_peer_target_name("host/server.example")
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.connect(server.address)
        deadline = monotonic() + PATIENCE_S
        while monotonic() < deadline:
            try:
                sock.do_handshake()
                break
            except ss.WantRead:
                select.select([sock], [], [], 0.1)
            except ss.WantWrite:
                select.select([], [sock], [], 0.1)
        sock.settimeout(PATIENCE_S)
        _use(sock)


# -- the accepting side ------------------------------------------------------------------------------------------------


@contextmanager
def insecure_listener() -> Iterator[ss.SecureSocket]:
    with ss.create_server(("127.0.0.1", 0), settings=INSECURE, context=server_context()) as listener:
        listener.settimeout(PATIENCE_S)
        yield listener


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"I am no IKE", b"IKETCQ", b"\0"])
def test_a_first_byte_that_cannot_begin_ike_is_clear_at_once(first: bytes) -> None:
    with insecure_listener() as listener, socket.create_connection(listener.getsockname()) as client:
        client.settimeout(PATIENCE_S)
        started = monotonic()
        client.sendall(first)
        accepted, address = listener.accept()
        with accepted:
            assert monotonic() - started < 1.5
            assert address == client.getsockname()
            accepted.settimeout(PATIENCE_S)
            received = b""
            while len(received) < len(first):
                received += accepted.recv(3)
            assert received == first
            accepted.sendall(b"answer")
            assert client.recv(100) == b"answer"
            info = accepted.query_security()
            assert not info.secured
            assert info.asked == INSECURE
            client.shutdown(socket.SHUT_WR)
            assert accepted.recv(1) == b""


def test_two_seconds_of_silence_are_clear_so_that_a_server_may_speak_first() -> None:
    with insecure_listener() as listener, socket.create_connection(listener.getsockname()) as client:
        client.settimeout(PATIENCE_S)
        started = monotonic()
        accepted, _ = listener.accept()
        with accepted:
            assert 1.9 < monotonic() - started < 4
            accepted.sendall(b"220 ready\r\n")
            assert client.recv(100) == b"220 ready\r\n"
            client.sendall(b"EHLO\r\n")
            assert accepted.recv(100) == b"EHLO\r\n"
            assert "2 s" in accepted.query_security().negotiation_error


@pytest.mark.parametrize(
    "pieces", [[b"IKETCP" + bytes(20)], [b"IKE", b"TCP\0\0"], [b"I", b"K", b"E", b"T", b"C", b"P"]]
)
def test_ike_after_that_ends_the_connection_and_is_never_delivered(pieces: list[bytes], impatient: float) -> None:
    with insecure_listener() as listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(PATIENCE_S)
            for piece in pieces:
                client.sendall(piece)
            for _ in range(2):
                with pytest.raises(ss.ConnectionBroken):
                    accepted.recv(100)
            with pytest.raises(OSError):
                accepted.sendall(b"x")


def test_half_of_the_prefix_is_delivered_once_it_is_known_not_to_be_ike(impatient: float) -> None:
    with insecure_listener() as listener, socket.create_connection(listener.getsockname()) as client:
        client.sendall(b"IKE")
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(0.2)
            with pytest.raises(TimeoutError):
                accepted.recv(100)
            client.sendall(b" is a name")
            accepted.settimeout(PATIENCE_S)
            received = b""
            while len(received) < 13:
                received += accepted.recv(100)
            assert received == b"IKE is a name"


def test_a_client_that_ends_at_once_is_an_empty_clear_stream() -> None:
    with insecure_listener() as listener, socket.create_connection(listener.getsockname()) as client:
        client.shutdown(socket.SHUT_WR)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(1) == b""


def test_ike_that_fails_is_a_refusal_and_never_clear() -> None:
    with insecure_listener() as listener:
        with pytest.raises(ss.AuthenticationFailed):
            connect(listener.getsockname(), context=stranger_context())
        with socket.create_connection(listener.getsockname()) as garbage:
            garbage.sendall(b"IKETCP\0\5")
            garbage.settimeout(PATIENCE_S)
            with pytest.raises(ConnectionResetError):
                garbage.recv(1)
        until(lambda: sum(listener.refusals.values()) == 2)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_without_allow_insecure_a_clear_client_is_refused_and_counted() -> None:
    with serving(echo) as server, socket.create_connection(server.address) as client:
        client.settimeout(PATIENCE_S)
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        until(lambda: sum(server.listener.refusals.values()) == 1)
        assert server.infos == []


def test_the_count_of_clear_bytes_finds_all_of_them_when_they_are_there() -> None:
    """The positive control of the demo's count: in clear, every window of the payload is found on the wire."""
    payload = bytes(range(256)) * 8
    windows = {payload[at : at + 8] for at in range(len(payload) - 7)}
    with clear_server(_answers_http, _clear_echo) as server, Relay(server.address) as relay:
        with connect(relay.address, settings=INSECURE) as sock:
            sock.sendall(payload)
            received = b""
            while len(received) < len(payload):
                received += sock.recv(1 << 16)
        for recorded in relay.recorded.values():
            found = sum(bytes(recorded[at : at + 8]) in windows for at in range(len(recorded) - 7))
            assert found >= len(payload) - 7


def test_close_wakes_a_thread_that_waits_in_clear() -> None:
    with clear_server(_answers_http, _silent) as server:
        sock = connect(server.address, settings=INSECURE, timeout=None)
        raised: list[int | None] = []

        def receive() -> None:
            try:
                sock.recv(1)
            except OSError as error:
                raised.append(error.errno)

        thread = threading.Thread(target=receive)
        thread.start()
        until(lambda: sock._link._waiters)
        sock.close()
        thread.join(PATIENCE_S)
        assert raised == [9]


def test_every_call_works_in_clear_too() -> None:
    with clear_server(_answers_http, _clear_echo) as server, connect(server.address, settings=INSECURE) as sock:
        assert sock.send(b"abc") == 3
        assert sock.recv(3, socket.MSG_PEEK) == b"abc"[: len(sock.recv(3, socket.MSG_PEEK))]
        buffer = bytearray(3)
        until(lambda: sock.recv(3, socket.MSG_PEEK) == b"abc")
        assert sock.recv_into(buffer) == 3
        assert buffer == b"abc"
        with pytest.raises(ss.LocalMisuse):
            sock.recv(1, socket.MSG_OOB)
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.setblocking(False)
        with pytest.raises(ss.WantRead):
            sock.recv(1)
        assert not sock.want_write
        sock.settimeout(PATIENCE_S)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
        sock.shutdown(socket.SHUT_RD)
        assert sock.recv(1) == b""
