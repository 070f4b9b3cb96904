"""How much of this process strangers may occupy before they have proven who they are.

One table counts every connection that is still negotiating, in all and per source, whoever drives it (the listeners'
thread or an event loop).  When it is full the oldest that has not even sent a valid IKE_SA_INIT goes first: a flood of
silent connections then costs an honest client nothing, and clients that are in the middle of a key exchange are never
pushed out by newcomers.  If all are in the middle of one, the newcomer is refused.

It must not know sockets, threads' loops or keying: an entry carries a function that ends it, which its owner provides
and which must be callable from any thread.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from .fork import in_child

__all__ = [
    "HALF_OPEN",
    "FIRST_MESSAGE_S",
    "MAX_HALF_OPEN",
    "MAX_PER_SOURCE",
    "NEGOTIATION_S",
    "HalfOpen",
    "HalfOpenTable",
    "source_of",
]

MAX_HALF_OPEN: Final = 1000  # 16 KiB of buffer each before authentication: at most 16 MiB in strangers' hands
MAX_PER_SOURCE: Final = 64  # one source can hold a sixteenth of the table, whatever it does
FIRST_MESSAGE_S: Final = 2.0  # a client writes its first message at once: two seconds allow for one lost segment
NEGOTIATION_S: Final = 10.0  # every exchange of a negotiation on a bad line, and no longer


def source_of(host: str) -> str:
    """What counts as one source: an IPv4 address (/32) or an IPv6 network of /64, which is what one customer gets."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is None:
            return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
        address = mapped
    return str(address)


class HalfOpen:
    """One connection that has not finished its negotiation.  ``evict`` ends it, from any thread."""

    __slots__ = ("_table", "evict", "silent", "source")

    def __init__(self, table: HalfOpenTable, source: str, evict: Callable[[], None]) -> None:
        self._table = table
        self.source = source
        self.evict = evict
        self.silent = True

    def speaks_ike(self) -> None:
        """It sent a valid IKE_SA_INIT: newcomers do not push it out any more."""
        self._table.spoke(self)

    def leave(self) -> None:
        """It was established, refused or ended.  Idempotent."""
        self._table.leave(self)


class _Source:
    __slots__ = ("count", "silent")

    def __init__(self) -> None:
        self.count = 0
        self.silent: OrderedDict[HalfOpen, None] = OrderedDict()


class HalfOpenTable:
    """All half-open connections of a process.  Thread-safe; ``evict`` functions run outside its lock."""

    def __init__(self, max_total: int = MAX_HALF_OPEN, max_per_source: int = MAX_PER_SOURCE) -> None:
        self._max_total = max_total
        self._max_per_source = max_per_source
        self._lock = threading.Lock()
        self._sources: dict[str, _Source] = {}
        self._silent: OrderedDict[HalfOpen, None] = OrderedDict()
        self._members: set[HalfOpen] = set()

    def __len__(self) -> int:
        return len(self._members)

    def admit(self, source: str, evict: Callable[[], None]) -> HalfOpen | None:
        """Make room for one more of ``source``, or None: there is none, refuse it."""
        with self._lock:
            victim = self._victim(source)
            if victim is _NOBODY:
                return None
            if victim is not None:
                self._remove(victim)
            entry = HalfOpen(self, source, evict)
            self._members.add(entry)
            per_source = self._sources.setdefault(source, _Source())
            per_source.count += 1
            per_source.silent[entry] = None
            self._silent[entry] = None
        if victim is not None:
            victim.evict()
        return entry

    def spoke(self, entry: HalfOpen) -> None:
        """See HalfOpen.speaks_ike."""
        with self._lock:
            entry.silent = False
            if entry in self._members:
                self._silent.pop(entry, None)
                self._sources[entry.source].silent.pop(entry, None)

    def leave(self, entry: HalfOpen) -> None:
        """See HalfOpen.leave."""
        with self._lock:
            if entry in self._members:
                self._remove(entry)

    def _victim(self, source: str) -> HalfOpen | None:
        per_source = self._sources.get(source)
        if per_source is not None and per_source.count >= self._max_per_source:
            # Its own oldest goes: a source that is over its share makes room at nobody else's expense.
            return next(iter(per_source.silent), _NOBODY)
        if len(self._members) >= self._max_total:
            return next(iter(self._silent), _NOBODY)
        return None

    def _remove(self, entry: HalfOpen) -> None:
        self._members.discard(entry)
        self._silent.pop(entry, None)
        per_source = self._sources[entry.source]
        per_source.count -= 1
        per_source.silent.pop(entry, None)
        if not per_source.count:
            del self._sources[entry.source]

    def renew(self) -> None:
        """In a forked child: the connections are the parent's, and so may be the holder of the lock."""
        self._lock = threading.Lock()
        self._members.clear()
        self._silent.clear()
        self._sources.clear()


_NOBODY: Final = HalfOpen(HalfOpenTable(), "", lambda: None)

HALF_OPEN: Final = HalfOpenTable()
"""The process's table."""
in_child(HALF_OPEN.renew)
