"""IKE_SESSION_RESUME: an IKE_SA that was lost is made anew from a ticket, without certificates and without a key
exchange (RFC 5723 4.3, 5).

ExpectResumeReply is the initiator, answer_resume the responder's door; then IKE_AUTH, in which both ends show that they
have SK_d and are who the ticket says.  Whoever refuses a ticket says so without giving a reason, and the initiator
begins as usual.  No new Diffie-Hellman: the secrecy of what follows rests on the old SK_d and on the responder's ticket
keys, which is why a policy asks for it and no default does.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final, TypeAlias

from ...crypto.kdf import derive_ike_keys, resumption_skeyseed
from ...crypto.prf import compute_prf
from ...errors import AuthenticationFailed, PeerMisbehaved, SecureSocketError
from ...identity.names import IkeId, PeerTargetName
from ...wire.ikev2.payloads import Authentication, Certificate, Identification, Nonce, Notify, Payload
from ...wire.numbers import AuthMethod, ExchangeType, NotifyType, PayloadType
from ..tickets import KeptTicket, OpenedTicket, TicketRefused
from .authentication import ProvenPeer, identification, signed_octets
from .beginning import Beginning
from .core import (
    NONCE_LENGTH,
    NONCE_LENGTHS,
    Core,
    ExpectNothing,
    Opened,
    Refusal,
    error_notify,
    find,
    notifies,
    refusal_error,
    refuse_unknown_critical,
)
from .first_child import FirstChildAnswer, FirstChildWish
from .ike_sa import IkeSa
from .proof import admit, initiator_done, our_principal, responder_done, tell_why
from .selectors import nat_detection, translated
from .ticket_exchange import Resumable, peer_key, read_state

__all__ = ["RESUME_TRIES", "ExpectResumeReply", "answer_resume", "begin_resumption"]

COOKIE_LENGTHS: Final = range(1, 65)
MAX_REPEATS: Final = 2
"""A cookie needs one repeat, a changed secret one more."""

RESUME_TRIES: Final = 3
"""Requests unanswered until the usual beginning is tried instead (1.25 s): a responder that was started again may not
speak RFC 5723 any more."""

FallBack: TypeAlias = Callable[[bytes | None, float], None]
"""Begins as usual.  After a refusal under the same SPI, since to the responder it is the same beginning; after silence
under another one, since the responder may have begun to resume."""


def begin_resumption(core: Core, fall_back: FallBack, now: float) -> bool:
    """Use a ticket for this peer; False where there is none that fits."""
    book = None if core.config.anew or core.config.user is not None else core.config.tickets
    kept = None if book is None else book.take(peer_key(core), now)
    if kept is None:
        return False
    state = read_state(core, kept.state)
    is_ours = state is not None and state.initiator_id == core.config.identity.our_id(None)
    if state is None or not is_ours or core.config.admission.refusal(state.peer) is not None:
        kept.state.wipe()
        return False
    ExpectResumeReply(core, kept, state, fall_back).ask(now)
    return True


def _keys(core: Core, sa: IkeSa, state: Resumable, nonces: tuple[bytes, bytes]) -> None:
    """RFC 5723 5.1."""
    skeyseed = resumption_skeyseed(state.suite.prf, state.sk_d, *nonces)
    keys = derive_ike_keys(state.suite, skeyseed, *nonces, sa.initiator_spi, sa.responder_spi)
    core.use_keys(sa, state.suite, keys)
    sa.uses_ppk = state.uses_ppk  # RFC 8784: what was mixed into the old SK_d is in all that follows from it


class ExpectResumeReply:
    """Initiator: showed its ticket, waits for the responder's nonce."""

    def __init__(self, core: Core, kept: KeptTicket, state: Resumable, fall_back: FallBack) -> None:
        self._core = core
        self._kept = kept
        self._state = state
        self._fall_back = fall_back
        self._nonce = core.entropy.token(NONCE_LENGTH)
        self._cookie: Notify | None = None
        self._repeats = 0
        self._sa = IkeSa(
            initiator=True,
            our_spi=core.fresh_ike_spi(),
            peer_spi=bytes(8),
            entropy=core.entropy,
            expecting=ExpectNothing(),
            retransmit=not core.on_stream,
        )
        core.ike = core.ikes[self._sa.our_spi] = self._sa

    def ask(self, now: float) -> None:
        """Send IKE_SESSION_RESUME: no proposals, no key exchange (RFC 5723 4.3.2)."""
        core, config = self._core, self._core.config
        payloads: list[Payload] = [
            Nonce(self._nonce),
            Notify(NotifyType.TICKET_OPAQUE, self._kept.ticket),
            *nat_detection(self._sa.our_spi, bytes(8), config.our_address, config.peer_address, core.source_of_nobody),
        ]
        if not core.on_stream:
            payloads.append(Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED))
        if self._cookie is not None:
            payloads.insert(0, self._cookie)
        self._message = core.request_in_clear(
            self._sa, tuple(payloads), self, now, exchange=ExchangeType.IKE_SESSION_RESUME
        )

    def fall_back(self, now: float, *, refused: bool = False) -> None:
        """Begin as usual.

        A ticket is used when it led to an IKE_SA (RFC 5723 4.3.1): in silence it may have reached nobody, and is kept.
        """
        self._core.trace("ticket-not-taken")
        self._sa.window.give_up()
        book = self._core.config.tickets
        if refused or book is None:
            self._kept.state.wipe()
        else:
            book.keep(peer_key(self._core), self._kept)
        self._core.ikes.pop(self._sa.our_spi, None)
        self._fall_back(self._sa.our_spi if refused else None, now)

    def handle_reply(self, opened: Opened, now: float) -> None:
        """The responder's nonce; anything else is no reason to fail, since nothing of it is authentic."""
        refuse_unknown_critical(opened.payloads)
        core, sa = self._core, self._sa
        found = notifies(opened.payloads)
        cookie = found.get(NotifyType.COOKIE)
        if cookie is not None and len(cookie.data) in COOKIE_LENGTHS and self._repeats < MAX_REPEATS:
            self._repeats += 1
            self._cookie = Notify(NotifyType.COOKIE, cookie.data)
            sa.window.give_up()
            self.ask(now)
            return
        nonce = find(opened.payloads, Nonce)
        peer_spi = opened.datagram[8:16]
        refused = NotifyType.TICKET_NACK in found or error_notify(opened.payloads) is not None
        if refused or nonce is None or len(nonce.data) not in NONCE_LENGTHS or peer_spi == bytes(8):
            self.fall_back(now, refused=True)
            return
        sa.peer_spi = peer_spi
        self._kept.state.wipe()
        _keys(core, sa, self._state, (self._nonce, nonce.data))
        sa.fragmentation = not core.on_stream and NotifyType.IKEV2_FRAGMENTATION_SUPPORTED in found
        config = core.config
        beginning = Beginning(
            initiator_nonce=self._nonce,
            responder_nonce=nonce.data,
            our_first_message=self._message,
            peer_first_message=opened.datagram,
            peer_hashes=(),
            translated=translated(
                [each for each in opened.payloads if isinstance(each, Notify)],
                sa.our_spi,
                sa.peer_spi,
                config.our_address,
                config.peer_address,
            ),
        )
        sa.window.reply_received()
        ExpectResumedReply(core, sa, beginning, self._state).ask(now)


