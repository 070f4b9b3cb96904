"""The inbound SAs of idle peers as rows of one table: what a packet needs of one lies side by side in memory.

A packet of one among very many peers finds nothing of that peer in the processor's caches, and each object that it
looks at is a way to memory.  A row is two lines of the cache, its place follows from the SPI, and only who has no
cipher needs the second line, where the key is.  What is not plain sailing (a packet out of turn or from another
address, a limit that is near) is for an opener of its own: whoever asks takes the row out.

A cipher is made for one packet alone, unless it is worth keeping (sad.ciphers): there is room, or three packets came
in a short time.

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
from ipaddress import ip_address
from typing import Final, NamedTuple, TypeAlias, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from ...crypto.esp_cipher import opens_with
from ...crypto.message_protection import aead_class
from ...engine.ports import Arrival
from ...sad.ciphers import CIPHERS
from ...types import Address, Principal
from ...wire.inet import UDP_HEADER_LENGTH
from .association import NEVER, Association, AssociationOpener
from .kept_ciphers import KeptCiphers
from .packet import Dropped, PacketOpener

__all__ = ["NotAtRest", "RestingOpeners"]

_Aead: TypeAlias = AESGCM | ChaCha20Poly1305
_Open: TypeAlias = Callable[[_Aead, bytes, bytes, int], bytes]

_LOW_32: Final = 0xFFFFFFFF
_ROW: Final = struct.Struct("=IHHQ4s4sqQQdd 32sIB16sH9x")
_SIZE: Final = _ROW.size  # 128
_SHIFT: Final = 7
_packet_parts: Final = struct.Struct("=IHHQ4s4sqQQdd").unpack_from  # the first line
_COUNTS: Final = struct.Struct("=QQdd")
_COUNTS_AT: Final = 32
_write_counts: Final = _COUNTS.pack_into
_KEPT: Final = struct.Struct("=H")
_KEPT_AT: Final = 6
_KEY_AT: Final = 64
_SPI: Final = struct.Struct("=I")
_new: Final = tuple.__new__
_MAPPED: Final = "::ffff:"  # RFC 4291 2.5.5.2: of an IPv4 peer of a socket for both
_MAPPED_SIZE: Final = 5
_NO_ROW: Final = bytes(_SIZE)
_SALT: Final = 4  # RFC 4106 8.1, RFC 7634 2
_MAX_KINDS: Final = 0xFFFF
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
    """``kind`` is 0 where the SA is an object, and all else but its SPI too."""

    spi: int
    kind: int
    kept: int  # see KeptCiphers
    sa_id: int
    salt: bytes
    ports: bytes  # of the flow, as its packets begin with them
    where: int  # hash of the address: another one's is another, but for one in 2^61, which costs a peer its move
    top: int
    byte_count: int
    last_in: float
    before: float  # when the one before the last came
    key: bytes
    missing: int  # how many of the numbers up to ``top`` never came
    host_length: int
    host: bytes  # packed
    port: int


class NotAtRest(Exception):
    """No row opens the packet."""


class _Kind:
    """What many have in common.  ``tail``: what an IPv6 address ends in.  ``opener`` has no keys.

    ``shapes``, by the length of a packet: what stands in its plaintext behind the ports and behind the data, and where
    that ends, as the last one had it.
    """

    __slots__ = ("check_bytes", "check_top", "key_end", "library", "open", "opener", "shapes", "spec", "tail")

    def __init__(self, like: AssociationOpener, open_packet: _Open) -> None:
        encryption = like.spec.suite.encryption
        self.spec = like.spec
        self.tail = like.address[2:]
        self.key_end = _KEY_AT + encryption.key_length
        self.library = aead_class(encryption)
        self.open = open_packet
        self.opener = PacketOpener(like.spec, 0.0)
        self.shapes: dict[int, tuple[bytes, bytes, int]] = {}
        # a packet that reaches them is for an opener of its own, and there are no more packets than numbers
        self.check_top = like.check_packets
        self.check_bytes = like.check_bytes - _MAX_PACKET

    def data_stop(self, plain: bytes, ports: bytes, length: int) -> int:
        """See PacketOpener; remembered."""
        self.opener.ports = int.from_bytes(ports, "big")
        stop = self.opener.data_stop(plain, length)
        if stop:
            if len(self.shapes) >= _MAX_SHAPES:
                self.shapes.clear()
            self.shapes[length] = plain[4:UDP_HEADER_LENGTH], plain[stop:], stop
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
        self._kept = KeptCiphers(self._note_kept)
        self._ready, self._used = self._kept.ready, self._kept.used  # a step less for each packet
        self._kinds: list[_Kind] = []  # a row's number is one more
        self._numbers: dict[tuple[int, tuple[int, ...]], int] = {}

    def __contains__(self, spi: object) -> bool:
        """Whether the place of this SPI is taken, by itself or by another one: no SA should be chosen it."""
        return isinstance(spi, int) and self._spi_at(spi & self._mask) != 0

    def holds(self, spi: int) -> bool:
        """Whether the SA with this SPI is a row."""
        return self._row(spi) is not None

    def _spi_at(self, place: int) -> int:
        spi: int = _SPI.unpack_from(self._table, place * _SIZE)[0]
        return spi

    def _row(self, spi: int) -> _Row | None:
        row = _Row._make(_ROW.unpack_from(self._table, (spi & self._mask) * _SIZE))
        return row if row.spi == spi and row.kind else None

    # -- a packet ------------------------------------------------------------------------------------------------------

    def open_untrusted(self, packet: bytes, spi: int, low: int, address: Address, now: float) -> Arrival | None:
        """What PacketOpener.open_untrusted makes of a packet with this SPI and sequence number from ``address``.

        NotAtRest: no SA with this SPI is here, or the packet is not for a row.
        """
        place = spi & self._mask
        at = place << _SHIFT
        there, number, kept, sa_id, salt, ports, where, top, byte_count, last_in, before = _packet_parts(
            self._table, at
        )
        top += 1
        if there != spi or low != top & _LOW_32 or not number or where != hash(address):
            raise NotAtRest
        kind = self._kinds[number - 1]
        length = len(packet)
        head, tail, stop = kind.shapes.get(length, _NO_SHAPE)
        if (
            top >= kind.check_top
            or byte_count >= kind.check_bytes
            or (not stop and (length < _LEAST_PACKET or length & 3))  # RFC 4303 2.4
        ):
            raise NotAtRest
        cipher = self._ready[kept]
        aead = cipher or kind.library(self._table[at + _KEY_AT : at + kind.key_end])
        try:
            plain = kind.open(aead, salt, packet, top)
        except InvalidTag:
            raise Dropped("not-authentic") from None
        if cipher is not None:
            self._used[kept] = 1
            principal = self._kept.principals[kept]
        else:
            principal = self._principals[place]
            if now - before <= CIPHERS.soon_s:
                self._keep(spi, kept, aead, principal)
            else:
                CIPHERS.note_once(now)
        if not stop or not plain.startswith(ports + head) or not plain.endswith(tail):
            _write_counts(self._table, at + _COUNTS_AT, top, byte_count, now, last_in)  # whatever is in it
            stop = kind.data_stop(plain, ports, length)
            if not stop:
                return None
        _write_counts(self._table, at + _COUNTS_AT, top, byte_count + stop - UDP_HEADER_LENGTH, now, last_in)
        return _new(Arrival, (plain[UDP_HEADER_LENGTH:stop], address, principal, sa_id))

    def _keep(self, spi: int, before: int, aead: _Aead, principal: Principal | None) -> None:
        """``before``: the row's number, whose cipher was let go, or 0."""
        self._note_kept(spi)  # first: whatever interrupts us, no row has a number that is another's
        self._kept.give_back(before)
        self._note_kept(spi, self._kept.keep(aead, spi, principal))

    def _note_kept(self, spi: int, number: int = 0) -> None:
        _KEPT.pack_into(self._table, ((spi & self._mask) << _SHIFT) + _KEPT_AT, number)

    # -- coming and going ----------------------------------------------------------------------------------------------

    def last_in(self, spi: int) -> float:
        """When the last packet of an SA that is here opened."""
        row = self._row(spi)
        return NEVER if row is None else row.last_in

    def put(self, opener: AssociationOpener) -> bool:
        """Write down what ``opener`` is; False: it is more than a row can hold, or its place is taken.

        Nothing is left of the opener's but the row: whoever has it lets it go.  The row has no cipher yet: of very many
        idle peers few are heard of again soon, and the numbers of those that are stay close together.
        """
        host, port = opener.address[:2]
        number, packed = self._number(opener), _packed(host)
        if number is None or packed is None or opener.asked or not opener.in_turn:
            return False
        kind, missing = self._kinds[number - 1], opener.top - opener.packets
        near = opener.top + 1 >= kind.check_top or opener.byte_count >= kind.check_bytes
        if near or not 0 <= missing <= _LOW_32:
            return False
        if not self._places:
            self._grow()
        place = opener.spi & self._mask
        if self._spi_at(place) != opener.spi:
            return False
        salt_at, ports = kind.key_end - _KEY_AT, opener.ports.to_bytes(4, "big")
        known = 0, opener.sa_id, opener.key[salt_at:], ports, hash(opener.address)
        counts = opener.top, opener.byte_count, opener.last_in, NEVER
        seldom = opener.key[:salt_at], missing, len(packed), packed, port
        _ROW.pack_into(self._table, place * _SIZE, opener.spi, number, *known, *counts, *seldom)
        self._principals[place] = opener.principal
        CIPHERS.drop(opener)
        return True

    def address(self, spi: int) -> Address | None:
        """Where the peer is whose SA with this SPI is here."""
        row = self._row(spi)
        if row is None:
            return None
        return cast(Address, (_host(row.host[: row.host_length]), row.port, *self._kinds[row.kind - 1].tail))

    def take(self, spi: int, association: Association) -> AssociationOpener:
        """The opener that was put here, for the association that it is of.  KeyError: it was not."""
        row = self._row(spi)
        if row is None:
            raise KeyError(spi)
        place = spi & self._mask
        kind = self._kinds[row.kind - 1]
        opener = AssociationOpener.like(kind.opener, association)
        opener.spi, opener.sa_id, opener.ports = spi, row.sa_id, int.from_bytes(row.ports, "big")
        opener.key = row.key[: kind.key_end - _KEY_AT] + row.salt
        opener.packets, opener.top = row.top - row.missing, row.top
        opener.byte_count, opener.last_in = row.byte_count, row.last_in
        opener.principal, self._principals[place] = self._principals[place], None
        self._write(place, _reserved(spi))
        self._kept.give_back(row.kept)
        return opener

    def _number(self, opener: AssociationOpener) -> int | None:
        # peers at rest share their specs, and a kind keeps its own: its number is not another's
        key = id(opener.spec), opener.address[2:]
        number = self._numbers.get(key)
        if number is None and len(self._kinds) < _MAX_KINDS:
            open_packet = opens_with(opener.spec.suite)
            if open_packet is not None and opener.spec.suite.encryption.salt_length == _SALT:
                self._kinds.append(_Kind(opener, open_packet))
                number = self._numbers[key] = len(self._kinds)
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
        if self._places and self._spi_at(spi & self._mask) == spi:
            self._write(spi & self._mask, _NO_ROW)
            self._taken -= 1

    def _reserve(self, spi: int) -> None:
        place = spi & self._mask
        if not self._spi_at(place):
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
    return _SPI.pack(spi) + _NO_ROW[_SPI.size :]


def _packed(host: str) -> bytes | None:
    """A numeric host in at most 16 bytes of which ``_host`` makes the same text again; None if there are none."""
    mapped = host.startswith(_MAPPED) and "." in host  # as the kernel writes it, and ipaddress does not everywhere
    try:
        packed = ip_address(host.removeprefix(_MAPPED) if mapped else host).packed
    except ValueError:  # with the name of an interface, for one
        return None
    packed = b"\0" * mapped + packed
    return packed if _host(packed) == host else None


def _host(packed: bytes) -> str:
    return _MAPPED + str(ip_address(packed[1:])) if len(packed) == _MAPPED_SIZE else str(ip_address(packed))


def _blank(size: int) -> mmap.mmap:
    """Memory that a child does not share, and that no core holds where the system can leave it out."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    table = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for advice in ("MADV_HUGEPAGE", "MADV_DONTDUMP"):  # a random row costs half of its way to memory in a large page
        with contextlib.suppress(AttributeError, OSError):
            table.madvise(getattr(mmap, advice))
    return table
