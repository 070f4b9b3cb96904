"""How a connection ends without losing a byte that was sent.

Closing a TCP socket while bytes of the peer's wait unread makes the kernel send a reset, and a reset throws away what
the peer has not read yet.  A peer of ours may well send something at that moment (a rekey), so the end goes in order:
send what is sealed, seal and send the end of stream, shut the carrier's sending half, then read and discard until the
peer's end; only then is the descriptor closed.

``Closing`` is that sequence without any waiting; a blocking close() drives it in its own thread as long as it lingers,
everything else hands it to the reactor.  It must not know who closes nor why.
"""

from __future__ import annotations

import _socket
import atexit
import contextlib
import socket
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from ..engine.fork import in_child
from ..engine.live_sas import LIVE_SAS
from .clear import ClearLink
from .linger import LINGER_S, close_at_once, linger_of, reset
from .negotiating import flush
from .reactor import Timer, reactor
from .waiting import READ, WRITE, this_thread

if TYPE_CHECKING:
    from ..engine.ports import SecuredStream
    from .blocking import StreamLink

__all__ = ["LINGER_S", "Closing", "close_now", "close_waiting", "linger_of", "reset"]

STALLED_S: Final = 30.0
"""A peer that takes nothing of what was sent for so long is given up, as the kernel gives up an orphan."""
_DISCARD: Final = 65536


class Closing:
    """The end of one connection; owns its carrier from here on.

    ``connection``: one that failed is flushed, so that its last words (a refusal, a sealed reset) arrive.
    ``done`` is called once, by the thread that closes it.
    """

    __slots__ = ("_connection", "_done", "_lingers_until", "_moved_at", "_shut", "_timer", "_unsent", "carrier")

    def __init__(
        self,
        connection: SecuredStream,
        carrier: socket.socket,
        linger_s: float,
        now: float,
        done: Callable[[], None] | None = None,
    ) -> None:
        self.carrier = carrier
        self._done = done
        self._connection = connection
        self._lingers_until = now + linger_s
        self._shut = False
        self._unsent = -1
        self._moved_at = now
        self._timer: Timer | None = None

    def advance(self, now: float) -> int:
        """As far as it goes without waiting; what to wait for, 0 when the carrier may be closed."""
        try:
            if not self._shut:
                wanted = self._send_end(now)
                if wanted:
                    return wanted if self._patient(now) else 0
                self.carrier.shutdown(socket.SHUT_WR)
                self._shut = True
            if self._discard():
                return 0
        except OSError:
            return 0  # reset by the peer, or by the path: nothing can be lost any more that is not lost already
        return READ if self._patient(now) else 0

    def deadline(self, now: float) -> float:
        """When to call ``advance`` again even if nothing happens: the linger time's end, then once a second."""
        return self._lingers_until if now < self._lingers_until else now + 1.0

    @property
    def has_failed(self) -> bool:
        """Whether the connection had failed: its last words are all that is left to send."""
        return self._connection.error is not None

    def close(self) -> None:
        """Close the descriptor; the kernel goes on with what it holds."""
        close_at_once(self.carrier)
        if self._done is not None:
            self._done()

    # -- handed over to the reactor ------------------------------------------------------------------------------------

    def hand_over(self) -> None:
        """Let the reactor go on with it; at interpreter exit it is waited for."""
        _pending.add(self)
        loop = reactor()
        loop.call(lambda: self._step(monotonic()))

    def _step(self, now: float) -> None:
        loop = reactor()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wanted = 0
        try:
            wanted = self.advance(now)
        finally:
            if not wanted:
                loop.forget(self.carrier)
                self.close()
                _left(self)
        if wanted:
            loop.watch(self.carrier, wanted, self._ready)
            self._timer = loop.at(self.deadline(now), self._step)

    def _ready(self, mask: int, now: float) -> None:
        self._step(now)

    # -- the sequence --------------------------------------------------------------------------------------------------

    def _send_end(self, now: float) -> int:
        """Flush, seal the end, flush; 0 when the carrier has taken it all."""
        connection = self._connection
        if not flush(connection, self.carrier):
            return WRITE
        if connection.state == "established" and not connection.finish(now):
            # At the SA's limit: the end can be sealed after the rekey only, which the peer's messages bring.
            self._read_for_rekey(connection, now)
            return READ if flush(connection, self.carrier) else READ | WRITE
        return 0 if flush(connection, self.carrier) else WRITE

    def _read_for_rekey(self, connection: SecuredStream, now: float) -> None:
        scratch = memoryview(bytearray(_DISCARD))
        try:
            while not connection.finish(now) and connection.state == "established":
                while connection.readable():
                    connection.read_into(scratch)  # nobody will ever read it
                if not connection.wants_input:
                    return
                connection.inbound_received(self.carrier.recv_into(connection.inbound_buffer()), now)
        except BlockingIOError:
            return
        finally:
            connection.inbound_release()

    def _discard(self) -> bool:
        """Read and forget; whether the peer's end came."""
        if self._connection.carrier_ended:
            return True
        try:
            while self.carrier.recv(_DISCARD):
                pass
        except BlockingIOError:
            return False
        return True

    def _patient(self, now: float) -> bool:
        """Until the linger time is over; beyond it only while the peer goes on taking what we sent."""
        if now < self._lingers_until:
            return True
        unsent = _unsent_bytes(self.carrier)
        if not unsent and self._shut:
            return False
        if unsent != self._unsent:
            self._unsent, self._moved_at = unsent, now
        return now < self._moved_at + (LINGER_S if _exit.under_way else STALLED_S)