def answer_resume(core: Core, sa: IkeSa, opened: Opened, now: float) -> bool:
    """The responder's half; False after a refusal, which is a TICKET_NACK in clear and leaves nothing behind."""
    found = notifies(opened.payloads)
    nonce = find(opened.payloads, Nonce)
    try:
        refuse_unknown_critical(opened.payloads)
        shown, state = _open(core, found.get(NotifyType.TICKET_OPAQUE), now)
        if nonce is None or len(nonce.data) not in NONCE_LENGTHS:
            raise TicketRefused("ticket-malformed")
    except (TicketRefused, Refusal) as refusal:
        core.refuse_ticket(sa, refusal.reason if isinstance(refusal, TicketRefused) else "ticket-malformed")
        return False
    config, reply_nonce = core.config, core.entropy.token(NONCE_LENGTH)
    payloads: list[Payload] = [
        Nonce(reply_nonce),
        *nat_detection(sa.peer_spi, sa.our_spi, config.our_address, config.peer_address, core.source_of_nobody),
    ]
    sa.fragmentation = not core.on_stream and NotifyType.IKEV2_FRAGMENTATION_SUPPORTED in found
    if sa.fragmentation:
        payloads.append(Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED))
    message = core.reply_in_clear(sa, tuple(payloads), final=True, exchange=ExchangeType.IKE_SESSION_RESUME)
    _keys(core, sa, state, (nonce.data, reply_nonce))
    beginning = Beginning(
        initiator_nonce=nonce.data,
        responder_nonce=reply_nonce,
        our_first_message=message,
        peer_first_message=opened.datagram,
        peer_hashes=(),
        translated=translated(
            [each for each in opened.payloads if isinstance(each, Notify)],
            sa.peer_spi,
            bytes(8),
            config.our_address,
            config.peer_address,
        ),
    )
    sa.expecting = ExpectResumedRequest(core, sa, beginning, state, shown)
    return True


