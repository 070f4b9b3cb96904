"""A connection in clear, which allow_insecure permitted after the peer did not speak IKE.

It has the same calls as a secured link, so that an application cannot tell the difference but by asking.  One rule of
protection is left: a carrier that was taken for clear text stays so.  If IKE begins on it after all, at the accepting
side, nothing of it is handed to the application and the connection ends.
"""

from __future__ import annotations

import _socket
import errno
import socket
import threading
from time import monotonic
from typing import Final

from ..engine.fork import process, refuse_inherited
from ..errors import ConnectionBroken, WantRead, WantWrite
from .waiting import READ, WRITE, Waiter, this_thread

__all__ = ["STREAM_PREFIX", "ClearLink"]

STREAM_PREFIX: Final = b"IKETCP"  # RFC 9329 3
_recv: Final = _socket.socket.recv
_recv_into: Final = _socket.socket.recv_into
_send: Final = _socket.socket.send


class ClearLink:
    """Plain bytes on a non-blocking carrier, with the calls of StreamLink.

    ``held``: bytes read before it was decided that they are clear text.  ``guarded``: refuse IKE at the beginning.
    """

    __slots__ = (
        "_error",
        "_generation",
        "_guarded",
        "_held",
        "_reading",
        "_waiters",
        "_writing",
        "closing",
        "read_shut",
    )

    def __init__(self, held: bytes = b"", *, guarded: bool) -> None:
        self._held = held
        self._guarded = guarded
        self._error: ConnectionBroken | None = None
        self._generation = process.generation
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._waiters: set[Waiter] = set()
        self.closing = False
        self.read_shut = False

    @property
    def inherited(self) -> bool:
        """Whether a fork lies between the process that made this and the one that asks."""
        return self._generation != process.generation

    @property
    def want_write(self) -> bool:
        """Nothing is ever kept back in clear."""
        return False

    def recv(self, carrier: _socket.socket, limit: int, timeout: float | None, peek: bool) -> bytes:
        """As socket.recv()."""
        buffer = bytearray(limit)
        count = self.recv_into(carrier, memoryview(buffer), timeout, peek)
        return bytes(memoryview(buffer)[:count])

    def recv_into(self, carrier: _socket.socket, view: memoryview, timeout: float | None, peek: bool) -> int:
        """As socket.recv_into()."""
        self._check()
        deadline = monotonic() + timeout if timeout else timeout
        _acquire(self._reading, timeout, READ)
        try:
            if self._guarded:
                self._pass_guard(carrier, deadline)
            if self._held:
                count = min(len(view), len(self._held))
                view[:count] = self._held[:count]
                if not peek:
                    self._held = self._held[count:]
                return count
            flags = socket.MSG_PEEK if peek else 0
            while not self.read_shut:
                try:
                    return _recv_into(carrier, view, 0, flags)
                except BlockingIOError:
                    self._wait(carrier, READ, deadline)
            return 0
        finally:
            self._reading.release()

    def pending(self) -> int:
        """Bytes that were read already."""
        return 0 if self._guarded else len(self._held)

    def send(self, carrier: _socket.socket, data: bytes | memoryview, timeout: float | None) -> int:
        """As socket.send()."""
        self._check()
        deadline = monotonic() + timeout if timeout else timeout
        _acquire(self._writing, timeout, WRITE)
        try:
            return self._send(carrier, data, deadline)
        finally:
            self._writing.release()

    def sendall(self, carrier: _socket.socket, data: bytes | memoryview, timeout: float | None) -> None:
        """As socket.sendall()."""
        self._check()
        deadline = monotonic() + timeout if timeout else timeout
        _acquire(self._writing, timeout, WRITE)
        try:
            left = memoryview(data)
            while left:
                left = left[self._send(carrier, left, deadline) :]
        finally:
            self._writing.release()

    def finish(self, carrier: _socket.socket, timeout: float | None) -> None:
        """The end of our stream."""
        self._check()
        _socket.socket.shutdown(carrier, socket.SHUT_WR)

    def wake_all(self) -> None:
        """End the waits of other threads."""
        for waiter in tuple(self._waiters):
            waiter.wake()

    def _send(self, carrier: _socket.socket, data: bytes | memoryview, deadline: float | None) -> int:
        while True:
            try:
                return _send(carrier, data)
            except BlockingIOError:
                self._wait(carrier, WRITE, deadline)

    def _pass_guard(self, carrier: _socket.socket, deadline: float | None) -> None:
        """Read until the first bytes are known not to be the beginning of IKE."""
        while STREAM_PREFIX.startswith(self._held) and self._held != STREAM_PREFIX:
            try:
                more = _recv(carrier, len(STREAM_PREFIX) - len(self._held))
            except BlockingIOError:
                self._wait(carrier, READ, deadline)
                continue
            if not more:
                break
            self._held += more
        if self._held == STREAM_PREFIX:
            self._held = b""
            self._error = ConnectionBroken(
                "the peer began IKE on a connection that was in clear by then: it is ended, nothing of it is delivered"
            )
            _socket.socket.shutdown(carrier, socket.SHUT_RDWR)
            self._check()
        self._guarded = False

    def _wait(self, carrier: _socket.socket, wanted: int, deadline: float | None) -> None:
        if deadline == 0:
            raise _would_block(wanted)
        waiter = this_thread()
        self._waiters.add(waiter)
        try:
            self._check()
            left = None if deadline is None else deadline - monotonic()
            if (left is not None and left <= 0) or not waiter.wait(carrier.fileno(), wanted, left):
                raise TimeoutError("timed out")
            self._check()
        finally:
            self._waiters.discard(waiter)

    def _check(self) -> None:
        if self._generation != process.generation:
            refuse_inherited("connection")
        if self.closing:
            raise OSError(errno.EBADF, "the socket was closed")
        if self._error is not None:
            raise ConnectionBroken(str(self._error))


def _acquire(lock: threading.Lock, timeout: float | None, wanted: int) -> None:
    if lock.acquire(blocking=False):
        return
    if timeout == 0:
        raise _would_block(wanted)
    if not lock.acquire(timeout=-1 if timeout is None else timeout):
        raise TimeoutError("timed out")


def _would_block(wanted: int) -> BlockingIOError:
    if wanted & WRITE:
        return WantWrite(errno.EAGAIN, "the carrier takes nothing more at the moment")
    return WantRead(errno.EAGAIN, "no bytes of the peer's are there yet")
