"""How a secured connection begins, and how it is refused before it has."""

from __future__ import annotations

import pytest

from securesock.errors import (
    AuthenticationFailed,
    ConnectionBroken,
    PeerIncompatible,
    PeerMisbehaved,
    SecureSocketError,
)
from securesock.keying.contract import PeerClosed, Trace
from tests.support.pre_keyed import PreKeyedSession
from tests.support.stream_pair import INITIATOR, RESPONDER, StreamPair, craft, feed, feed_all, frames


def test_the_initiator_says_the_prefix_once_and_then_frames() -> None:
    pair = StreamPair()
    pair.flush(INITIATOR)
    assert pair.wires[INITIATOR] == b"IKETCP\x00\x0b\0\0\0\0HELLO"
    assert pair.responder.outbound() is None
    pair.establish()
    pair.send(INITIATOR, b"more")
    assert b"IKETCP" not in pair.wires[INITIATOR]


def test_the_responder_is_established_only_when_the_initiators_first_segment_opened() -> None:
    pair = StreamPair()
    pair.flush(INITIATOR)
    pair.deliver(INITIATOR)
    pair.flush(RESPONDER)
    assert pair.responder.establishment is not None
    assert pair.responder.state == "negotiating"
    assert pair.responder.seal(memoryview(b"too early"), 0.0) == 0
    pair.deliver(RESPONDER)
    assert pair.initiator.state == "established"
    pair.flush(INITIATOR)
    confirmation = pair.wires[INITIATOR]
    assert len(list(frames(confirmation))) == 1
    pair.deliver(INITIATOR, len(confirmation) - 1)
    assert pair.responder.state == "negotiating"
    pair.deliver(INITIATOR)
    assert pair.responder.state == "established"
    assert not pair.responder.readable()
    assert pair.responder.seal(memoryview(b"now"), 0.0) == 3


def test_nothing_is_sealed_before_the_keys_are_there() -> None:
    pair = StreamPair()
    assert pair.initiator.seal(memoryview(b"data"), 0.0) == 0
    assert not pair.initiator.finish(0.0)
    pair.flush(INITIATOR)
    assert b"data" not in pair.wires[INITIATOR]


def test_what_was_agreed_is_there_on_both_ends() -> None:
    pair = StreamPair().establish()
    for end in pair.ends.values():
        assert end.establishment is not None
        assert end.establishment.peer.name == "host/them.example"
        assert (end.main_mode_sa_id, end.quick_mode_sa_id) == (1, 100)
        assert end.peer_speaks_ike


@pytest.mark.parametrize("cut", range(6))
def test_any_first_byte_that_cannot_begin_the_prefix_ends_it_at_once(cut: int) -> None:
    pair = StreamPair()
    wrong = bytearray(b"IKETCP")
    wrong[cut] ^= 1
    for byte in wrong[: cut + 1]:
        assert pair.responder.error is None
        feed(pair.responder, bytes((byte,)))
    assert isinstance(pair.responder.error, PeerIncompatible)
    assert not pair.responder.wants_input
    assert not pair.responder.peer_speaks_ike


@pytest.mark.parametrize("length", range(6))
@pytest.mark.parametrize("established", [False, True])
def test_a_length_of_0_to_5_is_fatal_before_anything_else_is_read(length: int, established: bool) -> None:
    pair = StreamPair()
    if established:
        pair.establish()
    else:
        feed(pair.responder, b"IKETCP")
    feed(pair.responder, length.to_bytes(2, "big"))
    assert isinstance(pair.responder.error, PeerMisbehaved)
    assert pair.responder.state == "failed"


def test_more_than_16_kib_in_a_frame_is_fatal_before_authentication_and_fine_after() -> None:
    pair = StreamPair()
    feed(pair.responder, b"IKETCP")
    feed(pair.responder, (16385).to_bytes(2, "big"))
    assert isinstance(pair.responder.error, PeerMisbehaved)
    pair = StreamPair()
    feed(pair.initiator, (16385).to_bytes(2, "big"))
    assert isinstance(pair.initiator.error, PeerMisbehaved)
    pair = StreamPair().establish()
    pair.send(INITIATOR, bytes(65478))
    assert max(map(len, frames(pair.wires[INITIATOR]))) == 65534
    assert pair.receive(RESPONDER) == bytes(65478)


