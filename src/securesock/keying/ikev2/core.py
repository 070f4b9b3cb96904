"""What the exchanges of one session share: actions, SAs, sending, and how a session ends.

An exchange that we began is an Exchange object waiting for its reply; what the peer may ask next is a RequestState.
Both are named for what they await and live in modules of their own; this one knows none of them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Container, Iterable
from typing import Final, NamedTuple, Protocol, TypeVar, runtime_checkable

from ...crypto.kdf import IkeKeys
from ...crypto.suites import IkeSuite
from ...entropy import Entropy
from ...errors import (
    AuthenticationFailed,
    KeyingTimeout,
    PeerIncompatible,
    PeerMisbehaved,
    PolicyRefused,
    SecureSocketError,
)
from ...identity.names import IkeId
from ...policy.negotiation import available_offers
from ...wire.ikev2.message import write_message
from ...wire.ikev2.payloads import Notify, Payload, UnknownPayload
from ...wire.numbers import ExchangeType, HeaderFlag, NotifyType, name_of
from ..contract import Action, AddressPair, FlowFailed, KeyingConfig, PeerClosed, RemoveSa, Role, SendDatagram, Trace
from .child_sa import ChildSa
from .held_ticket import HeldTicket
from .ike_sa import IkeSa
from .keylog import esp_line, ike_line
from .mobility import Mobility

__all__ = [
    "BEGINNINGS",
    "Core",
    "Exchange",
    "ExpectNothing",
    "Opened",
    "Refusal",
    "RequestState",
    "STREAM_FORMAT",
    "find",
    "notifies",
    "refusal_error",
]

STREAM_FORMAT: Final = Notify(0xA5C1, b"\x01")
"""Private status notify: both ends speak securesock's inner segment format, version 1.  A change of format changes
this constant."""

NONCE_LENGTH: Final = 32
"""RFC 7296 2.10: at least 16, and half the PRF's key size (SHA2-512: 32)."""

NONCE_LENGTHS: Final = range(16, 257)
"""RFC 7296 2.10 and 3.9: 16 to 256 bytes."""

BEGINNINGS: Final = frozenset({ExchangeType.IKE_SA_INIT, ExchangeType.IKE_SESSION_RESUME})
"""The exchanges in clear that an IKE_SA begins with (RFC 5723 4.3.2: otherwise alike)."""

FIRST_ERROR_LIMIT: Final = 16384
"""Notify types below are errors, from here on status (RFC 7296 3.10.1)."""

LINGER_S: Final = 150.0
"""Longer than a peer retransmits (message_window: 129 s)."""

ABANDON_S: Final = 10.0
"""How long the answer to a request is waited for whose IKE_SA the peer deleted meanwhile: five times sent again."""

MAX_SAS: Final = 16
"""IKE_SAs, and CHILD_SAs, of one session.  One, its replacement and what a collision leaves are four; on datagrams some
more linger.  A peer that replaces and never deletes what it replaced is told to wait."""

_P = TypeVar("_P")


class Opened(NamedTuple):
    """A message whose protection was verified (or IKE_SA_INIT, which has none).  ``path``: as handle_datagram's."""

    exchange_type: int
    message_id: int
    first_payload: int
    inner: bytes
    payloads: tuple[Payload, ...]
    datagram: bytes
    path: AddressPair | None = None


class Exchange(Protocol):
    """A request of ours on its way: waits for the reply."""

    def handle_reply(self, opened: Opened, now: float) -> None:
        """The authentic reply to our request."""
        ...


@runtime_checkable
class Repeatable(Protocol):
    """An Exchange that is begun again under the next IKE_SA when the one that it was asked on is gone."""

    def abandon(self, now: float) -> None:
        """No reply will come; whether the peer heard the request is not known."""
        ...


class RequestState(Protocol):
    """What the peer may ask of an IKE_SA now."""

    def handle_request(self, opened: Opened, now: float) -> None:
        """The authentic next request; the state answers through Core.reply."""
        ...


