"""The end of a connection: authenticated, truncated, aborted."""

from __future__ import annotations

import pytest

from securesock.errors import ConnectionBroken, StreamTruncated
from securesock.wire.segment import FIN_ACK, RST
from tests.support.stream_pair import INITIATOR, RESPONDER, StreamPair, craft, feed_all, frames


def finished() -> StreamPair:
    """The initiator has sent "bye" and its end of stream, and both were delivered."""
    pair = StreamPair().establish()
    pair.send(INITIATOR, b"bye")
    assert pair.initiator.finish(0.0)
    pair.settle()
    return pair


def test_the_end_of_stream_is_read_after_the_data_and_for_ever() -> None:
    pair = finished()
    assert pair.responder.ended
    assert not pair.responder.at_end
    assert pair.responder.read(10) == b"bye"
    assert pair.responder.at_end
    for _ in range(2):
        assert pair.responder.read(10) == b""
        assert pair.responder.read_into(memoryview(bytearray(4))) == 0
    pair.responder.inbound_received(0, 0.0)
    assert pair.responder.read(10) == b""
    assert pair.responder.error is None


def test_finishing_is_done_once_and_nothing_can_be_sealed_after_it() -> None:
    pair = StreamPair().establish()
    assert pair.initiator.finish(0.0)
    assert pair.initiator.finish(0.0)
    pair.flush(INITIATOR)
    assert len(list(frames(pair.wires[INITIATOR]))) == 1
    with pytest.raises(BrokenPipeError):
        pair.initiator.seal(memoryview(b"x"), 0.0)


def test_the_other_direction_and_rekeys_go_on_after_an_end_of_stream() -> None:
    pair = finished()
    pair.responder.rekey_child(0.0)
    pair.settle()
    assert pair.initiator.child_rekeys == pair.responder.child_rekeys == 1
    pair.send(RESPONDER, b"answer")
    assert pair.receive(INITIATOR) == b"answer"
    pair.initiator.rekey_child(0.0)
    pair.settle()
    pair.send(RESPONDER, b" goes on")
    assert pair.receive(INITIATOR) == b" goes on"
    assert pair.responder.finish(0.0)
    pair.settle()
    assert pair.initiator.state == pair.responder.state == "closed"


def test_a_carrier_that_ends_after_the_end_of_stream_leaves_the_other_direction_open() -> None:
    pair = finished()
    pair.responder.inbound_received(0, 0.0)
    assert pair.responder.carrier_ended
    assert not pair.responder.wants_input
    pair.send(RESPONDER, b"still")
    assert pair.receive(INITIATOR) == b"still"


def test_a_missing_end_of_stream_is_a_truncation_and_never_an_end() -> None:
    pair = StreamPair().establish()
    pair.send(INITIATOR, b"half")
    pair.deliver(INITIATOR)
    pair.responder.inbound_received(0, 0.0)
    assert pair.responder.read(10) == b"half"
    with pytest.raises(StreamTruncated):
        pair.responder.read(10)
    with pytest.raises(ConnectionResetError):
        pair.responder.read_into(memoryview(bytearray(1)))


def test_half_an_end_of_stream_is_none() -> None:
    pair = StreamPair().establish()
    assert pair.initiator.finish(0.0)
    pair.flush(INITIATOR)
    for cut in range(len(pair.wires[INITIATOR])):
        fresh = StreamPair().establish()
        feed_all(fresh.responder, pair.wires[INITIATOR][:cut])
        fresh.responder.inbound_received(0, 0.0)
        with pytest.raises(StreamTruncated):
            fresh.responder.read(1)


def test_the_end_of_stream_may_carry_data() -> None:
    pair = StreamPair().establish()
    spec = pair.sessions[INITIATOR].spec("outbound")
    feed_all(pair.responder, craft(spec, 2, b"last words", flags=FIN_ACK))
    assert pair.responder.read(20) == b"last words"
    assert pair.responder.read(20) == b""


@pytest.mark.parametrize("data", [b"", b"more"])
@pytest.mark.parametrize("flags", [0x18, FIN_ACK])
def test_a_segment_behind_the_end_of_stream_breaks_the_connection_but_not_what_was_proven(
    data: bytes, flags: int
) -> None:
    pair = finished()
    spec = pair.sessions[INITIATOR].spec("outbound")
    feed_all(pair.responder, craft(spec, 4, data, offset=3, flags=flags))
    assert isinstance(pair.responder.error, ConnectionBroken)
    assert pair.responder.read(10) == b"bye"
    assert pair.responder.read(10) == b""
    with pytest.raises(BrokenPipeError):
        pair.responder.seal(memoryview(b"x"), 0.0)


