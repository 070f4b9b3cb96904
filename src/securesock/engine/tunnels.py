"""Through which gateway the filtering platform has a flow go: filters with a tunnel callout, and the tunnel policy that
they name.

A tunnel policy says where both ends of the tunnel are; the filters that name it say for which addresses.  Together they
are what a PeerEntry is.  This module must not know sockets, nor how anything is negotiated.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final, NamedTuple
from uuid import UUID

from ..errors import LocalMisuse, PolicyRefused
from ..policy import identifiers as ids
from ..policy.enumeration import ContextTemplate, FilterTemplate
from ..policy.fields import Field
from ..policy.filter_engine import FilterEngine
from ..policy.ipsec import TunnelPolicy
from ..policy.layers import Layer
from ..policy.model import Filter, ProviderContext
from ..policy.values import DataType, MatchType, V4Mask, V6Mask, Value
from ..types import Address, Flow
from .applied import Applied
from .asking import encrypted_only, numeric_address
from .peer_entry import PeerEntry
from .policy_keys import TUNNEL_TYPES, quick_mode_of, tunnel_ends
from .verdicts import fields_of, ip_version, layer_for

__all__ = ["Tunnel", "is_tunnelled", "through", "tunnel_for", "tunnels_from"]

_ANYWHERE: Final = {4: "0.0.0.0/0", 6: "::/0"}
_OUTBOUND: Final = {
    Layer.OUTBOUND_TRANSPORT_V4: ids.CALLOUT_IPSEC_OUTBOUND_TUNNEL_V4,
    Layer.OUTBOUND_TRANSPORT_V6: ids.CALLOUT_IPSEC_OUTBOUND_TUNNEL_V6,
}


class Tunnel(NamedTuple):
    """The tunnel policy, and the way that it and the filters naming it are."""

    context: ProviderContext
    entry: PeerEntry


def tunnel_for(engine: FilterEngine, flow: Flow) -> Tunnel | None:
    """The tunnel that an outbound filter has the flow go through; None for none, or for what is no tunnel that anybody
    could prove to end: then the flow is refused, as it goes nowhere that the filter demands."""
    layer = layer_for("OUTBOUND_TRANSPORT", ip_version(flow.our_host))
    demand = engine.classify(layer, fields_of(layer, flow)).demand
    if demand is None or demand.tunnel_policy is None:
        return None
    ends = tunnel_ends(engine, demand.tunnel_policy)
    if not ends:
        return None
    context = engine.provider_contexts.find(demand.tunnel_policy)
    return _tunnel(context, ends[0], (engine.filters.find(demand.tunnel_filter),))


def is_tunnelled(engine: FilterEngine, address: Address) -> bool:
    """Whether a filter has datagrams to ``address`` go through a tunnel, from wherever they come."""
    host, port = numeric_address(address)[:2]
    anywhere = "::" if ip_version(host) == 6 else "0.0.0.0"
    return tunnel_for(engine, Flow(socket.IPPROTO_UDP, anywhere, 0, host, port)) is not None


def tunnels_from(engine: FilterEngine) -> tuple[Tunnel, ...]:
    """Every tunnel that policy has, by each of its remote ends: for whoever begins from there."""
    contexts = [
        context
        for kind in TUNNEL_TYPES
        for context in engine.provider_contexts.enumerate(ContextTemplate(type=kind))
        if isinstance(context.content, TunnelPolicy)
    ]
    if not contexts:
        return ()  # and no filter is looked at: there may be very many
    named: dict[UUID, list[Filter]] = {}
    for layer, callout in _OUTBOUND.items():
        for each in engine.filters.enumerate(FilterTemplate(layer=layer, callout=callout)):
            if each.provider_context is not None:
                named.setdefault(each.provider_context, []).append(each)
    found = [
        _tunnel(context, remote, named[context.key])
        for context in contexts
        if context.key in named
        for remote in tunnel_ends(engine, context.key)
    ]
    return tuple(each for each in found if each is not None)


def through(tunnel: Tunnel, applied: Applied) -> Applied:
    """What policy made of the flow to the gateway, with the quick mode of the tunnel.  PolicyRefused: it cannot be."""
    try:
        quick_mode = quick_mode_of(tunnel.context)
        if applied.settings.guarantee_encryption:
            quick_mode = encrypted_only(quick_mode)
    except LocalMisuse as error:
        raise PolicyRefused(str(error), filter_id=applied.mark.filter_id) from None
    return replace(applied, quick_mode=quick_mode, mark=applied.mark._replace(quick_mode_policy=tunnel.context.key))


def _tunnel(context: ProviderContext, remote: str, filters: Iterable[Filter]) -> Tunnel | None:
    content = context.content
    fqdn = content.endpoints.remote_fqdn if isinstance(content, TunnelPolicy) else ""
    networks = dict.fromkeys(network for each in filters for network in _networks(each))
    try:
        return Tunnel(context, PeerEntry(tuple(networks), gateway=remote, peer=f"host/{fqdn}" if fqdn else None))
    except LocalMisuse:
        return None  # the platform stores any text as a host's name


def _networks(of: Filter) -> tuple[str, ...]:
    """The addresses that a filter is for: whatever its version has, where it says so in another way than by networks
    and addresses (then it still decides about each flow)."""
    version = 4 if of.layer is Layer.OUTBOUND_TRANSPORT_V4 else 6
    conditions = [each for each in of.conditions if each.field is Field.IP_REMOTE_ADDRESS]
    found = [_network(each.value) for each in conditions if each.match is MatchType.EQUAL]
    if not conditions or len(found) < len(conditions) or None in found:
        return (_ANYWHERE[version],)
    return tuple(each for each in found if each is not None)


def _network(value: Value) -> str | None:
    data = value.data
    if isinstance(data, V4Mask):
        return str(IPv4Network((data.address, str(ip_address(data.mask))), strict=False))
    if isinstance(data, V6Mask):
        return str(IPv6Network((data.address, data.prefix_length), strict=False))
    if value.type in (DataType.UINT32, DataType.BYTE_ARRAY16) and isinstance(data, (int, bytes)):
        return str(ip_address(data))
    return None
