"""One UDP datagram in one ESP packet, sealed and opened: the two fast paths of the datagram plane.

    SPI(4) sequence(4) IV | UDP header(8) data padding pad-length next-header | ICV

Transport mode (RFC 4303 3.1.1): the payload is the UDP header of the flow that was agreed on, and its data.  Whatever
opens is held against that flow (RFC 4301 5.2): an SA carries nothing but what its selectors name.  The UDP checksum is
left out and not looked at: the ICV covers every byte (RFC 3948 3.1.2).

It knows nothing of keying, peers and time; who calls it holds the socket's lock.
"""

from __future__ import annotations

import struct
from typing import Final

from cryptography.exceptions import InvalidTag

from ...sad.entries import InboundSa, OutboundSa
from ...sad.replay import ReplayWindow
from ...wire.esp import ESP_HEADER, ESP_HEADER_LENGTH, ESP_TRAILER_LENGTH, NEXT_HEADER_DUMMY, NEXT_HEADER_UDP, PADDING
from ...wire.inet import UDP_HEADER_LENGTH

__all__ = ["Dropped", "PacketOpener", "PacketSealer"]

_LOW_32: Final = 0xFFFFFFFF
_UDP_WORDS: Final = struct.Struct(">IHH")
"""The UDP header as words, so that one comparison covers both ports: ports, length, checksum."""
_UDP_TRAILERS: Final = tuple(padding + bytes((len(padding), NEXT_HEADER_UDP)) for padding in PADDING)
"""By pad length: padding, pad length, next header UDP, in one piece."""


class Dropped(Exception):
    """A packet that is not delivered, by the stable word that it is counted under."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PacketSealer:
    """The outbound half of an SA pair.  The cipher is made with the first packet."""

    __slots__ = ("_alignment", "_head", "_icv_length", "_ports", "_seal_packet", "sa")

    def __init__(self, sa: OutboundSa) -> None:
        self.sa = sa
        self._head = 0

    def _prepare(self) -> None:
        cipher, spec = self.sa.cipher, self.sa.spec
        self._seal_packet = cipher.seal_packet
        self._alignment = cipher.alignment
        self._icv_length = cipher.icv_length
        self._ports = spec.our_port << 16 | spec.peer_port
        self._head = ESP_HEADER_LENGTH + cipher.iv_length

    def seal(self, data: bytes | memoryview) -> bytearray:
        """The packet for ``data``, at most 65527 bytes of it.  The caller has looked at the SA's limits."""
        if not self._head:
            self._prepare()
        sa, head = self.sa, self._head
        size = UDP_HEADER_LENGTH + len(data)
        pad = -(size + ESP_TRAILER_LENGTH) % self._alignment
        stop = head + size
        last = stop + pad + ESP_TRAILER_LENGTH
        packet = bytearray(last + self._icv_length)
        sequence = sa.packets + 1
        sa.packets = sequence  # before sealing: whatever interrupts us, no number is used twice
        sa.byte_count += len(data)
        ESP_HEADER.pack_into(packet, 0, sa.spi, sequence & _LOW_32)
        _UDP_WORDS.pack_into(packet, head, self._ports, size, 0)
        packet[head + UDP_HEADER_LENGTH : stop] = data
        packet[stop:last] = _UDP_TRAILERS[pad]
        self._seal_packet(memoryview(packet), sequence)
        return packet


class PacketOpener:
    """The inbound half: the replay window, and the check against the flow."""

    __slots__ = ("_alignment", "_head", "_icv_length", "_open_packet", "_ports", "replay", "sa")

    def __init__(self, sa: InboundSa) -> None:
        self.sa = sa
        self.replay = ReplayWindow(esn=sa.spec.suite.esn)
        self._head = 0

    def _prepare(self) -> None:
        cipher, spec = self.sa.cipher, self.sa.spec
        self._open_packet = cipher.open_packet
        self._alignment = cipher.alignment
        self._icv_length = cipher.icv_length
        self._ports = spec.peer_port << 16 | spec.our_port
        self._head = ESP_HEADER_LENGTH + cipher.iv_length

    def open_untrusted(self, packet: memoryview, low: int) -> bytes | None:
        """The data of an authentic packet that was not seen before, None for a dummy; opened in place.

        ``low`` is the sequence number in its header.  Raises Dropped for everything else, and then nothing has changed
        but, if the packet was authentic, the window and the counts.
        """
        if not self._head:
            self._prepare()
        sa, at = self.sa, self._head
        last = len(packet) - self._icv_length
        plain = last - at
        if plain % self._alignment or plain < ESP_TRAILER_LENGTH:
            raise Dropped("malformed-packet")
        sequence = self.replay.infer(low)
        if sequence is None:
            raise Dropped("replayed")
        if sa.packets >= sa.hard_packets or sa.byte_count >= sa.hard_bytes:
            raise Dropped("past-its-limits")
        try:
            self._open_packet(packet, sequence)
        except InvalidTag:
            raise Dropped("not-authentic") from None
        self.replay.commit(sequence)
        sa.packets += 1
        pad = packet[last - 2]
        stop = last - ESP_TRAILER_LENGTH - pad
        if stop < at or packet[stop:last] != _UDP_TRAILERS[pad]:
            if packet[last - 1] == NEXT_HEADER_DUMMY:
                return None  # RFC 4303 2.6: discarded without a word
            raise Dropped("wrong-selectors" if stop >= at else "malformed-packet")
        if stop - at < UDP_HEADER_LENGTH:
            raise Dropped("malformed-packet")
        ports, size, _ = _UDP_WORDS.unpack_from(packet, at)
        if ports != self._ports:
            raise Dropped("wrong-selectors")
        # RFC 4303 2.7: padding for traffic flow confidentiality may stand behind the datagram
        if not UDP_HEADER_LENGTH <= size <= stop - at:
            raise Dropped("malformed-packet")
        data = packet[at + UDP_HEADER_LENGTH : at + size].tobytes()
        sa.byte_count += len(data)
        return data
