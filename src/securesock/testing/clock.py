"""Time that moves only when a test says so."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["FakeClock"]


class FakeClock:
    """A securesock Clock: ``now()`` begins at 1000.0 s.

    The wall clock begins at ``wall`` (an aware datetime), or at the real time, so that certificates of ephemeral
    identities are valid; it too moves only when told to.
    """

    def __init__(self, wall: datetime | None = None) -> None:
        self._now = 1000.0
        self._offset_s = (wall or datetime.now(UTC)).timestamp() - self._now

    def now(self) -> float:
        """Monotonic seconds."""
        return self._now

    def wall_offset_s(self) -> float:
        """Seconds to add to ``now()`` to have Unix time."""
        return self._offset_s

    def advance(self, seconds: float) -> float:
        """Let ``seconds`` pass; the new ``now()``."""
        if seconds < 0:
            raise ValueError("time does not run backwards")
        self._now += seconds
        return self._now

    def advance_to(self, moment: float) -> None:
        """Let time pass until ``moment``; no effect if that is past."""
        self._now = max(self._now, moment)
