"""One secured TCP connection as a machine without I/O: bytes of the carrier in and out, application data out and in.

The carrier is the application's own TCP connection, in the framing of RFC 9329:
IKE messages and ESP packets in one ordered stream; each ESP packet holds one TCP
segment of the inner connection.  The order is everything: a message, the switch to
a new outbound SA, and the packets under it leave in the order in which they were
decided, and what comes in is handled in the order in which it came.

Who may call what at the same time.  The driver owns two locks.  Inbound methods are
called under its read lock and touch ``_opener``; outbound methods under its write
lock and touch ``_sealer``.  The keying session is guarded by ``_session_lock``, which
is held only while one message or one request is handled.  Whatever the session wants
to have sent goes to ``_control``, a queue that anyone appends to and only the outbound
side takes from, between two packets; so a reader never waits for a writer.

It knows nothing of sockets, threads, clocks, credentials or policy.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from enum import Enum
from math import inf
from typing import Final, Literal, TypeAlias

from ...errors import (
    ConnectionBroken,
    LocalMisuse,
    PeerMisbehaved,
    SecureSocketError,
    StreamTruncated,
)
from ...keying.contract import (
    Establishment,
    FlowFailed,
    FlowReady,
    InstallSa,
    KeyingSession,
    PeerClosed,
    Rekeyed,
    RemoveSa,
    Role,
    SendDatagram,
    Trace,
)
from ...sad.entries import InboundSa, OutboundSa
from ...wire.segment import FIN_ACK, PSH_ACK, RST
from ...wire.tcp_encapsulation import STREAM_PREFIX, write_ike_frame
from .buffers import BUFFERS
from .open import MAX_UNREAD, Opener
from .seal import Sealer

__all__ = ["StreamConnection", "StreamState"]

StreamState: TypeAlias = Literal["negotiating", "established", "failed", "closed"]

MAX_CONTROL: Final = 65536
"""Bytes of IKE messages that may wait for the carrier before we stop reading: a peer that asks and does not listen."""
EMPTY: Final = memoryview(b"")


class _Mark(Enum):
    """Control items that are neither a frame nor an SA."""

    CONFIRM = "an empty segment that proves to the responder that the initiator goes on"


_Control: TypeAlias = bytes | OutboundSa | int | _Mark
"""A frame; an SA to seal with from here on; the SPI of one to forget; a mark."""


class StreamConnection:
    """See the module.  ``role`` is who opened the TCP connection."""

    def __init__(self, session: KeyingSession, role: Role) -> None:
        self._session = session
        self._session_lock = threading.Lock()
        self._initiator = role is Role.INITIATOR
        self._control: deque[_Control] = deque()
        self._control_bytes = 0
        self._abandoned = False
        self._deadline = inf
        self._counters: Counter[str] = Counter()
        self._opener = Opener(BUFFERS, expect_prefix=not self._initiator)  # read side
        self._sealer = Sealer(BUFFERS)  # write side
        self._finished = False  # write side: our FIN or RST was sealed
        self._last_plea: OutboundSa | None = None  # write side: the SA whose hard limit made us ask once more
        self.state: StreamState = "negotiating"
        self.error: SecureSocketError | None = None
        self.establishment: Establishment | None = None
        self.carrier_ended = False
        self.child_rekeys = 0
        self.ike_rekeys = 0
        self.main_mode_sa_id = 0
        self.quick_mode_sa_id = 0

    # for anyone

    @property
    def counters(self) -> Mapping[str, int]:
        """What was dropped or refused, by named reason."""
        return self._counters

    @property
    def outbound_waiting(self) -> bool:
        """Whether anything waits for the carrier."""
        return bool(self._control) or self._sealer.unsent() > 0

    @property
    def ended(self) -> bool:
        """Whether the peer's authenticated end of stream was read."""
        return self._opener.fin

    @property
    def at_end(self) -> bool:
        """Nothing is readable and nothing more will be: ``read_into`` then returns 0 or raises."""
        return not self._opener.unread and (self._opener.fin or self.error is not None or self.state == "closed")

    @property
    def wants_input(self) -> bool:
        """Whether the carrier should be read: not when it has ended or when enough is kept."""
        return (
            not self.carrier_ended
            and self.error is None
            and self._opener.unread < MAX_UNREAD
            and self._control_bytes < MAX_CONTROL
        )

    def readable(self) -> int:
        """Opened bytes that were not read yet."""
        return self._opener.unread

    @property
    def peer_speaks_ike(self) -> bool:
        """Whether a well-formed IKE_SA_INIT of the peer's was read: from then on clear text is out of the question."""
        return self._session.peer_speaks_ike

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due; after establishment ``seal`` looks at it by itself."""
        return None if self._deadline == inf else self._deadline

    def abandon(self) -> None:
        """For the child of a fork: nothing can be sealed or opened any more, every other method raises LocalMisuse.

        A copied counter of an SA would be a repeated nonce.  Takes no lock: another thread may hold it at the fork.
        """
        self._abandoned = True
        self._control = deque()
        self._sealer = Sealer(BUFFERS)
        self._opener = Opener(BUFFERS, expect_prefix=False)

    # negotiation and timers: under the write lock

    def start(self, now: float) -> None:
        """Begin.  The initiator has its first message to send; the responder waits."""
        self._refuse_if_abandoned()
        if self._initiator:
            self._control.append(STREAM_PREFIX)
            with self._session_lock:
                self._session.handle_acquire(now)
                self._take_actions(now)

    def handle_timeout(self, now: float) -> None:
        """The time of ``next_deadline`` has come."""
        self._refuse_if_abandoned()
        with self._session_lock:
            self._session.handle_timeout(now)
            self._take_actions(now)

    def rekey_child(self, now: float) -> None:
        """Have the SA pair replaced now."""
        self._refuse_if_abandoned()
        with self._session_lock:
            self._session.rekey_child(now)
            self._take_actions(now)

    def rekey_ike(self, now: float) -> None:
        """Have the key-exchange SA replaced now."""
        self._refuse_if_abandoned()
        with self._session_lock:
            self._session.rekey_ike(now)
            self._take_actions(now)

    # inbound: under the read lock

    def inbound_buffer(self) -> memoryview:
        """Room for the carrier's next bytes; valid until ``inbound_received`` or ``inbound_release``."""
        self._refuse_if_abandoned()
        return self._opener.room()

    def inbound_received(self, count: int, now: float) -> None:
        """``count`` bytes were put into ``inbound_buffer``; 0 means that the carrier has ended.

        Raises nothing for what the peer did: see ``state`` and ``error``.
        """
        self._refuse_if_abandoned()
        if self.error is not None:
            return
        if count == 0:
            self._carrier_end()
            return
        opener = self._opener
        opener.received(count)
        try:
            while (message := opener.advance_untrusted()) is not None:
                self._handle_message(message, now)
        except SecureSocketError as error:
            self._fail(error)
            return
        self._after_opening(now)

    def inbound_release(self) -> None:
        """Give the buffer back to the pool: before waiting for the carrier, and at the end of a call."""
        self._opener.release()

    def read_into(self, buffer: memoryview, peek: bool = False) -> int:
        """Copy opened bytes; 0 when there are none, which is the authenticated end of the stream if ``ended``.

        When there are none and the connection failed, raises its error: StreamTruncated, ConnectionBroken, or what
        ended the negotiation.
        """
        self._refuse_if_abandoned()
        if not self._opener.unread:
            self._raise_at_error()
            return 0
        return self._opener.read_into(buffer, peek=peek)

    def read(self, limit: int, peek: bool = False) -> bytes:
        """As ``read_into``, at most ``limit`` bytes as a new object."""
        self._refuse_if_abandoned()
        if not self._opener.unread:
            self._raise_at_error()
            return b""
        return self._opener.read(limit, peek=peek)

    # outbound: under the write lock

    def seal(self, data: memoryview, now: float) -> int:
        """Seal from the front of ``data`` (bytes, contiguous); how many bytes were taken.

        0 while negotiating, while ``outbound`` must be flushed first, or at the SA's hard limit until a new one is in
        place.  Raises BrokenPipeError after the end of our stream or of the connection.
        """
        self._refuse_if_over()
        if now >= self._deadline:
            self.handle_timeout(now)
        taken, total = 0, len(data)
        while taken < total:
            sa = self._ready_sa(now)
            if sa is None:
                break
            count = self._sealer.fill(sa, data[taken:], self._control)
            if not count:
                break
            taken += count
        return taken

    def outbound(self) -> memoryview | None:
        """What waits for the carrier, in order; None when nothing does.  Valid until ``outbound_sent``."""
        self._refuse_if_abandoned()
        if not self._sealer.unsent():
            self._drain_control()
        return self._sealer.waiting()

    def outbound_sent(self, count: int) -> None:
        """The carrier took ``count`` bytes of ``outbound``."""
        self._sealer.sent(count)

    def finish(self, now: float) -> bool:
        """Seal the authenticated end of our stream, once; False where ``seal`` would return 0: call again."""
        if self._finished:
            self._refuse_if_abandoned()
            return True
        self._refuse_if_over()
        sa = self._ready_sa(now)
        if sa is None or not self._seal_mark(sa, FIN_ACK):
            return False
        self._finished = True
        return True

    def abort(self, now: float) -> None:
        """Seal the authenticated abort, if there is an SA to do it with, and be closed.  What was unread is dropped."""
        self._refuse_if_abandoned()
        if self.state == "closed":
            return
        self._drain_control()
        sa = self._sealer.sa
        if sa is not None and not sa.exhausted(now):
            self._seal_mark(sa, RST)
        self._finished = True
        self.state = "closed"
        if self.error is None:
            self.error = ConnectionBroken("this end aborted the connection")

    # inside

    def _refuse_if_abandoned(self) -> None:
        if self._abandoned:
            raise LocalMisuse(
                "this connection was made before fork() and lives in the parent: "
                "accept or connect in the process that uses it"
            )

    def _refuse_if_over(self) -> None:
        self._refuse_if_abandoned()
        if self._finished:
            raise BrokenPipeError(32, "the stream was shut down for sending")
        if self.error is not None:
            raise BrokenPipeError(32, f"the connection is over: {self.error}")

    def _raise_at_error(self) -> None:
        if self.error is not None and not self._opener.fin:
            raise self.error

    def _fail(self, error: SecureSocketError) -> None:
        with self._session_lock:
            self._fail_locked(error)

    def _fail_locked(self, error: SecureSocketError) -> None:
        if self.error is None and self.state != "closed":
            self.error = error
            self.state = "failed"
            self._counters[type(error).__name__] += 1

    def _carrier_end(self) -> None:
        self.carrier_ended = True
        if self.state == "negotiating":
            self._fail(PeerMisbehaved("the peer closed the connection before both ends were proven"))
        elif not self._opener.fin:
            self._fail(StreamTruncated("the connection ended without the peer's authenticated end of stream"))
        elif self._finished:
            self.state = "closed"

    def _handle_message(self, message: bytes, now: float) -> None:
        with self._session_lock:
            self._session.handle_datagram(message, now)
            self._take_actions(now)
        if self.error is not None:
            raise self.error

    def _take_actions(self, now: float) -> None:
        """Do what the session asks for, in order.  Under the session lock."""
        while (action := self._session.poll_action()) is not None:
            match action:
                case SendDatagram(data):
                    frame = write_ike_frame(data)
                    self._control_bytes += len(frame)
                    self._control.append(frame)
                case InstallSa(spec, "inbound"):
                    self._opener.sas[spec.spi] = InboundSa(spec, now)
                case InstallSa(spec, "outbound"):
                    self._control.append(OutboundSa(spec, now))
                case RemoveSa(spi, "inbound"):
                    self._opener.sas.pop(spi, None)
                    if self._opener.sa is not None and self._opener.sa.spi == spi:
                        self._opener.sa.retired = True
                        self._opener.sa = None
                case RemoveSa(spi, "outbound"):
                    self._control.append(spi)
                case FlowReady(establishment):
                    self._flow_ready(establishment)
                case FlowFailed(error):
                    self._fail_locked(error)
                case PeerClosed(reason):
                    self._peer_closed(reason)
                case Rekeyed(what, sa_id):
                    self._rekeyed(what, sa_id)
                case Trace(reason):
                    self._counters[reason] += 1
        deadline = self._session.next_deadline()
        self._deadline = inf if deadline is None else deadline

    def _flow_ready(self, establishment: Establishment) -> None:
        self.establishment = establishment
        self.main_mode_sa_id = establishment.main_mode_sa_id
        self.quick_mode_sa_id = establishment.quick_mode_sa_id
        self._opener.authenticated()
        if self._initiator and self.error is None:
            self._control.append(_Mark.CONFIRM)
            self.state = "established"

    def _peer_closed(self, reason: str) -> None:
        if self.state == "negotiating":
            self._fail_locked(PeerMisbehaved(f"the peer ended the connection before both ends were proven: {reason}"))
        elif not self._opener.fin:
            self._fail_locked(StreamTruncated(f"the peer ended the connection without its end of stream: {reason}"))
        else:
            self._fail_locked(ConnectionBroken(f"the peer ended the connection: {reason}"))

    def _rekeyed(self, what: Literal["child", "ike"], sa_id: int) -> None:
        if what == "child":
            self.child_rekeys += 1
            self.quick_mode_sa_id = sa_id or self.quick_mode_sa_id
        else:
            self.ike_rekeys += 1
            self.main_mode_sa_id = sa_id or self.main_mode_sa_id

    def _after_opening(self, now: float) -> None:
        opener = self._opener
        if self.state == "negotiating" and self.establishment is not None and opener.segments:
            self.state = "established"
        sa = opener.sa
        if sa is not None and sa.due(now) and sa.ask_once():
            self.rekey_child(now)

    def _drain_control(self) -> bool:
        """Lay what waits in the queue behind what waits in the buffer; False when the buffer has no room for it."""
        control, sealer = self._control, self._sealer
        while control:
            item = control[0]
            if isinstance(item, bytes):
                if not sealer.append(item):
                    return False
                with self._session_lock:
                    self._control_bytes -= len(item)
            elif isinstance(item, OutboundSa):
                sealer.sa = item
            elif isinstance(item, int):
                if sealer.sa is not None and sealer.sa.spi == item:
                    sealer.sa = None
            elif sealer.sa is not None and not self._seal_mark(sealer.sa, PSH_ACK):
                return False
            control.popleft()
        return True

    def _ready_sa(self, now: float) -> OutboundSa | None:
        """The SA to seal the next packet with; None when none may be sealed now."""
        if self._control and not self._drain_control():
            return None
        sa = self._sealer.sa
        if sa is None or self.state != "established":
            return None
        if not sa.due(now):
            return sa
        if sa.ask_once():
            self.rekey_child(now)
            return self._ready_sa(now)
        if not sa.exhausted(now):
            return sa
        self._wait_for_successor(sa, now)
        return None

    def _wait_for_successor(self, sa: OutboundSa, now: float) -> None:
        """At the hard limit: ask once more if nobody is asking; a second refusal, or a deaf peer, ends our side."""
        with self._session_lock:
            pending = self._session.child_rekey_pending
        if self.carrier_ended or (not pending and self._last_plea is sa):
            self._fail(ConnectionBroken("the SA has reached its limit and the peer has not agreed to a new one"))
            self._refuse_if_over()
        if not pending:
            self._last_plea = sa
            self.rekey_child(now)

    def _seal_mark(self, sa: OutboundSa, flags: int) -> bool:
        """Seal one segment without data; False when there is no room in the buffer."""
        before = sa.sequence
        self._sealer.fill(sa, EMPTY, (), flags)
        return sa.sequence > before
