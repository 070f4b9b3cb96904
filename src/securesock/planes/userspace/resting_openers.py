"""The inbound SAs of idle peers as rows of one table: what a packet needs of one lies side by side in memory.

A packet of one among very many idle peers finds nothing of that peer in the processor's caches, and each object that it
looks at is a way to memory.  A row is two lines of the cache, and its place follows from the SPI.  So a packet that
comes in turn is opened from the row, with a cipher that is made for it alone.  What is not plain sailing (a packet out
of turn or from another address, a limit that is near, an SA that is worth keeping a cipher for: there is room, or it
needed one soon after the last one twice in succession) is for an opener of its own: whoever asks takes the row out.

Each SPI has one place, from the time that its SA is installed.  Who chooses a new SPI can see which places are taken
(``in``); an SA whose place was another's stays an object.  The rows hold keys, as the objects did, in memory that is
this process's alone; one that was taken out is overwritten.

Not thread-safe.  It must not know who the peers are, nor when one is idle.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
import sys
from collections.abc import Callable, Iterable
from math import inf
from typing import Final, NamedTuple, cast

from cryptography.exceptions import InvalidTag

from ...crypto.esp_cipher import opens_once
from ...engine.ports import Arrival
from ...sad.ciphers import CIPHERS, MAX_CIPHERS
from ...types import Address, Principal
from ...wire.inet import UDP_HEADER_LENGTH
from .association import NEVER, Association, AssociationOpener
from .packet import Dropped, PacketOpener

__all__ = ["NotAtRest", "RestingOpeners"]

_LOW_32: Final = 0xFFFFFFFF
_MADE: Final = 0x7FFFFFFF
_ROW: Final = struct.Struct("=IHH Q 4s IIQQd 32s4s 40p")
_SIZE: Final = _ROW.size  # 128
_unpack: Final = _ROW.unpack_from
_new: Final = tuple.__new__
_COUNTS: Final = struct.Struct("=IIQQd")
_COUNTS_AT: Final = 20
_SPI: Final = struct.Struct("=I")
_OPENERS_ROW: Final = struct.Struct("=I 24x Q")
_NO_ROW: Final = bytes(_SIZE)
_MAX_KEY: Final = 32
_SALT: Final = 4  # RFC 4106 8.1, RFC 7634 2
_MAX_HOST: Final = 39  # IPv6 with all its digits
_NEVER_IN_TURN: Final = (1 << 64) - 1
"""``top`` in the row of an SA that is an object."""
_MAX_KINDS: Final = 1 << 16
_LEAST_PACKET: Final = 36
"""An AEAD's without data: SPI, sequence number, IV, padding and trailer, ICV."""
_MAX_SHAPES: Final = 256
_NO_SHAPE: Final = (b"", b"", 0)
_MAX_PACKET: Final = 1 << 16  # no UDP datagram is larger

FIRST_PLACES: Final = 1 << 14
"""2 MiB: one large page of most processors."""
FULL: Final = 0.75
"""Share of the places that are taken before there are twice as many: a new SPI is drawn four times on average then."""


class _Row(NamedTuple):
    spi: int
    kind: int
    port: int
    sa_id: int
    ports: bytes  # of the flow, as its packets begin
    packets: int
    made_at: int  # _MADE bits of how many ciphers had been made when one was made for it, and whether that was soon
    top: int
    byte_count: int
    last_in: float
    key: bytes
    salt: bytes
    host: bytes


class NotAtRest(Exception):
    """No row opens the packet."""


class _Kind:
    """What many have in common.  ``tail``: what an IPv6 address ends in.  ``opener`` has no keys.

    ``shapes``, by the length of a plaintext: what stands in it behind the ports and behind the data, and where that
    ends, as the last one had it.
    """

    __slots__ = ("check_bytes", "check_packets", "key_length", "open_once", "opener", "shapes", "spec", "tail")

    def __init__(self, like: AssociationOpener, open_once: Callable[[bytes, bytes, bytes, int], bytes]) -> None:
        self.spec = like.spec
        self.tail = like.address[2:]
        self.key_length = like.spec.suite.encryption.key_length
        self.open_once = open_once
        self.opener = PacketOpener(like.spec, 0.0)
        self.shapes: dict[int, tuple[bytes, bytes, int]] = {}
        # before a packet reaches them it is for an opener of its own
        self.check_packets = like.check_packets - 1
        self.check_bytes = like.check_bytes - _MAX_PACKET

    def data_stop(self, plain: bytes, ports: bytes) -> int:
        """See PacketOpener; remembered."""
        self.opener.ports = int.from_bytes(ports, "big")
        stop = self.opener.data_stop(plain)
        if stop:
            if len(self.shapes) >= _MAX_SHAPES:
                self.shapes.clear()
            self.shapes[len(plain)] = plain[4:UDP_HEADER_LENGTH], plain[stop:], stop
        return stop


