"""A datagram socket and the filtering platform: one socket, one set of filters, a judgement for each peer.

Each negotiation is judged when it begins, whoever begins it; what was made of a peer's flow is kept for as long as the
peer is, and made anew when policy changes.  An SA that the policy of now would not have made is ended, and the next
datagram to that address raises why, once; after that a negotiation under the new policy may begin.

It must not know sockets, machines, nor which thread it runs in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from ..errors import ConnectionBroken, KeyingTimeout, LocalMisuse, PolicyRefused, SecureSocketError
from ..identity.names import PeerTargetName
from ..keying.admission import Admission
from ..keying.contract import Establishment, StandardHost
from ..policy.changes import Subscription
from ..policy.errors import PolicyStateError
from ..policy.explain import Explanation
from ..types import Address, AnyTrustedPeer, Flow, Principal
from .applied import Applied
from .asking import numeric_address
from .live_flows import PolicyChange, PolicyChanges, Schedule, allows, watch
from .peer_entry import PeerEntry
from .socket_policy import SocketPolicy
from .tunnels import Tunnel, through, tunnel_for, tunnels_from
from .verdicts import Direction, ip_version

__all__ = ["DatagramPolicy", "LivePeers"]

LivePeers: TypeAlias = Callable[[], list[tuple[Address, Establishment]]]
"""Who has an SA with the socket now."""


MAX_BEHIND: Final = 4096
"""Addresses behind standard hosts of which it is remembered how they were judged; beyond that it is judged again."""


class _Behind(NamedTuple):
    """How a flow with an address behind a standard host was judged: in the direction that it began in, and when."""

    flow: Flow
    carrier: Address
    direction: Direction
    generation: int
    refused: SecureSocketError | None


class _Judged(NamedTuple):
    """``gateway``: the peer's host, where it is the other end of a tunnel; ``tunnel``: the policy that has it so."""

    applied: Applied
    direction: Direction
    expected: PeerTargetName | AnyTrustedPeer | None
    gateway: str = ""
    tunnel: UUID | None = None


