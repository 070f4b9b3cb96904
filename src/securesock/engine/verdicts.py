"""The way of a flow through the layers: who may connect, listen or be accepted, under which policy, and which filter
said so.

At the ALE layers a flow is permitted or blocked; at the transport layers callouts say what IPsec has to do for it; at
IPSEC_KM_DEMUX, IKEEXT and IPSEC stand the keying module, the main mode and the quick mode policy.  Filters of sockets
(``socket_filters``) are among all others there: where one of them decides, the socket's own settings hold, and where
another weighs more, what it names is applied, and the difference is told.

Blocks are net events.  Nothing is remembered here and nothing is changed: ask again, and the answer is today's.  It
must not know sockets, nor how anything is negotiated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, Literal, NamedTuple, NoReturn, TypeAlias, TypeVar
from uuid import UUID

from ..errors import LocalMisuse, PolicyRefused
from ..identity.identity import Identity
from ..identity.names import PeerTargetName
from ..policy import identifiers as ids
from ..policy.callouts import IPsecDemand
from ..policy.explain import Explanation
from ..policy.fields import Field
from ..policy.filter_engine import FilterEngine
from ..policy.ipsec import KeyingPolicy
from ..policy.layers import FlowValue, Layer
from ..policy.model import Filter, ProviderContext
from ..policy.negotiation import MainModePolicy, PolicyMark, QuickModePolicy
from ..policy.users import current_user
from ..policy.values import AddressType, ConditionFlag
from ..policy.verdicts import Verdict
from ..types import AnyTrustedPeer, Flow, IPsecSettings, SecuritySettings
from .applied import ANY_USER, Applied
from .asking import encrypted_only
from .context import SecurityContext
from .policy_keys import (
    MAIN_MODE_TYPES,
    QUICK_MODE_TYPES,
    find_context,
    identity_for,
    main_mode_of,
    named,
    pfs_groups,
    quick_mode_of,
    tunnel_ends,
    users_of,
)

__all__ = [
    "Direction",
    "Inquest",
    "explain_flow",
    "fields_of",
    "ip_version",
    "is_of_socket",
    "judge",
    "judge_endpoint",
    "judge_peer",
    "layer_for",
]

Direction: TypeAlias = Literal["outbound", "inbound"]
"""Who began: "outbound" is judged at ALE_AUTH_CONNECT, "inbound" at ALE_AUTH_RECV_ACCEPT."""

Translated = TypeVar("Translated")

_NO_DEMAND: Final = IPsecDemand()


class Inquest(NamedTuple):
    """Whose flow it is and what is known of it.

    ``expected``: whom an initiator wants to reach.  ``skip``: the socket has no filters of its own, and relies on
    those that exist.  ``tunnel_to``: the gateway that carries the flow in tunnel mode, "" for none.
    """

    context: SecurityContext
    settings: SecuritySettings
    flow: Flow
    direction: Direction
    expected: PeerTargetName | AnyTrustedPeer | None = None
    skip: bool = False
    tunnel_to: str = ""


def ip_version(host: str) -> int:
    """4 or 6, of a numeric host without scope."""
    return ip_address(host).version


@lru_cache(maxsize=64)
def layer_for(name: str, version: int) -> Layer:
    """The layer of a name without its version, such as "IKEEXT"."""
    return Layer[f"{name}_V{version}"]


@lru_cache(maxsize=1)
def _application() -> bytes:
    """The program's path, as Windows writes an application id."""
    return (sys.executable + "\0").encode("utf-16-le")


def fields_of(
    layer: Layer,
    flow: Flow,
    *,
    peer: Mapping[Field, FlowValue] | None = None,
    secured: bool = False,
) -> dict[Field, FlowValue]:
    """What a layer is told of a flow; ``peer``: what is known of who is there.  Ports of 0 are not known."""
    flags = ConditionFlag.IS_IPSEC_SECURED if secured else 0
    if ip_address(flow.our_host).is_loopback or ip_address(flow.peer_host or flow.our_host).is_loopback:
        flags |= ConditionFlag.IS_LOOPBACK
    known: dict[Field, FlowValue] = {
        Field.IP_PROTOCOL: flow.protocol,
        Field.IP_LOCAL_ADDRESS: flow.our_host,
        Field.IP_LOCAL_PORT: flow.our_port or None,
        Field.IP_REMOTE_ADDRESS: flow.peer_host or None,
        Field.IP_REMOTE_PORT: flow.peer_port or None,
        Field.IP_LOCAL_ADDRESS_TYPE: int(AddressType.UNICAST),
        Field.IP_DESTINATION_ADDRESS_TYPE: int(AddressType.UNICAST),
        Field.ALE_APP_ID: _application(),
        Field.ALE_USER_ID: current_user(),
        Field.FLAGS: int(flags),
        **(peer or {}),
    }
    places = layer.info.places
    return {field: value for field, value in known.items() if field in places and value is not None}


