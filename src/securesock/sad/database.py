"""Live SAs of one carrier or process, found by what a packet or a send has in hand (RFC 4301 4.4.2).

Inbound by SPI, outbound by flow, both by peer.  Several outbound SAs of one flow may be
alive while a rekey is under way: the one installed last seals, the others wait for their
removal.  A collection and nothing else: it counts nothing, times nothing and has no lock.
"""

from __future__ import annotations

from ..types import Flow
from .entries import InboundSa, OutboundSa

__all__ = ["SaDatabase"]


class SaDatabase:
    """Look-up by SPI, by flow, by peer."""

    __slots__ = ("_flows", "_inbound", "_outbound", "_peers")

    def __init__(self) -> None:
        self._inbound: dict[int, InboundSa] = {}
        self._outbound: dict[Flow, list[OutboundSa]] = {}
        self._flows: dict[int, Flow] = {}  # by inbound SPI
        self._peers: dict[Flow, str] = {}

    def __len__(self) -> int:
        """Inbound SAs, that is SA pairs as far as both halves are installed."""
        return len(self._inbound)

    def install_inbound(self, sa: InboundSa, flow: Flow, peer: str) -> None:
        """Have packets with this SPI opened.  ``peer`` is the proven name.  ValueError if the SPI is in use."""
        if sa.spi in self._inbound:
            raise ValueError(f"SPI {sa.spi:#010x} is in use")
        self._inbound[sa.spi] = sa
        self._flows[sa.spi] = flow
        self._peers[flow] = peer

    def install_outbound(self, sa: OutboundSa, flow: Flow, peer: str) -> None:
        """Seal what belongs to ``flow`` with this from now on."""
        self._outbound.setdefault(flow, []).append(sa)
        self._peers[flow] = peer

    def remove_inbound(self, spi: int) -> None:
        """Nothing more is opened with it.  Does nothing for one that is gone."""
        if self._inbound.pop(spi, None) is not None:
            self._forget_idle(self._flows.pop(spi))

    def remove_outbound(self, spi: int, flow: Flow) -> None:
        """Nothing more is sealed with it.  The peer chose its SPI, so it tells SAs of one flow apart and no others."""
        left = [sa for sa in self._outbound.get(flow, ()) if sa.spi != spi]
        if left:
            self._outbound[flow] = left
        else:
            self._outbound.pop(flow, None)
        self._forget_idle(flow)

    def by_spi(self, spi: int) -> InboundSa | None:
        """What opens a packet with this SPI."""
        return self._inbound.get(spi)

    def by_flow(self, flow: Flow) -> OutboundSa | None:
        """What seals for this flow: the SA installed last."""
        found = self._outbound.get(flow)
        return found[-1] if found else None

    def by_peer(self, peer: str) -> tuple[tuple[InboundSa, ...], tuple[OutboundSa, ...]]:
        """All SAs with a peer of this proven name, inbound ones first."""
        inbound = tuple(sa for spi, sa in self._inbound.items() if self._peers[self._flows[spi]] == peer)
        outbound = tuple(
            sa for flow, all_of_it in self._outbound.items() if self._peers[flow] == peer for sa in all_of_it
        )
        return inbound, outbound

    def _forget_idle(self, flow: Flow) -> None:
        if flow not in self._outbound and flow not in self._flows.values():
            self._peers.pop(flow, None)
