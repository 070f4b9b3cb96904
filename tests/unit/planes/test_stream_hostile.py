"""What a peer, or somebody on the path, may try: the connection ends, and nothing unproven is delivered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from securesock.crypto.esp_cipher import make_esp_cipher
from securesock.crypto.suites import AES_256_CBC, AES_256_GCM_16, HMAC_SHA2_256_128, EspSuite
from securesock.errors import ConnectionBroken, PeerMisbehaved, StreamTruncated
from securesock.keying.contract import InstallSa, RemoveSa
from securesock.planes.userspace.stream import StreamConnection
from securesock.sad.spec import SaSpec
from securesock.types import Lifetimes
from securesock.wire.segment import FIN_ACK, PSH_ACK, RST
from tests.support.pre_keyed import FLOW, PreKeyedSession
from tests.support.stream_pair import INITIATOR, RESPONDER, StreamPair, craft, feed_all, frames


def victim(pair: StreamPair | None = None) -> tuple[StreamConnection, SaSpec]:
    """An established responder that has read one (empty) packet, and what its peer seals with."""
    pair = pair or StreamPair().establish()
    return pair.responder, pair.sessions[INITIATOR].spec("outbound")


def is_broken(end: StreamConnection, match: str, delivered: bytes = b"") -> None:
    """Ended by ConnectionBroken with these words, after exactly these bytes; nothing more can be sent."""
    assert end.state == "failed"
    assert end.read(1 << 20) == delivered if delivered else not end.readable()
    for _ in range(2):
        with pytest.raises(ConnectionBroken, match=match):
            end.read(1)
        with pytest.raises(ConnectionBroken, match=match):
            end.read_into(memoryview(bytearray(1)))
    with pytest.raises(BrokenPipeError):
        end.seal(memoryview(b"x"), 0.0)
    with pytest.raises(BrokenPipeError):
        end.finish(0.0)
    assert end.at_end
    assert not end.wants_input


def test_a_crafted_packet_that_is_right_is_taken() -> None:
    end, spec = victim()
    feed_all(end, craft(spec, 2, b"right"))
    assert end.read(10) == b"right"


def test_a_missing_packet_is_fatal() -> None:
    pair = StreamPair().establish()
    for part in (b"one", b"two", b"three"):
        pair.send(INITIATOR, part)
    first, _, third = frames(pair.wires[INITIATOR])
    feed_all(pair.responder, first + third)
    is_broken(pair.responder, "lost, repeated", b"one")


def test_a_repeated_packet_is_fatal() -> None:
    pair = StreamPair().establish()
    pair.send(INITIATOR, b"once")
    (only,) = frames(pair.wires[INITIATOR])
    feed_all(pair.responder, only + only)
    is_broken(pair.responder, "lost, repeated", b"once")


def test_packets_in_another_order_are_fatal() -> None:
    pair = StreamPair().establish()
    pair.send(INITIATOR, b"one")
    pair.send(INITIATOR, b"two")
    first, second = frames(pair.wires[INITIATOR])
    feed_all(pair.responder, second + first)
    is_broken(pair.responder, "lost, repeated")


def test_a_packet_of_the_other_direction_is_fatal() -> None:
    pair = StreamPair().establish()
    pair.send(RESPONDER, b"mine")
    feed_all(pair.responder, pair.wires[RESPONDER])
    is_broken(pair.responder, "does not exist")


@pytest.mark.parametrize(
    "suite", [EspSuite(AES_256_GCM_16, None), EspSuite(AES_256_CBC, HMAC_SHA2_256_128)], ids=["GCM", "CBC"]
)
def test_one_flipped_bit_anywhere_delivers_nothing_and_ends_the_connection(suite: EspSuite) -> None:
    reference = StreamPair(PreKeyedSession(INITIATOR, suite), PreKeyedSession(RESPONDER, suite)).establish()
    reference.send(INITIATOR, b"abc")
    length = len(reference.wires[INITIATOR])
    for position in range(length):
        for bit in range(8):
            pair = StreamPair(PreKeyedSession(INITIATOR, suite), PreKeyedSession(RESPONDER, suite)).establish()
            pair.send(INITIATOR, b"abc")
            pair.wires[INITIATOR][position] ^= 1 << bit
            feed_all(pair.responder, pair.wires[INITIATOR])
            pair.responder.inbound_received(0, 0.0)
            # a longer length leaves a frame that never becomes whole
            expected = StreamTruncated if position < 2 and pair.responder.carrier_ended else ConnectionBroken
            assert pair.responder.readable() == 0
            with pytest.raises((expected, PeerMisbehaved)):
                pair.responder.read(10)


def test_the_carrier_cut_at_any_byte_is_a_truncation_after_what_was_whole() -> None:
    reference = StreamPair().establish()
    for part in (b"one", b"two"):
        reference.send(INITIATOR, part)
    wire = bytes(reference.wires[INITIATOR])
    first = len(next(frames(wire)))
    for cut in range(len(wire) + 1):
        pair = StreamPair().establish()
        feed_all(pair.responder, wire[:cut])
        pair.responder.inbound_received(0, 0.0)
        delivered = b"onetwo" if cut == len(wire) else b"one" if cut >= first else b""
        assert pair.responder.read(10) == delivered if delivered else pair.responder.at_end
        with pytest.raises(StreamTruncated):
            pair.responder.read(10)
        with pytest.raises(BrokenPipeError):
            pair.responder.seal(memoryview(b"x"), 0.0)


def header(**changed: int) -> tuple[int, ...]:
    fields = {
        "source": FLOW.initiator_port,
        "destination": FLOW.responder_port,
        "sequence": 0,
        "acknowledgement": 0,
        "data_offset": 0x50,
        "flags": PSH_ACK,
        "window": 0,
        "checksum": 0,
        "urgent": 0,
    }
    return tuple((fields | changed).values())


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"source": FLOW.initiator_port + 1}, "other ports"),
        ({"destination": FLOW.responder_port + 1}, "other ports"),
        ({"source": FLOW.responder_port, "destination": FLOW.initiator_port}, "other ports"),
        ({"sequence": 1}, "not the next"),
        ({"sequence": 2**32 - 1}, "not the next"),
        ({"acknowledgement": 1}, "acknowledgement 1"),
        ({"data_offset": 0x60}, "data offset"),
        ({"data_offset": 0x51}, "data offset"),
        *(({"flags": flags}, "flags") for flags in range(256) if flags not in (PSH_ACK, FIN_ACK, RST)),
        ({"window": 1}, "window"),
        ({"checksum": 1}, "checksum"),
        ({"urgent": 1}, "urgent"),
    ],
)
def test_a_segment_header_that_is_not_exactly_right_is_fatal(changed: dict[str, int], match: str) -> None:
    end, spec = victim()
    feed_all(end, craft(spec, 2, b"data", header=header(**changed)))
    is_broken(end, match)


@pytest.mark.parametrize("length", range(20))
def test_a_segment_shorter_than_its_header_is_fatal(length: int) -> None:
    end, spec = victim()
    feed_all(end, craft(spec, 2, segment=bytes(length)))
    is_broken(end, "no segment")


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"padding": b"\x01\x03"}, "padding"),
        ({"padding": b"\x00\x00"}, "padding"),
        ({"padding": b"\x01\x02", "pad_length": 255}, "padding"),
        ({"padding": b"\x01\x02", "pad_length": 1}, "padding"),
        ({"padding": b"\x01\x02", "next_header": 17}, "padding or protocol"),
        ({"padding": b"\x01\x02", "next_header": 4}, "padding or protocol"),
    ],
)
def test_wrong_padding_and_other_protocols_are_fatal(changed: dict[str, Any], match: str) -> None:
    end, spec = victim()
    feed_all(end, craft(spec, 2, b"data", **changed))
    is_broken(end, match)


@pytest.mark.parametrize("segment", [bytes(19), bytes(20), bytes(21)])
def test_a_plaintext_that_is_not_aligned_is_fatal_however_authentic(segment: bytes) -> None:
    end, spec = victim()
    feed_all(end, craft(spec, 2, segment=segment, padding=b""))
    is_broken(end, "length that cannot be")


def test_an_authentic_packet_without_plaintext_is_fatal() -> None:
    end, spec = victim()
    header = spec.spi.to_bytes(4, "big") + (2).to_bytes(4, "big")
    packet = bytearray(header + bytes(8 + 16))
    make_esp_cipher(spec.suite, spec.keys).seal_packet(memoryview(packet), 2)
    feed_all(end, (len(packet) + 2).to_bytes(2, "big") + packet)
    is_broken(end, "length that cannot be")


def test_more_padding_than_needed_is_legal() -> None:
    end, spec = victim()
    feed_all(end, craft(spec, 2, b"data", padding=bytes(range(1, 1 + 254))))
    assert end.read(10) == b"data"


def test_a_dummy_packet_is_dropped_without_a_word_and_counts_as_a_packet() -> None:
    end, spec = victim()
    feed_all(end, craft(spec, 2, segment=bytes(42), padding=b"", pad_length=0, next_header=59))
    feed_all(end, craft(spec, 3, segment=b"", padding=b"\x01\x02", next_header=59))
    feed_all(end, craft(spec, 4, b"data"))
    assert end.read(10) == b"data"
    assert end.error is None


@pytest.mark.parametrize("length", range(6, 42))
def test_a_packet_too_short_to_hold_anything_is_fatal(length: int) -> None:
    end, spec = victim()
    packet = spec.spi.to_bytes(4, "big") + (2).to_bytes(4, "big") + bytes(40)
    feed_all(end, length.to_bytes(2, "big") + packet[: length - 2])
    is_broken(end, "changed on its way|length that cannot be|without a sequence number")


def test_an_unknown_spi_is_fatal() -> None:
    end, spec = victim()
    feed_all(end, craft(spec, 2, b"data", spi=spec.spi + 0x10000))
    is_broken(end, "does not exist")


def rekeyed() -> tuple[StreamPair, SaSpec, SaSpec]:
    """A pair after one rekey whose DELETE is still on its way, and the initiator's old and new outbound SAs."""
    pair = StreamPair().establish()
    session = pair.sessions[INITIATOR]
    old = session.spec("outbound")
    pair.initiator.rekey_child(0.0)
    pair.flush(INITIATOR)
    pair.deliver(INITIATOR)
    pair.flush(RESPONDER)
    pair.deliver(RESPONDER)
    return pair, old, session.spec("outbound")


