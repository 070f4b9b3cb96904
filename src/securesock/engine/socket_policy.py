"""What the filtering platform and one socket have to do with each other, from set_security() to the socket's end.

The socket says what happens to it (set, bound, connects, listens, accepts, closes); filters come and go with that, and
each flow is judged with them in place.  Settings that name policies of the built-in ones alone need no engine: then
nothing is judged and only the keys mean something.

It must not know sockets' calls, carriers, or how anything is negotiated.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import PolicyRefused
from ..identity.names import PeerTargetName
from ..keying.contract import Admission
from ..policy.explain import Explanation
from ..types import Address, AnyTrustedPeer, Flow, IPsecSettings, SecuritySettings
from .applied import Applied
from .connect import numeric_address
from .context import SecurityContext
from .peer_admission import PeerAdmission
from .socket_filters import Endpoint, SocketFilters
from .verdicts import (
    Direction,
    Inquest,
    explain_flow,
    fields_of,
    ip_version,
    judge,
    judge_endpoint,
    layer_for,
)

__all__ = ["SocketPolicy"]

TCP, UDP = 6, 17


class SocketPolicy:
    """Of one socket; of an accepted one, its listener's.  ``protocol``: 6 or 17; ``version``: of a socket not bound."""

    def __init__(self, context: SecurityContext, settings: SecuritySettings, protocol: int, version: int = 4) -> None:
        self._context = context
        self._settings = settings
        self._protocol = protocol
        self._version = version
        self._skip = isinstance(settings, IPsecSettings) and settings.skip_filter_instantiation
        self._filters: SocketFilters | None = None
        if self._skip and context.policy is None:
            raise PolicyRefused(
                "skip_filter_instantiation relies on filters that exist, and this context has no filtering platform: "
                "give SecurityContext(policy=...), or let the setting out"
            )
        if context.policy is not None and not self._skip:
            self._filters = SocketFilters(context.policy, settings)

    # -- filters ---------------------------------------------------------------------------------------------------

    def turn_on(self) -> None:
        """Security was turned on for a socket that has no address yet."""
        self._place(Endpoint(self._version, self._protocol))

    def _place(self, *endpoints: Endpoint) -> None:
        if self._filters is not None:
            self._filters.place(*endpoints)

    def hold(self) -> None:
        """One more socket lives by this one's filters: an accepted one."""
        if self._filters is not None:
            self._filters.hold()

    def release(self) -> None:
        """A socket that lived by them is gone, and what it had still to send."""
        if self._filters is not None:
            self._filters.release()

    # -- judging -----------------------------------------------------------------------------------------------------

    def may_bind(self, host: str, port: int) -> None:
        """PolicyRefused where this address may not be bound."""
        judge_endpoint(self._context, "ALE_RESOURCE_ASSIGNMENT", self._protocol, host, port)

    def connecting(self, our: Address, peer: Address, expected: PeerTargetName | AnyTrustedPeer | None) -> Applied:
        """The filters of one connection, and what policy makes of it.  PolicyRefused, LocalMisuse."""
        flow = self.flow_of(our, peer)
        self._place(
            Endpoint(
                ip_version(flow.our_host),
                self._protocol,
                flow.our_host,
                flow.our_port,
                flow.peer_host,
                flow.peer_port,
                connects=True,
            )
        )
        return self.judge(flow, "outbound", expected)

    def listening(self, addresses: Sequence[tuple[str, int]]) -> None:
        """The filters of a socket that accepts at these addresses ("0.0.0.0", "::": any of that version).

        PolicyRefused where it may not listen.
        """
        for host, port in addresses:
            judge_endpoint(self._context, "ALE_AUTH_LISTEN", self._protocol, host, port)
        self._place(*(self._endpoint(host, port) for host, port in addresses))

    def _endpoint(self, host: str, port: int) -> Endpoint:
        anywhere = host in ("0.0.0.0", "::")
        both = self._protocol == UDP
        return Endpoint(ip_version(host), self._protocol, "" if anywhere else host, port, accepts=True, connects=both)

    def accepting(self, our: Address, peer: Address) -> Applied:
        """What policy makes of an incoming flow before anybody is proven.  PolicyRefused, LocalMisuse."""
        return self.judge(self.flow_of(our, peer), "inbound")

    def judge(
        self, flow: Flow, direction: Direction, expected: PeerTargetName | AnyTrustedPeer | None = None
    ) -> Applied:
        """What policy makes of a flow now."""
        return judge(self._inquest(flow, direction, expected))

    def admission(self, our: Address, peer: Address, otherwise: Admission) -> Admission:
        """Who may come in by an incoming flow: judged at ALE_AUTH_RECV_ACCEPT when it is known who it is."""
        if self._context.policy is None:
            return otherwise
        return PeerAdmission(self._context.policy, self.flow_of(our, peer), otherwise)

    def why_not_clear(self, our: Address, peer: Address) -> PolicyRefused | None:
        """Why an incoming flow may not go on in clear; None where it may.  Nobody is proven on such a one."""
        engine, flow = self._context.policy, self.flow_of(our, peer)
        if engine is None:
            return None
        for name in ("INBOUND_TRANSPORT", "ALE_AUTH_RECV_ACCEPT"):
            layer = layer_for(name, ip_version(flow.our_host))
            verdict = engine.authorize_peer(layer, fields_of(layer, flow))
            if verdict.is_blocked:
                where = f"clear text from {flow.peer_host} port {flow.peer_port} is blocked at {layer.name}"
                decided = verdict.filter
                return PolicyRefused(f"{where}: {verdict.reason}", filter_id=None if decided is None else decided.id)
        return None

    def explain(
        self, flow: Flow, direction: Direction, expected: PeerTargetName | AnyTrustedPeer | None = None
    ) -> tuple[Explanation, ...]:
        """The account of each layer.  LocalMisuse without an engine."""
        return explain_flow(self._inquest(flow, direction, expected))

    def flow_of(self, our: Address, peer: Address) -> Flow:
        """The 5-tuple as both ends of the carrier see it."""
        ours, theirs = numeric_address(our), numeric_address(peer)
        return Flow(self._protocol, ours[0], ours[1], theirs[0], theirs[1])

    def _inquest(self, flow: Flow, direction: Direction, expected: PeerTargetName | AnyTrustedPeer | None) -> Inquest:
        return Inquest(self._context, self._settings, flow, direction, expected, self._skip)
