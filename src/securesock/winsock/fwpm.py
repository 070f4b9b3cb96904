"""The functions of fwpmu.h that a program of the Secure Socket Extensions uses, over the engine of securesock.policy.

    from securesock.winsock import fwpm

    engine = fwpm.FwpmEngineOpen0()
    fwpm.FwpmProviderContextAdd0(engine, ProviderContext("my quick mode", key=key, type=..., content=...))
    ...
    fwpm.IkeextSaGetById1(engine, info.MmSaId, info.SaLookupContext).ikeCredentials
    fwpm.FwpmEngineClose0(engine)

The engine behind is this process's (``local_engine``), which sockets ask when their context says policy=local_engine().
Objects are those of securesock.policy, whose fields have fwpmtypes.h's names in Python's spelling; what only these
functions return has Windows' own (fwpm_types).  An output parameter is the return value; FwpmFreeMemory0 has nothing to
free.  What fails raises PolicyError with the FWP_E_ code in ``code``, a handle that is none WSAError with
ERROR_INVALID_HANDLE.  Handles are this process's, and a child begins without its parent's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar, cast
from uuid import UUID

from ..engine.fork import in_child
from ..policy.access import Right, SecurityDescriptor
from ..policy.changes import Change
from ..policy.enumeration import ContextTemplate, FilterTemplate, ObjectTemplate, Template
from ..policy.errors import PolicyCode, error_for
from ..policy.events import NetEvent, NetEventTemplate
from ..policy.filter_engine import TRANSACTION_WAIT_S, FilterEngine
from ..policy.model import Callout, Filter, PolicyObject, Provider, ProviderContext, Sublayer
from ..policy.session import Container, Session
from .fwpm_types import (
    FWPM_SESSION0,
    FWPM_SUBSCRIPTION0,
    IKEEXT_SA_DETAILS1,
    IKEEXT_SA_ENUM_TEMPLATE0,
    IKEEXT_STATISTICS1,
    IPSEC_SA_CONTEXT1,
    IPSEC_SA_CONTEXT_ENUM_TEMPLATE0,
    IPSEC_STATISTICS1,
)
from .handles import Enumeration, HandleTable, Subscribed
from .sa_functions import ike_statistics, ipsec_statistics, sa_contexts, sa_details

__all__ = [
    "FWPM_ENGINE_COLLECT_NET_EVENTS",
    "FWPM_SESSION0",
    "FWPM_SESSION_FLAG_DYNAMIC",
    "FWPM_SUBSCRIPTION0",
    "FWPM_SUBSCRIPTION_FLAG_NOTIFY_ON_ADD",
    "FWPM_SUBSCRIPTION_FLAG_NOTIFY_ON_DELETE",
    "FWPM_TXN_READ_ONLY",
    "FwpmCalloutAdd0",
    "FwpmCalloutCreateEnumHandle0",
    "FwpmCalloutDeleteById0",
    "FwpmCalloutDeleteByKey0",
    "FwpmCalloutDestroyEnumHandle0",
    "FwpmCalloutEnum0",
    "FwpmCalloutGetById0",
    "FwpmCalloutGetByKey0",
    "FwpmCalloutSubscribeChanges0",
    "FwpmCalloutUnsubscribeChanges0",
    "FwpmEngineClose0",
    "FwpmEngineGetOption0",
    "FwpmEngineOpen0",
    "FwpmEngineSetOption0",
    "FwpmFilterAdd0",
    "FwpmFilterCreateEnumHandle0",
    "FwpmFilterDeleteById0",
    "FwpmFilterDeleteByKey0",
    "FwpmFilterDestroyEnumHandle0",
    "FwpmFilterEnum0",
    "FwpmFilterGetById0",
    "FwpmFilterGetByKey0",
    "FwpmFilterSubscribeChanges0",
    "FwpmFilterUnsubscribeChanges0",
    "FwpmFreeMemory0",
    "FwpmNetEventCreateEnumHandle0",
    "FwpmNetEventDestroyEnumHandle0",
    "FwpmNetEventEnum0",
    "FwpmNetEventEnum1",
    "FwpmNetEventSubscribe0",
    "FwpmNetEventUnsubscribe0",
    "FwpmProviderAdd0",
    "FwpmProviderContextAdd0",
    "FwpmProviderContextAdd1",
    "FwpmProviderContextAdd2",
    "FwpmProviderContextCreateEnumHandle0",
    "FwpmProviderContextDeleteById0",
    "FwpmProviderContextDeleteByKey0",
    "FwpmProviderContextDestroyEnumHandle0",
    "FwpmProviderContextEnum0",
    "FwpmProviderContextEnum1",
    "FwpmProviderContextGetById0",
    "FwpmProviderContextGetById1",
    "FwpmProviderContextGetByKey0",
    "FwpmProviderContextGetByKey1",
    "FwpmProviderContextSubscribeChanges0",
    "FwpmProviderContextUnsubscribeChanges0",
    "FwpmProviderCreateEnumHandle0",
    "FwpmProviderDeleteByKey0",
    "FwpmProviderDestroyEnumHandle0",
    "FwpmProviderEnum0",
    "FwpmProviderGetByKey0",
    "FwpmProviderSubscribeChanges0",
    "FwpmProviderUnsubscribeChanges0",
    "FwpmSubLayerAdd0",
    "FwpmSubLayerCreateEnumHandle0",
    "FwpmSubLayerDeleteByKey0",
    "FwpmSubLayerDestroyEnumHandle0",
    "FwpmSubLayerEnum0",
    "FwpmSubLayerGetByKey0",
    "FwpmSubLayerSubscribeChanges0",
    "FwpmSubLayerUnsubscribeChanges0",
    "FwpmTransactionAbort0",
    "FwpmTransactionBegin0",
    "FwpmTransactionCommit0",
    "IKEEXT_SA_DETAILS1",
    "IKEEXT_SA_ENUM_TEMPLATE0",
    "IKEEXT_STATISTICS1",
    "INFINITE",
    "IPSEC_SA_CONTEXT1",
    "IPSEC_SA_CONTEXT_ENUM_TEMPLATE0",
    "IPSEC_STATISTICS1",
    "IPsecGetStatistics0",
    "IPsecGetStatistics1",
    "IPsecSaContextCreateEnumHandle0",
    "IPsecSaContextDestroyEnumHandle0",
    "IPsecSaContextEnum0",
    "IPsecSaContextEnum1",
    "IPsecSaContextGetById0",
    "IPsecSaContextGetById1",
    "IkeextGetStatistics0",
    "IkeextGetStatistics1",
    "IkeextSaCreateEnumHandle0",
    "IkeextSaDestroyEnumHandle0",
    "IkeextSaEnum0",
    "IkeextSaEnum1",
    "IkeextSaEnum2",
    "IkeextSaGetById0",
    "IkeextSaGetById1",
    "IkeextSaGetById2",
    "RPC_C_AUTHN_DEFAULT",
    "RPC_C_AUTHN_WINNT",
    "local_engine",
    "use_local_engine",
]

RPC_C_AUTHN_WINNT: Final = 10
RPC_C_AUTHN_DEFAULT: Final = 0xFFFFFFFF
FWPM_SESSION_FLAG_DYNAMIC: Final = 0x1
FWPM_TXN_READ_ONLY: Final = 0x1
FWPM_SUBSCRIPTION_FLAG_NOTIFY_ON_ADD: Final = 0x1
FWPM_SUBSCRIPTION_FLAG_NOTIFY_ON_DELETE: Final = 0x2
FWPM_ENGINE_COLLECT_NET_EVENTS: Final = 0
INFINITE: Final = 0xFFFFFFFF

_CODE: Final = PolicyCode

Item = TypeVar("Item", bound=PolicyObject)
TemplateOf = TypeVar("TemplateOf", bound=Template)


# -- this process's engine ---------------------------------------------------------------------------------------------


class _Local:
    """The engine behind FwpmEngineOpen0, made when it is first asked for."""

    def __init__(self) -> None:
        self._engine: FilterEngine | None = None
        self.renew()

    def renew(self) -> None:
        """In the child: a lock of its own."""
        self._lock = threading.Lock()

    def engine(self) -> FilterEngine:
        """This process's engine."""
        with self._lock:
            if self._engine is None:
                self._engine = FilterEngine.open(":memory:")
            return self._engine

    def use(self, engine: FilterEngine) -> None:
        """Another one from now on."""
        with self._lock:
            self._engine = engine


