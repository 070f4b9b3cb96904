"""A StreamLink on one end of a socket pair, with the other end's bytes in our hands."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from securesock.drivers.blocking import PATIENCE_S, SCRATCH_SIZE, StreamLink
from securesock.errors import ConnectionBroken, StreamTruncated, WantRead, WantWrite
from securesock.planes.userspace.buffers import BUFFER_SIZE
from securesock.planes.userspace.link import MAX_CONTROL
from tests.support.stream_pair import INITIATOR, RESPONDER, StreamPair, feed_all

_PATIENCE_S = 10.0


class Wire:
    """``link`` is the initiator's, on ``carrier``; the responder's machine is ours, behind ``far``."""

    def __init__(self) -> None:
        self.pair = StreamPair(now=monotonic()).establish()
        self.carrier, self.far = socket.socketpair()
        self.far.setblocking(False)
        self.link = StreamLink(self.pair.initiator)
        self.link.adopt(self.carrier)

    def sealed(self, data: bytes) -> bytes:
        """What the responder would put on the carrier for ``data``."""
        self.pair.send(RESPONDER, data)
        wire = bytes(self.pair.wires[RESPONDER])
        self.pair.wires[RESPONDER].clear()
        return wire

    def arrived(self) -> bytes:
        """What the responder opens of what is on the carrier."""
        try:
            while data := self.far.recv(1 << 20):
                feed_all(self.pair.responder, data, monotonic())
        except BlockingIOError:
            return self.pair.receive(RESPONDER)
        return self.pair.receive(RESPONDER)

    def recv(self, limit: int = 1 << 20, timeout: float | None = _PATIENCE_S, *, peek: bool = False) -> bytes:
        return self.link.recv(self.carrier, limit, timeout, peek)

    def send(self, data: bytes, timeout: float | None = _PATIENCE_S) -> None:
        self.link.sendall(self.carrier, data, timeout)


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    with made.carrier, made.far:
        yield made


def test_small_messages_take_the_short_way_and_arrive_in_order(wire: Wire) -> None:
    for number in range(50):
        message = bytes([number]) * (number + 1)
        wire.far.send(wire.sealed(message))
        assert wire.recv() == message
        wire.send(message)
        assert wire.arrived() == message
    assert wire.link._short


@pytest.mark.parametrize("cut", [1, 2, 5, 9, 20, 60])
def test_a_message_that_comes_in_two_pieces_is_one(wire: Wire, cut: int) -> None:
    wire.far.send(wire.sealed(b"first"))
    assert wire.recv() == b"first"
    frame = wire.sealed(b"in two pieces")
    wire.far.send(frame[:cut])
    with pytest.raises(TimeoutError):
        wire.recv(timeout=0.02)
    wire.far.send(frame[cut:])
    assert wire.recv() == b"in two pieces"
    wire.far.send(wire.sealed(b"next"))
    assert wire.recv() == b"next"


def test_several_messages_at_once_are_read_one_after_the_other(wire: Wire) -> None:
    wire.far.send(wire.sealed(b"warm"))
    assert wire.recv() == b"warm"
    wire.far.send(wire.sealed(b"one") + wire.sealed(b"two") + wire.sealed(b"three")[:-1])
    assert wire.recv(3) == b"one"
    assert wire.recv(2) == b"tw"
    assert wire.link.pending() == 1
    assert wire.recv() == b"o"


def test_a_limit_below_a_message_leaves_the_rest_readable(wire: Wire) -> None:
    wire.far.send(wire.sealed(b"warm"))
    assert wire.recv() == b"warm"
    wire.far.send(wire.sealed(b"0123456789"))
    assert wire.recv(4) == b"0123"
    assert wire.link.pending() == 6
    assert wire.recv(peek=True) == b"456789"
    assert wire.recv() == b"456789"


@pytest.mark.parametrize("rest", [0, 20])
def test_what_a_sender_came_upon_is_read_at_once(wire: Wire, rest: int) -> None:
    wire.far.send(wire.sealed(b"warm"))
    assert wire.recv() == b"warm"
    assert wire.link._short
    wire.far.send(wire.sealed(b"one") + wire.sealed(b"two")[:rest])
    wire.link._look_at = 0.0
    wire.send(b"looks while it sends")
    assert wire.link.pending() == 3
    assert not wire.link._short
    assert wire.recv(timeout=0) == b"one"


def test_peeking_takes_nothing(wire: Wire) -> None:
    for message in (b"first", b"second"):
        wire.far.send(wire.sealed(message))
        assert wire.recv(peek=True) == message
        assert wire.recv() == message


@pytest.mark.parametrize("size", [SCRATCH_SIZE - 200, SCRATCH_SIZE, SCRATCH_SIZE * 3, 300_000])
def test_after_small_ones_a_large_one_comes_whole(wire: Wire, size: int) -> None:
    wire.far.send(wire.sealed(b"small"))
    assert wire.recv() == b"small"
    data = bytes(range(256)) * (size // 256)
    sealed = wire.sealed(data)
    wire.far.setblocking(True)
    thread = threading.Thread(target=wire.far.sendall, args=(sealed,))
    thread.start()
    received = b""
    while len(received) < len(data):
        received += wire.recv()
    thread.join()
    assert received == data
    wire.far.send(wire.sealed(b"small again"))
    assert wire.recv() == b"small again"


def test_recv_into_fills_the_front_of_the_buffer(wire: Wire) -> None:
    for message in (b"first", b"second"):
        wire.far.send(wire.sealed(message))
        buffer = bytearray(b"." * 10)
        count = wire.link.recv_into(wire.carrier, memoryview(buffer), _PATIENCE_S, False)
        assert bytes(buffer) == message.ljust(10, b".")
        assert count == len(message)


def test_a_changed_small_message_ends_the_connection(wire: Wire) -> None:
    wire.far.send(wire.sealed(b"warm"))
    assert wire.recv() == b"warm"
    frame = bytearray(wire.sealed(b"changed on the way"))
    frame[30] ^= 1
    wire.far.send(frame)
    for _ in range(2):
        with pytest.raises(ConnectionBroken, match="changed"):
            wire.recv()
    with pytest.raises(BrokenPipeError):
        wire.send(b"x")
    # The peer learns by a sealed reset.
    assert wire.arrived() == b""
    assert isinstance(wire.pair.responder.error, ConnectionBroken)


def test_the_carriers_end_is_a_truncation_on_the_short_way_too(wire: Wire) -> None:
    wire.far.send(wire.sealed(b"warm"))
    assert wire.recv() == b"warm"
    wire.far.close()
    with pytest.raises(StreamTruncated):
        wire.recv()


def test_the_authenticated_end_behind_a_small_message_is_seen(wire: Wire) -> None:
    wire.far.send(wire.sealed(b"warm"))
    assert wire.recv() == b"warm"
    last = wire.sealed(b"last")
    assert wire.pair.responder.finish(monotonic())
    wire.pair.flush(RESPONDER)
    wire.far.send(last + bytes(wire.pair.wires[RESPONDER]))
    assert wire.recv() == b"last"
    assert wire.recv() == b""
    assert wire.recv() == b""


@pytest.mark.parametrize("timeout", [PATIENCE_S / 4, PATIENCE_S * 4])
def test_a_timeout_is_kept_below_and_above_the_instant_of_a_patient_read(wire: Wire, timeout: float) -> None:
    wire.far.send(wire.sealed(b"warm"))
    assert wire.recv() == b"warm"
    started = monotonic()
    with pytest.raises(TimeoutError):
        wire.recv(timeout=timeout)
    assert timeout <= monotonic() - started < timeout + 1.0


def test_a_nonblocking_call_never_waits_for_an_instant(wire: Wire) -> None:
    wire.far.send(wire.sealed(b"warm"))
    assert wire.recv() == b"warm"
    started = monotonic()
    for _ in range(200):
        with pytest.raises(WantRead):
            wire.recv(timeout=0)
    assert monotonic() - started < 200 * PATIENCE_S / 2


def test_what_the_carrier_does_not_take_of_a_small_message_goes_first_later(wire: Wire) -> None:
    wire.carrier.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sent = b""
    with pytest.raises(WantWrite):
        for number in range(10_000):
            message = number.to_bytes(4, "big") * 100
            assert wire.link.send(wire.carrier, message, 0) == len(message)
            sent += message
    assert wire.link.want_write
    arrived = b""
    while wire.link.want_write:
        arrived += wire.arrived()
        try:
            wire.link.send(wire.carrier, b"", 0)
        except WantWrite:
            continue
    arrived += wire.arrived()
    assert arrived == sent


def test_a_sendall_of_a_small_message_waits_until_the_carrier_has_taken_all(wire: Wire) -> None:
    wire.carrier.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    arrived = bytearray()
    done = threading.Event()

    def take() -> None:
        while not done.is_set() or wire.link.want_write:
            arrived.extend(wire.arrived())
        arrived.extend(wire.arrived())

    thread = threading.Thread(target=take)
    thread.start()
    sent = b"".join(number.to_bytes(4, "big") * 500 for number in range(100))
    for at in range(0, len(sent), 2000):
        wire.send(sent[at : at + 2000])
    done.set()
    thread.join(_PATIENCE_S)
    assert bytes(arrived) == sent


def test_a_rekey_between_small_messages_is_carried_on_the_way(wire: Wire) -> None:
    for number in range(6):
        if number == 2:
            wire.pair.initiator.rekey_child(monotonic())
        wire.send(bytes([number]) * 10)
        assert wire.arrived() == bytes([number]) * 10
        wire.pair.flush(RESPONDER)
        answers = bytes(wire.pair.wires[RESPONDER])
        wire.pair.wires[RESPONDER].clear()
        wire.far.send(answers + wire.sealed(b"answer"))
        assert wire.recv() == b"answer"
    assert wire.pair.initiator.child_rekeys == 1
    assert wire.pair.ends[INITIATOR].error is None


def test_close_ends_a_patient_read_within_an_instant(wire: Wire) -> None:
    wire.far.send(wire.sealed(b"warm"))
    assert wire.recv() == b"warm"
    ended: list[float] = []

    def receive() -> None:
        try:
            wire.recv(timeout=None)
        except OSError:
            ended.append(monotonic())

    thread = threading.Thread(target=receive)
    thread.start()
    while not wire.link._reading.locked():
        pass
    started = monotonic()
    assert wire.link.take_over(_PATIENCE_S)
    thread.join(_PATIENCE_S)
    assert ended[0] - started < 1.0


def test_a_peer_that_asks_and_does_not_listen_is_not_read_until_it_took_the_answers(wire: Wire) -> None:
    """Otherwise it could have any number of answers piled up here."""
    end = wire.pair.initiator
    wire.carrier.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    count = (BUFFER_SIZE + 4 * MAX_CONTROL) // 3000  # more than the sealed bytes that may wait
    answers = [bytes([number % 256]) * 3000 for number in range(count)]
    for answer in answers:
        end._link._send(answer)
    assert not end.wants_input
    wire.far.send(wire.sealed(b"behind all those questions"))
    with pytest.raises(TimeoutError):
        wire.recv(timeout=0.05)
    with pytest.raises(WantWrite):
        wire.recv(timeout=0)
    taken = bytearray()
    done = threading.Event()

    def take() -> None:
        while not done.is_set():
            try:
                taken.extend(wire.far.recv(1 << 16))
            except BlockingIOError:
                continue

    thread = threading.Thread(target=take)
    thread.start()
    assert wire.recv() == b"behind all those questions"
    while end.outbound_waiting:
        wire.link._flush_if_free(wire.carrier)
    while len(taken) < count * 3000 and thread.is_alive():
        continue
    done.set()
    thread.join(_PATIENCE_S)
    assert bytes(taken) == b"".join(answers)