class RestingOpeners:
    """Of one machine.  ``openers``: those that are objects, whose places are reserved from the first row on."""

    def __init__(self, openers: Iterable[int]) -> None:
        self._openers = openers
        self._taken = 0
        self._places = 0
        self._mask = 0
        self._table: mmap.mmap | bytearray = bytearray(_SIZE)
        self._principals: list[Principal | None] = []
        self._kinds: list[_Kind] = []
        self._numbers: dict[tuple[int, tuple[int, ...]], int] = {}

    def __contains__(self, spi: object) -> bool:
        """Whether the place of this SPI is taken, by itself or by another one: no SA should be chosen it."""
        return isinstance(spi, int) and self._spi_at((spi & self._mask) * _SIZE) != 0

    def holds(self, spi: int) -> bool:
        """Whether the SA with this SPI is a row."""
        return self._row(spi) is not None

    def _spi_at(self, at: int) -> int:
        spi: int = _SPI.unpack_from(self._table, at)[0]
        return spi

    def _row(self, spi: int) -> _Row | None:
        row = _Row._make(_ROW.unpack_from(self._table, (spi & self._mask) * _SIZE))
        # an empty row's SPI is 0, which is no SA's but what an IKE message has in that place
        return row if spi and row.spi == spi and row.top != _NEVER_IN_TURN else None

    # -- a packet ------------------------------------------------------------------------------------------------------

    def open_untrusted(self, packet: bytes, spi: int, low: int, address: Address, now: float) -> Arrival | None:
        """What PacketOpener.open_untrusted makes of a packet with this SPI and sequence number from ``address``.

        NotAtRest: no SA with this SPI is here, or the packet is not for a row.
        """
        place = spi & self._mask
        at = place * _SIZE
        row = _unpack(self._table, at)
        there, number, port, sa_id, ports, packets, made_at, top, byte_count, last_in, key, salt, host = row
        top += 1
        if there != spi or low != top & _LOW_32 or not low:
            raise NotAtRest
        kind: _Kind = self._kinds[number]
        if (
            port != address[1]
            or host != address[0].encode()
            or (kind.tail and kind.tail != address[2:])
            or packets >= kind.check_packets
            or byte_count >= kind.check_bytes
            or len(packet) < _LEAST_PACKET
            or len(packet) & 3  # RFC 4303 2.4
        ):
            raise NotAtRest
        soon = CIPHERS.made - (made_at >> 1) & _MADE < CIPHERS.soon
        if soon and (made_at & 1 or CIPHERS.soon == inf):
            raise NotAtRest
        try:
            plain = kind.open_once(salt, key, packet, top)
        except InvalidTag:
            raise Dropped("not-authentic") from None
        CIPHERS.made += 1
        made_at = (CIPHERS.made & _MADE) << 1 | soon
        try:
            head, tail, stop = kind.shapes.get(len(plain), _NO_SHAPE)
            if not stop or not plain.startswith(ports + head) or not plain.endswith(tail):
                stop = kind.data_stop(plain, ports)
            last_in = now
            if not stop:
                return None
            byte_count += stop - UDP_HEADER_LENGTH
            return _new(Arrival, (plain[UDP_HEADER_LENGTH:stop], address, self._principals[place], sa_id))
        finally:
            _COUNTS.pack_into(self._table, at + _COUNTS_AT, packets + 1, made_at, top, byte_count, last_in)

    # -- coming and going ----------------------------------------------------------------------------------------------

    def last_in(self, spi: int) -> float:
        """When the last packet of an SA that is here opened."""
        row = self._row(spi)
        return NEVER if row is None else row.last_in

    def put(self, opener: AssociationOpener) -> bool:
        """Write down what ``opener`` is; False: it is more than a row can hold, or its place is taken.

        Nothing is left of the opener's but the row: whoever has it lets it go.
        """
        host, port = opener.address[0].encode(), opener.address[1]
        if opener.asked or not opener.in_turn or opener.packets > _LOW_32 or len(host) > _MAX_HOST:
            return False
        if not self._places:
            self._grow()
        place, number = opener.spi & self._mask, self._number(opener)
        if number is None or self._spi_at(place * _SIZE) != opener.spi:
            return False
        ports, long_ago = opener.ports.to_bytes(4, "big"), (CIPHERS.made - MAX_CIPHERS & _MADE) << 1
        counts = opener.packets, long_ago, opener.top, opener.byte_count, opener.last_in
        length = self._kinds[number].key_length
        row = opener.spi, number, port, opener.sa_id, ports, *counts, opener.key[:length], opener.key[length:], host
        _ROW.pack_into(self._table, place * _SIZE, *row)
        self._principals[place] = opener.principal
        return True

    def address(self, spi: int) -> Address | None:
        """Where the peer is whose SA with this SPI is here."""
        row = self._row(spi)
        return None if row is None else cast(Address, (row.host.decode(), row.port, *self._kinds[row.kind].tail))

    def take(self, spi: int, association: Association) -> AssociationOpener:
        """The opener that was put here, for the association that it is of.  KeyError: it was not."""
        row = self._row(spi)
        if row is None:
            raise KeyError(spi)
        place = spi & self._mask
        kind = self._kinds[row.kind]
        opener = AssociationOpener.like(kind.opener, association)
        opener.spi, opener.sa_id, opener.ports = spi, row.sa_id, int.from_bytes(row.ports, "big")
        opener.key = row.key[: kind.key_length] + row.salt
        opener.packets, opener.top = row.packets, row.top
        opener.byte_count, opener.last_in = row.byte_count, row.last_in
        opener.principal = self._principals[place]
        self._principals[place] = None
        self._write(place, _reserved(spi))
        return opener

    def _number(self, opener: AssociationOpener) -> int | None:
        # peers at rest share their specs, and a kind keeps its own: its number is not another's
        key = id(opener.spec), opener.address[2:]
        number = self._numbers.get(key)
        if number is None and len(self._kinds) < _MAX_KINDS:
            open_once = opens_once(opener.spec.suite)
            if open_once is not None and opener.spec.suite.encryption.salt_length == _SALT:
                number = self._numbers[key] = len(self._kinds)
                self._kinds.append(_Kind(opener, open_once))
        return number

    # -- places --------------------------------------------------------------------------------------------------------

    def reserve(self, spi: int) -> None:
        """An SA with this SPI was installed."""
        if not self._places:
            return  # nobody is here yet
        if self._taken >= self._places * FULL:
            self._grow()
        else:
            self._reserve(spi)

    def release(self, spi: int) -> None:
        """It is gone, and was an object."""
        if self._places and self._spi_at((spi & self._mask) * _SIZE) == spi:
            self._write(spi & self._mask, _NO_ROW)
            self._taken -= 1

    def _reserve(self, spi: int) -> None:
        place = spi & self._mask
        if not self._spi_at(place * _SIZE):
            self._write(place, _reserved(spi))
            self._taken += 1

    def _write(self, place: int, row: bytes) -> None:
        self._table[place * _SIZE : (place + 1) * _SIZE] = row

    def _grow(self) -> None:
        """Twice as many places: SPIs that had different ones still do, and others may have now."""
        before, principals, places = self._table, self._principals, self._places
        self._places = max(FIRST_PLACES, places * 2)
        self._mask = self._places - 1
        self._table = _blank(self._places * _SIZE)
        self._principals = [None] * self._places
        for place in range(places):
            row = before[place * _SIZE : (place + 1) * _SIZE]
            if row != _NO_ROW:
                to = _SPI.unpack_from(row)[0] & self._mask
                self._write(to, bytes(row))
                self._principals[to] = principals[place]
        if isinstance(before, mmap.mmap):
            before.close()
        for spi in self._openers:
            self._reserve(spi)


def _reserved(spi: int) -> bytes:
    """The row of an SA that is an object."""
    return _OPENERS_ROW.pack(spi, _NEVER_IN_TURN) + bytes(_SIZE - _OPENERS_ROW.size)


def _blank(size: int) -> mmap.mmap:
    """Memory that a child does not share, and that no core holds where the system can leave it out."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    table = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for advice in ("MADV_HUGEPAGE", "MADV_DONTDUMP"):  # a random row costs half of its way to memory in a large page
        with contextlib.suppress(AttributeError, OSError):
            table.madvise(getattr(mmap, advice))
    return table
