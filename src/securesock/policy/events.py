"""Net events: what went wrong, kept for a while, enumerated by template, and told to who subscribed.

FWPM_NET_EVENT: a header with what is known of the traffic, and a detail by the type of the event.  Keying modules and
planes report; the engine reports what it blocks when it is asked to authorize.  Times are aware UTC datetimes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias
from uuid import UUID

from .access import Token
from .changes import Subscription
from .conditions import Condition, FieldTest, compile_conditions
from .errors import PolicyCode, error_for
from .fields import Field, Kind
from .identifiers import ZERO_GUID
from .ipsec_numbers import AuthMethodType, KeyModuleType
from .layers import Layer, LayerInfo, Slots, table_of
from .values import DataType, Direction, Range

__all__ = [
    "ClassifyAllow",
    "ClassifyDrop",
    "DospDrop",
    "EmFailure",
    "FailurePoint",
    "HeaderFlag",
    "KernelDrop",
    "MmFailure",
    "NetEvent",
    "NetEventLog",
    "NetEventTemplate",
    "NetEventType",
    "QmFailure",
    "SaRole",
    "event_of_flow",
]

# So many events are kept; the oldest go first.
LOG_LIMIT: Final = 4096


class NetEventType(IntEnum):
    """FWPM_NET_EVENT_TYPE."""

    IKEEXT_MM_FAILURE = 0
    IKEEXT_QM_FAILURE = 1
    IKEEXT_EM_FAILURE = 2
    CLASSIFY_DROP = 3
    IPSEC_KERNEL_DROP = 4
    IPSEC_DOSP_DROP = 5
    CLASSIFY_ALLOW = 6
    CAPABILITY_DROP = 7
    CAPABILITY_ALLOW = 8
    CLASSIFY_DROP_MAC = 9
    LPM_PACKET_ARRIVAL = 10


class HeaderFlag(IntFlag):
    """FWPM_NET_EVENT_FLAG_*_SET: which fields of the header are known; those after IP_VERSION never are here."""

    IP_PROTOCOL = 0x1
    LOCAL_ADDR = 0x2
    REMOTE_ADDR = 0x4
    LOCAL_PORT = 0x8
    REMOTE_PORT = 0x10
    APP_ID = 0x20
    USER_ID = 0x40
    SCOPE_ID = 0x80
    IP_VERSION = 0x100
    REAUTH_REASON = 0x200
    PACKAGE_ID = 0x400
    ENTERPRISE_ID = 0x800
    POLICY_FLAGS = 0x1000
    EFFECTIVE_NAME = 0x2000


class FailurePoint(IntEnum):
    """IPSEC_FAILURE_POINT."""

    NONE = 0
    ME = 1
    PEER = 2


class SaRole(IntEnum):
    """IKEEXT_SA_ROLE."""

    INITIATOR = 0
    RESPONDER = 1


@dataclass(frozen=True, slots=True)
class MmFailure:
    """IKEEXT_MM_FAILURE: a main mode ended without an SA.  ``error`` is a code of winerror.h (13801 ...)."""

    error: int
    failure_point: FailurePoint = FailurePoint.NONE
    module: KeyModuleType = KeyModuleType.IKEV2
    state: int = 0
    role: SaRole = SaRole.INITIATOR
    method: AuthMethodType = AuthMethodType.CERTIFICATE
    cert_hash: bytes = b""
    sa_id: int = 0
    filter_id: int = 0
    local_principal: str = ""
    remote_principal: str = ""
    policy: UUID | None = None


@dataclass(frozen=True, slots=True)
class QmFailure:
    """IKEEXT_QM_FAILURE: a quick mode ended without SAs."""

    error: int
    failure_point: FailurePoint = FailurePoint.NONE
    module: KeyModuleType = KeyModuleType.IKEV2
    state: int = 0
    role: SaRole = SaRole.INITIATOR
    is_tunnel: bool = False
    filter_id: int = 0
    main_mode_sa_id: int = 0
    policy: UUID | None = None


@dataclass(frozen=True, slots=True)
class EmFailure:
    """IKEEXT_EM_FAILURE: an extended mode ended without a user."""

    error: int
    failure_point: FailurePoint = FailurePoint.NONE
    state: int = 0
    role: SaRole = SaRole.INITIATOR
    method: AuthMethodType = AuthMethodType.KERBEROS
    sa_id: int = 0
    filter_id: int = 0
    local_principal: str = ""
    remote_principal: str = ""


@dataclass(frozen=True, slots=True)
class ClassifyDrop:
    """CLASSIFY_DROP: a filter blocked.  ``is_veto``: its callout overrode a hard permit (audit event 5153)."""

    filter_id: int
    layer: Layer
    is_veto: bool = False
    vetoed_filter_id: int = 0
    direction: Direction | None = None
    is_loopback: bool = False


@dataclass(frozen=True, slots=True)
class ClassifyAllow:
    """CLASSIFY_ALLOW: a filter permitted; recorded only where keyword CLASSIFY_ALLOW is collected."""

    filter_id: int
    layer: Layer


@dataclass(frozen=True, slots=True)
class KernelDrop:
    """IPSEC_KERNEL_DROP: a packet did not pass IPsec's checks.  ``status`` is a code of winerror.h (13910 ...)."""

    status: int
    direction: Direction
    spi: int = 0
    filter_id: int = 0
    layer: Layer | None = None


