"""The outbound bytes of one secured stream: segments sealed, and IKE frames laid between them, in one buffer.

The loop of ``Sealer.fill`` is the hot path of every send: frames are built and sealed in
place one behind the other, so that a whole batch goes to the carrier in one call.  It
knows nothing of keying, of the connection's state, of locks: who calls it holds the
write lock.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Final

from ...sad.entries import OutboundSa
from ...wire.esp import TCP_TRAILERS
from ...wire.segment import PSH_ACK, SEGMENT_HEADER_LENGTH
from ...wire.tcp_encapsulation import MAX_FRAME
from .buffers import BufferPool
from .frame import FIELDS, FRAME_HEADER, LEAST_PLAINTEXT, LOW_32, SEGMENT_WORDS, PacketShape, sealing_shape

__all__ = ["MAX_BATCH", "Sealer"]

MAX_BATCH: Final = 2 * MAX_FRAME
"""What is sealed before the carrier has to take it: enough to make the cost of a send() small, and little enough that
the frames are still in the core's cache when the kernel copies them and the peer opens while we seal.  Measured on two
idle cores: of 1, 2, 3, 4 and 8 frames, two carry most."""


class Sealer:
    """The write side: which SA, how far the stream is, and what waits for the carrier.

    ``offset`` counts the stream's bytes from 0 (the segment carries it modulo 2^32), ``segments`` what was sealed.
    ``buffer`` is borrowed only while bytes wait.
    """

    __slots__ = ("_end", "_pool", "_sent", "_shape", "_shaped", "buffer", "offset", "sa", "segments")

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self.buffer: memoryview | None = None
        self._sent = 0
        self._end = 0
        self.offset = 0
        self.segments = 0
        self.sa: OutboundSa | None = None
        self._shaped: OutboundSa | None = None
        self._shape: PacketShape | None = None

    def unsent(self) -> int:
        """Bytes that wait for the carrier."""
        return self._end - self._sent

    def waiting(self) -> memoryview | None:
        """What waits, in order; None when nothing does."""
        if self.buffer is None:
            return None
        return self.buffer[self._sent : self._end]

    def sent(self, count: int) -> None:
        """The carrier took ``count`` bytes; when it has all of them the buffer goes back to the pool."""
        self._sent += count
        if self._sent >= self._end and self.buffer is not None:
            buffer, self.buffer = self.buffer, None
            self._sent = self._end = 0
            self._pool.give(buffer)

    def append(self, data: bytes) -> bool:
        """Lay ready bytes (an IKE frame) behind what waits; False, and nothing done, when there is no room at all."""
        buffer = self.buffer or self._take()
        end = self._end + len(data)
        if end > len(buffer):
            return False
        buffer[self._end : end] = data
        self._end = end
        return True

    def fill(self, sa: OutboundSa, data: memoryview, until: Sized, flags: int = PSH_ACK) -> int:
        """Seal from the front of ``data`` into the buffer; how many bytes were taken.

        Stops when the batch has no room for another frame, when ``until`` (the control queue) has something to go
        before the next packet, or when a limit of the SA is to be looked at.  Empty ``data`` seals one empty segment,
        and may use the room behind the batch: an end of stream or an abort does not wait.
        """
        buffer = self.buffer or self._take()
        most = MAX_BATCH if len(data) else len(buffer)
        cipher, head, icv, alignment, ports = self._shape_of(sa)
        seal_packet, spi, fields = cipher.seal_packet, sa.spi, FIELDS[flags]
        largest = (MAX_FRAME - head - icv) // alignment * alignment - LEAST_PLAINTEXT
        total, done = len(data), 0
        # equal parts, never a full packet and a scrap
        piece = -(-total // -(-total // largest)) if total > largest else total
        start, sequence = self._end, sa.packets
        while True:
            size = min(piece, total - done)
            pad = -(size + LEAST_PLAINTEXT) % alignment
            end = start + head + size + LEAST_PLAINTEXT + pad + icv
            if end > most:
                break
            sequence += 1
            sa.packets = sequence  # before sealing: whatever interrupts us, no number is used twice
            FRAME_HEADER.pack_into(buffer, start, end - start, spi, sequence & LOW_32)
            at = start + head
            SEGMENT_WORDS.pack_into(buffer, at, ports, self.offset & LOW_32, fields, 0)
            at += SEGMENT_HEADER_LENGTH
            stop = at + size
            buffer[at:stop] = data[done : done + size]
            buffer[stop : end - icv] = TCP_TRAILERS[pad]
            seal_packet(buffer[start + 2 : end], sequence)
            self._end = start = end
            self.offset += size
            self.segments += 1
            sa.byte_count += size
            done += size
            if done >= total or until or sequence >= sa.check_packets or sa.byte_count >= sa.check_bytes:
                break
        return done

    def _shape_of(self, sa: OutboundSa) -> PacketShape:
        if sa is not self._shaped or self._shape is None:
            self._shape = sealing_shape(sa.spec, sa.cipher)
            self._shaped = sa
        return self._shape

    def _take(self) -> memoryview:
        self.buffer = self._pool.take()
        return self.buffer
