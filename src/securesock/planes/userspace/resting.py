"""What no packet of an idle peer touches, as one string of bytes: a tenth of the memory, for as long as it is idle.

A key exchange with its SAs is a hundred small objects.  Of them a packet that comes in needs what opens it; the rest is
looked at by messages of the key exchange, by what is sent, and by timers that were known before.  So an idle peer's
session, limits and outbound SA are pickled, and come back the moment that anything asks for them.  What many peers
share (policies, suites, classes, the names of attributes) stands in a table, and the bytes hold its number there; the
first one's, without its keys, is what they are compressed by.

The bytes never leave the process and are read by nobody else; they hold keys, as the objects did.  What cannot be
pickled stays awake.  This module must not know what a session is, nor when a peer is idle.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Sequence
from enum import Enum
from io import BytesIO
from typing import Final, Literal, TypeAlias, TypeVar, cast

from ...crypto.suites import Encryption, EspSuite, IkeSuite, Integrity, KeyExchangeMethod, Prf
from ...identity.names import IkeId, PeerTargetName
from ...keying.tickets import TicketBook
from ...policy.negotiation import ChildOffer, IkeOffer
from ...types import Lifetimes, Principal

__all__ = ["Resting"]

MAX_SHARED: Final = 8192
"""Places in the table; beyond them things are written out.  Attributes, classes and policies take some hundreds."""
MAX_NAMES: Final = 4096
"""Of them those up to which names of peers and authorities are taken: many peers may share one."""

_BY_VALUE: Final = (
    type,
    Enum,
    ChildOffer,
    Encryption,
    EspSuite,
    IkeOffer,
    IkeSuite,
    Integrity,
    KeyExchangeMethod,
    Lifetimes,
    Prf,
)
_NAMES: Final = (IkeId, PeerTargetName, Principal, str)
_THEMSELVES: Final = ("securesock.identity.", "securesock.policy.", "securesock.engine.", "securesock.secret")
"""Where what a socket was configured with comes from: it is not copied, and some of it has a state."""
_How: TypeAlias = Literal["equal", "name", "itself", "written"]
_RAW: Final = -15  # zlib's name for deflate without a header
_LEVEL: Final = 6
"""Some 450 bytes: the interpreter allocates objects of up to 512 itself, apart from the library's contexts."""
_WITH_STATE: Final = (TicketBook,)


_T = TypeVar("_T")


def _how(kind: type) -> _How:
    """Where objects of a class go: into the table as values, as names, as themselves, or among the bytes."""
    if issubclass(kind, _BY_VALUE):
        return "equal"
    if issubclass(kind, _NAMES):
        return "name"
    if kind.__module__.startswith(_THEMSELVES) or issubclass(kind, _WITH_STATE) or hasattr(kind, "token"):
        return "itself"  # token: a source of randomness
    return "written"


class Resting:
    """The table that all idle peers of one machine share.  Not thread-safe."""

    def __init__(self) -> None:
        self._things: list[object] = []
        self._places: dict[object, int] = {}
        self._kinds: dict[type, _How] = {}
        self._common = b""

    def freeze(self, things: object, own: Sequence[object]) -> bytes | None:
        """``things`` as bytes, without what is in ``own``, which lives on, nor any name that is equal to one there.

        None: something of it cannot be pickled.
        """
        out = BytesIO()
        freezer = _Freezer(self, out, own)
        try:
            freezer.dump(things)
        except (pickle.PicklingError, TypeError, AttributeError):
            return None
        pickled = out.getvalue()
        if not self._common:
            self._common = freezer.without_bytes(pickled)
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW, zdict=self._common)
        return packer.compress(pickled) + packer.flush()

    def thaw(self, frozen: bytes, own: Sequence[object]) -> object:
        """What ``freeze`` made these bytes of, with the same number of things in ``own``."""
        unpacked = zlib.decompressobj(_RAW, zdict=self._common).decompress(frozen)
        return _Thawer(self, unpacked, own).load()

    def shared(self, thing: _T) -> _T:
        """An equal thing that stands in the table already, or ``thing``."""
        place = self.place(thing)
        return thing if place is None else cast(_T, self._things[place])

    def place(self, thing: object) -> int | None:
        """Where in the table ``thing`` stands, None for what does not belong there.

        PicklingError: it does, and there is no room left.
        """
        kind = type(thing)
        how = self._kinds.get(kind)
        if how is None:
            how = self._kinds[kind] = _how(kind)
        if how == "written":
            return None
        # what is known by its identity is kept alive by the table, so that no other takes its number
        key = (kind, id(thing) if how == "itself" else thing)
        found = self._places.get(key)
        if found is not None:
            return found
        if len(self._things) >= (MAX_NAMES if how == "name" else MAX_SHARED):
            if how == "itself":
                raise pickle.PicklingError("no room")
            return None
        self._places[key] = len(self._things)
        self._things.append(thing)
        return self._places[key]

    def thing(self, place: int) -> object:
        """What stands there."""
        return self._things[place]


class _Freezer(pickle.Pickler):
    def __init__(self, table: Resting, out: BytesIO, own: Sequence[object]) -> None:
        super().__init__(out, pickle.HIGHEST_PROTOCOL)
        self._place = table.place
        self._own = {each if type(each) is str else id(each): -1 - number for number, each in enumerate(own)}
        self._bytes: set[bytes] = set()

    def persistent_id(self, thing: object) -> int | None:
        """A place in the table, or below zero one of ``own``."""
        if isinstance(thing, bytes | bytearray):
            self._bytes.add(bytes(thing))
        own = self._own.get(thing if type(thing) is str else id(thing))
        return self._place(thing) if own is None else own

    def without_bytes(self, pickled: bytes) -> bytes:
        """What was dumped, as long as it is, with zeros for each key and all else that is bytes."""
        for each in sorted(self._bytes, key=len, reverse=True):  # the long ones first: one may hold another
            pickled = pickled.replace(each, bytes(len(each)))
        return pickled


class _Thawer(pickle.Unpickler):
    def __init__(self, table: Resting, frozen: bytes, own: Sequence[object]) -> None:
        super().__init__(BytesIO(frozen))
        self._thing = table.thing
        self._own = own

    def persistent_load(self, place: int) -> object:
        """See _Freezer."""
        return self._own[-1 - place] if place < 0 else self._thing(place)
