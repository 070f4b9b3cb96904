"""What both directions of an established connection share: locks, waiting, the end, and the carrier's leftovers.

Two locks, one for each direction, let one thread send while another receives.  What a reader has to answer (IKE) goes
to a queue of the connection's, and a reader never waits for the write lock: it says that something is queued, then
tries the lock; whoever gives that lock back looks whether that was said.  So nothing is left lying by two threads that
each believed the other would send it.

It must not know how a call looks to an application.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

from ..engine.fork import process, refuse_inherited
from ..errors import SecureSocketError, WantRead, WantWrite
from .linger import reset_on_close
from .negotiating import flush
from .waiting import WRITE, Waiter

if TYPE_CHECKING:
    from ..engine.ports import SecuredStream

__all__ = ["SharedLink", "deadline_of", "would_block"]

_fileno: Final = _socket.socket.fileno
_NEVER: Final = -1  # no process has this generation


class SharedLink:
    """The state of a link.  ``_queued``: a reader said that something waits in the connection's queue.

    ``_open_in``: the generation of the process that may call, none once close() has begun: one comparison for both.
    ``_patient``: a read of the carrier without DONTWAIT waits for an instant.  ``_short``: the last that came was
    little, and nothing of it was left when its reader was done, so that the next may be one small message.
    ``_kernel_is_empty``: the last read of the carrier took all there was.  ``_write_error``: why nothing can be written
    any more.
    """

    __slots__ = (
        "_kernel_is_empty",
        "_look_at",
        "_made_in",
        "_open_in",
        "_patient",
        "_queued",
        "_reader",
        "_reading",
        "_short",
        "_write_error",
        "_writer",
        "_writing",
        "connection",
        "read_shut",
    )

    def __init__(self, connection: SecuredStream) -> None:
        self.connection = connection
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._reader: Waiter | None = None
        self._writer: Waiter | None = None
        self._made_in = self._open_in = process.generation
        self._look_at = 0.0
        self._kernel_is_empty = True
        self._short = False
        self._patient = False
        self._queued = False
        self._write_error = ""
        self.read_shut = False

    @property
    def inherited(self) -> bool:
        """Whether a fork lies between the process that made this and the one that asks."""
        return self._made_in != process.generation

    @property
    def closing(self) -> bool:
        """Whether close() has begun: no call gets in any more."""
        return self._open_in == _NEVER

    @closing.setter
    def closing(self, begun: bool) -> None:
        self._open_in = _NEVER if begun else self._made_in

    @property
    def want_write(self) -> bool:
        """Whether sealed bytes wait for the carrier."""
        return self.connection.outbound_waiting

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

    def break_off(self, error: SecureSocketError, carrier: _socket.socket | None) -> None:
        """End an established connection for a reason of ours, from another thread: whoever waits in it is woken.

        The peer is told by ``carrier``, or where that has gone by whoever calls next.
        """
        if self.inherited or self.closing:
            return
        self.connection.break_off(error)
        if carrier is not None:
            with contextlib.suppress(OSError):
                self._tell_peer(carrier)
        self.wake_all()

    def abort(self, carrier: _socket.socket) -> None:
        """The socket was forgotten without close(): a sealed reset as far as the carrier takes it, then TCP's own."""
        if self.inherited or self.closing:
            return
        self.closing = True
        self.connection.abort(monotonic())
        with contextlib.suppress(OSError):
            flush(self.connection, carrier)
        reset_on_close(carrier)

    # -- for both directions -----------------------------------------------------------------------------------------

    def _wait_for(self, lock: threading.Lock, timeout: float | None, wanted: int) -> None:
        """Hold ``lock``, which somebody holds: perhaps for ever, if that was a thread of the parent's at a fork."""
        if self.inherited:
            refuse_inherited("connection")
        if timeout == 0:
            raise would_block(wanted)
        if not lock.acquire(timeout=-1 if timeout is None else timeout):
            raise TimeoutError("timed out")

    def _refuse_entry(self, lock: threading.Lock) -> None:
        """The caller holds ``lock`` and is not to be let in."""
        lock.release()
        if self.inherited:
            refuse_inherited("connection")
        self._refuse_closing()

    def _wait(
        self,
        waiter: Waiter,
        carrier: _socket.socket,
        wanted: int,
        deadline: float | None,
        look_again_at: float | None = None,
    ) -> None:
        if deadline is None and look_again_at is None:
            waiter.wait(_fileno(carrier), wanted, None)
            return
        if deadline == 0:
            raise would_block(wanted)
        now = monotonic()
        if deadline is not None and deadline <= now:
            raise TimeoutError("timed out")
        limits = [each - now for each in (deadline, look_again_at) if each is not None]
        waiter.wait(_fileno(carrier), wanted, max(0.0, min(limits)))

    def _wake_writer(self) -> None:
        """A sender that waits for a rekey has nobody who reads for it now, or somebody has just read its answer."""
        writer = self._writer
        if writer is not None:
            writer.wake()

    def _flush_if_free(self, carrier: _socket.socket) -> None:
        """Send what is queued if no other thread is about to; that one looks again when it is done."""
        connection = self.connection
        self._queued = True
        while connection.outbound_waiting and not self._write_error and self._writing.acquire(False):
            self._queued = False
            try:
                if not flush(connection, carrier):
                    return
            except OSError as error:
                # The next send tells; a reader still delivers what came in before.
                self._write_error = str(error)
            finally:
                self._writing.release()

    def _tell_peer(self, carrier: _socket.socket) -> None:
        """After a failure: a sealed reset, if it can be made, so that the peer learns by proof and not by silence."""
        if not self._write_error and self._writing.acquire(blocking=False):
            try:
                self.connection.abort(monotonic())
            finally:
                self._writing.release()
            self._flush_if_free(carrier)

    def _refuse_closing(self) -> None:
        if self.closing:
            raise OSError(errno.EBADF, "the socket was closed")

    def _refuse_broken(self) -> None:
        if self._write_error:
            raise BrokenPipeError(errno.EPIPE, f"the connection is over: {self._write_error}")
        if self.connection.error is not None:
            raise BrokenPipeError(errno.EPIPE, f"the connection is over: {self.connection.error}")


def would_block(wanted: int) -> BlockingIOError:
    """What a call that may not wait raises."""
    if wanted & WRITE:
        return WantWrite(errno.EAGAIN, "the carrier takes nothing more at the moment")
    return WantRead(errno.EAGAIN, "the peer has to be read first")


def deadline_of(timeout: float | None, now: float) -> float | None:
    """None: wait for ever; 0: never; otherwise until then."""
    return now + timeout if timeout else timeout