def judge_endpoint(context: SecurityContext, layer_name: str, protocol: int, host: str, port: int) -> None:
    """May this address be bound (ALE_RESOURCE_ASSIGNMENT), or listened on (ALE_AUTH_LISTEN)?  PolicyRefused if not."""
    engine = context.policy
    if engine is None:
        return
    layer = layer_for(layer_name, ip_version(host))
    verdict = engine.authorize(layer, fields_of(layer, Flow(protocol, host, port, "", 0)))
    if verdict.is_blocked:
        what = "bound" if layer_name == "ALE_RESOURCE_ASSIGNMENT" else "listened on"
        _refuse(f"{host} port {port} may not be {what}", verdict)


def judge(inquest: Inquest) -> Applied:
    """What policy makes of the flow.  PolicyRefused names the filter that blocks it, or what cannot be applied.

    Without an engine the settings' keys are those of built-in contexts, and nobody blocks anything.
    """
    engine = inquest.context.policy
    findings = _Findings(inquest)
    if engine is not None:
        findings.ask(engine)
    if inquest.skip and not findings.is_secured:
        raise PolicyRefused(
            "skip_filter_instantiation relies on filters that exist, and none secures this flow: "
            "add one, or let the socket have its own"
        )
    return findings.applied()


@dataclass(slots=True)
class _Choice:
    """One of the two policies: the context that is applied, and the filter of another's that put it there."""

    context: ProviderContext | None = None
    by: Filter | None = None

    @property
    def key(self) -> UUID | None:
        return None if self.context is None else self.context.key


