"""One CHILD_SA as keying sees it: SPIs, suite, flow, and the rekeys that would replace it.

RFC 7296 1.3.1, 2.8.1 and 2.17.  Packets, counters and replay windows are the SA database's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from sys import intern

from ...crypto.kdf import DirectionKeys
from ...crypto.suites import EspSuite
from ...sad.spec import InnerFlow, SaSpec, Scope
from ...types import Lifetimes
from .attempts import Attempt

__all__ = ["ChildSa", "make_child"]


@dataclass(slots=True, eq=False)
class ChildSa:
    """A CHILD_SA.  SPIs are ints from 256 up; ``inbound`` and ``outbound`` are the specs handed to the plane."""

    inbound: SaSpec
    outbound: SaSpec
    rekey_at: float
    attempts: list[Attempt[ChildSa]] = field(default_factory=list)
    replaced: bool = False
    rekey_wanted: bool = False
    replaces: ChildSa | None = None
    refused: bool = False
    deleting: bool = False
    outbound_in_use: bool = False
    pattern: bool = False

    @property
    def may_rekey(self) -> bool:
        """Whether we may begin replacing it: nobody is at it, did it, or refused it for good."""
        return not (self.attempts or self.replaced or self.refused or self.deleting) and self.outbound_in_use

    @property
    def inbound_spi(self) -> int:
        """What the peer writes on packets to us."""
        return self.inbound.spi

    @property
    def outbound_spi(self) -> int:
        """What we write on packets to the peer."""
        return self.outbound.spi

    @property
    def suite(self) -> EspSuite:
        """The latched transforms, without a rekey's key exchange."""
        return self.inbound.suite

    @property
    def flow(self) -> InnerFlow:
        """The flow in the first initiator's view."""
        return self.inbound.flow

    @property
    def scope(self) -> Scope | None:
        """What it carries with a standard host; None for exactly ``flow``."""
        return self.inbound.scope


def make_child(
    *,
    suite: EspSuite,
    inbound_spi: int,
    outbound_spi: int,
    keys: tuple[DirectionKeys, DirectionKeys],
    we_requested: bool,
    flow: InnerFlow,
    we_initiated: bool,
    lifetimes: Lifetimes,
    rekey_at: float,
    scope: Scope | None = None,
) -> ChildSa:
    """A CHILD_SA from negotiated values; ``keys`` are the exchange initiator's outbound first (RFC 7296 2.17)."""
    outbound_keys, inbound_keys = keys if we_requested else (keys[1], keys[0])
    # the pair of SPIs is the pair's id: no two live pairs of one peer share it
    sa_id = inbound_spi << 32 | outbound_spi
    # idle SAs are many: one object for what is equal
    flow = flow._replace(initiator_host=intern(flow.initiator_host), responder_host=intern(flow.responder_host))
    inbound = SaSpec(inbound_spi, suite, inbound_keys, lifetimes, sa_id, flow, we_initiated, scope)
    outbound = SaSpec(outbound_spi, suite, outbound_keys, lifetimes, sa_id, flow, we_initiated, scope)
    return ChildSa(inbound, outbound, rekey_at)
