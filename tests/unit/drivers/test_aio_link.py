"""AioLink between a carrier whose every step is ours and an application: memory, order, limits, without a loop."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securesock.drivers import aio
from securesock.drivers.aio import AioLink
from securesock.drivers.aio_transport import SecuredTransport
from securesock.drivers.closing import Closing
from securesock.errors import StreamTruncated
from securesock.keying.contract import Role
from securesock.planes.userspace.buffers import BUFFERS, BufferPool
from securesock.planes.userspace.stream import StreamConnection
from securesock.types import Lifetimes, SecurityInfo
from tests.support.pre_keyed import PreKeyedSession


@pytest.fixture(autouse=True)
def ends(monkeypatch: pytest.MonkeyPatch) -> list[Closing]:
    """Connections whose end was left to the common closing, which these tests do not follow."""
    given: list[Closing] = []

    def close_at_once(closing: Closing) -> None:
        given.append(closing)
        closing.close()

    monkeypatch.setattr(aio, "close_now", close_at_once)
    return given


class Loop:
    """call_soon and call_later, run by hand."""

    def __init__(self) -> None:
        self.soon: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self.later: list[Timer] = []

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        self.soon.append((callback, args))

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        self.later.append(Timer(delay, lambda: callback(*args)))
        return self.later[-1]

    def turn(self) -> None:
        for _ in range(len(self.soon)):
            callback, args = self.soon.popleft()
            callback(*args)

    def until_idle(self) -> None:
        while self.soon:
            self.turn()


class Timer:
    def __init__(self, delay: float, run: Callable[[], object]) -> None:
        self.delay = delay
        self.run = run
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Carrier:
    """A transport that refers to what it is given, as those of some loops do, until the test lets it go out."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.room = 1 << 30
        self.kept: deque[memoryview] = deque()
        self.wire = bytearray()
        self.reading = True
        self.closing = False
        self.protocol: Any = None
        self.socket: socket.socket | None = None  # what a duplicate is made of when the link is done with it

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.kept))

    def get_extra_info(self, name: str, default: object = None) -> object:
        if name != "socket":
            return default
        self.socket = self.socket or socket.socket()
        return self.socket

    def write(self, data: Any) -> None:
        assert not self.kept, "written to although it had said pause_writing"
        assert data
        self.kept.append(memoryview(data))
        self.move(0)
        if self.kept:
            self.protocol.pause_writing()

    def move(self, more: int) -> None:
        """Give it ``more`` room."""
        had = bool(self.kept)
        self.room += more
        while self.kept and self.room:
            view = self.kept.popleft()
            self.wire += view[: self.room]
            if len(view) > self.room:
                self.kept.appendleft(view[self.room :])
            self.room -= min(self.room, len(view))
        if more and had and not self.kept:
            self.protocol.resume_writing()

    def abort(self) -> None:
        if not self.closing:
            self.closing = True
            if self.socket is not None:
                self.socket.close()
            self.loop.call_soon(lambda: self.protocol.connection_lost(None))


class Application(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = bytearray()
        self.told: list[str] = []
        self.error: Exception | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.told.append("eof")
        return True

    def pause_writing(self) -> None:
        assert self.told[-1:] != ["pause"]
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")
        self.error = exc


class End:
    """One link, what is below it and what is above."""

    def __init__(self, loop: Loop, session: PreKeyedSession) -> None:
        self.session = session
        self.connection = StreamConnection(session, session.role)
        self.connection.start(0.0)
        self.carrier = Carrier(loop)
        self.application = Application()
        self.link = AioLink(loop, self.carrier, self.connection, SecurityInfo(), paused=False)

    def begin(self) -> None:
        self.link.begin(self.application, SecuredTransport(self.link))

    def receive(self, wire: bytearray, limit: int) -> bool:
        """What the other end's carrier let out; whether any of it was taken."""
        count = min(limit, len(wire))
        if not count or not self.carrier.reading or self.carrier.closing:
            return False
        room = self.link.get_buffer(-1)
        count = min(count, len(room))
        assert count
        room[:count] = wire[:count]
        del wire[:count]
        self.link.buffer_updated(count)
        return True


class Pair:
    def __init__(self, limits: Lifetimes | None = None) -> None:
        self.loop = Loop()
        made = {"lifetimes": limits} if limits is not None else {}
        self.client = End(self.loop, PreKeyedSession(Role.INITIATOR, **made))
        self.server = End(self.loop, PreKeyedSession(Role.RESPONDER, **made))
        ends = (self.client, self.server), (self.server, self.client)
        while self.client.connection.state == "negotiating" or self.server.connection.state == "negotiating":
            for sender, receiver in ends:
                while (waiting := sender.connection.outbound()) is not None:
                    receiver.connection.inbound_buffer()[: len(waiting)] = waiting
                    receiver.connection.inbound_received(len(waiting), 0.0)
                    receiver.connection.inbound_release()
                    sender.connection.outbound_sent(len(waiting))
        self.client.begin()
        self.server.begin()

    def run(self, limit: int = 1 << 30) -> None:
        """Until nothing moves any more."""
        moved = True
        while moved:
            self.loop.until_idle()
            moved = self.server.receive(self.client.carrier.wire, limit)
            moved = self.client.receive(self.server.carrier.wire, limit) or moved
            self.loop.until_idle()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 300_000)),
        st.tuples(st.just("write"), st.integers(1, 300)),
        st.tuples(st.just("room"), st.integers(1, 400_000)),
        st.tuples(st.just("deliver"), st.integers(1, 100_000)),
        st.tuples(st.just("pause"), st.just(0)),
        st.tuples(st.just("resume"), st.just(0)),
        st.tuples(st.just("rekey"), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS, st.booleans())
