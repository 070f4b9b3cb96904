"""What a datagram socket knows of one address.

A Peer is an address and what was promised about it: the name expected there, the principal that it is latched to, the
first datagrams that wait, and its key exchanges (association).  Which of those seals is decided here, by a rule that
comes out the same at both ends.

Nothing here moves bytes or asks the time.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from typing import Final, Protocol

from ...engine.ports import Route
from ...errors import SecureSocketError
from ...identity.names import PeerTargetName, parse_peer_target_name
from ...keying.contract import Role
from ...types import Address, AnyTrustedPeer, Principal
from ...wire.inet import packed_host
from .association import NEVER, Association
from .host_packet import HostSealer
from .packet import PacketSealer

__all__ = [
    "NOBODY_RESTS",
    "RestKeeper",
    "LatchAdmission",
    "Peer",
    "Reach",
    "choose_sealing",
    "covering",
    "inner_address",
    "same_principal",
]


class RestKeeper(Protocol):
    """Who keeps what of a peer is at rest."""

    def wake(self, peer: Peer) -> None:
        """Bring back what was at rest, if it was."""
        ...

    def last_in(self, spi: int) -> float:
        """When the last packet opened of an SA that is at rest."""
        ...


class _NobodyRests:
    def wake(self, peer: Peer) -> None:
        """Nobody is at rest."""

    def last_in(self, spi: int) -> float:
        """No SA is."""
        return NEVER


NOBODY_RESTS: Final[RestKeeper] = _NobodyRests()
"""Whose machine puts nobody to rest."""


class Reach:
    """For which addresses a standard host was asked for a further SA, and why there is none."""

    __slots__ = ("asked", "refused")

    def __init__(self) -> None:
        self.asked: set[Address] = set()
        self.refused: dict[Address, SecureSocketError] = {}


def same_principal(one: Principal, other: Principal) -> bool:
    """Whether it is the same one: a certificate may hold several names, and its host shows the one asked for."""
    return (one.kind, one.method) == (other.kind, other.method) and (
        one.name == other.name or bool(one.evidence and one.evidence == other.evidence)
    )


class Peer:
    """One address of the application's.  ``carrier`` is where packets go, which differs once a translator moved it.

    Of a standard host ``route`` says how it is reached.  Then ``address`` is the host's own, and the application's
    addresses are whatever its SAs' selectors cover; ``reach`` is what was asked for beyond that.

    ``resting``: what of an idle one's association no packet touches, until ``keeper`` brings it back.

    ``expected``: the name given for the address.  ``asked``: the host that we began with for want of one, until it was
    proven: an SA that the peer began with another name is heard meanwhile, and not sent on.
    """

    __slots__ = (
        "active",
        "address",
        "anchor",
        "any_trusted",
        "asked",
        "associations",
        "carrier",
        "clear_used_at",
        "expected",
        "failure",
        "failure_told",
        "keeper",
        "latched",
        "queue",
        "queued_bytes",
        "reach",
        "resting",
        "route",
        "sealer",
        "why_clear",
    )

    def __init__(self, address: Address, route: Route | None = None) -> None:
        self.address = self.carrier = address
        self.route = route
        self.reach = None if route is None else Reach()
        self.expected: PeerTargetName | AnyTrustedPeer | None = None
        self.asked: PeerTargetName | None = None
        self.any_trusted = False  # nobody was named when we first began here: any machine would have done
        self.latched: Principal | None = None
        self.anchor = ""
        self.associations: tuple[Association, ...] = ()
        self.active: Association | None = None
        self.sealer: PacketSealer | None = None
        self.queue: tuple[tuple[bytes, Address], ...] = ()  # an empty deque takes a third of an idle peer's room
        self.queued_bytes = 0
        self.failure: SecureSocketError | None = None
        self.failure_told = False
        self.why_clear = ""
        self.clear_used_at = NEVER
        self.resting: bytes | None = None
        self.keeper = NOBODY_RESTS

    def keep(self, waiting: Iterable[tuple[bytes, Address]]) -> None:
        """First datagrams, and where each goes, until there is an SA."""
        self.queue += tuple(waiting)

    @property
    def begun(self) -> bool:
        """Whether an SA lives or a negotiation is under way, whoever began it."""
        return any(each.state != "over" for each in self.associations)

    @property
    def occupied(self) -> bool:
        """Whether there is an SA to send on or we are negotiating: whoever began at this address without proving
        the name that we ask for keeps us from nothing."""
        return any(
            each.may_carry or (each.state == "negotiating" and each.role is Role.INITIATOR)
            for each in self.associations
        )

    @property
    def forgettable(self) -> bool:
        """Whether nothing was promised about it and nothing waits: a stranger's address is not kept."""
        return not (self.associations or self.latched or self.expected or self.queue or self.failure or self.why_clear)

    @property
    def is_a_users(self) -> bool:
        """Whether it is latched to a user by EAP, whom only whoever begins can prove (RFC 7296 2.16)."""
        return self.latched is not None and self.latched.method == "eap"

    def wanted(self, host: PeerTargetName | AnyTrustedPeer | None) -> PeerTargetName | AnyTrustedPeer | None:
        """Who has to answer at this address; ``host`` where neither a name nor a latch says more."""
        if self.expected is not None or self.asked is not None:
            return self.expected or self.asked
        if self.latched is not None and self.latched.method != "anonymous":
            return parse_peer_target_name(self.latched.name)
        return host

    def check_latch(self, principal: Principal, anchor: str | None = None) -> str | None:
        """Why this principal may not be at this address, None if it may (semantics "The latch")."""
        latched = self.latched
        if latched is None:
            return None
        same = same_principal(principal, latched)
        if same and (anchor is None or anchor == self.anchor):
            return None
        what = principal.name if not same else f"{principal.name} of another trust anchor"
        return f"this address belongs to {latched.name}, and {what} came"


