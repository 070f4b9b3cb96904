"""Where drivers read the time.  Machines never do: they are handed ``now``.

``now`` is everywhere a monotonic float in seconds.  Wall time is needed only to
judge certificates and to show when something happened, and is derived from
``now`` by an offset measured once, so that one number serves a whole call.
This module imports nothing of ours.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock", "utc_at"]


class Clock(Protocol):
    """Monotonic seconds, and the wall time that they stand for."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def wall_offset_s(self) -> float:
        """Seconds to add to ``now()`` to have Unix time."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        """time.monotonic()."""
        return time.monotonic()

    def wall_offset_s(self) -> float:
        """Measured at each call, so that a corrected wall clock is followed."""
        return time.time() - time.monotonic()


def utc_at(now: float, wall_offset_s: float) -> datetime:
    """The aware UTC datetime that monotonic ``now`` stands for."""
    return datetime.fromtimestamp(now + wall_offset_s, UTC)
