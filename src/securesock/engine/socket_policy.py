"""What the filtering platform and one socket have to do with each other, from set_security() to the socket's end.

The socket says what happens to it (set, bound, connects, listens, accepts, closes); filters come and go with that, and
each flow is judged with them in place.  Settings that name policies of the built-in ones alone need no engine: then
nothing is judged and only the keys mean something.

It must not know sockets' calls, carriers, or how anything is negotiated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from ..errors import ConnectionBroken, PolicyRefused
from ..identity.names import PeerTargetName
from ..keying.admission import Admission
from ..keying.contract import Establishment
from ..policy.events import SaRole
from ..policy.explain import Explanation
from ..policy.filter_engine import FilterEngine
from ..types import Address, AnyTrustedPeer, Flow, IPsecSettings, Principal, SecuritySettings
from .admission import AllowList
from .applied import Applied
from .asking import numeric_address
from .context import SecurityContext
from .failure_events import report_failure
from .live_flows import LiveFlow, Schedule
from .peer_admission import PeerAdmission, allow_filters, peer_fields
from .socket_filters import Endpoint, SocketFilters, filters_of
from .verdicts import (
    Direction,
    Inquest,
    explain_flow,
    fields_of,
    ip_version,
    judge,
    judge_endpoint,
    judge_peer,
    layer_for,
)

__all__ = ["SocketPolicy"]

TCP, UDP = 6, 17


class SocketPolicy:
    """Of one socket; of an accepted one, its listener's.  ``protocol``: 6 or 17; ``version``: of a socket not bound."""

    def __init__(
        self,
        context: SecurityContext,
        settings: SecuritySettings,
        protocol: int,
        version: int = 4,
        allowed: AllowList | None = None,
    ) -> None:
        self._context = context
        self._settings = settings
        self._protocol = protocol
        self._version = version
        self._skip = isinstance(settings, IPsecSettings) and settings.skip_filter_instantiation
        self._allowed: AllowList | None = None
        self._filters: SocketFilters | None = None
        self._private: FilterEngine | None = None
        self._door: SocketFilters | None = None
        if self._skip and context.policy is None:
            raise PolicyRefused(
                "skip_filter_instantiation relies on filters that exist, and this context has no filtering platform: "
                "give SecurityContext(policy=...), or let the setting out"
            )
        if context.policy is not None and not self._skip:
            self._filters = SocketFilters(context.policy)
        if allowed is not None:
            self.admit(allowed)

    def admit(self, allowed: AllowList) -> None:
        """create_server(allow=...): filters, in an engine of the listener's own where the context has none."""
        engine = self._context.policy
        if engine is None:
            engine = self._private = FilterEngine.open()
        self._allowed, self._door = allowed, SocketFilters(engine)

    @property
    def allowed(self) -> AllowList | None:
        """Whom its filters let in, and nobody else; None lets in whoever is proven."""
        return self._allowed

    # -- filters ---------------------------------------------------------------------------------------------------

    def turn_on(self) -> None:
        """Security was turned on for a socket that has no address yet."""
        self._place(Endpoint(self._version, self._protocol))

    def _place(self, *endpoints: Endpoint) -> None:
        if self._filters is not None:
            self._filters.place(*(each for endpoint in endpoints for each in filters_of(endpoint, self._settings)))
        if self._door is not None and self._allowed is not None:
            allowed = self._allowed
            self._door.place(*(each for endpoint in endpoints for each in allow_filters(endpoint, allowed)))

    def hold(self) -> None:
        """One more socket lives by this one's filters: an accepted one."""
        for filters in (self._filters, self._door):
            if filters is not None:
                filters.hold()

    def release(self) -> None:
        """A socket that lived by them is gone, and what it had still to send."""
        for filters in (self._filters, self._door):
            if filters is not None:
                filters.release()

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
        self,
        flow: Flow,
        direction: Direction,
        expected: PeerTargetName | AnyTrustedPeer | None = None,
        tunnel_to: str = "",
    ) -> Applied:
        """What policy makes of a flow now; ``tunnel_to``: the gateway that it goes through."""
        return judge(self._inquest(flow, direction, expected)._replace(tunnel_to=tunnel_to))

    def failed(
        self,
        our: Address,
        peer: Address,
        error: BaseException,
        direction: Direction,
        expected: PeerTargetName | AnyTrustedPeer | None = None,
        applied: Applied | None = None,
    ) -> None:
        """A negotiation ended without an SA: a net event, unless a filter refused, which is one already."""
        engine = self._context.policy
        if engine is None or isinstance(error, PolicyRefused):
            return
        role = SaRole.INITIATOR if direction == "outbound" else SaRole.RESPONDER
        flow, now = self.flow_of(our, peer), datetime.now(UTC)
        report_failure(engine, self._context, flow, error, role, now, expected, applied)

    def admission(self, our: Address, peer: Address, otherwise: Admission, *, outbound: bool = False) -> Admission:
        """Who may be at the other end: judged at ALE_AUTH_RECV_ACCEPT (or _CONNECT) when it is known who it is."""
        engine = self._context.policy or self._private
        if engine is None:
            return otherwise
        pins = () if self._allowed is None else self._allowed.pins
        groups = self._context.principal_groups
        return PeerAdmission(engine, self.flow_of(our, peer), otherwise, pins, groups, outbound=outbound)

    def meets(
        self,
        applied: Applied,
        direction: Direction,
        expected: PeerTargetName | AnyTrustedPeer | None,
        peer: Principal,
    ) -> None:
        """It is known who is at the other end of a flow.  PolicyRefused where a filter minds."""
        if applied.flow is not None:
            proven = peer_fields(peer, self._context.principal_groups)
            judge_peer(self._inquest(applied.flow, direction, expected), proven)

    @property
    def engine(self) -> FilterEngine | None:
        """The context's filtering platform."""
        return self._context.policy

    def bound(self, addresses: Sequence[tuple[str, int]]) -> None:
        """The filters of a datagram socket at these addresses, which sends and receives there.

        PolicyRefused where it may not be bound there.
        """
        for host, port in addresses:
            judge_endpoint(self._context, "ALE_RESOURCE_ASSIGNMENT", self._protocol, host, port)
        self._place(*(self._endpoint(host, port) for host, port in addresses))

    def live(
        self,
        applied: Applied,
        direction: Direction,
        expected: PeerTargetName | AnyTrustedPeer | None,
        establishment: Establishment,
        break_off: Callable[[ConnectionBroken], None],
        schedule: Schedule,
    ) -> LiveFlow | None:
        """Look after an established connection; None without an engine."""
        engine, judged = self._context.policy, applied.flow
        if engine is None or judged is None:
            return None
        inquest = self._inquest(judged, direction, expected)
        proven = peer_fields(establishment.peer, self._context.principal_groups)

        def judge_now() -> Applied:
            now = judge(inquest)
            judge_peer(inquest, proven)
            return now

        def explain_now() -> tuple[Explanation, ...]:
            return explain_flow(inquest, proven)

        flow = LiveFlow(judged, establishment, applied, judge_now, explain_now, break_off)
        flow.begin(engine, schedule)
        return flow

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
