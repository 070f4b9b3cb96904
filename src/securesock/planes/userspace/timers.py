"""When which association of a datagram socket has to be looked at.

Nearly all deadlines are put off before they come: each datagram does that to its peer's.  So nobody moves an entry: an
association is looked at when the earliest moment noted for it comes, and says then when it wants to be looked at again.
Moments that are near stand in a heap, in order; those that are far off wait unordered in spans of some seconds, at
eight bytes each, because most of very many peers are idle.

It must not know what there is to look at, and asks nobody for the time.
"""

from __future__ import annotations

import heapq
import itertools
from math import inf
from typing import Final

from .association import Association

__all__ = ["Timers"]

SPAN_S: Final = 8.0
"""Short beside the minutes after which idle peers go, long beside what a socket with one peer minds to be woken for."""


class Timers:
    """The moments of all associations of a machine.  Not thread-safe."""

    def __init__(self) -> None:
        self._near: list[tuple[float, int, Association]] = []
        self._far: dict[float, list[Association]] = {}
        self._spans: list[float] = []
        self._order = itertools.count()
        self._begun: float | None = None

    @property
    def due(self) -> float:
        """When ``take`` may have something; infinity for never."""
        near = self._near[0][0] if self._near else inf
        return min(near, self._spans[0] * SPAN_S) if self._spans else near

    def note(self, association: Association, due: float) -> bool:
        """Look at it at ``due``, unless that is to be earlier anyway; whether it was not."""
        if due >= association.scheduled:
            return False
        association.scheduled = due
        span = due // SPAN_S
        if self._begun is None:
            self._begun = span  # nothing tells what is near but what is asked for first
        if span <= self._begun:
            heapq.heappush(self._near, (due, next(self._order), association))
        elif span in self._far:
            self._far[span].append(association)
        else:
            self._far[span] = [association]
            heapq.heappush(self._spans, span)
        return True

    def take(self, now: float) -> Association | None:
        """One whose moment has come, for which none is noted from then on; None: nobody's has."""
        while self._spans and self._spans[0] * SPAN_S <= now:
            self._begun = heapq.heappop(self._spans)
            for each in self._far.pop(self._begun):
                if each.scheduled // SPAN_S == self._begun:
                    heapq.heappush(self._near, (each.scheduled, next(self._order), each))
        while self._near and self._near[0][0] <= now:
            when, _, association = heapq.heappop(self._near)
            if when == association.scheduled:
                association.scheduled = inf
                return association
        return None
