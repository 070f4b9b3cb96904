"""IKE_AUTH: both ends prove who they are, and the responder decides whom it admits (RFC 7296 1.2, 2.15, 2.21.2).

ExpectAuthReply is the initiator, ExpectAuthRequest the responder.  The CHILD_SA that comes with it is first_child's:
this room carries that room's payloads and knows nothing of what they say.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...clock import utc_at
from ...errors import AuthenticationFailed, PeerMisbehaved, PolicyRefused, SecureSocketError
from ...identity.names import IkeId, PeerTargetName
from ...types import Principal
from ...wire.ikev2.payloads import (
    Authentication,
    Certificate,
    CertificateRequest,
    Delete,
    Identification,
    Notify,
    Payload,
)
from ...wire.numbers import CertEncoding, ExchangeType, NotifyType, PayloadType, ProtocolId
from ..contract import Establishment, FlowReady, InstallSa
from .authentication import ProvenPeer, identification, prove_ourselves, prove_peer, signed_octets
from .beginning import Beginning
from .child_sa import ChildSa
from .core import Core, Opened, Refusal, error_notify, find, refusal_error, refuse_unknown_critical
from .first_child import FirstChildAnswer, FirstChildWish
from .ike_sa import IkeSa
from .lifetimes import rekey_time
from .requests import ExpectRequests

__all__ = ["ExpectAuthReply", "ExpectAuthRequest", "begin_auth"]


def _certificates(core: Core) -> tuple[Payload, ...]:
    chain = core.config.identity.certificate_chain
    return tuple(Certificate(CertEncoding.X509_SIGNATURE, each) for each in chain)


def _our_octets(sa: IkeSa, beginning: Beginning, our_id: Identification) -> bytes:
    nonce = beginning.responder_nonce if sa.initiator else beginning.initiator_nonce
    return signed_octets(beginning.our_first_message, nonce, sa.suite.prf, sa.our_sk_p, our_id, beginning.intermediate)


def _peer_octets(sa: IkeSa, beginning: Beginning, peer_id: Identification) -> bytes:
    nonce = beginning.initiator_nonce if sa.initiator else beginning.responder_nonce
    return signed_octets(
        beginning.peer_first_message, nonce, sa.suite.prf, sa.peer_sk_p, peer_id, beginning.intermediate
    )


def _prove_peer(
    core: Core, sa: IkeSa, beginning: Beginning, payloads: Sequence[Payload], peer_id: Identification, now: float
) -> ProvenPeer:
    auth = find(payloads, Authentication)
    if auth is None:
        raise AuthenticationFailed("the peer sent no AUTH payload: it proved nothing")
    config = core.config
    return prove_peer(
        config.identity,
        peer_id,
        [each for each in payloads if isinstance(each, Certificate)],
        auth,
        sa.suite.prf,
        sa.peer_sk_p,
        _peer_octets(sa, beginning, peer_id),
        utc_at(now, config.wall_offset_s),
        config.expected_peer,
        config.admission.pins,
        allow_anonymous=config.main_mode.allow_anonymous,
    )


def _our_principal(core: Core, our_id: Identification) -> Principal:
    return core.config.identity.principal_for(IkeId(our_id.id_type, our_id.data))


def _establish(
    core: Core, sa: IkeSa, beginning: Beginning, child: ChildSa, proven: ProvenPeer, our: Principal, now: float
) -> None:
    sa.expecting = ExpectRequests(core, sa)
    sa.rekey_at = rekey_time(core.config.main_mode.lifetimes, core.entropy, now)
    core.established = True
    core.emit(
        FlowReady(
            Establishment(
                our=our,
                peer=proven.principal,
                anchor=proven.anchor,
                main_mode_suite=sa.suite,
                quick_mode_suite=child.suite,
                main_mode_sa_id=sa.sa_id,
                quick_mode_sa_id=child.inbound.sa_id,
                flow=child.flow,
                translated=beginning.translated,
                main_mode_lifetimes=core.config.main_mode.lifetimes,
            )
        )
    )


def begin_auth(core: Core, sa: IkeSa, beginning: Beginning, now: float) -> None:
    """The initiator's proof and its wish for the CHILD_SA."""
    try:
        ExpectAuthReply(core, sa, beginning).ask(now)
    except AuthenticationFailed as error:
        core.fail(error)


