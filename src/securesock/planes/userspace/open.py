"""The inbound bytes of one secured stream: frames taken apart, packets opened, segments checked.

The loop of ``Opener.advance_untrusted`` is the hot path of every receive.  It opens in
place whatever frames are complete, and stops at an IKE message, which it hands back so
that messages and packets are handled in the order in which they came.  It lets through
only what is right in every field; what is not is looked at again, slowly, to see whether
it is an end of stream, an abort or a dummy, and to say what was wrong.

Nothing is delivered that was not opened, is not the next packet of its SA, or is not the
next byte of the stream; the first such packet ends the connection.

It knows nothing of keying, of states, of locks: who calls it holds the read lock.
"""

from __future__ import annotations

from typing import NoReturn

from cryptography.exceptions import InvalidTag

from ...errors import ConnectionBroken, PeerIncompatible, PeerMisbehaved, WireError
from ...sad.entries import InboundSa
from ...wire.esp import NEXT_HEADER_DUMMY, TCP_TRAILERS
from ...wire.segment import FIN_ACK, RST, SEGMENT_HEADER_LENGTH, read_segment_header
from ...wire.tcp_encapsulation import (
    FRAME_LENGTH_SIZE,
    MAX_FRAME,
    MAX_FRAME_BEFORE_AUTHENTICATION,
    MIN_FRAME,
    STREAM_PREFIX,
)
from .frame import (
    DATA_FIELDS,
    FRAME_HEADER,
    FRAME_HEADER_LENGTH,
    LEAST_PLAINTEXT,
    LOW_32,
    SEGMENT_WORDS,
    PacketShape,
    opening_shape,
)
from .intake import Intake

__all__ = ["Opener"]


