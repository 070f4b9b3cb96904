"""An established connection in an event loop: a protocol on the carrier's transport, a transport for the application.

The shape is that of asyncio's own TLS: the loop makes an ordinary TCP transport, ``AioLink`` is its BufferedProtocol,
and the application talks to a SecuredTransport above it.  Nothing but the public interfaces of transports is used, so
that any loop will do.

Receiving.  The carrier reads straight into the connection's pooled buffer; what was opened is delivered in the same
call and the buffer given back, so that an idle connection owns none.  Small messages have a short way in both
directions, past that buffer, because their cost is that of the steps around them.  While the application has reading
paused the
carrier is read on, so that IKE goes on, until the connection wants no more.

Sending.  Data is sealed from the application's own memory and handed to the carrier's transport, whose write buffer
limits are zero: it says pause_writing as soon as it keeps anything, and resume_writing when it keeps nothing.  In
between it may still refer to the connection's buffer, so nothing is sealed or given back; what the application writes
is kept in clear, and counts for its own limits.

Closing.  When all is sealed and the carrier has taken it, a duplicate of the descriptor goes to the common closing
(drivers/closing.py) and the loop is rid of the connection: what the peer still has to read does not depend on how long
the loop lives.

Everything here runs in the loop's thread.  This module must not know how bytes are protected, nor policy.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, cast

from ..engine.fork import process, refuse_inherited
from ..engine.live_sas import LIVE_SAS
from ..engine.report import live_info
from .closing import Closing, close_now, linger_of, reset
from .inherited import close_copy

if TYPE_CHECKING:
    from ..engine.live_flows import PolicyChange
    from ..engine.ports import SecuredStream
    from ..errors import SecureSocketError
    from ..policy import Explanation, Subscription
    from ..types import SecurityInfo
    from .aio_transport import Data, SecuredTransport

__all__ = ["AioLink", "duplicate"]

_HIGH_WATER: Final = 65536  # asyncio's own defaults
_LOW_WATER: Final = 16384
_JOIN: Final = 65536
"""Small writes that had to wait are sealed together up to this size, which is about a full packet."""
_SCRATCH_SIZE: Final = 8192
"""Where small messages are read to; a read that fills it is no small message and goes on in the connection's buffer."""
_LEAST_WAIT_S: Final = 0.05  # a deadline that cannot be met at once is looked at again so much later
_scratches: Final[list[memoryview]] = []  # lent from the loop's question for a buffer until it has put something there
_NOBODY: Final = asyncio.Protocol()  # in the place of the application's before and after its connection


class JudgedFlow(Protocol):
    """What keeps an eye on the policy of a connection; see engine.live_flows.LiveFlow."""

    def current(self, established: SecurityInfo) -> SecurityInfo:
        """What is said of the connection, with the policy of now."""
        ...

    def subscribe(self, callback: Callable[[PolicyChange], object] | None = None) -> Subscription[PolicyChange]:
        """Hear of every change of it from now on."""
        ...

    def explain(self) -> tuple[Explanation, ...]:
        """Why the connection is judged as it is."""
        ...

    def over(self) -> None:
        """The connection has ended."""
        ...


