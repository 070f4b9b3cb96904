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
from ...wire.segment import PSH_ACK
from ...wire.tcp_encapsulation import FRAME_LENGTH_SIZE, MAX_FRAME
from .buffers import BufferPool
from .frame import FIELDS, LEAST_PLAINTEXT, LOW_32, PacketShape, sealing_shape

__all__ = ["COPY_UNIT", "MAX_BATCH", "Sealer"]

COPY_UNIT: Final = 16
"""Large copies go by some processors' string instruction, and theirs goes byte by byte, ten times slower, where the
target lies 1 to 15 bytes behind the source, counted within a page (seen on AMD's Zen 4).  Allocated memory begins at a
multiple of 16: the data of a batch's first frame is put at one, too, so that it never meets that, and the shares of
all frames are of as many bytes, so that the second meets it for one source in 256."""
MAX_BATCH: Final = 2 * MAX_FRAME
"""What is sealed before the carrier has to take it: enough to make the cost of a send() small, and little enough that
the frames are still in the core's cache when the kernel copies them and the peer opens while we seal.  Measured on two
idle cores: of 1, 2, 3, 4 and 8 frames, two carry most."""


class Sealer:
    """The write side: which SA, how far the stream is, and what waits for the carrier.

    ``offset`` counts the stream's bytes from 0 (the segment carries it modulo 2^32), ``segments`` what was sealed.
    ``buffer`` is borrowed only while bytes wait.  ``full``: the last ``fill`` stopped for want of room.
    """

    __slots__ = ("_end", "_pool", "_sent", "_shape", "_shaped", "buffer", "full", "offset", "sa", "segments")

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self.buffer: memoryview | None = None
        self._sent = 0
        self._end = 0
        self.full = False
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
        if sa is not self._shaped or self._shape is None:
            self._shape, self._shaped = sealing_shape(sa.spec, sa.cipher), sa
        cipher, write_head, ports, spi, alignment, icv, _, before_data, overhead, largest = self._shape
        buffer = self.buffer
        if buffer is None:
            buffer = self._take()
            self._sent = self._end = -before_data % COPY_UNIT
        seal_within, spi_word, fields = cipher.seal_within, sa.spi, FIELDS[flags]
        size = total = len(data)
        most = MAX_BATCH + COPY_UNIT if total else len(buffer)
        if total > largest:
            # equal parts, never a full packet and a scrap
            size = -(-total // -(-total // largest))
            size = min(largest, size + -size % COPY_UNIT)
        start, sequence, offset, done = self._end, sa.packets, self.offset, 0
        self.full = False
        while True:
            if size > total - done:
                size = total - done
            pad = -(size + LEAST_PLAINTEXT) % alignment
            end = start + overhead + size + pad
            if end > most:
                self.full = True
                break
            sequence += 1
            sa.packets = sequence  # before sealing: whatever interrupts us, no number is used twice
            low = sequence & LOW_32
            write_head(buffer, start, end - start, spi_word, low, sequence, ports, offset & LOW_32, fields, 0)
            at = start + before_data
            stop = at + size
            buffer[at:stop] = data[done : done + size]
            buffer[stop : end - icv] = TCP_TRAILERS[pad]
            seal_within(buffer, start + FRAME_LENGTH_SIZE, end, spi, sequence)
            self._end = start = end
            self.offset = offset = offset + size
            self.segments += 1
            sa.byte_count += size
            done += size
            if done >= total or until or sequence >= sa.check_packets or sa.byte_count >= sa.check_bytes:
                break
        return done

    def _take(self) -> memoryview:
        self.buffer = self._pool.take()
        return self.buffer
