"""The 28-byte header that IKEv1, IKEv2 and AuthIP share (RFC 7296 3.1, RFC 2408 3.1).

It is read first, because its version and exchange type say which parser the rest
belongs to.  No value is judged here but the length: an unknown version must reach
the machine that answers INVALID_MAJOR_VERSION, and an initiator SPI of zero is
allowed in one case (RFC 7296 1.5).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from ..errors import WireError

__all__ = ["HEADER", "HEADER_LENGTH", "IKEV2_VERSION", "IkeHeader", "read_header_untrusted"]

HEADER: Final = struct.Struct(">8s8sBBBBII")
HEADER_LENGTH: Final = 28

IKEV2_VERSION: Final = 0x20
"""Major 2 in the high nibble, minor 0."""


class IkeHeader(NamedTuple):
    """RFC 7296 3.1.  Both SPIs are 8 bytes, ``length`` counts header and payloads."""

    initiator_spi: bytes
    responder_spi: bytes
    next_payload: int
    version: int
    exchange_type: int
    flags: int
    message_id: int
    length: int

    @property
    def major_version(self) -> int:
        """1 for IKEv1 and AuthIP, 2 for IKEv2."""
        return self.version >> 4


def read_header_untrusted(datagram: bytes) -> IkeHeader:
    """The header of one IKE message; WireError unless it is whole and Length is the datagram's length.

    ``datagram`` is one message without non-ESP marker or framing.
    """
    if len(datagram) < HEADER_LENGTH:
        raise WireError(f"IKE header: {HEADER_LENGTH} bytes wanted, {len(datagram)} there")
    header = IkeHeader._make(HEADER.unpack_from(datagram))
    if header.length != len(datagram):
        raise WireError(f"IKE header: Length is {header.length}, the message has {len(datagram)} bytes")
    return header