class LatchAdmission:
    """keying.contract.Admission of an address: nobody else than whom it is latched to."""

    __slots__ = ("_peer",)

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    @property
    def pins(self) -> Collection[str]:
        """The pinned key that the address is latched to, if it is one."""
        latched = self._peer.latched
        return (latched.name,) if latched is not None and latched.name.startswith("sha256:") else ()

    def refusal(self, principal: Principal) -> str | None:
        """See Admission."""
        return self._peer.check_latch(principal)


def inner_address(carrier: Address, host: bytes, port: int) -> Address:
    """An inner sender as the application's socket writes addresses; without ``host`` it is the carrier's own."""
    if len(carrier) == 2:
        return (str(ipaddress.ip_address(host)) if host else carrier[0], port)
    if not host:
        return (carrier[0], port, carrier[2], carrier[3])
    # an AF_INET6 socket writes IPv4 addresses as mapped ones
    return (
        "::ffff:" + str(ipaddress.IPv4Address(host)) if len(host) == 4 else str(ipaddress.IPv6Address(host)),
        port,
        0,
        0,
    )


def covering(peer: Peer, address: Address) -> HostSealer | None:
    """What seals for ``address`` of those that reach through ``peer``: the newest whose selectors cover it."""
    if peer.active is None:
        return None
    host, port = packed_host(address[0]), address[1]
    return next((each for each in reversed(peer.active.more.host_sealers) if each.covers(host, port)), None)


def choose_sealing(peer: Peer, now: float) -> None:
    """Set which association of ``peer`` seals, and with which SA: the newest of those that may."""
    fit = [
        each
        for each in peer.associations
        if each.may_carry
        and not each.more.replaced
        and (each.sealers or each.more.host_sealers)
        and (each.confirmed or now >= each.more.confirm_by)
    ]
    peer.active = max(fit, key=lambda each: (each.more.established_at, each.more.rank), default=None)
    peer.sealer = None if peer.active is None or not peer.active.sealers else peer.active.sealers[-1]
