"""What the built-in IPsec callouts answer, and how any callout is asked.

On Windows a callout is a driver's function.  Here it is a pure function of the flow's values, the filter and its
context; the built-in ones say what IPsec must do for the traffic (an IPsecDemand) and whether what arrived may pass.
Whether a packet was protected is told by the field FLAGS (IS_IPSEC_SECURED).  They do not remember flows: "once
secured, a connection stays secured" is a demand that the caller keeps.  Sources: FWPM_CALLOUT_IPSEC_* and
FWPM_CONTEXT_* of fwpmu.h.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntFlag
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from . import identifiers as ids
from .fields import Field
from .ipsec import ClassifyOptions
from .ipsec_numbers import ClassifyOptionType
from .layers import Layer, Slots
from .model import ActionType, Callout, CalloutFlag, Filter, FilterFlag, ProviderContext
from .values import ConditionFlag

__all__ = [
    "BUILT_IN_CALLOUTS",
    "BUILT_IN_FUNCTIONS",
    "AleContext",
    "CalloutAnswer",
    "CalloutCall",
    "CalloutFunction",
    "IPsecDemand",
    "InboundContext",
    "OutboundContext",
]


class InboundContext(IntFlag):
    """FWPM_CONTEXT_IPSEC_INBOUND_*: raw contexts of filters at the inbound transport layers."""

    PASSTHRU = 0x1
    PERSIST_CONNECTION_SECURITY = 0x2
    SECURITY_REALM_ID = 0x4


class OutboundContext(IntFlag):
    """FWPM_CONTEXT_IPSEC_OUTBOUND_*: raw contexts of filters at the outbound transport layers."""

    NEGOTIATE_DISCOVER = 0x1
    SUPPRESS_NEGOTIATION = 0x2
    SECURITY_REALM_ID = 0x4


class AleContext(IntFlag):
    """FWPM_CONTEXT_ALE_*: raw contexts of filters at the ALE connect and accept layers."""

    REQUIRE_IPSEC_SECURITY = 0x2
    LAZY_SD_EVALUATION = 0x4
    REQUIRE_IPSEC_ENCRYPTION = 0x8
    ALLOW_FIRST_INBOUND_PKT_UNENCRYPTED = 0x10
    ALLOW_AUTH_FW = 0x20


@dataclass(frozen=True, slots=True)
class IPsecDemand:
    """What callouts ask of IPsec for one flow; several demands add up, and none takes away what another asked.

    ``transport_filter`` and ``tunnel_filter``: ids of the filters whose SAs are meant, 0 for none.  ``discover``: may
    start in clear while it negotiates.  ``persist``: once secured, clear packets are refused.
    """

    transport_filter: int = 0
    tunnel_filter: int = 0
    tunnel_policy: UUID | None = None
    require_security: bool = False
    require_encryption: bool = False
    discover: bool = False
    suppress_negotiation: bool = False
    persist: bool = False
    allow_first_inbound_unencrypted: bool = False
    allow_auth_fw: bool = False
    lazy_sd_evaluation: bool = False
    security_flags: int = 0
    main_mode_policy: UUID | None = None
    quick_mode_policy: UUID | None = None

    def joined(self, other: IPsecDemand) -> IPsecDemand:
        """Both demands; where they name different things, this one's, which was made by a higher filter."""
        merged = {}
        for item in fields(self):
            ours, theirs = getattr(self, item.name), getattr(other, item.name)
            merged[item.name] = ours | theirs if item.name == "security_flags" else ours or theirs
        return IPsecDemand(**merged)


class CalloutCall(NamedTuple):
    """What a callout is shown.  ``may_write`` False: a block is a veto, a permit changes nothing."""

    layer: Layer
    slots: Slots
    filter: Filter
    context: ProviderContext | None
    may_write: bool

    def value(self, field: Field) -> object:
        """The flow's value of a field, as LayerInfo.slots_of made it; None if it is absent or the layer has none."""
        place = self.layer.info.places.get(field)
        return None if place is None else self.slots[place]


class CalloutAnswer(NamedTuple):
    """PERMIT, BLOCK or CONTINUE; hard if a lower sublayer must not change it."""

    action: ActionType
    is_hard: bool = False
    demand: IPsecDemand | None = None


CalloutFunction: TypeAlias = Callable[[CalloutCall], CalloutAnswer]


