"""ESP header and trailer: RFC 4303 2.4's padding, and what is refused."""

from __future__ import annotations

import pytest

from securesock.errors import WireError
from securesock.wire.esp import (
    FIRST_SPI,
    MAX_SEQUENCE_32,
    MAX_SEQUENCE_64,
    NEXT_HEADER_DUMMY,
    NEXT_HEADER_IPV4,
    NEXT_HEADER_IPV6,
    NEXT_HEADER_TCP,
    NEXT_HEADER_UDP,
    PADDING,
    TCP_TRAILERS,
    pad_length_for,
    read_esp_header_untrusted,
    read_trailer,
    write_trailer,
)
from securesock.wire.numbers import IpProtocol


def test_header_of_rfc7634_appendix_a() -> None:
    assert read_esp_header_untrusted(bytes.fromhex("0102030400000005 1011121314151617")) == (0x01020304, 5)
    assert read_esp_header_untrusted(bytes.fromhex("00000001 ffffffff")) == (1, 0xFFFFFFFF)


@pytest.mark.parametrize("text", ["", "01020304000000", "0000000000000005"])
def test_short_packets_and_spi_0_are_refused(text: str) -> None:
    with pytest.raises(WireError):
        read_esp_header_untrusted(bytes.fromhex(text))


def test_trailer_of_rfc7634_appendix_a() -> None:
    # an 84-byte IPv4 packet, padding to 4 bytes: 01 02 02 04
    assert pad_length_for(84, 4) == 2
    assert write_trailer(2, NEXT_HEADER_IPV4) == bytes.fromhex("01020204")


@pytest.mark.parametrize("alignment", [4, 16])
@pytest.mark.parametrize("length", range(40))
def test_trailer_aligns_and_is_read_back(length: int, alignment: int) -> None:
    pad_length = pad_length_for(length, alignment)
    assert 0 <= pad_length < alignment
    plaintext = b"p" * length + TCP_TRAILERS[pad_length]
    assert len(plaintext) % alignment == 0
    for view in (plaintext, bytearray(plaintext), memoryview(plaintext)):
        assert read_trailer(view) == (length, NEXT_HEADER_TCP)


@pytest.mark.parametrize("pad_length", range(256))
def test_any_padding_length_is_read(pad_length: int) -> None:
    assert read_trailer(b"data" + write_trailer(pad_length, NEXT_HEADER_DUMMY)) == (4, NEXT_HEADER_DUMMY)


@pytest.mark.parametrize("position", range(5))
def test_padding_other_than_1_2_3_is_refused(position: int) -> None:
    padding = bytearray(PADDING[5])
    padding[position] ^= 1
    with pytest.raises(WireError, match="padding"):
        read_trailer(memoryview(b"data" + padding + bytes((5, 6))))


def test_packet_of_nothing_but_a_trailer_is_read() -> None:
    assert read_trailer(bytes.fromhex("003b")) == (0, NEXT_HEADER_DUMMY)
    assert read_trailer(bytes.fromhex("0102023b")) == (0, NEXT_HEADER_DUMMY)


def test_numbers_of_the_standards() -> None:
    # RFC 4303 2.1 reserves SPIs up to 255; 3.3.3 ends an SA at the last number of its counter
    assert (FIRST_SPI, MAX_SEQUENCE_32, MAX_SEQUENCE_64) == (0x100, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
    # IANA "Assigned Internet Protocol Numbers"
    numbers = (NEXT_HEADER_IPV4, NEXT_HEADER_TCP, NEXT_HEADER_UDP, NEXT_HEADER_IPV6, NEXT_HEADER_DUMMY)
    assert numbers == (IpProtocol.IPV4, IpProtocol.TCP, IpProtocol.UDP, IpProtocol.IPV6, IpProtocol.NO_NEXT_HEADER)
    assert numbers == (4, 6, 17, 41, 59)


@pytest.mark.parametrize("text", ["", "06", "0106", "01020306"])
def test_trailer_beyond_the_packet_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        read_trailer(bytes.fromhex(text))