class Opener:
    """The read side: SAs by SPI, how far the stream is, and what was opened.

    ``offset`` counts the stream's bytes from 0, ``segments`` what was opened.  ``fin``: the authenticated end of the
    stream was read.  ``max_frame`` is small until ``authenticated``.
    """

    __slots__ = ("_prefix", "_sas", "_shape", "fin", "intake", "max_frame", "offset", "sa", "segments")

    def __init__(self, intake: Intake, *, expect_prefix: bool) -> None:
        self.intake = intake
        self._prefix = STREAM_PREFIX if expect_prefix else b""
        self._sas: dict[int, InboundSa] = {}
        self.sa: InboundSa | None = None
        self._shape: PacketShape | None = None
        self.max_frame = MAX_FRAME_BEFORE_AUTHENTICATION
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
        if sa is self.sa:
            self.sa = None

    def authenticated(self) -> None:
        """The peer has proven who it is: frames may have their full size."""
        self.max_frame = MAX_FRAME

    # opening

    def advance_untrusted(self) -> bytes | None:
        """Open complete frames up to and including the next IKE message, which is returned; None: more bytes needed.

        Raises PeerMisbehaved (ConnectionBroken) at the first thing that is not as it must be; what was opened before
        it stays readable.
        """
        intake = self.intake
        buffer = intake.buffer
        if buffer is None:
            return None
        if self._prefix:
            self._read_prefix(buffer)
        start, filled, most = intake.start, intake.filled, self.max_frame
        sa: InboundSa | None = None
        while filled - start >= FRAME_HEADER_LENGTH:
            length, spi, low = FRAME_HEADER.unpack_from(buffer, start)
            end = start + length
            if end > filled or not FRAME_HEADER_LENGTH <= length <= most:
                break
            if not spi:
                intake.start = end
                return buffer[start + MIN_FRAME : end].tobytes()
            if sa is None or spi != sa.spi:
                sa, shape = self._choose(spi)
                cipher, _, ports, spi_bytes, alignment, icv, head, before_data, _, _ = shape
                open_within = cipher.open_within
            sequence = sa.packets + 1
            plain = length - head - icv
            if low != sequence & LOW_32 or sequence > sa.hard_packets or sa.byte_count >= sa.hard_bytes:
                self._refuse_packet(sa, low)
            if plain % alignment or plain <= 0:
                raise ConnectionBroken("the peer sent an ESP packet of a length that cannot be")
            try:
                open_within(buffer, start + FRAME_LENGTH_SIZE, end, spi_bytes, sequence)
            except InvalidTag:
                raise ConnectionBroken("an ESP packet was changed on its way") from None
            sa.packets = sequence
            if sa is not self.sa:
                self._switch(sa)
            at, data, last = start + head, start + before_data, end - icv
            pad = buffer[last - 2]
            stop = last - 2 - pad
            intake.start = start = end
            if (
                plain >= LEAST_PLAINTEXT + pad
                and SEGMENT_WORDS.unpack_from(buffer, at) == (ports, self.offset & LOW_32, DATA_FIELDS, 0)
                and buffer[stop:last] == TCP_TRAILERS[pad]
                and not self.fin
            ):
                self._deliver(sa, buffer[data:stop])
            else:
                self._take_unusual(sa, buffer[at:last])
        return self._look_at_rest(buffer, start, filled)

    def _deliver(self, sa: InboundSa, data: memoryview) -> None:
        self.segments += 1
        size = len(data)
        if size:
            sa.byte_count += size
            self.offset += size
            self.intake.unread += size
            self.intake.spans.append(data)

    def _take_unusual(self, sa: InboundSa, plaintext: memoryview) -> None:
        """An end of stream, an abort, a dummy, or what cannot be."""
        pad, next_header = plaintext[-2:]
        stop = len(plaintext) - 2 - pad
        if next_header == NEXT_HEADER_DUMMY:
            return  # RFC 4303 2.6: discarded without a word
        if plaintext[stop:] != TCP_TRAILERS[pad]:
            raise ConnectionBroken("the peer sealed an ESP packet with wrong padding or protocol")
        segment = plaintext[:stop]
        try:
            source, destination, offset, flags = read_segment_header(segment)
        except WireError as error:
            raise ConnectionBroken(f"the peer sealed something that is no segment of this stream: {error}") from None
        data = segment[SEGMENT_HEADER_LENGTH:]
        if (source, destination) != (sa.spec.peer_port, sa.spec.our_port):
            raise ConnectionBroken("the peer sealed a segment for other ports than were agreed")
        if offset != self.offset & LOW_32:
            raise ConnectionBroken("the peer sealed a segment that is not the next one of the stream")
        if flags == RST:
            raise ConnectionBroken("the peer aborted the connection")
        if flags != FIN_ACK or self.fin:
            raise ConnectionBroken("the peer sealed data behind the end of its stream")
        self.fin = True
        self._deliver(sa, data)

    def _refuse_packet(self, sa: InboundSa, low: int) -> NoReturn:
        if low != (sa.packets + 1) & LOW_32:
            raise ConnectionBroken(
                f"ESP packet {sa.packets + 1} was expected and another came: lost, repeated or inserted"
            )
        raise ConnectionBroken("the peer went on sealing under an SA that is past its limits")

    def _look_at_rest(self, buffer: memoryview, start: int, filled: int) -> bytes | None:
        """What the loop left: a frame that is not whole yet, one without a packet in it, or one that cannot be."""
        if filled - start < 2:
            return None
        length = buffer[start] << 8 | buffer[start + 1]
        if length < MIN_FRAME:  # neither a marker nor an SPI: RFC 9329 3
            raise PeerMisbehaved(f"the peer sent a frame of length {length}, which cannot be")
        if length > self.max_frame:
            raise PeerMisbehaved(f"the peer sent a frame of {length} bytes; at most {self.max_frame} may come here")
        end = start + length
        if end > filled:
            return None
        if any(buffer[start + 2 : start + MIN_FRAME]):
            raise ConnectionBroken("the peer sent an ESP packet without a sequence number")
        self.intake.start = end
        return buffer[start + MIN_FRAME : end].tobytes()

    def _choose(self, spi: int) -> tuple[InboundSa, PacketShape]:
        sa, shape = self.sa, self._shape
        if sa is not None and shape is not None and spi == sa.spi:
            return sa, shape
        sa = self._sas.get(spi)
        if sa is None:
            raise ConnectionBroken("the peer sealed a packet under an SA that does not exist")
        if sa.retired:
            raise ConnectionBroken("the peer sealed a packet under an SA that it had left")
        return sa, opening_shape(sa.spec, sa.cipher)

    def _switch(self, sa: InboundSa) -> None:
        if self.sa is not None:
            self.sa.retired = True
        self.sa, self._shape = sa, opening_shape(sa.spec, sa.cipher)

    def _read_prefix(self, buffer: memoryview) -> None:
        intake = self.intake
        have = min(len(self._prefix), intake.filled - intake.start)
        if buffer[intake.start : intake.start + have] != self._prefix[:have]:
            raise PeerIncompatible("the peer does not speak IKE and ESP over TCP (RFC 9329)")
        intake.start += have
        self._prefix = self._prefix[have:]
