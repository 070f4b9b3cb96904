"""Sessions: what an application holds.  Collections of objects, transactions, and questions, as one local user.

A session stands for what FwpmEngineOpen0 returns.  A dynamic one takes everything that was added through it away when
it is closed.  One session is used by one thread at a time; sessions of one engine may be used side by side.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, Generic, TypeAlias, TypeVar, cast
from uuid import UUID

from .access import Right, SecurityDescriptor, Token
from .admission import check_delete, lifetime_of, not_found
from .callouts import CalloutFunction
from .catalog import Catalog, Draft, Record, references_of
from .changes import Change, ChangeType, FlowWatch, Subscription
from .engine import Core
from .enumeration import ContextTemplate, FilterTemplate, ObjectTemplate, Template
from .errors import PolicyCode, error_for
from .events import NetEvent, NetEventTemplate
from .explain import Explanation
from .fields import Field
from .layers import FlowValue, Layer, layer_named
from .model import (
    Callout,
    CalloutFlag,
    Filter,
    Lifetime,
    ObjectKind,
    PolicyObject,
    Provider,
    ProviderContext,
    Sublayer,
)
from .transactions import Transaction
from .verdicts import Verdict

__all__ = ["Container", "FlowFields", "NetEvents", "Session"]

Item = TypeVar("Item", bound=PolicyObject)
TemplateOf = TypeVar("TemplateOf", bound=Template)
FlowFields: TypeAlias = Mapping[Field, FlowValue] | Mapping[str, FlowValue] | Mapping[UUID, FlowValue]

_CODE: Final = PolicyCode
_NET_EVENTS: Final = "net event"
_numbers: Final = itertools.count(1)


class Container(Generic[Item, TemplateOf]):
    """The objects of one kind, as this session's user sees them."""

    def __init__(self, session: Session, kind: ObjectKind, any_template: TemplateOf) -> None:
        self._session: Final = session
        self._core: Final = session.core
        self._kind: Final = kind
        self._any: Final = any_template

    def add(self, item: Item, *, security: SecurityDescriptor | None = None) -> Item:
        """Add an object; returned with its key, id and (filters) effective weight.

        ``security``: a descriptor of its own; else it inherits the container's.  Raises InvalidPolicy,
        PolicyConflict, PolicyObjectNotFound for what it refers to, PolicyAccessDenied, and what a transaction can
        raise; nothing is added then.
        """
        session = self._session
        lifetime = lifetime_of(item, session.is_dynamic)
        with session.writing() as transaction:
            session.need(Right.ADD, self._kind.label)
            record = self._core.add(transaction, item, lifetime, security, session.wait_s)
            for kind, key in references_of(record.item):
                target = transaction.draft.find(kind, key)
                if target is not None and not session.may(Right.ADD_LINK, kind.label, target):
                    transaction.draft.remove(record)
                    session.need(Right.ADD_LINK, kind.label, target)
        return cast(Item, record.item)

    def find(self, key: UUID | int) -> Item:
        """The object with a key or an id.  Raises PolicyObjectNotFound, PolicyAccessDenied."""
        session = self._session
        with session.reading() as view:
            record = self._record(view, key)
        session.need(Right.READ, self._kind.label, record)
        return self._shown(record)

    def enumerate(self, template: TemplateOf | None = None) -> list[Item]:
        """The objects that a template means and that this user may read, in the order in which they were added.

        Raises InvalidPolicy for a template that cannot be, PolicyAccessDenied.
        """
        session = self._session
        wanted = self._any if template is None else template
        wanted.check()
        session.need(Right.ENUM, self._kind.label)
        with session.reading() as view:
            is_meant = wanted.matcher(view)
            records = [record for record in view.records(self._kind) if is_meant(record)]
        visible = [record for record in records if self._may(Right.READ, record)]
        return [self._shown(record) for record in wanted.chosen(visible, self._core.state.order_of)]

    def delete(self, key: UUID | int | Item) -> None:
        """Delete an object.  Raises PolicyObjectNotFound, PolicyConflict (in use, built in), PolicyAccessDenied."""
        session = self._session
        wanted = key if isinstance(key, UUID | int) else key.key
        with session.writing() as transaction:
            record = self._record(transaction.draft, wanted)
            session.need(Right.DELETE, self._kind.label, record)
            check_delete(transaction.draft, record)
            self._core.remove(transaction, record, session.wait_s)

    def subscribe(
        self,
        callback: Callable[[Change], object] | None = None,
        *,
        template: TemplateOf | None = None,
        add: bool = True,
        delete: bool = True,
    ) -> Subscription[Change]:
        """Hear of objects that other sessions add or delete, from now on.

        Without ``callback`` the subscription is polled, waited for or iterated; with one a daemon thread calls it.
        Raises PolicyStateError inside a transaction, InvalidPolicy (NEVER_MATCH) when nothing could be heard.
        """
        session = self._session
        session.refuse_in_transaction("subscribe")
        wanted = self._any if template is None else template
        wanted.check()
        types = (*((ChangeType.ADD,) if add else ()), *((ChangeType.DELETE,) if delete else ()))
        if not types:
            raise error_for(_CODE.NEVER_MATCH, "a subscription to neither additions nor deletions")
        session.need(Right.SUBSCRIBE, self._kind.label)
        is_meant = wanted.matcher(self._core.state.catalog)
        subscription = self._core.listen(
            session.id, self._kind, lambda record: is_meant(record) and self._may(Right.READ, record), types
        )
        session.subscriptions.append(subscription)
        if callback is not None:
            subscription.call(callback)
        return subscription

    def security(self, key: UUID | int | None = None) -> SecurityDescriptor:
        """The descriptor that holds for an object, or (None) for the container."""
        session = self._session
        with session.reading() as view:
            record = None if key is None else self._record(view, key)
        session.need(Right.READ_CONTROL, self._kind.label, record)
        return self._core.security_of(self._kind.label, record)

    def set_security(self, key: UUID | int | None, security: SecurityDescriptor) -> None:
        """Give an object, or (None) the container, a descriptor of its own.

        Raises PolicyStateError inside a transaction, and in a dynamic session for anything but its own objects.
        """
        session = self._session
        session.refuse_in_transaction("set_security")
        with session.reading() as view:
            record = None if key is None else self._record(view, key)
        session.check_may_secure(record)
        session.need(Right.WRITE_DAC, self._kind.label, record)
        self._core.set_security(self._kind.label, record, security, session.wait_s)

    def _record(self, view: Catalog | Draft, key: UUID | int) -> Record:
        record = view.find_id(self._kind, key) if isinstance(key, int) else view.find(self._kind, key)
        if record is None:
            raise not_found(self._kind, key)
        return record

    def _shown(self, record: Record) -> Item:
        """The object, with the flags that are output only."""
        item = record.item
        if isinstance(item, Callout) and self._core.state.is_registered(item.key):
            item = replace(item, flags=item.flags | CalloutFlag.REGISTERED)
        return cast(Item, item)

    def _may(self, right: Right, record: Record) -> bool:
        return self._session.may(right, self._kind.label, record)


