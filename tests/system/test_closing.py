"""How a connection ends: nothing sent is lost, nothing unproven is taken for an end."""

from __future__ import annotations

import errno
import gc
import socket
import subprocess
import threading
import warnings
import weakref
from collections.abc import Callable
from time import monotonic

import pytest

import securesock as ss
from tests.support.loopback import (
    LINGER,
    PATIENCE_S,
    Relay,
    Server,
    client_context,
    connect,
    connected,
    echo,
    psk_contexts,
    server_context,
    serving,
    until,
)
from tests.support.warm_python import warm_python


def _read_slowly(sock: ss.SecureSocket, pieces: int = 64) -> bytes:
    """Small reads with other threads' turns in between."""
    received = bytearray()
    turn = threading.Event()
    while data := sock.recv(16384):
        received += data
        if pieces:
            turn.wait(0.001)
            pieces -= 1
    return bytes(received)


def test_the_ends_of_both_directions_are_authenticated() -> None:
    with connected() as (ours, theirs):
        ours.sendall(b"last words")
        thread = threading.Thread(target=ours.close)
        thread.start()
        assert theirs.recv(100) == b"last words"
        assert theirs.recv(100) == b""
        theirs.close()
        thread.join(PATIENCE_S)
        assert ours.fileno() == -1


@pytest.mark.timeout(150)
def test_close_after_sendall_loses_no_byte_even_when_the_peer_rekeys_at_that_moment() -> None:
    """A thousand times: the peer starts a rekey while the end is under way, and reads slowly."""
    data = bytes(range(256)) * 300
    received: list[bytes] = []

    def read_all(connection: ss.SecureSocket) -> None:
        first = connection.recv(1000)
        link = connection._link
        link.connection.rekey_child(monotonic())  # as a lifetime of the peer's would at this moment
        connection.send(b"its request is on the way to one that closes")
        received.append(first + _read_slowly(connection, pieces=1))

    client_by_psk, server_by_psk = psk_contexts()
    with serving(read_all, context=server_by_psk) as server:
        for number in range(1000):
            sock = connect(server.address, context=client_by_psk)
            if number % 2:
                sock.setblocking(True)
            sock.sendall(data)
            if number % 3 == 0:
                sock.setblocking(False)
            sock.close()
        until(lambda: len(received) + len(server.errors) == 1000)
        assert server.errors == []
        assert all(each == data for each in received)


def test_close_of_a_nonblocking_socket_returns_at_once_and_loses_nothing() -> None:
    data = bytes(range(256)) * 8000
    with connected() as (ours, theirs):
        receiver: list[bytes] = []
        ours.settimeout(PATIENCE_S)
        thread = threading.Thread(target=lambda: receiver.append(_read_slowly(theirs)))
        thread.start()
        ours.sendall(data)
        ours.setblocking(False)
        started = monotonic()
        ours.close()
        assert monotonic() - started < 0.5
        thread.join(PATIENCE_S)
        assert receiver == [data]


def test_close_lingers_two_seconds_for_a_peer_that_does_not_end() -> None:
    with connected() as (ours, theirs):
        started = monotonic()
        ours.close()
        assert 1.9 < monotonic() - started < 4
        assert theirs.recv(1) == b""


def test_so_linger_says_how_long_close_waits() -> None:
    with connected() as (ours, theirs):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER.pack(1, 1))
        started = monotonic()
        ours.close()
        assert 0.9 < monotonic() - started < 1.8
        assert theirs.recv(1) == b""


def test_so_linger_of_zero_is_a_reset_as_for_any_socket() -> None:
    with connected() as (ours, theirs):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER.pack(1, 0))
        started = monotonic()
        ours.close()
        assert monotonic() - started < 1
        with pytest.raises(ss.StreamTruncated):
            theirs.recv(1)


