"""One UDP datagram in one ESP packet, sealed and opened: the two fast paths of the datagram plane.

    SPI(4) sequence(4) IV | UDP header(8) data padding pad-length next-header | ICV

Transport mode (RFC 4303 3.1.1): the payload is the UDP header of the flow that was agreed on, and its data.  Whatever
opens is held against that flow (RFC 4301 5.2): an SA carries nothing but what its selectors name.  The UDP checksum is
left out and not looked at: the ICV covers every byte (RFC 3948 3.1.2).

Packets are sealed and opened out of place, because at the size of a datagram a view into a buffer costs more than a
copy.  Runs are equal packets one behind the other, as the kernel sends and joins them in one call.

It knows nothing of keying, peers and time; who calls it holds the socket's lock.
"""

from __future__ import annotations

import errno
import os
import struct
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag

from ...crypto.esp_cipher import EspCipher, esp_cipher_maker
from ...crypto.kdf import DirectionKeys
from ...sad.ciphers import CIPHERS
from ...sad.entries import InboundSa, OutboundSa
from ...sad.replay import ReplayWindow
from ...sad.spec import SaSpec
from ...wire.esp import ESP_TRAILER_LENGTH, NEXT_HEADER_DUMMY, NEXT_HEADER_UDP, PADDING
from ...wire.inet import MAX_PACKET, UDP_HEADER_LENGTH

__all__ = ["Dropped", "PacketOpener", "PacketSealer"]

_LOW_32: Final = 0xFFFFFFFF
_UDP_WORDS: Final = struct.Struct(">IHH")
"""The UDP header as words, so that one comparison covers both ports: ports, length, checksum."""
_NO_WORDS: Final = (-1, 0, 0)
_LEAST_PLAIN: Final = UDP_HEADER_LENGTH + ESP_TRAILER_LENGTH
_UDP_TRAILERS: Final = tuple(padding + bytes((len(padding), NEXT_HEADER_UDP)) for padding in PADDING)
"""By pad length: padding, pad length, next header UDP, in one piece."""