class NetEvents:
    """The net events of the engine, as this session's user may have them."""

    def __init__(self, session: Session) -> None:
        self._session: Final = session
        self._log: Final = session.core.net_events

    @property
    def is_collecting(self) -> bool:
        """Whether events are collected (engine option COLLECT_NET_EVENTS)."""
        self._session.need(Right.READ, "engine")
        return self._log.is_collecting

    @is_collecting.setter
    def is_collecting(self, wanted: bool) -> None:
        self._session.need(Right.WRITE, "engine")
        self._log.is_collecting = wanted

    def report(self, event: NetEvent) -> None:
        """Record what a keying module or a plane saw.  PolicyAccessDenied without WRITE on the engine."""
        self._session.need(Right.WRITE, "engine")
        self._log.report(event)

    def enumerate(self, template: NetEventTemplate | None = None) -> list[NetEvent]:
        """The events that match, oldest first.  PolicyStateError (NET_EVENTS_DISABLED), PolicyAccessDenied."""
        self._session.need(Right.ENUM, _NET_EVENTS)
        return self._log.enumerate(template)

    def subscribe(
        self, callback: Callable[[NetEvent], object] | None = None, *, template: NetEventTemplate | None = None
    ) -> Subscription[NetEvent]:
        """Hear of events from now on; as Container.subscribe.  PolicyStateError inside a transaction."""
        self._session.refuse_in_transaction("subscribe")
        self._session.need(Right.SUBSCRIBE, _NET_EVENTS)
        return self._log.subscribe(template, callback)


