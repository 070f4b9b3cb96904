"""A selector for systems whose select() takes only so many descriptors at once, and that have nothing better (Windows).

Within that number it is select().  Beyond it the descriptors are looked at in parts; while none of them is ready only
the first part is waited for, and the others are looked at again every so often.  So what has to wake the waiting at
once is registered first.
"""

from __future__ import annotations

import select
import selectors
from collections.abc import Sequence
from time import monotonic
from typing import Final

__all__ = ["LOOK_AGAIN_S", "MOST_AT_ONCE", "ManySelector"]

MOST_AT_ONCE: Final = 500
"""CPython is built for Windows with an FD_SETSIZE of 512, which holds for each of the three sets."""
LOOK_AGAIN_S: Final = 0.05
"""How late a descriptor beyond the first part may be seen: nobody notices, and an idle thread has little to do."""

_Ready = list[tuple[selectors.SelectorKey, int]]


class ManySelector(selectors.SelectSelector):
    """See the module."""

    def __init__(self, most: int = MOST_AT_ONCE) -> None:
        super().__init__()
        self._most = most

    def select(self, timeout: float | None = None) -> _Ready:
        """As any selector's."""
        keys = list(self.get_map().values())
        if len(keys) <= self._most:
            return super().select(timeout)
        deadline = None if timeout is None else monotonic() + timeout
        parts = [keys[start : start + self._most] for start in range(0, len(keys), self._most)]
        while True:
            ready = [each for part in parts for each in _look(part, 0.0)]
            left = LOOK_AGAIN_S if deadline is None else deadline - monotonic()
            if ready or left <= 0:
                return ready
            ready = _look(parts[0], min(left, LOOK_AGAIN_S))
            if ready:
                return ready


def _look(keys: Sequence[selectors.SelectorKey], timeout_s: float) -> _Ready:
    reading = [key.fd for key in keys if key.events & selectors.EVENT_READ]
    writing = [key.fd for key in keys if key.events & selectors.EVENT_WRITE]
    # Windows tells a failed connect() in the third set only.
    readable, writable, failed = select.select(reading, writing, writing, timeout_s)
    may_read, may_write = set(readable), {*writable, *failed}
    found = []
    for key in keys:
        events = selectors.EVENT_READ if key.fd in may_read else 0
        events |= selectors.EVENT_WRITE if key.fd in may_write else 0
        if events & key.events:
            found.append((key, events & key.events))
    return found
