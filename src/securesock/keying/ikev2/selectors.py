"""Traffic selectors and NAT detection: which flow is meant, and whether both ends see the same addresses.

RFC 7296 2.9, 2.23 and 3.13.  Knows addresses and wire values; nothing of state.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from ...sad.spec import InnerFlow
from ...types import Address
from ...wire.ikev2.payloads import Notify, TrafficSelector, TrafficSelectors
from ...wire.numbers import NotifyType, PayloadType, TrafficSelectorType

__all__ = [
    "canonical_host",
    "exact_flow",
    "flow_selectors",
    "nat_detection",
    "translated",
]


class _Host(NamedTuple):
    """A host as selectors, hashes and people want it."""

    text: str
    packed: bytes
    ts_type: int


@lru_cache(maxsize=256)  # a handshake asks a dozen times for its two addresses
def _host(host: str) -> _Host:
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        # a dual-stack listener sees its IPv4 clients as mapped addresses; on the wire they are IPv4
        address = address.ipv4_mapped or address
    is_ipv4 = isinstance(address, ipaddress.IPv4Address)
    ts_type = TrafficSelectorType.TS_IPV4_ADDR_RANGE if is_ipv4 else TrafficSelectorType.TS_IPV6_ADDR_RANGE
    return _Host(str(address), address.packed, ts_type)


def canonical_host(host: str) -> str:
    """The numeric host without scope, IPv4-mapped addresses as IPv4."""
    return _host(host).text


def _selector(protocol: int, host: str, port: int) -> TrafficSelector:
    _, packed, ts_type = _host(host)
    return TrafficSelector(ts_type, protocol, port, port, packed, packed)


def flow_selectors(flow: InnerFlow, *, initiator_first: bool) -> tuple[TrafficSelectors, TrafficSelectors]:
    """TSi and TSr for one exact flow; TSi is the side that sends this exchange's request (RFC 7296 2.9)."""
    initiator = (_selector(flow.protocol, flow.initiator_host, flow.initiator_port),)
    responder = (_selector(flow.protocol, flow.responder_host, flow.responder_port),)
    first, second = (initiator, responder) if initiator_first else (responder, initiator)
    return TrafficSelectors(PayloadType.TSi, first), TrafficSelectors(PayloadType.TSr, second)


def exact_flow(tsi: TrafficSelectors, tsr: TrafficSelectors, protocol: int) -> InnerFlow | None:
    """The one flow of ``protocol`` that the selectors name, or None: exactly one address and one port a side."""
    initiator, responder = _exact_end(tsi, protocol), _exact_end(tsr, protocol)
    return None if initiator is None or responder is None else InnerFlow(protocol, *initiator, *responder)


def _exact_end(payload: TrafficSelectors, protocol: int) -> tuple[str, int] | None:
    selector = payload.selectors[0]
    if (
        len(payload.selectors) != 1
        or not isinstance(selector, TrafficSelector)
        or selector.protocol != protocol
        or selector.start_address != selector.end_address
        or selector.start_port != selector.end_port
    ):
        return None
    host = str(ipaddress.ip_address(selector.start_address))
    # an IPv4-mapped address is no host's: IPv4 has a selector type of its own
    return (host, selector.start_port) if host == canonical_host(host) else None


def _hash(initiator_spi: bytes, responder_spi: bytes, address: Address) -> bytes:
    # RFC 7296 2.23 fixes SHA-1 here; it hides nothing and proves nothing
    data = initiator_spi + responder_spi + _host(address[0]).packed + address[1].to_bytes(2, "big")
    return hashlib.sha1(data, usedforsecurity=False).digest()


def nat_detection(
    initiator_spi: bytes,
    responder_spi: bytes,
    our_address: Address,
    peer_address: Address,
    source: bytes | None = None,
) -> tuple[Notify, Notify]:
    """NAT_DETECTION_SOURCE_IP and NAT_DETECTION_DESTINATION_IP of a message that we send.

    ``source``: 20 bytes that are no address's, to have the peer encapsulate in UDP whatever is between us.
    """
    source = _hash(initiator_spi, responder_spi, our_address) if source is None else source
    return (
        Notify(NotifyType.NAT_DETECTION_SOURCE_IP, source),
        Notify(NotifyType.NAT_DETECTION_DESTINATION_IP, _hash(initiator_spi, responder_spi, peer_address)),
    )


def translated(
    notifies: Sequence[Notify],
    initiator_spi: bytes,
    responder_spi: bytes,
    our_address: Address,
    peer_address: Address,
) -> bool:
    """Whether the sender of ``notifies`` sees other addresses than we do.  No hashes at all: as if it did not (RFC
    7296 2.23)."""
    source = _hash(initiator_spi, responder_spi, peer_address)
    destination = _hash(initiator_spi, responder_spi, our_address)
    # RFC 7296 2.23: several source hashes may be sent; one that fits is enough
    sources = [each.data for each in notifies if each.notify_type == NotifyType.NAT_DETECTION_SOURCE_IP]
    destinations = [each.data for each in notifies if each.notify_type == NotifyType.NAT_DETECTION_DESTINATION_IP]
    moved_source = bool(sources) and not any(hmac.compare_digest(each, source) for each in sources)
    moved_destination = bool(destinations) and not any(hmac.compare_digest(each, destination) for each in destinations)
    return moved_source or moved_destination