_local: Final = _Local()
in_child(_local.renew)


def local_engine() -> FilterEngine:
    """The engine that FwpmEngineOpen0 opens: of this process, in memory, unless use_local_engine() named another."""
    return _local.engine()


def use_local_engine(engine: FilterEngine) -> None:
    """Have FwpmEngineOpen0 open ``engine``, of a file perhaps; sessions that are open stay with theirs."""
    _local.use(engine)


_handles: Final = HandleTable()
in_child(_handles.renew)


def _session(engine: int) -> Session:
    return _handles.find(engine, Session)


def _owned(engine: int, handle: int) -> Enumeration:
    _session(engine)
    found = _handles.find(handle, Enumeration)
    if found.owner != engine:
        raise error_for(_CODE.WRONG_SESSION, "the enumeration was made with another engine handle")
    return found


# -- engine and transactions -------------------------------------------------------------------------------------------


def FwpmEngineOpen0(
    server_name: str | None = None,
    authn_service: int = RPC_C_AUTHN_WINNT,
    auth_identity: None = None,
    session: FWPM_SESSION0 | None = None,
) -> int:
    """A handle of a session with this process's engine.

    ERROR_NOT_SUPPORTED: another machine, another authentication service.  ALREADY_EXISTS: a session with this key is
    open.  INVALID_FLAGS.
    """
    if server_name or authn_service not in (RPC_C_AUTHN_WINNT, RPC_C_AUTHN_DEFAULT):
        raise error_for(_CODE.ERROR_NOT_SUPPORTED, "only the engine of this process is opened, as its own user")
    wanted = FWPM_SESSION0() if session is None else session
    if wanted.flags & ~FWPM_SESSION_FLAG_DYNAMIC:
        raise error_for(_CODE.INVALID_FLAGS, f"a session has no flags {wanted.flags:#x}")
    opened = local_engine().open_session(
        dynamic=bool(wanted.flags & FWPM_SESSION_FLAG_DYNAMIC),
        transaction_wait_s=_wait_s(wanted.txnWaitTimeoutInMSec),
        key=wanted.sessionKey,
    )
    return _handles.put(opened)


