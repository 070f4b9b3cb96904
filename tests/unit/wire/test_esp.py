"""ESP header and trailer: RFC 4303 2.4's padding, and what is refused."""

from __future__ import annotations

import pytest

from securesock.errors import WireError
from securesock.wire.esp import (
    NEXT_HEADER_DUMMY,
    NEXT_HEADER_IPV4,
    NEXT_HEADER_TCP,
    PADDING,
    TCP_TRAILERS,
    pad_length_for,
    read_esp_header_untrusted,
    read_trailer,
    write_trailer,
)


def test_header_of_rfc7634_appendix_a() -> None:
    assert read_esp_header_untrusted(bytes.fromhex("0102030400000005 1011121314151617")) == (0x01020304, 5)


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


@pytest.mark.parametrize("text", ["", "06", "0106", "01020306"])
def test_trailer_beyond_the_packet_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        read_trailer(bytes.fromhex(text))
