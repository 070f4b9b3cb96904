"""New keys in time: when they are asked for, what happens at the limit, and who enforces which."""

from __future__ import annotations

import pytest

from securesock.errors import ConnectionBroken
from securesock.types import Lifetimes
from tests.support.pre_keyed import LONG, PreKeyedSession
from tests.support.stream_pair import INITIATOR, RESPONDER, StreamPair, frames


def pair_with(ours: Lifetimes = LONG, theirs: Lifetimes = LONG, main: Lifetimes = LONG, **options: bool) -> StreamPair:
    return StreamPair(
        PreKeyedSession(INITIATOR, lifetimes=ours, main_mode_lifetimes=main, **options),
        PreKeyedSession(RESPONDER, lifetimes=theirs, main_mode_lifetimes=main, **options),
    ).establish()


def words(pair: StreamPair) -> list[bytes]:
    """The keying messages that the initiator has on the wire."""
    return [each[6:] for each in frames(pair.wires[INITIATOR]) if each[2:6] == bytes(4)]


def test_half_of_the_packets_asks_for_new_keys_and_data_goes_on() -> None:
    pair = pair_with(Lifetimes(1e6, 1 << 40, 20))
    for _ in range(8):
        pair.send(INITIATOR, b"x")
    assert words(pair) == []
    pair.send(INITIATOR, b"x")  # the tenth, counting the confirmation
    pair.send(INITIATOR, b"x")
    assert words(pair) == [b"REKEY 1"]
    for _ in range(5):
        pair.send(INITIATOR, b"x")
    assert words(pair) == [b"REKEY 1"]
    assert pair.receive(RESPONDER) == b"x" * 15
    pair.settle()
    assert pair.initiator.child_rekeys == 1


def test_half_of_the_bytes_asks_for_new_keys() -> None:
    pair = pair_with(Lifetimes(1e6, 1000, 1 << 40))
    pair.send(INITIATOR, bytes(499))
    pair.send(INITIATOR, b"x")
    assert words(pair) == []
    pair.send(INITIATOR, b"x")
    assert words(pair) == [b"REKEY 1"]


def test_half_of_the_time_asks_for_new_keys_at_the_next_send() -> None:
    pair = pair_with(Lifetimes(100.0, 1 << 40, 1 << 40))
    pair.now = 49.9
    pair.send(INITIATOR, b"x")
    assert words(pair) == []
    pair.now = 50.0
    pair.flush(INITIATOR)
    assert words(pair) == []
    pair.send(INITIATOR, b"x")
    assert words(pair) == [b"REKEY 1"]


def test_the_key_exchange_sa_is_replaced_by_the_data_of_all_its_pairs() -> None:
    pair = pair_with(Lifetimes(1e6, 2000, 1 << 40), Lifetimes(1e6, 2000, 1 << 40), Lifetimes(1e6, 10_000, 1 << 40))
    for _ in range(49):
        pair.send(INITIATOR, bytes(100))
        pair.settle()
    assert pair.initiator.ike_rekeys == 0
    assert pair.initiator.child_rekeys >= 3
    for _ in range(3):
        pair.send(INITIATOR, bytes(100))
        pair.settle()
    assert pair.initiator.ike_rekeys == 1
    for _ in range(52):
        pair.send(INITIATOR, bytes(100))
        pair.settle()
    assert pair.initiator.ike_rekeys == 2


@pytest.mark.parametrize("short", [False, True], ids=["ordinary", "short"])
def test_the_key_exchange_sa_is_replaced_by_the_packets_of_all_its_pairs_at_the_end_that_seals(short: bool) -> None:
    pair = pair_with(main=Lifetimes(1e6, 1 << 40, 40))
    for count in range(1, 20):
        assert pair.initiator.ike_rekeys == 0
        frame = pair.initiator.seal_message(b"x", 0.0) if short else None
        if frame is None:
            pair.send(INITIATOR, b"x")
        else:
            pair.wires[INITIATOR] += frame
        assert words(pair) == [], count
    # the twentieth packet was sealed, the confirmation among them
    assert pair.initiator.seal_message(b"x", 0.0) is None
    pair.send(INITIATOR, b"x")
    pair.flush(INITIATOR)
    assert words(pair) == [b"REKEY-IKE"]
    assert pair.receive(RESPONDER) == b"x" * 20