def _wait_s(milliseconds: int) -> float | None:
    if milliseconds == INFINITE:
        return None
    return milliseconds / 1000 if milliseconds else TRANSACTION_WAIT_S


def FwpmEngineClose0(engine: int) -> int:
    """End the session: its transaction is aborted, what it added dynamically and what was made with it is gone; 0."""
    session = _handles.take(engine, Session)
    for each in _handles.take_of(engine):
        each.subscription.cancel()
    session.close()
    return 0


def FwpmTransactionBegin0(engine: int, flags: int = 0) -> int:
    """TXN_IN_PROGRESS, TIMEOUT, INVALID_FLAGS; 0."""
    if flags & ~FWPM_TXN_READ_ONLY:
        raise error_for(_CODE.INVALID_FLAGS, f"a transaction has no flags {flags:#x}")
    _session(engine).begin(read_only=bool(flags & FWPM_TXN_READ_ONLY))
    return 0


def FwpmTransactionCommit0(engine: int) -> int:
    """NO_TXN_IN_PROGRESS, TXN_ABORTED; 0."""
    _session(engine).commit()
    return 0


def FwpmTransactionAbort0(engine: int) -> int:
    """NO_TXN_IN_PROGRESS, TXN_ABORTED; 0."""
    _session(engine).abort()
    return 0


def FwpmEngineGetOption0(engine: int, option: int) -> int:
    """FWPM_ENGINE_COLLECT_NET_EVENTS; INVALID_ENUMERATOR for any other."""
    _check_option(option)
    return int(_session(engine).net_events.is_collecting)


def FwpmEngineSetOption0(engine: int, option: int, value: int) -> int:
    """FWPM_ENGINE_COLLECT_NET_EVENTS, 0 or 1; 0."""
    _check_option(option)
    _session(engine).net_events.is_collecting = bool(value)
    return 0


def _check_option(option: int) -> None:
    if option != FWPM_ENGINE_COLLECT_NET_EVENTS:
        raise error_for(_CODE.INVALID_ENUMERATOR, f"there is no engine option {option!r} here")


