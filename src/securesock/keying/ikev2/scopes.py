"""What a CHILD_SA with a standard host is for: selectors offered, narrowed and checked, addresses assigned.

RFC 7296 2.9 (narrowing), 2.19 and 3.15 (an address from the peer), 2.23.1 (transport mode where addresses are
translated: either end writes them as it sees them itself, and puts its own view in the place of what it reads).
Knows addresses and wire values, and of a session's state no more than its configuration.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

from ...errors import PeerIncompatible, PeerMisbehaved
from ...sad.spec import InnerFlow, Scope, Span
from ...wire.ikev2.payloads import Configuration, TrafficSelector, TrafficSelectors
from ...wire.inet import packed_host
from ...wire.numbers import ConfigAttribute, ConfigType, IpProtocol, PayloadType, TrafficSelectorType
from ..contract import StandardHost
from .core import Core

__all__ = [
    "agreed_scope",
    "assigned_hosts",
    "configuration_request",
    "flow_of",
    "narrow",
    "offered_selectors",
    "requested_scope",
    "scope_selectors",
    "seen_by",
    "wider_than",
]

_TS_TYPES: Final = {
    4: TrafficSelectorType.TS_IPV4_ADDR_RANGE,
    16: TrafficSelectorType.TS_IPV6_ADDR_RANGE,
}
_ANY_PORT: Final = (0, 65535)
_ASSIGNED: Final[Mapping[int, int]] = {
    ConfigAttribute.INTERNAL_IP4_ADDRESS: 4,
    ConfigAttribute.INTERNAL_IP6_ADDRESS: 17,
}
"""RFC 7296 3.15.1: an address; an address and the length of a prefix."""
MAX_SPANS: Final = 64
"""Selectors of one side that are kept: what an answer narrows ours to, each of ours with each of the peer's."""


def _our_spans(standard: StandardHost) -> tuple[Span, ...]:
    """What of ours the SA may carry.

    In tunnel mode all ports: a fragment has none, and would fall outside of selectors with ports (RFC 4301 7).
    """
    ports = (standard.our_port, standard.our_port) if standard.mode == "transport" else _ANY_PORT
    spans = [Span(IpProtocol.UDP, host, host, *ports) for host in standard.our_hosts]
    spans += [Span(IpProtocol.UDP, bytes(size), b"\xff" * size, *_ANY_PORT) for size in standard.assigned]
    return tuple(spans)


def _written(payload_type: PayloadType, spans: Iterable[Span]) -> TrafficSelectors:
    return TrafficSelectors(
        payload_type,
        tuple(
            TrafficSelector(
                _TS_TYPES[len(each.first)], each.protocol, each.first_port, each.last_port, each.first, each.last
            )
            for each in spans
        ),
    )


def _read(payload: TrafficSelectors) -> list[Span]:
    """The selectors that can be meant for UDP; OPAQUE ports (RFC 4301 4.4.1.1) are nobody's here."""
    return [
        Span(each.protocol, each.start_address, each.end_address, each.start_port, each.end_port)
        for each in payload.selectors
        if isinstance(each, TrafficSelector)
        and each.protocol in (0, IpProtocol.UDP)
        and each.start_port <= each.end_port
        and each.start_address <= each.end_address
    ]


def _at(spans: Iterable[Span], host: bytes) -> list[Span]:
    """RFC 7296 2.23.1: the address that we see, in the place of the one that the other end sees."""
    return [each._replace(first=host, last=host) for each in spans if each.first == each.last]


def _intersection(one: Span, other: Span) -> Span | None:
    if len(one.first) != len(other.first):
        return None
    met = Span(
        one.protocol or other.protocol,
        max(one.first, other.first),
        min(one.last, other.last),
        max(one.first_port, other.first_port),
        min(one.last_port, other.last_port),
    )
    fits = met.first <= met.last and met.first_port <= met.last_port and other.protocol in (0, met.protocol)
    return met if fits else None


def narrow(offered: Iterable[Span], allowed: tuple[Span, ...]) -> tuple[Span, ...]:
    """What of ``offered`` is allowed (RFC 7296 2.9), in the order of the offer."""
    found: dict[Span, None] = {}
    for each in offered:
        for other in allowed:
            met = _intersection(each, other)
            if met is not None and len(found) < MAX_SPANS:
                found[met] = None
    return tuple(found)


def offered_selectors(standard: StandardHost) -> tuple[TrafficSelectors, TrafficSelectors]:
    """TSi and TSr of a request of ours."""
    return _written(PayloadType.TSi, _our_spans(standard)), _written(PayloadType.TSr, standard.peers)