def test_the_old_sa_opens_until_the_peers_switch_was_read() -> None:
    pair, old, new = rekeyed()
    feed_all(pair.responder, craft(old, 2, b"old "))
    feed_all(pair.responder, craft(old, 3, b"still old ", offset=4))
    feed_all(pair.responder, craft(new, 1, b"new", offset=14))
    assert pair.responder.read(100) == b"old still old new"


def test_a_packet_on_the_old_sa_after_the_switch_is_fatal() -> None:
    pair, old, new = rekeyed()
    feed_all(pair.responder, craft(new, 1, b"new"))
    feed_all(pair.responder, craft(old, 2, b"old", offset=3))
    is_broken(pair.responder, "had left", b"new")


def test_a_packet_on_an_sa_that_its_owner_deleted_is_fatal() -> None:
    pair, old, _ = rekeyed()
    pair.flush(INITIATOR)
    pair.deliver(INITIATOR)
    assert pair.responder.child_rekeys == 1
    feed_all(pair.responder, craft(old, 2, b"old"))
    is_broken(pair.responder, "does not exist")


def test_removing_the_sa_in_use_leaves_nothing_that_opens() -> None:
    pair = StreamPair().establish()
    spec = pair.sessions[INITIATOR].spec("outbound")
    pair.sessions[RESPONDER].act(RemoveSa(spec.spi, "inbound"))
    pair.responder.handle_timeout(0.0)
    feed_all(pair.responder, craft(spec, 2, b"data"))
    is_broken(pair.responder, "does not exist")


