"""From a context's peer entries and an address to the way there: by which standard host, in which mode, as whom.

It must not know sockets, planes, nor how anything is negotiated.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Final

from ..errors import LocalMisuse
from ..keying.contract import StandardHost
from ..sad.spec import Span
from ..types import Address
from ..wire.inet import packed_host
from ..wire.numbers import IpProtocol
from ..wire.udp_encapsulation import NAT_TRAVERSAL_PORT
from .asking import numeric_address
from .peer_entry import PeerEntry, entry_for, entry_of_carrier
from .ports import Route

__all__ = ["route_from", "route_to"]

_PORTS: Final = (0, 65535)

OurAddress = Callable[[Address], Address]
"""Which of our addresses a carrier is reached from."""


def route_to(entries: Iterable[PeerEntry], address: Address, our_address: OurAddress) -> Route | None:
    """The way to an address that the application sends to; None where its own port is spoken to.

    LocalMisuse: an entry that only says who may begin.  OSError: no way to the host.
    """
    entry = entry_for(entries, address[0])
    if entry is None or entry.carrier == "own":
        return None
    gateway = entry.gateway_for(address[0])
    carrier = _at_port(address, gateway, NAT_TRAVERSAL_PORT)
    wanted = packed_host(address[0]), address[1]
    return _route(entry, carrier, our_address(carrier), wanted)


def route_from(entries: Iterable[PeerEntry], carrier: Address, our_address: OurAddress) -> Route | None:
    """The same for whoever begins from ``carrier``; None for one of our own kind."""
    entry = entry_of_carrier(entries, carrier[0])
    if entry is None or entry.carrier == "own":
        return None
    ours = our_address(carrier)
    if entry.carrier == "auto" and NAT_TRAVERSAL_PORT not in (carrier[1], ours[1]):
        return None
    return _route(entry, carrier, ours, None)


def _route(entry: PeerEntry, carrier: Address, ours: Address, wanted: tuple[bytes, int] | None) -> Route:
    host, our_port = numeric_address(carrier)[0], ours[1]
    own = packed_host(ours[0])
    if entry.mode == "tunnel":
        spans = tuple(Span(IpProtocol.UDP, first, last, *_PORTS) for first, last in entry.spans)
        our_hosts = () if entry.assigned else (entry.inner_host or own,)
        sizes = dict.fromkeys(len(each.first) for each in spans)
        standard = StandardHost(
            "tunnel",
            our_hosts,
            entry.inner_port or our_port,
            spans,
            assigned=tuple(sizes) if entry.assigned else (),
            wanted=wanted,
        )
    else:
        peer = packed_host(host)
        spans = (Span(IpProtocol.UDP, peer, peer, *_PORTS),)
        standard = StandardHost("transport", (own,), entry.inner_port or our_port, spans, wanted=wanted)
    # a socket at port 4500 has no other own port to be spoken to
    return Route(carrier, entry.expected(host), standard, entry.carrier == "auto" and ours[1] != NAT_TRAVERSAL_PORT)


def _at_port(address: Address, host: str, port: int) -> Address:
    """``host`` as the application's socket writes it, which sent to ``address``."""
    if host == address[0]:
        return (host, port) if len(address) == 2 else (host, port, 0, address[3])
    is_ipv6 = ipaddress.ip_address(host).version == 6
    if len(address) == 4:
        return (host if is_ipv6 else f"::ffff:{host}", port, 0, 0)
    if is_ipv6:
        raise LocalMisuse(f"{host} is reached over IPv6: make the socket of AF_INET6")
    return host, port
