"""The inbound bytes of one secured stream: frames taken apart, segments checked, opened and kept until read.

``Opener.advance_untrusted`` is the hot path of every receive: it opens in place
whatever frames are complete, and stops at an IKE message, which it hands back so
that messages and packets are handled in the order in which they came.  It knows
nothing of keying, of states, of locks: who calls it holds the read lock.

Nothing is delivered that was not opened, is not the next packet of its SA, or is
not the next byte of the stream; the first such packet ends the connection.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from cryptography.exceptions import InvalidTag

from ...errors import ConnectionBroken, PeerIncompatible, PeerMisbehaved, WireError
from ...sad.entries import InboundSa
from ...wire.esp import ESP_HEADER, NEXT_HEADER_DUMMY, TCP_TRAILERS
from ...wire.segment import FIN_ACK, RST, SEGMENT_HEADER_LENGTH, read_segment_header
from ...wire.tcp_encapsulation import (
    MAX_FRAME,
    MAX_FRAME_BEFORE_AUTHENTICATION,
    MIN_FRAME,
    NON_ESP_MARKER,
    STREAM_PREFIX,
)
from .buffers import BufferPool

__all__ = ["MAX_UNREAD", "Opener"]

MAX_UNREAD: Final = 1 << 20
"""Bytes kept for an application that does not read while we look for IKE messages, as a kernel's buffer is bounded."""
SMALL_UNREAD: Final = 16384
"""Up to this much is copied out so that the pool's buffer is free again; more is worth a buffer."""