def FwpmFreeMemory0(pointer: object = None) -> None:
    """Nothing: memory is Python's."""


# -- objects -----------------------------------------------------------------------------------------------------------


class _Objects(Generic[Item, TemplateOf]):
    """The calls that every kind of object has."""

    def __init__(self, container: Callable[[Session], Container[Item, TemplateOf]]) -> None:
        self._container: Final = container

    def add(self, engine: int, item: Item, sd: SecurityDescriptor | None = None) -> int:
        """Add an object; its id.  What Container.add raises."""
        return self._container(_session(engine)).add(item, security=sd).id

    def delete_by_key(self, engine: int, key: UUID) -> int:
        """Delete by GUID; 0.  NOT_FOUND codes, IN_USE, BUILTIN_OBJECT."""
        self._container(_session(engine)).delete(key)
        return 0

    def delete_by_id(self, engine: int, number: int) -> int:
        """Delete by id; 0."""
        self._container(_session(engine)).delete(number)
        return 0

    def find_by_key(self, engine: int, key: UUID) -> Item:
        """The object with this GUID."""
        return self._container(_session(engine)).find(key)

    def find_by_id(self, engine: int, number: int) -> Item:
        """The object with this id."""
        return self._container(_session(engine)).find(number)

    def create_enum(self, engine: int, template: TemplateOf | None = None) -> int:
        """A handle of an enumeration of what is there now and the template means; None: all."""
        found = self._container(_session(engine)).enumerate(template)
        return _handles.put(Enumeration(engine, list(found)))

    def enum(self, engine: int, enum_handle: int, num_entries: int) -> list[Item]:
        """The next objects, at most so many; none when there are no more."""
        return cast("list[Item]", _next(engine, enum_handle, num_entries))

    def subscribe(self, engine: int, subscription: FWPM_SUBSCRIPTION0, callback: Callable[[Change], object]) -> int:
        """Have a thread call ``callback`` with each change of other sessions; a handle of the subscription.

        TXN_IN_PROGRESS inside a transaction, NEVER_MATCH without a flag, INVALID_FLAGS.
        """
        flags = subscription.flags
        both = FWPM_SUBSCRIPTION_FLAG_NOTIFY_ON_ADD | FWPM_SUBSCRIPTION_FLAG_NOTIFY_ON_DELETE
        if flags & ~both:
            raise error_for(_CODE.INVALID_FLAGS, f"a subscription has no flags {flags:#x}")
        made = self._container(_session(engine)).subscribe(
            callback,
            template=cast("TemplateOf | None", subscription.enumTemplate),
            add=bool(flags & FWPM_SUBSCRIPTION_FLAG_NOTIFY_ON_ADD),
            delete=bool(flags & FWPM_SUBSCRIPTION_FLAG_NOTIFY_ON_DELETE),
        )
        return _handles.put(Subscribed(engine, made))


def _next(engine: int, enum_handle: int, num_entries: int) -> list[object]:
    enumeration = _owned(engine, enum_handle)
    if num_entries < 1:
        raise error_for(_CODE.INVALID_PARAMETER, "an enumeration is asked for at least one entry")
    taken, enumeration.left = enumeration.left[:num_entries], enumeration.left[num_entries:]
    return taken


def _destroy(engine: int, enum_handle: int) -> int:
    """End an enumeration; 0."""
    _owned(engine, enum_handle)
    _handles.take(enum_handle, Enumeration)
    return 0


def _unsubscribe(engine: int, change_handle: int) -> int:
    """Hear of nothing more; 0."""
    _session(engine)
    _handles.take(change_handle, Subscribed).subscription.cancel()
    return 0


_providers: Final = _Objects[Provider, ObjectTemplate](lambda session: session.providers)
_contexts: Final = _Objects[ProviderContext, ContextTemplate](lambda session: session.provider_contexts)
_sublayers: Final = _Objects[Sublayer, ObjectTemplate](lambda session: session.sublayers)
_callouts: Final = _Objects[Callout, ObjectTemplate](lambda session: session.callouts)
_filters: Final = _Objects[Filter, FilterTemplate](lambda session: session.filters)

