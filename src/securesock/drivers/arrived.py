"""Opened datagrams that wait for the application's next call, bounded as the kernel's own queue is.

An application that waits for a descriptor waits for one that is readable exactly while a datagram waits here: the
kernel's would also be for a key exchange's messages, and no longer once somebody has read it.

Whoever calls holds the carrier's lock.  It must not know where datagrams come from, nor who waits for them.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence
from typing import Final

from ..engine.ports import Arrival

__all__ = ["Arrived", "readiness_pair"]

MAX_ARRIVED: Final = 1 << 20
"""Bytes of opened datagrams that wait for the application; each counts 512 more, as the kernel counts its own room."""
ARRIVED_OVERHEAD: Final = 512


def readiness_pair() -> tuple[socket.socket, socket.socket]:
    """The first is what an application waits for; a byte in it means that a datagram waits."""
    inbox, outbox = socket.socketpair()
    inbox.setblocking(False)
    outbox.setblocking(False)
    return inbox, outbox


def _room(arrivals: Sequence[Arrival]) -> int:
    return sum([len(data) for data, _, _, _ in arrivals]) + ARRIVED_OVERHEAD * len(arrivals)


class Arrived:
    """``readiness`` as readiness_pair made it, where the application has a descriptor already.

    ``waiting``: in the order that they came in, to be looked at alone.
    """

    __slots__ = ("_bytes", "_pair", "waiting")

    def __init__(self, readiness: tuple[socket.socket, socket.socket] | None = None) -> None:
        self.waiting: deque[Arrival] = deque()
        self._bytes = 0
        self._pair = readiness

    @property
    def has_descriptor(self) -> bool:
        """Whether an application may wait for it."""
        return self._pair is not None

    def fileno(self) -> int:
        """A descriptor that is readable exactly while something waits, made by the first call."""
        if self._pair is None:
            self._pair = readiness_pair()
            if self.waiting:
                self._pair[1].send(b"\0")
        return self._pair[0].fileno()

    def keep(self, arrivals: Sequence[Arrival]) -> int:
        """Behind what waits already, each for which there is room; for how many there was none."""
        kept, room = arrivals, _room(arrivals)
        if self._bytes + room > MAX_ARRIVED:
            kept, room = [], 0
            for each in arrivals:
                size = _room((each,))
                if self._bytes + room + size <= MAX_ARRIVED:
                    kept.append(each)
                    room += size
        if kept and not self.waiting and self._pair is not None:
            self._pair[1].send(b"\0")
        self.waiting.extend(kept)
        self._bytes += room
        return len(arrivals) - len(kept)

    def take(self, most: int) -> list[Arrival]:
        """The first ``most`` of what waits, or all of it."""
        waiting = self.waiting
        if len(waiting) <= most:
            taken = list(waiting)
            waiting.clear()
            self._bytes = 0
        else:
            taken = [waiting.popleft() for _ in range(most)]
            self._bytes -= _room(taken)
        if taken and not waiting and self._pair is not None:
            self._pair[0].recv(1)
        return taken

    def close(self) -> None:
        """Of the descriptor nothing is left."""
        for each in self._pair or ():
            each.close()