class Refusal(Exception):
    """This request is answered with an error notify.  ``error`` ends the session after that, None lets it live."""

    def __init__(self, notify_type: NotifyType, data: bytes = b"", *, error: SecureSocketError | None = None) -> None:
        super().__init__(notify_type.name)
        self.notify = Notify(notify_type, data)
        self.error = error


def find(payloads: Iterable[Payload], kind: type[_P], payload_type: int | None = None) -> _P | None:
    """The first payload of a class (and type, where a class has several), or None."""
    for each in payloads:
        if isinstance(each, kind) and (payload_type is None or each.payload_type == payload_type):
            return each
    return None


def notifies(payloads: Iterable[Payload]) -> dict[int, Notify]:
    """Notifies by type, the first of each; unknown ones are simply never asked for (RFC 7296 3.10.1)."""
    found: dict[int, Notify] = {}
    for each in payloads:
        if isinstance(each, Notify):
            found.setdefault(each.notify_type, each)
    return found


def error_notify(payloads: Iterable[Payload]) -> Notify | None:
    """The first error notify, known or not: a reply that holds one failed (RFC 7296 3.10.1)."""
    return next((each for each in payloads if isinstance(each, Notify) and each.notify_type < FIRST_ERROR_LIMIT), None)


def refuse_unknown_critical(payloads: Iterable[Payload], *, established: bool = False) -> None:
    """RFC 7296 2.5: an unknown payload with the critical bit refuses the message; without it it is skipped.

    Before both ends are proven that is the end (2.21.2); between ``established`` ones it refuses this request alone.
    """
    for each in payloads:
        if isinstance(each, UnknownPayload) and each.critical:
            error = PeerIncompatible(
                f"the peer insists on payload type {each.payload_type}, which this end does not know"
            )
            notified = bytes((each.payload_type,))
            raise Refusal(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, notified, error=None if established else error)


def refusal_error(notify: Notify, what: str) -> SecureSocketError:
    """The error by blame for a refusal that the peer sent us."""
    name = name_of(NotifyType, notify.notify_type)
    match notify.notify_type:
        case NotifyType.AUTHENTICATION_FAILED:
            return AuthenticationFailed(
                f"the peer refused {what}: it does not accept our identity, or does not have the one expected "
                f"({name}); its own log says which"
            )
        case NotifyType.AUTHORIZATION_FAILED:
            return PolicyRefused(f"the peer knows who we are and its policy refuses {what} ({name})")
        case NotifyType.INVALID_SYNTAX | NotifyType.INVALID_MESSAGE_ID | NotifyType.INVALID_IKE_SPI:
            return PeerMisbehaved(f"the peer did not understand {what} ({name})")
    return PeerIncompatible(f"the peer refused {what} ({name}): the two ends' policies have nothing in common there")


class ExpectNothing:
    """The peer may not ask anything of this IKE_SA yet."""

    def handle_request(self, opened: Opened, now: float) -> None:
        """Refused: the order of exchanges is fixed (RFC 7296 1.2)."""
        raise Refusal(NotifyType.INVALID_SYNTAX, error=PeerMisbehaved("the peer sent a request out of order"))