FwpmProviderAdd0: Final = _providers.add
FwpmProviderDeleteByKey0: Final = _providers.delete_by_key
FwpmProviderGetByKey0: Final = _providers.find_by_key
FwpmProviderCreateEnumHandle0: Final = _providers.create_enum
FwpmProviderEnum0: Final = _providers.enum
FwpmProviderDestroyEnumHandle0: Final = _destroy
FwpmProviderSubscribeChanges0: Final = _providers.subscribe
FwpmProviderUnsubscribeChanges0: Final = _unsubscribe

FwpmProviderContextAdd0: Final = _contexts.add
FwpmProviderContextAdd1: Final = _contexts.add
FwpmProviderContextAdd2: Final = _contexts.add
FwpmProviderContextDeleteById0: Final = _contexts.delete_by_id
FwpmProviderContextDeleteByKey0: Final = _contexts.delete_by_key
FwpmProviderContextGetById0: Final = _contexts.find_by_id
FwpmProviderContextGetById1: Final = _contexts.find_by_id
FwpmProviderContextGetByKey0: Final = _contexts.find_by_key
FwpmProviderContextGetByKey1: Final = _contexts.find_by_key
FwpmProviderContextCreateEnumHandle0: Final = _contexts.create_enum
FwpmProviderContextEnum0: Final = _contexts.enum
FwpmProviderContextEnum1: Final = _contexts.enum
FwpmProviderContextDestroyEnumHandle0: Final = _destroy
FwpmProviderContextSubscribeChanges0: Final = _contexts.subscribe
FwpmProviderContextUnsubscribeChanges0: Final = _unsubscribe

FwpmSubLayerAdd0: Final = _sublayers.add
FwpmSubLayerDeleteByKey0: Final = _sublayers.delete_by_key
FwpmSubLayerGetByKey0: Final = _sublayers.find_by_key
FwpmSubLayerCreateEnumHandle0: Final = _sublayers.create_enum
FwpmSubLayerEnum0: Final = _sublayers.enum
FwpmSubLayerDestroyEnumHandle0: Final = _destroy
FwpmSubLayerSubscribeChanges0: Final = _sublayers.subscribe
FwpmSubLayerUnsubscribeChanges0: Final = _unsubscribe

FwpmCalloutAdd0: Final = _callouts.add
FwpmCalloutDeleteById0: Final = _callouts.delete_by_id
FwpmCalloutDeleteByKey0: Final = _callouts.delete_by_key
FwpmCalloutGetById0: Final = _callouts.find_by_id
FwpmCalloutGetByKey0: Final = _callouts.find_by_key
FwpmCalloutCreateEnumHandle0: Final = _callouts.create_enum
FwpmCalloutEnum0: Final = _callouts.enum
FwpmCalloutDestroyEnumHandle0: Final = _destroy
FwpmCalloutSubscribeChanges0: Final = _callouts.subscribe
FwpmCalloutUnsubscribeChanges0: Final = _unsubscribe

FwpmFilterAdd0: Final = _filters.add
FwpmFilterDeleteById0: Final = _filters.delete_by_id
FwpmFilterDeleteByKey0: Final = _filters.delete_by_key
FwpmFilterGetById0: Final = _filters.find_by_id
FwpmFilterGetByKey0: Final = _filters.find_by_key
FwpmFilterCreateEnumHandle0: Final = _filters.create_enum
FwpmFilterEnum0: Final = _filters.enum
FwpmFilterDestroyEnumHandle0: Final = _destroy
FwpmFilterSubscribeChanges0: Final = _filters.subscribe
FwpmFilterUnsubscribeChanges0: Final = _unsubscribe


# -- SAs ---------------------------------------------------------------------------------------------------------------


def IPsecSaContextCreateEnumHandle0(engine: int, template: IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 | None = None) -> int:
    """A handle of an enumeration of the SA contexts of this process's sockets; INVALID_NET_MASK."""
    return _handles.put(Enumeration(engine, list(sa_contexts(_reading(engine), template))))


def IPsecSaContextEnum1(engine: int, enum_handle: int, num_entries: int) -> list[IPSEC_SA_CONTEXT1]:
    """The next SA contexts."""
    return cast("list[IPSEC_SA_CONTEXT1]", _next(engine, enum_handle, num_entries))


