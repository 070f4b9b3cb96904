"""The accepting side: what happens between the kernel's accept and the application's.

The reactor accepts carriers, negotiates with all of them side by side and puts those that are proven and confirmed into
a queue; accept() takes from the queue.  So a silent client delays nobody, and a refused one is counted and never seen.
When the application leaves as many waiting as its backlog says, the reactor accepts no more and new carriers wait in
the kernel.

The descriptor that an application may wait on is a socket pair's, which holds one byte exactly while the queue is not
empty.  A listener that a child inherits starts anew there when it is first used: the carriers in the middle of a
negotiation, and those in the queue, are the parent's.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import weakref
from collections import Counter, deque
from typing import Final

from ..drivers.linger import reset
from ..drivers.reactor import Timer, reactor
from ..drivers.waiting import READ
from ..engine.fork import in_child, process
from ..engine.half_open import HALF_OPEN, source_of
from ..types import Address
from .negotiation import Accepted, Negotiation, Terms

__all__ = ["Listener"]

_log: Final = logging.getLogger("securesock.listener")
_ACCEPT_AT_ONCE: Final = 64  # carriers taken per turn, so that those in a negotiation have their turns too
_PAUSE_S: Final = 0.2  # after an accept() that failed: long enough not to spin, short enough not to be noticed
_CLOSE_S: Final = 5.0  # how long close() waits for the reactor to let go of the listening descriptor


class Listener:
    """``kernel`` is a listening, non-blocking descriptor of our own; the reactor alone accepts on it."""

    def __init__(self, kernel: socket.socket, terms: Terms, backlog: int) -> None:
        self.terms = terms
        self.refusals: Counter[str] = Counter()
        self._kernel = kernel
        self._backlog = max(1, backlog)
        self._lock = threading.Condition()
        self._ready: deque[Accepted] = deque()
        self._pending: set[Negotiation] = set()
        self._closed = False
        self._accepting = False
        self._pause: Timer | None = None
        self._inbox, self._outbox = _pair()
        self._generation = -1
        _listeners.add(self)

    # -- for the application's threads ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Have the reactor accept; in a child that inherited the listener, when it is first used there."""
        if self._generation != process.generation and not self._closed:
            self._generation = process.generation
            reactor().call(self._resume)

    def set_backlog(self, backlog: int) -> None:
        """As a second listen() does."""
        self._backlog = max(1, backlog)
        reactor().call(self._resume)

    def fileno(self) -> int:
        """Readable exactly while ``accept`` would return at once."""
        self.start()
        return self._inbox.fileno()

    def accept(self, timeout: float | None) -> Accepted:
        """The next connection.  BlockingIOError or TimeoutError when there is none in time; OSError when closed."""
        self.start()
        with self._lock:
            if not self._ready and not self._closed:
                if timeout == 0:
                    raise BlockingIOError(errno.EAGAIN, "no negotiated connection waits")
                if not self._lock.wait_for(lambda: self._ready or self._closed, timeout):
                    raise TimeoutError("timed out")
            if self._closed:
                raise OSError(errno.EBADF, "the listener was closed")
            accepted = self._ready.popleft()
            if not self._ready:
                self._inbox.recv(1)
            if not self._accepting:
                reactor().call(self._resume)
            return accepted

    def close(self, *, wait: bool) -> None:
        """Stop: those who wait in accept() are woken, connections that nobody accepted are reset.

        ``wait``: return only when the port is free again.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._lock.notify_all()
        if self._generation != process.generation:
            self._stop()
        elif wait:
            reactor().run_and_wait(self._stop, _CLOSE_S)
        else:
            reactor().call(self._stop)

    # -- in the reactor ------------------------------------------------------------------------------------------------

    def deliver(self, negotiation: Negotiation, accepted: Accepted) -> None:
        """A negotiation came to its good end."""
        self._pending.discard(negotiation)
        with self._lock:
            if self._closed:
                reset(accepted.carrier)
                return
            self._ready.append(accepted)
            if len(self._ready) == 1:
                self._outbox.send(b"\0")
            self._lock.notify()
            full = len(self._ready) >= self._backlog
        if full:
            self._pause_accepting()
            self._resume()  # somebody may have accepted in between, who saw that we were not paused yet

    def refuse(self, negotiation: Negotiation, reason: str, why: str) -> None:
        """A negotiation ended otherwise: counted, never seen by the application."""
        self._pending.discard(negotiation)
        self.count_refusal(reason, negotiation.address, why)

    def count_refusal(self, reason: str, address: Address, why: str) -> None:
        """One more that was not let in."""
        self.refusals[reason] += 1
        _log.info("refused %s port %d (%s): %s", address[0], address[1], reason, why)

    def _resume(self) -> None:
        if self._closed or self._accepting or len(self._ready) >= self._backlog:
            return
        self._accepting = True
        reactor().watch(self._kernel, READ, self._acceptable)

    def _pause_accepting(self) -> None:
        self._accepting = False
        reactor().forget(self._kernel)

    def _acceptable(self, mask: int, now: float) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                carrier, address = self._kernel.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                # No descriptor left, most likely: perhaps somebody closes one.
                _log.warning("cannot accept for %g s: %s", _PAUSE_S, error)
                self._pause_accepting()
                self._pause = reactor().at(now + _PAUSE_S, lambda _: self._resume())
                return
            carrier.setblocking(False)
            self._negotiate(carrier, address, now)
            if not self._accepting:
                return

    def _negotiate(self, carrier: socket.socket, address: Address, now: float) -> None:
        negotiation = Negotiation(self, carrier, address)
        entry = HALF_OPEN.admit(source_of(address[0]), negotiation.evict)
        if entry is None:
            reset(carrier)
            self.count_refusal("too-many-half-open", address, "every place is taken by a key exchange under way")
            return
        self._pending.add(negotiation)
        negotiation.start(entry, now)

    def _stop(self) -> None:
        if self._accepting:
            self._pause_accepting()
        if self._pause is not None:
            self._pause.cancel()
        self._kernel.close()
        for negotiation in tuple(self._pending):
            negotiation.cancel()
        self._pending.clear()
        while self._ready:
            reset(self._ready.popleft().carrier)
        self._inbox.close()
        self._outbox.close()

    # -- in a child ----------------------------------------------------------------------------------------------------

    def renew(self) -> None:
        """After a fork: close our copies of the parent's carriers, and have a readiness descriptor of our own."""
        self._lock = threading.Condition()
        if self._closed:
            return
        self._accepting = False
        self._pause = None
        for negotiation in self._pending:
            negotiation.carrier.close()
        self._pending = set()
        for accepted in self._ready:
            accepted.carrier.close()
        self._ready = deque()
        self.refusals = Counter()
        inbox, outbox = _pair()
        # The same number: a selector of the parent's that knows it goes on to mean this listener.
        _move_descriptor(inbox, self._inbox)
        self._outbox.close()
        self._outbox = outbox


_listeners: Final[weakref.WeakSet[Listener]] = weakref.WeakSet()


def _renew_all() -> None:
    for listener in tuple(_listeners):
        listener.renew()


in_child(_renew_all)


def _pair() -> tuple[socket.socket, socket.socket]:
    inbox, outbox = socket.socketpair()
    inbox.setblocking(False)
    outbox.setblocking(False)
    return inbox, outbox


def _move_descriptor(source: socket.socket, target: socket.socket) -> None:
    os.dup2(source.fileno(), target.fileno(), inheritable=False)
    source.close()
