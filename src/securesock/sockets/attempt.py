"""One connect() as the threads of an application meet it: who drives the Opening, how long, and who may end it.

A blocking connect() drives it in its own thread, a non-blocking socket in any call that needs the connection; two
threads never do at once, and a third may close the socket under them.  This module must not know what an Opening does.
"""

from __future__ import annotations

import _socket
import contextlib
import copy
import errno
import socket
import threading
from time import monotonic
from typing import TYPE_CHECKING

from ..drivers.waiting import READ, Waiter, this_thread
from ..engine.fork import process, refuse_inherited
from ..errors import WantRead, WantWrite
from .opening import Opened, Opening

if TYPE_CHECKING:
    from ..engine.report import Asked

__all__ = ["Attempt"]


class Attempt:
    """See the module.  ``carrier`` is handed in by each call: nothing here keeps the application's socket alive."""

    __slots__ = ("_cancelled", "_generation", "_lock", "_opening", "_outcome", "_waiter", "asked", "failure")

    def __init__(self, asked: Asked, opening: Opening) -> None:
        self.asked = asked
        self._opening = opening
        self._lock = threading.Lock()
        self._waiter: Waiter | None = None
        self._outcome: Opened | None = None
        self.failure: OSError | None = None
        self._cancelled = False
        self._generation = process.generation

    def begin(self, carrier: socket.socket, address: tuple[object, ...]) -> None:
        """Start the TCP connection; errors of the address or the system pass, and the socket is as before."""
        self._opening.begin(carrier, address)

    def finish(self, carrier: socket.socket, started: float, timeout: float | None) -> Opened:
        """Drive it to its end, within ``timeout`` of ``started``.  Raises what ended it, again at each call."""
        if self._generation != process.generation:
            refuse_inherited("connection")
        deadline = started + timeout if timeout else None
        if not self._lock.acquire(blocking=timeout != 0, timeout=timeout or -1):
            if timeout == 0:
                raise WantRead(errno.EAGAIN, "another thread drives the negotiation")
            raise TimeoutError("timed out")
        try:
            if self.failure is not None:
                raise copy.copy(self.failure)
            if self._outcome is None:
                self._outcome = self._drive(carrier, timeout, deadline)
            return self._outcome
        except BlockingIOError:
            raise
        except OSError as error:
            # A copy: the error itself holds the frames it came through, and they hold the socket.
            self.failure = copy.copy(error)
            raise
        finally:
            self._waiter = None
            if self.failure is not None:
                # Nothing of it goes on: the peer learns by the end of the carrier.
                with contextlib.suppress(OSError):
                    _socket.socket.shutdown(carrier, socket.SHUT_RDWR)
            self._lock.release()

    def cancel(self) -> None:
        """close() by another thread: whoever waits in here ends with EBADF."""
        self._cancelled = True
        waiter = self._waiter
        if waiter is not None:
            waiter.wake()
        if self._generation == process.generation and self._lock.acquire(timeout=1.0):
            self._lock.release()

    def _drive(self, carrier: socket.socket, timeout: float | None, deadline: float | None) -> Opened:
        while True:
            now = monotonic()
            result = self._opening.advance(carrier, now)
            if isinstance(result, Opened):
                return result
            if timeout == 0:
                raise _not_yet(result)
            limits = [each for each in (deadline, self._opening.deadline()) if each is not None]
            if deadline is not None and now >= deadline:
                raise TimeoutError("timed out")
            waiter = self._waiter = this_thread()
            if not self._cancelled:
                waiter.wait(_socket.socket.fileno(carrier), result, max(0.0, min(limits) - now) if limits else None)
            if self._cancelled:
                raise OSError(errno.EBADF, "the socket was closed")


def _not_yet(wanted: int) -> BlockingIOError:
    if wanted & READ:
        return WantRead(errno.EAGAIN, "the negotiation waits for the peer")
    return WantWrite(errno.EAGAIN, "the negotiation waits for the carrier")
