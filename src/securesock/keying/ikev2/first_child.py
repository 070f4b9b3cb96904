"""The CHILD_SA that comes with IKE_AUTH: offers, selectors, mode, formats (RFC 7296 1.2, 1.3.1, 2.9).

FirstChildWish is the initiator's, FirstChildAnswer the responder's.  IKE_AUTH may take several exchanges (EAP): the
wish goes out in the first request, the answer in the last reply.  On a stream the CHILD_SA is for exactly the carrier's
own flow, in transport mode, between two ends that both speak the inner segment format.  With a standard host it is for
whatever of the configured scope both ends have, in the configured mode (scopes).  Who the peer is, and whether it was
proven yet, is auth's business and not known here.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...crypto.kdf import derive_child_keys
from ...crypto.suites import EspSuite
from ...errors import PeerIncompatible, PeerMisbehaved
from ...sad.spec import InnerFlow, Scope
from ...types import Address
from ...wire.ikev2.payloads import Configuration, Notify, Payload, SecurityAssociation, TrafficSelectors
from ...wire.numbers import IpProtocol, NotifyType, PayloadType
from ..contract import StandardHost
from .auth_lifetime import hear_lifetime
from .beginning import Beginning
from .child_sa import ChildSa, make_child
from .core import STREAM_FORMAT, Core, Refusal, find, notifies
from .ike_sa import IkeSa
from .lifetimes import rekey_time
from .mobike import announce, hear_announcement, is_nat_unexpected
from .proposals import accept_child, answer, chosen_child, latched_child_proposal, offer_child
from .scopes import (
    agreed_scope,
    assigned_hosts,
    configuration_request,
    flow_of,
    offered_selectors,
    scope_selectors,
    seen_by,
)
from .selectors import canonical_host, exact_flow, flow_selectors

__all__ = ["FirstChildAnswer", "FirstChildWish"]

_MODE = Notify(NotifyType.USE_TRANSPORT_MODE)


def _first_child(
    core: Core,
    sa: IkeSa,
    beginning: Beginning,
    suite: EspSuite,
    inbound_spi: int,
    outbound_spi: int,
    flow: InnerFlow,
    now: float,
    scope: Scope | None = None,
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
        scope=scope,
    )
    child.outbound_in_use = True
    core.add_child(child)
    return child


class FirstChildWish:
    """Initiator: what is asked for, and whether the responder's answer keeps to it."""

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

    def payloads(self) -> tuple[Payload, ...]:
        """What the first IKE_AUTH request asks for, in RFC 7296's order."""
        standard = self._core.config.standard
        extras = announce(self._core)
        if self._core.config.tickets is not None:
            from .ticket_exchange import want_ticket  # for those who resume; below likewise

            extras += want_ticket(self._core)
        if standard is not None:
            mode = (_MODE,) if standard.mode == "transport" else ()
            request = configuration_request(standard)
            # RFC 7296 2.19: CP before SA
            configuration = () if request is None else (request,)
            return (
                *configuration,
                *mode,
                self._offered,
                *offered_selectors(standard),
                *extras,
            )
        selectors = flow_selectors(self._flow, initiator_first=True)
        format_notify: tuple[Payload, ...] = (STREAM_FORMAT,) if self._core.on_stream else ()
        return (_MODE, *format_notify, self._offered, *selectors, *extras)

    def accept(self, payloads: Sequence[Payload], now: float) -> ChildSa:
        """The CHILD_SA that the last IKE_AUTH reply agrees to; PeerIncompatible or PeerMisbehaved, and none is made,
        when that is not what we asked for."""
        core, standard = self._core, self._core.config.standard
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
        in_transport = NotifyType.USE_TRANSPORT_MODE in found
        if not in_transport and (standard is None or standard.mode == "transport"):
            raise PeerIncompatible("the responder refused transport mode")  # RFC 7296 1.3.1: we required it
        flow, scope = self._flow, None
        if standard is not None:
            if in_transport and standard.mode == "tunnel":
                raise PeerMisbehaved("the responder chose transport mode, which we did not offer")
            scope = self._scope(standard, tsi, tsr, find(payloads, Configuration))
            flow = flow_of(scope, we_initiated=True, wanted=standard.wanted)
        elif (tsi, tsr) != flow_selectors(self._flow, initiator_first=True):
            raise PeerMisbehaved("the responder changed the traffic selectors of an exact flow")
        outbound_spi = int.from_bytes(choice.proposals[0].spi, "big")
        if outbound_spi < 256:
            raise PeerMisbehaved("the responder chose a reserved SPI (RFC 4303 2.1)")
        hear_announcement(core, payloads)
        if core.config.tickets is not None:
            from .ticket_exchange import hear_ticket

            hear_ticket(core, payloads)
        hear_lifetime(core, payloads)
        return _first_child(core, self._sa, self._beginning, suite, self._inbound_spi, outbound_spi, flow, now, scope)

    def _scope(
        self, standard: StandardHost, tsi: TrafficSelectors, tsr: TrafficSelectors, reply: Configuration | None
    ) -> Scope:
        our_hosts = standard.our_hosts + assigned_hosts(standard, reply)
        scope = agreed_scope(standard, tsi, tsr, our_hosts, seen_by(self._core, standard, self._beginning.translated))
        if scope is None:
            raise PeerIncompatible("the responder's traffic selectors leave nothing of what this socket is to send")
        if standard.wanted is not None and scope.our_host(*standard.wanted) is None:
            raise PeerIncompatible("the responder's traffic selectors leave out the address that was to be reached")
        return scope


