"""How many users may fail from one source: what keeps passwords from being guessed over the network.

A source has a handful of tries at once and gets one back every so often; a user that is proven costs none.  The table
is bounded, and a flood of sources pushes the oldest out, which gives each of them no more than a new source has.
Shared by all sockets of a context, from any thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from .fork import process
from .half_open import source_of

__all__ = ["UserTries"]

AT_ONCE: Final = 10
"""A person who mistypes, times a few programs behind one address."""

ONE_MORE_S: Final = 30.0
"""2,880 a day and source: a password of six random letters takes three centuries."""

MAX_SOURCES: Final = 4096


class UserTries:
    """keying.contract.UserTries.  ``now`` is any clock that goes forward evenly."""

    __slots__ = ("_generation", "_lock", "_sources")

    def __init__(self) -> None:
        self._sources: OrderedDict[str, float] = OrderedDict()
        self._generation = process.generation
        self._lock = threading.Lock()

    def _locked(self) -> threading.Lock:
        if self._generation != process.generation:
            # a thread of the parent may have held it
            self._lock, self._generation = threading.Lock(), process.generation
        return self._lock

    def may_try(self, host: str, now: float) -> bool:
        """Whether another user may be tried from there."""
        with self._locked():
            return self._used(source_of(host), now) <= AT_ONCE - 1

    def failed(self, host: str, now: float) -> None:
        """One failed."""
        source = source_of(host)
        with self._locked():
            used = self._used(source, now) + 1
            # kept as the moment at which nothing would be used any more
            self._sources[source] = now + used * ONE_MORE_S
            self._sources.move_to_end(source)
            while len(self._sources) > MAX_SOURCES:
                self._sources.popitem(last=False)

    def _used(self, source: str, now: float) -> float:
        return max(0.0, (self._sources.get(source, now) - now) / ONE_MORE_S)