@pytest.mark.parametrize("short", [False, True], ids=["ordinary", "short"])
@pytest.mark.parametrize("limit", [Lifetimes(1e6, 1 << 40, 40), Lifetimes(1e6, 39, 1 << 40)], ids=["packets", "bytes"])
def test_the_reader_sees_to_a_new_key_exchange_sa_when_only_its_limits_are_near(limit: Lifetimes, short: bool) -> None:
    pair = StreamPair(PreKeyedSession(INITIATOR), PreKeyedSession(RESPONDER, main_mode_lifetimes=limit)).establish()
    read = 0
    while not pair.responder.outbound_waiting:
        pair.send(INITIATOR, b"x")
        frame = pair.wires[INITIATOR]
        view = memoryview(frame)
        if not short or pair.responder.open_message(view, len(frame), 10) is None:
            view.release()
            pair.receive(RESPONDER)
        else:
            view.release()
            frame.clear()
        read += 1
        assert read <= 40
    # three quarters of 40 packets, the confirmation among them; of 39 bytes; the short way looks one message later
    assert read == 29 + short
    pair.settle()
    assert pair.responder.ike_rekeys == 1


def test_the_key_exchange_sa_is_replaced_by_time() -> None:
    pair = pair_with(main=Lifetimes(1000.0, 1 << 40, 1 << 40))
    pair.now = 500.0
    pair.send(INITIATOR, b"x")
    pair.send(INITIATOR, b"x")
    assert words(pair) == [b"REKEY-IKE"]
    pair.settle()
    pair.now = 999.9
    pair.send(INITIATOR, b"x")
    assert words(pair) == []
    assert pair.initiator.ike_rekeys == 1


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        (Lifetimes(1e6, 1 << 40, 20), 0.0),
        (Lifetimes(1e6, 1000, 1 << 40), 0.0),
        (Lifetimes(100.0, 1 << 40, 1 << 40), 100.0),
    ],
    ids=["packets", "bytes", "time"],
)
def test_at_the_limit_nothing_is_sealed_until_the_new_keys_are_there(limits: Lifetimes, seconds: float) -> None:
    pair = pair_with(limits)
    pair.now = seconds
    data = memoryview(bytes(100))
    taken = 0
    while count := pair.initiator.seal(data, pair.now):
        taken += count
        pair.flush(INITIATOR)
    pair.flush(INITIATOR)
    assert pair.initiator.outbound() is None
    assert words(pair) == [b"REKEY 1"]
    sa = pair.initiator._sealer.sa
    assert sa is not None
    assert sa.packets <= limits.max_packets
    assert taken <= max(1000, 1900)
    for _ in range(3):
        assert pair.initiator.seal(data, pair.now) == 0
        assert not pair.initiator.finish(pair.now)
        assert pair.initiator.outbound() is None
    pair.settle()
    assert pair.initiator.seal(data, pair.now) == 100
    assert pair.initiator.finish(pair.now)
    pair.settle()
    assert pair.responder.read(1 << 16) == bytes(taken + 100)
    assert pair.responder.read(1) == b""


@pytest.mark.parametrize(
    "limits", [Lifetimes(1e6, 1 << 40, 7), Lifetimes(1e6, 300_000, 1 << 40)], ids=["packets", "bytes"]
)
def test_a_limit_inside_a_large_write_is_kept_to_the_packet(limits: Lifetimes) -> None:
    pair = pair_with(limits)
    data = memoryview(bytes(1 << 20))
    taken = 0
    while count := pair.initiator.seal(data[taken:], 0.0):
        taken += count
        pair.flush(INITIATOR)
    sa = pair.initiator._sealer.sa
    assert sa is not None
    # a packet may pass as long as the count before it is under the limit
    assert sa.packets == 7 or 300_000 <= sa.byte_count < 300_000 + 65478
    assert words(pair) == [b"REKEY 1"]