def test_the_opening_side_enforces_packets_and_bytes_whatever_the_peers_limits() -> None:
    strict = PreKeyedSession(RESPONDER, lifetimes=Lifetimes(1e6, 1 << 30, 10), refuse_rekeys=True)
    pair = StreamPair(PreKeyedSession(INITIATOR, refuse_rekeys=True), strict).establish()
    spec = pair.sessions[INITIATOR].spec("outbound")
    for sequence in range(2, 11):
        feed_all(pair.responder, craft(spec, sequence, b"x", offset=sequence - 2))
    assert pair.responder.error is None
    feed_all(pair.responder, craft(spec, 11, b"x", offset=9))
    is_broken(pair.responder, "past its limits", b"x" * 9)
    strict = PreKeyedSession(RESPONDER, lifetimes=Lifetimes(1e6, 1000, 1 << 20), refuse_rekeys=True)
    pair = StreamPair(PreKeyedSession(INITIATOR, refuse_rekeys=True), strict).establish()
    spec = pair.sessions[INITIATOR].spec("outbound")
    feed_all(pair.responder, craft(spec, 2, bytes(999)))
    feed_all(pair.responder, craft(spec, 3, bytes(999), offset=999))
    assert pair.responder.error is None
    feed_all(pair.responder, craft(spec, 4, b"", offset=1998))
    is_broken(pair.responder, "past its limits", bytes(1998))
    strict = PreKeyedSession(RESPONDER, lifetimes=Lifetimes(1e6, 1000, 1 << 20), refuse_rekeys=True)
    pair = StreamPair(PreKeyedSession(INITIATOR, refuse_rekeys=True), strict).establish()
    spec = pair.sessions[INITIATOR].spec("outbound")
    feed_all(pair.responder, craft(spec, 2, bytes(1000)))
    assert pair.responder.error is None
    feed_all(pair.responder, craft(spec, 3, b"", offset=1000))
    is_broken(pair.responder, "past its limits", bytes(1000))