def test_whatever_the_carrier_keeps_and_whenever_it_lets_go_all_arrives_in_order(
    steps: list[tuple[str, int]], ends_with_close: bool
) -> None:
    pair = Pair()
    client, server = pair.client, pair.server
    client.carrier.room = 0
    written = bytearray()
    for step, number in steps:
        match step:
            case "write":
                data = bytearray((len(written) + at) % 251 for at in range(number))
                client.application.transport.write(data)
                written += data
                data[:] = bytes(len(data))
            case "room":
                client.carrier.move(number)
            case "deliver":
                server.receive(client.carrier.wire, number)
            case "pause":
                server.application.transport.pause_reading()
            case "resume":
                server.application.transport.resume_reading()
            case "rekey":
                client.connection.rekey_child(0.0)
        pair.loop.turn()
        assert written.startswith(server.application.data)
    client.application.transport.write_eof()
    if ends_with_close:
        client.application.transport.close()
    server.application.transport.resume_reading()
    client.carrier.move(1 << 30)
    pair.run()
    assert server.application.data == written
    assert server.application.told[-1] == "eof"
    assert not client.carrier.kept
    paused = [each for each in client.application.told if each in ("pause", "resume")]
    assert paused == ["pause", "resume"] * (len(paused) // 2)


@pytest.mark.parametrize("size", [1, 64, 4096, 4097, 8100, 8192, 9000])
def test_small_messages_are_delivered_one_by_one_whatever_their_size(size: int) -> None:
    pair = Pair()
    for number in range(20):
        for here, there in ((pair.client, pair.server), (pair.server, pair.client)):
            message = bytes([number]) * size
            here.application.transport.write(message)
            pair.run()
            assert there.application.data == message
            there.application.data.clear()


def test_a_small_message_is_kept_while_reading_is_paused_and_dropped_after_close() -> None:
    pair = Pair()
    server = pair.server
    server.application.transport.pause_reading()
    pair.client.application.transport.write(b"one")
    pair.run()
    pair.client.application.transport.write(b" two")
    pair.run()
    assert not server.application.data
    server.application.transport.resume_reading()
    pair.run()
    assert server.application.data == b"one two"
    server.application.transport.close()
    pair.client.application.transport.write(b" three")
    pair.run()
    assert server.application.data == b"one two"


def test_a_changed_small_message_ends_the_connection() -> None:
    pair = Pair()
    pair.client.application.transport.write(b"small")
    pair.loop.until_idle()
    pair.client.carrier.wire[-1] ^= 1
    pair.run()
    assert pair.server.application.told == ["lost"]
    assert not pair.server.application.data
    assert isinstance(pair.server.application.error, ConnectionResetError)


def test_a_limit_of_zero_pauses_as_soon_as_anything_waits() -> None:
    for size in (10, 100_000):
        pair = Pair()
        transport = pair.client.application.transport
        transport.set_write_buffer_limits(high=0)
        transport.write(bytes(size))
        assert pair.client.application.told == []
        pair.client.carrier.room = 5
        transport.write(bytes(size))
        assert pair.client.application.told == ["pause"]
        pair.client.carrier.move(1 << 30)
        pair.run()
        assert pair.client.application.told == ["pause", "resume"]
        assert len(pair.server.application.data) == 2 * size


def test_no_buffer_is_sealed_into_while_the_carrier_still_refers_to_it() -> None:
    pair = Pair()
    client = pair.client
    client.carrier.room = 100
    client.application.transport.write(b"a" * 50_000)
    kept = bytes(client.carrier.kept[0])
    client.application.transport.write(b"b" * 50_000)
    client.connection.rekey_child(0.0)
    pair.loop.until_idle()
    assert bytes(client.carrier.kept[0]) == kept
    assert client.application.transport.get_write_buffer_size() == 50_000 + len(kept)
    assert client.application.told == ["pause"]
    client.carrier.move(1 << 30)
    pair.run()
    assert pair.server.application.data == b"a" * 50_000 + b"b" * 50_000


def test_an_idle_link_owns_no_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    lent: list[memoryview] = []
    take, give = BUFFERS.take, BUFFERS.give

    def taken() -> memoryview:
        lent.append(take())
        return lent[-1]

    def given(buffer: memoryview) -> None:
        lent[:] = [each for each in lent if each is not buffer]
        give(buffer)

    monkeypatch.setattr(BufferPool, "take", lambda pool: taken())
    monkeypatch.setattr(BufferPool, "give", lambda pool, buffer: given(buffer))
    pair = Pair()
    pair.client.application.transport.write(bytes(3 << 20))
    assert lent or pair.client.carrier.wire
    pair.run()
    assert len(pair.server.application.data) == 3 << 20
    assert lent == []


def packets(wire: bytearray) -> int:
    """How many frames are on the wire."""
    count = at = 0
    while at < len(wire):
        at += int.from_bytes(wire[at : at + 2], "big")
        count += 1
    return count


def test_small_writes_that_had_to_wait_are_sealed_together() -> None:
    pair = Pair()
    client = pair.client
    client.carrier.room = 0
    for _ in range(1000):
        client.application.transport.write(b"ten bytes!")
    client.carrier.move(1 << 30)
    pair.loop.until_idle()
    assert packets(client.carrier.wire) == 2  # the one that the carrier kept, and all the others
    pair.run()
    assert pair.server.application.data == b"ten bytes!" * 1000


def test_while_the_application_does_not_read_a_mebibyte_is_kept_and_then_the_carrier_rests() -> None:
    pair = Pair()
    pair.server.application.transport.pause_reading()
    pair.client.application.transport.write(bytes(3 << 20))
    pair.run(limit=50_000)
    assert not pair.server.carrier.reading
    assert abs(pair.server.connection.readable() - (1 << 20)) < 70_000  # but for a packet
    pair.server.application.transport.resume_reading()
    pair.run(limit=50_000)
    assert pair.server.carrier.reading
    assert len(pair.server.application.data) == 3 << 20


def test_ike_goes_on_while_the_application_does_not_read() -> None:
    pair = Pair()
    pair.server.application.transport.pause_reading()
    pair.client.application.transport.write(b"unread")
    pair.client.connection.rekey_child(0.0)
    pair.client.application.transport.write(b", and more of it")
    pair.run()
    assert pair.client.connection.child_rekeys == 1
    assert pair.server.connection.child_rekeys == 1
    assert not pair.server.application.data
    pair.server.application.transport.resume_reading()
    pair.run()
    assert pair.server.application.data == b"unread, and more of it"


def test_a_peer_that_asks_and_does_not_listen_is_not_read_until_it_took_its_answers() -> None:
    pair = Pair()
    client, server = pair.client, pair.server
    server.carrier.room = 0
    for _ in range(20_000):
        client.session.say("REKEY-IKE")
    client.connection.handle_timeout(0.0)
    client.application.transport.write(b"behind all that")
    pair.run(limit=50_000)
    assert not server.carrier.reading
    assert not server.application.data
    assert client.carrier.wire
    server.carrier.move(1 << 30)
    pair.run(limit=50_000)
    assert server.carrier.reading
    assert server.application.data == b"behind all that"


def test_at_the_hard_limit_the_application_waits_and_the_rekey_lets_it_go_on() -> None:
    pair = Pair(Lifetimes(1e6, 1 << 50, 8))
    client, server = pair.client, pair.server
    for number in range(40):
        client.application.transport.write(bytes((number,)) * 20_000)
    assert client.application.told == ["pause"]
    assert client.application.transport.get_write_buffer_size() > 65536
    client.application.transport.write_eof()
    pair.run()
    assert client.application.told == ["pause", "resume"]
    assert server.application.data == b"".join(bytes((number,)) * 20_000 for number in range(40))
    assert server.application.told == ["eof"]
    assert client.connection.child_rekeys >= 1


def test_a_peer_that_refuses_every_rekey_ends_the_connection_at_the_limit() -> None:
    pair = Pair(Lifetimes(1e6, 1 << 50, 6))
    pair.server.session.refuse_rekeys = True
    for _ in range(40):
        pair.client.application.transport.write(bytes(20_000))
    pair.run()
    assert pair.client.application.told == ["pause", "lost"]
    assert isinstance(pair.client.application.error, ConnectionResetError)


def test_a_failed_connection_waits_for_a_reader_and_not_for_a_writer() -> None:
    for writes in (False, True):
        pair = Pair()
        server = pair.server
        server.application.transport.pause_reading()
        pair.client.application.transport.write(b"proven")
        server.receive(pair.client.carrier.wire, 1 << 20)
        server.link.eof_received()  # the carrier ends without the peer's end
        pair.loop.until_idle()
        assert server.application.told == []
        assert not server.application.data
        if writes:
            server.application.transport.write(b"anybody there?")
        else:
            server.application.transport.resume_reading()
        pair.loop.until_idle()
        assert server.application.data == b"proven"
        assert server.application.told == ["lost"]
        assert type(server.application.error).__name__ == "StreamTruncated"


def test_the_machines_deadline_is_kept_and_a_closed_link_has_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair()
    client = pair.client
    assert not pair.loop.later
    client.session.deadline = 1e9
    client.connection.rekey_child(0.0)  # anything that the machine does
    client.application.transport.write(b"data")
    pair.run()
    [timer] = pair.loop.later
    assert timer.delay > 1e8
    timer.run()  # too early: the deadline has moved since
    pair.loop.until_idle()
    assert client.session.timeouts == 0
    [_, timer] = pair.loop.later
    monkeypatch.setattr(aio, "monotonic", lambda: 1e9)
    timer.run()
    assert client.session.timeouts == 1
    client.session.deadline = 2e9
    client.connection.rekey_child(0.0)
    client.application.transport.write(b"data")
    pair.run()
    client.application.transport.abort()
    pair.run()
    assert client.application.told == ["lost"]
    assert pair.server.application.told == ["lost"]
    assert len(pair.loop.later) == 3
    assert pair.loop.later[-1].cancelled


PROACTOR_READ = 1 << 16  # what asyncio's proactor reads at once, and hands over whether it is wanted or not


def hand_over(end: End, chunk: bytes) -> None:
    """As asyncio's proactor feeds a BufferedProtocol: all of what was read, whatever it is told meanwhile."""
    while chunk:
        room = end.link.get_buffer(len(chunk))
        count = min(len(room), len(chunk))
        assert count, "get_buffer() returned an empty buffer"
        room[:count] = chunk[:count]
        end.link.buffer_updated(count)
        chunk = chunk[count:]


def paused_with_too_much() -> tuple[Pair, bytes]:
    """A server whose application reads nothing, and whose carrier handed over more than it keeps."""
    pair, sent = Pair(), bytes(range(256)) * (1 << 14)
    pair.server.link.pause_reading()
    pair.client.link.write(sent)
    wire = pair.client.carrier.wire
    while pair.server.carrier.reading:
        chunk = bytes(wire[:PROACTOR_READ])
        del wire[:PROACTOR_READ]
        assert chunk, "it never had enough"
        hand_over(pair.server, chunk)
    assert pair.server.link._surplus
    return pair, sent


def test_what_a_proactor_hands_over_unasked_is_kept_in_order() -> None:
    pair, sent = paused_with_too_much()
    pair.server.link.resume_reading()
    pair.loop.until_idle()
    wire = pair.client.carrier.wire
    while wire:
        chunk = bytes(wire[:PROACTOR_READ])
        del wire[:PROACTOR_READ]
        assert pair.server.carrier.reading
        hand_over(pair.server, chunk)
        pair.loop.until_idle()
    assert pair.server.application.data == sent
    assert not pair.server.link._surplus


def test_it_is_delivered_too_when_the_carrier_is_lost() -> None:
    pair, sent = paused_with_too_much()
    handed_over = pair.server.connection.readable()
    pair.server.carrier.abort()
    pair.loop.until_idle()
    received = pair.server.application.data
    assert len(received) > handed_over
    assert sent.startswith(received)
    assert isinstance(pair.server.application.error, StreamTruncated)