class _Findings:
    """What the layers said of one flow, and what follows."""

    def __init__(self, inquest: Inquest) -> None:
        self._inquest = inquest
        self._demand = _NO_DEMAND
        self._demanded_by: Filter | None = None
        self._transport: Filter | None = None
        self._foreign: dict[str, Filter] = {}
        self._differences: list[str] = []

    @property
    def is_secured(self) -> bool:
        """Whether a filter asks for IPsec."""
        return bool(self._demand.transport_filter) or self._demand.require_security

    # -- asking --------------------------------------------------------------------------------------------------

    def ask(self, engine: FilterEngine) -> None:
        """Go through the layers; PolicyRefused where one of them blocks."""
        inquest = self._inquest
        outbound = inquest.direction == "outbound"
        for name, secured in (
            ("ALE_AUTH_CONNECT" if outbound else "INBOUND_TRANSPORT", not outbound),
            ("OUTBOUND_TRANSPORT", False),
            ("INBOUND_TRANSPORT" if outbound else "ALE_AUTH_RECV_ACCEPT", True),
        ):
            verdict = self._authorize(engine, name, secured)
            if verdict.demand is not None:
                self._demand = self._demand.joined(verdict.demand)
                self._note(name, verdict)
        self._check_demand(engine)
        self._check_module(engine)
        for name in ("IKEEXT", "IPSEC"):
            decided = self._classify(engine, name).filter
            if decided is not None and not is_of_socket(decided):
                self._foreign[name] = decided

    def _authorize(self, engine: FilterEngine, name: str, secured: bool) -> Verdict:
        flow = self._inquest.flow
        layer = layer_for(name, ip_version(flow.our_host))
        fields = fields_of(layer, flow, peer=self._peer(), secured=secured)
        if name.startswith("ALE_AUTH_") and engine.names_peers(layer, fields):
            return engine.classify(layer, fields)  # judged when it is known who is there: judge_peer, PeerAdmission
        verdict = engine.authorize(layer, fields)
        if verdict.is_blocked:
            way = "to" if self._inquest.direction == "outbound" else "from"
            _refuse(f"the flow {way} {flow.peer_host} port {flow.peer_port} is blocked at {layer.name}", verdict)
        return verdict

    def _peer(self) -> dict[Field, FlowValue]:
        expected = self._inquest.expected
        return {Field.PEER_NAME: expected.principal} if isinstance(expected, PeerTargetName) else {}

    def _note(self, name: str, verdict: Verdict) -> None:
        demand, decided = verdict.demand, verdict.filter
        if demand is None or decided is None:
            return
        if name == "OUTBOUND_TRANSPORT" and demand.transport_filter:
            self._transport = decided
        if not is_of_socket(decided) and (demand.require_security or demand.require_encryption):
            self._demanded_by = self._demanded_by or decided

    def _check_demand(self, engine: FilterEngine) -> None:
        demand, gateway = self._demand, self._inquest.tunnel_to
        if demand.tunnel_filter and (not gateway or gateway not in tunnel_ends(engine, demand.tunnel_policy)):
            how = f"through {gateway}" if gateway else "in transport mode"
            raise PolicyRefused(
                f"filter {demand.tunnel_filter} demands tunnel mode, and this flow is carried {how}",
                filter_id=demand.tunnel_filter,
            )
        if demand.suppress_negotiation and self._inquest.direction == "outbound":
            raise PolicyRefused(
                f"filter {demand.transport_filter} forbids this end to begin a negotiation: the peer has to",
                filter_id=demand.transport_filter,
            )

    def _check_module(self, engine: FilterEngine) -> None:
        if self._inquest.direction == "inbound":
            return  # the layer is asked by the end that begins
        decided = self._classify(engine, "IPSEC_KM_DEMUX").filter
        if decided is None or decided.provider_context is None:
            return
        content = engine.provider_contexts.find(decided.provider_context).content
        if isinstance(content, KeyingPolicy) and ids.KEYING_MODULE_IKEV2 not in content.modules:
            raise PolicyRefused(
                f"filter {decided.id} {decided.name!r} leaves keying modules that are not there yet: IKEv2 is",
                filter_id=decided.id,
            )

    def _classify(self, engine: FilterEngine, name: str) -> Verdict:
        flow = self._inquest.flow
        layer = layer_for(name, ip_version(flow.our_host))
        return engine.classify(layer, fields_of(layer, flow))

    # -- concluding ----------------------------------------------------------------------------------------------

    def applied(self) -> Applied:
        """Settings, credential and policies in force."""
        context = self._inquest.context
        settings = self._settings()
        main, quick = self._choice("main"), self._choice("quick")
        identity, main_mode, quick_mode = context.identity, context.main_mode, context.quick_mode
        users = ANY_USER
        if main.context is not None:
            main_mode, identity = self._translated(main, main_mode_of), self._identity(main)
            users = users_of(main.context)
        if quick.context is not None:
            quick_mode = self._translated(quick, quick_mode_of)
            self._tell_pfs(quick.context, main_mode)
        if settings.guarantee_encryption:
            quick_mode = self._encrypted(quick, quick_mode)
        decided = quick.by or main.by or self._demanded_by or self._transport
        mark = PolicyMark(
            main.key,
            quick.key,
            None if decided is None else decided.id,
            None if self._transport is None else self._transport.id,
        )
        differences = tuple(self._differences)
        return Applied(settings, identity, main_mode, quick_mode, mark, differences, self._inquest.flow, users)

    def _settings(self) -> SecuritySettings:
        """What was asked, raised by what others' filters demand: never lowered."""
        settings, demand, by = self._inquest.settings, self._demand, self._demanded_by
        why = "because policy demands it" if by is None else f"because filter {by.id} {by.name!r} demands it"
        insecure = settings.allow_insecure and not demand.require_security
        guarantee = settings.guarantee_encryption or demand.require_encryption
        if insecure and guarantee:
            insecure = False
        if settings.allow_insecure and not insecure:
            self._differences.append(f"asked that clear text be allowed, applied protection alone, {why}")
        if guarantee and not settings.guarantee_encryption:
            self._differences.append(f"asked for no guarantee of encryption, applied one, {why}")
        if (insecure, guarantee) == (settings.allow_insecure, settings.guarantee_encryption):
            return settings
        return SecuritySettings(guarantee, insecure)

    def _choice(self, which: Literal["main", "quick"]) -> _Choice:
        """The context in force: another's filter, then a callout's choice, then the socket's own key."""
        inquest, demand = self._inquest, self._demand
        layer, types, demanded = (
            ("IKEEXT", MAIN_MODE_TYPES, demand.main_mode_policy)
            if which == "main"
            else ("IPSEC", QUICK_MODE_TYPES, demand.quick_mode_policy)
        )
        asked = None
        if isinstance(inquest.settings, IPsecSettings):
            settings = inquest.settings
            asked = named(settings.main_mode_policy if which == "main" else settings.quick_mode_policy)
        foreign = self._foreign.get(layer)
        key, by = asked, None
        if foreign is not None and foreign.provider_context is not None:
            key, by = foreign.provider_context, foreign
        elif demanded is not None:
            key, by = demanded, self._demanded_by
        if key is None:
            return _Choice()
        try:
            found = find_context(inquest.context.policy, key, types)
        except LocalMisuse as error:
            raise PolicyRefused(str(error), filter_id=None if by is None else by.id) from None
        if key != asked:
            what = f"{which} mode policy"
            wish = f"no {what}" if asked is None else f"the {what} {asked}"
            why = "a callout chose it" if by is None else f"filter {by.id} {by.name!r} weighs more"
            self._differences.append(f"asked for {wish}, applied {key} ({found.name!r}), because {why}")
        return _Choice(found, by)

    def _translated(self, choice: _Choice, translate: Callable[[ProviderContext], Translated]) -> Translated:
        if choice.context is None:
            raise LocalMisuse("there is no policy to apply")
        try:
            return translate(choice.context)
        except LocalMisuse as error:
            raise self._refused(choice, error) from None

    def _identity(self, choice: _Choice) -> Identity:
        identity = self._inquest.context.identity
        return self._translated(choice, lambda context: identity_for(context, identity))

    def _encrypted(self, choice: _Choice, quick_mode: QuickModePolicy) -> QuickModePolicy:
        try:
            return encrypted_only(quick_mode)
        except LocalMisuse as error:
            raise self._refused(choice, error) from None

    def _refused(self, choice: _Choice, error: LocalMisuse) -> LocalMisuse | PolicyRefused:
        """A socket's own wish is its misuse; another's filter is a refusal."""
        if choice.by is None and self._demanded_by is None:
            return error
        by = choice.by or self._demanded_by
        return PolicyRefused(str(error), filter_id=None if by is None else by.id)

    def _tell_pfs(self, context: ProviderContext, main_mode: MainModePolicy) -> None:
        """A rekey runs the key exchange that was latched (RFC 5660); another group cannot be had for it."""
        wanted = pfs_groups(context)
        ours = {(each, *offer.additional) for offer in main_mode.offers for each in offer.key_exchanges}
        if wanted and wanted != ours:
            names = " or ".join(sorted("+".join(each.name for each in group) for group in wanted))
            self._differences.append(
                f"asked for PFS by {names}, applied PFS by the key exchange of the main mode, because that is latched"
            )


