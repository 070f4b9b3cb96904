"""The inner TCP segment of the stream plane: a 20-byte header and data, sealed in one ESP packet.

It looks like TCP (RFC 9293 3.1) so that what the selectors say, protocol and ports,
stands in each packet and is checked there.  It carries a reliable stream inside of
a reliable stream, so most of TCP has no meaning: the data offset is always 5, the
flags are one of three sets, and acknowledgement, window, checksum (the ICV covers
the segment) and urgent pointer are zero.  Anything else is an error, not ignored.

Which sequence number, ports and flags are right at this moment is the plane's to say.
"""

from __future__ import annotations

import struct
from typing import Final

from ..errors import WireError

__all__ = [
    "FIN_ACK",
    "PSH_ACK",
    "RST",
    "SEGMENT_HEADER",
    "SEGMENT_HEADER_LENGTH",
    "read_segment_header",
    "write_segment_header_into",
]

SEGMENT_HEADER: Final = struct.Struct(">HHIIBBHHH")
"""Ports, sequence, acknowledgement, data offset, flags, window, checksum, urgent pointer."""

SEGMENT_HEADER_LENGTH: Final = 20

PSH_ACK: Final = 0x18
"""Data."""

FIN_ACK: Final = 0x11
"""The authenticated end of the stream."""

RST: Final = 0x04
"""Abort."""

_DATA_OFFSET: Final = 5 << 4
_ALLOWED_FLAGS: Final = frozenset((PSH_ACK, FIN_ACK, RST))


def write_segment_header_into(
    buffer: bytearray | memoryview, offset: int, our_port: int, peer_port: int, sequence32: int, flags: int
) -> None:
    """Writes 20 bytes at ``offset``.  ``sequence32`` is the stream offset of the first byte modulo 2**32."""
    SEGMENT_HEADER.pack_into(buffer, offset, our_port, peer_port, sequence32, 0, _DATA_OFFSET, flags, 0, 0, 0)


def read_segment_header(view: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int, int, int]:
    """(source port, destination port, sequence modulo 2**32, flags) of the segment at ``offset``.

    WireError unless 20 bytes are there and each field is as the module says.
    """
    if len(view) - offset < SEGMENT_HEADER_LENGTH:
        raise WireError(f"segment: {len(view) - offset} bytes")
    source, destination, sequence32, acknowledgement, data_offset, flags, window, checksum, urgent = (
        SEGMENT_HEADER.unpack_from(view, offset)
    )
    if data_offset != _DATA_OFFSET or flags not in _ALLOWED_FLAGS or acknowledgement or window or checksum or urgent:
        raise WireError(
            f"segment: data offset {data_offset:#04x}, flags {flags:#04x}, acknowledgement {acknowledgement}, "
            f"window {window}, checksum {checksum}, urgent pointer {urgent}"
        )
    return source, destination, sequence32, flags