def _open(core: Core, ticket: Notify | None, now: float) -> tuple[OpenedTicket, Resumable]:
    """TicketRefused where a whole negotiation has to decide: then it also says why."""
    config = core.config
    if config.tickets is None or ticket is None:
        raise TicketRefused("ticket-unwanted")
    shown = config.tickets.open_untrusted(ticket.data, now)
    state = read_state(core, shown.state)
    if state is None:
        raise TicketRefused("ticket-of-other-policy")
    expected = config.expected_peer
    is_ours = config.identity.our_id(state.responder_id) == state.responder_id
    is_expected = not isinstance(expected, PeerTargetName) or expected.principal == state.peer.name
    if not is_ours or not is_expected or config.admission.refusal(state.peer) is not None:
        raise TicketRefused("ticket-of-another")
    return shown, state


# IKE_AUTH


def _auth(sa: IkeSa, beginning: Beginning, our_id: Identification, *, of_us: bool) -> bytes:
    """RFC 5723 4.3.3: prf(SK_px, octets), each end by its own SK_p."""
    sk_p = sa.our_sk_p if of_us else sa.peer_sk_p
    message = beginning.our_first_message if of_us else beginning.peer_first_message
    nonce = beginning.responder_nonce if sa.initiator == of_us else beginning.initiator_nonce
    return compute_prf(sa.suite.prf, sk_p, signed_octets(message, nonce, sa.suite.prf, sk_p, our_id, b""))


def _authentication(sa: IkeSa, beginning: Beginning, our_id: Identification) -> Authentication:
    # "similar to the usage of a pre-shared secret": that method's number
    method = AuthMethod.SHARED_KEY_MESSAGE_INTEGRITY_CODE
    return Authentication(method, _auth(sa, beginning, our_id, of_us=True))


def _judge(sa: IkeSa, beginning: Beginning, opened: Opened, peer_id: Identification, expected: IkeId) -> None:
    """AuthenticationFailed unless the peer is whom the ticket names and has its keys."""
    if IkeId(peer_id.id_type, peer_id.data) != expected:
        raise AuthenticationFailed("the peer resumes as another than the ticket was given to")
    if find(opened.payloads, Certificate) is not None:
        raise PeerMisbehaved("a certificate has no place where a session is resumed (RFC 5723 4.3.3)")
    auth = find(opened.payloads, Authentication)
    if auth is None or not hmac.compare_digest(auth.data, _auth(sa, beginning, peer_id, of_us=False)):
        raise AuthenticationFailed("the peer showed a ticket and does not have its keys")