def test_a_carrier_that_ends_without_the_peers_end_is_a_truncation() -> None:
    with serving(echo) as server, Relay(server.address) as relay, connect(relay.address) as sock:
        sock.sendall(b"proven")
        until(lambda: sock.recv(3, socket.MSG_PEEK) == b"pro")
        relay.cut()
        assert sock.recv(100) == b"proven"
        for _ in range(2):
            with pytest.raises(ss.StreamTruncated) as caught:
                sock.recv(100)
            assert isinstance(caught.value, ConnectionResetError)
            assert isinstance(caught.value, ss.PeerMisbehaved)
        with pytest.raises(BrokenPipeError):
            sock.sendall(b"x")
        assert sock.query_security().latch == "broken"
        until(lambda: server.errors)
        assert [type(each) for each in server.errors] == [ss.StreamTruncated]


def test_a_stream_cut_in_the_middle_of_a_packet_delivers_what_was_proven_only() -> None:
    passed = 0
    limit = 3_000_000

    def cut_late(data: bytes) -> bytes | None:
        nonlocal passed
        passed += len(data)
        return data if passed < limit else None

    def send_much(connection: ss.SecureSocket) -> None:
        connection.sendall(bytes(range(256)) * 40_000)

    with (
        serving(send_much) as server,
        Relay(server.address, to_client=cut_late) as relay,
        connect(relay.address) as sock,
    ):
        received = bytearray()
        with pytest.raises(ss.StreamTruncated):
            while True:
                received += sock.recv(1 << 16)
        assert 0 < len(received) < limit
        assert received == (bytes(range(256)) * 40_000)[: len(received)]


@pytest.mark.parametrize("at", [0, 1, 2, 6, 10, 14, 40, 100])
def test_a_flipped_bit_ends_the_connection_and_delivers_nothing_of_that_packet(at: int) -> None:
    armed = threading.Event()

    def flip(data: bytes) -> bytes:
        if not armed.is_set():
            return data
        armed.clear()
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    with serving(echo) as server, Relay(server.address, to_server=flip) as relay, connect(relay.address) as sock:
        sock.sendall(b"good")
        assert sock.recv(100) == b"good"
        armed.set()
        # A longer length is believed until the bytes that it takes in are there, and are not what was sealed.
        until(lambda: _broken_by(sock, b"tampered" * 20) or server.errors)
        with pytest.raises(ConnectionResetError):
            sock.recv(100)
        until(lambda: server.errors)
        assert isinstance(server.errors[0], (ss.ConnectionBroken, BrokenPipeError))
        assert not armed.is_set()


def _broken_by(sock: ss.SecureSocket, data: bytes) -> bool:
    try:
        sock.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


@pytest.mark.parametrize("copies", [0, 2])
def test_a_packet_left_out_or_sent_twice_ends_the_connection(copies: int) -> None:
    armed = threading.Event()

    def tamper(data: bytes) -> bytes:
        if not armed.is_set():
            return data
        armed.clear()
        return data * copies

    with serving(echo) as server, Relay(server.address, to_server=tamper) as relay, connect(relay.address) as sock:
        sock.sendall(b"first")
        assert sock.recv(100) == b"first"
        armed.set()
        sock.sendall(b"second")
        until(lambda: not armed.is_set())
        until(lambda: _broken_by(sock, b"third") or server.errors)
        until(lambda: server.errors)
        assert isinstance(server.errors[0], (ss.ConnectionBroken, BrokenPipeError))
        assert "ESP packet" in str(server.errors[0])


def test_what_is_written_to_the_descriptor_ends_the_connection_and_is_never_delivered() -> None:
    with connected() as (ours, theirs):
        plain = socket.socket(fileno=socket.dup(ours.fileno()))
        with plain:
            plain.setblocking(True)
            plain.sendall(b"\0\x20this was written around the protection")
        with pytest.raises(ss.ConnectionBroken):
            theirs.recv(100)
        with pytest.raises(BrokenPipeError):
            theirs.send(b"x")
        # The other end learns by proof: a sealed reset.
        with pytest.raises(ss.ConnectionBroken):
            ours.recv(100)


def test_a_forgotten_socket_is_an_abort_that_the_peer_can_tell_from_an_end() -> None:
    with ss.create_server(("127.0.0.1", 0), context=server_context()) as listener:
        listener.settimeout(PATIENCE_S)
        sock = connect(listener.getsockname())
        accepted, _ = listener.accept()
    with accepted:
        sock.sendall(b"before it was forgotten")
        assert accepted.recv(100) == b"before it was forgotten"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del sock
            gc.collect()
        assert [each.category for each in caught] == [ResourceWarning]
        with pytest.raises(ConnectionResetError) as ended:
            accepted.recv(100)
        assert isinstance(ended.value, ss.PeerMisbehaved)