def test_at_most_16_kib_are_kept_of_a_stranger() -> None:
    pair = StreamPair()
    offered = b"IKETCP" + (16384).to_bytes(2, "big") + bytes(16382 - 1)
    kept = 0
    while pair.responder.wants_input:
        room = len(pair.responder.inbound_buffer())
        assert room + kept <= 16384 + 6
        taken = feed(pair.responder, offered)
        kept += taken
        offered = offered[taken:]
        if not offered:
            break
    assert pair.responder.error is None
    assert len(pair.responder.inbound_buffer()) == 1


@pytest.mark.parametrize("at_role", [INITIATOR, RESPONDER])
def test_the_carriers_end_before_both_are_proven_is_a_refusal(at_role: object) -> None:
    for delivered in range(40):
        pair = StreamPair()
        role = INITIATOR if at_role is INITIATOR else RESPONDER
        pair.flush(INITIATOR)
        if role is RESPONDER:
            pair.deliver(INITIATOR, delivered)
        pair.ends[role].inbound_received(0, 0.0)
        assert pair.ends[role].state == "failed"
        assert isinstance(pair.ends[role].error, PeerMisbehaved)
        with pytest.raises(PeerMisbehaved, match="before both ends were proven"):
            pair.ends[role].read(1)


def test_a_peer_that_says_goodbye_before_its_first_segment_was_never_there() -> None:
    pair = StreamPair()
    pair.flush(INITIATOR)
    pair.deliver(INITIATOR)
    feed_all(pair.responder, b"\x00\x0d\0\0\0\0GOODBYE")
    assert pair.responder.state == "failed"
    assert isinstance(pair.responder.error, PeerMisbehaved)
    feed_all(pair.responder, craft(pair.sessions[INITIATOR].spec("outbound"), 1))
    assert pair.responder.state == "failed"


def test_a_refusal_still_goes_out_and_names_the_error_on_both_ends() -> None:
    pair = StreamPair(responder=PreKeyedSession(RESPONDER, refuse_peer=True))
    pair.settle()
    for end in pair.ends.values():
        assert end.state == "failed"
        assert isinstance(end.error, AuthenticationFailed)
        with pytest.raises(BrokenPipeError):
            end.seal(memoryview(b"x"), 0.0)
        with pytest.raises(AuthenticationFailed):
            end.read_into(memoryview(bytearray(1)))


def test_an_esp_packet_without_any_sa_ends_the_negotiation() -> None:
    pair = StreamPair()
    feed_all(pair.responder, b"IKETCP" + craft(pair.sessions[INITIATOR].spec("outbound"), 1))
    assert isinstance(pair.responder.error, ConnectionBroken)


def test_our_own_bytes_sent_back_are_no_answer() -> None:
    pair = StreamPair()
    pair.flush(INITIATOR)
    feed_all(pair.initiator, pair.wires[INITIATOR])
    assert isinstance(pair.initiator.error, PeerMisbehaved)
    assert not pair.initiator.peer_speaks_ike


def test_giving_up_before_the_first_segment_sends_no_consent() -> None:
    pair = StreamPair()
    pair.flush(INITIATOR)
    pair.deliver(INITIATOR)
    pair.flush(RESPONDER)
    pair.deliver(RESPONDER)
    assert pair.initiator.state == "established"
    pair.initiator.abort(0.0)
    assert pair.initiator.state == "closed"
    pair.settle()
    assert pair.responder.state == "failed"
    assert pair.responder.error is not None
    with pytest.raises(BrokenPipeError):
        pair.initiator.seal(memoryview(b"x"), 0.0)


def test_reasons_are_counted_and_timeouts_reach_the_session() -> None:
    pair = StreamPair().establish()
    session, end = pair.sessions[RESPONDER], pair.responder
    session.act(Trace("odd-notify", "detail"))
    session.deadline = 5.0
    feed_all(end, b"\x00\x0b\0\0\0\0WHAT?")
    assert dict(end.counters) == {"odd-notify": 1, "not-understood": 1}
    assert end.next_deadline() == 5.0
    assert end.seal(memoryview(b"x"), 4.9) == 1
    assert session.timeouts == 0
    assert end.seal(memoryview(b"x"), 5.0) == 1
    assert session.timeouts == 1
    assert end.next_deadline() is None
    end.handle_timeout(6.0)
    assert session.timeouts == 2


def test_only_the_first_error_counts() -> None:
    pair = StreamPair()
    feed(pair.responder, b"nonsense")
    first = pair.responder.error
    assert isinstance(first, SecureSocketError)
    pair.sessions[RESPONDER].act(PeerClosed("later"))
    pair.responder.handle_timeout(1.0)
    pair.responder.inbound_received(0, 1.0)
    assert pair.responder.error is first
    assert pair.responder.counters == {"PeerIncompatible": 1}
