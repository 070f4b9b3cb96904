"""The bounded reader and the writer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from securesock.errors import WireError
from securesock.wire.cursor import Reader, Writer
from securesock.wire.numbers import NotifyType, name_of

RAW = bytes.fromhex("01 0203 04050607 08090a0b0c0d0e0f 616263")


def test_read_as_written() -> None:
    writer = Writer()
    writer.write_u8(1)
    writer.write_u16(0x0203)
    writer.write_u32(0x04050607)
    writer.write_u64(0x08090A0B0C0D0E0F)
    writer.write_bytes(b"abc")
    assert writer.to_bytes() == RAW
    assert len(writer) == len(RAW)
    reader = Reader(RAW, "sample")
    assert reader.read_u8() == 1
    assert reader.read_u16() == 0x0203
    assert reader.read_u32() == 0x04050607
    assert reader.read_u64() == 0x08090A0B0C0D0E0F
    assert reader.read_bytes(1) == b"a"
    assert reader.remaining == 2
    assert reader.read_rest() == b"bc"
    reader.expect_end()


@pytest.mark.parametrize("read", [Reader.read_u8, Reader.read_u16, Reader.read_u32, Reader.read_u64])
def test_overrun_names_what_was_read_and_consumes_nothing(read: Callable[[Reader], int]) -> None:
    reader = Reader(b"", "sample")
    with pytest.raises(WireError, match="sample"):
        read(reader)
    assert reader.remaining == 0


@pytest.mark.parametrize("length", [4, -1])
def test_lengths_beyond_the_buffer_or_below_zero_are_refused(length: int) -> None:
    reader = Reader(b"abc", "sample")
    with pytest.raises(WireError):
        reader.read_bytes(length)
    assert reader.read_rest() == b"abc"


def test_overrun_behind_what_was_read_is_refused() -> None:
    reader = Reader(b"abcd", "sample")
    assert reader.read_u16() == 0x6162
    with pytest.raises(WireError, match="4 bytes wanted, 2 left"):
        reader.read_u32()
    with pytest.raises(WireError):
        reader.read_bytes(3)
    assert reader.read_bytes(0) == b""
    assert reader.read_rest() == b"cd"
    assert reader.read_rest() == b""


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(WireError, match="3 bytes too many"):
        Reader(b"abc", "sample").expect_end()


@pytest.mark.parametrize("value", [-1, 256])
def test_numbers_that_do_not_fit_are_not_written(value: int) -> None:
    with pytest.raises(WireError):
        Writer().write_u8(value)


def test_numbers_are_named_known_or_not() -> None:
    assert name_of(NotifyType, 16390) == "COOKIE"
    assert name_of(NotifyType, 40001) == "UNKNOWN_40001"
