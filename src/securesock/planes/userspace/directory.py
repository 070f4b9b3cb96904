"""Who speaks for which address of one datagram socket: the address itself, or the standard host that reaches it.

Peers are kept under the application's address where they speak from their own port, and under the carrier's where they
are standard hosts, which speak for whatever their SAs cover.  It must not know what is said to any of them.
"""

from __future__ import annotations

from math import inf
from typing import Final

from ...engine.ports import DatagramKeying, Route
from ...types import Address, Principal
from .association import Association
from .peers import NOBODY_RESTS, Peer, covering, same_principal

__all__ = ["PeerDirectory"]

MAX_CARRIERS: Final = 4096
"""Hosts of which it is remembered at which port they were found; beyond that it is found out again."""


MAX_CLAIMS: Final = 16384
"""Addresses behind standard hosts that are latched: a peer that is allowed a whole network can write any of them."""


def _claimed(peer: Peer, address: Address) -> str | tuple[str, int]:
    """A host inside a tunnel is one; several may share an address before a translator, and not its ports."""
    in_tunnel = peer.route is not None and peer.route.standard.mode == "tunnel"
    return address[0] if in_tunnel else (address[0], address[1])


def _last_heard(peer: Peer) -> float:
    return -inf if peer.active is None else peer.active.last_in


class PeerDirectory:
    """The peers of one socket.  Not thread-safe: who calls holds the socket's lock."""

    def __init__(self, keying: DatagramKeying) -> None:
        self._keying = keying
        self._peers: dict[Address, Peer] = {}
        self._hosts: dict[Address, Peer] = {}
        self._behind: dict[Address, Peer] = {}
        self._strayed: dict[Address, Peer] = {}
        self._carriers: dict[str, str] = {}
        self._claims: dict[str | tuple[str, int], Principal] = {}
        self._keeper = NOBODY_RESTS

    def _peer(self, address: Address) -> Peer:
        """What is known of an address of the application's, made now if nothing was."""
        peer = self._known(address)
        if peer is None:
            route = self._keying.route(address)
            if route is None or (route.tries_own and self._carriers.get(address[0]) != "4500"):
                return self._own_peer(address)
            peer = self._behind[address] = self._host(route.carrier, route)
        return peer

    def _own_peer(self, address: Address) -> Peer:
        """Who speaks from its own port to ours."""
        peer = self._peers.get(address)
        if peer is None:
            peer = self._peers[address] = Peer(address)
            peer.keeper = self._keeper
        return peer

    def _beginner(self, address: Address) -> Peer:
        """Who begins from ``address``: a peer that moved there and lives proves itself anew, and stays who it is to the
        application."""
        strayed = self._strayed.get(address)
        if strayed is not None and not strayed.begun:
            self._carry(strayed, strayed.address)
            strayed = None
        return strayed or self._own_peer(address)

    def _carry(self, peer: Peer, address: Address) -> None:
        """Where packets for ``peer`` go from now on."""
        if self._strayed.get(peer.carrier) is peer:
            del self._strayed[peer.carrier]
        peer.carrier = address
        if address != peer.address:
            self._strayed[address] = peer

    def _host(self, carrier: Address, route: Route) -> Peer:
        """The standard host at ``carrier``."""
        peer = self._hosts.get(carrier)
        if peer is None:
            peer = self._hosts[carrier] = Peer(carrier, route)
        return peer

    def _known(self, address: Address) -> Peer | None:
        """Whoever speaks for an address of the application's: itself, or the standard host that reaches it."""
        peer = self._peers.get(address) or self._behind.get(address)
        if self._hosts and (peer is None or (peer.route is not None and peer.active is None)):
            # the same host may have come back from another address
            able = [each for each in self._hosts.values() if self._may_speak(each, address)]
            if able:
                peer = self._behind[address] = max(able, key=_last_heard)
        return peer

    def _may_speak(self, peer: Peer, address: Address) -> bool:
        if covering(peer, address) is None:
            return False
        owner = self._claims.get(_claimed(peer, address))
        return owner is None or peer.latched is None or same_principal(owner, peer.latched)

    def _claim(self, peer: Peer, address: Address) -> bool:
        """Latch an address that a standard host speaks for to its principal; False where it is another's (semantics
        "Datagrams": the first one keeps it), or enough are claimed."""
        key, principal = _claimed(peer, address), peer.latched
        owner = self._claims.get(key)
        if owner is None:
            own = self._peers.get(address)
            owner = None if own is None else own.latched
        if owner is not None:
            return principal is not None and same_principal(owner, principal)
        if principal is not None and len(self._claims) < MAX_CLAIMS:
            self._claims[key] = principal
            return True
        return False

    def _disclaim(self, address: Address) -> None:
        self._claims.pop(address[0], None)
        self._claims.pop(address[:2], None)

    def _is_reached(self, peer: Peer, address: Address) -> bool:
        """Whether an SA that there is carries datagrams for ``address``, once it may."""
        return peer.route is None or peer.active is None or covering(peer, address) is not None

    def _remember_carrier(self, association: Association) -> None:
        """Which port a host was found at that may be at either."""
        host, route = association.peer.address[0], association.peer.route
        if len(self._carriers) >= MAX_CARRIERS:
            self._carriers.clear()
        if association.more.otherwise is not None:
            self._carriers[host] = "own"
        elif route is not None and route.tries_own:
            self._carriers[host] = "4500"

    def _lose_way(self, host: Peer) -> None:
        """Have it asked again how the addresses are reached that ``host`` spoke for."""
        self._behind = {address: each for address, each in self._behind.items() if each is not host}

    def _forget_stranger(self, peer: Peer) -> None:
        if peer.forgettable:
            for address in {peer.address, peer.carrier}:
                self._keying.forgotten(address)
            self._carry(peer, peer.address)
            if peer.route is None:
                if self._peers.get(peer.address) is peer:
                    del self._peers[peer.address]
            else:
                self._hosts.pop(peer.address, None)
                self._lose_way(peer)
