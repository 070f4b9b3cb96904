"""IKE_AUTH: both ends prove who they are, and the first CHILD_SA is made (RFC 7296 1.2, 2.15, 2.21.2).

ExpectAuthReply is the initiator, ExpectAuthRequest the responder.  On a stream the CHILD_SA is for exactly the
carrier's own
flow, in transport mode, between two ends that both speak the inner segment format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...clock import utc_at
from ...crypto.kdf import derive_child_keys
from ...crypto.suites import EspSuite
from ...errors import (
    AuthenticationFailed,
    PeerIncompatible,
    PeerMisbehaved,
    PolicyRefused,
    SecureSocketError,
)
from ...identity.names import IkeId, PeerTargetName
from ...sad.spec import InnerFlow
from ...types import Address, Principal
from ...wire.ikev2.payloads import (
    Authentication,
    Certificate,
    CertificateRequest,
    Delete,
    Identification,
    Notify,
    Payload,
    SecurityAssociation,
    TrafficSelectors,
)
from ...wire.numbers import CertEncoding, ExchangeType, IpProtocol, NotifyType, PayloadType, ProtocolId
from ..contract import Establishment, FlowReady, InstallSa
from .authentication import ProvenPeer, identification, prove_ourselves, prove_peer, signed_octets
from .child_sa import ChildSa, make_child
from .core import (
    STREAM_FORMAT,
    Core,
    Opened,
    Refusal,
    error_notify,
    find,
    notifies,
    refusal_error,
    refuse_unknown_critical,
)
from .ike_sa import IkeSa
from .lifetimes import rekey_time
from .proposals import accept_child, answer, chosen_child, latched_child_proposal, offer_child
from .requests import ExpectRequests
from .selectors import canonical_host, exact_flow, flow_selectors

__all__ = ["Beginning", "ExpectAuthReply", "ExpectAuthRequest", "begin_auth"]

_MODE = Notify(NotifyType.USE_TRANSPORT_MODE)


@dataclass(slots=True)
class Beginning:
    """What IKE_SA_INIT and IKE_INTERMEDIATE leave behind for IKE_AUTH."""

    initiator_nonce: bytes
    responder_nonce: bytes
    our_first_message: bytes
    peer_first_message: bytes
    peer_hashes: tuple[int, ...]
    translated: bool
    intermediate: bytes = b""


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


def _first_child(
    core: Core,
    sa: IkeSa,
    beginning: Beginning,
    suite: EspSuite,
    inbound_spi: int,
    outbound_spi: int,
    flow: InnerFlow,
    now: float,
) -> ChildSa:
    lifetimes = core.config.quick_mode.lifetimes
    keys = derive_child_keys(sa.suite.prf, sa.keys.sk_d, suite, beginning.initiator_nonce, beginning.responder_nonce)
    child = make_child(
        suite=suite,
        inbound_spi=inbound_spi,
        outbound_spi=outbound_spi,
        keys=keys,
        we_requested=sa.initiator,
        flow=flow,
        we_initiated=sa.initiator,
        lifetimes=lifetimes,
        rekey_at=rekey_time(lifetimes, core.entropy, now),
    )
    child.outbound_in_use = True
    core.add_child(child)
    return child


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
        self._inbound_spi = core.fresh_child_spi()
        config = core.config
        self._offered = offer_child(config.quick_mode.offers, self._inbound_spi.to_bytes(4, "big"))
        self._flow = InnerFlow(
            _protocol(core),
            canonical_host(config.our_address[0]),
            config.our_address[1],
            canonical_host(config.peer_address[0]),
            config.peer_address[1],
        )

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
        payloads += (auth, _MODE)
        if core.on_stream:
            payloads.append(STREAM_FORMAT)
        payloads.append(self._offered)
        payloads += flow_selectors(self._flow, initiator_first=True)
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
            child = self._child(opened.payloads, now)
        except SecureSocketError as error:
            self._tell(error, now)
            raise
        self._core.emit(InstallSa(child.inbound, "inbound"), InstallSa(child.outbound, "outbound"))
        _establish(self._core, self._sa, self._beginning, child, proven, self._our, now)

    def _child(self, payloads: Sequence[Payload], now: float) -> ChildSa:
        core = self._core
        found = notifies(payloads)
        choice = find(payloads, SecurityAssociation)
        tsi = find(payloads, TrafficSelectors, PayloadType.TSi)
        tsr = find(payloads, TrafficSelectors, PayloadType.TSr)
        if core.on_stream and found.get(STREAM_FORMAT.notify_type, _MODE).data != STREAM_FORMAT.data:
            raise PeerIncompatible("the responder is an IPsec host that does not speak securesock's stream format")
        if choice is None or tsi is None or tsr is None:
            raise PeerMisbehaved("the responder's IKE_AUTH lacks its CHILD_SA")
        suite = chosen_child(self._offered, choice)
        if suite is None or len(choice.proposals[0].spi) != 4:
            raise PeerMisbehaved("the responder chose ESP algorithms that we did not offer")
        if NotifyType.USE_TRANSPORT_MODE not in found:
            raise PeerIncompatible("the responder refused transport mode")  # RFC 7296 1.3.1: we required it
        if (tsi, tsr) != flow_selectors(self._flow, initiator_first=True):
            raise PeerMisbehaved("the responder changed the traffic selectors of an exact flow")
        outbound_spi = int.from_bytes(choice.proposals[0].spi, "big")
        if outbound_spi < 256:
            raise PeerMisbehaved("the responder chose a reserved SPI (RFC 4303 2.1)")
        return _first_child(core, self._sa, self._beginning, suite, self._inbound_spi, outbound_spi, self._flow, now)

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
            child, reply = self._child(opened.payloads, now)
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

    def _child(self, payloads: Sequence[Payload], now: float) -> tuple[ChildSa, tuple[Payload, ...]]:
        core = self._core
        found = notifies(payloads)
        proposals = find(payloads, SecurityAssociation)
        tsi = find(payloads, TrafficSelectors, PayloadType.TSi)
        tsr = find(payloads, TrafficSelectors, PayloadType.TSr)
        if proposals is None or tsi is None or tsr is None:
            raise Refusal(NotifyType.INVALID_SYNTAX, error=PeerMisbehaved("the initiator asked for no CHILD_SA"))
        if core.on_stream and found.get(STREAM_FORMAT.notify_type, _MODE).data != STREAM_FORMAT.data:
            raise Refusal(
                NotifyType.NO_PROPOSAL_CHOSEN,
                error=PeerIncompatible("the initiator is an IPsec host that does not speak securesock's stream format"),
            )
        if NotifyType.USE_TRANSPORT_MODE not in found:
            error = PeerIncompatible("the initiator asked for tunnel mode; a connection is carried in transport mode")
            raise Refusal(NotifyType.NO_PROPOSAL_CHOSEN, error=error)
        accepted = accept_child(core.config.quick_mode.offers, proposals.proposals)
        if accepted is None or len(accepted[0].spi) != 4 or int.from_bytes(accepted[0].spi, "big") < 256:
            error = PeerIncompatible("the initiator's ESP proposals and our quick mode policy have nothing in common")
            raise Refusal(NotifyType.NO_PROPOSAL_CHOSEN, error=error)
        flow = self._flow(tsi, tsr)
        proposal, suite = accepted
        inbound_spi = core.fresh_child_spi()
        outbound_spi = int.from_bytes(proposal.spi, "big")
        child = _first_child(core, self._sa, self._beginning, suite, inbound_spi, outbound_spi, flow, now)
        choice = answer(proposal, latched_child_proposal(suite, inbound_spi.to_bytes(4, "big")))
        format_notify: tuple[Payload, ...] = (STREAM_FORMAT,) if core.on_stream else ()
        return child, (_MODE, *format_notify, choice, tsi, tsr)

    def _flow(self, tsi: TrafficSelectors, tsr: TrafficSelectors) -> InnerFlow:
        """Semantics "stream plane on the wire": one exact flow, ours unless somebody translates addresses between
        us."""
        core, config = self._core, self._core.config
        flow = exact_flow(tsi, tsr, _protocol(core))
        if flow is None:
            raise _unacceptable("the initiator's traffic selectors are not one exact flow")
        if not self._beginning.translated:
            seen = (*_end(config.peer_address), *_end(config.our_address))
            if flow[1:] != seen:
                raise _unacceptable("the initiator's traffic selectors are not this connection's addresses")
        elif config.public_addresses and flow[3:] not in map(_end, config.public_addresses):
            where = f"{flow.responder_host} port {flow.responder_port}"
            raise _unacceptable(f"the initiator meant to reach {where}, which is none of our public addresses")
        return flow


def _protocol(core: Core) -> int:
    return IpProtocol.TCP if core.on_stream else IpProtocol.UDP


def _end(address: Address) -> tuple[str, int]:
    return canonical_host(address[0]), address[1]


def _unacceptable(message: str) -> Refusal:
    return Refusal(NotifyType.TS_UNACCEPTABLE, error=PeerIncompatible(message))
