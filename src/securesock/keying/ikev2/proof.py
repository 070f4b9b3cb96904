"""What IKE_AUTH with and without EAP have in common (RFC 7296 2.15): each end's AUTH over one IKE_SA, the judgement of
the peer's, whom we admit, and what is there when both ends are proven.

The exchanges themselves are auth's and eap_auth's; what is signed is authentication's.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...clock import utc_at
from ...crypto.kdf import IkeKeys
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
from .auth_lifetime import announce_lifetime, begin_lifetime
from .authentication import (
    ProvenPeer,
    identification,
    key_auth,
    prove_by_key,
    prove_ourselves,
    prove_peer,
    signed_octets,
)
from .beginning import Beginning
from .child_sa import ChildSa
from .core import Core, Opened, Refusal
from .first_child import FirstChildAnswer
from .ike_sa import IkeSa
from .lifetimes import rekey_time
from .requests import ExpectRequests

__all__ = ["Proof", "admit", "establish", "tell_why", "wanted_id"]


class Proof:
    """Each end's AUTH over one IKE_SA.  ``keys`` say whether a PPK is in SK_pi and SK_pr."""

    def __init__(self, core: Core, sa: IkeSa, beginning: Beginning) -> None:
        self._core = core
        self._sa = sa
        self._beginning = beginning

    def certificates(self) -> tuple[Payload, ...]:
        """Our chain."""
        chain = self._core.config.identity.certificate_chain
        return tuple(Certificate(CertEncoding.X509_SIGNATURE, each) for each in chain)

    def certificate_request(self) -> tuple[Payload, ...]:
        """Whose certificates we take."""
        authorities = self._core.config.identity.certificate_authorities
        return (CertificateRequest(CertEncoding.X509_SIGNATURE, authorities),) if authorities else ()

    def ours(self, our_id: Identification, peer_id: IkeId | None, keys: IkeKeys) -> Authentication:
        """Our AUTH by our own credential; AuthenticationFailed where we have none for this peer."""
        sk_p, octets = self._our_sk_p(keys), self._our_octets(our_id, keys)
        identity = self._core.config.identity
        return prove_ourselves(identity, peer_id, self._sa.suite.prf, sk_p, octets, self._beginning.peer_hashes)

    def ours_by_key(self, our_id: Identification, key: bytes, keys: IkeKeys) -> Authentication:
        """Our AUTH by the key that EAP left both ends with (RFC 7296 2.16)."""
        return key_auth(self._sa.suite.prf, key, self._our_octets(our_id, keys))

    def judge(
        self,
        payloads: Sequence[Payload],
        peer_id: Identification,
        auth: Authentication | None,
        keys: IkeKeys,
        now: float,
        *,
        only_signature: bool = False,
    ) -> ProvenPeer:
        """Who the peer is by its AUTH; AuthenticationFailed, and nothing is known of it then."""
        if auth is None:
            raise AuthenticationFailed("the peer sent no AUTH payload: it proved nothing")
        config = self._core.config
        return prove_peer(
            config.identity,
            peer_id,
            [each for each in payloads if isinstance(each, Certificate)],
            auth,
            self._sa.suite.prf,
            self._peer_sk_p(keys),
            self._peer_octets(peer_id, keys),
            utc_at(now, config.wall_offset_s),
            config.expected_peer,
            config.admission.pins,
            allow_anonymous=config.main_mode.allow_anonymous,
            only_signature=only_signature,
        )

    def judge_by_key(self, peer_id: Identification, auth: Authentication | None, key: bytes, keys: IkeKeys) -> None:
        """Hold the peer's AUTH against EAP's key; AuthenticationFailed."""
        prove_by_key(self._sa.suite.prf, key, self._peer_octets(peer_id, keys), auth)

    def _our_sk_p(self, keys: IkeKeys) -> bytes:
        return keys.sk_pi if self._sa.initiator else keys.sk_pr

    def _peer_sk_p(self, keys: IkeKeys) -> bytes:
        return keys.sk_pr if self._sa.initiator else keys.sk_pi

    def _our_octets(self, our_id: Identification, keys: IkeKeys) -> bytes:
        beginning, prf = self._beginning, self._sa.suite.prf
        nonce = beginning.responder_nonce if self._sa.initiator else beginning.initiator_nonce
        sk_p = self._our_sk_p(keys)
        return signed_octets(beginning.our_first_message, nonce, prf, sk_p, our_id, beginning.intermediate)

    def _peer_octets(self, peer_id: Identification, keys: IkeKeys) -> bytes:
        beginning, prf = self._beginning, self._sa.suite.prf
        nonce = beginning.initiator_nonce if self._sa.initiator else beginning.responder_nonce
        sk_p = self._peer_sk_p(keys)
        return signed_octets(beginning.peer_first_message, nonce, prf, sk_p, peer_id, beginning.intermediate)