class Dropped(Exception):
    """A packet that is not delivered, by the stable word that it is counted under.

    ``authentic``: it shows nevertheless that the peer is there and has the keys (RFC 7296 2.4).
    """

    def __init__(self, reason: str, *, authentic: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.authentic = authentic


class PacketSealer:
    """The outbound half of an SA pair.  The cipher is made with the first packet.

    ``look_at``: how many packets there are when a limit is reached that is to be looked at next, if datagrams go on to
    be as long as the last one; 0 until there was one.
    """

    __slots__ = ("_head", "_length", "_ports", "_spi", "_trailer", "look_at", "sa")

    def __init__(self, sa: OutboundSa) -> None:
        self.sa = sa
        self._spi = sa.spi.to_bytes(4, "big")
        self._ports = sa.spec.our_port << 16 | sa.spec.peer_port
        self._length = -1
        self._head = self._trailer = b""  # for data of that length
        self.look_at = 0

    def seal(self, data: bytes | memoryview) -> bytes:
        """The packet for ``data``.  The caller has looked at the SA's limits.  OSError with EMSGSIZE: beyond 65527
        bytes, and nothing was sealed."""
        sa = self.sa
        cipher = sa.ready or CIPHERS.make(sa)
        length = len(data)
        if length != self._length:
            self._fit(length, cipher.alignment)
        sequence = sa.packets + 1
        sa.packets = sequence  # before sealing: whatever interrupts us, no number is used twice
        sa.byte_count += length
        return cipher.seal_bytes(self._spi, self._head + data + self._trailer, sequence)

    def _fit(self, length: int, alignment: int) -> None:
        """The header and trailer of datagrams of ``length`` bytes."""
        size = UDP_HEADER_LENGTH + length
        if size > MAX_PACKET:  # RFC 768: the length has 16 bits; what else is too much the kernel knows
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        self._head = _UDP_WORDS.pack(self._ports, size, 0)
        self._trailer = _UDP_TRAILERS[-(size + ESP_TRAILER_LENGTH) % alignment]
        self._length = length
        self.note_limits()

    def note_limits(self) -> None:
        """They are others, or the length is."""
        if self._length >= 0:
            self.look_at = self.sa.packets + self.room(self._length)

    def packet_length(self, length: int) -> int:
        """How long the packet for ``length`` bytes of data will be."""
        sa = self.sa
        cipher, plain = sa.ready or CIPHERS.make(sa), UDP_HEADER_LENGTH + length + ESP_TRAILER_LENGTH
        return cipher.overhead + plain + -plain % cipher.alignment

    def room(self, length: int) -> int:
        """How many packets with ``length`` bytes may be sealed before the SA's limits are to be looked at again."""
        sa = self.sa
        left = sa.check_packets - sa.packets
        return min(left, -((sa.byte_count - sa.check_bytes) // length)) if length else left

    def seal_run(self, batch: Sequence[bytes | memoryview]) -> bytes:
        """The packets for datagrams of one length, one behind the other.  At most ``room`` of them."""
        sa, length = self.sa, len(batch[0])
        cipher = sa.ready or CIPHERS.make(sa)
        if length != self._length:
            self._fit(length, cipher.alignment)
        sequence = sa.packets
        sa.packets = sequence + len(batch)
        sa.byte_count += length * len(batch)
        return cipher.seal_run(self._spi, self._head, batch, self._trailer, sequence + 1)


class _Shape(NamedTuple):
    """Where the data ends of a packet of ``length`` bytes whose plaintext begins with ``head`` and ends in ``tail``,
    which is all that stands behind the data: what the last one had, and most have what the last one had."""

    length: int
    head: bytes
    tail: bytes
    stop: int


_NO_SHAPE: Final = _Shape(-1, b"", b"", 0)


_SHAPES: Final[dict[tuple[int, int, int], _Shape]] = {}
"""By both ports and the lengths of packet and plaintext: very many peers may send the same ones from the same port."""
_MAX_SHAPES: Final = 256


class PacketOpener(InboundSa):
    """The inbound half, with the replay window and the check against the flow: one object, because a packet of a peer
    that was idle finds each thing that it looks at far away in memory.

    ``top`` is the highest sequence number that was authentic.  ``ports`` are the flow's, as packets begin with them.
    ``key`` is the keys of the SA one behind the other: at rest its ``spec`` is one that many share, without them.
    """

    __slots__ = ("_shape", "_window", "key", "make_cipher", "ports", "sa_id", "top")

    def __init__(self, spec: SaSpec, now: float) -> None:
        super().__init__(spec, now)
        self.sa_id = spec.sa_id
        self.key = spec.keys.encryption + spec.keys.integrity
        self.make_cipher = esp_cipher_maker(spec.suite)
        self.top = 0
        self._window: ReplayWindow | None = None
        self.ports = spec.peer_port << 16 | spec.our_port
        self._shape = _NO_SHAPE

    @property
    def keys(self) -> DirectionKeys:
        """As the spec had them."""
        encryption = self.spec.suite.encryption
        length = encryption.key_length + encryption.salt_length
        return DirectionKeys(self.key[:length], self.key[length:])

    @property
    def cipher(self) -> EspCipher:
        """See InboundSa."""
        if self.ready is None:
            self.ready = self.make_cipher(self.key)
        return self.ready

    @property
    def in_turn(self) -> bool:
        """Whether ``top`` says all: nothing below it may still come."""
        return self._window is None or not self.window.has_gaps

    def forget_shape(self) -> None:
        """It is idle, and shall take no more room than it must."""
        length, _, tail, stop = self._shape
        if _SHAPES.get((self.ports, length, stop + len(tail))) is not self._shape:
            self._shape = _NO_SHAPE

    @property
    def window(self) -> ReplayWindow:
        """Which numbers were seen: needed, and made, when the first packet comes out of turn."""
        if self._window is None:
            self._window = ReplayWindow(esn=self.spec.suite.esn)
        self._window.top = self.top
        return self._window

    def open_untrusted(self, packet: bytes, low: int) -> bytes | None:
        """The data of an authentic packet that was not seen before, None for a dummy.

        ``low`` is the sequence number in its header.  Raises Dropped for everything else, and then nothing has changed
        but, if the packet was authentic, the window and the counts.
        """
        following, (length, head, tail, stop) = self.top + 1, self._shape
        # in turn and as long as the last one, as nearly all are; nobody is asked for a successor without the hard
        # limits being near
        if low != following or len(packet) != length or self.asked:
            return self._open_any_untrusted(packet, low)
        try:
            plain = (self.ready or self._make_ready()).open_bytes(packet, following)
        except InvalidTag:
            raise Dropped("not-authentic") from None
        self.top = following
        self.packets += 1
        if plain.startswith(head) and plain.endswith(tail):
            self.byte_count += stop - UDP_HEADER_LENGTH
            return plain[UDP_HEADER_LENGTH:stop]
        return self._data(plain, length)

    def _open_any_untrusted(self, packet: bytes, low: int) -> bytes | None:
        cipher, following, length = self.ready or self._make_ready(), self.top + 1, len(packet)
        if (length - cipher.overhead) % cipher.alignment or length < cipher.overhead + ESP_TRAILER_LENGTH:
            raise Dropped("malformed-packet")
        # where the low half begins anew the window says whether it may
        sequence = following if low == following & _LOW_32 and low else self.window.infer(low)
        if sequence is None:
            raise Dropped("replayed")
        if self.asked and (self.packets >= self.hard_packets or self.byte_count >= self.hard_bytes):
            raise Dropped("past-its-limits")
        try:
            plain = cipher.open_bytes(packet, sequence)
        except InvalidTag:
            raise Dropped("not-authentic") from None
        if sequence == following:
            self.top = following
        else:
            window = self.window
            window.commit(sequence)
            self.top = window.top
        self.packets += 1
        self._shape = shape = _SHAPES.get((self.ports, length, len(plain)), _NO_SHAPE)
        if shape.stop and plain.startswith(shape.head) and plain.endswith(shape.tail):
            self.byte_count += shape.stop - UDP_HEADER_LENGTH
            return plain[UDP_HEADER_LENGTH : shape.stop]
        return self._data(plain, length)

    def _make_ready(self) -> EspCipher:
        return CIPHERS.keep(self, self.make_cipher(self.key))

    def _data(self, plain: bytes, length: int) -> bytes | None:
        """Of the plaintext of a packet of ``length`` bytes that is not like the last one."""
        stop = self.data_stop(plain, length)
        if not stop:
            return None
        self.byte_count += stop - UDP_HEADER_LENGTH
        return plain[UDP_HEADER_LENGTH:stop]

    def open_run_untrusted(self, run: bytes, size: int, dropped: Counter[str]) -> tuple[int, list[bytes]]:
        """How many packets of ``size`` bytes at the beginning of ``run`` came in turn and are authentic, and the data
        of those that hold a datagram of the flow; the others of them are counted in ``dropped``.

        The rest of the run is for ``open_untrusted``, and all of it when a limit of the SA is near.
        """
        cipher, first, most = self.ready or CIPHERS.make(self), self.top + 1, len(run) // size
        length = size - cipher.overhead
        if (
            length % cipher.alignment
            or length < ESP_TRAILER_LENGTH
            or self.packets + most > self.check_packets
            or self.byte_count + len(run) > self.check_bytes
            # where the low half begins anew, which without ESN it never may (RFC 4303 3.3.3)
            or (first & _LOW_32) + most > _LOW_32
        ):
            return 0, []
        opened = cipher.open_run(self.spi.to_bytes(4, "big"), run, size, first)
        self.top += len(opened)
        self.packets += len(opened)
        data: list[bytes] = []
        if self._shape.length != size:
            self._shape = _SHAPES.get((self.ports, size, length), _NO_SHAPE)
        _, head, tail, stop = self._shape
        for plain in opened:
            if not stop or not plain.startswith(head) or not plain.endswith(tail):
                try:
                    stop = self.data_stop(plain, size)
                except Dropped as wrong:
                    dropped[wrong.reason] += 1
                    stop = 0
                if not stop:
                    continue
                _, head, tail, stop = self._shape
            data.append(plain[UDP_HEADER_LENGTH:stop])
        self.byte_count += sum(map(len, data))
        return len(opened), data

    def data_stop(self, plain: bytes, packet_length: int) -> int:
        """Where the data ends of a datagram of the flow, 0 for a dummy; Dropped for what is neither."""
        length, pad = len(plain), plain[-2]
        stop: int
        ports, stop, _ = _UDP_WORDS.unpack_from(plain) if length >= _LEAST_PLAIN else _NO_WORDS
        # RFC 4303 2.7: padding for traffic flow confidentiality may stand behind the datagram
        if (
            ports != self.ports
            or not UDP_HEADER_LENGTH <= stop <= length - ESP_TRAILER_LENGTH - pad
            or not plain.endswith(_UDP_TRAILERS[pad])
        ):
            if plain[-1] == NEXT_HEADER_DUMMY:
                return 0  # RFC 4303 2.6: discarded without a word
            raise Dropped(self._what_is_wrong(plain), authentic=True)
        if len(_SHAPES) >= _MAX_SHAPES:
            _SHAPES.clear()
        self._shape = shape = _Shape(packet_length, plain[:UDP_HEADER_LENGTH], plain[stop:], stop)
        _SHAPES[self.ports, packet_length, length] = shape
        return stop

    def _what_is_wrong(self, plain: bytes) -> str:
        """Another flow than the one that was agreed on (RFC 4301 5.2), or nothing that a packet can hold."""
        pad = plain[-2]
        stop = len(plain) - ESP_TRAILER_LENGTH - pad
        if stop < UDP_HEADER_LENGTH and plain[-1] == NEXT_HEADER_UDP:
            return "malformed-packet"
        if plain[-1] != NEXT_HEADER_UDP or plain[max(stop, 0) :] != _UDP_TRAILERS[pad]:
            return "wrong-selectors" if stop >= 0 else "malformed-packet"
        return "wrong-selectors" if _UDP_WORDS.unpack_from(plain)[0] != self.ports else "malformed-packet"
