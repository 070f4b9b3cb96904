"""An established connection on a descriptor: what send, recv, shutdown and their waits do.

No call on the carrier waits in the kernel but for an instant; a call that may wait does so here, in its own thread,
with its own deadline, and can be woken.  Two rules of who does what:

- A sender that waits for a rekey needs the answer that some reader may be about to read.  It reads itself when nobody
  else does, and is woken by the reader otherwise.
- A sender looks at the carrier now and then even when it need not wait, so that a program which only sends still
  answers a rekey of its peer's.

Small messages have a short way through both directions (one call of the connection's, one system call), because their
cost is the number of Python steps; whatever is not one small packet takes the ordinary way with the same bytes.

This module knows the connection's port and the descriptor; it must not know how bytes are protected, nor policy.
"""

from __future__ import annotations

import _socket
import contextlib
import socket
import struct
from time import monotonic
from typing import Final

from ..engine.fork import process, refuse_inherited
from .negotiating import DONTWAIT
from .shared_link import SharedLink, deadline_of, would_block
from .waiting import READ, WRITE, this_thread

__all__ = ["StreamLink"]

_recv_into: Final = _socket.socket.recv_into
_send: Final = _socket.socket.send
_NOTHING: Final = memoryview(b"")

PATIENCE_S: Final = 0.01
"""How long a read waits by itself: longer than an answer takes on a fast path, shorter than anybody notices."""
_INSTANT: Final = struct.pack("@ll", 0, int(PATIENCE_S * 1e6))  # struct timeval: socket(7), SO_RCVTIMEO
LOOK_EVERY_S: Final = 0.01
"""How often a program that only sends looks for IKE messages: often against any lifetime, seldom against a send."""
NON_BLOCKING_BATCH: Final = 65536
"""What a non-blocking send seals at most: it may have to keep all of it until the next call."""
SCRATCH_SIZE: Final = 8192
"""Where a small message is received: one that fills it is the beginning of something larger."""
_scratch: Final[list[memoryview]] = []
"""Free scratch buffers of the process: as many as threads ever received at the same moment."""