class Core:
    """State and services of one session.  Actions come out in the order in which they were emitted.

    ``offers`` is what of the main mode policy can be kept here; LocalMisuse when nothing of it can.
    """

    def __init__(self, config: KeyingConfig, entropy: Entropy, spis_in_use: Container[int] = ()) -> None:
        self.config = config
        self._spis_in_use = spis_in_use
        self.offers = available_offers(config.main_mode.offers)
        self.entropy = entropy
        self.actions: deque[Action] = deque()
        self.ikes: dict[bytes, IkeSa] = {}
        self.ike: IkeSa | None = None
        self.children: list[ChildSa] = []
        self.creating: list[ChildSa] = []
        self.put_off: tuple[ChildSa, ...] = ()
        self.deleted_early: set[int] = set()
        self.ikes_to_delete: list[IkeSa] = []
        self.tasks: deque[Callable[[float], None]] = deque()
        self._wipes: list[Callable[[], None]] = []
        self.established = False
        self.over = False
        self.ticket: HeldTicket | None = None
        self.offered_ticket: Notify | None = None
        self.ticket_of: IkeId | None = None
        self.resumed: int | None = None
        self.proven_at = math.inf
        self.peers_limit_s: float | None = None
        self.initial_contact = False
        self.mobility = Mobility(AddressPair(config.our_address, config.peer_address))

    @property
    def we_are_initiator(self) -> bool:
        """Of the first IKE_SA, whose view the inner flow keeps for life."""
        return self.config.role is Role.INITIATOR

    @property
    def on_stream(self) -> bool:
        """An ordered, reliable carrier: no retransmission, no reordering, garbage is fatal."""
        return self.config.carrier == "stream"

    def emit(self, *actions: Action) -> None:
        """Queue actions for the caller."""
        self.actions.extend(actions)

    def trace(self, reason: str, detail: str = "") -> None:
        """Count a drop or refusal."""
        self.emit(Trace(reason, detail))

    @property
    def source_of_nobody(self) -> bytes | None:
        """What a standard host is told in the place of our address's hash: it has to see a translator between us, so
        that it encapsulates in UDP (RFC 7296 2.23); None among our own kind, who always do."""
        return None if self.config.standard is None else self.entropy.token(20)

    # identifiers

    def fresh_ike_spi(self) -> bytes:
        """8 random bytes, never zero (RFC 7296 3.1) and never one in use."""
        while (spi := self.entropy.token(8)) == bytes(8) or spi in self.ikes:
            pass
        return spi

    def fresh_child_spi(self) -> int:
        """32 random bits; 0 to 255 are reserved (RFC 4303 2.1).  Nobody else on the carrier opens packets with it."""
        taken = {each.inbound_spi for each in self.children}
        while True:
            spi = int.from_bytes(self.entropy.token(4), "big")
            if spi >= 256 and spi not in taken and spi not in self._spis_in_use:
                return spi

    # sending

    def request(
        self, sa: IkeSa, exchange_type: ExchangeType, payloads: tuple[Payload, ...], awaiting: Exchange, now: float
    ) -> tuple[bytes, ...]:
        """Send a protected request; its reply goes to ``awaiting``."""
        datagrams = sa.seal(exchange_type, sa.window.next_request_id, payloads, response=False)
        self._send_request(sa, exchange_type, datagrams, awaiting, now)
        return datagrams

    def request_in_clear(
        self,
        sa: IkeSa,
        payloads: tuple[Payload, ...],
        awaiting: Exchange,
        now: float,
        *,
        exchange: ExchangeType = ExchangeType.IKE_SA_INIT,
    ) -> bytes:
        """Send IKE_SA_INIT, or what stands in its place."""
        message = write_message(sa.initiator_spi, sa.responder_spi, exchange, HeaderFlag.INITIATOR, 0, payloads)
        self._send_request(sa, exchange, (message,), awaiting, now)
        return message

    def _send_request(
        self, sa: IkeSa, exchange_type: ExchangeType, datagrams: tuple[bytes, ...], awaiting: Exchange, now: float
    ) -> None:
        sa.awaiting = awaiting
        sa.awaiting_exchange = exchange_type
        sa.window.request_sent(datagrams, now)
        self.send(datagrams)

    def send(self, datagrams: tuple[bytes, ...]) -> None:
        """A request of ours on its way, once more or for the first time."""
        to = self.mobility.path.peer if self.mobility.chosen else None
        self.emit(*(SendDatagram(each, to) for each in datagrams))

    def reply(self, sa: IkeSa, opened: Opened, payloads: tuple[Payload, ...]) -> tuple[bytes, ...]:
        """Answer the request that is being handled, and keep the answer for repeats."""
        datagrams = sa.seal(opened.exchange_type, opened.message_id, payloads, response=True)
        sa.window.request_answered(datagrams, in_auth=opened.exchange_type == ExchangeType.IKE_AUTH)
        self.emit(*map(SendDatagram, datagrams))
        return datagrams

    def reply_in_clear(
        self,
        sa: IkeSa,
        payloads: tuple[Payload, ...],
        *,
        final: bool,
        exchange: ExchangeType = ExchangeType.IKE_SA_INIT,
    ) -> bytes:
        """Answer IKE_SA_INIT, or what stands in its place; ``final`` unless the initiator is to ask again."""
        message = write_message(sa.initiator_spi, sa.responder_spi, exchange, HeaderFlag.RESPONSE, 0, payloads)
        if final:
            sa.window.request_answered((message,))
        self.emit(SendDatagram(message))
        return message

    # keys

    def use_keys(self, sa: IkeSa, suite: IkeSuite, keys: IkeKeys) -> None:
        """Protect what follows on ``sa`` with these."""
        sa.use_keys(suite, keys)
        if self.config.log_keys:
            self.emit(ike_line(sa))

    def add_child(self, child: ChildSa) -> None:
        """A CHILD_SA came to be."""
        self.children.append(child)
        if self.config.log_keys:
            self.emit(esp_line(child.inbound), esp_line(child.outbound))

    # endings

    def at_end(self, wipe: Callable[[], None]) -> None:
        """``wipe`` a secret of the negotiation when it is over, whichever way."""
        self._wipes.append(wipe)

    def forget_negotiation(self) -> None:
        """What only the negotiation needed is overwritten (semantics "Errors and secrets")."""
        while self._wipes:
            self._wipes.pop()()
        if self.config.user is not None:
            self.config.user.password.wipe()

    def fail(self, error: SecureSocketError) -> None:
        """The session is over; what was queued before still goes out."""
        if not self.over:
            self.over = True
            self.established = False
            self.tasks.clear()
            self.forget_negotiation()
            if not isinstance(error, KeyingTimeout):
                self.void_ticket()  # what may be resumed was lost, and not ended for a reason
            self.emit(FlowFailed(error))

    def close(self, reason: str) -> None:
        """The peer or we deleted the IKE_SA: everything under it goes."""
        if not self.over:
            self.over = True
            self.established = False
            self.tasks.clear()
            self.forget_negotiation()
            self.void_ticket()
            for child in self.children:
                self.emit(RemoveSa(child.inbound_spi, "inbound"), RemoveSa(child.outbound_spi, "outbound"))
            self.children.clear()
            self.creating.clear()
            self.put_off = ()
            self.emit(PeerClosed(reason))

    def refuse_ticket(self, sa: IkeSa, reason: str) -> None:
        """RFC 5723 4.3.2: a TICKET_NACK in clear, and the initiator begins as usual."""
        self.trace(reason)
        self.reply_in_clear(
            sa, (Notify(NotifyType.TICKET_NACK),), final=False, exchange=ExchangeType.IKE_SESSION_RESUME
        )

    def void_ticket(self) -> None:
        """RFC 5723 6.2: with its IKE_SA a ticket ends."""
        held, book = self.ticket, self.config.tickets
        if held is not None and book is not None:
            if held.peer is not None:
                book.drop(held.peer, held.token)
            else:
                book.spend(held.token, held.expires_at)
            self.ticket = None

    def forget_ike(self, sa: IkeSa, now: float) -> None:
        """An IKE_SA was deleted after a rekey; the session goes on under another.

        On datagrams it lingers to repeat its last reply, which may have been lost (RFC 7296 2.1).
        """
        sa.closing = True
        if not self.on_stream and sa.window.awaiting_reply and isinstance(sa.awaiting, Repeatable):
            # a peer that lingers as we do still has the answer, or says that it has none; others are silent
            sa.abandon_at = min(sa.abandon_at, now + ABANDON_S)
        else:
            sa.awaiting = None
            sa.window.give_up()
        sa.forget_at = now + (0.0 if self.on_stream else LINGER_S)
        if self.on_stream:
            self.ikes.pop(sa.our_spi, None)

    def purge(self, now: float) -> None:
        """Drop the IKE_SAs that have lingered long enough, and what is asked in vain on those that linger."""
        for sa in [sa for sa in self.ikes.values() if sa.abandon_at <= now]:
            sa.abandon_at = math.inf
            awaiting, sa.awaiting = sa.awaiting, None
            if sa.window.awaiting_reply and isinstance(awaiting, Repeatable):
                sa.window.give_up()
                awaiting.abandon(now)
        for spi in [spi for spi, sa in self.ikes.items() if sa.forget_at <= now]:
            del self.ikes[spi]