def wanted_id(core: Core) -> IkeId | None:
    """Whom an initiator expects, as an ID: IDr names it, so that the responder can pick its credential (RFC 7296 3.5,
    semantics "Names")."""
    expected = core.config.expected_peer
    return expected.ike_id if isinstance(expected, PeerTargetName) else None


def our_responder_id(core: Core, payloads: Sequence[Payload]) -> Identification:
    """The responder's ID, by the initiator's IDr where that is one of ours."""
    requested = next(
        (each for each in payloads if isinstance(each, Identification) and each.payload_type == PayloadType.IDr), None
    )
    wanted = None if requested is None else IkeId(requested.id_type, requested.data)
    return identification(PayloadType.IDr, core.config.identity.our_id(wanted))


def our_principal(core: Core, our_id: Identification) -> Principal:
    """Ourselves, for the report."""
    return core.config.identity.principal_for(IkeId(our_id.id_type, our_id.data))


def admit(core: Core, proven: ProvenPeer) -> None:
    """Whether the proven peer is let in; PolicyRefused."""
    reason = core.config.admission.refusal(proven.principal)
    if reason is not None:
        raise PolicyRefused(f"{proven.principal.name} proved itself and is not admitted: {reason}")


def tell_why(core: Core, sa: IkeSa, error: SecureSocketError, now: float) -> None:
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
    core.request(sa, ExchangeType.INFORMATIONAL, payloads, ExpectGoodbye(), now)


class ExpectGoodbye:
    """We said why we leave; whatever comes back changes nothing."""

    def handle_reply(self, opened: Opened, now: float) -> None:
        """Nothing is left to do."""


def establish(
    core: Core, sa: IkeSa, beginning: Beginning, child: ChildSa, proven: ProvenPeer, our: Principal, now: float
) -> None:
    """Both ends are proven and the CHILD_SA is there."""
    sa.expecting = ExpectRequests(core, sa)
    core.proven_at = min(core.proven_at, now)
    sa.rekey_at = rekey_time(core.config.main_mode.lifetimes, core.entropy, now)
    core.established = True
    core.forget_negotiation()
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
                idle_s=core.config.quick_mode.idle_s,
                scope=child.scope,
                uses_ppk=sa.uses_ppk,
                resumed=core.resumed,
                # RFC 7619 2.1: of somebody who proved nothing it means nothing
                initial_contact=core.initial_contact and proven.principal.method != "anonymous",
            )
        )
    )
    begin_lifetime(core, now)


def initiator_done(
    core: Core, sa: IkeSa, beginning: Beginning, child: ChildSa, proven: ProvenPeer, our: Principal, now: float
) -> None:
    """The initiator's last step."""
    core.emit(InstallSa(child.inbound, "inbound"), InstallSa(child.outbound, "outbound"))
    establish(core, sa, beginning, child, proven, our, now)
    if core.config.tickets is not None:
        from .ticket_exchange import keep_ticket  # for those who resume; below likewise

        keep_ticket(core, sa, proven, now)


def responder_done(
    core: Core,
    sa: IkeSa,
    beginning: Beginning,
    opened: Opened,
    answer: FirstChildAnswer,
    wish: Sequence[Payload],
    proof: tuple[Payload, ...],
    proven: ProvenPeer,
    our: Principal,
    now: float,
) -> None:
    """The responder's last reply: its proof, and the CHILD_SA for the initiator's ``wish`` or why there is none."""
    try:
        child, reply = answer.agree(wish, now)
    except Refusal as refusal:
        # RFC 7296 1.2: the IKE_SA stands although its CHILD_SA was refused; with one flow to carry it has no use
        core.reply(sa, opened, (*proof, refusal.notify))
        if refusal.error is not None:
            core.fail(refusal.error)
        return
    core.emit(InstallSa(child.inbound, "inbound"))  # RFC 7296 2.8: ready to receive before the reply
    core.proven_at = min(core.proven_at, now)
    extras: tuple[Payload, ...] = announce_lifetime(core, now)
    if core.config.tickets is not None:
        from .ticket_exchange import grant_ticket

        extras += grant_ticket(core, sa, wish, proof, proven, now)
    core.reply(sa, opened, (*proof, *reply, *extras))
    core.emit(InstallSa(child.outbound, "outbound"))
    establish(core, sa, beginning, child, proven, our, now)