@dataclass(frozen=True, slots=True)
class DospDrop:
    """IPSEC_DOSP_DROP: DoS protection did not forward a packet.  ``status`` is a code of winerror.h."""

    status: int
    direction: Direction
    public_address: str = ""
    internal_address: str = ""


Detail: TypeAlias = MmFailure | QmFailure | EmFailure | ClassifyDrop | ClassifyAllow | KernelDrop | DospDrop
_TYPES: Final[dict[type[Detail], NetEventType]] = {
    MmFailure: NetEventType.IKEEXT_MM_FAILURE,
    QmFailure: NetEventType.IKEEXT_QM_FAILURE,
    EmFailure: NetEventType.IKEEXT_EM_FAILURE,
    ClassifyDrop: NetEventType.CLASSIFY_DROP,
    ClassifyAllow: NetEventType.CLASSIFY_ALLOW,
    KernelDrop: NetEventType.IPSEC_KERNEL_DROP,
    DospDrop: NetEventType.IPSEC_DOSP_DROP,
}


@dataclass(frozen=True, slots=True)
class NetEvent:
    """FWPM_NET_EVENT.  Addresses are text; None and empty mean not known."""

    detail: Detail
    time: datetime
    protocol: int | None = None
    local_address: str = ""
    remote_address: str = ""
    local_port: int | None = None
    remote_port: int | None = None
    app_id: bytes = b""
    user: str = ""

    @property
    def type(self) -> NetEventType:
        """What kind of event it is."""
        return _TYPES[type(self.detail)]

    @property
    def ip_version(self) -> int:
        """4 or 6 by the addresses, 0 if there is none."""
        known = self.local_address or self.remote_address
        return ip_address(known).version if known else 0

    @property
    def flags(self) -> HeaderFlag:
        """Which fields of the header are known."""
        known = HeaderFlag(0)
        for flag, is_known in (
            (HeaderFlag.IP_PROTOCOL, self.protocol is not None),
            (HeaderFlag.LOCAL_ADDR, bool(self.local_address)),
            (HeaderFlag.REMOTE_ADDR, bool(self.remote_address)),
            (HeaderFlag.LOCAL_PORT, self.local_port is not None),
            (HeaderFlag.REMOTE_PORT, self.remote_port is not None),
            (HeaderFlag.APP_ID, bool(self.app_id)),
            (HeaderFlag.USER_ID, bool(self.user)),
            (HeaderFlag.IP_VERSION, self.ip_version != 0),
        ):
            if is_known:
                known |= flag
        return known

    def values(self) -> dict[Field, int | str | bytes | Token]:
        """What conditions of a template are held against."""
        found: dict[Field, int | str | bytes | Token] = {Field.NET_EVENT_TYPE: int(self.type)}
        if self.protocol is not None:
            found[Field.IP_PROTOCOL] = self.protocol
        if self.local_address:
            found[Field.IP_LOCAL_ADDRESS] = self.local_address
        if self.remote_address:
            found[Field.IP_REMOTE_ADDRESS] = self.remote_address
        if self.local_port is not None:
            found[Field.IP_LOCAL_PORT] = self.local_port
        if self.remote_port is not None:
            found[Field.IP_REMOTE_PORT] = self.remote_port
        if self.app_id:
            found[Field.ALE_APP_ID] = self.app_id
        if self.user:
            found[Field.ALE_USER_ID] = Token((self.user,))
        return found


_FIELDS: Final = (
    Field.NET_EVENT_TYPE,
    Field.IP_PROTOCOL,
    Field.IP_LOCAL_ADDRESS,
    Field.IP_REMOTE_ADDRESS,
    Field.IP_LOCAL_PORT,
    Field.IP_REMOTE_PORT,
    Field.ALE_APP_ID,
    Field.ALE_USER_ID,
)
_TABLES: Final = {version: table_of("net events", ZERO_GUID, version, False, _FIELDS) for version in (4, 6)}