class FirstChildAnswer:
    """Responder: what becomes of the initiator's wish."""

    def __init__(self, core: Core, sa: IkeSa, beginning: Beginning) -> None:
        self._core = core
        self._sa = sa
        self._beginning = beginning

    def agree(self, payloads: Sequence[Payload], now: float) -> tuple[ChildSa, tuple[Payload, ...]]:
        """The CHILD_SA and what the last IKE_AUTH reply says of it; ``payloads`` are the first request's.

        Refusal when nothing of the wish can be had; no CHILD_SA is made then.
        """
        core, standard = self._core, self._core.config.standard
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
        core.initial_contact = NotifyType.INITIAL_CONTACT in found
        if is_nat_unexpected(core, payloads):
            error = PeerIncompatible("the initiator forbids NATs, and there is one between us (RFC 4555 3.9)")
            raise Refusal(NotifyType.UNEXPECTED_NAT_DETECTED, error=error)
        in_transport = NotifyType.USE_TRANSPORT_MODE in found
        if not in_transport and standard is None:
            error = PeerIncompatible("the initiator asked for tunnel mode; a connection is carried in transport mode")
            raise Refusal(NotifyType.NO_PROPOSAL_CHOSEN, error=error)
        if not in_transport and standard is not None and standard.mode == "transport":
            error = PeerIncompatible("the initiator asked for tunnel mode, its entry among our peers for transport")
            raise Refusal(NotifyType.NO_PROPOSAL_CHOSEN, error=error)
        accepted = accept_child(core.config.quick_mode.offers, proposals.proposals)
        if accepted is None or len(accepted[0].spi) != 4 or int.from_bytes(accepted[0].spi, "big") < 256:
            error = PeerIncompatible("the initiator's ESP proposals and our quick mode policy have nothing in common")
            raise Refusal(NotifyType.NO_PROPOSAL_CHOSEN, error=error)
        scope = None if standard is None else self._scope(standard, tsi, tsr)
        flow = self._flow(tsi, tsr) if scope is None else flow_of(scope, we_initiated=False)
        proposal, suite = accepted
        inbound_spi = core.fresh_child_spi()
        outbound_spi = int.from_bytes(proposal.spi, "big")
        child = _first_child(core, self._sa, self._beginning, suite, inbound_spi, outbound_spi, flow, now, scope)
        choice = answer(proposal, latched_child_proposal(suite, inbound_spi.to_bytes(4, "big")))
        if scope is not None:
            # RFC 7296 1.3.1: transport mode is the initiator's wish, that we may turn down by silence
            mode = (_MODE,) if scope.mode == "transport" else ()
            return child, (*mode, choice, *scope_selectors(scope, ours_first=False), *hear_announcement(core, payloads))
        format_notify: tuple[Payload, ...] = (STREAM_FORMAT,) if core.on_stream else ()
        return child, (_MODE, *format_notify, choice, tsi, tsr, *hear_announcement(core, payloads))

    def _scope(self, standard: StandardHost, tsi: TrafficSelectors, tsr: TrafficSelectors) -> Scope:
        seen = seen_by(self._core, standard, self._beginning.translated)
        scope = agreed_scope(standard, tsr, tsi, standard.our_hosts, seen)
        if scope is None:
            raise _unacceptable("the initiator's traffic selectors have nothing in common with our entry for it")
        return scope

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
