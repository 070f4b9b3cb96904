"""Whose turn it is: read-only transactions side by side, or one that writes.

The gate is a lock that transactions hold, not threads.  It knows how long a transaction may hold it: one that does so
for longer is aborted by the next that waits, or by its own next call, as the platform's documentation says.  What
aborting means to the store is told to it as a function.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ..clock import Clock
from .catalog import Catalog, Draft
from .errors import PolicyCode, error_for

__all__ = ["HOLD_LIMIT_S", "Gate", "Transaction"]

# "Object management": one hour for user-mode callers.
HOLD_LIMIT_S: Final = 3600.0
# A call that is just being made is not interrupted; whoever waits for it looks again after this time.
_BUSY_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 60.0


class Transaction:
    """One transaction of one session: its view, and what it has put aside for the commit."""

    def __init__(self, catalog: Catalog, session: int, is_read_only: bool, is_explicit: bool) -> None:
        self.draft: Final = Draft(catalog)
        self.session: Final = session
        self.is_read_only: Final = is_read_only
        self.is_explicit: Final = is_explicit
        self.is_aborted = False
        self.is_busy = False
        self.holds_store = False
        self.expires_at = 0.0


class Gate:
    """Admits any number of readers, or one writer.  Thread-safe."""

    def __init__(self, clock: Clock, abandon: Callable[[Transaction], None], hold_limit_s: float) -> None:
        self._clock: Final = clock
        self._abandon: Final = abandon
        self._free = threading.Condition()
        self._writer: Transaction | None = None
        self._readers: Final[set[Transaction]] = set()
        self.hold_limit_s = hold_limit_s

    def enter(self, transaction: Transaction, wait_s: float | None) -> None:
        """Wait for the turn; PolicyTimeout after ``wait_s`` seconds (None: never)."""
        with self._free:
            give_up_at = None if wait_s is None else self._clock.now() + wait_s
            while self._is_taken(transaction):
                now = self._clock.now()
                if self._abort_expired(now):
                    continue
                if any(now >= each.expires_at for each in self._holders()):
                    self._free.wait(_BUSY_WAIT_S)
                    continue
                if give_up_at is not None and now >= give_up_at:
                    raise error_for(PolicyCode.TIMEOUT, "another transaction holds the policy engine")
                until = min(each.expires_at for each in self._holders())
                until = until if give_up_at is None else min(until, give_up_at)
                self._free.wait(min(until - now, _LONGEST_WAIT_S))
            # An implicit transaction is one call, and is never aborted.
            limit = self.hold_limit_s if transaction.is_explicit else float("inf")
            transaction.expires_at = self._clock.now() + limit
            if transaction.is_read_only:
                self._readers.add(transaction)
            else:
                self._writer = transaction

    def leave(self, transaction: Transaction) -> None:
        """Give the turn back; nothing happens if it was taken away before."""
        with self._free:
            self._readers.discard(transaction)
            if self._writer is transaction:
                self._writer = None
            self._free.notify_all()

    @contextmanager
    def using(self, transaction: Transaction) -> Iterator[None]:
        """A call within an explicit transaction: TXN_ABORTED if it was open for too long, else it stays so long."""
        with self._free:
            if self._clock.now() >= transaction.expires_at and transaction in self._holders():
                self._abort(transaction)
            transaction.is_busy = True
        try:
            if transaction.is_aborted:
                raise error_for(PolicyCode.TXN_ABORTED, "the transaction was open for too long and was aborted")
            yield
        finally:
            transaction.is_busy = False

    def after_fork(self) -> None:
        """In the child: a lock that another thread held at the fork is nobody's; the transactions are the parent's."""
        self._free = threading.Condition()
        for transaction in self._holders():
            transaction.is_aborted = True
        self._writer = None
        self._readers.clear()

    def _holders(self) -> list[Transaction]:
        return [*self._readers, *([] if self._writer is None else [self._writer])]

    def _is_taken(self, transaction: Transaction) -> bool:
        return self._writer is not None or (not transaction.is_read_only and bool(self._readers))

    def _abort_expired(self, now: float) -> bool:
        expired = [each for each in self._holders() if now >= each.expires_at and not each.is_busy]
        for transaction in expired:
            self._abort(transaction)
        return bool(expired)

    def _abort(self, transaction: Transaction) -> None:
        transaction.is_aborted = True
        self._readers.discard(transaction)
        if self._writer is transaction:
            self._writer = None
        self._abandon(transaction)
        self._free.notify_all()
