"""What a connection holds: bounded when it is busy, no buffer when it is idle."""

from __future__ import annotations

import pytest

from securesock.crypto.suites import AES_256_CBC, AES_256_GCM_16, HMAC_SHA2_512_256, EspSuite
from securesock.errors import ConnectionBroken, LocalMisuse
from securesock.planes.userspace import stream
from securesock.planes.userspace.buffers import BufferPool
from securesock.planes.userspace.seal import COPY_UNIT, MAX_BATCH
from securesock.planes.userspace.stream import StreamConnection
from tests.support.pre_keyed import PreKeyedSession
from tests.support.stream_pair import INITIATOR, RESPONDER, StreamPair, feed, feed_all, frames

MIB = 1 << 20


class CountingPool(BufferPool):
    """Knows how many buffers are out, and that none comes back twice."""

    __slots__ = ("out",)

    def __init__(self) -> None:
        super().__init__()
        self.out: set[int] = set()

    def take(self) -> memoryview:
        buffer = super().take()
        self.out.add(id(buffer))
        return buffer

    def give(self, buffer: memoryview) -> None:
        self.out.remove(id(buffer))
        super().give(buffer)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> CountingPool:
    counting = CountingPool()
    monkeypatch.setattr(stream, "BUFFERS", counting)
    return counting


def test_an_idle_connection_holds_no_buffer(pool: CountingPool) -> None:
    pair = StreamPair()
    assert not pool.out
    pair.establish()
    assert not pool.out
    pair.send(INITIATOR, bytes(5 * MIB))
    assert not pool.out
    pair.receive(RESPONDER)
    assert not pool.out


def test_a_frame_that_is_not_whole_yet_holds_no_buffer_and_goes_on_later(pool: CountingPool) -> None:
    pair = StreamPair().establish()
    pair.send(INITIATOR, bytes(60_000))
    pair.deliver(INITIATOR, 50_000)
    assert not pool.out
    assert pair.receive(RESPONDER) == bytes(60_000)


def test_a_little_unread_data_holds_no_buffer(pool: CountingPool) -> None:
    pair = StreamPair().establish()
    pair.send(INITIATOR, b"unread" * 1000)
    pair.deliver(INITIATOR)
    assert not pool.out
    assert pair.responder.read(MIB) == b"unread" * 1000


def test_unsent_bytes_hold_one_buffer_until_they_are_gone(pool: CountingPool) -> None:
    pair = StreamPair().establish()
    assert pair.initiator.seal(memoryview(bytes(1000)), 0.0) == 1000
    assert len(pool.out) == 1
    out = pair.initiator.outbound()
    assert out is not None
    pair.initiator.outbound_sent(len(out) - 1)
    assert len(pool.out) == 1
    pair.initiator.outbound_sent(1)
    assert not pool.out
    assert pair.initiator.outbound() is None


def test_one_batch_is_sealed_and_no_more_until_it_was_sent(pool: CountingPool) -> None:
    pair = StreamPair().establish()
    taken = pair.initiator.seal(memoryview(bytes(64 * MIB)), 0.0)
    assert 0 < taken < MAX_BATCH
    assert pair.initiator.seal(memoryview(bytes(64 * MIB)), 0.0) == 0
    out = pair.initiator.outbound()
    assert out is not None
    assert taken < len(out) <= MAX_BATCH
    assert len(pool.out) == 1


@pytest.mark.parametrize("suite", [EspSuite(AES_256_GCM_16, None), EspSuite(AES_256_CBC, HMAC_SHA2_512_256)])
@pytest.mark.parametrize("size", [5000, 65536, MIB])
def test_what_is_copied_for_a_frame_is_never_just_behind_its_source(suite: EspSuite, size: int) -> None:
    """Within a page: some processors then copy byte by byte.  Allocated memory begins at such a multiple."""
    pair = StreamPair(PreKeyedSession(INITIATOR, suite), PreKeyedSession(RESPONDER, suite)).establish()
    data, done = memoryview(bytes(size)), 0
    before_data = 2 + 8 + suite.encryption.iv_length + 20  # length, SPI and number, IV, segment header
    while done < size:
        done += pair.initiator.seal(data[done:], 0.0)
        assert (pair.initiator._sealer._sent + before_data) % COPY_UNIT == 0
        assert done == size or done % COPY_UNIT == 0
        pair.flush(INITIATOR)


def test_a_batch_holds_two_frames_of_full_size() -> None:
    pair = StreamPair().establish()
    largest = 65478
    assert pair.initiator.seal(memoryview(bytes(2 * largest)), 0.0) == 2 * largest
    pair.flush(INITIATOR)
    assert [len(each) for each in frames(pair.wires[INITIATOR])] == [65534, 65534]


@pytest.mark.parametrize("chunk", [1000, 65536, 10 * MIB])
def test_at_most_1_mib_is_kept_for_an_application_that_does_not_read(chunk: int) -> None:
    pair = StreamPair().establish()
    pair.send(INITIATOR, bytes(3 * MIB))
    wire = pair.wires[INITIATOR]
    given = 0
    while pair.responder.wants_input:
        assert len(pair.responder.inbound_buffer()) > 0
        given += feed(pair.responder, wire[given : given + chunk])
    assert MIB - 65536 <= pair.responder.readable() <= MIB
    assert given <= MIB + 32 * 60
    assert len(pair.responder.inbound_buffer()) == 0
    pair.responder.inbound_release()
    pair.responder.read(70_000)
    assert pair.responder.wants_input
    assert len(pair.responder.inbound_buffer()) > 0
    del wire[:given]
    assert len(pair.receive(RESPONDER)) == 3 * MIB - 70_000


