"""An established connection on a descriptor: what send, recv, shutdown and their waits do.

The carrier's descriptor is always non-blocking; a call that may wait does so here, in its own thread, with its own
deadline.  Two locks, one for each direction, let one thread send while another receives:

- A reader never waits for the write lock.  What it has to answer (IKE) is queued in the connection, and whoever holds
  the write lock sends it between two packets; whoever releases that lock looks once more.
- A sender that waits for a rekey needs the answer that some reader may be about to read.  It reads itself when nobody
  else does, and is woken by the reader otherwise.
- A sender looks at the carrier now and then even when it need not wait, so that a program which only sends still
  answers a rekey of its peer's.

This module knows the connection's port and the descriptor; it must not know how bytes are protected, nor policy.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import threading
from time import monotonic
from typing import Final

from ..engine.fork import process, refuse_inherited
from ..engine.ports import SecuredStream
from ..errors import WantRead, WantWrite
from .linger import reset_on_close
from .negotiating import flush
from .waiting import READ, WRITE, Waiter, this_thread

__all__ = ["StreamLink"]

_recv_into: Final = _socket.socket.recv_into
_send: Final = _socket.socket.send
_fileno: Final = _socket.socket.fileno

LOOK_EVERY_S: Final = 0.01
"""How often a program that only sends looks for IKE messages: often against any lifetime, seldom against a send."""
NON_BLOCKING_BATCH: Final = 65536
"""What a non-blocking send seals at most: it may have to keep all of it until the next call."""


class StreamLink:
    """Everything between an application's calls and a carrier for one established connection.

    The carrier is handed in by each call, so that nothing here keeps a socket alive that its owner has forgotten.
    ``timeout``: None waits, 0 never does, otherwise seconds for the whole call.  Inside it becomes a deadline: None,
    0 or monotonic seconds.
    """

    __slots__ = (
        "_generation",
        "_kernel_is_empty",
        "_look_at",
        "_reader",
        "_reading",
        "_write_error",
        "_writer",
        "_writing",
        "closing",
        "connection",
        "read_shut",
    )

    def __init__(self, connection: SecuredStream) -> None:
        self.connection = connection
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._reader: Waiter | None = None
        self._writer: Waiter | None = None
        self._generation = process.generation
        self._look_at = 0.0
        self._kernel_is_empty = True
        self._write_error = ""
        self.closing = False
        self.read_shut = False

    @property
    def inherited(self) -> bool:
        """Whether a fork lies between the process that made this and the one that asks."""
        return self._generation != process.generation

    @property
    def want_write(self) -> bool:
        """Whether sealed bytes wait for the carrier."""
        return self.connection.outbound_waiting

    # -- receiving ---------------------------------------------------------------------------------------------------

    def recv(self, carrier: _socket.socket, limit: int, timeout: float | None, peek: bool) -> bytes:
        """At most ``limit`` bytes; b"" only at the authenticated end (or after our own shutdown of reading)."""
        reading = self._enter(self._reading, timeout, READ)
        connection = self.connection
        try:
            if not connection.readable() and limit and not self._fill(carrier, timeout):
                return b""
            return connection.read(limit, peek)
        finally:
            connection.inbound_release()
            reading.release()
            self._after_reading(carrier)

    def recv_into(self, carrier: _socket.socket, view: memoryview, timeout: float | None, peek: bool) -> int:
        """As recv(), into ``view``; how many bytes."""
        reading = self._enter(self._reading, timeout, READ)
        connection = self.connection
        try:
            if not connection.readable() and view and not self._fill(carrier, timeout):
                return 0
            return connection.read_into(view, peek)
        finally:
            connection.inbound_release()
            reading.release()
            self._after_reading(carrier)

    def pending(self) -> int:
        """Opened bytes that recv() would return at once."""
        if self.inherited:
            refuse_inherited("connection")
        return self.connection.readable()

    def _fill(self, carrier: _socket.socket, timeout: float | None) -> bool:
        """Read the carrier until there is something to deliver; False when our own shutdown ended reading."""
        connection = self.connection
        deadline: float | None = None
        while not connection.at_end:
            self._refuse_closing()
            if self.read_shut:
                return False
            if self._kernel_is_empty and timeout != 0:
                if timeout is not None and deadline is None:
                    deadline = monotonic() + timeout
                self._wait_to_read(carrier, deadline)
            if self._read_once(carrier):
                if connection.readable():
                    break
            elif timeout == 0:
                raise WantRead(errno.EAGAIN, "no bytes of the peer's are there yet")
        return True

    def _read_once(self, carrier: _socket.socket) -> bool:
        """One read of the carrier by the holder of the read lock; False when nothing was there."""
        connection = self.connection
        room = connection.inbound_buffer()
        size = len(room)
        try:
            count = _recv_into(carrier, room)
        except BlockingIOError:
            self._kernel_is_empty = True
            connection.inbound_release()
            return False
        except ConnectionResetError:
            # The carrier's end without the peer's authenticated end: the connection says so, in its own words.
            count = 0
        except OSError:
            connection.inbound_received(0, monotonic())
            raise
        self._kernel_is_empty = count < size
        connection.inbound_received(count, monotonic())
        if connection.state == "failed":
            self._tell_peer(carrier)
        if connection.outbound_waiting:
            self._flush_if_free(carrier)
        if self._writer is not None:
            self._writer.wake()
        return True

    def _wait_to_read(self, carrier: _socket.socket, deadline: float | None) -> None:
        waiter = this_thread()
        connection = self.connection
        # Announced before the last look at what would end the wait, so that no wake is missed.
        self._reader = waiter
        try:
            if self.closing or self.read_shut:
                return
            wanted = READ
            if connection.outbound_waiting and not self._write_error and not self._writing.locked():
                wanted = READ | WRITE
            self._wait(waiter, carrier, wanted, deadline)
        finally:
            self._reader = None
        if wanted & WRITE:
            self._flush_if_free(carrier)

    def _after_reading(self, carrier: _socket.socket) -> None:
        if self.connection.outbound_waiting:
            self._flush_if_free(carrier)
        # A sender that waits for a rekey has nobody who reads for it now.
        writer = self._writer
        if writer is not None:
            writer.wake()

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, carrier: _socket.socket, data: memoryview, timeout: float | None) -> int:
        """Seal at least one byte of ``data``; how many were sealed, which is a promise that they go out in order.

        What the carrier did not take yet goes first in any later call (``outbound_waiting``).
        """
        writing = self._enter(self._writing, timeout, WRITE)
        try:
            connection = self.connection
            now = monotonic()
            if now >= self._look_at:
                self._look(carrier, now)
            if timeout == 0:
                data = data[:NON_BLOCKING_BATCH]
            deadline = _deadline(timeout, now)
            if connection.outbound_waiting:
                self._flush(carrier, deadline)
            count = self._seal(carrier, data, now, deadline)
            try:
                self._flush(carrier, deadline)
            except (BlockingIOError, TimeoutError):
                return count  # sealed: they are on their way
            return count
        finally:
            writing.release()
            self._after_writing(carrier)

    def sendall(self, carrier: _socket.socket, data: memoryview, timeout: float | None) -> None:
        """Seal and send all of ``data``.  After a TimeoutError nobody knows how much arrived: it is over then."""
        writing = self._enter(self._writing, timeout, WRITE)
        left = data
        try:
            connection = self.connection
            now = monotonic()
            deadline = _deadline(timeout, now)
            if connection.outbound_waiting:
                self._flush(carrier, deadline)
            while True:
                if now >= self._look_at:
                    self._look(carrier, now)
                left = left[self._seal(carrier, left, now, deadline) :]
                self._flush(carrier, deadline)
                if not left:
                    return
                now = monotonic()
        except BlockingIOError as error:
            if not left:
                return  # all is sealed and on its way
            if len(left) < len(data):
                self._write_error = str(error)
            raise
        except TimeoutError as error:
            self._write_error = str(error)
            raise
        finally:
            writing.release()
            self._after_writing(carrier)

    def finish(self, carrier: _socket.socket, timeout: float | None) -> None:
        """Send the authenticated end of our stream.  WantRead and WantWrite: call again to go on."""
        writing = self._enter(self._writing, timeout, WRITE)
        try:
            deadline = _deadline(timeout, monotonic())
            self._flush(carrier, deadline)
            while not self.connection.finish(monotonic()):
                self._wait_for_rekey(carrier, deadline)
            self._flush(carrier, deadline)
        finally:
            writing.release()
            self._after_writing(carrier)

    def _seal(self, carrier: _socket.socket, data: memoryview, now: float, deadline: float | None) -> int:
        """Seal one batch; waits for a rekey where a limit forbids more."""
        connection = self.connection
        self._refuse_broken()
        count = connection.seal(data, now)
        while not count and data:
            self._flush(carrier, deadline)
            count = connection.seal(data, monotonic())
            if not count:
                self._wait_for_rekey(carrier, deadline)
        return count

    def _flush(self, carrier: _socket.socket, deadline: float | None) -> None:
        """Send what is sealed; waits.  WantWrite or TimeoutError when it may not wait (longer)."""
        connection = self.connection
        waiting = connection.outbound()
        while waiting is not None:
            self._refuse_broken()
            try:
                connection.outbound_sent(_send(carrier, waiting))
            except BlockingIOError:
                self._wait_to_write(carrier, deadline)
            except OSError as error:
                self._write_error = str(error)
                raise
            waiting = connection.outbound()

    def _wait_to_write(self, carrier: _socket.socket, deadline: float | None) -> None:
        """Until the carrier takes more.  What comes in meanwhile is read, as far as it can be kept."""
        waiter = this_thread()
        self._writer = waiter
        try:
            self._refuse_closing()
            nobody_reads = deadline != 0 and not self._reading.locked() and self.connection.wants_input
            self._wait(waiter, carrier, READ | WRITE if nobody_reads else WRITE, deadline)
        finally:
            self._writer = None
        self._look(carrier, monotonic())

    def _wait_for_rekey(self, carrier: _socket.socket, deadline: float | None) -> None:
        """One step towards being allowed to seal again: flush, then read, or let another thread read."""
        self._flush(carrier, deadline)
        waiter = this_thread()
        self._writer = waiter
        try:
            self._refuse_closing()
            if self._look(carrier, monotonic()):
                return
            nobody_reads = not self._reading.locked() and self.connection.wants_input
            # A rekey that the peer put off is asked for again at the connection's own deadline.
            self._wait(waiter, carrier, READ if nobody_reads else 0, deadline, self.connection.next_deadline())
        finally:
            self._writer = None

    def _look(self, carrier: _socket.socket, now: float) -> bool:
        """Read what is there without waiting, unless somebody else is reading; whether anything came."""
        self._look_at = now + LOOK_EVERY_S
        connection = self.connection
        if not connection.wants_input or not self._reading.acquire(blocking=False):
            return False
        try:
            return self._read_once(carrier)
        finally:
            connection.inbound_release()
            self._reading.release()

    def _flush_if_free(self, carrier: _socket.socket) -> None:
        """Send what is queued if no other thread is about to; that one looks again when it is done."""
        connection = self.connection
        while connection.outbound_waiting and not self._write_error and self._writing.acquire(blocking=False):
            try:
                if not flush(connection, carrier):
                    return
            except OSError as error:
                # The next send tells; a reader still delivers what came in before.
                self._write_error = str(error)
            finally:
                self._writing.release()

    def _after_writing(self, carrier: _socket.socket) -> None:
        if self.connection.state == "failed":
            self._tell_peer(carrier)
        if self.connection.outbound_waiting:
            self._flush_if_free(carrier)
            if self._reader is not None and self.connection.outbound_waiting:
                self._reader.wake()  # it waits for both directions then

    def _tell_peer(self, carrier: _socket.socket) -> None:
        """After a failure: a sealed reset, if it can be made, so that the peer learns by proof and not by silence."""
        if not self._write_error and self._writing.acquire(blocking=False):
            try:
                self.connection.abort(monotonic())
            finally:
                self._writing.release()
            self._flush_if_free(carrier)

    def abort(self, carrier: _socket.socket) -> None:
        """The socket was forgotten without close(): a sealed reset as far as the carrier takes it, then TCP's own."""
        if self.inherited or self.closing:
            return
        self.closing = True
        self.connection.abort(monotonic())
        with contextlib.suppress(OSError):
            flush(self.connection, carrier)
        reset_on_close(carrier)

    # -- both --------------------------------------------------------------------------------------------------------

    def wake_all(self) -> None:
        """End the waits of other threads; they look at ``closing`` then."""
        for waiter in (self._reader, self._writer):
            if waiter is not None:
                waiter.wake()

    def take_over(self, timeout_s: float) -> bool:
        """For close(): no new call gets in, those under way end; whether all of them did in time."""
        self.closing = True
        self.wake_all()
        deadline = monotonic() + timeout_s
        for lock in (self._writing, self._reading):
            if not lock.acquire(timeout=max(0.0, deadline - monotonic())):
                return False
            lock.release()  # whoever comes later sees that we are closing, and leaves
        return True

    def _enter(self, lock: threading.Lock, timeout: float | None, wanted: int) -> threading.Lock:
        if self._generation != process.generation:
            refuse_inherited("connection")
        if not lock.acquire(blocking=False):
            if timeout == 0:
                raise _would_block(wanted)
            if not lock.acquire(timeout=-1 if timeout is None else timeout):
                raise TimeoutError("timed out")
        if self.closing:
            lock.release()
            self._refuse_closing()
        return lock

    def _wait(
        self,
        waiter: Waiter,
        carrier: _socket.socket,
        wanted: int,
        deadline: float | None,
        look_again_at: float | None = None,
    ) -> None:
        if deadline == 0:
            raise _would_block(wanted)
        now = monotonic()
        if deadline is not None and deadline <= now:
            raise TimeoutError("timed out")
        limits = [each - now for each in (deadline, look_again_at) if each is not None]
        waiter.wait(_fileno(carrier), wanted, max(0.0, min(limits)) if limits else None)

    def _refuse_closing(self) -> None:
        if self.closing:
            raise OSError(errno.EBADF, "the socket was closed")

    def _refuse_broken(self) -> None:
        if self._write_error:
            raise BrokenPipeError(errno.EPIPE, f"the connection is over: {self._write_error}")
        if self.connection.error is not None:
            raise BrokenPipeError(errno.EPIPE, f"the connection is over: {self.connection.error}")


def _would_block(wanted: int) -> BlockingIOError:
    if wanted & WRITE:
        return WantWrite(errno.EAGAIN, "the carrier takes nothing more at the moment")
    return WantRead(errno.EAGAIN, "the peer has to be read first")


def _deadline(timeout: float | None, now: float) -> float | None:
    return now + timeout if timeout else timeout