class Session:
    """One user's access to an engine.  ``is_dynamic``: what is added lives as long as the session."""

    def __init__(self, core: Core, user: Token, *, is_dynamic: bool, wait_s: float | None, key: UUID) -> None:
        self.core: Final = core
        self.id: Final = next(_numbers)
        self.key: Final = key
        self.user: Final = user
        self.is_dynamic: Final = is_dynamic
        self.wait_s: Final = wait_s
        self.subscriptions: Final[list[Subscription[Change]]] = []
        self._transaction: Transaction | None = None
        self._is_open = True
        self._may_classify_since = -1
        self._inherited: Final[dict[str, int]] = {}
        self._inherited_since = -1
        self.need(Right.OPEN, "engine")
        any_object = ObjectTemplate()
        self.providers: Final[Container[Provider, ObjectTemplate]] = Container(self, ObjectKind.PROVIDER, any_object)
        self.provider_contexts: Final[Container[ProviderContext, ContextTemplate]] = Container(
            self, ObjectKind.PROVIDER_CONTEXT, ContextTemplate()
        )
        self.sublayers: Final[Container[Sublayer, ObjectTemplate]] = Container(self, ObjectKind.SUBLAYER, any_object)
        self.callouts: Final[Container[Callout, ObjectTemplate]] = Container(self, ObjectKind.CALLOUT, any_object)
        self.filters: Final[Container[Filter, FilterTemplate]] = Container(self, ObjectKind.FILTER, FilterTemplate())
        self.net_events: Final = NetEvents(self)

    # -- transactions ---------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self, *, read_only: bool = False) -> Iterator[None]:
        """All or nothing: committed at the end of the block, aborted when it is left by an exception.

        Inside it this session sees its own changes, and others and classifications do not.  A refused call leaves
        the transaction as it was.  ``read_only``: what is read does not change meanwhile.
        """
        self.begin(read_only=read_only)
        done = False
        try:
            yield
            done = True
        finally:
            if not done:
                self._drop_transaction()
        self.commit()

    def begin(self, *, read_only: bool = False) -> None:
        """Open a transaction, for callers that have no block to put it around.

        PolicyStateError (TXN_IN_PROGRESS), PolicyTimeout while others hold the engine, PolicyAccessDenied.
        """
        self._check_open()
        if self._transaction is not None:
            with self._using(self._transaction):
                raise error_for(_CODE.TXN_IN_PROGRESS, "this session has a transaction open")
        self.need(Right.BEGIN_READ_TXN if read_only else Right.BEGIN_WRITE_TXN, "engine")
        self._transaction = self.core.begin(self.id, read_only, not self.is_dynamic, self.wait_s)

    def commit(self) -> None:
        """Make the open transaction last.  PolicyStateError (NO_TXN_IN_PROGRESS, TXN_ABORTED), PolicyStoreError.

        Whatever happens the transaction is over; after an error nothing of it remains.
        """
        transaction = self._open_transaction()
        with self._using(transaction):
            self._transaction = None
            if transaction.is_read_only:
                self.core.abort(transaction)
            else:
                self.core.commit(transaction)

    def abort(self) -> None:
        """Forget the open transaction.  PolicyStateError (NO_TXN_IN_PROGRESS, TXN_ABORTED)."""
        transaction = self._open_transaction()
        with self._using(transaction):
            self._drop_transaction()

    def _open_transaction(self) -> Transaction:
        self._check_open()
        if self._transaction is None:
            raise error_for(_CODE.NO_TXN_IN_PROGRESS, "this session has no transaction open")
        return self._transaction

    def _drop_transaction(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            self.core.abort(transaction)

    @contextmanager
    def _using(self, transaction: Transaction) -> Iterator[None]:
        """A call within a transaction; one that was aborted is over after the call that learns of it."""
        try:
            with self.core.gate.using(transaction):
                yield
        finally:
            if transaction.is_aborted:
                self._drop_transaction()

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """The open transaction, or one around this call alone."""
        self._check_open()
        transaction = self._transaction
        if transaction is None:
            with self.core.implicit(self.id, self.wait_s) as implicit:
                yield implicit
            return
        with self._using(transaction):
            if transaction.is_read_only:
                raise error_for(_CODE.INCOMPATIBLE_TXN, "the open transaction is read-only")
            yield transaction

    @contextmanager
    def reading(self) -> Iterator[Catalog | Draft]:
        """What the open transaction sees, or what has been committed."""
        self._check_open()
        transaction = self._transaction
        if transaction is None:
            with self.core.state.still():
                yield self.core.state.catalog
            return
        with self._using(transaction), self.core.state.still():
            yield transaction.draft

    def refuse_in_transaction(self, what: str) -> None:
        """TXN_IN_PROGRESS for calls that are not allowed inside an explicit transaction."""
        self._check_open()
        if self._transaction is not None:
            raise error_for(_CODE.TXN_IN_PROGRESS, f"{what} is not called inside a transaction")

    # -- rights ---------------------------------------------------------------------------------------------------

    def may(self, right: Right, container: str, record: Record | None = None) -> bool:
        """Whether this session's user has a right."""
        if record is not None and record.security is not None:
            return bool(self.core.granted(self.user, container, record) & right)
        # What is inherited is the same for every object until somebody changes a container's descriptor.
        generation = self.core.security_generation
        if generation != self._inherited_since:
            self._inherited.clear()
            self._inherited_since = generation
        granted = self._inherited.get(container)
        if granted is None:
            granted = self._inherited[container] = int(self.core.granted(self.user, container, record))
        return bool(granted & int(right))

    def need(self, right: Right, container: str, record: Record | None = None) -> None:
        """PolicyAccessDenied without a right on a container or an object."""
        if not self.may(right, container, record):
            what = container if record is None else f"{container} {record.item.name!r}"
            who = " ".join(self.user.names) or "nobody"
            raise error_for(_CODE.ERROR_ACCESS_DENIED, f"{who} has no right {right.name} on {what}")

    def check_may_secure(self, record: Record | None) -> None:
        """DYNAMIC_SESSION_IN_PROGRESS: such a session changes the descriptors of its own objects only."""
        if self.is_dynamic and (record is None or record.session != self.id):
            message = "a dynamic session changes the security of its own objects only"
            raise error_for(_CODE.DYNAMIC_SESSION_IN_PROGRESS, message)

    def security(self) -> SecurityDescriptor:
        """The descriptor of the engine itself, which containers and objects without one inherit."""
        self.need(Right.READ_CONTROL, "engine")
        return self.core.security_of("engine")

    def set_security(self, security: SecurityDescriptor) -> None:
        """Give the engine another descriptor.  PolicyStateError inside a transaction and in a dynamic session."""
        self.refuse_in_transaction("set_security")
        self.check_may_secure(None)
        self.need(Right.WRITE_DAC, "engine")
        self.core.set_security("engine", None, security, self.wait_s)

    # -- questions ------------------------------------------------------------------------------------------------

    def classify(self, layer: Layer | UUID | str, fields: FlowFields) -> Verdict:
        """What the committed policy says of a flow at a layer; nothing is recorded.

        ``fields``: what is known of the flow (LayerInfo.slots_of).  Raises InvalidPolicy for fields that the layer has
        not and values that they cannot have, PolicyObjectNotFound for an unknown layer, PolicyAccessDenied.
        """
        self._check_may_classify()
        wanted = layer if isinstance(layer, Layer) else layer_named(layer)
        return self.core.state.classify(wanted, wanted.info.slots_of(fields))

    def authorize(self, layer: Layer | UUID | str, fields: FlowFields) -> Verdict:
        """As ``classify``, for whoever lets the flow through or not: a block is recorded as a net event."""
        self._check_may_classify()
        wanted = layer_named(layer)
        return self.core.authorize(wanted, wanted.info.slots_of(fields))

    def authorize_peer(self, layer: Layer | UUID | str, fields: FlowFields) -> Verdict:
        """As ``authorize``, of a flow whose peer is known; where filters let certain peers in, all others stay out.

        A flow is blocked by a permit with a condition on ALE_REMOTE_MACHINE_ID or ALE_REMOTE_USER_ID that is for it,
        but for who its peer is, unless one of those is for its peer.
        """
        self._check_may_classify()
        wanted = layer_named(layer)
        return self.core.authorize_peer(wanted, wanted.info.slots_of(fields))

    def names_peers(self, layer: Layer | UUID | str, fields: FlowFields) -> bool:
        """Whether there is a filter that lets certain peers in and is, but for who the peer is, for this flow."""
        self._check_may_classify()
        wanted = layer_named(layer)
        return self.core.state.names_peers(wanted, wanted.info.slots_of(fields))

    def explain(self, layer: Layer | UUID | str, fields: FlowFields, *, with_misses: bool = False) -> Explanation:
        """Why ``classify`` says what it says; looks at every filter of the layer.

        ``with_misses``: also some of the filters that do not match, and which condition fails.
        """
        self._check_may_classify()
        wanted = layer_named(layer)
        return self.core.state.explain(wanted, wanted.info.slots_of(fields), with_misses)

    def watch(self, layer: Layer | UUID | str, fields: FlowFields) -> FlowWatch:
        """Something that tells when the verdict on a flow becomes another one."""
        self._check_may_classify()
        wanted = layer_named(layer)
        return self.core.state.watch(wanted, wanted.info.slots_of(fields))

    def ring(self, bell: Callable[[], None]) -> Subscription[Change]:
        """Have ``bell`` called after each commit of another session that added or deleted filters.

        In the thread that committed, which has let go of the engine by then: it only leaves word and returns.
        """
        subscription = self.core.ring(self.id, bell)
        self.subscriptions.append(subscription)
        return subscription

    def register_callout(self, key: UUID, function: CalloutFunction | None) -> None:
        """Say what a callout does (None: nothing any more); its filters obey at once.

        Raises PolicyObjectNotFound, PolicyConflict (BUILTIN_OBJECT), PolicyAccessDenied without WRITE on the callout.
        """
        with self.reading() as view:
            record = view.find(ObjectKind.CALLOUT, key)
        if record is None or not isinstance(record.item, Callout):
            raise not_found(ObjectKind.CALLOUT, key)
        if record.lifetime is Lifetime.BUILT_IN:
            raise error_for(_CODE.BUILTIN_OBJECT, "what a built-in callout does is not changed")
        self.need(Right.WRITE, ObjectKind.CALLOUT.label, record)
        self.core.state.register_callout(key, function, record.item.layer)

    def _check_may_classify(self) -> None:
        generation = self.core.security_generation
        if generation != self._may_classify_since or not self._is_open:
            self._check_open()
            self.need(Right.CLASSIFY, "engine")
            self._may_classify_since = generation

    # -- the end --------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it can still be used."""
        return self._is_open

    def _check_open(self) -> None:
        if not self._is_open:
            raise error_for(_CODE.SESSION_ABORTED, "this session is closed")

    def close(self) -> None:
        """End the session: its transaction is aborted, its dynamic objects are deleted.  May be called again."""
        if not self._is_open:
            return
        self._is_open = False
        self._drop_transaction()
        for subscription in self.subscriptions:
            subscription.cancel()
        self.core.end_session(self.id)
