"""What keying hands to a plane when an SA is ready: one direction of an ESP SA pair.

Knows nothing of how it was negotiated nor of what carries it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from ..crypto.kdf import DirectionKeys
from ..crypto.suites import EspSuite
from ..types import Lifetimes

__all__ = ["InnerFlow", "Mode", "SaSpec", "Scope", "Span"]

Mode: TypeAlias = Literal["transport", "tunnel"]
"""RFC 4301 3.2: transport mode protects what an IP packet carries, tunnel mode a whole inner packet."""


class InnerFlow(NamedTuple):
    """The one flow that a transport mode SA was negotiated for, in the initiator's view.

    Behind translation these are the addresses that the initiator connected from and to, which no other host need see.
    Hosts are numeric strings.
    """

    protocol: int
    initiator_host: str
    initiator_port: int
    responder_host: str
    responder_port: int


class Span(NamedTuple):
    """One traffic selector (RFC 4301 4.4.1.1): a range of addresses and one of ports, both ends included.

    ``protocol`` 0 is any.  Addresses are 4 or 16 bytes.
    """

    protocol: int
    first: bytes
    last: bytes
    first_port: int
    last_port: int

    def covers(self, host: bytes, port: int) -> bool:
        """Whether packets of UDP with this address and port on its side are meant."""
        return (
            len(host) == len(self.first)
            and self.first <= host <= self.last
            and self.first_port <= port <= self.last_port
            and self.protocol in (0, 17)
        )


class Scope(NamedTuple):
    """What an SA with a standard IPsec host carries of one socket: its own inner addresses and port on our side, what
    the selectors allow on the peer's.  Everything as our end sees it, where addresses are translated (RFC 7296
    2.23.1)."""

    mode: Mode
    our_hosts: tuple[bytes, ...]
    our_port: int
    ours: tuple[Span, ...]
    peers: tuple[Span, ...]

    def our_host(self, peer_host: bytes, peer_port: int) -> bytes | None:
        """Which of our addresses packets to there come from; None where the selectors do not allow them."""
        if any(each.covers(peer_host, peer_port) for each in self.peers):
            for host in self.our_hosts:
                if len(host) == len(peer_host) and any(each.covers(host, self.our_port) for each in self.ours):
                    return host
        return None


@dataclass(frozen=True, slots=True)
class SaSpec:
    """One direction of an ESP SA (RFC 4301 4.4.2): SPI, transforms, keys, limits and the flow it is for.

    ``sa_id`` is the same number for both directions of a pair and never repeats in a process.
    ``we_initiated`` is about the IKE_SA's first initiator (whose ports come first in ``flow``), not about a rekey.
    ``scope``: the peer is a standard host and the SA carries all of this; None for exactly ``flow`` between our kind.
    """

    spi: int
    suite: EspSuite
    keys: DirectionKeys = field(repr=False)
    lifetimes: Lifetimes
    sa_id: int
    flow: InnerFlow
    we_initiated: bool
    scope: Scope | None = None

    @property
    def our_port(self) -> int:
        """Our inner port as both ends carry it."""
        return self.flow.initiator_port if self.we_initiated else self.flow.responder_port

    @property
    def peer_port(self) -> int:
        """The peer's inner port as both ends carry it."""
        return self.flow.responder_port if self.we_initiated else self.flow.initiator_port