def test_messages_are_handled_while_unread_data_is_kept() -> None:
    pair = StreamPair().establish()
    pair.send(INITIATOR, bytes(900_000))
    pair.initiator.rekey_child(0.0)
    pair.settle()
    assert pair.responder.readable() == 900_000
    assert pair.initiator.child_rekeys == 1


def test_a_peer_that_asks_and_does_not_listen_is_not_read_any_more() -> None:
    pair = StreamPair().establish()
    question = b"\x00\x0f\0\0\0\0REKEY-IKE"
    asked = 0
    while pair.responder.wants_input:
        feed_all(pair.responder, question)
        asked += 1
        assert asked < 10_000
    assert pair.flush(RESPONDER) >= 65536
    assert pair.responder.wants_input


def test_small_reads_of_a_large_backlog_are_not_copied_again_and_again() -> None:
    pair = StreamPair().establish()
    pair.send(INITIATOR, bytes(range(256)) * 1000)
    pair.deliver(INITIATOR)
    got = bytearray()
    while pair.responder.readable():
        got += pair.responder.read(777)
        pair.responder.inbound_release()
    assert got == bytes(range(256)) * 1000


def test_many_tiny_segments_are_read_in_any_sizes_and_joined_when_the_call_ends() -> None:
    pair = StreamPair().establish()
    for number in range(3000):
        pair.send(INITIATOR, bytes((number % 251,)))
    expected = bytes(number % 251 for number in range(3000))
    feed(pair.responder, pair.wires[INITIATOR])
    assert len(pair.responder._intake.spans) == 1
    assert pair.responder.read(100, peek=True) == expected[:100]
    target = memoryview(bytearray(1000))
    assert pair.responder.read_into(target[:7]) == 7
    assert pair.responder.read_into(target, peek=True) == 1000
    assert target == expected[7:1007]
    assert pair.responder.read(1) + pair.responder.read(5000) == expected[7:]


def test_reading_byte_by_byte_costs_the_same_however_many_segments_wait() -> None:
    pair = StreamPair().establish()
    for _ in range(5000):
        pair.send(INITIATOR, b"ab")
    room = pair.responder.inbound_buffer()
    wire = pair.wires[INITIATOR]
    room[: len(wire)] = wire
    pair.responder.inbound_received(len(wire), 0.0)
    spans = pair.responder._intake.spans
    assert len(spans) == 5000
    one = memoryview(bytearray(1))
    for number in range(6):
        assert pair.responder.read_into(one) == 1
        assert one == b"ab"[number % 2 : number % 2 + 1]
    assert len(spans) == 4997
    assert pair.responder.readable() == 9994


def test_after_a_failure_nothing_unopened_is_kept() -> None:
    pair = StreamPair().establish()
    pair.send(INITIATOR, b"proven")
    feed(pair.responder, pair.wires[INITIATOR] + b"\0\0" + bytes(100_000))
    assert pair.responder.error is not None
    assert pair.responder.read(10) == b"proven"
    pair.responder.inbound_release()
    assert pair.responder._intake._partial == b""


def test_after_a_fork_the_child_can_do_nothing_with_it() -> None:
    pair = StreamPair().establish()
    pair.send(INITIATOR, b"x" * 50)
    pair.deliver(INITIATOR)
    end = pair.responder
    end.rekey_child(0.0)
    with end._link._lock:  # another thread of the parent may have been inside
        end.abandon()
    view = memoryview(bytearray(10))
    for call in (
        lambda: end.start(0.0),
        lambda: end.handle_timeout(0.0),
        lambda: end.rekey_child(0.0),
        lambda: end.rekey_ike(0.0),
        lambda: end.inbound_buffer(),
        lambda: end.inbound_received(1, 0.0),
        lambda: end.inbound_release(),
        lambda: end.read_into(view),
        lambda: end.read(1),
        lambda: end.seal(view, 0.0),
        lambda: end.keep_unsent(b"x"),
        lambda: end.outbound(),
        lambda: end.outbound_sent(0),
        lambda: end.finish(0.0),
        lambda: end.abort(0.0),
        lambda: end.break_off(ConnectionBroken("policy")),
    ):
        with pytest.raises(LocalMisuse, match="process that uses it"):
            call()
    assert end.seal_message(view, 0.0) is None
    assert end.open_message(view, 10, 10) is None
    assert end.readable() == 0
    assert not end.outbound_waiting
    assert not end.wants_input


def test_no_secret_is_shown() -> None:
    pair = StreamPair(
        PreKeyedSession(INITIATOR, seed=b"secret"), PreKeyedSession(RESPONDER, seed=b"secret")
    ).establish()
    keys = pair.sessions[INITIATOR].spec("outbound").keys
    shown = "".join(
        map(repr, (pair.initiator, pair.initiator._link, pair.initiator._sealer, pair.initiator._sealer.sa))
    )
    for secret in (keys.encryption, keys.integrity):
        assert not secret or secret.hex() not in shown
        assert not secret or repr(secret) not in shown


def test_every_method_is_told_apart_by_side() -> None:
    """A new public method has to be added to the fork test above."""
    members = vars(StreamConnection) | vars(StreamPair().initiator)
    public = {name for name, value in members.items() if callable(value) and not name.startswith("_")}
    assert public == {
        "abandon",
        "abort",
        "break_off",
        "finish",
        "handle_timeout",
        "inbound_buffer",
        "inbound_received",
        "inbound_release",
        "keep_unsent",
        "next_deadline",
        "open_message",
        "outbound",
        "outbound_sent",
        "read",
        "read_into",
        "readable",
        "rekey_child",
        "rekey_ike",
        "seal",
        "seal_message",
        "start",
    }
