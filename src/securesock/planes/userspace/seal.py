"""The outbound bytes of one secured stream: segments sealed, and IKE frames laid between them, in one buffer.

The loop of ``Sealer.fill`` is the hot path of every send.  Each frame is
    length(2) | SPI(4) sequence(4) IV | TCP header(20) data padding pad-length next-header | ICV
(RFC 9329 3 and 3.1, RFC 4303 2) and is built and sealed in place, so that a whole
batch goes to the carrier in one call.  It knows nothing of keying, of the
connection's state, of locks: who calls it holds the write lock.
"""

from __future__ import annotations

import struct
from collections.abc import Sized
from typing import Final

from ...sad.entries import OutboundSa
from ...wire.esp import TCP_TRAILERS
from ...wire.segment import PSH_ACK, SEGMENT_HEADER_LENGTH, write_segment_header_into
from ...wire.tcp_encapsulation import MAX_FRAME
from .buffers import BufferPool

__all__ = ["Sealer"]

FRAME_AND_ESP: Final = struct.Struct(">HII")
"""The frame's length, SPI, the low half of the sequence number: one write."""


class Sealer:
    """The write side: which SA, how far the stream is, and what waits for the carrier.

    ``offset`` counts the stream's bytes from 0 (the segment carries it modulo 2^32), ``segments`` what was sealed.
    """

    __slots__ = ("_buffer", "_end", "_pool", "_sent", "offset", "sa", "segments")

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self._buffer: memoryview | None = None
        self._sent = 0
        self._end = 0
        self.offset = 0
        self.segments = 0
        self.sa: OutboundSa | None = None

    def unsent(self) -> int:
        """Bytes that wait for the carrier."""
        return self._end - self._sent

    def waiting(self) -> memoryview | None:
        """What waits, in order; None when nothing does."""
        if self._buffer is None:
            return None
        return self._buffer[self._sent : self._end]

    def sent(self, count: int) -> None:
        """The carrier took ``count`` bytes; when it has all of them the buffer goes back to the pool."""
        self._sent += count
        if self._sent >= self._end:
            self.drop()

    def drop(self) -> None:
        """Forget what waits."""
        if self._buffer is not None:
            buffer, self._buffer = self._buffer, None
            self._sent = self._end = 0
            self._pool.give(buffer)

    def append(self, data: bytes) -> bool:
        """Lay ready bytes (an IKE frame) behind what waits; False, and nothing done, when there is no room."""
        buffer = self._buffer or self._take()
        end = self._end + len(data)
        if end > len(buffer):
            return False
        buffer[self._end : end] = data
        self._end = end
        return True

    def fill(self, sa: OutboundSa, data: memoryview, until: Sized, flags: int = PSH_ACK) -> int:
        """Seal from the front of ``data`` into the buffer; how many bytes were taken.

        Stops when the buffer has no room for another frame, when ``until`` (the control queue) has something to go
        before the next packet, or when a limit of the SA is to be looked at.  Empty ``data`` seals one empty segment.
        """
        buffer = self._buffer or self._take()
        capacity = len(buffer)
        cipher = sa.cipher
        seal_packet = cipher.seal_packet
        spec = sa.spec
        spi, our_port, peer_port = spec.spi, spec.our_port, spec.peer_port
        head = 10 + cipher.iv_length
        icv = cipher.icv_length
        align = cipher.alignment
        largest = (MAX_FRAME - head - icv) // align * align - 22
        total = len(data)
        # equal parts, never a full packet and a scrap
        piece = -(-total // max(1, -(-total // largest)))
        done = 0
        while True:
            size = min(piece, total - done)
            pad = -(size + 22) % align
            plain = size + 22 + pad
            start = self._end
            end = start + head + plain + icv
            if end > capacity:
                break
            sequence = sa.packets + 1
            FRAME_AND_ESP.pack_into(buffer, start, end - start, spi, sequence & 0xFFFFFFFF)
            at = start + head
            write_segment_header_into(buffer, at, our_port, peer_port, self.offset & 0xFFFFFFFF, flags)
            at += SEGMENT_HEADER_LENGTH
            buffer[at : at + size] = data[done : done + size]
            buffer[at + size : end - icv] = TCP_TRAILERS[pad]
            seal_packet(buffer[start + 2 : end], sequence)
            sa.packets = sequence
            sa.byte_count += size
            self.offset += size
            self.segments += 1
            self._end = end
            done += size
            if done >= total or until or sequence >= sa.check_packets or sa.byte_count >= sa.check_bytes:
                break
        return done

    def _take(self) -> memoryview:
        self._buffer = self._pool.take()
        return self._buffer