@pytest.mark.parametrize("garbage", [b"\x00\x00", b"\xff\xffgarbage" + bytes(65535), b"\x00\x06\1\2\3\4"])
def test_garbage_behind_the_end_of_stream_breaks_the_connection_but_not_what_was_proven(garbage: bytes) -> None:
    pair = finished()
    feed_all(pair.responder, garbage)
    assert pair.responder.error is not None
    assert pair.responder.read(10) == b"bye"
    assert pair.responder.read(10) == b""
    with pytest.raises(BrokenPipeError):
        pair.responder.seal(memoryview(b"x"), 0.0)


def test_an_abort_is_an_error_after_what_was_proven_and_never_an_end() -> None:
    pair = StreamPair().establish()
    pair.send(INITIATOR, b"so far")
    pair.initiator.abort(0.0)
    pair.settle()
    assert pair.initiator.state == "closed"
    assert pair.responder.read(10) == b"so far"
    with pytest.raises(ConnectionBroken, match="aborted"):
        pair.responder.read(10)
    with pytest.raises(BrokenPipeError):
        pair.responder.seal(memoryview(b"x"), 0.0)


def test_after_our_own_abort_nothing_can_be_sent_and_what_was_proven_can_be_read() -> None:
    pair = StreamPair().establish()
    pair.send(RESPONDER, b"arrived")
    pair.deliver(RESPONDER)
    pair.initiator.abort(0.0)
    pair.initiator.abort(0.0)
    pair.flush(INITIATOR)
    assert len(list(frames(pair.wires[INITIATOR]))) == 1
    for refused in (lambda: pair.initiator.seal(memoryview(b"x"), 0.0),):
        with pytest.raises(BrokenPipeError):
            refused()
    assert pair.initiator.read(10) == b"arrived"
    with pytest.raises(ConnectionBroken):
        pair.initiator.read(10)


def test_an_end_of_stream_or_an_abort_does_not_wait_for_a_full_batch() -> None:
    for end_it in ("finish", "abort"):
        pair = StreamPair().establish()
        data = bytes(1 << 22)
        taken = pair.initiator.seal(memoryview(data), 0.0)
        assert pair.initiator.seal(memoryview(data), 0.0) == 0
        getattr(pair.initiator, end_it)(0.0)
        pair.flush(INITIATOR)
        pair.deliver(INITIATOR)
        assert len(pair.responder.read(1 << 22)) == taken
        if end_it == "finish":
            assert pair.responder.read(1) == b""
        else:
            with pytest.raises(ConnectionBroken, match="aborted"):
                pair.responder.read(1)


def test_an_abort_after_a_failure_tells_the_peer() -> None:
    pair = StreamPair().establish()
    feed_all(pair.responder, b"\x00\x00")
    pair.responder.abort(0.0)
    pair.flush(RESPONDER)
    pair.deliver(RESPONDER)
    assert isinstance(pair.initiator.error, ConnectionBroken)
    assert pair.responder.state == "failed"


def test_an_abort_after_the_end_of_stream_stops_the_peer_from_sending() -> None:
    pair = finished()
    pair.initiator.abort(0.0)
    pair.settle()
    assert pair.responder.read(10) == b"bye"
    assert pair.responder.read(10) == b""
    with pytest.raises(BrokenPipeError):
        pair.responder.seal(memoryview(b"x"), 0.0)


def test_an_abort_that_carries_data_is_no_segment() -> None:
    pair = StreamPair().establish()
    spec = pair.sessions[INITIATOR].spec("outbound")
    feed_all(pair.responder, craft(spec, 2, b"data", flags=RST))
    assert not pair.responder.readable()
    assert isinstance(pair.responder.error, ConnectionBroken)


def test_the_peers_goodbye_without_an_end_of_stream_is_a_truncation() -> None:
    pair = StreamPair().establish()
    pair.send(INITIATOR, b"data")
    pair.sessions[INITIATOR].delete(0.0)
    pair.initiator.handle_timeout(0.0)
    pair.settle()
    assert pair.responder.read(10) == b"data"
    with pytest.raises(StreamTruncated):
        pair.responder.read(10)


def test_the_peers_goodbye_after_its_end_of_stream_is_none() -> None:
    pair = finished()
    pair.sessions[INITIATOR].delete(0.0)
    pair.initiator.handle_timeout(0.0)
    pair.settle()
    assert pair.responder.read(10) == b"bye"
    assert pair.responder.read(10) == b""
    with pytest.raises(BrokenPipeError):
        pair.responder.seal(memoryview(b"x"), 0.0)
