"""IKE and ESP on one TCP connection (RFC 9329 3): a prefix once, then frames.

    initiator, once:  "IKETCP"
    each frame:       length (2, counting itself) | 0000 0000 | IKE message
                      length (2, counting itself) | ESP packet, whose SPI is not 0

A length that cannot hold the marker or an SPI (0 to 5) ends the connection before
anything else is read, and so does a frame longer than the limit of the moment.
FrameReader serves a connection until it is authenticated, and tests; the established
stream reads frames in its own loop.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from ..errors import WireError

__all__ = [
    "FRAME_LENGTH",
    "FRAME_LENGTH_SIZE",
    "MAX_FRAME",
    "MAX_FRAME_BEFORE_AUTHENTICATION",
    "MIN_FRAME",
    "NON_ESP_MARKER",
    "STREAM_PREFIX",
    "Frame",
    "FrameReader",
    "write_esp_frame",
    "write_ike_frame",
]

STREAM_PREFIX: Final = b"IKETCP"
"""Sent by the initiator before its first frame (RFC 9329 3.1)."""

NON_ESP_MARKER: Final = bytes(4)
"""Where an ESP packet has its SPI, which is never 0."""

FRAME_LENGTH: Final = struct.Struct(">H")
FRAME_LENGTH_SIZE: Final = 2

MIN_FRAME: Final = 6
"""Length, and marker or SPI.  The only shorter frame that anybody sends is a NAT keepalive (3), which TCP has no use
for and ends of ours never send."""

MAX_FRAME: Final = 65535
"""What 16 bits can say, the length itself included."""

MAX_FRAME_BEFORE_AUTHENTICATION: Final = 16384
"""A stranger's message: an IKE_AUTH with four RSA-4096 certificates takes half of it, and it bounds what a half-open
connection can make us keep."""


class Frame(NamedTuple):
    """``content`` is an IKE message without marker, or a whole ESP packet."""

    is_ike: bool
    content: bytes


def write_ike_frame(message: bytes) -> bytes:
    """Length, marker and one IKE message; WireError beyond 65529 bytes of message."""
    length = MIN_FRAME + len(message)
    if length > MAX_FRAME:
        raise WireError(f"frame: an IKE message of {len(message)} bytes does not fit")
    return FRAME_LENGTH.pack(length) + NON_ESP_MARKER + message


def write_esp_frame(packet: bytes) -> bytes:
    """Length and one ESP packet; WireError beyond 65533 bytes, or for a packet whose SPI is 0 or missing."""
    length = FRAME_LENGTH_SIZE + len(packet)
    if not MIN_FRAME <= length <= MAX_FRAME:
        raise WireError(f"frame: an ESP packet of {len(packet)} bytes does not fit")
    if packet[:4] == NON_ESP_MARKER:
        raise WireError("frame: an ESP packet with SPI 0")
    return FRAME_LENGTH.pack(length) + packet


class FrameReader:
    """Cuts a byte stream into frames, never keeping more than one frame's limit.

    ``expect_prefix``: the peer is the initiator, whose stream begins with "IKETCP".  After a WireError the reader is
    dead: every further call raises the same.
    """

    __slots__ = ("_buffer", "_error", "_expect_prefix", "_limit")

    def __init__(self, *, expect_prefix: bool, limit: int = MAX_FRAME_BEFORE_AUTHENTICATION) -> None:
        self._buffer = bytearray()
        self._expect_prefix = expect_prefix
        self._limit = limit
        self._error: WireError | None = None

    @property
    def buffered(self) -> int:
        """Bytes kept."""
        return len(self._buffer)

    def raise_limit(self, limit: int) -> None:
        """After authentication, to MAX_FRAME: longer frames are legal from here on."""
        self._limit = max(self._limit, limit)

    def feed(self, data: bytes | bytearray | memoryview) -> int:
        """Takes as many bytes as there is room for and returns how many; the caller keeps the others.

        0 with a full buffer never lasts: poll_frame then has a frame, or raises.
        """
        if self._error is not None:
            raise self._error
        taken = min(len(data), self._limit - len(self._buffer))
        self._buffer += data[:taken]
        return taken

    def poll_frame(self) -> Frame | None:
        """The next whole frame, or None.  WireError as soon as the bytes there cannot become one."""
        if self._error is not None:
            raise self._error
        try:
            return self._next_frame()
        except WireError as error:
            self._error = error
            self._buffer.clear()
            raise

    def take_rest(self) -> bytes:
        """What was fed and not yet returned as a frame, for a reader that takes over; this one is empty then."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _next_frame(self) -> Frame | None:
        buffer = self._buffer
        if self._expect_prefix:
            start = buffer[: len(STREAM_PREFIX)]
            if not STREAM_PREFIX.startswith(start):
                raise WireError("stream: it does not begin with IKETCP")
            if len(start) < len(STREAM_PREFIX):
                return None
            del buffer[: len(STREAM_PREFIX)]
            self._expect_prefix = False
        if len(buffer) < FRAME_LENGTH_SIZE:
            return None
        length: int = FRAME_LENGTH.unpack_from(buffer)[0]
        if length < MIN_FRAME:
            raise WireError(f"frame: length {length}")
        if length > self._limit:
            raise WireError(f"frame: length {length}, at most {self._limit} allowed now")
        if len(buffer) < length:
            return None
        is_ike = buffer[FRAME_LENGTH_SIZE:MIN_FRAME] == NON_ESP_MARKER
        frame = Frame(is_ike, bytes(buffer[MIN_FRAME if is_ike else FRAME_LENGTH_SIZE : length]))
        del buffer[:length]
        return frame