def test_what_was_proven_before_a_broken_packet_is_delivered_first() -> None:
    pair = StreamPair().establish()
    pair.send(INITIATOR, b"proven")
    pair.send(INITIATOR, b"changed")
    pair.wires[INITIATOR][-1] ^= 1
    feed_all(pair.responder, pair.wires[INITIATOR])
    assert pair.responder.readable() == 6
    assert not pair.responder.at_end
    is_broken(pair.responder, "changed on its way", b"proven")


def test_a_malformed_ike_message_is_the_sessions_business() -> None:
    end, spec = victim()
    feed_all(end, b"\x00\x06\0\0\0\0")
    feed_all(end, craft(spec, 2, b"data"))
    assert end.counters == {"not-understood": 1}
    assert end.read(10) == b"data"


@pytest.mark.parametrize(
    "changed",
    [
        {"suite": EspSuite(AES_256_CBC, HMAC_SHA2_256_128)},
        {"suite": EspSuite(AES_256_GCM_16, None, esn=False)},
        {"flow": FLOW._replace(responder_port=FLOW.responder_port + 1)},
    ],
    ids=["cipher", "ESN", "flow"],
)
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_a_session_that_would_break_the_latch_breaks_the_connection(
    changed: dict[str, Any], direction: Literal["inbound", "outbound"]
) -> None:
    pair = StreamPair().establish()
    session = pair.sessions[RESPONDER]
    session.act(InstallSa(replace(session.spec(direction, 1), **changed), direction))
    pair.responder.handle_timeout(0.0)
    is_broken(pair.responder, "other protection")