def _is_secured(call: CalloutCall) -> bool:
    flags = call.value(Field.FLAGS)
    return isinstance(flags, int) and bool(flags & ConditionFlag.IS_IPSEC_SECURED)


def _outbound_transport(call: CalloutCall) -> CalloutAnswer:
    context = call.filter.raw_context
    no_acquire = bool(call.filter.flags & FilterFlag.IPSEC_NO_ACQUIRE_INITIATE)
    demand = IPsecDemand(
        transport_filter=call.filter.id,
        require_security=not context & OutboundContext.NEGOTIATE_DISCOVER,
        discover=bool(context & OutboundContext.NEGOTIATE_DISCOVER),
        suppress_negotiation=no_acquire or bool(context & OutboundContext.SUPPRESS_NEGOTIATION),
    )
    return CalloutAnswer(ActionType.PERMIT, demand=demand)


def _inbound_transport(call: CalloutCall) -> CalloutAnswer:
    context = call.filter.raw_context
    persist = bool(context & InboundContext.PERSIST_CONNECTION_SECURITY)
    demand = IPsecDemand(transport_filter=call.filter.id, persist=persist)
    may_pass = _is_secured(call) or persist or bool(context & InboundContext.PASSTHRU)
    return CalloutAnswer(ActionType.PERMIT if may_pass else ActionType.BLOCK, demand=demand)


def _tunnel_demand(call: CalloutCall) -> IPsecDemand:
    policy = None if call.context is None else call.context.key
    return IPsecDemand(tunnel_filter=call.filter.id, tunnel_policy=policy, require_security=True)


def _outbound_tunnel(call: CalloutCall) -> CalloutAnswer:
    return CalloutAnswer(ActionType.PERMIT, demand=_tunnel_demand(call))


def _inbound_tunnel(call: CalloutCall) -> CalloutAnswer:
    action = ActionType.PERMIT if _is_secured(call) else ActionType.BLOCK
    return CalloutAnswer(action, demand=_tunnel_demand(call))


def _ale_demand(call: CalloutCall) -> IPsecDemand:
    context = call.filter.raw_context
    encryption = bool(context & AleContext.REQUIRE_IPSEC_ENCRYPTION)
    return IPsecDemand(
        require_security=encryption or bool(context & AleContext.REQUIRE_IPSEC_SECURITY),
        require_encryption=encryption,
        allow_first_inbound_unencrypted=bool(context & AleContext.ALLOW_FIRST_INBOUND_PKT_UNENCRYPTED),
        allow_auth_fw=bool(context & AleContext.ALLOW_AUTH_FW),
        lazy_sd_evaluation=bool(context & AleContext.LAZY_SD_EVALUATION),
    )


def _initiate_secure(call: CalloutCall) -> CalloutAnswer:
    return CalloutAnswer(ActionType.PERMIT if _is_secured(call) else ActionType.BLOCK, demand=_ale_demand(call))


def _ale_connect(call: CalloutCall) -> CalloutAnswer:
    return CalloutAnswer(ActionType.PERMIT, demand=_ale_demand(call))


def _let_pass(call: CalloutCall) -> CalloutAnswer:
    return CalloutAnswer(ActionType.PERMIT)


def _set_options(call: CalloutCall) -> CalloutAnswer:
    """Set classify options on the flow; a security level can only be raised, so ALLOW_INSECURE is not taken over."""
    content = None if call.context is None else call.context.content
    options: dict[ClassifyOptionType, int | UUID] = {}
    if isinstance(content, ClassifyOptions):
        options = {option.type: option.value for option in content.options}
    flags = options.get(ClassifyOptionType.SECURE_SOCKET_SECURITY_FLAGS, 0)
    main_mode = options.get(ClassifyOptionType.SECURE_SOCKET_AUTHIP_MM_POLICY_KEY)
    quick_mode = options.get(ClassifyOptionType.SECURE_SOCKET_AUTHIP_QM_POLICY_KEY)
    guarantee = isinstance(flags, int) and bool(flags & 0x1)
    demand = IPsecDemand(
        security_flags=0x1 if guarantee else 0,
        require_encryption=guarantee,
        main_mode_policy=main_mode if isinstance(main_mode, UUID) else None,
        quick_mode_policy=quick_mode if isinstance(quick_mode, UUID) else None,
    )
    return CalloutAnswer(ActionType.CONTINUE, demand=demand)


