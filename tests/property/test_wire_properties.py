"""Values of every kind written and read back, streams cut anywhere, hostile input that costs no more than its size."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.registry import load_targets
from securesock.errors import WireError
from securesock.wire.ikev2.message import (
    MAX_TOTAL_FRAGMENTS,
    Encrypted,
    parse_message_untrusted,
    parse_payloads,
    write_message,
    write_payloads,
    write_sk_prefix,
    write_skf_prefix,
)
from securesock.wire.ikev2.payloads import (
    Authentication,
    Certificate,
    CertificateRequest,
    Configuration,
    Delete,
    Eap,
    Identification,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    Proposal,
    SecurityAssociation,
    TrafficSelector,
    TrafficSelectors,
    Transform,
    UnknownPayload,
    UnknownTrafficSelector,
    VendorId,
)
from securesock.wire.ikev2.proposals import KEY_LENGTH_ATTRIBUTE
from securesock.wire.numbers import PayloadType
from securesock.wire.tcp_encapsulation import Frame, FrameReader, write_esp_frame, write_ike_frame

u8, u16, u32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
spi = st.binary(min_size=8, max_size=8)
small = st.binary(max_size=40)

attributes = st.lists(
    st.tuples(st.integers(0, 0x7FFF), small)
    | st.tuples(
        st.integers(0x8000, KEY_LENGTH_ATTRIBUTE - 1) | st.integers(KEY_LENGTH_ATTRIBUTE + 1, 0xFFFF),
        st.binary(min_size=2, max_size=2),
    ),
    max_size=3,
).map(tuple)
transforms = st.lists(
    st.builds(Transform, u8, u16, st.none() | u16, st.just(()) | attributes), min_size=1, max_size=12
).map(tuple)


@st.composite
def security_associations(draw: st.DrawFn) -> SecurityAssociation:
    first = draw(st.integers(0, 200))
    proposals = []
    for index in range(draw(st.integers(1, 4))):
        protocol = draw(u8)
        lengths = {1: (0, 8), 2: (4,), 3: (4,)}.get(protocol, tuple(range(20)))
        length = draw(st.sampled_from(lengths))
        proposals.append(
            Proposal(first + index, protocol, draw(st.binary(min_size=length, max_size=length)), draw(transforms))
        )
    return SecurityAssociation(tuple(proposals))


def range_selectors(ts_type: int, length: int) -> st.SearchStrategy[TrafficSelector]:
    address = st.binary(min_size=length, max_size=length)
    return st.builds(TrafficSelector, st.just(ts_type), u8, u16, u16, address, address)


unknown_selectors = st.builds(UnknownTrafficSelector, st.sampled_from(sorted(set(range(256)) - {7, 8})), u8, small)
selectors = st.lists(range_selectors(7, 4) | range_selectors(8, 16) | unknown_selectors, min_size=1, max_size=5)

unknown_types = st.sampled_from(sorted(set(range(1, 256)) - set(range(33, 49)) - {53}))
payloads: st.SearchStrategy[Payload] = st.one_of(
    security_associations(),
    st.builds(KeyExchange, u16, small),
    st.builds(Identification, st.sampled_from((35, 36)), u8, small),
    st.builds(Certificate, u8, small),
    st.builds(CertificateRequest, u8, small),
    st.builds(Authentication, u8, small),
    st.builds(Nonce, st.binary(min_size=16, max_size=256)),
    st.builds(Notify, u16, small, st.just(0), st.just(b"")),
    st.builds(Notify, u16, small, u8, st.binary(min_size=1, max_size=255)),
    st.builds(Delete, u8, st.just(())),
    st.builds(Delete, st.sampled_from((2, 3)), st.lists(st.binary(min_size=4, max_size=4), max_size=5).map(tuple)),
    st.builds(VendorId, small),
    st.builds(TrafficSelectors, st.sampled_from((44, 45)), selectors.map(tuple)),
    st.builds(lambda code, rest: Eap(bytes((code, 0)) + (4 + len(rest)).to_bytes(2, "big") + rest), u8, small),
    st.builds(Configuration, u8, st.lists(st.tuples(st.integers(0, 0x7FFF), small), max_size=5).map(tuple)),
    st.builds(UnknownPayload, unknown_types, st.booleans(), small),
)
chains = st.lists(payloads, max_size=8).map(tuple)


@given(chains)
def test_payloads_are_read_as_written(chain: tuple[Payload, ...]) -> None:
    first, raw = write_payloads(chain)
    parsed = parse_payloads(first, raw)
    assert parsed == chain
    assert [type(payload) for payload in parsed] == [type(payload) for payload in chain]
    assert write_payloads(parsed) == (first, raw)


@given(spi, spi, u8, u8, u32, chains)
def test_messages_are_read_as_written(
    initiator: bytes, responder: bytes, exchange: int, flags: int, message_id: int, chain: tuple[Payload, ...]
) -> None:
    raw = write_message(initiator, responder, exchange, flags, message_id, chain)
    header, parsed, encrypted = parse_message_untrusted(raw)
    assert (parsed, encrypted) == (chain, None)
    assert header[:2] == (initiator, responder)
    assert header[3:] == (0x20, exchange, flags, message_id, len(raw))
    assert write_message(header[0], header[1], header[4], header[5], header[6], parsed) == raw


@given(spi, spi, u8, u8, u32, u8, small, st.integers(1, MAX_TOTAL_FRAGMENTS), st.integers(1, MAX_TOTAL_FRAGMENTS))
def test_encrypted_payloads_are_found_where_they_were_written(
    initiator: bytes,
    responder: bytes,
    exchange: int,
    flags: int,
    message_id: int,
    inner: int,
    body: bytes,
    number: int,
    total: int,
) -> None:
    fields = (initiator, responder, exchange, flags, message_id, inner, len(body))
    whole = write_sk_prefix(*fields)
    assert parse_message_untrusted(whole + body).encrypted == Encrypted(inner, len(whole))
    number, total = sorted((number, total))
    fragment = write_skf_prefix(*fields, number, total)
    expected = Encrypted(inner if number == 1 else 0, len(fragment), number, total)
    assert parse_message_untrusted(fragment + body).encrypted == expected


@given(st.lists(st.tuples(u8, u8, st.binary(max_size=64)), max_size=12), u8)
def test_any_chain_of_right_lengths_parses_or_is_refused(bodies: list[tuple[int, int, bytes]], first: int) -> None:
    following = [number for number, _, _ in bodies[1:]] + [0]
    raw = b"".join(
        bytes((next_type, flags)) + (4 + len(body)).to_bytes(2, "big") + body
        for next_type, (_, flags, body) in zip(following, bodies, strict=False)
    )
    parse_chain = load_targets()["ikev2_payload_chain"]
    parse_chain.run(bytes((bodies[0][0] if bodies else first,)) + raw)
    assert parse_chain.run(b"\x28" + bytes.fromhex("00000014") + bytes(16)), (
        "what came before has left something behind"
    )


@given(st.binary(max_size=300))
def test_no_message_parses_cut_or_extended(junk: bytes) -> None:
    raw = write_message(bytes(8), bytes(8), 34, 8, 0, (KeyExchange(31, bytes(32)), Nonce(bytes(32)), VendorId(b"v")))
    for damaged in (raw[: len(junk) % len(raw)], raw + junk):
        if damaged != raw:
            with pytest.raises(WireError):
                parse_message_untrusted(damaged)


@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=60)), max_size=8), st.data())
def test_frames_survive_any_cutting_of_the_stream(contents: list[tuple[bool, bytes]], data: st.DataObject) -> None:
    frames = [Frame(is_ike, content if is_ike else b"\0\0\1\0" + content) for is_ike, content in contents]
    stream = b"IKETCP" + b"".join(
        write_ike_frame(frame.content) if frame.is_ike else write_esp_frame(frame.content) for frame in frames
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader = FrameReader(expect_prefix=True)
    received = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        assert reader.feed(stream[start:end]) == end - start
        while (frame := reader.poll_frame()) is not None:
            received.append(frame)
    assert received == frames


def _repeated(unit: str, head: str = "") -> bytes:
    start, piece = bytes.fromhex(head), bytes.fromhex(unit)
    return start + piece * ((65531 - len(start)) // len(piece))


@pytest.mark.parametrize(
    ("payload_type", "body"),
    [
        (PayloadType.SA, _repeated("02000010 01010001 00000008 02000005")),
        (PayloadType.SA, _repeated("03000008 02000005", "0000fff8 010100ff")),
        (PayloadType.SA, _repeated("80200000", "0000fff8 01010001 0000fff0 01000001")),
        (PayloadType.DELETE, _repeated("01", "0301fff7")),
        (PayloadType.DELETE, b"\x03\x04\x3f\xfd" + bytes(65524)),
        (PayloadType.TSi, _repeated("0a000004", "ff000000")),
        (PayloadType.CP, _repeated("00010000", "01000000")),
    ],
)
def test_the_smallest_pieces_in_the_largest_payload_cost_no_more_than_its_size(payload_type: int, body: bytes) -> None:
    raw = b"\0\0" + (4 + len(body)).to_bytes(2, "big") + body
    # Milliseconds where the cost is linear, minutes where it is not: the bound needs no quiet machine.
    assert _seconds_for(lambda: parse_payloads(payload_type, raw)) < 1


def test_the_smallest_payloads_in_the_largest_message_cost_no_more_than_its_size() -> None:
    raw = b"\x2b\0\0\4" * 16000
    assert _seconds_for(lambda: parse_payloads(PayloadType.VENDOR_ID, raw)) < 1


def _seconds_for(parse: Callable[[], object]) -> float:
    started = time.perf_counter()
    with pytest.raises(WireError):
        parse()
    return time.perf_counter() - started
