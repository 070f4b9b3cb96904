"""What a datagram socket's machine asks for: sessions made of the socket's context, and the doors before them.

Cookies and the table of half-open negotiations keep strangers within bounds (semantics "Limits against strangers"): on
UDP anybody can write any source address, so that beyond a few beginnings nobody is given a place who has not shown that
it receives where it says to be (RFC 7296 2.6).  This module must not know what is done with a session.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from ..drivers.keylog import KeyLoggingSession, keylog_folder
from ..engine.connect import accepting, connecting
from ..engine.context import SecurityContext
from ..engine.half_open import HALF_OPEN, HalfOpen, HalfOpenTable, source_of
from ..engine.ports import HalfOpenPlace, Route
from ..entropy import Entropy
from ..errors import SecureSocketError
from ..identity.names import PeerTargetName
from ..keying.admission import Admission
from ..keying.contract import KeyingSession, Role, StandardHost
from ..keying.cookies import CookieJar
from ..keying.ikev2.cookie_gate import ask_for_cookie_untrusted
from ..types import Address, AnyTrustedPeer, Principal, SecuritySettings
from .path import UNKNOWN_PATH, Path
from .watched import WatchedSession, watch_again

if TYPE_CHECKING:
    from ..engine.datagram_policy import DatagramPolicy
    from ..engine.peer_entry import PeerEntry

__all__ = ["SocketKeying", "is_routed"]

CROWDED_AT: Final = 50
"""Half-open negotiations in this process from which on a cookie is asked for: a twentieth of the places that there are,
so that a flood of invented addresses never takes more."""


_Way: TypeAlias = "Callable[[tuple[PeerEntry, ...], Address, Callable[[Address], Address]], Route | None]"


def _no_way(entries: tuple[PeerEntry, ...], address: Address, our_address: Callable[[Address], Address]) -> None:
    """Everybody is of our own kind, and at the address that is spoken to."""


def _ways(context: SecurityContext) -> tuple[_Way, _Way]:
    """To an address, and back from one, through the standard hosts of the context."""
    if not context.peers:
        return _no_way, _no_way
    from ..engine.routes import route_from, route_to  # for those who have entries

    return route_to, route_from


def is_routed(context: SecurityContext, address: Address) -> bool:
    """Whether a standard host reaches ``address``, so that no datagram comes from there itself."""
    if context.peers:
        from ..engine.peer_entry import entry_for  # for those who have entries

        entry = entry_for(context.peers, address[0])
        if entry is not None and entry.carrier != "own":
            return True
    if context.policy is None:
        return False
    from ..engine.tunnels import is_tunnelled  # for those who have a filtering platform

    return is_tunnelled(context.policy, address)


class SocketKeying:
    """engine.ports.DatagramKeying for one socket.

    ``our_address`` says which of our addresses a peer is reached from, ``path`` what passes there; ``wall_offset_s`` as
    Clock's.
    """

    def __init__(
        self,
        context: SecurityContext,
        settings: SecuritySettings,
        our_address: Callable[[Address], Address],
        wall_offset_s: Callable[[], float],
        entropy: Entropy,
        table: HalfOpenTable = HALF_OPEN,
        path: Path = UNKNOWN_PATH,
        policy: DatagramPolicy | None = None,
    ) -> None:
        self._policy = policy
        self._context = context
        self._settings = settings
        self._our_address = our_address
        self._wall_offset_s = wall_offset_s
        self._entropy = entropy
        self._table = table
        self._path = path
        self._jar: CookieJar | None = None
        self._lock = threading.Lock()
        self._evicted: list[HalfOpenPlace] = []
        self._route_to, self._route_from = _ways(context)

    def make_session(
        self,
        role: Role,
        peer: Address,
        expected: PeerTargetName | AnyTrustedPeer | None,
        admission: Admission,
        spis_in_use: Container[int],
        now: float,
        standard: StandardHost | None = None,
        *,
        anew: bool = False,
    ) -> KeyingSession:
        """See the port."""
        context, settings, our = self._context, self._settings, self._our_address(peer)
        offset_s = self._wall_offset_s()
        applied = None
        if self._policy is not None:
            begins, tunnelled = role is Role.INITIATOR, standard is not None and standard.mode == "tunnel"
            if begins:
                applied = self._policy.begins(peer, expected, tunnelled=tunnelled)
            else:
                applied = self._policy.answers(peer, tunnelled=tunnelled)
            admission = self._policy.admission(peer, admission, outbound=begins)
        if role is Role.INITIATOR:
            config = connecting(
                context,
                settings,
                expected,
                our,
                peer,
                offset_s,
                carrier="datagram",
                admission=admission,
                standard=standard,
                applied=applied,
            )
        else:
            config = accepting(
                context,
                settings,
                our,
                peer,
                offset_s,
                admission,
                carrier="datagram",
                expected=expected,
                standard=standard,
                applied=applied,
            )
        config = replace(config, anew=anew)
        folder = keylog_folder()
        if folder is None:
            return WatchedSession(config, self._entropy, spis_in_use)
        return KeyLoggingSession(WatchedSession(replace(config, log_keys=True), self._entropy, spis_in_use), folder)

    def may_fall_back(self, peer: Address) -> bool:
        """See the port."""
        return self._policy is None or self._policy.may_fall_back(peer)

    def may_come_in_clear(self, peer: Address) -> bool:
        """See the port."""
        return self._policy is None or self._policy.may_come_in_clear(peer)

    def why_not_behind(
        self, address: Address, carrier: Address, standard: StandardHost, principal: Principal | None, *, outbound: bool
    ) -> SecureSocketError | None:
        """See the port."""
        if self._policy is None:
            return None
        return self._policy.why_not_behind(address, carrier, standard, principal, "outbound" if outbound else "inbound")

    def failed(self, role: Role, peer: Address, error: SecureSocketError) -> None:
        """See the port."""
        if self._policy is not None:
            self._policy.failed(peer, error, "outbound" if role is Role.INITIATOR else "inbound")

    def forgotten(self, peer: Address) -> None:
        """See the port."""
        if self._policy is not None:
            self._policy.forget(peer)

    def route(self, address: Address) -> Route | None:
        """See the port."""
        route = self._route_to(self._context.peers, address, self._our_address)
        entry = self._policy.entry_to(address) if self._policy is not None and route is None else None
        if entry is not None:
            from ..engine.routes import route_to  # for flows that a filter has go through a tunnel

            route = route_to((entry,), address, self._our_address)
        return route

    def arriving(self, carrier: Address) -> Route | None:
        """See the port."""
        route = self._route_from(self._context.peers, carrier, self._our_address)
        entries = self._policy.entries_from(carrier) if self._policy is not None and route is None else ()
        if entries:
            from ..engine.routes import route_from

            route = route_from(entries, carrier, self._our_address)
        return route

    def woken(self, session: KeyingSession) -> None:
        """See the port."""
        watch_again(session)

    def path_mtu(self, carrier: Address, now: float) -> int:
        """See the port."""
        return self._path.mtu(carrier, now)

    def is_cutting_forbidden(self) -> bool:
        """See the port."""
        return self._path.is_cutting_forbidden()

    def our_address(self, peer: Address) -> Address:
        """See the port."""
        return self._our_address(peer)

    def ask_for_cookie_untrusted(self, message: bytes, peer: Address, now: float) -> bytes | None:
        """See the port."""
        if self._jar is None:
            self._jar = CookieJar(self._entropy, now)
        return ask_for_cookie_untrusted(message, self._jar, (peer[0], peer[1]), now)

    def take_place(self, peer: Address) -> HalfOpenPlace | None:
        """See the port."""
        taken: list[HalfOpen] = []

        def evict() -> None:
            with self._lock:
                self._evicted.extend(taken)

        place = self._table.admit(source_of(peer[0]), evict)
        if place is not None:
            taken.append(place)
        return place

    def crowded(self) -> bool:
        """See the port."""
        return len(self._table) >= CROWDED_AT

    def evicted(self) -> list[HalfOpenPlace]:
        """See the port."""
        if not self._evicted:
            return []
        with self._lock:
            evicted, self._evicted = self._evicted, []
        return evicted