def close_link(
    link: StreamLink | ClearLink, owner: socket.socket, *, never_wait: bool, done: Callable[[], None] | None = None
) -> None:
    """close() of a connected socket; ``owner`` has no descriptor any more when this returns.

    What a fork inherited is closed and nothing is written: the connection is the parent's.
    ``done`` is called once, when what was still to send is out: perhaps later, and by another thread.
    """
    linger_s = linger_of(owner)
    closing = None if link.inherited else _take_carrier(link, owner, linger_s, done)
    if closing is None:
        _socket.socket.close(owner)
        if done is not None:
            done()
    elif never_wait or closing.has_failed:
        closing.hand_over()
    else:
        close_waiting(closing, linger_s)


def _take_carrier(
    link: StreamLink | ClearLink, owner: socket.socket, linger_s: float, done: Callable[[], None] | None
) -> Closing | None:
    """The end of the connection, which owns the descriptor from now on; None where nothing has to be sent."""
    link.closing = True
    link.wake_all()
    if isinstance(link, ClearLink):
        return None
    LIVE_SAS.leave(link.connection)
    if not link.take_over(LINGER_S):
        # A thread that does not come back within that time is stuck in a call: end its carrier under it.
        with contextlib.suppress(OSError):
            _socket.socket.shutdown(owner, socket.SHUT_RDWR)
        return None
    family, kind, proto = owner.family, owner.type, owner.proto
    carrier = socket.socket(family, kind, proto, _socket.socket.detach(owner))
    carrier.setblocking(False)
    if not linger_s:
        reset(carrier)
        return None
    return Closing(link.connection, carrier, linger_s, monotonic(), done)


def close_waiting(closing: Closing, linger_s: float) -> None:
    """Drive it in the calling thread for at most ``linger_s``; what is left then is the reactor's."""
    waiter = this_thread()
    limit = monotonic() + linger_s
    done = False
    try:
        while wanted := closing.advance(now := monotonic()):
            if now >= limit:
                return
            waiter.wait(closing.carrier.fileno(), wanted, limit - now)
        done = True
    finally:
        if done:
            closing.close()
        else:
            closing.hand_over()


def close_now(closing: Closing) -> None:
    """Without waiting: here if nothing has to wait, in the reactor otherwise."""
    if closing.advance(monotonic()):
        closing.hand_over()
    else:
        closing.close()


if sys.platform == "linux":
    import fcntl
    import termios

    def _unsent_bytes(carrier: _socket.socket) -> int:
        """What the peer's system has not acknowledged (SIOCOUTQ, tcp(7))."""
        answer = fcntl.ioctl(carrier.fileno(), termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(answer, sys.byteorder)

else:

    def _unsent_bytes(carrier: _socket.socket) -> int:
        """Not told by this system: linger time alone decides."""
        return 0


class _Exit:
    """What the end of the interpreter waits for."""

    def __init__(self) -> None:
        self.under_way = False
        self.nothing_left: threading.Event | None = None


_pending: Final[set[Closing]] = set()
_exit: Final = _Exit()


def _left(closing: Closing) -> None:
    _pending.discard(closing)
    if not _pending and _exit.nothing_left is not None:
        _exit.nothing_left.set()


def _finish_at_exit() -> None:
    """What was handed over before the interpreter ends is delivered all the same."""
    _exit.nothing_left = threading.Event()
    _exit.under_way = True
    if _pending:
        _exit.nothing_left.wait()


atexit.register(_finish_at_exit)


def _forget() -> None:
    # The descriptors are shared with the parent, whose reactor goes on with them: only our copies are closed.
    for closing in tuple(_pending):
        closing.carrier.close()
    _pending.clear()
    _exit.nothing_left = None
    _exit.under_way = False


in_child(_forget)