def judge_peer(inquest: Inquest, peer: Mapping[Field, FlowValue]) -> None:
    """The same at the ALE layer when it is known who is there; PolicyRefused."""
    engine, flow = inquest.context.policy, inquest.flow
    if engine is None:
        return
    outbound = inquest.direction == "outbound"
    layer = layer_for("ALE_AUTH_CONNECT" if outbound else "ALE_AUTH_RECV_ACCEPT", ip_version(flow.our_host))
    known = dict(peer)
    if outbound and isinstance(inquest.expected, PeerTargetName):
        known[Field.PEER_NAME] = inquest.expected.principal
    verdict = engine.authorize_peer(layer, fields_of(layer, flow, peer=known, secured=True))
    if verdict.is_blocked:
        _refuse(f"the peer at {flow.peer_host} port {flow.peer_port} is not let pass at {layer.name}", verdict)


def explain_flow(inquest: Inquest, peer: Mapping[Field, FlowValue] | None = None) -> tuple[Explanation, ...]:
    """Why the flow is judged as it is: the account of each layer on its way, in that order.

    ``peer``: who proved to be there, of an inbound flow.  LocalMisuse without an engine.
    """
    engine, flow = inquest.context.policy, inquest.flow
    if engine is None:
        raise LocalMisuse("nobody judges this flow: the context has no filtering platform: SecurityContext(policy=...)")
    version = ip_version(flow.our_host)
    outbound = inquest.direction == "outbound"
    way = (
        ("ALE_AUTH_CONNECT", "OUTBOUND_TRANSPORT", "INBOUND_TRANSPORT", "IPSEC_KM_DEMUX")
        if outbound
        else ("INBOUND_TRANSPORT", "OUTBOUND_TRANSPORT", "ALE_AUTH_RECV_ACCEPT")
    )
    known: Mapping[Field, FlowValue] = peer or {}
    if isinstance(inquest.expected, PeerTargetName):
        known = {Field.PEER_NAME: inquest.expected.principal, **known}
    accounts: list[Explanation] = []
    for name in (*way, "IKEEXT", "IPSEC"):
        layer = layer_for(name, version)
        usable = {field: value for field, value in known.items() if field in layer.info.places}
        secured = name in ("INBOUND_TRANSPORT", "ALE_AUTH_RECV_ACCEPT")
        accounts.append(engine.explain(layer, fields_of(layer, flow, peer=usable, secured=secured)))
    return tuple(accounts)


def is_of_socket(item: Filter) -> bool:
    """Whether a filter is one that a socket put there for itself."""
    return item.sublayer == ids.SUBLAYER_SECURE_SOCKET and item.provider == ids.PROVIDER_SECURESOCK


def _refuse(what: str, verdict: Verdict) -> NoReturn:
    decided = verdict.filter
    raise PolicyRefused(f"{what}: {verdict.reason}", filter_id=None if decided is None else decided.id)
