"""A network in virtual time: latency, loss, duplicates, reorder, and whatever an attacker on the path would do.

Datagrams are handed in with the time and come out when they are due.  Randomness is seeded, so that a failure repeats.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

__all__ = ["FakeNetwork"]

_To = TypeVar("_To")


class FakeNetwork(Generic[_To]):
    """Carries datagrams to destinations of any hashable kind.

    ``latency_s`` is each datagram's delay, ``jitter_s`` a random addition to it (which is what reorders), ``loss`` and
    ``duplication`` are probabilities.  With ``ordered`` nothing overtakes and nothing is lost: a stream.
    ``tamper`` sees (destination, datagram) and returns what really arrives: any number of datagrams.
    """

    def __init__(
        self,
        *,
        latency_s: float = 0.01,
        jitter_s: float = 0.0,
        loss: float = 0.0,
        duplication: float = 0.0,
        ordered: bool = False,
        seed: int = 0,
        tamper: Callable[[_To, bytes], Iterable[bytes]] | None = None,
    ) -> None:
        self.latency_s = latency_s
        self.jitter_s = jitter_s
        self.loss = loss
        self.duplication = duplication
        self.ordered = ordered
        self.tamper = tamper
        self.carried = 0
        self.lost = 0
        self._random = random.Random(seed)
        self._in_flight: list[tuple[float, int, _To, bytes]] = []
        self._count = itertools.count()

    def send(self, to: _To, datagram: bytes, now: float) -> None:
        """Put a datagram on its way."""
        for each in (datagram,) if self.tamper is None else tuple(self.tamper(to, datagram)):
            copies = 1
            if not self.ordered:
                if self._random.random() < self.loss:
                    self.lost += 1
                    continue
                copies += self._random.random() < self.duplication
            for _ in range(copies):
                jitter_s = 0.0 if self.ordered else self.jitter_s * self._random.random()
                heapq.heappush(self._in_flight, (now + self.latency_s + jitter_s, next(self._count), to, each))

    def next_arrival(self) -> float | None:
        """When the next datagram is due, or None when nothing is in flight."""
        return self._in_flight[0][0] if self._in_flight else None

    def arrived(self, now: float) -> list[tuple[_To, bytes]]:
        """What is due by ``now``, in order of arrival."""
        due: list[tuple[_To, bytes]] = []
        while self._in_flight and self._in_flight[0][0] <= now:
            _, _, to, datagram = heapq.heappop(self._in_flight)
            self.carried += 1
            due.append((to, datagram))
        return due
