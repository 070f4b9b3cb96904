"""The keying session of one connection behind its lock, and what it asked for, in order.

Whoever handles a message or a request holds the lock for just that long, and carries
out every action of it before letting go, so that the actions of two threads never mix.
What is to be sent goes to ``control``, a queue that anyone appends to and only the
outbound side takes from: IKE frames, the switch to an outbound SA, the end of one.
What is to be opened goes to the Opener's table, which only the inbound side reads.

It knows nothing of sockets, and of application data only when an SA must be replaced.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from copy import copy
from enum import Enum
from math import inf
from typing import Final, Literal, TypeAlias

from ...crypto.suites import Encryption, Integrity
from ...errors import ConnectionBroken, PeerMisbehaved, SecureSocketError, StreamTruncated
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
from ...sad.entries import OPENING_SHARE, SEALING_SHARE, InboundSa, Limits, OutboundSa
from ...sad.spec import InnerFlow, SaSpec
from ...types import Lifetimes
from ...wire.tcp_encapsulation import STREAM_PREFIX, write_ike_frame
from .open import Opener
from .seal import Sealer

__all__ = ["ControlItem", "KeyingLink", "Mark", "StreamState"]

StreamState: TypeAlias = Literal["negotiating", "established", "failed", "closed"]

MAX_CONTROL: Final = 65536
"""Bytes of IKE frames that may wait for the carrier before we stop reading: one full message, as a peer that asks
and does not listen would pile them up."""


class Mark(Enum):
    """A control item that is neither a frame nor an SA."""

    CONFIRM = "an empty segment: the initiator's checks have passed and it goes on"


ControlItem: TypeAlias = bytes | OutboundSa | int | Mark
"""A frame; an SA to seal with from here on; the SPI of one that is gone; a mark."""


class KeyingLink:
    """See the module.  ``state``, ``error`` and the rest may be read by anyone at any time.

    ``deadline`` is when the session wants ``handle_timeout``, infinity for never; ``look_at`` is the same until the
    connection is over, and minus infinity from then on.  ``sealed`` and ``opened`` limit
    what is carried under one key-exchange SA; None before there is one.
    """

    def __init__(self, session: KeyingSession, role: Role, opener: Opener, sealer: Sealer) -> None:
        self.role: Final = role
        self.control: deque[ControlItem] = deque()
        self.control_bytes = 0
        self.deadline = inf
        self.look_at = inf
        self.counters: Counter[str] = Counter()
        self.state: StreamState = "negotiating"
        self.error: SecureSocketError | None = None
        self.establishment: Establishment | None = None
        self.child_rekeys = 0
        self.ike_rekeys = 0
        self.main_mode_sa_id = 0
        self.quick_mode_sa_id = 0
        self.sealed: Limits | None = None
        self.opened: Limits | None = None
        self._session = session
        self._opener = opener
        self._sealer = sealer
        self._lock = threading.Lock()
        self._latched: tuple[Encryption, Integrity | None, bool, InnerFlow] | None = None

    # what drives the session

    @property
    def peer_speaks_ike(self) -> bool:
        """Whether a well-formed IKE message of the peer's was read."""
        return self._session.peer_speaks_ike

    def start(self, now: float) -> None:
        """The initiator begins; the responder waits."""
        if self.role is Role.INITIATOR:
            self.control.append(STREAM_PREFIX)
            self._run(self._session.handle_acquire, now)

    def handle_timeout(self, now: float) -> None:
        """The time of ``deadline`` has come."""
        self._run(self._session.handle_timeout, now)

    def rekey_child(self, now: float) -> None:
        """Ask for a new SA pair; nothing happens while that is under way."""
        self._run(self._session.rekey_child, now)

    def rekey_ike(self, now: float) -> None:
        """Ask for a new key-exchange SA; nothing happens while that is under way."""
        self._run(self._session.rekey_ike, now)

    def delete(self, now: float) -> None:
        """Tell the peer that all is over, and be closed."""
        self.close()
        self._run(self._session.delete, now)

    def child_rekey_pending(self) -> bool:
        """Whether a new SA pair may still come."""
        with self._lock:
            return self._session.child_rekey_pending

    def ike_rekey_pending(self) -> bool:
        """Whether a new key-exchange SA may still come."""
        with self._lock:
            return self._session.ike_rekey_pending

    def handle_message_untrusted(self, message: bytes, now: float) -> None:
        """One IKE message.  Raises the connection's error if it is over after that."""
        with self._lock:
            self._session.handle_datagram(message, now)
            self._take_actions(now)
        if self.error is not None:
            raise copy(self.error)

    def _run(self, request: Callable[[float], None], now: float) -> None:
        with self._lock:
            request(now)
            self._take_actions(now)

    # states

    def establish(self) -> None:
        """Both ends are proven and know it."""
        with self._lock:
            if self.state == "negotiating":
                self.state = "established"

    def fail(self, error: SecureSocketError) -> None:
        """The connection is over because of ``error``, unless it was over before."""
        with self._lock:
            self._fail(error)

    def close(self) -> None:
        """The connection is over as it should be."""
        with self._lock:
            if self.error is None:
                self.state = "closed"
                self.look_at = -inf

    def frame_left(self, length: int) -> None:
        """A control frame is on its way to the carrier."""
        with self._lock:
            self.control_bytes -= length

    def _fail(self, error: SecureSocketError) -> None:
        if self.error is None and self.state != "closed":
            # without the frames it came through: they hold the connection, which holds the error
            self.error = error.with_traceback(None)
            self.state = "failed"
            self.counters[type(error).__name__] += 1

    # actions, under the lock

    def _take_actions(self, now: float) -> None:
        while (action := self._session.poll_action()) is not None:
            match action:
                case SendDatagram(data):
                    self._send(write_ike_frame(data))
                case InstallSa(spec, direction):
                    self._install(spec, direction, now)
                case RemoveSa(spi, "inbound"):
                    self._opener.remove(spi)
                case RemoveSa(spi, "outbound"):
                    self.control.append(spi)
                case FlowReady(establishment):
                    self._ready(establishment, now)
                case FlowFailed(error):
                    self._fail(error)
                case PeerClosed(reason):
                    self._peer_closed(reason)
                case Rekeyed(what, sa_id):
                    self._rekeyed(what, sa_id, now)
                case Trace(reason):
                    self.counters[reason] += 1
        deadline = self._session.next_deadline()
        self.deadline = inf if deadline is None else deadline
        self.look_at = -inf if self.state in ("failed", "closed") else self.deadline

    def _send(self, frame: bytes) -> None:
        self.control_bytes += len(frame)
        self.control.append(frame)

    def _install(self, spec: SaSpec, direction: Literal["inbound", "outbound"], now: float) -> None:
        latched = (spec.suite.encryption, spec.suite.integrity, spec.suite.esn, spec.flow)
        if self._latched is None:
            self._latched = latched
        if latched != self._latched:
            # the session offers and accepts nothing else (RFC 5660); this is the last place that could stop it
            self._fail(ConnectionBroken("a rekey brought other protection, or another flow, than was established"))
        elif direction == "inbound":
            self._opener.install(InboundSa(spec, now))
        else:
            self.control.append(OutboundSa(spec, now))

    def _ready(self, establishment: Establishment, now: float) -> None:
        self.establishment = establishment
        self.main_mode_sa_id = establishment.main_mode_sa_id
        self.quick_mode_sa_id = establishment.quick_mode_sa_id
        self._limit(establishment.main_mode_lifetimes, now)
        self._opener.authenticated()
        if self.role is Role.INITIATOR and self.error is None:
            self.control.append(Mark.CONFIRM)
            self.state = "established"

    def _limit(self, lifetimes: Lifetimes, now: float) -> None:
        sealer, opener = self._sealer, self._opener
        self.sealed = Limits(lifetimes, now, SEALING_SHARE, sealer.segments, sealer.offset)
        # as with an inbound SA: the end that seals asks first, and time is its matter alone
        timeless = lifetimes._replace(seconds=inf)
        self.opened = Limits(timeless, now, OPENING_SHARE, opener.segments, opener.offset)

    def _peer_closed(self, reason: str) -> None:
        if self.state == "negotiating":
            self._fail(PeerMisbehaved(f"the connection ended before both ends were proven: {reason}"))
        elif self._opener.fin:
            self._fail(ConnectionBroken(f"the connection ended: {reason}"))
        else:
            self._fail(StreamTruncated(f"the connection ended without the peer's end of stream: {reason}"))

    def _rekeyed(self, what: Literal["child", "ike"], sa_id: int, now: float) -> None:
        if what == "child":
            self.child_rekeys += 1
            self.quick_mode_sa_id = sa_id
        else:
            self.ike_rekeys += 1
            self.main_mode_sa_id = sa_id
            if self.establishment is not None:
                self._limit(self.establishment.main_mode_lifetimes, now)