class DatagramPolicy:
    """``our_address``: which of our addresses leads to a peer.  Thread-safe but for what it is handed to call."""

    def __init__(self, policy: SocketPolicy, our_address: Callable[[Address], Address]) -> None:
        self._policy: Final = policy
        self._our_address: Final = our_address
        self._lock = threading.Lock()
        self._judged: dict[Address, _Judged] = {}
        self._behind: dict[Address, _Behind] = {}
        self._generation = 0
        self._tunnels: tuple[Tunnel, ...] | None = None  # None: not looked for since policy changed
        self._live: LivePeers | None = None
        self._break_off: Callable[[Address, ConnectionBroken], None] | None = None
        self._run: Schedule | None = None
        self._changes = PolicyChanges()

    # -- judging -----------------------------------------------------------------------------------------------------

    def begins(
        self, peer: Address, expected: PeerTargetName | AnyTrustedPeer | None, *, tunnelled: bool = False
    ) -> Applied:
        """We begin with ``peer``; ``tunnelled``: as the other end of a tunnel.  PolicyRefused, LocalMisuse."""
        return self._judge(peer, "outbound", expected, tunnelled=tunnelled)

    def answers(self, peer: Address, *, tunnelled: bool = False) -> Applied:
        """``peer`` begins with us.  PolicyRefused, LocalMisuse."""
        return self._judge(peer, "inbound", None, tunnelled=tunnelled)

    def _judge(
        self,
        peer: Address,
        direction: Direction,
        expected: PeerTargetName | AnyTrustedPeer | None,
        *,
        tunnelled: bool,
    ) -> Applied:
        flow = self._policy.flow_of(self._our_address(peer), peer)
        # a tunnel for all addresses is for its own end's, too, and what it is made of goes there
        gateway = flow.peer_host if tunnelled else ""
        applied = self._policy.judge(flow, direction, expected, tunnel_to=gateway)
        tunnel = self._tunnel_to(gateway) if tunnelled else None
        if tunnel is not None:
            applied = through(tunnel, applied)
        key = None if tunnel is None else tunnel.context.key
        with self._lock:
            self._judged[peer] = _Judged(applied, direction, expected, gateway, key)
        return applied

    # -- tunnels -----------------------------------------------------------------------------------------------------

    def entry_to(self, address: Address) -> PeerEntry | None:
        """How policy has ``address`` reached: by the gateway of a tunnel; None where no filter demands one."""
        engine = self._policy.engine
        if engine is None:
            return None
        try:
            our = self._our_address(address)
        except OSError:  # no way there but the tunnel
            our = ("::" if ip_version(numeric_address(address)[0]) == 6 else "0.0.0.0", 0)
        tunnel = tunnel_for(engine, self._policy.flow_of(our, address))
        return None if tunnel is None else tunnel.entry

    def entries_from(self, carrier: Address) -> tuple[PeerEntry, ...]:
        """What policy says of whoever begins at ``carrier`` as the gateway of a tunnel."""
        tunnel = self._tunnel_to(numeric_address(carrier)[0])
        return () if tunnel is None else (tunnel.entry,)

    def _tunnel_to(self, gateway: str) -> Tunnel | None:
        engine = self._policy.engine
        if engine is None:
            return None
        tunnels = self._tunnels
        if tunnels is None:
            tunnels = self._tunnels = tunnels_from(engine)
        return next((each for each in tunnels if each.entry.gateway == gateway), None)

    def admission(self, peer: Address, otherwise: Admission, *, outbound: bool) -> Admission:
        """Who may be at ``peer``, judged when it is known who it is."""
        return self._policy.admission(self._our_address(peer), peer, otherwise, outbound=outbound)

    def why_not_behind(
        self,
        address: Address,
        carrier: Address,
        standard: StandardHost,
        principal: Principal | None,
        direction: Direction,
    ) -> SecureSocketError | None:
        """Why nothing may go to (or come from) an address that the standard host at ``carrier`` reaches.

        What was let through one way goes the other way too, as long as policy lets it.
        """
        known, generation = self._behind.get(address), self._generation
        if known is not None and known.generation == generation and known.refused is None:
            return None
        if known is not None and known.generation == generation and known.direction == direction:
            return known.refused
        flow = self._flow_behind(address, carrier, standard)
        began = direction if known is None or known.refused is not None else known.direction
        gateway = numeric_address(carrier)[0] if standard.mode == "tunnel" else ""
        refused = self._why_not(flow, principal, began, gateway)
        if refused is not None and began != direction:
            began, refused = direction, self._why_not(flow, principal, direction, gateway)
        if len(self._behind) >= MAX_BEHIND:
            self._behind.clear()
        if principal is not None or refused is not None:
            self._behind[address] = _Behind(flow, carrier, began, generation, refused)
        return refused

    def _flow_behind(self, address: Address, carrier: Address, standard: StandardHost) -> Flow:
        """The flow inside: our own end is what the entry says, or where it is not known before it is assigned, any."""
        flow = self._policy.flow_of(self._our_address(carrier), address)
        version = ip_version(flow.peer_host)
        hosts = [str(ip_address(each)) for each in standard.our_hosts]
        if standard.assigned or ip_version(flow.our_host) != version:
            hosts.append("0.0.0.0" if version == 4 else "::")
        our_host = next((each for each in hosts if ip_version(each) == version), flow.our_host)
        return flow._replace(our_host=our_host, our_port=standard.our_port)

    def _why_not(
        self, flow: Flow, principal: Principal | None, direction: Direction, gateway: str
    ) -> SecureSocketError | None:
        try:
            applied = self._policy.judge(flow, direction, tunnel_to=gateway)
            if principal is not None:
                self._policy.meets(applied, direction, None, principal)
        except (PolicyRefused, LocalMisuse) as error:
            return error.with_traceback(None)
        return None

    def failed(self, peer: Address, error: SecureSocketError, direction: Direction) -> None:
        """What was begun with ``peer``, or by it, came to nothing: a net event, unless a stranger just fell silent."""
        judged = self._judged.get(peer)
        if direction == "inbound" and isinstance(error, KeyingTimeout):
            return  # anybody can begin so, from any address, and would push out the events that matter
        if judged is not None and judged.applied.flow is not None:
            our = (judged.applied.flow.our_host, judged.applied.flow.our_port)
            self._policy.failed(our, peer, error, direction, judged.expected, judged.applied)

    def forget(self, peer: Address) -> None:
        """Nobody knows ``peer`` any more."""
        with self._lock:
            self._judged.pop(peer, None)

    def applied(self, peer: Address) -> Applied | None:
        """What policy made of the flow with ``peer``, or with the host that it is behind; None: nothing was begun."""
        behind = self._behind.get(peer)
        judged = self._judged.get(peer if behind is None else behind.carrier)
        return None if judged is None else judged.applied

    def may_fall_back(self, peer: Address) -> bool:
        """Whether what we began with ``peer`` may go on in clear."""
        applied = self.applied(peer)
        return applied is not None and applied.settings.allow_insecure

    def may_come_in_clear(self, peer: Address) -> bool:
        """Whether a datagram of ``peer`` may come in clear."""
        return self._policy.why_not_clear(self._our_address(peer), peer) is None

    def explain(self, peer: Address) -> tuple[Explanation, ...]:
        """Why the flow with ``peer`` is judged as it is.  LocalMisuse: nothing was begun with it."""
        behind = self._behind.get(peer)
        if behind is not None:
            return self._policy.explain(behind.flow, behind.direction)
        judged = self._judged.get(peer)
        if judged is None or judged.applied.flow is None:
            raise LocalMisuse(f"nothing is negotiated with {peer[0]} port {peer[1]}")
        return self._policy.explain(judged.applied.flow, judged.direction, judged.expected)

    # -- while SAs live ------------------------------------------------------------------------------------------------

    def look_after(
        self,
        live: LivePeers,
        break_off: Callable[[Address, ConnectionBroken], None],
        run: Schedule,
        schedule: Schedule,
    ) -> None:
        """From now on: judge everybody whom ``live`` names anew when policy changes.  ``run`` does it where the
        socket's machine may be touched."""
        self._live, self._break_off, self._run = live, break_off, run
        engine = self._policy.engine
        if engine is not None:
            watch(engine, self, schedule)

    def look(self) -> None:
        """Policy has changed."""
        self._generation += 1
        self._tunnels = None
        if self._run is not None:
            self._run(self._look)

    def _look(self) -> None:
        if self._live is None:
            return
        for peer, establishment in self._live():
            judged = self._judged.get(peer)
            if judged is not None:
                self._look_at(peer, judged, establishment)

    def _look_at(self, peer: Address, before: _Judged, establishment: Establishment) -> None:
        flow = before.applied.flow
        if flow is None:
            return
        try:
            applied = self._policy.judge(flow, before.direction, before.expected, tunnel_to=before.gateway)
            if before.tunnel is not None:
                tunnel = self._tunnel_to(before.gateway)
                if tunnel is None or tunnel.context.key != before.tunnel:
                    raise PolicyRefused("the policy that had a tunnel end there is gone")
                applied = through(tunnel, applied)
            self._policy.meets(applied, before.direction, before.expected, establishment.peer)
        except PolicyStateError:
            return  # the engine was closed
        except (PolicyRefused, LocalMisuse) as error:
            self._end(peer, before.applied, str(error), getattr(error, "filter_id", None))
            return
        if not allows(applied, establishment):
            self._end(peer, applied, "another protection is asked for than the one in force", applied.mark.filter_id)
            return
        with self._lock:
            self._judged[peer] = before._replace(applied=applied)
        if (applied.mark, applied.differences) != (before.applied.mark, before.applied.differences):
            self._tell(applied, "", applied.mark.filter_id)

    def _end(self, peer: Address, applied: Applied, why: str, filter_id: int | None) -> None:
        self._tell(applied, why, filter_id)
        if self._break_off is not None:
            error = ConnectionBroken(f"policy changed and ended the SA with {peer[0]} port {peer[1]}: {why}")
            self._break_off(peer, error)

    def _tell(self, applied: Applied, broken: str, filter_id: int | None) -> None:
        if applied.flow is not None:
            self._changes.tell(applied.flow, applied, broken, filter_id)

    def subscribe(self, callback: Callable[[PolicyChange], object] | None = None) -> Subscription[PolicyChange]:
        """Hear of every change of any peer's policy from now on; see PolicyChanges."""
        return self._changes.subscribe(callback)

    def over(self) -> None:
        """The socket is gone: its filters go, and nobody hears of anything any more."""
        self._live = self._run = self._break_off = None
        self._changes.over()
        self._policy.release()