def test_both_ends_asleep_past_every_lifetime_go_on_with_new_keys_in_both_directions() -> None:
    limits = Lifetimes(100.0, 1 << 40, 1 << 40)
    pair = pair_with(limits, limits, limits)
    pair.now = 1e5
    assert pair.initiator.seal(memoryview(b"x"), pair.now) == 0
    assert pair.responder.seal(memoryview(b"x"), pair.now) == 0
    for role in (INITIATOR, RESPONDER):
        pair.send(role, b"awake")
    assert pair.receive(RESPONDER) == b"awake"
    assert pair.receive(INITIATOR) == b"awake"
    assert pair.initiator.child_rekeys >= 1
    assert pair.initiator.ike_rekeys >= 1


def test_the_reader_alone_sees_to_new_keys_when_only_its_limits_are_near() -> None:
    pair = pair_with(LONG, Lifetimes(1e6, 4000, 1 << 40))
    for _ in range(29):
        pair.send(INITIATOR, bytes(100))
    pair.deliver(INITIATOR)
    assert not pair.responder.outbound_waiting
    pair.send(INITIATOR, bytes(100))
    pair.deliver(INITIATOR)
    assert pair.responder.outbound_waiting
    pair.settle()
    assert pair.responder.child_rekeys == 1
    for _ in range(100):
        pair.send(INITIATOR, bytes(100))
        pair.settle()
    assert pair.responder.error is None
    assert pair.responder.child_rekeys == 4


def test_ends_with_the_same_limits_do_not_ask_at_the_same_moment() -> None:
    limits = Lifetimes(1e6, 10_000, 1 << 40)
    pair = pair_with(limits, limits)
    for _ in range(300):
        pair.send(INITIATOR, bytes(100))
        pair.deliver(INITIATOR)
        assert not (pair.initiator.outbound_waiting and pair.responder.outbound_waiting)
        pair.settle()
    assert pair.initiator.child_rekeys == pair.responder.child_rekeys >= 5


def test_a_refused_rekey_lets_the_connection_live_to_its_limit_and_no_further() -> None:
    pair = pair_with(Lifetimes(1e6, 1 << 40, 20), refuse_rekeys=True)
    for _ in range(18):
        pair.send(INITIATOR, b"x")
        pair.settle()
    assert pair.initiator.error is None
    with pytest.raises(BrokenPipeError):
        for _ in range(10):
            pair.initiator.seal(memoryview(b"x"), 0.0)
            pair.settle()
    assert isinstance(pair.initiator.error, ConnectionBroken)
    assert "limit" in str(pair.initiator.error)
    assert pair.responder.read(100) == b"x" * 19


def test_at_the_limit_with_a_carrier_that_has_ended_no_new_keys_can_come() -> None:
    pair = pair_with(theirs=Lifetimes(100.0, 1 << 40, 1 << 40))
    assert pair.initiator.finish(0.0)
    pair.settle()
    pair.responder.inbound_received(0, 0.0)
    pair.now = 60.0
    assert pair.responder.seal(memoryview(b"x"), pair.now) == 1
    pair.now = 100.0
    with pytest.raises(BrokenPipeError):
        pair.responder.seal(memoryview(b"x"), pair.now)


def test_a_rekey_that_meets_the_end_of_another_is_asked_for_again() -> None:
    pair = pair_with(Lifetimes(1e6, 1 << 40, 20))
    pair.responder.rekey_child(0.0)
    pair.flush(RESPONDER)
    pair.deliver(RESPONDER)
    # the initiator has switched and uses the new SA up before the responder's DELETE is answered
    session = pair.sessions[INITIATOR]
    for _ in range(19):
        pair.initiator.seal(memoryview(b"x"), 0.0)
    assert session.child_rekey_pending
    pair.settle()
    assert not session.child_rekey_pending
    for _ in range(2):
        pair.send(INITIATOR, b"x")
    pair.settle()
    assert pair.initiator.child_rekeys == 2
    assert pair.initiator.error is None
