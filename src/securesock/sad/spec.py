"""What keying hands to a plane when an SA is ready: one direction of an ESP SA pair.

Knows nothing of how it was negotiated nor of what carries it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from ..crypto.kdf import DirectionKeys
from ..crypto.suites import EspSuite
from ..types import Lifetimes

__all__ = ["InnerFlow", "SaSpec"]


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


@dataclass(frozen=True, slots=True)
class SaSpec:
    """One direction of an ESP SA (RFC 4301 4.4.2): SPI, transforms, keys, limits and the flow it is for.

    ``sa_id`` is the same number for both directions of a pair and never repeats in a process.
    ``we_initiated`` is about the IKE_SA's first initiator (whose ports come first in ``flow``), not about a rekey.
    """

    spi: int
    suite: EspSuite
    keys: DirectionKeys = field(repr=False)
    lifetimes: Lifetimes
    sa_id: int
    flow: InnerFlow
    we_initiated: bool

    @property
    def our_port(self) -> int:
        """Our inner port as both ends carry it."""
        return self.flow.initiator_port if self.we_initiated else self.flow.responder_port

    @property
    def peer_port(self) -> int:
        """The peer's inner port as both ends carry it."""
        return self.flow.responder_port if self.we_initiated else self.flow.initiator_port
