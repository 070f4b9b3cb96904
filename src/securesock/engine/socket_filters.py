"""The filters that a socket has in the filtering platform: what "security is turned on for this socket" means there.

They stand in the sublayer SECURE_SOCKET, are dynamic, and live as long as the socket: at the transport layers they say
that its traffic is IPsec's, at the ALE layers that it has to be secured, at IKEEXT and IPSEC under which policy.  An
administrator's filters lie in higher sublayers, are judged first and win; whoever enumerates sees both.

A socket that is not bound yet has filters all the same, for the port 0 and the unspecified address, which no flow has:
they show that it is there, and keep the policies that it names from being deleted under it.

Several sockets may share one set (a listener and what it accepted): ``hold`` and ``release`` count.  One dynamic
session per engine holds all of them, used by one thread at a time; in a forked child it is another one.  This module
must not know sockets, nor what is done with a verdict.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from typing import Final, NamedTuple
from uuid import UUID

from ..policy import identifiers as ids
from ..policy.callouts import AleContext, InboundContext, OutboundContext
from ..policy.conditions import Condition, match
from ..policy.errors import PolicyObjectNotFound, PolicyStateError
from ..policy.fields import Field
from ..policy.filter_engine import FilterEngine
from ..policy.model import ActionType, Filter
from ..policy.session import Session
from ..policy.values import AddressType
from ..types import IPsecSettings, SecuritySettings
from .fork import in_child
from .policy_keys import named
from .verdicts import layer_for

__all__ = ["Endpoint", "SocketFilters", "desk_session", "filters_of", "traffic_of"]

_UNSPECIFIED: Final = {4: "0.0.0.0", 6: "::"}


class Endpoint(NamedTuple):
    """What is known of a socket's traffic in one IP version.

    ``our_host`` "" is any address of ours, ``peer_host`` "" any peer; ``our_port`` 0: not bound yet.  ``connects`` and
    ``accepts``: which of the two ALE layers it passes.
    """

    version: int
    protocol: int
    our_host: str = ""
    our_port: int = 0
    peer_host: str = ""
    peer_port: int = 0
    connects: bool = False
    accepts: bool = False


class _Desk:
    """The one dynamic session of an engine for all sockets of this process."""

    def __init__(self, engine: FilterEngine) -> None:
        self._engine = weakref.ref(engine)
        self.renew()

    def renew(self) -> None:
        """In the child: a lock that another thread held is nobody's, an open transaction the parent's."""
        self._lock = threading.Lock()
        self._session: Session | None = None

    def _open(self) -> Session | None:
        engine = self._engine()
        if self._session is None and engine is not None:
            self._session = engine.open_session(dynamic=True)
        return self._session

    @property
    def session(self) -> Session | None:
        """The session, made when it is first needed; None when the engine is gone."""
        with self._lock:
            return self._open()

    def replace(self, old: tuple[UUID, ...], new: tuple[Filter, ...]) -> tuple[Filter, ...]:
        """Delete by key what is still there, and add; one commit.  PolicyError as a transaction raises it."""
        with self._lock:
            session = self._open()
            if session is None:
                return ()
            with session.transaction():
                for key in old:
                    try:
                        session.filters.delete(key)
                    except PolicyObjectNotFound:
                        continue  # somebody with the right to do so deleted it
                return tuple(session.filters.add(each) for each in new)


_desks: Final[weakref.WeakKeyDictionary[FilterEngine, _Desk]] = weakref.WeakKeyDictionary()


def _desk_of(engine: FilterEngine) -> _Desk:
    return _desks.setdefault(engine, _Desk(engine))


def desk_session(engine: FilterEngine) -> Session | None:
    """The session that adds the filters of this process's sockets: whoever asks it hears of all changes but those."""
    return _desk_of(engine).session


def _renew_all() -> None:
    for desk in tuple(_desks.values()):
        desk.renew()


in_child(_renew_all)


class SocketFilters:
    """The filters of one socket, or of a listener and all that it accepted."""

    def __init__(self, engine: FilterEngine) -> None:
        self._desk = _desk_of(engine)
        self._lock = threading.Lock()
        self._holders = 1
        self._keys: tuple[UUID, ...] = ()

    def place(self, *wanted: Filter) -> tuple[Filter, ...]:
        """Have these filters and no others.  Raises what the engine raises; the old ones are still there then."""
        with self._lock:
            if not self._holders:
                return ()
            placed = self._desk.replace(self._keys, wanted)
            self._keys = tuple(each.key for each in placed)
            return placed

    def hold(self) -> None:
        """One more socket lives by them."""
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        """One less; the last one takes them away.  An engine that was closed took them with it."""
        with self._lock:
            self._holders -= 1
            if self._holders:
                return
            keys, self._keys = self._keys, ()
        if keys:
            try:
                self._desk.replace(keys, ())
            except PolicyStateError:
                return