@dataclass(frozen=True, slots=True)
class NetEventTemplate:
    """FWPM_NET_EVENT_ENUM_TEMPLATE0: from ``start`` to ``end``, and conditions as of a filter.

    Conditions on addresses are of one IP version; an event of the other one does not match them.
    """

    start: datetime | None = None
    end: datetime | None = None
    conditions: tuple[Condition, ...] = ()

    def matcher(self) -> Callable[[NetEvent], bool]:
        """Whether an event is meant.

        INVALID_INTERVAL for a time that ends before it begins; conditions by the codes of compile_conditions.
        """
        if self.start is not None and self.end is not None and self.start > self.end:
            raise error_for(PolicyCode.INVALID_INTERVAL, "the interval ends before it begins")
        addresses = [each for each in self.conditions if each.field in _ADDRESSES]
        version = 6 if any(_data_type(each) in Kind.ADDRESS6.condition_types for each in addresses) else 4
        tests = compile_conditions(_TABLES[version], self.conditions)

        def matches(event: NetEvent) -> bool:
            if (self.start is not None and event.time < self.start) or (self.end is not None and event.time > self.end):
                return False
            if addresses and event.ip_version != version:
                return False
            slots = _TABLES[event.ip_version or version].slots_of(event.values())
            return all(_passes(test, slots[test.place]) for test in tests)

        return matches


_ADDRESSES: Final = (Field.IP_LOCAL_ADDRESS, Field.IP_REMOTE_ADDRESS)


def _data_type(condition: Condition) -> DataType:
    data = condition.value.data
    return data.low.type if isinstance(data, Range) else condition.value.type


def _passes(test: FieldTest, value: int | str | bytes | Token | None) -> bool:
    return value is not None and test.predicate(value)


class NetEventLog:
    """The events of one engine.  Thread-safe."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._events: Final[deque[NetEvent]] = deque(maxlen=LOG_LIMIT)
        self._listeners: Final[list[tuple[Callable[[NetEvent], bool], Subscription[NetEvent]]]] = []
        self.is_collecting = True
        self.collects_allowed = False

    def report(self, event: NetEvent) -> None:
        """Record an event and tell subscribers; nothing happens while events are not collected."""
        if not self.is_collecting:
            return
        with self._lock:
            self._events.append(event)
            listeners = list(self._listeners)
        for is_meant, subscription in listeners:
            if is_meant(event):
                subscription.deliver(event)

    def enumerate(self, template: NetEventTemplate | None = None) -> list[NetEvent]:
        """The events that match, oldest first.  PolicyStateError (NET_EVENTS_DISABLED)."""
        self._check_collecting()
        is_meant = (NetEventTemplate() if template is None else template).matcher()
        with self._lock:
            events = list(self._events)
        return [event for event in events if is_meant(event)]

    def subscribe(
        self, template: NetEventTemplate | None = None, callback: Callable[[NetEvent], object] | None = None
    ) -> Subscription[NetEvent]:
        """Hear of events from now on.  PolicyStateError (NET_EVENTS_DISABLED)."""
        self._check_collecting()
        is_meant = (NetEventTemplate() if template is None else template).matcher()
        subscription: Subscription[NetEvent] = Subscription(self._forget)
        with self._lock:
            self._listeners.append((is_meant, subscription))
        if callback is not None:
            subscription.call(callback)
        return subscription

    def _forget(self, subscription: Subscription[NetEvent]) -> None:
        with self._lock:
            self._listeners[:] = [each for each in self._listeners if each[1] is not subscription]

    def _check_collecting(self) -> None:
        if not self.is_collecting:
            raise error_for(PolicyCode.NET_EVENTS_DISABLED, "net events are not collected; see FilterEngine.net_events")


def event_of_flow(detail: Detail, time: datetime, info: LayerInfo, slots: Slots) -> NetEvent:
    """An event about a flow as it was classified; its header has what the layer knew."""
    known = {field: value for field, value in zip(info.fields, slots, strict=True) if value is not None}

    def number(field: Field) -> int | None:
        value = known.get(field)
        return value if isinstance(value, int) else None

    def address(field: Field) -> str:
        value = number(field)
        if value is None:
            return ""
        return str(IPv6Address(value) if info.ip_version == 6 else IPv4Address(value))

    app, user = known.get(Field.ALE_APP_ID), known.get(Field.ALE_USER_ID)
    return NetEvent(
        detail,
        time,
        protocol=number(Field.IP_PROTOCOL),
        local_address=address(Field.IP_LOCAL_ADDRESS),
        remote_address=address(Field.IP_REMOTE_ADDRESS),
        local_port=number(Field.IP_LOCAL_PORT),
        remote_port=number(Field.IP_REMOTE_PORT),
        app_id=app if isinstance(app, bytes) else b"",
        user=user.names[0] if isinstance(user, Token) and user.names else "",
    )