class ExpectResumedReply:
    """Initiator: showed that it has the keys, waits for the same of the responder."""

    def __init__(self, core: Core, sa: IkeSa, beginning: Beginning, state: Resumable) -> None:
        self._core = core
        self._sa = sa
        self._beginning = beginning
        self._state = state
        self._wish = FirstChildWish(core, sa, beginning)

    def ask(self, now: float) -> None:
        """Send IKE_AUTH, with the identities of the ticket."""
        our_id = identification(PayloadType.IDi, self._state.initiator_id)
        self._our = our_principal(self._core, our_id)
        peer_id = identification(PayloadType.IDr, self._state.responder_id)
        auth = _authentication(self._sa, self._beginning, our_id)
        payloads = (our_id, peer_id, auth, *self._wish.payloads())
        self._core.request(self._sa, ExchangeType.IKE_AUTH, payloads, self, now)

    def handle_reply(self, opened: Opened, now: float) -> None:
        """Only when all of it holds is the flow ready."""
        refuse_unknown_critical(opened.payloads)
        core, sa = self._core, self._sa
        sa.window.reply_received()
        peer_id = find(opened.payloads, Identification, PayloadType.IDr)
        refused = error_notify(opened.payloads)
        if peer_id is None:
            raise refusal_error(refused, "our ticket") if refused else PeerMisbehaved("the IKE_AUTH reply names nobody")
        try:
            _judge(sa, self._beginning, opened, peer_id, self._state.responder_id)
            if refused is not None:
                raise refusal_error(refused, "the protection of this flow")
            child = self._wish.accept(opened.payloads, now)
        except SecureSocketError as error:
            tell_why(core, sa, error, now)
            raise
        proven = ProvenPeer(self._state.peer, self._state.anchor)
        core.resumed, core.proven_at = self._state.sa_id, self._state.proven_at
        initiator_done(core, sa, self._beginning, child, proven, self._our, now)


class ExpectResumedRequest:
    """Responder: awaits the proof that whoever showed the ticket has its keys."""

    def __init__(self, core: Core, sa: IkeSa, beginning: Beginning, state: Resumable, shown: OpenedTicket) -> None:
        self._core = core
        self._sa = sa
        self._beginning = beginning
        self._state = state
        self._shown = shown
        self._answer = FirstChildAnswer(core, sa, beginning)

    def handle_request(self, opened: Opened, now: float) -> None:
        """IKE_AUTH.  The ticket is used when it is accepted, and not before (RFC 5723 4.3.1)."""
        refuse_unknown_critical(opened.payloads)
        core, sa, state = self._core, self._sa, self._state
        peer_id = find(opened.payloads, Identification, PayloadType.IDi)
        if opened.exchange_type != ExchangeType.IKE_AUTH or peer_id is None:
            error = PeerMisbehaved("the initiator did not authenticate in IKE_AUTH")
            raise Refusal(NotifyType.INVALID_SYNTAX, error=error)
        proven = ProvenPeer(state.peer, state.anchor)
        try:
            _judge(sa, self._beginning, opened, peer_id, state.initiator_id)
            admit(core, proven)
            book = core.config.tickets
            if book is None or not book.spend(self._shown.ticket_id, self._shown.expires_at):
                raise AuthenticationFailed("the ticket was used meanwhile")
        except SecureSocketError as error:
            raise Refusal(NotifyType.AUTHENTICATION_FAILED, error=error) from None
        our_id = identification(PayloadType.IDr, state.responder_id)
        proof = (our_id, _authentication(sa, self._beginning, our_id))
        core.resumed, core.proven_at = state.sa_id, state.proven_at
        our = our_principal(core, our_id)
        responder_done(core, sa, self._beginning, opened, self._answer, opened.payloads, proof, proven, our, now)