class Opener:
    """The read side: SAs by SPI, how far the stream is, and opened bytes that were not read yet.

    ``offset`` counts the stream's bytes from 0.  ``fin``: the authenticated end of the stream was read.
    """

    __slots__ = (
        "_buffer",
        "_filled",
        "_partial",
        "_pool",
        "_prefix",
        "_sas",
        "_spans",
        "_start",
        "fin",
        "max_frame",
        "offset",
        "sa",
        "segments",
        "unread",
    )

    def __init__(self, pool: BufferPool, *, expect_prefix: bool) -> None:
        self._pool = pool
        self._buffer: memoryview | None = None
        self._start = 0  # of the first frame not yet opened
        self._filled = 0
        self._partial = b""
        self._prefix = STREAM_PREFIX if expect_prefix else b""
        self._spans: deque[memoryview] = deque()
        self.unread = 0
        self.max_frame = MAX_FRAME_BEFORE_AUTHENTICATION
        self._sas: dict[int, InboundSa] = {}
        self.sa: InboundSa | None = None
        self.offset = 0
        self.segments = 0
        self.fin = False

    # what keying says

    def install(self, sa: InboundSa) -> None:
        """Open packets under ``sa`` from now on."""
        self._sas[sa.spi] = sa

    def remove(self, spi: int) -> None:
        """The peer has said that it seals nothing more under this one."""
        sa = self._sas.pop(spi, None)
        if sa is not None and sa is self.sa:
            self.sa = None

    def authenticated(self) -> None:
        """The peer has proven who it is: frames may have their full size."""
        self.max_frame = MAX_FRAME

    # the buffer

    def room(self) -> memoryview:
        """Where the carrier's next bytes go; empty when MAX_UNREAD bytes are kept."""
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffer = self._pool.take()
            self._start, self._filled = 0, len(self._partial)
            buffer[: self._filled] = self._partial
            self._partial = b""
        elif len(buffer) - self._start < MAX_FRAME:
            self._compact(buffer)
        pending = self._pending()
        if self.max_frame < MAX_FRAME:
            bound = self.max_frame - pending
        else:
            bound = MAX_UNREAD - self.unread - pending
        return buffer[self._filled : max(self._filled, min(len(buffer), self._filled + bound))]

    def full(self) -> bool:
        """Whether as much is kept as may be: ``room`` would be empty."""
        return self.unread > MAX_UNREAD - MAX_FRAME and self.unread + self._pending() >= MAX_UNREAD

    def received(self, count: int) -> None:
        """``count`` bytes were put at the front of ``room()``."""
        self._filled += count

    def release(self) -> None:
        """Give the buffer back unless much unread data is in it."""
        buffer = self._buffer
        if buffer is None or self.unread > SMALL_UNREAD:
            return
        self._move_out()
        self._partial = bytes(buffer[self._start : self._filled])
        self._buffer = None
        self._pool.give(buffer)

    def drop(self) -> None:
        """Forget everything unread and unopened."""
        self._spans.clear()
        self.unread = 0
        self._partial = b""
        self._start = self._filled
        self.release()

    def _pending(self) -> int:
        return len(self._partial) if self._buffer is None else self._filled - self._start

    def _compact(self, buffer: memoryview) -> None:
        self._move_out()
        pending = self._pending()
        buffer[:pending] = buffer[self._start : self._filled]
        self._start, self._filled = 0, pending

    def _move_out(self) -> None:
        """Unread bytes leave the buffer."""
        if self._spans:
            kept = memoryview(b"".join(self._spans))
            self._spans.clear()
            self._spans.append(kept)

    # reading

    def read_into(self, target: memoryview, *, peek: bool = False) -> int:
        """Copy opened bytes to the front of ``target``; how many."""
        copied, room = 0, len(target)
        for span in tuple(self._spans):
            size = min(len(span), room - copied)
            target[copied : copied + size] = span[:size]
            copied += size
            if copied == room:
                break
        if not peek:
            self._consume(copied)
        return copied

    def read(self, limit: int, *, peek: bool = False) -> bytes:
        """At most ``limit`` opened bytes."""
        parts: list[memoryview] = []
        room = limit
        for span in self._spans:
            if room <= 0:
                break
            parts.append(span[:room])
            room -= len(parts[-1])
        data = b"".join(parts)
        if not peek:
            self._consume(len(data))
        return data

    def _consume(self, count: int) -> None:
        self.unread -= count
        spans = self._spans
        while count:
            span = spans[0]
            if len(span) > count:
                spans[0] = span[count:]
                return
            count -= len(span)
            spans.popleft()

    # opening

    def advance_untrusted(self) -> bytes | None:
        """Open complete frames up to and including the next IKE message, which is returned; None: more bytes needed.

        Raises PeerMisbehaved (ConnectionBroken) at the first thing that is not as it must be; what was opened before
        it stays readable.
        """
        buffer = self._buffer
        if buffer is None:
            return None
        if self._prefix:
            self._read_prefix(buffer)
        while True:
            start = self._start
            have = self._filled - start
            if have < 2:
                return None
            length = buffer[start] << 8 | buffer[start + 1]
            if length < MIN_FRAME:  # neither a marker nor an ESP header: RFC 9329 3
                raise PeerMisbehaved(f"the peer sent a frame of length {length}, which cannot be")
            if length > self.max_frame:
                raise PeerMisbehaved(f"the peer sent a frame of {length} bytes; at most {self.max_frame} may come here")
            if have < length:
                return None
            end = start + length
            self._start = end
            if buffer[start + 2 : start + 6] == NON_ESP_MARKER:
                return bytes(buffer[start + 6 : end])
            self._open_packet(buffer[start + 2 : end])

    def _open_packet(self, packet: memoryview) -> None:
        if len(packet) < 8:
            raise ConnectionBroken("the peer sent an ESP packet without a sequence number")
        spi, low = ESP_HEADER.unpack_from(packet)
        sa = self.sa
        if sa is None or sa.spi != spi:
            sa = self._choose(spi)
        sequence = sa.packets + 1
        if low != sequence & 0xFFFFFFFF:
            raise ConnectionBroken(f"ESP packet {sequence} was expected and another came: lost, repeated or inserted")
        if sa.packets >= sa.hard_packets or sa.byte_count >= sa.hard_bytes:
            raise ConnectionBroken("the peer went on sealing under an SA that is past its limits")
        cipher = sa.cipher
        first = 8 + cipher.iv_length
        last = len(packet) - cipher.icv_length
        if last - first < 2 or (last - first) % cipher.alignment:
            raise ConnectionBroken("the peer sent an ESP packet of a length that cannot be")
        try:
            cipher.open_packet(packet, sequence)
        except InvalidTag:
            raise ConnectionBroken("an ESP packet was changed on its way") from None
        sa.packets = sequence
        if sa is not self.sa:
            self._switch(sa)
        pad, next_header = packet[last - 2], packet[last - 1]
        end = last - 2 - pad
        if end < first or packet[end:last] != TCP_TRAILERS[pad]:
            if next_header == NEXT_HEADER_DUMMY:  # RFC 4303 2.6: discarded without a word
                return
            raise ConnectionBroken("the peer sealed an ESP packet with wrong padding or protocol")
        self._take_segment(sa, packet[first:end])

    def _take_segment(self, sa: InboundSa, segment: memoryview) -> None:
        try:
            source, destination, offset, flags = read_segment_header(segment)
        except WireError as error:
            raise ConnectionBroken(f"the peer sealed something that is no segment of this stream: {error}") from None
        spec = sa.spec
        size = len(segment) - SEGMENT_HEADER_LENGTH
        if (source, destination) != (spec.peer_port, spec.our_port):
            raise ConnectionBroken("the peer sealed a segment for other ports than were agreed")
        if offset != self.offset & 0xFFFFFFFF:
            raise ConnectionBroken("the peer sealed a segment that is not the next one of the stream")
        if flags == RST and not size:
            raise ConnectionBroken("the peer aborted the connection")
        if flags == RST or self.fin:
            raise ConnectionBroken("the peer sealed data behind the end of its stream")
        self.segments += 1
        self.fin = flags == FIN_ACK
        if size:
            sa.byte_count += size
            self.offset += size
            self.unread += size
            self._spans.append(segment[SEGMENT_HEADER_LENGTH:])

    def _choose(self, spi: int) -> InboundSa:
        sa = self._sas.get(spi)
        if sa is None:
            raise ConnectionBroken("the peer sealed a packet under an SA that does not exist")
        if sa.retired:
            raise ConnectionBroken("the peer sealed a packet under an SA that it had left")
        return sa

    def _switch(self, sa: InboundSa) -> None:
        if self.sa is not None:
            self.sa.retired = True
        self.sa = sa

    def _read_prefix(self, buffer: memoryview) -> None:
        have = min(len(self._prefix), self._filled - self._start)
        if buffer[self._start : self._start + have] != self._prefix[:have]:
            raise PeerIncompatible("the peer does not speak IKE and ESP over TCP (RFC 9329)")
        self._start += have
        self._prefix = self._prefix[have:]
