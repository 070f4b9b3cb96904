"""The short way for small messages: the same bytes as the ordinary way, and aside when anything is unusual."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from securesock.crypto.suites import AES_128_GCM_16, AES_256_CBC, CHACHA20_POLY1305, HMAC_SHA2_256_128, EspSuite
from securesock.errors import ConnectionBroken
from securesock.planes.userspace.short import MAX_MESSAGE
from securesock.planes.userspace.stream import StreamConnection
from securesock.types import Lifetimes
from securesock.wire.segment import FIN_ACK, RST
from tests.support.pre_keyed import LONG, PreKeyedSession
from tests.support.stream_pair import INITIATOR, RESPONDER, StreamPair, craft, feed, feed_all

SUITES = [
    EspSuite(AES_128_GCM_16, None),
    EspSuite(AES_128_GCM_16, None, esn=False),
    EspSuite(CHACHA20_POLY1305, None),
    EspSuite(AES_256_CBC, HMAC_SHA2_256_128),
]


def pair_with(suite: EspSuite = SUITES[0], lifetimes: Lifetimes = LONG) -> StreamPair:
    return StreamPair(
        PreKeyedSession(INITIATOR, suite, lifetimes), PreKeyedSession(RESPONDER, suite, lifetimes)
    ).establish()


def sealed(end: StreamConnection, data: bytes, now: float = 0.0) -> bytes:
    frame = end.seal_message(memoryview(data), now)
    assert frame is not None
    return frame


def open_message(end: StreamConnection, frame: bytes, limit: int = 1 << 20) -> bytes | None:
    view = memoryview(bytearray(frame) + bytes(10))
    opened = end.open_message(view, len(frame), limit)
    assert view[: len(frame)] == frame
    return opened


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: f"{suite.name} {suite.esn}")
@pytest.mark.parametrize("size", [1, 2, 3, 15, 64, 1000, MAX_MESSAGE])
def test_both_ways_seal_and_open_what_the_other_did(suite: EspSuite, size: int) -> None:
    pair = pair_with(suite)
    data = bytes(range(256)) * 17
    for round_number in range(3):
        part = data[round_number : round_number + size]
        assert open_message(pair.responder, sealed(pair.initiator, part)) == part
        feed_all(pair.responder, sealed(pair.initiator, part))
        assert pair.responder.read(size + 1) == part
        pair.responder.inbound_release()
        pair.send(INITIATOR, part)
        frame = bytes(pair.wires[INITIATOR])
        pair.wires[INITIATOR].clear()
        assert open_message(pair.responder, frame) == part
        pair.send(INITIATOR, part)
        assert pair.receive(RESPONDER) == part


def test_an_aead_frame_is_the_same_byte_for_byte() -> None:
    one, other = pair_with(), pair_with()
    other.send(INITIATOR, b"the same")
    assert sealed(one.initiator, b"the same") == other.wires[INITIATOR]


def cut_short(pair: StreamPair) -> None:
    pair.initiator.seal(memoryview(b"unsent"), 0.0)


@pytest.mark.parametrize(
    "prepare",
    [
        cut_short,
        lambda pair: pair.sessions[INITIATOR].say("WORD") or pair.initiator.handle_timeout(0.0),
        lambda pair: pair.initiator.finish(0.0) and pair.flush(INITIATOR),
        lambda pair: pair.initiator.abort(0.0),
        lambda pair: pair.initiator.inbound_received(0, 0.0),
        lambda pair: pair.initiator.keep_unsent(b"rest of another"),
    ],
    ids=["unsent", "keying message", "finished", "aborted", "failed", "kept"],
)
def test_sealing_steps_aside_when_something_goes_first_or_nothing_may_go(prepare: Callable[[StreamPair], Any]) -> None:
    pair = pair_with()
    prepare(pair)
    before = pair.initiator._sealer.segments
    assert pair.initiator.seal_message(memoryview(b"x"), 0.0) is None
    assert pair.initiator._sealer.segments == before


def test_sealing_steps_aside_before_establishment_for_nothing_and_for_much() -> None:
    assert StreamPair().initiator.seal_message(memoryview(b"x"), 0.0) is None
    pair = pair_with()
    assert pair.initiator.seal_message(memoryview(b""), 0.0) is None
    assert pair.initiator.seal_message(memoryview(bytes(MAX_MESSAGE + 1)), 0.0) is None


@pytest.mark.parametrize(
    ("limits", "count", "now"),
    [
        (Lifetimes(1e6, 1 << 40, 20), 9, 0.0),
        (Lifetimes(1e6, 1000, 1 << 40), 5, 0.0),
        (Lifetimes(100.0, 1 << 40, 1 << 40), 0, 50.0),
    ],
    ids=["packets", "bytes", "time"],
)
def test_sealing_steps_aside_at_a_soft_limit_and_goes_on_after_the_ordinary_way_has_asked(
    limits: Lifetimes, count: int, now: float
) -> None:
    pair = pair_with(lifetimes=limits)
    data = memoryview(bytes(100))
    for _ in range(count):
        pair.wires[INITIATOR] += sealed(pair.initiator, bytes(100))
    assert pair.initiator.seal_message(data, now) is None
    assert pair.initiator.seal(data, now) == 100
    pair.flush(INITIATOR)
    pair.wires[INITIATOR] += sealed(pair.initiator, b"on", now)
    assert pair.receive(RESPONDER) == bytes(100 * count + 100) + b"on"
    pair.settle()
    assert pair.initiator.child_rekeys == 1


def test_sealing_steps_aside_at_a_limit_that_was_far_when_it_last_looked() -> None:
    for limits, later in ((Lifetimes(100.0, 1 << 40, 1 << 40), 50.0), (Lifetimes(1e6, 1 << 40, 6), 0.0)):
        pair = pair_with(lifetimes=limits)
        assert pair.initiator.seal_message(b"x", 0.0) is not None
        assert pair.initiator.seal_message(b"x", 0.0) is not None
        assert pair.initiator.seal_message(b"x", later) is None


def test_sealing_goes_on_under_the_new_sa_whoever_took_the_switch_from_the_queue() -> None:
    pair = pair_with()
    frame = sealed(pair.initiator, b"old ")
    assert frame[2:6] == pair.sessions[INITIATOR].spi("outbound", 0).to_bytes(4, "big")
    assert open_message(pair.responder, frame) == b"old "
    pair.initiator.rekey_child(0.0)
    pair.settle()
    assert pair.initiator.child_rekeys == 1
    frame = sealed(pair.initiator, b"new")
    assert frame[2:6] == pair.sessions[INITIATOR].spi("outbound", 1).to_bytes(4, "big")
    assert open_message(pair.responder, frame) is None
    feed_all(pair.responder, frame)
    assert pair.responder.read(10) == b"new"


def test_sealing_steps_aside_at_the_sessions_deadline() -> None:
    pair = pair_with()
    pair.sessions[INITIATOR].deadline = 7.0
    pair.initiator.rekey_ike(0.0)
    pair.settle()
    assert pair.initiator.seal_message(memoryview(b"x"), 6.9) is not None
    assert pair.initiator.seal_message(memoryview(b"x"), 7.0) is None


def test_what_the_carrier_did_not_take_goes_first() -> None:
    pair = pair_with()
    frame = sealed(pair.initiator, b"first")
    pair.wires[INITIATOR] += frame[:7]
    pair.initiator.keep_unsent(frame[7:])
    assert pair.initiator.outbound_waiting
    pair.send(INITIATOR, b" second")
    assert pair.receive(RESPONDER) == b"first second"


def test_the_readers_limits_are_counted_and_asked_about() -> None:
    pair = StreamPair(PreKeyedSession(INITIATOR), PreKeyedSession(RESPONDER, lifetimes=Lifetimes(1e6, 4000, 1 << 40)))
    pair.establish()
    for _ in range(30):
        assert open_message(pair.responder, sealed(pair.initiator, bytes(100))) == bytes(100)
    assert not pair.responder.outbound_waiting
    late = sealed(pair.initiator, bytes(100))
    assert open_message(pair.responder, late) is None
    feed_all(pair.responder, late)
    assert pair.responder.outbound_waiting
    assert pair.responder.read(200) == bytes(100)
    pair.responder.inbound_release()
    assert open_message(pair.responder, sealed(pair.initiator, bytes(100))) == bytes(100)
    strict = PreKeyedSession(RESPONDER, lifetimes=Lifetimes(1e6, 1 << 40, 4), refuse_rekeys=True)
    pair = StreamPair(PreKeyedSession(INITIATOR, refuse_rekeys=True), strict).establish()
    for _ in range(2):
        assert open_message(pair.responder, sealed(pair.initiator, b"x")) == b"x"
    feed_all(pair.responder, sealed(pair.initiator, b"y"))
    assert pair.responder.read(10) == b"y"
    pair.responder.inbound_release()
    beyond = sealed(pair.initiator, b"x")
    assert open_message(pair.responder, beyond) is None
    feed_all(pair.responder, beyond)
    assert isinstance(pair.responder.error, ConnectionBroken)


def test_opening_steps_aside_for_what_is_kept_before_it() -> None:
    pair = pair_with()
    first, second, third = (sealed(pair.initiator, each) for each in (b"one", b"two", b"three"))
    feed(pair.responder, first)
    assert open_message(pair.responder, second) is None
    assert pair.responder.read(10) == b"one"
    feed(pair.responder, second[:20])
    assert open_message(pair.responder, second[20:]) is None
    feed_all(pair.responder, second[20:])
    assert pair.responder.read(10) == b"two"
    pair.responder.inbound_release()
    assert open_message(pair.responder, third) == b"three"


def test_opening_steps_aside_for_half_a_frame_for_two_and_for_more_than_the_reader_takes() -> None:
    pair = pair_with()
    first, second = sealed(pair.initiator, b"one"), sealed(pair.initiator, b"two")
    for length in range(12):
        assert pair.responder.open_message(memoryview(first[:length]), length, 100) is None
    for odd in (b"", first[:1], first[:9], first[:-1], first + second, first + second[:5]):
        assert open_message(pair.responder, odd) is None
    assert open_message(pair.responder, first, limit=2) is None
    assert open_message(pair.responder, first, limit=3) == b"one"
    feed_all(pair.responder, second)
    assert pair.responder.read(10) == b"two"


def test_opening_steps_aside_for_every_flipped_bit_and_the_ordinary_way_says_what_it_was() -> None:
    for suite in SUITES:
        pair = pair_with(suite)
        frame = sealed(pair.initiator, b"abc")
        for position in range(len(frame)):
            for bit in range(8):
                changed = bytearray(frame)
                changed[position] ^= 1 << bit
                assert open_message(pair.responder, bytes(changed)) is None
        assert open_message(pair.responder, frame) == b"abc"


@pytest.mark.parametrize(
    ("unusual", "fatal"),
    [
        ({"flags": FIN_ACK}, False),
        ({"flags": RST}, True),
        ({"data": b"", "next_header": 59}, False),
        ({"data": b"x", "offset": 1}, True),
        ({"data": b"x", "header": (1, 2, 0, 0, 0x50, 0x18, 0, 0, 0)}, True),
        ({"data": b"x", "padding": b"\x02"}, True),
        ({"segment": b"", "padding": b"\x01\x02"}, True),
        ({"data": b"xy", "padding": b"\x01"}, True),
        ({"segment": bytes(21), "padding": b"\x01", "pad_length": 255}, True),
    ],
    ids=["FIN", "RST", "dummy", "offset", "ports", "padding", "short", "alignment", "pad length"],
)
def test_opening_steps_aside_for_everything_that_is_not_plain_data(unusual: dict[str, Any], fatal: bool) -> None:
    pair = pair_with()
    frame = craft(pair.sessions[INITIATOR].spec("outbound"), 2, **unusual)
    assert open_message(pair.responder, frame) is None
    assert pair.responder.error is None
    feed_all(pair.responder, frame)
    assert (pair.responder.error is not None) == fatal
    assert pair.responder.ended == (unusual.get("flags") == FIN_ACK)


def test_opening_steps_aside_for_keying_and_for_the_first_packet_under_new_keys() -> None:
    pair = pair_with()
    assert open_message(pair.responder, b"\x00\x0f\0\0\0\0REKEY-IKE") is None
    pair.initiator.rekey_child(0.0)
    for role in (INITIATOR, RESPONDER, INITIATOR):
        pair.flush(role)
        pair.deliver(role)
    pair.flush(RESPONDER)
    pair.deliver(RESPONDER)
    new = [sealed(pair.initiator, each) for each in (b"first", b"second")]
    assert open_message(pair.responder, new[0]) is None
    feed_all(pair.responder, new[0])
    assert pair.responder.read(10) == b"first"
    pair.responder.inbound_release()
    assert open_message(pair.responder, new[1]) == b"second"


def test_quiet_is_when_there_is_nothing_but_to_wait() -> None:
    pair = StreamPair()
    assert not pair.initiator.quiet
    pair.establish()
    end = pair.responder
    assert end.quiet
    pair.send(INITIATOR, b"data")
    frame = bytes(pair.wires[INITIATOR])
    feed(end, frame[:5])
    assert not end.quiet
    feed(end, frame[5:])
    assert not end.quiet
    end.read(10)
    end.inbound_release()
    assert end.quiet
    end.rekey_ike(0.0)
    assert not end.quiet
    pair.flush(RESPONDER)
    assert end.quiet
    end.seal(memoryview(b"x"), 0.0)
    assert not end.quiet
    pair.flush(RESPONDER)
    assert end.quiet
    end.keep_unsent(b"x")
    assert not end.quiet
    pair.flush(RESPONDER)
    feed_all(end, craft(pair.sessions[INITIATOR].spec("outbound"), 3, offset=4, flags=FIN_ACK))
    assert not end.quiet


def test_opening_steps_aside_before_establishment_and_after_the_end() -> None:
    pair = StreamPair()
    assert open_message(pair.responder, b"IKETCP") is None
    pair.establish()
    assert pair.initiator.finish(0.0)
    pair.flush(INITIATOR)
    fin = bytes(pair.wires[INITIATOR])
    feed_all(pair.responder, fin)
    late = craft(pair.sessions[INITIATOR].spec("outbound"), 3, b"late")
    assert open_message(pair.responder, late) is None
    feed_all(pair.responder, late)
    assert isinstance(pair.responder.error, ConnectionBroken)
    assert open_message(pair.responder, late) is None
    pair = pair_with()
    assert open_message(pair.responder, sealed(pair.initiator, b"before")) == b"before"
    pair.responder.abort(0.0)
    assert open_message(pair.responder, sealed(pair.initiator, b"after")) is None