def filters_of(endpoint: Endpoint, settings: SecuritySettings) -> Iterator[Filter]:
    """What a socket with these settings has there."""
    version = endpoint.version
    traffic = (*traffic_of(endpoint), match(Field.IP_LOCAL_ADDRESS_TYPE, int(AddressType.UNICAST)))
    clear = settings.allow_insecure
    yield _callout(
        endpoint,
        "OUTBOUND_TRANSPORT",
        traffic,
        ids.CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4 if version == 4 else ids.CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V6,
        OutboundContext.NEGOTIATE_DISCOVER if clear else 0,
    )
    yield _callout(
        endpoint,
        "INBOUND_TRANSPORT",
        traffic,
        ids.CALLOUT_IPSEC_INBOUND_TRANSPORT_V4 if version == 4 else ids.CALLOUT_IPSEC_INBOUND_TRANSPORT_V6,
        InboundContext.PASSTHRU | InboundContext.PERSIST_CONNECTION_SECURITY if clear else 0,
    )
    demanded = AleContext.REQUIRE_IPSEC_ENCRYPTION if settings.guarantee_encryption else 0
    if not clear:
        demanded |= AleContext.REQUIRE_IPSEC_SECURITY
    if endpoint.connects:
        yield _callout(
            endpoint,
            "ALE_AUTH_CONNECT",
            traffic,
            ids.CALLOUT_IPSEC_ALE_CONNECT_V4 if version == 4 else ids.CALLOUT_IPSEC_ALE_CONNECT_V6,
            demanded,
        )
    if endpoint.accepts and not clear:
        yield _callout(
            endpoint,
            "ALE_AUTH_RECV_ACCEPT",
            traffic,
            ids.CALLOUT_IPSEC_INBOUND_INITIATE_SECURE_V4
            if version == 4
            else ids.CALLOUT_IPSEC_INBOUND_INITIATE_SECURE_V6,
            demanded,
        )
    named_policies = settings if isinstance(settings, IPsecSettings) else IPsecSettings()
    main_mode = named(named_policies.main_mode_policy) or ids.PROVIDER_CONTEXT_MODERN_MAIN_MODE
    quick_mode = named(named_policies.quick_mode_policy) or ids.PROVIDER_CONTEXT_MODERN_QUICK_MODE
    yield _policy(endpoint, "IKEEXT", _addresses(endpoint), main_mode)
    yield _policy(endpoint, "IPSEC", traffic_of(endpoint), quick_mode)


def traffic_of(endpoint: Endpoint) -> tuple[Condition, ...]:
    """The conditions that an endpoint's traffic, and no other's, fulfils."""
    conditions = [match(Field.IP_PROTOCOL, endpoint.protocol), match(Field.IP_LOCAL_PORT, endpoint.our_port)]
    if endpoint.our_host:
        conditions.append(match(Field.IP_LOCAL_ADDRESS, endpoint.our_host))
    if endpoint.peer_host:
        conditions.append(match(Field.IP_REMOTE_ADDRESS, endpoint.peer_host))
    if endpoint.peer_port:
        conditions.append(match(Field.IP_REMOTE_PORT, endpoint.peer_port))
    return tuple(conditions)


def _addresses(endpoint: Endpoint) -> tuple[Condition, ...]:
    if not endpoint.our_port:
        return (match(Field.IP_LOCAL_ADDRESS, _UNSPECIFIED[endpoint.version]),)
    conditions = []
    if endpoint.our_host:
        conditions.append(match(Field.IP_LOCAL_ADDRESS, endpoint.our_host))
    if endpoint.peer_host:
        conditions.append(match(Field.IP_REMOTE_ADDRESS, endpoint.peer_host))
    return tuple(conditions)


def _callout(
    endpoint: Endpoint, layer: str, conditions: tuple[Condition, ...], callout: UUID, raw_context: int
) -> Filter:
    return Filter(
        f"secure socket, {layer.lower().replace('_', ' ')}",
        layer=layer_for(layer, endpoint.version),
        action=ActionType.CALLOUT_TERMINATING,
        action_key=callout,
        conditions=conditions,
        sublayer=ids.SUBLAYER_SECURE_SOCKET,
        provider=ids.PROVIDER_SECURESOCK,
        raw_context=int(raw_context),
    )


def _policy(endpoint: Endpoint, layer: str, conditions: tuple[Condition, ...], context: UUID) -> Filter:
    return Filter(
        f"secure socket, {layer.lower()} policy",
        layer=layer_for(layer, endpoint.version),
        conditions=conditions,
        sublayer=ids.SUBLAYER_SECURE_SOCKET,
        provider=ids.PROVIDER_SECURESOCK,
        provider_context=context,
    )