class StreamLink(SharedLink):
    """Everything between an application's calls and a carrier for one established connection.

    The carrier is handed in by each call, so that nothing here keeps a socket alive that its owner has forgotten.
    ``timeout``: None waits, 0 never does, otherwise seconds for the whole call.  Inside it becomes a deadline: None,
    0 or monotonic seconds.
    """

    __slots__ = ()

    # -- receiving ---------------------------------------------------------------------------------------------------

    def recv(self, carrier: _socket.socket, limit: int, timeout: float | None, peek: bool) -> bytes:
        """At most ``limit`` bytes; b"" only at the authenticated end (or after our own shutdown of reading)."""
        if not self._reading.acquire(False):
            self._wait_for(self._reading, timeout, READ)
        if self._open_in != process.generation:
            self._refuse_entry(self._reading)
        connection = self.connection
        message: bytes | None = None
        try:
            deadline = monotonic() + timeout if timeout else timeout
            if self._short and limit and not peek:
                message = self._receive_message(carrier, limit, deadline)
                if message is not None:
                    return message
            if limit and not connection.readable() and not self._fill(carrier, deadline):
                return b""
            return connection.read(limit, peek)
        finally:
            if message is None:
                self._leave_reading(carrier)
            else:
                self._reading.release()
                if self._writer is not None:
                    self._wake_writer()

    def recv_into(self, carrier: _socket.socket, view: memoryview, timeout: float | None, peek: bool) -> int:
        """As recv(), into ``view``; how many bytes."""
        if not self._reading.acquire(False):
            self._wait_for(self._reading, timeout, READ)
        if self._open_in != process.generation:
            self._refuse_entry(self._reading)
        connection = self.connection
        message: bytes | None = None
        try:
            deadline = monotonic() + timeout if timeout else timeout
            if self._short and view and not peek:
                message = self._receive_message(carrier, len(view), deadline)
                if message is not None:
                    count = len(message)
                    view[:count] = message
                    return count
            if view and not connection.readable() and not self._fill(carrier, deadline):
                return 0
            return connection.read_into(view, peek)
        finally:
            if message is None:
                self._leave_reading(carrier)
            else:
                self._reading.release()
                if self._writer is not None:
                    self._wake_writer()

    def pending(self) -> int:
        """Opened bytes that recv() would return at once."""
        if self.inherited:
            refuse_inherited("connection")
        return self.connection.readable()

    def _leave_reading(self, carrier: _socket.socket) -> None:
        """Give buffer and lock back, and see that nothing is left for somebody who is not there."""
        self._end_reading()
        if self.connection.outbound_waiting:
            self._flush_if_free(carrier)
        if self._writer is not None:
            self._wake_writer()

    def _end_reading(self) -> None:
        """Whoever has read on the ordinary way, or looked: after this the next may be one small message, or not."""
        connection = self.connection
        connection.inbound_release()
        self._short = self._short and connection.quiet
        self._reading.release()

    def _receive_message(self, carrier: _socket.socket, limit: int, deadline: float | None) -> bytes | None:
        """One read, one packet: what an exchange of small messages needs.  The connection is quiet.

        The read itself waits, for an instant (see ``adopt``): an answer that comes at once costs one system call.
        None: what came was something else, or nothing; it is in the connection's hands.
        """
        may_wait = self._patient and (deadline is None or deadline > monotonic() + PATIENCE_S)
        scratch = _scratch.pop() if _scratch else memoryview(bytearray(SCRATCH_SIZE))
        try:
            try:
                count = _recv_into(carrier, scratch, 0, 0 if may_wait else DONTWAIT)
            except OSError:
                return None  # the same again on the ordinary way, which knows what to make of it
            if 0 < count < SCRATCH_SIZE:
                self._kernel_is_empty = True
                message = self.connection.open_message(scratch, count, limit)
                if message is not None:
                    return message
            self._carry_over(carrier, scratch, count)
            return None
        finally:
            _scratch.append(scratch)

    def adopt(self, carrier: _socket.socket) -> None:
        """Make the carrier's own descriptor patient for an instant, where each call can say that it does not wait.

        A wait for the carrier and for being woken together is a system call more than waiting in the read.  So a read
        that expects a small message soon waits by itself, so shortly that nobody notices if it has to be woken.
        """
        if DONTWAIT:
            with contextlib.suppress(OSError):  # some systems refuse options of a socket that the peer has reset
                _socket.socket.setsockopt(carrier, socket.SOL_SOCKET, socket.SO_RCVTIMEO, _INSTANT)
                _socket.socket.settimeout(carrier, None)
                self._patient = True

    def _carry_over(self, carrier: _socket.socket, scratch: memoryview, count: int) -> None:
        """What is not one small message goes on as usual."""
        self._short = count < SCRATCH_SIZE
        self._kernel_is_empty = self._short
        if count:
            self.connection.inbound_buffer()[:count] = scratch[:count]
        self._received(carrier, count, monotonic())

    def _fill(self, carrier: _socket.socket, deadline: float | None) -> bool:
        """Nothing is readable: read the carrier until something is, or nothing will be; False when our own shutdown
        ended reading."""
        connection = self.connection
        while not connection.at_end:
            if self._open_in != self._made_in:
                self._refuse_closing()
            if self.read_shut:
                return False
            if not connection.wants_input:
                self._unload(carrier, deadline)
                continue
            if self._kernel_is_empty and deadline != 0:
                self._wait_to_read(carrier, deadline)
            if self._read_once(carrier):
                if connection.readable():
                    break
            elif deadline == 0:
                raise would_block(READ)
        return True

    def _unload(self, carrier: _socket.socket, deadline: float | None) -> None:
        """The peer asks and does not listen: nothing more of it is read until it took what it asked for."""
        self._flush_if_free(carrier)
        if self.connection.wants_input:
            return
        self._refuse_broken()
        waiter = this_thread()
        self._reader = waiter
        try:
            self._refuse_closing()
            self._wait(waiter, carrier, WRITE, deadline)
        finally:
            self._reader = None

    def _read_once(self, carrier: _socket.socket) -> bool:
        """One read of the carrier by the holder of the read lock; False when nothing was there."""
        connection = self.connection
        count = self._take(carrier, connection.inbound_buffer())
        if count < 0:
            connection.inbound_release()
            return False
        self._received(carrier, count, monotonic())
        return True

    def _take(self, carrier: _socket.socket, room: memoryview) -> int:
        """Bytes of the carrier; 0 is its end, -1 that nothing is there."""
        try:
            count = _recv_into(carrier, room, 0, DONTWAIT)
        except BlockingIOError:
            self._kernel_is_empty = True
            return -1
        except ConnectionResetError:
            # The carrier's end without the peer's authenticated end: the connection says so, in its own words.
            return 0
        except OSError:
            self.connection.inbound_received(0, monotonic())
            raise
        size = len(room)
        self._kernel_is_empty = count < size
        self._short = count < SCRATCH_SIZE
        return count

    def _received(self, carrier: _socket.socket, count: int, now: float) -> None:
        """``count`` bytes are in the connection's buffer."""
        connection = self.connection
        connection.inbound_received(count, now)
        if connection.state == "failed":
            self._tell_peer(carrier)
        if connection.outbound_waiting:
            self._flush_if_free(carrier)
        if self._writer is not None:
            self._wake_writer()

    def _wait_to_read(self, carrier: _socket.socket, deadline: float | None) -> None:
        waiter = this_thread()
        connection = self.connection
        # Announced before the last look at what would end the wait, so that no wake is missed.
        self._reader = waiter
        wanted = READ
        try:
            if self.closing or self.read_shut:
                return
            if connection.outbound_waiting and not self._write_error and not self._writing.locked():
                wanted = READ | WRITE
            self._wait(waiter, carrier, wanted, deadline)
        finally:
            self._reader = None
        if wanted & WRITE:
            self._flush_if_free(carrier)

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, carrier: _socket.socket, data: bytes | memoryview, timeout: float | None) -> int:
        """Seal at least one byte of ``data``; how many were sealed, which is a promise that they go out in order.

        What the carrier did not take yet goes first in any later call (``outbound_waiting``).
        """
        if not self._writing.acquire(False):
            self._wait_for(self._writing, timeout, WRITE)
        if self._open_in != process.generation:
            self._refuse_entry(self._writing)
        ordinary = True
        try:
            now = monotonic()
            if now >= self._look_at:
                self._look(carrier, now)
            if self._send_message(carrier, data, now):
                ordinary = self._queued
                return len(data)
            deadline = deadline_of(timeout, now)
            self._flush(carrier, deadline)
            view = memoryview(data)[:NON_BLOCKING_BATCH] if timeout == 0 else memoryview(data)
            count = self._seal(carrier, view, now, deadline)
            try:
                self._flush(carrier, deadline)
            except (BlockingIOError, TimeoutError):
                return count  # sealed: they are on their way
            return count
        finally:
            self._writing.release()
            if ordinary:
                self._after_writing(carrier)

    def sendall(self, carrier: _socket.socket, data: bytes | memoryview, timeout: float | None) -> None:
        """Seal and send all of ``data``.  After a TimeoutError nobody knows how much arrived: it is over then."""
        if not self._writing.acquire(False):
            self._wait_for(self._writing, timeout, WRITE)
        if self._open_in != process.generation:
            self._refuse_entry(self._writing)
        ordinary = True
        try:
            now = monotonic()
            if now >= self._look_at:
                self._look(carrier, now)
            if not self._send_message(carrier, data, now):
                self._send_all(carrier, memoryview(data), now, deadline_of(timeout, now))
            elif not self._queued:
                ordinary = False
            else:
                self._send_all(carrier, _NOTHING, now, deadline_of(timeout, now))
        finally:
            self._writing.release()
            if ordinary:
                self._after_writing(carrier)

    def _send_all(self, carrier: _socket.socket, data: memoryview, now: float, deadline: float | None) -> None:
        """What was sealed before, then all of ``data``.  Half of it, and the connection is over."""
        left = data
        try:
            if self.connection.outbound_waiting:
                self._flush(carrier, deadline)
                now = monotonic()
            while left:
                left = left[self._seal(carrier, left, now, deadline) :]
                self._flush(carrier, deadline)
                if left:
                    now = monotonic()
                    if now >= self._look_at:
                        self._look(carrier, now)
        except BlockingIOError as error:
            if not left and (data or self.connection.outbound_waiting):
                return  # all is sealed and on its way
            if len(left) < len(data):
                self._write_error = str(error)
            raise
        except TimeoutError as error:
            self._write_error = str(error)
            raise

    def finish(self, carrier: _socket.socket, timeout: float | None) -> None:
        """Send the authenticated end of our stream.  WantRead and WantWrite: call again to go on."""
        if not self._writing.acquire(False):
            self._wait_for(self._writing, timeout, WRITE)
        if self._open_in != process.generation:
            self._refuse_entry(self._writing)
        try:
            deadline = deadline_of(timeout, monotonic())
            self._flush(carrier, deadline)
            while not self.connection.finish(monotonic()):
                self._wait_for_rekey(carrier, deadline)
            self._flush(carrier, deadline)
        finally:
            self._writing.release()
            self._after_writing(carrier)

    def _after_writing(self, carrier: _socket.socket) -> None:
        """See that nothing is left for somebody who is not there."""
        self._queued = False  # before the look: whoever says so after it finds the lock free
        if self.connection.state == "failed":
            self._tell_peer(carrier)
        if self.connection.outbound_waiting:
            self._flush_if_free(carrier)
            if self._reader is not None and self.connection.outbound_waiting:
                self._reader.wake()  # it waits for both directions then

    def _send_message(self, carrier: _socket.socket, data: bytes | memoryview, now: float) -> bool:
        """The short way: whether all of ``data`` was sealed and handed to the carrier as far as it takes it."""
        if self._write_error:
            return False
        frame = self.connection.seal_message(data, now)
        if frame is None:
            return False
        try:
            sent = _send(carrier, frame, DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._write_error = str(error)
            raise
        if sent < len(frame):
            self.connection.keep_unsent(frame[sent:])
            self._queued = True
        return True

    def _seal(self, carrier: _socket.socket, data: memoryview, now: float, deadline: float | None) -> int:
        """Seal one batch; waits for a rekey where a limit forbids more."""
        connection = self.connection
        if self._write_error or connection.error is not None:
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
            if self._write_error or connection.error is not None:
                self._refuse_broken()
            try:
                connection.outbound_sent(_send(carrier, waiting, DONTWAIT))
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
            self._end_reading()