class AioLink(asyncio.BufferedProtocol):
    """Between ``carrier``, a transport of the loop, and ``protocol``, the application's.

    ``info``: what was established.  ``paused``: the carrier has said pause_writing already.  ``gone`` is called once,
    when the connection is over and what was still to send is out; perhaps in another thread.
    """

    __slots__ = (
        "_app_paused",
        "_backlog",
        "_backlog_size",
        "_carrier_paused",
        "_connection",
        "_eof_told",
        "_error",
        "_fin_sealed",
        "_fin_wanted",
        "_generation",
        "_gone",
        "_high",
        "_info",
        "_into_app_buffer",
        "_lent",
        "_loop",
        "_low",
        "_over",
        "_parted",
        "_reading_paused",
        "_resting",
        "_scratch",
        "_short",
        "_spill",
        "_surplus",
        "_timer",
        "carrier",
        "closing",
        "live",
        "protocol",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        carrier: asyncio.Transport,
        connection: SecuredStream,
        info: SecurityInfo,
        *,
        paused: bool,
        gone: Callable[[], None] | None = None,
    ) -> None:
        self.carrier = carrier
        self._gone = gone
        self.live: JudgedFlow | None = None
        self.protocol: asyncio.BaseProtocol = _NOBODY
        self.closing = False  # no more writes, nothing more is delivered
        self._loop = loop
        self._connection = connection
        self._info = info
        self._generation = process.generation
        self._error: Exception | None = None
        self._parted = False  # the carrier was given up by us; connection_lost is on its way
        self._over = False  # connection_lost was called
        self._timer: asyncio.TimerHandle | None = None
        # inbound
        self._into_app_buffer = False
        self._reading_paused = False  # by the application
        self._resting = False  # the carrier is not read, because the connection wants no more
        self._eof_told = False
        self._short = True  # the last read was no more than a small message
        self._scratch: memoryview | None = None
        self._surplus = bytearray()  # came while no more was wanted
        self._spill: memoryview | None = None  # room for more of it
        # outbound
        self._carrier_paused = paused
        self._lent = 0  # bytes of connection.outbound() that the carrier's transport may still refer to
        self._backlog: deque[memoryview] = deque()
        self._backlog_size = 0
        self._fin_wanted = False
        self._fin_sealed = False
        self._app_paused = False
        self._high, self._low = _HIGH_WATER, _LOW_WATER

    def begin(self, protocol: asyncio.BaseProtocol, transport: SecuredTransport) -> None:
        """Take the carrier over, tell the application of its connection, deliver what came with the last message."""
        self.set_protocol(protocol)
        self.carrier.set_protocol(self)
        self._set_timer()
        protocol.connection_made(transport)
        self._go_on()

    def security(self) -> SecurityInfo:
        """What is applied, as it stands now."""
        connection = self._connection
        return live_info(
            self._info if self.live is None else self.live.current(self._info),
            main_mode_sa_id=connection.main_mode_sa_id,
            quick_mode_sa_id=connection.quick_mode_sa_id,
            rekeys=connection.child_rekeys + connection.ike_rekeys,
            error=connection.error,
        )

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Who is told from now on."""
        self.protocol = protocol
        self._into_app_buffer = isinstance(protocol, asyncio.BufferedProtocol)

    # -- what the carrier tells --------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """The connection's own buffer."""
        if self._generation != process.generation:
            refuse_inherited("connection")
        connection = self._connection
        if self._scratch is not None:
            return self._scratch
        if self._short and connection.quiet:
            self._scratch = _scratches.pop() if _scratches else memoryview(bytearray(_SCRATCH_SIZE))
            return self._scratch
        room = connection.inbound_buffer()
        if not room or self._surplus:
            # The proactor of Windows hands over all that it has read, also what goes beyond what was wanted.
            room = self._spill = memoryview(bytearray(max(sizehint, 1)))
        return room

    def buffer_updated(self, nbytes: int) -> None:
        """Open it and deliver what it holds."""
        if self._spill is not None:
            self._surplus += self._spill[:nbytes]
            self._spill = None
            return
        connection, scratch = self._connection, self._scratch
        self._short = nbytes < _SCRATCH_SIZE
        if scratch is not None:
            self._scratch = None
            message = None
            if self._short and not (self._reading_paused or self._into_app_buffer or self.closing):
                message = connection.open_message(scratch, nbytes, _SCRATCH_SIZE)
            if message is None:
                connection.inbound_buffer()[:nbytes] = scratch[:nbytes]
            _scratches.append(scratch)
            if message is not None:
                cast(asyncio.Protocol, self.protocol).data_received(message)
                return
        connection.inbound_received(nbytes, monotonic())
        self._go_on()

    def eof_received(self) -> bool:
        """The carrier's end; the other direction is ours to end."""
        self._connection.inbound_received(0, monotonic())
        self._go_on()
        return True

    def pause_writing(self) -> None:
        """The carrier's transport keeps bytes."""
        self._carrier_paused = True

    def resume_writing(self) -> None:
        """It keeps none any more."""
        self._carrier_paused = False
        if self._lent:
            lent, self._lent = self._lent, 0
            self._connection.outbound_sent(lent)
        # In a turn of its own: a transport of asyncio's that is aborted from within this call is lost twice.
        self._loop.call_soon(self._writing_resumed)

    def _writing_resumed(self) -> None:
        if not self._parted and not self._over:
            self._flush()
            self._part_when_done()

    def connection_lost(self, exc: Exception | None) -> None:
        """The carrier is gone: by our own doing, or because the path or the peer broke it."""
        self._over = True
        LIVE_SAS.leave(self._connection)
        try:
            if not self._parted:
                self._error = exc
                if exc is None or isinstance(exc, OSError):  # anything else is a defect of the application's protocol
                    self._carrier_broke(exc)
        finally:
            self._stop()
            protocol, self.protocol = self.protocol, _NOBODY
            error, self._error = self._error, None
            gone, self._gone = self._gone, None
            if gone is not None:
                gone()
            if self.live is not None:
                self.live.over()
            protocol.connection_lost(error)

    def _carrier_broke(self, exc: OSError | None) -> None:
        connection = self._connection
        if self._surplus:
            self._deliver(even_if_paused=True)
            self._catch_up(even_if_paused=True)
        if not connection.carrier_ended:
            connection.inbound_received(0, monotonic())
        # The connection says in its own words what the carrier's silent end, or its reset, means.
        if connection.error is not None and (exc is None or isinstance(exc, ConnectionResetError)):
            self._error = connection.error
        self._deliver(even_if_paused=True)
        connection.inbound_release()

    # -- receiving ---------------------------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        """Whether the application wants data."""
        return not self._reading_paused and not self.closing

    def pause_reading(self) -> None:
        """Deliver nothing for the time being."""
        self._reading_paused = True

    def resume_reading(self) -> None:
        """Deliver again, in the loop's next turn."""
        if self._reading_paused:
            self._reading_paused = False
            self._loop.call_soon(self._go_on_later)

    def _go_on_later(self) -> None:
        """In a turn of its own, where nobody above would know what to do with an exception of the application's."""
        done = False
        try:
            self._go_on()
            done = True
        finally:
            if not done:  # the application's protocol raised, which ends a connection wherever it is called from
                self.abort()

    def _go_on(self) -> None:
        """Whatever came in, or was made possible: deliver, answer, and see whether anything is over."""
        if self._parted or self._over:
            return
        connection = self._connection
        try:
            self._deliver()
            if self._surplus:
                self._catch_up()
        finally:
            connection.inbound_release()
        if connection.error is not None and self._may_break():
            self._break(connection.error)
            return
        if connection.outbound_waiting or self._backlog or self._fin_wanted:
            self._flush()
        self._part_when_done()
        self._balance()
        if self._timer is None:
            self._set_timer()

    def _deliver(self, *, even_if_paused: bool = False) -> None:
        connection = self._connection
        while size := connection.readable():
            if self.closing:
                connection.read(size)  # nobody will ever read it
            elif self._reading_paused and not even_if_paused:
                return
            elif self._into_app_buffer:
                protocol = cast(asyncio.BufferedProtocol, self.protocol)
                room = memoryview(protocol.get_buffer(size)).cast("B")
                if not room:
                    raise RuntimeError("get_buffer() returned an empty buffer")
                protocol.buffer_updated(connection.read_into(room))
            else:
                cast(asyncio.Protocol, self.protocol).data_received(connection.read(size))
        if connection.ended and not self._eof_told and not self.closing and not self._reading_paused:
            self._eof_told = True
            if not cast(asyncio.Protocol, self.protocol).eof_received():
                self.close()

    def _catch_up(self, *, even_if_paused: bool = False) -> None:
        """Open what came while no more was wanted, as far as more is wanted now."""
        connection = self._connection
        while self._surplus and connection.wants_input:
            room = connection.inbound_buffer()
            taken = self._surplus[: len(room)]
            del self._surplus[: len(room)]
            room[: len(taken)] = taken
            connection.inbound_received(len(taken), monotonic())
            self._deliver(even_if_paused=even_if_paused)

    def _balance(self) -> None:
        """Read the carrier exactly while the connection wants more."""
        wanted = self._connection.wants_input
        if wanted == self._resting and not self._parted:
            self._resting = not wanted
            if wanted:
                self.carrier.resume_reading()
            else:
                self.carrier.pause_reading()

    # -- sending -----------------------------------------------------------------------------------------------------

    def write(self, data: Data) -> None:
        """See SecuredTransport.write."""
        if self._generation != process.generation:
            refuse_inherited("connection")
        view = memoryview(data).cast("B")
        if self._fin_wanted and not self.closing:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not view or self.closing:
            return
        if not self._backlog and not self._carrier_paused:
            now = monotonic()
            message = self._connection.seal_message(view, now)
            if message is not None:
                self.carrier.write(message)
                view = view[:0]
            else:
                view = self._seal(view, now)
        if view:
            # What is not sealed yet must not change under us when the caller goes on to use its buffer.
            self._backlog.append(view if isinstance(data, bytes) else memoryview(bytes(view)))
            self._backlog_size += len(view)
            if self._connection.error is not None:
                self._loop.call_soon(self._go_on_later)  # it waited for the application to read, which may never be
        elif not self._carrier_paused:
            return
        if not self._app_paused and self.write_buffer_size() > self._high:
            self._pause_app()

    def write_eof(self) -> None:
        """See SecuredTransport.write_eof."""
        self._refuse_in_child()
        if not self._fin_wanted and not self.closing:
            self._fin_wanted = True
            self._flush()

    def write_buffer_size(self) -> int:
        """Bytes that wait, sealed or not."""
        return self._backlog_size + self.carrier.get_write_buffer_size()

    @property
    def write_buffer_limits(self) -> tuple[int, int]:
        """(low, high)."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None, low: int | None) -> None:
        """As asyncio's transports: low defaults to a quarter of high, high to four times low."""
        if high is None:
            high = _HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        if not self._app_paused and self.write_buffer_size() > high:
            self._pause_app()

    def _pause_app(self) -> None:
        self._app_paused = True
        self.protocol.pause_writing()

    def _flush(self) -> None:
        """Seal and hand over until the carrier takes no more, or nothing is left, or a rekey must come first."""
        self._refuse_in_child()
        connection, carrier = self._connection, self.carrier
        while not self._carrier_paused and not carrier.is_closing():
            waiting = connection.outbound()
            if waiting is not None:
                self._hand_over(waiting)
            elif not self._seal_backlog():
                break
        if self._app_paused and self.write_buffer_size() <= self._low:
            self._app_paused = False
            self.protocol.resume_writing()
        if self._resting:  # a peer that asks and does not listen is read again when it took its answers
            self._balance()

    def _hand_over(self, waiting: memoryview) -> None:
        """Give the carrier's transport what waits; it may refer to that memory until it says resume_writing."""
        size = len(waiting)
        self.carrier.write(waiting)
        if self._carrier_paused:
            self._lent = size
        else:
            self._connection.outbound_sent(size)

    def _hand_over_rest(self) -> None:
        """The last words of a connection, as far as the carrier takes them."""
        if not self._carrier_paused and not self.carrier.is_closing():
            waiting = self._connection.outbound()
            if waiting is not None:
                self._hand_over(waiting)

    def _seal(self, view: memoryview, now: float) -> memoryview:
        """Seal from the front of ``view`` as long as the carrier takes it; what is left."""
        connection, carrier = self._connection, self.carrier
        while view and connection.state == "established" and not carrier.is_closing():
            try:
                count = connection.seal(view, now)
            except BrokenPipeError:  # it has failed: the error says why
                self._loop.call_soon(self._go_on_later)
                break
            view = view[count:]
            waiting = connection.outbound()
            if waiting is not None:
                self._hand_over(waiting)
            elif not count:
                break
            if self._carrier_paused:
                break
        return view

    def _seal_backlog(self) -> bool:
        """One step; False when there is nothing that may be sealed now."""
        connection = self._connection
        if connection.state != "established":
            return False
        if self._backlog:
            view = self._next_piece()
            rest = self._seal(view, monotonic())
            self._backlog_size -= len(view) - len(rest)
            if rest:
                self._backlog.appendleft(rest)
            return len(rest) < len(view)
        if self._fin_wanted and not self._fin_sealed:
            return self._seal_end()
        return False

    def _seal_end(self) -> bool:
        try:
            self._fin_sealed = self._connection.finish(monotonic())
        except BrokenPipeError:
            self._loop.call_soon(self._go_on_later)
        return self._fin_sealed

    def _next_piece(self) -> memoryview:
        """The front of the backlog, with small pieces put together."""
        backlog = self._backlog
        first = backlog.popleft()
        if not backlog or len(first) + len(backlog[0]) > _JOIN:
            return first
        parts, size = [first], len(first)
        while backlog and size + len(backlog[0]) <= _JOIN:
            parts.append(backlog.popleft())
            size += len(parts[-1])
        return memoryview(b"".join(parts))

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """See SecuredTransport.close."""
        if self.closing:
            return
        self.closing = True
        if self._generation != process.generation:
            self._leave_to_parent()
            return
        self._fin_wanted = True
        self._flush()
        self._loop.call_soon(self._go_on)

    def abort(self) -> None:
        """See SecuredTransport.abort."""
        if self._over or self._parted:
            return
        self.closing = True
        if self._generation != process.generation:
            self._leave_to_parent()
            return
        self._connection.abort(monotonic())
        self._hand_over_rest()
        self._parted = True
        self._stop()
        self.carrier.abort()

    def break_off(self, error: SecureSocketError) -> None:
        """End the connection for a reason of ours, from whatever thread: in the loop's next turn."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._broken_off, error)

    def _broken_off(self, error: SecureSocketError) -> None:
        if not self._parted and not self._over:
            self._connection.break_off(error)
            self._break(error)

    def _may_break(self) -> bool:
        """A failed connection ends when all that was proven is delivered, or when the application waits to send."""
        return not self._connection.readable() or self.closing or bool(self._backlog) or self._app_paused

    def _break(self, error: Exception) -> None:
        """The connection failed: deliver what was proven, tell the peer, end."""
        connection = self._connection
        try:
            self._deliver(even_if_paused=True)
        finally:
            connection.inbound_release()
        if self._parted or self._over:
            return
        both_ended = connection.ended and self._fin_sealed
        connection.abort(monotonic())
        self._hand_over_rest()
        self._part(None if both_ended else error)

    def _part_when_done(self) -> None:
        """After close(): everything is sealed, and the carrier has taken it."""
        sent = self._fin_sealed and not self._carrier_paused and not self._connection.outbound_waiting
        if self.closing and sent and not self._parted and not self._over:
            self._part(None)

    def _part(self, error: Exception | None) -> None:
        """The loop is done with the carrier, whose end goes on outside, so that the peer can read all of it."""
        self._parted = True
        self._error = error
        self._stop()
        if self._carrier_paused or self.carrier.is_closing():
            self.carrier.abort()
            return
        carrier = duplicate(self.carrier)
        self.carrier.abort()
        linger_s = linger_of(carrier)
        if linger_s:
            gone, self._gone = self._gone, None
            close_now(Closing(self._connection, carrier, linger_s, monotonic(), gone))
        else:
            reset(carrier)

    def _stop(self) -> None:
        """Nothing more is sent or delivered by us."""
        self.closing = True
        self._backlog.clear()
        self._backlog_size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- time and processes ------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        deadline = self._connection.next_deadline()
        if deadline is not None and not self._parted:
            self._timer = self._loop.call_later(max(_LEAST_WAIT_S, deadline - monotonic()), self._time_came)

    def _time_came(self) -> None:
        """The deadline may have moved since the timer was set: it is set anew then, and only then."""
        self._timer = None
        if self._generation != process.generation:
            return
        deadline, now = self._connection.next_deadline(), monotonic()
        if deadline is not None and deadline <= now:
            self._connection.handle_timeout(now)
        self._go_on()

    def _refuse_in_child(self) -> None:
        if self._generation != process.generation:
            refuse_inherited("connection")

    def _leave_to_parent(self) -> None:
        """In a forked child: our copy of the connection is closed, nothing is written.

        The loop is left alone: its selector is shared with the parent, who would not hear of this connection again.
        """
        self._connection.abandon()
        self._parted = True
        self._stop()
        close_copy(self.carrier)


def duplicate(carrier: asyncio.BaseTransport) -> socket.socket:
    """A second descriptor for a transport's connection, which lives on when the transport is gone."""
    original: socket.socket = carrier.get_extra_info("socket")
    copy = socket.socket(original.family, original.type, original.proto, fileno=socket.dup(original.fileno()))
    copy.setblocking(False)
    return copy
