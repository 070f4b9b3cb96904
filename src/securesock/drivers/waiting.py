"""How a thread waits for one descriptor and can be woken by another thread.

A blocking call on a secured socket has to end when a third thread closes the socket, and a thread that waits to send
has to go on when a thread that receives brought the answer it waits for.  Nothing portable ends another thread's recv()
without ending the connection too, so no carrier is ever left in a blocking system call: each thread that ever has to
wait owns one socket pair, and waits for the carrier and for that pair together.

This module must not know what is carried.
"""

from __future__ import annotations

import math
import select
import socket
import threading
from typing import Final, Protocol

from ..engine.fork import in_child

__all__ = ["READ", "WRITE", "Waiter", "this_thread"]

READ: Final = 1
WRITE: Final = 2


class Waiter(Protocol):
    """One thread's way to wait."""

    def wait(self, fd: int, wanted: int, timeout_s: float | None) -> bool:
        """Until ``fd`` is READ or WRITE able (errors count), or somebody woke us; False when the time is over."""
        ...

    def wake(self) -> None:
        """End the wait under way, or the next one.  From any thread."""
        ...


class _Pair:
    """The socket pair; one byte in it means that somebody woke us."""

    def __init__(self) -> None:
        self._inbox, self._outbox = socket.socketpair()
        self._inbox.setblocking(False)
        self._outbox.setblocking(False)

    def wake(self) -> None:
        """A full pair is as good as one byte more; a closed one has no thread any more."""
        try:
            self._outbox.send(b"\0")
        except OSError:
            return

    def _drain(self) -> None:
        try:
            while len(self._inbox.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            return

    def __del__(self) -> None:
        self._inbox.close()
        self._outbox.close()


class _SelectWaiter(_Pair):
    """For systems without poll() (Windows)."""

    def wait(self, fd: int, wanted: int, timeout_s: float | None) -> bool:
        reading: list[int | socket.socket] = [self._inbox]
        if wanted & READ:
            reading.append(fd)
        writing = [fd] if wanted & WRITE else []
        # Windows tells a failed connect() in the third set only.
        ready, writable, failed = select.select(reading, writing, writing, timeout_s)
        if self._inbox in ready:
            self._drain()
        return bool(ready or writable or failed)


if hasattr(select, "poll"):

    class _PollWaiter(_Pair):
        """Keeps the last descriptor registered: waiting for the same one again costs one system call."""

        _MASKS: Final = {READ: select.POLLIN, WRITE: select.POLLOUT, READ | WRITE: select.POLLIN | select.POLLOUT}

        def __init__(self) -> None:
            super().__init__()
            self._own = self._inbox.fileno()
            self._poll = select.poll()
            self._poll.register(self._own, select.POLLIN)
            self._fd = -1
            self._wanted = 0

        def wait(self, fd: int, wanted: int, timeout_s: float | None) -> bool:
            if fd != self._fd or wanted != self._wanted:
                self._watch(fd, wanted)
            # Rounded up: a wait that ends early would only be repeated.
            events = self._poll.poll(None if timeout_s is None else max(0, math.ceil(timeout_s * 1000)))
            for ready, _ in events:
                if ready == self._own:
                    self._drain()
            return bool(events)

        def _watch(self, fd: int, wanted: int) -> None:
            # poll() reports errors of a descriptor even where nothing is wanted of it: leave it out then.
            if self._wanted and (fd != self._fd or not wanted):
                self._poll.unregister(self._fd)
            if wanted:
                self._poll.register(fd, self._MASKS[wanted])
            self._fd, self._wanted = fd, wanted


class _Local(threading.local):
    waiter: Waiter | None = None


_local = _Local()


def this_thread() -> Waiter:
    """The calling thread's waiter, made when it first waits."""
    waiter = _local.waiter
    if waiter is None:
        waiter = _local.waiter = _PollWaiter() if hasattr(select, "poll") else _SelectWaiter()
    return waiter


def _forget() -> None:
    # A pair shared with the parent would wake the wrong process.
    _local.waiter = None


in_child(_forget)
