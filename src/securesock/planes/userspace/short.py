"""The short way of a small message: one frame, out of place, in one function a side.

A message of 64 bytes is a hundredth of a full frame's cryptography, and on the ordinary
way as many Python steps as one.  So each side keeps how far (packets, bytes, time) nothing
but data has to be looked at.  Up to there a message needs a few comparisons, and every
check that the ordinary way makes of the packet itself.

Anything else is left to the ordinary way, which begins anew with the same bytes: here
nothing changes before all is well.  Who seals holds the write lock, who opens the read
lock, as on the ordinary way.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag

from ...sad.entries import InboundSa, OutboundSa
from ...wire.esp import TCP_TRAILERS
from ...wire.segment import SEGMENT_HEADER_LENGTH
from ...wire.tcp_encapsulation import FRAME_LENGTH_SIZE
from .frame import (
    DATA_FIELDS,
    FRAME_HEADER,
    FRAME_HEADER_LENGTH,
    LEAST_PLAINTEXT,
    LOW_32,
    SEGMENT_WORDS,
    opening_shape,
    sealing_shape,
)
from .link import KeyingLink
from .open import Opener
from .seal import Sealer

__all__ = ["MAX_MESSAGE", "ShortOpening", "ShortSealing"]

MAX_MESSAGE: Final = 4096
"""Up to here copying a message about costs less than a buffer from the pool and slices of it."""


_Sealing: TypeAlias = tuple[OutboundSa, Callable[[bytes, bytes, int], bytes], bytes, int, int]
"""What a message needs of an SA, in one piece: the SA; seal_bytes of its cipher; SPI; ports; alignment."""
_Opening: TypeAlias = tuple[InboundSa, Callable[[bytes, int], bytes], int, int, int, int]
"""The SA; open_bytes of its cipher; SPI; ports; alignment; how much longer a frame is than its plaintext."""


class ShortSealing:
    """The write side."""

    __slots__ = ("_link", "_offset", "_sa", "_sealer", "_sealing", "_segments", "_stopped", "_until")

    def __init__(self, link: KeyingLink, sealer: Sealer) -> None:
        self._link = link
        self._sealer = sealer
        self._sa: OutboundSa | None = None
        self._sealing: _Sealing | None = None  # with _sa
        self._segments = 0  # up to which totals, and when, nothing is to be looked at
        self._offset = 0
        self._until = -inf
        self._stopped = False

    def stop(self) -> None:
        """Our stream has ended, or the connection.  From any thread."""
        self._stopped = True
        self._until = -inf

    def seal(self, data: memoryview | bytes, now: float) -> bytes | None:
        """One frame with all of ``data``; None, and nothing changed: take the ordinary way."""
        size = len(data)
        if size > MAX_MESSAGE:
            return None
        link, sealer = self._link, self._sealer
        segments, offset = sealer.segments, sealer.offset
        if (
            now >= self._until
            or now >= link.look_at
            or segments >= self._segments
            or offset >= self._offset
            or sealer.sa is not self._sa
        ) and not self._look(now):
            return None
        sealing = self._sealing
        if sealing is None or link.control or sealer.buffer is not None or not size:
            return None
        sa, seal_bytes, spi, ports, alignment = sealing
        sequence = sa.packets = sa.packets + 1  # before sealing: whatever interrupts us, no number is used twice
        segment = SEGMENT_WORDS.pack(ports, offset & LOW_32, DATA_FIELDS, 0) + data
        packet = seal_bytes(spi, segment + TCP_TRAILERS[-(size + LEAST_PLAINTEXT) % alignment], sequence)
        sa.byte_count += size
        sealer.segments = segments + 1
        sealer.offset = offset + size
        return (len(packet) + FRAME_LENGTH_SIZE).to_bytes(FRAME_LENGTH_SIZE, "big") + packet

    def _look(self, now: float) -> bool:
        """Whether nothing but data is to be looked at, and up to where."""
        link, sealer = self._link, self._sealer
        sa, limits = sealer.sa, link.sealed
        if (
            self._stopped
            or link.state != "established"
            or now >= link.look_at
            or sa is None
            or limits is None
            or sa.due(now)
            or limits.due_at(sealer.segments, sealer.offset, now)
        ):
            return False
        if sa is not self._sa:
            shape = sealing_shape(sa.spec, sa.cipher)
            self._sealing = (sa, shape.cipher.seal_bytes, shape.spi, shape.ports, shape.alignment)
            self._sa = sa
        self._segments = min(sealer.segments + sa.check_packets - sa.packets, limits.check_packets)
        self._offset = min(sealer.offset + sa.check_bytes - sa.byte_count, limits.check_bytes)
        self._until = min(sa.check_time, limits.check_time)
        if self._stopped:  # by another thread, since the look above
            self._until = -inf
        return not self._stopped


class ShortOpening:
    """The read side."""

    __slots__ = ("_link", "_offset", "_opener", "_opening", "_sa", "_segments")

    def __init__(self, link: KeyingLink, opener: Opener) -> None:
        self._link = link
        self._opener = opener
        self._sa: InboundSa | None = None
        self._opening: _Opening | None = None  # with _sa
        self._segments = 0
        self._offset = 0

    def open_untrusted(self, view: memoryview, count: int, limit: int) -> bytes | None:
        """The data of ``view[:count]`` if that is exactly the next frame, right in every field, with 1 to ``limit``
        bytes; None, and nothing changed: take the ordinary way."""
        opener = self._opener
        segments, offset = opener.segments, opener.offset
        if (segments >= self._segments or offset >= self._offset or opener.sa is not self._sa) and not self._look():
            return None
        opening = self._opening
        if (
            opening is None
            or count < FRAME_HEADER_LENGTH
            or opener.intake.kept
            or opener.fin
            or self._link.state != "established"
        ):
            return None
        sa, open_bytes, sa_spi, ports, alignment, overhead = opening
        length, spi, low = FRAME_HEADER.unpack_from(view)
        sequence = sa.packets + 1
        plain = length - overhead
        if (
            length != count
            or spi != sa_spi
            or low != sequence & LOW_32
            or plain <= LEAST_PLAINTEXT
            or plain % alignment
        ):
            return None
        try:
            plaintext = open_bytes(view[FRAME_LENGTH_SIZE:count].tobytes(), sequence)
        except InvalidTag:
            return None
        pad = plaintext[-2]
        size = plain - LEAST_PLAINTEXT - pad
        stop = SEGMENT_HEADER_LENGTH + size
        if (
            not 0 < size <= limit
            or SEGMENT_WORDS.unpack_from(plaintext) != (ports, offset & LOW_32, DATA_FIELDS, 0)
            or plaintext[stop:] != TCP_TRAILERS[pad]
        ):
            return None
        sa.packets = sequence
        sa.byte_count += size
        opener.segments = segments + 1
        opener.offset = offset + size
        return plaintext[SEGMENT_HEADER_LENGTH:stop]

    def _look(self) -> bool:
        """Whether no limit is to be looked at, and up to where.  Time does not bind the opening side."""
        opener = self._opener
        sa, limits = opener.sa, self._link.opened
        if sa is None or limits is None or sa.due(-inf) or limits.due_at(opener.segments, opener.offset, -inf):
            return False
        if sa is not self._sa:
            shape = opening_shape(sa.spec, sa.cipher)
            overhead = shape.head + shape.icv_length
            self._opening = (sa, shape.cipher.open_bytes, sa.spi, shape.ports, shape.alignment, overhead)
            self._sa = sa
        self._segments = min(opener.segments + sa.check_packets - sa.packets, limits.check_packets)
        self._offset = min(opener.offset + sa.check_bytes - sa.byte_count, limits.check_bytes)
        return True
