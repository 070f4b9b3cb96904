"""IkeSession: one IKEv2 negotiation with one peer, and what lives on of it.  The machine that keying/contract promises.

Messages, wishes and the time go in; actions come out.  This room routes: which IKE_SA a message belongs to, whether
it is a reply
that was awaited or a request in its turn, whether its protection holds.  What it says is the exchanges' business.
On a stream nothing is lost or reordered, so whatever does not fit there ends the connection; on datagrams it is
dropped and counted.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Container
from functools import partial
from typing import Final

from cryptography.exceptions import InvalidTag

from ...entropy import Entropy
from ...errors import (
    ConnectionBroken,
    KeyingTimeout,
    LocalMisuse,
    PeerIncompatible,
    PeerMisbehaved,
    SecureSocketError,
    WireError,
)
from ...sad.spec import InnerFlow
from ...types import Address
from ...wire.ikev2.message import Encrypted, Message, parse_message_untrusted, parse_payloads, write_message
from ...wire.ikev2.payloads import Delete, Notify
from ...wire.isakmp import IkeHeader, read_header_untrusted
from ...wire.numbers import ExchangeType, HeaderFlag, NotifyType, ProtocolId
from ..contract import Action, AddressPair, KeyingConfig, Role, SendDatagram, StandardHost
from .core import BEGINNINGS, Core, Exchange, ExpectNothing, Opened, Refusal
from .create_child import begin_child_rekey, begin_new_child, begin_put_off, begin_reach
from .fragments import MAX_BEFORE_AUTHENTICATION, MAX_MESSAGE, Whole
from .goodbye import begin_delete
from .ike_sa import IkeSa
from .informational import begin_liveness
from .init import ExpectInitReply, ExpectInitRequest
from .mobike import answer_mobility, change_path, try_another_address
from .rekey_ike import begin_ike_rekey, delete_replaced_ikes
from .requests import ExpectRequests

__all__ = ["IkeSession"]

_MAJOR_VERSION: Final = 2

TRIES_AN_ADDRESS: Final = 4
"""Requests unanswered, before another address of the peer is tried where it told us of one (RFC 4555 3.5): some 4 s."""


class IkeSession:
    """See keying.contract.KeyingSession.  Not thread-safe: the caller holds a lock.

    ``spis_in_use``: inbound ESP SPIs of other sessions on the same carrier, looked at whenever one is chosen.
    LocalMisuse, when it is made, for a policy of which this machine's cryptography can do nothing.
    """

    def __init__(self, config: KeyingConfig, entropy: Entropy, spis_in_use: Container[int] = ()) -> None:
        self._core = Core(config, entropy, spis_in_use)
        self._init = ExpectInitRequest(self._core) if config.role is Role.RESPONDER else None
        self._peer_speaks_ike = False
        self._init_refusal: SecureSocketError | None = None
        self._last_heard = -math.inf
        self._path: AddressPair | None = None

    # what comes out

    @property
    def established(self) -> bool:
        """Whether FlowReady was emitted and nothing ended it since."""
        return self._core.established

    @property
    def peer_speaks_ike(self) -> bool:
        """Whether the peer ever sent a well-formed IKE message to us: then it speaks IKE, and clear text is no
        answer to it."""
        return self._peer_speaks_ike

    @property
    def child_rekey_pending(self) -> bool:
        """Whether a replacement of the CHILD_SA is wanted or under way, and may still come."""
        now_or_never = (each for each in self._core.children if each.outbound_in_use and not each.replaced)
        return any(each.attempts or (each.rekey_wanted and each.may_rekey) for each in now_or_never)

    @property
    def ike_rekey_pending(self) -> bool:
        """The same for the IKE_SA."""
        sa = self._core.ike
        return sa is not None and bool(sa.attempts or (sa.rekey_wanted and sa.may_rekey))

    @property
    def ike_spis(self) -> Collection[bytes]:
        """Our SPIs (8 bytes each) of the IKE_SAs that messages may come for."""
        return self._core.ikes.keys()

    @property
    def unproven_refusal(self) -> SecureSocketError | None:
        """What somebody answered to our IKE_SA_INIT without proof: a guess at why nothing better came."""
        return self._init_refusal

    @property
    def last_heard(self) -> float:
        """When the last authentic message came."""
        return self._last_heard

    def poll_action(self) -> Action | None:
        """The next action in order, or None."""
        return self._core.actions.popleft() if self._core.actions else None

    def next_deadline(self) -> float | None:
        """When handle_timeout wants to be called; None while only the peer can move things."""
        core = self._core
        if core.over:
            return None if core.ike is None else core.ike.window.deadline  # of our DELETE, or our last words
        due = [sa.window.deadline for sa in core.ikes.values() if sa.window.deadline is not None]
        due += [each for sa in core.ikes.values() if (each := min(sa.forget_at, sa.abandon_at)) < math.inf]
        sa = core.ike
        if core.established and sa is not None and not sa.window.awaiting_reply and not sa.attempts:
            due += [child.rekey_at for child in core.children if child.may_rekey]
            due += [child.rekey_at for child in core.put_off]
            if sa.may_rekey:
                due.append(sa.rekey_at)
        return min(due, default=None)

    # what goes in

    def handle_acquire(self, now: float) -> None:
        """Begin.  LocalMisuse for a responder."""
        if self._core.config.role is not Role.INITIATOR or self._core.ike is not None:
            raise LocalMisuse("a session is begun once, by the initiator")
        if self._core.config.tickets is not None:
            from .resumption import begin_resumption  # for those who resume; below likewise

            if begin_resumption(self._core, self._begin_as_usual, now):
                return
        ExpectInitReply(self._core).ask(now)

    def _begin_as_usual(self, our_spi: bytes | None, now: float) -> None:
        ExpectInitReply(self._core, our_spi).ask(now)

    def handle_timeout(self, now: float) -> None:
        """Retransmit what is due, give up on a silent peer, begin the rekeys whose time has come."""
        core = self._core
        if core.over:
            self._say_again(now)
            return
        core.purge(now)
        for sa in list(core.ikes.values()):
            again = sa.window.retransmission(now)
            if again is None and sa.closing:
                core.forget_ike(sa, now)  # whether or not the peer heard our DELETE, it has no use any more
            elif again is None:
                refused = self._init_refusal if _awaits_init(sa) else None
                core.fail(refused or KeyingTimeout("the peer stopped answering IKE messages"))
                return
            else:
                core.send(again)
                if again and sa.awaiting_exchange == ExchangeType.IKE_SESSION_RESUME:
                    _perhaps_fall_back(sa, now)
                elif again and sa is core.ike and sa.window.tries % TRIES_AN_ADDRESS == 0:
                    try_another_address(core, now)
        self._go_on(now)

    def rekey_child(self, now: float) -> None:
        """Replace the CHILD_SA as soon as the window allows."""
        for child in self._core.children:
            child.rekey_wanted = True
            child.rekey_at = min(child.rekey_at, now)
        self._go_on(now)

    def create_child(self, flow: InnerFlow, now: float) -> None:
        """Make a CHILD_SA for another flow (in the first initiator's view) as soon as the window allows."""
        self._core.tasks.append(partial(begin_new_child, self._core, flow))
        self._go_on(now)

    def reach(self, standard: StandardHost, now: float) -> None:
        """Make a CHILD_SA that covers what is ``wanted`` as soon as the window allows."""
        self._core.tasks.append(partial(begin_reach, self._core, standard))
        self._go_on(now)

    def rekey_ike(self, now: float) -> None:
        """Replace the IKE_SA as soon as the window allows."""
        if self._core.ike is not None:
            self._core.ike.rekey_wanted = True
            self._core.ike.rekey_at = min(self._core.ike.rekey_at, now)
        self._go_on(now)

    def traffic_came(self) -> None:
        """The peer uses what was negotiated (datagram carriers)."""
        if self._core.ike is not None:
            self._core.ike.window.traffic_came()

    def check_liveness(self, now: float) -> None:
        """Ask the peer for a sign of life (datagram carriers)."""
        begin_liveness(self._core, now)

    def delete(self, now: float) -> None:
        """Say goodbye and be over."""
        if not self._core.over:
            begin_delete(self._core, now)

    def move(self, our: Address, now: float) -> bool:
        """Our end of the path is at another address now; whether the peer can follow (RFC 4555)."""
        can = change_path(self._core, AddressPair(our, self._core.mobility.path.peer), now)
        self._go_on(now)
        return can

    def handle_datagram(self, data: bytes, now: float, path: AddressPair | None = None) -> None:
        """One IKE message.  Whatever it holds, this raises nothing: the outcome is in the actions."""
        if self._core.over:
            self._hear_after_the_end(data, now)
            return
        self._path = path
        try:
            self._handle_untrusted(data, now)
            self._go_on(now)
        except WireError as error:
            self._unusable("malformed-message", f"the peer sent a malformed IKE message: {error}")
        except SecureSocketError as error:
            self._core.fail(error)

    def _go_on(self, now: float) -> None:
        """Begin what waits for a free window: deletes first, then rekeys."""
        core = self._core
        if not core.over:
            delete_replaced_ikes(core, now)
            if core.ticket is not None:
                from .ticket_exchange import refresh_ticket

                refresh_ticket(core)
        while not core.over and core.ike is not None and not core.ike.window.awaiting_reply:
            if core.tasks:
                core.tasks.popleft()(now)
                continue
            if core.established:
                self._begin_due_rekey(core.ike, now)
            return

    def _begin_due_rekey(self, sa: IkeSa, now: float) -> None:
        core = self._core
        if sa.attempts:
            return  # RFC 7296 2.25.2: the peer would refuse it until the IKE_SA is replaced
        if begin_put_off(core, now):
            return
        child = next((each for each in core.children if each.may_rekey and each.rekey_at <= now), None)
        if child is not None:
            begin_child_rekey(core, child, now)
        elif sa.may_rekey and sa.rekey_at <= now:
            begin_ike_rekey(core, ExpectRequests, now)

    # routing

    def _unusable(self, reason: str, detail: str) -> None:
        """Bytes that prove nothing: the end of a stream, a counted drop among datagrams."""
        self._core.trace(reason, detail)
        if self._core.on_stream:
            self._core.fail(PeerMisbehaved(detail))

    def _handle_untrusted(self, data: bytes, now: float) -> None:
        header = read_header_untrusted(data)
        if len(data) > MAX_BEFORE_AUTHENTICATION and not self._core.established:
            # a first message is kept for AUTH: among datagrams nobody else looks at its length
            self._unusable("oversize-message", "the peer sent more than 16 KiB before it proved who it is")
            return
        if header.version >> 4 != _MAJOR_VERSION:
            self._other_version(header)
            return
        message = parse_message_untrusted(data)
        is_reply = bool(header.flags & HeaderFlag.RESPONSE)
        in_clear = header.exchange_type == ExchangeType.IKE_SESSION_RESUME and message.encrypted is None
        if header.exchange_type == ExchangeType.IKE_SA_INIT or in_clear:
            self._handle_init_untrusted(message, data, is_reply, now)
            return
        sa = self._core.ikes.get(_our_spi(header))
        if sa is None or not _is_from_peer(sa, header):
            self._unusable("unknown-ike-spi", "the peer sent a message under an IKE_SA that does not exist")
        elif message.encrypted is None or not sa.has_keys:
            # RFC 7296 2.21.4: whatever it says, it proves nothing and changes nothing
            self._unusable("not-protected", "the peer sent a message that must be protected and is not")
        elif message.encrypted.total_fragments and not sa.fragmentation:
            self._unusable("unexpected-fragment", "the peer sent a fragment and fragments were not agreed on")
        elif is_reply:
            self._handle_reply(sa, header, message.encrypted, data, now)
        else:
            self._handle_request(sa, header, message.encrypted, data, now)

    def _other_version(self, header: IkeHeader) -> None:
        is_request = self._init is not None and not header.flags & HeaderFlag.RESPONSE
        if is_request and header.version >> 4 > _MAJOR_VERSION and not self._core.established:
            # RFC 7296 1.5 and 2.5: say which version we speak, under the request's own numbers
            self._core.emit(
                SendDatagram(
                    write_message(
                        header.initiator_spi,
                        header.responder_spi,
                        header.exchange_type,
                        HeaderFlag.RESPONSE,
                        header.message_id,
                        (Notify(NotifyType.INVALID_MAJOR_VERSION),),
                    )
                )
            )
        self._core.trace("other-version", f"IKE version {header.version >> 4}")
        if self._core.on_stream:
            self._core.fail(PeerIncompatible(f"the peer speaks IKE version {header.version >> 4}, this end version 2"))

    def _handle_init_untrusted(self, message: Message, data: bytes, is_reply: bool, now: float) -> None:
        core, header = self._core, message.header
        opened = Opened(header.exchange_type, header.message_id, 0, b"", message.payloads, data)
        sa = core.ike
        if message.encrypted is not None or not _is_possible_init(header, is_reply):
            self._unusable("malformed-message", "the peer sent an IKE_SA_INIT that is none")
        elif is_reply:
            self._handle_init_reply_untrusted(sa, opened, now)
        elif self._init is None:
            self._unusable("unexpected-request", "the peer sent an IKE_SA_INIT to an initiator")
        elif sa is None:
            self._peer_speaks_ike = True
            self._init.handle_request(opened, now)
        elif sa.peer_spi == header.initiator_spi and not core.on_stream:
            core.emit(*map(SendDatagram, sa.window.repeated(0, data)))
        else:
            self._unusable("unexpected-request", "the peer began twice on one connection")

    def _handle_init_reply_untrusted(self, sa: IkeSa | None, opened: Opened, now: float) -> None:
        awaited = sa is not None and _awaits_init(sa) and opened.exchange_type == sa.awaiting_exchange
        if sa is None or sa.awaiting is None or not awaited or sa.our_spi != opened.datagram[:8]:
            self._unusable("unexpected-reply", "the peer answered an IKE_SA_INIT that we did not send")
            return
        self._peer_speaks_ike = True
        try:
            self._attend(sa.awaiting, opened, now)
        except SecureSocketError as error:
            if self._core.on_stream or not _awaits_init(sa):
                raise
            # RFC 7296 2.21.1: anybody on the path can have said this, so that a better answer is waited for
            self._core.trace("unauthenticated-refusal", str(error))
            self._init_refusal = error

    def _open(self, sa: IkeSa, header: IkeHeader, encrypted: Encrypted, data: bytes, now: float) -> Opened | None:
        """The protected message, or None: not authentic, or a fragment of something still incomplete."""
        is_reply = bool(header.flags & HeaderFlag.RESPONSE)
        try:
            inner = sa.open(encrypted, data)
        except InvalidTag:
            self._not_authentic()
            return None
        self._last_heard = now
        if not is_reply and encrypted.fragment_number <= 1:
            sa.window.request_opened(data)
        whole: Whole | None = Whole(encrypted.first_payload, inner)
        if encrypted.total_fragments:
            limit = MAX_MESSAGE if self._core.established else MAX_BEFORE_AUTHENTICATION
            whole = sa.reassemble(is_reply, header.message_id, encrypted, inner, now, limit)
            if sa.fragment_dropped:
                self._core.trace(sa.fragment_dropped)
        if whole is None:
            return None
        payloads = parse_payloads(whole.first_payload, whole.inner)
        return Opened(
            header.exchange_type, header.message_id, whole.first_payload, whole.inner, payloads, data, self._path
        )

    def _not_authentic(self) -> None:
        self._core.trace("not-authentic", "an IKE message failed its integrity check")
        if self._core.on_stream:
            self._core.fail(ConnectionBroken("an IKE message was altered on its way: the connection is over"))

    def _handle_reply(self, sa: IkeSa, header: IkeHeader, encrypted: Encrypted, data: bytes, now: float) -> None:
        awaiting = sa.awaiting
        if awaiting is None or not sa.window.is_awaited_reply(header.message_id):
            self._unusable("unexpected-reply", "the peer answered a request that is not outstanding")
            return
        try:
            opened = self._open(sa, header, encrypted, data, now)
        except WireError as error:
            # authentic and malformed: the peer is broken, whatever the carrier (RFC 7296 2.21.3)
            raise PeerMisbehaved(f"the peer sent an authentic reply that cannot be read: {error}") from error
        if opened is None:
            return
        if opened.exchange_type != sa.awaiting_exchange:
            raise PeerMisbehaved("the peer answered with another exchange than it was asked in")
        self._attend(awaiting, opened, now)

    def _handle_request(self, sa: IkeSa, header: IkeHeader, encrypted: Encrypted, data: bytes, now: float) -> None:
        message_id = header.message_id
        if isinstance(sa.expecting, ExpectNothing) and not self._core.on_stream:
            # the responder has said all that we still wait for, and this overtook it: it will be sent again
            self._unusable("too-early", "the peer's request overtook its IKE_AUTH reply")
            return
        if message_id != sa.window.expected_request_id:
            self._handle_out_of_turn(sa, data, message_id)
            return
        try:
            opened = self._open(sa, header, encrypted, data, now)
        except WireError as error:
            failure = PeerMisbehaved(f"the peer sent an authentic request that cannot be read: {error}")
            first = Opened(header.exchange_type, message_id, 0, b"", (), data)
            self._refuse(sa, first, Refusal(NotifyType.INVALID_SYNTAX, error=failure))
            return
        if opened is None:
            return
        try:
            sa.expecting.handle_request(opened, now)
        except Refusal as refusal:
            self._refuse(sa, opened, refusal)
        except WireError as error:
            failure = PeerMisbehaved(f"the peer's key exchange is not valid: {error}")
            self._refuse(sa, opened, Refusal(NotifyType.INVALID_SYNTAX, error=failure))

    def _handle_out_of_turn(self, sa: IkeSa, data: bytes, message_id: int) -> None:
        """The last request once more gets its stored reply (RFC 7296 2.1); anything else is dropped."""
        again = () if self._core.on_stream else sa.window.repeated(message_id, data)
        if again:
            self._core.emit(*map(SendDatagram, again))
        else:
            self._unusable("unexpected-request", "the peer's request is out of turn")

    def _hear_after_the_end(self, data: bytes, now: float) -> None:
        """Our last reply may have been lost, and the peer asks again (RFC 7296 2.1); or it answers our last words."""
        core = self._core
        try:
            message = parse_message_untrusted(data)
        except WireError:
            return
        header, encrypted = message.header, message.encrypted
        sa = core.ikes.get(_our_spi(header))
        if sa is None or core.on_stream or not _is_from_peer(sa, header):
            return
        if not header.flags & HeaderFlag.RESPONSE:
            again = sa.window.repeated(header.message_id, data)
            core.emit(*map(SendDatagram, again))
            if not again and encrypted is not None and isinstance(sa.expecting, ExpectRequests):
                self._answer_after_the_end(sa, header, encrypted, data)
        elif (
            encrypted is not None
            and sa.window.is_awaited_reply(header.message_id)
            and _is_authentic(sa, encrypted, data)
        ):
            sa.window.reply_received()
            if core.tasks and sa is core.ike:  # the goodbye is said on this one, whose window is free now
                core.tasks.popleft()(now)

    def _answer_after_the_end(self, sa: IkeSa, header: IkeHeader, encrypted: Encrypted, data: bytes) -> None:
        """What the peer asked before it heard our goodbye (RFC 7296 2.25): the goodbyes cross, or it wanted more."""
        if encrypted.total_fragments or header.message_id != sa.window.expected_request_id:
            return
        try:
            inner = sa.open(encrypted, data)
            payloads = parse_payloads(encrypted.first_payload, inner)
        except (InvalidTag, WireError):
            return
        core = self._core
        sa.window.request_opened(data)
        opened = Opened(header.exchange_type, header.message_id, encrypted.first_payload, inner, payloads, data)
        if header.exchange_type != ExchangeType.INFORMATIONAL:
            core.reply(sa, opened, (Notify(NotifyType.TEMPORARY_FAILURE),))
            return
        core.reply(sa, opened, answer_mobility(core, sa, opened)[0])
        if sa is core.ike and any(isinstance(each, Delete) and each.protocol == ProtocolId.IKE for each in payloads):
            # RFC 7296 2.25.2: answered as usual, and our own goodbye is forgotten (not for one that was replaced)
            sa.window.give_up()
            core.tasks.clear()

    def _say_again(self, now: float) -> None:
        """Our last words, until they are answered: a DELETE that is lost leaves the peer with a dead SA."""
        sa = self._core.ike
        again = () if sa is None else sa.window.retransmission(now)
        if again is None and sa is not None:
            sa.window.give_up()
        self._core.send(again or ())

    def _refuse(self, sa: IkeSa, opened: Opened, refusal: Refusal) -> None:
        self._core.reply(sa, opened, (refusal.notify,))
        self._core.trace("refused-request", NotifyType(refusal.notify.notify_type).name)
        if refusal.error is not None:
            self._core.fail(refusal.error)

    @staticmethod
    def _attend(exchange: Exchange, opened: Opened, now: float) -> None:
        """Hand a reply to who awaits it; raises the error by blame for what it cannot accept."""
        try:
            exchange.handle_reply(opened, now)
        except Refusal as refusal:
            # an unknown critical payload in a reply: nobody is left to answer (RFC 7296 2.5)
            raise refusal.error or PeerMisbehaved("the peer's reply cannot be accepted") from None
        except WireError as error:
            raise PeerMisbehaved(f"the peer's key exchange is not valid: {error}") from error


def _is_possible_init(header: IkeHeader, is_reply: bool) -> bool:
    """RFC 7296 2.2 and 3.1: message ID zero, an initiator's SPI, and no responder's in a request."""
    from_initiator = bool(header.flags & HeaderFlag.INITIATOR)
    return (
        header.message_id == 0
        and header.initiator_spi != bytes(8)
        and from_initiator != is_reply
        and (is_reply or header.responder_spi == bytes(8))
    )


def _our_spi(header: IkeHeader) -> bytes:
    """RFC 7296 3.1: the initiator flag says which of the two is the sender's."""
    return header.responder_spi if header.flags & HeaderFlag.INITIATOR else header.initiator_spi


def _is_from_peer(sa: IkeSa, header: IkeHeader) -> bool:
    """Whether the header says so: both SPIs, and whose the first one is (a peer may choose the same SPI as we)."""
    from_initiator = bool(header.flags & HeaderFlag.INITIATOR)
    spis = (sa.initiator_spi, sa.responder_spi)
    return from_initiator != sa.initiator and spis == (header.initiator_spi, header.responder_spi)


def _is_authentic(sa: IkeSa, encrypted: Encrypted, data: bytes) -> bool:
    if not sa.has_keys:
        return False
    try:
        sa.open(encrypted, data)
    except (InvalidTag, WireError):
        return False
    return True


def _awaits_init(sa: IkeSa) -> bool:
    return sa.awaiting_exchange in BEGINNINGS and sa.window.awaiting_reply


def _perhaps_fall_back(sa: IkeSa, now: float) -> None:
    """A ticket that nobody answers to: begin as usual."""
    from .resumption import RESUME_TRIES, ExpectResumeReply

    if isinstance(sa.awaiting, ExpectResumeReply) and sa.window.tries >= RESUME_TRIES:
        sa.awaiting.fall_back(now)
