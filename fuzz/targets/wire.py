"""The parsers of securesock.wire.

Where a value can be written again, it must be: what was written parses to the same value, and writing that gives
the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable

from fuzz.registry import fuzz_target
from securesock.errors import WireError
from securesock.wire.eap import (
    parse_eap_untrusted,
    parse_mschap_untrusted,
    parse_tls_data_untrusted,
    write_eap,
    write_mschap,
    write_tls_data,
)
from securesock.wire.esp import read_esp_header_untrusted, read_trailer, write_trailer
from securesock.wire.ikev2.bodies import BODY_PARSERS
from securesock.wire.ikev2.message import parse_message_untrusted, parse_payloads, write_message, write_payloads
from securesock.wire.ikev2.payloads import Payload
from securesock.wire.inet import UDP_HEADER_LENGTH, read_ip_header, read_udp_header
from securesock.wire.isakmp import read_header_untrusted
from securesock.wire.numbers import PayloadType
from securesock.wire.segment import SEGMENT_HEADER_LENGTH, read_segment_header, write_segment_header_into
from securesock.wire.tcp_encapsulation import (
    MAX_FRAME_BEFORE_AUTHENTICATION,
    STREAM_PREFIX,
    FrameReader,
    write_esp_frame,
    write_ike_frame,
)
from securesock.wire.udp_encapsulation import classify_datagram_untrusted


class Inconsistent(Exception):
    """A parser and its writer disagree."""


def expect(condition: bool, what: object) -> None:
    if not condition:
        raise Inconsistent(what)


def expect_written_again(payloads: tuple[Payload, ...]) -> None:
    try:
        first, chain = write_payloads(payloads)
    except WireError as error:
        raise Inconsistent(f"parsed, but cannot be written: {payloads}") from error
    again = parse_payloads(first, chain)
    expect(again == payloads and [*map(type, again)] == [*map(type, payloads)], (payloads, again))
    expect(write_payloads(again) == (first, chain), payloads)


@fuzz_target()
def ike_header(data: bytes) -> None:
    expect(read_header_untrusted(data).length == len(data), "Length")


@fuzz_target()
def ikev2_message(data: bytes) -> None:
    message = parse_message_untrusted(data)
    expect_written_again(message.payloads)
    if message.encrypted is not None:
        expect(32 <= message.encrypted.offset <= len(data), message.encrypted)


@fuzz_target(seeds_of="ikev2_message")
def ikev2_message_with_right_length(data: bytes) -> None:
    """Version and Length are put right, so that a mutation gets past the header."""
    if len(data) < 28:
        raise WireError("no header")
    ikev2_message(data[:17] + b"\x20" + data[18:24] + len(data).to_bytes(4, "big") + data[28:])


@fuzz_target()
def ikev2_payload_chain(data: bytes) -> None:
    """The first byte is the type of the first payload."""
    payloads = parse_payloads(data[0] if data else 0, data[1:])
    expect_written_again(payloads)
    written = write_message(bytes(8), bytes(8), 34, 8, 0, payloads)
    expect(parse_message_untrusted(written).payloads == payloads, payloads)


def register_body(payload_type: int, parse: Callable[[bytes], Payload]) -> None:
    @fuzz_target(name=f"ikev2_body_{PayloadType(payload_type).name}")
    def body(data: bytes) -> None:
        expect_written_again((parse(data),))


for number, parser in BODY_PARSERS.items():
    register_body(number, parser)


@fuzz_target()
def segment_header(data: bytes) -> None:
    fields = read_segment_header(memoryview(data))
    again = bytearray(SEGMENT_HEADER_LENGTH)
    write_segment_header_into(again, 0, *fields)
    expect(again == data[:SEGMENT_HEADER_LENGTH], fields)


@fuzz_target()
def esp_header(data: bytes) -> None:
    read_esp_header_untrusted(data)


@fuzz_target()
def esp_trailer(data: bytes) -> None:
    length, next_header = read_trailer(memoryview(data))
    pad_length = len(data) - 2 - length
    expect(write_trailer(pad_length, next_header) == data[length:], (length, next_header))


@fuzz_target()
def frame_reader(data: bytes) -> None:
    """The first byte says whether a prefix is expected and in which steps the others arrive."""
    if not data:
        return
    expect_prefix, steps, stream = bool(data[0] & 1), 1 + (data[0] >> 1), data[1:]
    reader = FrameReader(expect_prefix=expect_prefix)
    written, offset = b"", 0
    while offset < len(stream):
        offset += reader.feed(stream[offset : offset + steps])
        expect(reader.buffered <= MAX_FRAME_BEFORE_AUTHENTICATION, "kept more than the limit")
        while (frame := reader.poll_frame()) is not None:
            written += write_ike_frame(frame.content) if frame.is_ike else write_esp_frame(frame.content)
    prefix = STREAM_PREFIX if expect_prefix and len(stream) >= len(STREAM_PREFIX) else b""
    expect(stream == prefix + written + reader.take_rest(), "bytes lost or invented")


@fuzz_target()
def udp_encapsulation(data: bytes) -> None:
    expect(classify_datagram_untrusted(data) == classify_datagram_untrusted(memoryview(data)), data)


@fuzz_target()
def ip_header(data: bytes) -> None:
    header = read_ip_header(memoryview(data))
    expect(20 <= header.payload_offset <= header.end <= len(data), header)


@fuzz_target()
def udp_header(data: bytes) -> None:
    expect(UDP_HEADER_LENGTH <= read_udp_header(memoryview(data))[2] <= len(data), "end of data")


@fuzz_target()
def eap_packet(data: bytes) -> None:
    packet = parse_eap_untrusted(data)
    expect(write_eap(packet) == data, packet)


@fuzz_target()
def eap_mschapv2(data: bytes) -> None:
    """The first byte says whether it is a request; what was parsed can be written and says the same then."""
    if not data:
        return
    is_request = bool(data[0] & 1)
    chap_id, value = parse_mschap_untrusted(data[1:], is_request=is_request)
    again = parse_mschap_untrusted(write_mschap(chap_id, value, is_request=is_request), is_request=is_request)
    expect(again == (chap_id, value), value)


@fuzz_target()
def eap_tls(data: bytes) -> None:
    piece = parse_tls_data_untrusted(data)
    expect(parse_tls_data_untrusted(write_tls_data(piece)) == piece, piece)
