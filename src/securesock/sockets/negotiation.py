"""One stranger's carrier on its way to accept(), driven by the reactor.

It ends in one of three ways: a secured link, a clear one (only where the settings allow it, and only for a carrier that
gave no sign of IKE), or a counted refusal.  Limits of time and number apply until then: two seconds to the first
complete message, ten in all, and the table of half-open connections, which may evict it at any moment before the first
message came.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic, time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ..drivers.blocking import StreamLink
from ..drivers.clear import STREAM_PREFIX, ClearLink
from ..drivers.closing import Closing
from ..drivers.linger import reset
from ..drivers.negotiating import advance
from ..drivers.reactor import Timer, reactor
from ..drivers.waiting import READ
from ..engine.connect import accepting
from ..engine.half_open import FIRST_MESSAGE_S, NEGOTIATION_S, HalfOpen
from ..engine.report import Asked, clear_info, secured_info
from ..errors import SecureSocketError
from .planes import stream_plane

if TYPE_CHECKING:
    from ..engine.ports import SecuredStream
    from ..engine.socket_policy import SocketPolicy
    from ..keying.admission import Admission
    from ..types import Address, SecurityInfo
    from .opening import Link

__all__ = ["LAST_WORDS_S", "Accepted", "Door", "Negotiation", "Terms", "reason_of"]

LAST_WORDS_S: Final = 2.0  # how long a refused peer may take to read why


class Terms(NamedTuple):
    """On which terms connections are accepted."""

    asked: Asked
    admission: Admission
    public_addresses: tuple[Address, ...]


class Accepted(NamedTuple):
    """A connection for accept(): proven and confirmed, or in clear where the settings allow it."""

    carrier: socket.socket
    address: Address
    link: Link
    info: SecurityInfo
    asked: Asked


class Door(Protocol):
    """Where a negotiation comes from and its outcome goes."""

    @property
    def terms(self) -> Terms:
        """On which terms."""
        ...

    def deliver(self, negotiation: Negotiation, accepted: Accepted) -> None:
        """A good end."""
        ...

    def refuse(self, negotiation: Negotiation, reason: str, why: str) -> None:
        """Any other: ``reason`` is counted, ``why`` is logged."""
        ...


class Negotiation:
    """See the module.  Everything runs in the reactor, but ``evict``."""

    __slots__ = (
        "_asked",
        "_connection",
        "_ends_at",
        "_entry",
        "_head",
        "_listener",
        "_over",
        "_timer",
        "address",
        "carrier",
    )

    def __init__(self, listener: Door, carrier: socket.socket, address: Address) -> None:
        self._listener = listener
        self.carrier = carrier
        self.address = address
        self._asked = listener.terms.asked
        self._connection: SecuredStream | None = None
        self._entry: HalfOpen | None = None
        self._head = b""
        self._ends_at = 0.0
        self._timer: Timer | None = None
        self._over = False

    def start(self, entry: HalfOpen, now: float) -> None:
        """Wait for the first bytes; nothing is made for a carrier that says nothing."""
        self._entry = entry
        self._ends_at = now + NEGOTIATION_S
        if self._asked.policy is not None and not self._judge(self._asked.policy):
            return
        self._timer = reactor().at(now + FIRST_MESSAGE_S, self._first_message_due)
        reactor().watch(self.carrier, READ, self._ready)

    def evict(self) -> None:
        """Make room for a newcomer; from any thread."""
        reactor().call(lambda: self._refuse("evicted", "a newcomer needed the place of one that had said nothing yet"))

    def cancel(self) -> None:
        """The listener is being closed."""
        if not self._over:
            self._end()
            reset(self.carrier)

    # -- in the reactor ------------------------------------------------------------------------------------------------

    def _judge(self, policy: SocketPolicy) -> bool:
        """Hold the flow against policy before a byte of it is read; whether it may go on."""
        try:
            applied = policy.accepting(self.carrier.getsockname(), self.address)
        except OSError as error:  # a refusal, or the carrier has gone
            self._refuse(reason_of(error), str(error))
            return False
        self._asked = replace(self._asked, applied=applied)
        return True

    def _ready(self, mask: int, now: float) -> None:
        if self._connection is None and not self._recognise(now):
            return
        self._advance(now)

    def _recognise(self, now: float) -> bool:
        """Make the machine when the first bytes are there; False when it is not IKE, or not known yet."""
        if self._asked.may_be_clear:
            try:
                more = self.carrier.recv(len(STREAM_PREFIX) - len(self._head))
            except BlockingIOError:
                return False
            except OSError as error:
                self._refuse("carrier", str(error))
                return False
            self._head += more
            if not more:
                self._in_clear("the peer ended its stream before it began IKE")
                return False
            if not STREAM_PREFIX.startswith(self._head):
                self._in_clear("the peer's first bytes are not IKE")
                return False
            if self._head != STREAM_PREFIX:
                return False
        self._make_connection(now)
        return True

    def _make_connection(self, now: float) -> None:
        terms, asked = self._listener.terms, self._asked
        ours = self.carrier.getsockname()
        admission = terms.admission
        if asked.policy is not None:
            admission = asked.policy.admission(ours, self.address, admission)
        config = accepting(
            asked.context,
            asked.settings,
            ours,
            self.address,
            time() - now,
            admission,
            terms.public_addresses,
            applied=asked.applied,
        )
        connection = self._connection = stream_plane(asked.context.plane).make_stream(config)
        connection.start(now)
        if self._head:
            connection.inbound_buffer()[: len(self._head)] = self._head
            connection.inbound_received(len(self._head), now)
            connection.inbound_release()

    def _advance(self, now: float) -> None:
        connection = self._connection
        if connection is None or self._over:
            return
        try:
            wanted = advance(connection, self.carrier, now)
        except OSError as error:
            self._refuse("carrier", str(error))
            return
        if connection.peer_speaks_ike and self._entry is not None and self._entry.silent:
            self._entry.speaks_ike()
            self._set_timer(self._ends_at)
        if wanted:
            reactor().watch(self.carrier, wanted, self._ready)
        elif connection.state == "established":
            self._established(connection)
        else:
            self._failed(connection)

    def _first_message_due(self, now: float) -> None:
        if self._connection is not None:
            self._refuse("no-first-message", f"no complete message within {FIRST_MESSAGE_S:g} s")
        elif self._asked.may_be_clear:
            self._in_clear(f"the peer did not begin IKE within {FIRST_MESSAGE_S:g} s")
        else:
            self._refuse("silent", f"no byte within {FIRST_MESSAGE_S:g} s")

    def _too_late(self, now: float) -> None:
        self._refuse("timeout", f"the key exchange took longer than {NEGOTIATION_S:g} s")

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = reactor().at(when, self._too_late)

    # -- the ends ------------------------------------------------------------------------------------------------------

    def _established(self, connection: SecuredStream) -> None:
        establishment = connection.establishment
        if establishment is None:
            self._refuse("nobody", "the connection was established with nobody")
            return
        self._end()
        plane = stream_plane(self._asked.context.plane).name
        info = secured_info(self._asked, establishment, plane, datetime.now(UTC))
        link = StreamLink(connection)
        self._listener.deliver(self, Accepted(self.carrier, self.address, link, info, self._asked))

    def _in_clear(self, why: str) -> None:
        policy = self._asked.policy
        if policy is not None:
            forbidden = policy.why_not_clear(self.carrier.getsockname(), self.address)
            if forbidden is not None:
                self._refuse(reason_of(forbidden), str(forbidden))
                return
        self._end()
        link = ClearLink(self._head, guarded=True)
        info = clear_info(self._asked, why)
        self._listener.deliver(self, Accepted(self.carrier, self.address, link, info, self._asked))

    def _failed(self, connection: SecuredStream) -> None:
        error: BaseException = connection.error or SecureSocketError("the negotiation ended without a reason")
        entry, self._entry = self._entry, None
        asked = self._asked
        # of a stranger who never spoke IKE nothing is kept: he could push out what matters
        if asked.policy is not None and connection.peer_speaks_ike:
            asked.policy.failed(self.carrier.getsockname(), self.address, error, "inbound", applied=asked.applied)
        self._end()
        self._listener.refuse(self, reason_of(error), str(error))
        if entry is None or not connection.peer_speaks_ike:
            # A stranger who never spoke IKE is told nothing, and holds nothing of ours any longer.
            if entry is not None:
                entry.leave()
            reset(self.carrier)
            return
        # It keeps its place in the table until it has read why: refusals cannot pile up beside the limit.
        Closing(connection, self.carrier, LAST_WORDS_S, monotonic(), done=entry.leave).hand_over()

    def _refuse(self, reason: str, why: str) -> None:
        if not self._over:
            self._end()
            reset(self.carrier)
            self._listener.refuse(self, reason, why)

    def _end(self) -> None:
        """The reactor lets go of the carrier, the table of the place."""
        self._over = True
        reactor().forget(self.carrier)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._entry is not None:
            self._entry.leave()
            self._entry = None


def reason_of(error: BaseException) -> str:
    """The stable word that a refusal is counted under."""
    reason = getattr(error, "reason", "")
    if isinstance(error, SecureSocketError) and reason:
        return str(reason)
    return type(error).__name__