class ExpectAuthReply:
    """Initiator: proved itself, waits for the responder's proof and the CHILD_SA."""

    def __init__(self, core: Core, sa: IkeSa, beginning: Beginning) -> None:
        self._core = core
        self._sa = sa
        self._beginning = beginning
        self._wish = FirstChildWish(core, sa, beginning)

    def ask(self, now: float) -> None:
        """Send IKE_AUTH."""
        core, sa, config = self._core, self._sa, self._core.config
        identity = config.identity
        expected = config.expected_peer
        # RFC 7296 3.5 and semantics "Names": IDr names the machine expected, so that the responder can pick its
        # credential
        wanted = expected.ike_id if isinstance(expected, PeerTargetName) else None
        our_id = identification(PayloadType.IDi, identity.our_id(None))
        octets = _our_octets(sa, self._beginning, our_id)
        auth = prove_ourselves(identity, wanted, sa.suite.prf, sa.our_sk_p, octets, self._beginning.peer_hashes)
        payloads: list[Payload] = [our_id, *_certificates(core)]
        if identity.certificate_authorities:
            payloads.append(CertificateRequest(CertEncoding.X509_SIGNATURE, identity.certificate_authorities))
        if wanted is not None:
            payloads.append(identification(PayloadType.IDr, wanted))
        payloads += (auth, *self._wish.payloads())
        core.request(sa, ExchangeType.IKE_AUTH, tuple(payloads), self, now)
        self._our = _our_principal(core, our_id)

    def handle_reply(self, opened: Opened, now: float) -> None:
        """The responder's proof; only when all of it holds is the flow ready."""
        refuse_unknown_critical(opened.payloads)
        self._sa.window.reply_received()
        peer_id = find(opened.payloads, Identification, PayloadType.IDr)
        refused = error_notify(opened.payloads)
        if peer_id is None:
            what = f"us, who said to be {self._our.name}"
            raise refusal_error(refused, what) if refused else PeerMisbehaved("the responder's IKE_AUTH names nobody")
        try:
            proven = _prove_peer(self._core, self._sa, self._beginning, opened.payloads, peer_id, now)
            if refused is not None:
                raise refusal_error(refused, "the protection of this flow")
            child = self._wish.accept(opened.payloads, now)
        except SecureSocketError as error:
            self._tell(error, now)
            raise
        self._core.emit(InstallSa(child.inbound, "inbound"), InstallSa(child.outbound, "outbound"))
        _establish(self._core, self._sa, self._beginning, child, proven, self._our, now)

    def _tell(self, error: SecureSocketError, now: float) -> None:
        """An initiator that refuses the reply says so in an INFORMATIONAL of its own (RFC 7296 2.21.2)."""
        payloads: tuple[Payload, ...]
        match error:
            case AuthenticationFailed():
                payloads = (Notify(NotifyType.AUTHENTICATION_FAILED),)
            case PeerMisbehaved():
                payloads = (Notify(NotifyType.INVALID_SYNTAX),)
            case _:
                # these do not end the IKE_SA by themselves, and without its CHILD_SA it has no use
                payloads = (Notify(NotifyType.NO_PROPOSAL_CHOSEN), Delete(ProtocolId.IKE))
        self._core.request(self._sa, ExchangeType.INFORMATIONAL, payloads, ExpectGoodbye(), now)


class ExpectGoodbye:
    """We said why we leave; whatever comes back changes nothing."""

    def handle_reply(self, opened: Opened, now: float) -> None:
        """Nothing is left to do."""


class ExpectAuthRequest:
    """Responder: judges the initiator before it proves itself."""

    def __init__(self, core: Core, sa: IkeSa, beginning: Beginning) -> None:
        self._core = core
        self._sa = sa
        self._beginning = beginning
        self._answer = FirstChildAnswer(core, sa, beginning)

    def handle_request(self, opened: Opened, now: float) -> None:
        """IKE_AUTH.  A refusal is an error notify inside the encrypted reply (RFC 7296 2.21.2)."""
        refuse_unknown_critical(opened.payloads)
        peer_id = find(opened.payloads, Identification, PayloadType.IDi)
        if opened.exchange_type != ExchangeType.IKE_AUTH or peer_id is None:
            error = PeerMisbehaved("the initiator did not authenticate in IKE_AUTH")
            raise Refusal(NotifyType.INVALID_SYNTAX, error=error)
        try:
            proven = _prove_peer(self._core, self._sa, self._beginning, opened.payloads, peer_id, now)
            self._admit(proven)
            our_id, auth = self._our_proof(opened.payloads, peer_id)
        except SecureSocketError as error:
            raise Refusal(NotifyType.AUTHENTICATION_FAILED, error=error) from None
        proof: list[Payload] = [our_id, *_certificates(self._core), auth]
        try:
            child, reply = self._answer.agree(opened.payloads, now)
        except Refusal as refusal:
            # RFC 7296 1.2: the IKE_SA stands although its CHILD_SA was refused; with one flow to carry it has no use
            self._core.reply(self._sa, opened, (*proof, refusal.notify))
            if refusal.error is not None:
                self._core.fail(refusal.error)
            return
        self._core.emit(InstallSa(child.inbound, "inbound"))  # RFC 7296 2.8: ready to receive before the reply
        self._core.reply(self._sa, opened, (*proof, *reply))
        self._core.emit(InstallSa(child.outbound, "outbound"))
        our = _our_principal(self._core, our_id)
        _establish(self._core, self._sa, self._beginning, child, proven, our, now)

    def _admit(self, proven: ProvenPeer) -> None:
        reason = self._core.config.admission.refusal(proven.principal)
        if reason is not None:
            raise PolicyRefused(f"{proven.principal.name} proved itself and is not admitted: {reason}")

    def _our_proof(self, payloads: Sequence[Payload], peer_id: Identification) -> tuple[Identification, Authentication]:
        identity = self._core.config.identity
        requested = find(payloads, Identification, PayloadType.IDr)
        wanted = None if requested is None else IkeId(requested.id_type, requested.data)
        our_id = identification(PayloadType.IDr, identity.our_id(wanted))
        octets = _our_octets(self._sa, self._beginning, our_id)
        peer = IkeId(peer_id.id_type, peer_id.data)
        return our_id, prove_ourselves(
            identity, peer, self._sa.suite.prf, self._sa.our_sk_p, octets, self._beginning.peer_hashes
        )