def test_a_forgotten_listener_stops_listening() -> None:
    listener = ss.create_server(("127.0.0.1", 0), context=server_context())
    address = listener.getsockname()
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        del listener
        gc.collect()

    def answer() -> int:
        with socket.socket() as probe:
            return probe.connect_ex(address)

    until(lambda: answer() != 0)
    assert answer() == errno.ECONNREFUSED


_LEAVES_AT_ONCE = """
import sys, warnings
warnings.simplefilter("ignore")
import securesock as ss
port, mode = int(sys.argv[1]), sys.argv[2]
identity = ss.Identity.from_psk("a.example", {"b.example": bytes(range(32))})
sock = ss.create_connection(("127.0.0.1", port), 20, peer="host/b.example", context=ss.SecurityContext(identity))
sock.sendall(bytes(range(256)) * 20_000)
if mode == "nonblocking":
    sock.setblocking(False)
if mode != "never closed":
    sock.close()
"""


@pytest.fixture(scope="module", autouse=True)
def _started_once() -> None:
    warm_python()


def _leaving(mode: str, received: list[bytes]) -> tuple[Server, subprocess.CompletedProcess[str]]:
    identity = ss.Identity.from_psk("b.example", {"a.example": bytes(range(32))})

    def read(connection: ss.SecureSocket) -> None:
        received.append(_read_slowly(connection))

    with serving(read, context=ss.SecurityContext(identity)) as server:
        command = [*warm_python(), _LEAVES_AT_ONCE, str(server.address[1]), mode]
        process = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    return server, process


@pytest.mark.parametrize("mode", ["blocking", "nonblocking"])
def test_a_process_that_ends_right_after_close_loses_nothing(mode: str) -> None:
    received: list[bytes] = []
    server, process = _leaving(mode, received)
    assert process.stderr == ""
    assert process.returncode == 0
    assert server.errors == []
    assert received == [bytes(range(256)) * 20_000]


def test_a_process_that_ends_without_close_is_a_truncation() -> None:
    received: list[bytes] = []
    server, process = _leaving("never closed", received)
    assert process.returncode == 0
    assert received == []
    assert [isinstance(each, ConnectionResetError) for each in server.errors] == [True]


def test_threads_and_descriptors_of_many_connections_are_all_given_back() -> None:
    with serving(echo) as server:
        for _ in range(50):
            with connect(server.address, context=client_context()) as sock:
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
        assert len([each for each in threading.enumerate() if each.name.startswith("securesock")]) == 1


def _ignoring_the_end(call: Callable[[], object]) -> None:
    try:
        call()
    except (ConnectionResetError, BrokenPipeError, TimeoutError):
        return
    raise AssertionError("the call should have failed")


def _used_after_its_end(server: Server) -> weakref.ref[ss.SecureSocket]:
    with Relay(server.address) as relay, connect(relay.address) as sock:
        relay.cut()
        for call in (lambda: sock.recv(1), lambda: sock.recv(1), lambda: sock.sendall(b"x")):
            _ignoring_the_end(call)
        return weakref.ref(sock)


def _used_after_a_timeout() -> weakref.ref[ss.SecureSocket]:
    with socket.create_server(("127.0.0.1", 0)) as silent, ss.SecureSocket(context=client_context()) as late:
        late.settimeout(0.05)
        _ignoring_the_end(lambda: late.connect(silent.getsockname()))
        _ignoring_the_end(lambda: late.recv(1))
        return weakref.ref(late)


def test_no_error_keeps_its_socket_alive() -> None:
    """What is raised holds the frames it came through: a socket must go when it is forgotten, without the collector."""
    gc.collect()
    gc.disable()
    try:
        with serving(echo) as server:
            assert _used_after_its_end(server)() is None
        assert _used_after_a_timeout()() is None
    finally:
        gc.enable()
