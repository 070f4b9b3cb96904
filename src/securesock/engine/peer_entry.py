"""PeerEntry: which addresses are reached over IPsec through which standard host, and how.

Entries stand in a SecurityContext, so that a socket's own three lines stay as they are.  This module must not know
sockets, nor how anything is negotiated.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ..errors import LocalMisuse
from ..identity.names import PeerTargetName, expected_name_for_host, parse_peer_target_name
from ..types import ANY_TRUSTED_PEER, AnyTrustedPeer
from ..wire.inet import packed_host

if TYPE_CHECKING:
    from ..sad.spec import Mode

__all__ = ["Carrier", "PeerEntry", "entry_for", "entry_of_carrier"]

Carrier: TypeAlias = Literal["own", "4500", "auto"]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_CARRIERS: Final = ("own", "4500", "auto")
_MODES: Final = ("transport", "tunnel")
ASSIGNED: Final = "assigned"


@lru_cache(maxsize=1024)  # a socket asks for the same few addresses again and again
def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise LocalMisuse(
            f"{text!r} is no address or network: give numbers, such as '192.0.2.7' or '192.0.2.0/24'; {error}"
        ) from None


@lru_cache(maxsize=4096)
def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address


@dataclass(frozen=True, slots=True)
class PeerEntry:
    """Datagrams to ``networks`` go through IPsec with a standard host (strongSwan, libreswan, a router, Windows).

    ``networks``: numeric addresses or networks that the application sends to, one or a tuple of them.
    ``gateway``: the IPsec host in front of them, a numeric address; it may be a network where only the peers begin.
    None: each host of ``networks`` is its own.
    ``carrier``: "own" negotiates from and to the application's own ports, as between two ends of this package (and is
    what an address without an entry has); "4500" speaks UDP encapsulation to port 4500, which every standard host
    knows; "auto" tries the own port and after a second 4500, and remembers which was answered.  Left out: "4500" with a
    gateway or tunnel mode, else "auto".
    ``mode``: "tunnel" packs whole IP packets, "transport" what they carry.  Left out: "tunnel" with a gateway.
    ``inner``: in tunnel mode our own address inside of it; "assigned": the peer gives one (configuration payloads).
    Left out: the socket's own address.
    ``inner_port``: our port inside, where it is not the socket's own: of one bound to 4500 so that peers can begin.
    ``peer``: the peer target name that whoever is there must prove.  Left out: the gateway's or host's own address.

    LocalMisuse: what is no address, network or name, and what contradicts itself.
    """

    networks: str | tuple[str, ...]
    gateway: str | None = field(default=None, kw_only=True)
    carrier: Carrier | None = field(default=None, kw_only=True)
    mode: Mode | None = field(default=None, kw_only=True)
    inner: str | None = field(default=None, kw_only=True)
    inner_port: int | None = field(default=None, kw_only=True)
    peer: str | AnyTrustedPeer | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        networks = (self.networks,) if isinstance(self.networks, str) else tuple(self.networks)
        if not networks:
            raise LocalMisuse("a peer entry is for one network at least")
        object.__setattr__(self, "networks", networks)
        mode: Mode = self.mode or ("tunnel" if self.gateway is not None or self.inner is not None else "transport")
        object.__setattr__(self, "mode", mode)
        if self.carrier is None:
            object.__setattr__(self, "carrier", "4500" if mode == "tunnel" else "auto")
        self._check()

    def _check(self) -> None:
        for each in self.networks:
            _network(each)
        if self.gateway is not None:
            _network(self.gateway)
        if self.carrier not in _CARRIERS:
            raise LocalMisuse(f"there is no carrier {self.carrier!r}; choose one of {', '.join(_CARRIERS)}")
        if self.mode not in _MODES:
            raise LocalMisuse(f"there is no mode {self.mode!r}; choose one of {', '.join(_MODES)}")
        if self.mode == "tunnel" and self.carrier != "4500":
            raise LocalMisuse("tunnel mode is for standard hosts: leave carrier out, or say carrier='4500'")
        if self.mode == "transport" and self.gateway is not None:
            raise LocalMisuse("what is behind a gateway is reached in tunnel mode: leave mode or gateway out")
        if self.mode == "transport" and self.inner is not None:
            raise LocalMisuse("in transport mode nothing is inside: leave inner out, or say mode='tunnel'")
        if self.inner not in (None, ASSIGNED):
            try:
                packed_host(self.inner)
            except ValueError:
                raise LocalMisuse(f"{self.inner!r} is no inner address: give numbers, or 'assigned'") from None
        if self.carrier == "own" and self.inner_port is not None:
            raise LocalMisuse("on the own carrier the port is the socket's: leave inner_port out")
        if self.inner_port is not None and not 0 < self.inner_port < 65536:
            raise LocalMisuse(f"{self.inner_port!r} is no port: give a number from 1 to 65535")
        if isinstance(self.peer, str):
            parse_peer_target_name(self.peer)

    @property
    def assigned(self) -> bool:
        """Whether the peer gives us our inner address."""
        return self.inner == ASSIGNED

    @property
    def inner_host(self) -> bytes | None:
        """Our inner address, 4 or 16 bytes, where it is said."""
        return None if self.inner is None or self.assigned else packed_host(self.inner)

    @property
    def spans(self) -> tuple[tuple[bytes, bytes], ...]:
        """First and last address of each network."""
        return tuple((each[0].packed, each[-1].packed) for each in map(_network, self.networks))

    def covers(self, host: str) -> bool:
        """Whether the application means this entry when it sends to ``host``."""
        return any(_address(host) in _network(each) for each in self.networks)

    def is_reached_at(self, host: str) -> bool:
        """Whether the IPsec host of this entry may be the one at ``host``."""
        return self.covers(host) if self.gateway is None else _address(host) in _network(self.gateway)

    def gateway_for(self, host: str) -> str:
        """Whom to begin with for ``host``; LocalMisuse where only the peer can begin."""
        if self.gateway is None:
            return host
        network = _network(self.gateway)
        if network.num_addresses != 1:
            raise LocalMisuse(f"no host of {self.gateway} has begun, and it does not say which one to begin with")
        return str(network[0])

    def expected(self, gateway: str) -> PeerTargetName | AnyTrustedPeer:
        """Who has to be at ``gateway``."""
        if self.peer is None:
            return expected_name_for_host(gateway)
        return ANY_TRUSTED_PEER if isinstance(self.peer, AnyTrustedPeer) else parse_peer_target_name(self.peer)


def entry_for(entries: Iterable[PeerEntry], host: str) -> PeerEntry | None:
    """The first entry that covers ``host``."""
    return next((each for each in entries if each.covers(host)), None)


def entry_of_carrier(entries: Iterable[PeerEntry], host: str) -> PeerEntry | None:
    """The first entry whose IPsec host may be the one at ``host``."""
    return next((each for each in entries if each.is_reached_at(host)), None)
