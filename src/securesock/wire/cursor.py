"""A bounded reader and a growing writer, for formats whose speed does not matter.

Every read checks what is left and raises WireError naming the thing that was being
read, so that a parser built on it cannot overrun.  The parsers that run for each
handshake use Struct.unpack_from on their own instead; the rules are the same.
All integers are big-endian unless the method says otherwise.
"""

from __future__ import annotations

import struct

from ..errors import WireError

__all__ = ["Reader", "Writer"]

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")


class Reader:
    """Reads ``buffer`` from its start; ``what`` names it in errors.

    A failed read raises WireError and consumes nothing.
    """

    __slots__ = ("_buffer", "_end", "_offset", "_what")

    def __init__(self, buffer: bytes, what: str) -> None:
        self._buffer = buffer
        self._what = what
        self._offset = 0
        self._end = len(buffer)

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return self._end - self._offset

    def read_u8(self) -> int:
        """One octet."""
        return self._buffer[self._take(1)]

    def read_u16(self) -> int:
        """Two octets."""
        value: int = _U16.unpack_from(self._buffer, self._take(2))[0]
        return value

    def read_u32(self) -> int:
        """Four octets."""
        value: int = _U32.unpack_from(self._buffer, self._take(4))[0]
        return value

    def read_u64(self) -> int:
        """Eight octets."""
        value: int = _U64.unpack_from(self._buffer, self._take(8))[0]
        return value

    def read_bytes(self, length: int) -> bytes:
        """Exactly ``length`` bytes, as a copy."""
        start = self._take(length)
        return self._buffer[start : start + length]

    def read_rest(self) -> bytes:
        """Everything that is left, which may be nothing."""
        return self.read_bytes(self.remaining)

    def expect_end(self) -> None:
        """WireError if anything is left."""
        if self._offset != self._end:
            raise WireError(f"{self._what}: {self.remaining} bytes too many")

    def _take(self, length: int) -> int:
        start = self._offset
        if length < 0 or length > self._end - start:
            raise WireError(f"{self._what}: {length} bytes wanted, {self._end - start} left")
        self._offset = start + length
        return start


class Writer:
    """Appends to a bytearray.  A number that does not fit its field is a WireError."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def __len__(self) -> int:
        return len(self._buffer)

    def write_u8(self, value: int) -> None:
        """One octet."""
        self._append(value, 1)

    def write_u16(self, value: int) -> None:
        """Two octets."""
        self._append(value, 2)

    def write_u32(self, value: int) -> None:
        """Four octets."""
        self._append(value, 4)

    def write_u64(self, value: int) -> None:
        """Eight octets."""
        self._append(value, 8)

    def write_bytes(self, value: bytes) -> None:
        """``value`` as it is, without a length."""
        self._buffer += value

    def to_bytes(self) -> bytes:
        """All that was written."""
        return bytes(self._buffer)

    def _append(self, value: int, length: int) -> None:
        try:
            self._buffer += value.to_bytes(length, "big")
        except OverflowError:
            raise WireError(f"{value} does not fit {length} bytes") from None