def requested_scope(standard: StandardHost, our_hosts: tuple[bytes, ...]) -> Scope:
    """What a further CHILD_SA is asked for, whose inner addresses are the first one's."""
    ours = _our_spans(standard._replace(our_hosts=our_hosts, assigned=()))
    return Scope(standard.mode, our_hosts, standard.our_port, ours, standard.peers)


def scope_selectors(scope: Scope, *, ours_first: bool) -> tuple[TrafficSelectors, TrafficSelectors]:
    """TSi and TSr for what was agreed on; TSi is the side that sends this exchange's request."""
    first, second = (scope.ours, scope.peers) if ours_first else (scope.peers, scope.ours)
    return _written(PayloadType.TSi, first), _written(PayloadType.TSr, second)


def seen_by(core: Core, standard: StandardHost, translated: bool) -> tuple[bytes, bytes] | None:
    """Our and the peer's address as we see them, where RFC 7296 2.23.1 puts them in the place of what the peer sees:
    in transport mode behind a translator on either side."""
    if standard.mode != "transport" or not translated:
        return None
    ends = core.config.our_address, core.config.peer_address
    ours, peers = (packed_host(each[0]) for each in ends)
    return ours, peers


def agreed_scope(
    standard: StandardHost,
    ours: TrafficSelectors,
    peers: TrafficSelectors,
    our_hosts: tuple[bytes, ...],
    seen: tuple[bytes, bytes] | None,
) -> Scope | None:
    """What is left of the selectors after ours were held against them; None when nothing is.

    ``our_hosts``: our inner addresses.  ``seen``: our and the peer's address as we see them, where addresses are
    translated and the mode is transport (RFC 7296 2.23.1), else None.
    """
    our_spans, peer_spans = _read(ours), _read(peers)
    if seen is not None:
        our_spans, peer_spans = _at(our_spans, seen[0]), _at(peer_spans, seen[1])
    wanted = tuple(each for host in our_hosts for each in _our_spans(standard._replace(our_hosts=(host,), assigned=())))
    left = narrow(our_spans, wanted), narrow(peer_spans, standard.peers)
    return Scope(standard.mode, our_hosts, standard.our_port, *left) if all(left) else None


def wider_than(scope: Scope, ours: TrafficSelectors, peers: TrafficSelectors) -> bool:
    """Whether a rekey's selectors hold all that ``scope`` has (RFC 7296 2.9.2: a rekey narrows nothing)."""
    our_spans, peer_spans = _read(ours), _read(peers)
    if scope.mode == "transport":
        # one address a side (RFC 7296 2.23.1), whatever the other end sees there
        our_spans, peer_spans = _at(our_spans, scope.ours[0].first), _at(peer_spans, scope.peers[0].first)
    return set(narrow(our_spans, scope.ours)) >= set(scope.ours) and set(narrow(peer_spans, scope.peers)) >= set(
        scope.peers
    )


def configuration_request(standard: StandardHost) -> Configuration | None:
    """RFC 7296 2.19: an address of each family that is to be assigned; None where none is."""
    kinds = {4: ConfigAttribute.INTERNAL_IP4_ADDRESS, 16: ConfigAttribute.INTERNAL_IP6_ADDRESS}
    wanted = tuple((int(kinds[size]), b"") for size in standard.assigned)
    return Configuration(ConfigType.CFG_REQUEST, wanted) if wanted else None


def assigned_hosts(standard: StandardHost, reply: Configuration | None) -> tuple[bytes, ...]:
    """The addresses that the peer gave us, one of each family at most.

    PeerIncompatible: none.  PeerMisbehaved: what is given is no address.
    """
    found: dict[int, bytes] = {}
    attributes = reply.attributes if reply is not None and reply.config_type == ConfigType.CFG_REPLY else ()
    for kind, value in attributes:
        size = _ASSIGNED.get(kind)
        if size is not None and value:
            if len(value) != size:
                raise PeerMisbehaved(f"the peer assigned us an address of {len(value)} bytes")
            found.setdefault(size // 4 * 4, value[: size // 4 * 4])
    if standard.assigned and not any(size in found for size in standard.assigned):
        raise PeerIncompatible("the peer assigned us no address: it has no pool for us, or inner= should be an address")
    return tuple(found[size] for size in standard.assigned if size in found)


def flow_of(scope: Scope, *, we_initiated: bool, wanted: tuple[bytes, int] | None = None) -> InnerFlow:
    """The flow that people are shown: the one ``wanted``, else the first that the scope has room for."""
    host, port = wanted or (scope.peers[0].first, scope.peers[0].first_port)
    our_end = (str(ipaddress.ip_address(scope.our_host(host, port) or scope.ours[0].first)), scope.our_port)
    peer_end = (str(ipaddress.ip_address(host)), port)
    ends = (*our_end, *peer_end) if we_initiated else (*peer_end, *our_end)
    return InnerFlow(IpProtocol.UDP, *ends)