def IPsecSaContextGetById1(engine: int, number: int) -> IPSEC_SA_CONTEXT1:
    """The SA context with this id, which is WSAQuerySocketSecurity's QmSaId.  NOT_FOUND."""
    for each in sa_contexts(_reading(engine), None):
        if each.saContextId == number:
            return each
    raise error_for(_CODE.NOT_FOUND, f"no SA context of this process has the id {number}")


def IkeextSaCreateEnumHandle0(engine: int, template: IKEEXT_SA_ENUM_TEMPLATE0 | None = None) -> int:
    """A handle of an enumeration of the main mode SAs of this process's sockets; INVALID_NET_MASK."""
    _reading(engine)
    return _handles.put(Enumeration(engine, list(sa_details(template))))


def IkeextSaEnum1(engine: int, enum_handle: int, num_entries: int) -> list[IKEEXT_SA_DETAILS1]:
    """The next main mode SAs."""
    return cast("list[IKEEXT_SA_DETAILS1]", _next(engine, enum_handle, num_entries))


def IkeextSaGetById0(engine: int, number: int) -> IKEEXT_SA_DETAILS1:
    """The main mode SA with this id, which is WSAQuerySocketSecurity's MmSaId.  NOT_FOUND."""
    return IkeextSaGetById1(engine, number)


def IkeextSaGetById1(engine: int, number: int, sa_lookup_context: UUID | None = None) -> IKEEXT_SA_DETAILS1:
    """The same; with a SaLookupContext only if that is of this SA.  NOT_FOUND."""
    _reading(engine)
    belongs = sa_lookup_context is None or sa_lookup_context.int >> 64 == number
    for each in sa_details(None):
        if each.saId == number and belongs:
            return each
    raise error_for(_CODE.NOT_FOUND, f"no main mode SA of this process has the id {number}, or not with this context")


def IPsecGetStatistics1(engine: int) -> IPSEC_STATISTICS1:
    """What this process counts."""
    _reading(engine, Right.READ_STATS)
    return ipsec_statistics()


def IkeextGetStatistics1(engine: int) -> IKEEXT_STATISTICS1:
    """What this process counts."""
    _reading(engine, Right.READ_STATS)
    return ike_statistics()


def _reading(engine: int, right: Right = Right.READ) -> Session:
    """ERROR_ACCESS_DENIED without the right; the SA databases inherit the engine's descriptor."""
    session = _session(engine)
    session.need(right, "engine")
    return session


IPsecSaContextEnum0: Final = IPsecSaContextEnum1
IPsecSaContextGetById0: Final = IPsecSaContextGetById1
IPsecSaContextDestroyEnumHandle0: Final = _destroy
IkeextSaEnum0: Final = IkeextSaEnum1
IkeextSaEnum2: Final = IkeextSaEnum1
IkeextSaGetById2: Final = IkeextSaGetById1
IkeextSaDestroyEnumHandle0: Final = _destroy
IPsecGetStatistics0: Final = IPsecGetStatistics1
IkeextGetStatistics0: Final = IkeextGetStatistics1


# -- net events --------------------------------------------------------------------------------------------------------


def FwpmNetEventCreateEnumHandle0(engine: int, template: NetEventTemplate | None = None) -> int:
    """A handle of an enumeration of what went wrong lately.  NET_EVENTS_DISABLED, INVALID_INTERVAL."""
    return _handles.put(Enumeration(engine, list(_session(engine).net_events.enumerate(template))))


def FwpmNetEventEnum1(engine: int, enum_handle: int, num_entries: int) -> list[NetEvent]:
    """The next events, oldest first."""
    return cast("list[NetEvent]", _next(engine, enum_handle, num_entries))


def FwpmNetEventSubscribe0(
    engine: int, template: NetEventTemplate | None, callback: Callable[[NetEvent], object]
) -> int:
    """Have a thread call ``callback`` with each event from now on; a handle.  TXN_IN_PROGRESS, NET_EVENTS_DISABLED."""
    made = _session(engine).net_events.subscribe(callback, template=template)
    return _handles.put(Subscribed(engine, made))


FwpmNetEventEnum0: Final = FwpmNetEventEnum1
FwpmNetEventDestroyEnumHandle0: Final = _destroy
FwpmNetEventUnsubscribe0: Final = _unsubscribe
