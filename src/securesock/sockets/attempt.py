"""One connect() as the threads of an application meet it: who drives the Opening, how long, and who may end it.

A blocking connect() drives it in its own thread, a non-blocking socket in any call that needs the connection; two
threads never do at once, and a third may close the socket under them.  This module must not know what an Opening does.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import socket
import threading
from time import monotonic

from ..drivers.waiting import READ, Waiter, this_thread
from ..engine.fork import process, refuse_inherited
from ..engine.report import Asked
from ..errors import WantRead, WantWrite
from .opening import Opened, Opening, SocketOptions

__all__ = ["Attempt"]


class Attempt:
    """See the module.  ``carrier`` is handed in by each call: nothing here keeps the application's socket alive."""

    __slots__ = ("_generation", "_lock", "_opening", "_over", "_waiter", "asked")

    def __init__(self, asked: Asked, options: SocketOptions, *, bound: bool) -> None:
        self.asked = asked
        self._opening = Opening(asked, options, bound=bound)
        self._lock = threading.Lock()
        self._waiter: Waiter | None = None
        self._over = False
        self._generation = process.generation

    def begin(self, carrier: socket.socket, address: tuple[object, ...]) -> None:
        """Start the TCP connection; errors of the address or the system pass, and the socket is as before."""
        self._opening.begin(carrier, address)

    def finish(self, carrier: socket.socket, started: float, timeout: float | None) -> Opened | None:
        """Drive it to its end, within ``timeout`` of ``started``; None when another thread did."""
        if self._generation != process.generation:
            refuse_inherited("connection")
        deadline = started + timeout if timeout else None
        if not self._lock.acquire(blocking=timeout != 0, timeout=timeout or -1):
            if timeout == 0:
                raise WantRead(errno.EAGAIN, "another thread drives the negotiation")
            raise TimeoutError("timed out")
        ended_well = False
        try:
            if self._over:
                return None
            opened = self._drive(carrier, timeout, deadline)
            self._over = ended_well = True
            return opened
        except BlockingIOError:
            ended_well = True
            raise
        finally:
            self._waiter = None
            if not ended_well and not self._over:
                # Whatever ended it, nothing of it goes on: the peer learns by the end of the carrier.
                self._over = True
                with contextlib.suppress(OSError):
                    _socket.socket.shutdown(carrier, socket.SHUT_RDWR)
            self._lock.release()

    def cancel(self) -> None:
        """close() by another thread: whoever waits in here ends with EBADF."""
        self._over = True
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
            if not self._over:
                waiter.wait(_socket.socket.fileno(carrier), result, min(limits) - now if limits else None)
            if self._over:
                raise OSError(errno.EBADF, "the socket was closed")


def _not_yet(wanted: int) -> BlockingIOError:
    if wanted & READ:
        return WantRead(errno.EAGAIN, "the negotiation waits for the peer")
    return WantWrite(errno.EAGAIN, "the negotiation waits for the carrier")
