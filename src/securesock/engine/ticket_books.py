"""A book of tickets that many sockets in several threads share, and that a fork empties (RFC 5723).

What it holds is keying's; here are the lock, and the rule that a child knows nothing of what its parent used.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable

from ..entropy import SystemEntropy
from ..keying.tickets import LIFETIME_S, KeptTicket, OpenedTicket, TicketBook
from .fork import process

__all__ = ["SharedTicketBook"]


class SharedTicketBook(TicketBook):
    """See TicketBook; thread-safe."""

    def __init__(self) -> None:
        super().__init__(SystemEntropy())
        self._lock = threading.Lock()
        self._generation = process.generation

    def _in_this_process(self) -> threading.Lock:
        if self._generation != process.generation:
            # whoever held the parent's lock at the moment of the fork does not exist here
            self._generation, self._lock = process.generation, threading.Lock()
            self.renew()
        return self._lock

    def seal(self, state: bytes, now: float, lifetime_s: float = LIFETIME_S) -> tuple[bytes, bytes]:
        """See TicketBook."""
        with self._in_this_process():
            return super().seal(state, now, lifetime_s)

    def open_untrusted(self, ticket: bytes, now: float) -> OpenedTicket:
        """See TicketBook."""
        with self._in_this_process():
            return super().open_untrusted(ticket, now)

    def spend(self, ticket_id: bytes, expires_at: float) -> bool:
        """See TicketBook."""
        with self._in_this_process():
            return super().spend(ticket_id, expires_at)

    def keep(self, peer: Hashable, kept: KeptTicket) -> None:
        """See TicketBook."""
        with self._in_this_process():
            super().keep(peer, kept)

    def take(self, peer: Hashable, now: float) -> KeptTicket | None:
        """See TicketBook."""
        with self._in_this_process():
            return super().take(peer, now)

    def drop(self, peer: Hashable, ticket: bytes) -> None:
        """See TicketBook."""
        with self._in_this_process():
            super().drop(peer, ticket)