# (name, layer without version, keys of V4 and V6, function, uses a provider context)
_TABLE: Final[tuple[tuple[str, str, UUID, UUID, CalloutFunction, bool], ...]] = (
    (
        "IPsec inbound transport",
        "INBOUND_TRANSPORT",
        ids.CALLOUT_IPSEC_INBOUND_TRANSPORT_V4,
        ids.CALLOUT_IPSEC_INBOUND_TRANSPORT_V6,
        _inbound_transport,
        False,
    ),
    (
        "IPsec outbound transport",
        "OUTBOUND_TRANSPORT",
        ids.CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4,
        ids.CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V6,
        _outbound_transport,
        False,
    ),
    (
        "IPsec inbound tunnel",
        "INBOUND_TRANSPORT",
        ids.CALLOUT_IPSEC_INBOUND_TUNNEL_V4,
        ids.CALLOUT_IPSEC_INBOUND_TUNNEL_V6,
        _inbound_tunnel,
        True,
    ),
    (
        "IPsec outbound tunnel",
        "OUTBOUND_TRANSPORT",
        ids.CALLOUT_IPSEC_OUTBOUND_TUNNEL_V4,
        ids.CALLOUT_IPSEC_OUTBOUND_TUNNEL_V6,
        _outbound_tunnel,
        True,
    ),
    (
        "IPsec forward inbound tunnel",
        "IPFORWARD",
        ids.CALLOUT_IPSEC_FORWARD_INBOUND_TUNNEL_V4,
        ids.CALLOUT_IPSEC_FORWARD_INBOUND_TUNNEL_V6,
        _inbound_tunnel,
        True,
    ),
    (
        "IPsec forward outbound tunnel",
        "IPFORWARD",
        ids.CALLOUT_IPSEC_FORWARD_OUTBOUND_TUNNEL_V4,
        ids.CALLOUT_IPSEC_FORWARD_OUTBOUND_TUNNEL_V6,
        _outbound_tunnel,
        True,
    ),
    (
        "IPsec inbound initiate secure",
        "ALE_AUTH_RECV_ACCEPT",
        ids.CALLOUT_IPSEC_INBOUND_INITIATE_SECURE_V4,
        ids.CALLOUT_IPSEC_INBOUND_INITIATE_SECURE_V6,
        _initiate_secure,
        False,
    ),
    (
        "IPsec inbound tunnel accept",
        "ALE_AUTH_RECV_ACCEPT",
        ids.CALLOUT_IPSEC_INBOUND_TUNNEL_ALE_ACCEPT_V4,
        ids.CALLOUT_IPSEC_INBOUND_TUNNEL_ALE_ACCEPT_V6,
        _let_pass,
        True,
    ),
    (
        "IPsec connect",
        "ALE_AUTH_CONNECT",
        ids.CALLOUT_IPSEC_ALE_CONNECT_V4,
        ids.CALLOUT_IPSEC_ALE_CONNECT_V6,
        _ale_connect,
        False,
    ),
    (
        "IPsec DoS protection",
        "IPFORWARD",
        ids.CALLOUT_IPSEC_DOSP_FORWARD_V4,
        ids.CALLOUT_IPSEC_DOSP_FORWARD_V6,
        _let_pass,
        True,
    ),
    (
        "Set options at connect",
        "ALE_AUTH_CONNECT",
        ids.CALLOUT_SET_OPTIONS_AUTH_CONNECT_LAYER_V4,
        ids.CALLOUT_SET_OPTIONS_AUTH_CONNECT_LAYER_V6,
        _set_options,
        True,
    ),
)


def _built_in() -> tuple[tuple[Callout, ...], dict[UUID, CalloutFunction]]:
    objects: list[Callout] = []
    functions: dict[UUID, CalloutFunction] = {}
    for name, layer, v4, v6, function, uses_context in _TABLE:
        for version, key in ((4, v4), (6, v6)):
            flags = CalloutFlag.USES_PROVIDER_CONTEXT if uses_context else 0
            objects.append(Callout(f"{name} (IPv{version})", layer=Layer[f"{layer}_V{version}"], key=key, flags=flags))
            functions[key] = function
    return tuple(objects), functions


BUILT_IN_CALLOUTS, BUILT_IN_FUNCTIONS = _built_in()
