"""The inner segment: known bytes, and every field that must be what it must be."""

from __future__ import annotations

import pytest

from securesock.errors import WireError
from securesock.wire.segment import (
    FIN_ACK,
    PSH_ACK,
    RST,
    SEGMENT_HEADER,
    read_segment_header,
    write_segment_header_into,
)

KNOWN = bytes.fromhex("d431 1388 fffffff0 00000000 50 18 0000 0000 0000")


def test_known_bytes_both_ways() -> None:
    buffer = bytearray(b"\xff" * 24)
    write_segment_header_into(buffer, 4, 0xD431, 5000, 0xFFFFFFF0, PSH_ACK)
    assert bytes(buffer) == b"\xff" * 4 + KNOWN
    assert read_segment_header(memoryview(buffer)[4:]) == (0xD431, 5000, 0xFFFFFFF0, PSH_ACK)
    assert read_segment_header(buffer, 4) == (0xD431, 5000, 0xFFFFFFF0, PSH_ACK)


def test_flags_are_those_of_rfc9293() -> None:
    # RFC 9293 3.1: FIN 1, SYN 2, RST 4, PSH 8, ACK 16
    assert (PSH_ACK, FIN_ACK, RST) == (8 | 16, 1 | 16, 4)


@pytest.mark.parametrize("flags", range(256))
def test_only_three_sets_of_flags_are_read(flags: int) -> None:
    raw = SEGMENT_HEADER.pack(1, 2, 3, 0, 0x50, flags, 0, 0, 0)
    if flags in (PSH_ACK, FIN_ACK, RST):
        assert read_segment_header(raw) == (1, 2, 3, flags)
    else:
        with pytest.raises(WireError):
            read_segment_header(raw)


@pytest.mark.parametrize("bit", range(64, 160))
def test_every_bit_behind_the_sequence_number_counts(bit: int) -> None:
    raw = bytearray(KNOWN)
    raw[bit // 8] ^= 0x80 >> bit % 8
    with pytest.raises(WireError):
        read_segment_header(raw)


@pytest.mark.parametrize("length", range(20))
def test_truncated_header_is_refused(length: int) -> None:
    with pytest.raises(WireError):
        read_segment_header(KNOWN[:length])
    with pytest.raises(WireError):
        read_segment_header(b"\0" * 7 + KNOWN[:length], 7)
