"""Handles of the filtering platform's functions: numbers for sessions, enumerations and subscriptions.

It must not know what is done with what is behind them.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field
from typing import TypeVar

from ..policy.changes import Change, Subscription
from ..policy.events import NetEvent
from ..policy.session import Session
from ..wire.winsock_errors import WSAError, WSAErrorCode

__all__ = ["Enumeration", "HandleTable", "Subscribed"]

Found = TypeVar("Found")


@dataclass(slots=True)
class Enumeration:
    """What is left of one; ``owner`` is the engine handle that it was made with."""

    owner: int
    left: list[object] = field(default_factory=list)


@dataclass(slots=True)
class Subscribed:
    """A subscription, and the engine handle that it was made with."""

    owner: int
    subscription: Subscription[Change] | Subscription[NetEvent]


class HandleTable:
    """Numbers for what the caller holds; none is used twice."""

    def __init__(self) -> None:
        self._numbers = itertools.count(0x100, 4)  # as Windows' are multiples of four
        self.renew()

    def renew(self) -> None:
        """In the child: its parent's are its parent's."""
        self._lock = threading.Lock()
        self._open: dict[int, Session | Enumeration | Subscribed] = {}

    def put(self, value: Session | Enumeration | Subscribed) -> int:
        """A handle for it."""
        with self._lock:
            handle = next(self._numbers)
            self._open[handle] = value
            return handle

    def find(self, handle: int, kind: type[Found]) -> Found:
        """What is behind it; ERROR_INVALID_HANDLE where that is nothing of the kind."""
        with self._lock:
            value = self._open.get(handle)
        if not isinstance(value, kind):
            raise _invalid_handle(handle)
        return value

    def take(self, handle: int, kind: type[Found]) -> Found:
        """The same, and it is no handle any more."""
        with self._lock:
            value = self._open.get(handle)
            if not isinstance(value, kind):
                raise _invalid_handle(handle)
            del self._open[handle]
            return value

    def take_of(self, owner: int) -> list[Subscribed]:
        """Whatever was made with an engine's handle goes with it; its subscriptions are returned."""
        with self._lock:
            made = {
                handle: value
                for handle, value in self._open.items()
                if not isinstance(value, Session) and value.owner == owner
            }
            for handle in made:
                del self._open[handle]
        return [value for value in made.values() if isinstance(value, Subscribed)]


def _invalid_handle(handle: object) -> WSAError:
    return WSAError(WSAErrorCode.WSA_INVALID_HANDLE, f"{handle!r} is no handle of this kind, or was closed")
