"""Inner fragments of tunnelled packets put together again, within bounds that an authentic but hostile peer keeps to.

RFC 791 3.2 and RFC 8200 4.5.  Pieces that overlap end the whole datagram (RFC 5722 4), and so do a last piece that is
not the last, two last pieces that differ, and a total beyond what a packet holds: nothing is guessed.  What never
becomes whole is forgotten after a while, or when something newer needs its place.  Everything that ends so is counted
by its reason.

It knows nothing of ESP, SAs or peers.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import Final, TypeAlias

from ...wire.inet import Fragment

__all__ = ["REASSEMBLY_S", "Reassembly"]

REASSEMBLY_S: Final = 30.0
"""RFC 1122 3.3.2 asks for 60 to 120 s, when paths were slow; 30 is what Linux waits."""
MAX_PACKETS: Final = 64
"""Packets in pieces at once: one behind the other, a sender has one or two under way."""
MAX_BYTES: Final = 1 << 20
"""Held of all of them: sixteen of the largest."""
MAX_PIECES: Final = 128
"""Of one packet: 65535 bytes in pieces of 512."""
MAX_PAYLOAD: Final = 65535

_Key: TypeAlias = tuple[bytes, bytes, int]


class _Partial:
    """The pieces of one packet, which do not overlap."""

    __slots__ = ("pieces", "size", "total", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.pieces: dict[int, bytes] = {}
        self.size = 0
        self.total: int | None = None

    def refusal(self, offset: int, piece: bytes, more: bool) -> str | None:
        """Why this piece does not belong to the others; None where it does."""
        end = offset + len(piece)
        if end > MAX_PAYLOAD or (more and len(piece) % 8) or not piece:
            return "fragment-lies"
        if self.total is not None and (end > self.total or not (more or end == self.total)):
            return "fragment-lies"
        if not more and any(at + len(each) > end for at, each in self.pieces.items()):
            return "fragment-lies"
        if any(at < end and offset < at + len(each) for at, each in self.pieces.items()):
            return "fragment-overlaps"
        return None


class Reassembly:
    """What is in pieces with one peer; ``counters`` is where reasons are counted."""

    __slots__ = ("_partial", "_size", "counters")

    def __init__(self, counters: Counter[str]) -> None:
        self.counters = counters
        self._partial: dict[_Key, _Partial] = {}
        self._size = 0

    def add(self, source: bytes, destination: bytes, fragment: Fragment, piece: bytes, now: float) -> bytes | None:
        """The whole payload, when this was the last missing piece of it."""
        self.expire(now)
        key = source, destination, fragment.identification
        partial = self._partial.get(key)
        if partial is None:
            if len(self._partial) >= MAX_PACKETS:
                self._drop(next(iter(self._partial)), "fragments-too-many")
            partial = self._partial[key] = _Partial(now + REASSEMBLY_S)
        elif partial.pieces.get(fragment.offset) == piece and fragment.more == (
            partial.total != fragment.offset + len(piece)
        ):
            self.counters["fragment-repeated"] += 1  # RFC 5722 errata, RFC 8200 4.5: exact duplicates harm nothing
            return None
        refusal = partial.refusal(fragment.offset, piece, fragment.more)
        if refusal is None and len(partial.pieces) >= MAX_PIECES:
            refusal = "fragments-too-many"
        if refusal is not None:
            self._drop(key, refusal)
            return None
        partial.pieces[fragment.offset] = piece
        partial.size += len(piece)
        self._size += len(piece)
        if not fragment.more:
            partial.total = fragment.offset + len(piece)
        if partial.size == partial.total:
            self._forget(key)
            return b"".join(partial.pieces[at] for at in sorted(partial.pieces))
        while self._size > MAX_BYTES:
            self._drop(next(iter(self._partial)), "fragments-too-many")
        return None

    @property
    def deadline(self) -> float:
        """When ``expire`` has something to do; infinity for never."""
        return next(iter(self._partial.values())).until if self._partial else inf

    def expire(self, now: float) -> None:
        """Forget what did not become whole in time."""
        while self._partial and self.deadline <= now:
            self._drop(next(iter(self._partial)), "fragments-incomplete")

    def _drop(self, key: _Key, reason: str) -> None:
        self.counters[reason] += 1
        self._forget(key)

    def _forget(self, key: _Key) -> None:
        self._size -= self._partial.pop(key).size
