"""The one daemon thread of a process: it drives what no application call drives.

Listeners negotiate with strangers while the application does something else, and a non-blocking socket that is closed
still has bytes to deliver.  Both happen here, side by side, in one thread per process, started by the first that needs
it; importing starts nothing.  It must not know what its handlers do, nor keys, nor policy.

Theory.  One selector, one heap of timers, one queue of calls from other threads.  All state but the queue belongs to
the thread; other threads hand in functions with ``call``.  After a fork the child makes its own when it needs one.
"""

from __future__ import annotations

import heapq
import itertools
import select
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, TypeAlias

from ..engine.fork import in_child
from .many_selector import ManySelector
from .waiting import READ, WRITE

__all__ = ["Handler", "Reactor", "Timer", "at_once", "in_reactor", "reactor"]

Handler: TypeAlias = Callable[[int, float], None]
"""Called with what the descriptor is ready for (READ | WRITE) and the time."""

_MASKS: Final = {
    READ: selectors.EVENT_READ,
    WRITE: selectors.EVENT_WRITE,
    READ | WRITE: selectors.EVENT_READ | selectors.EVENT_WRITE,
}
_COMPACT_AT: Final = (
    1024  # dead timers tolerated before the heap is rebuilt: rebuilding costs about as much as they did
)


class Timer:
    """One call to come; ``cancel`` forgets it."""

    __slots__ = ("_callback", "_reactor", "when")

    def __init__(self, owner: Reactor, when: float, callback: Callable[[float], None]) -> None:
        self.when = when
        self._reactor = owner
        self._callback: Callable[[float], None] | None = callback

    def cancel(self) -> None:
        """No effect when it ran already."""
        if self._callback is not None:
            self._callback = None
            self._reactor.timer_cancelled()

    def fire(self, now: float) -> None:
        """Run it, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(now)

    @property
    def alive(self) -> bool:
        """Whether it still has something to do."""
        return self._callback is not None


class _Supervised:
    """Keeps a defect in the handling of one carrier from ending the thread that all the others need.

    The defect is reported as that of any thread is, through threading.excepthook, and its carrier is left out.
    """

    __slots__ = ("_key", "_owner")

    def __init__(self, owner: Reactor, key: socket.socket | None) -> None:
        self._owner = owner
        self._key = key

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if kind is None or not issubclass(kind, Exception):
            return False
        threading.excepthook(threading.ExceptHookArgs((kind, error, traceback, threading.current_thread())))
        if self._key is not None:
            self._owner.forget(self._key)
            self._key.close()
        return True


class Reactor:
    """One thread, one selector.  All but ``call`` and ``run_and_wait`` is for functions that run in the thread."""

    def __init__(self) -> None:
        # with select() alone a listener's strangers would be more than it takes
        self._selector = selectors.DefaultSelector() if hasattr(select, "poll") else ManySelector()
        # first, so that whatever waits is woken at once
        self._inbox, self._outbox = socket.socketpair()
        self._inbox.setblocking(False)
        self._outbox.setblocking(False)
        self._selector.register(self._inbox, selectors.EVENT_READ, None)
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._dead_timers = 0
        self._order = itertools.count()
        self._thread = threading.Thread(target=self._run, name="securesock", daemon=True)

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    # -- from any thread ---------------------------------------------------------------------------------------------

    def call(self, function: Callable[[], None]) -> None:
        """Run ``function`` in the thread, soon, in the order of the calls."""
        self._calls.append(function)
        if threading.current_thread() is not self._thread:
            try:
                self._outbox.send(b"\0")
            except BlockingIOError:
                return  # it has more than enough reason to wake up

    def run_and_wait(self, function: Callable[[], None], timeout_s: float) -> bool:
        """Run ``function`` in the thread and wait until it ran; False when that took too long."""
        done = threading.Event()

        def run() -> None:
            try:
                function()
            finally:
                done.set()

        self.call(run)
        return done.wait(timeout_s)

    # -- in the thread -----------------------------------------------------------------------------------------------

    def watch(self, carrier: socket.socket, wanted: int, handler: Handler) -> None:
        """Call ``handler`` while ``carrier`` is ready for what is wanted; replaces an earlier wish; 0 forgets it."""
        if not wanted:
            self.forget(carrier)
        elif carrier in self._selector.get_map():
            key = self._selector.get_key(carrier)
            if key.events != _MASKS[wanted] or key.data is not handler:
                self._selector.modify(carrier, _MASKS[wanted], handler)
        else:
            self._selector.register(carrier, _MASKS[wanted], handler)

    def forget(self, carrier: socket.socket) -> None:
        """Before a descriptor is closed or given away."""
        if carrier.fileno() >= 0 and carrier in self._selector.get_map():
            self._selector.unregister(carrier)

    def at(self, when: float, callback: Callable[[float], None]) -> Timer:
        """Call ``callback(now)`` at ``when``."""
        timer = Timer(self, when, callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def timer_cancelled(self) -> None:
        """A timer tells that it is dead; the heap is cleaned now and then, so that strangers cannot grow it."""
        self._dead_timers += 1
        if self._dead_timers > _COMPACT_AT and self._dead_timers * 2 > len(self._timers):
            self._timers = [each for each in self._timers if each[2].alive]
            heapq.heapify(self._timers)
            self._dead_timers = 0

    # -- the thread itself -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._turn()

    def _turn(self) -> None:
        timeout = None
        if self._calls:
            timeout = 0.0
        elif self._timers:
            timeout = max(0.0, self._timers[0][0] - time.monotonic())
        ready = self._selector.select(timeout)
        now = time.monotonic()
        for key, events in ready:
            handler: Handler | None = key.data
            if handler is None:
                self._drain()
            elif isinstance(carrier := key.fileobj, socket.socket):
                # One of the handlers before this one may have forgotten or closed it in this very turn.
                if carrier.fileno() != key.fd or carrier not in self._selector.get_map():
                    continue
                mask = (READ if events & selectors.EVENT_READ else 0) | (WRITE if events & selectors.EVENT_WRITE else 0)
                with _Supervised(self, carrier):
                    handler(mask, now)
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if not timer.alive:
                self._dead_timers -= 1
                continue
            with _Supervised(self, None):
                timer.fire(now)
        for _ in range(len(self._calls)):
            with _Supervised(self, None):
                self._calls.popleft()()

    def _drain(self) -> None:
        try:
            while len(self._inbox.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            return

    def abandon(self) -> None:
        """In a forked child: close our copies of the descriptors; the thread is the parent's."""
        self._selector.close()
        self._inbox.close()
        self._outbox.close()


_lock = threading.Lock()
_current: Reactor | None = None


def reactor() -> Reactor:
    """The process's reactor, started now if this is the first need of it."""
    global _current
    with _lock:
        if _current is None:
            # for those who need the thread; whoever acts as another account has it already
            from ..identity.impersonation import as_oneself

            _current = Reactor()
            with as_oneself():
                _current.start()
        return _current


def at_once(function: Callable[[], None]) -> None:
    """Run ``function`` here and now, where others would have it run elsewhere."""
    function()


def in_reactor(function: Callable[[], None]) -> None:
    """Run ``function`` in the reactor's thread, soon."""
    reactor().call(function)


def _forget() -> None:
    global _current, _lock
    inherited, _current = _current, None
    # A thread of the parent may have held it at the moment of the fork.
    _lock = threading.Lock()
    if inherited is not None:
        inherited.abandon()


in_child(_forget)
