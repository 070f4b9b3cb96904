"""The core behind sessions: transactions, access rights, and who is told of what.

What Windows calls the Base Filtering Engine, without the kernel: nothing is enforced here, it is asked.  Locks are
taken in this order.  The gate belongs to transactions: one writes, or several read.  The file's lock belongs to
processes.  The state's lock belongs to threads and is held for moments.  A commit writes the file first and the memory
after it, so that what a classification has seen is never undone by a crash.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final
from uuid import UUID

from ..clock import Clock, SystemClock, utc_at
from ..entropy import Entropy, SystemEntropy
from .access import EVERYONE, AccessEntry, Right, SecurityDescriptor, Token
from .admission import admit
from .archive import Archive
from .builtin import BUILT_IN_OBJECTS, ike_exemptions
from .catalog import Name, Record, View
from .changes import Bell, Change, ChangeType, Subscription
from .codec import encode_security
from .errors import PolicyCode, error_for
from .events import ClassifyDrop, NetEventLog, event_of_flow
from .ipsec_numbers import ContextType
from .layers import Layer, Slots
from .model import ActionType, Callout, Filter, FilterFlag, Lifetime, ObjectKind, PolicyObject, ProviderContext
from .state import State
from .store import Store
from .transactions import HOLD_LIMIT_S, Gate, Transaction
from .users import current_user
from .verdicts import Verdict

__all__ = ["Core"]

# Stored objects have numbers below; those of one process's own begin here.  A callout's number has 32 bits.
_FIRST_OWN_ID: Final = 1 << 32
_FIRST_OWN_CALLOUT_ID: Final = 1 << 31
_ADMINISTRATOR: Final = "uid:0"
_IKEEXT: Final = (Layer.IKEEXT_V4, Layer.IKEEXT_V6)
_MAIN_MODE_TYPES: Final = (ContextType.IKE_MM, ContextType.AUTHIP_MM, ContextType.IKEV2_MM)

_cores: weakref.WeakSet[Core] = weakref.WeakSet()


class Core:
    """One engine.  Applications have FilterEngine and Session, which call this."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        owner: Token | None = None,
        disabled_services: frozenset[str] = frozenset(),
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        hold_limit_s: float = HOLD_LIMIT_S,
    ) -> None:
        self.owner: Final = current_user() if owner is None else owner
        self.clock: Final[Clock] = SystemClock() if clock is None else clock
        self._entropy: Final[Entropy] = SystemEntropy() if entropy is None else entropy
        self.gate: Final = Gate(self.clock, self._abandon, hold_limit_s)
        self.state: Final = State()
        self.net_events: Final = NetEventLog()
        self._listeners: Final[list[_Listener]] = []
        self._own_ids: Final = itertools.count(_FIRST_OWN_ID)
        self._own_callout_ids: Final = itertools.count(_FIRST_OWN_CALLOUT_ID)
        self._dynamic: Final[dict[int, dict[Name, None]]] = {}
        self._exemptions: tuple[UUID, ...] = ()
        self._security: Final = {"engine": _default_security(self.owner)}
        self.security_generation = 0
        for item in BUILT_IN_OBJECTS:
            self.state.apply((), [self._own_record(self.state.catalog, item, Lifetime.BUILT_IN)])
        self._archive: Final = None if os.fspath(path) == ":memory:" else Archive(Store(Path(path)), disabled_services)
        with contextlib.ExitStack() as on_failure:
            if self._archive is not None:
                on_failure.callback(self._archive.store.close)
                self._security.update(self._archive.container_security())
                self._archive.load(self.state.catalog, lambda record: self.state.apply((), [record]))
            on_failure.pop_all()
        _cores.add(self)

    def _own_record(self, view: View, item: PolicyObject, lifetime: Lifetime) -> Record:
        """The record of an object that is the engine's own."""
        number = self._own_id(item)
        return admit(view, item, lifetime, 0, self.new_key, lambda: number, is_system=True)

    def close(self) -> None:
        """Close the file.  Sessions are closed before."""
        if self._archive is not None:
            self._archive.store.close()
        _cores.discard(self)

    def after_fork(self) -> None:
        """In the child: new locks; open transactions are the parent's.  The file is opened anew when it is needed."""
        self.state.after_fork()
        self.gate.after_fork()

    def new_key(self) -> UUID:
        """A GUID that nobody has."""
        return UUID(bytes=self._entropy.token(16), version=4)

    def _own_id(self, item: PolicyObject) -> int:
        return next(self._own_callout_ids if isinstance(item, Callout) else self._own_ids)

    # -- transactions ---------------------------------------------------------------------------------------------

    def begin(self, session: int, is_read_only: bool, needs_store: bool, wait_s: float | None) -> Transaction:
        """Open an explicit transaction.  One that may write persistent objects keeps other processes from writing."""
        transaction = Transaction(self.state.catalog, session, is_read_only, True)
        self.gate.enter(transaction, wait_s)
        if needs_store and not is_read_only:
            with self._ended_on_failure(transaction):
                self.need_store(transaction, wait_s)
        return transaction

    @contextmanager
    def implicit(self, session: int, wait_s: float | None) -> Iterator[Transaction]:
        """A transaction around one call."""
        transaction = Transaction(self.state.catalog, session, False, False)
        self.gate.enter(transaction, wait_s)
        with self._ended_on_failure(transaction):
            yield transaction
            self.commit(transaction)

    @contextmanager
    def _ended_on_failure(self, transaction: Transaction) -> Iterator[None]:
        done = False
        try:
            yield
            done = True
        finally:
            if not done:
                self.abort(transaction)

    def abort(self, transaction: Transaction) -> None:
        """Forget a transaction and give its turn to others; nothing happens to one that has ended."""
        self._abandon(transaction)
        self.gate.leave(transaction)

    def _abandon(self, transaction: Transaction) -> None:
        if transaction.holds_store and self._archive is not None:
            transaction.holds_store = False
            self._archive.store.rollback()

    def need_store(self, transaction: Transaction, wait_s: float | None) -> None:
        """Take the file's lock for a transaction that will write to it, and take over what other processes wrote.

        TXN_ABORTED when they did so after this transaction had begun to change things.
        """
        if self._archive is None or transaction.holds_store:
            return
        self._archive.store.begin(wait_s)
        transaction.holds_store = True
        if self._archive.store.has_changed():
            if transaction.draft.added or transaction.draft.removed:
                transaction.is_aborted = True
                message = "another process changed the stored policy in the meantime; begin again"
                raise error_for(PolicyCode.TXN_ABORTED, message)
            self._merge(self._archive)

    def refresh(self, wait_s: float | None) -> bool:
        """Take over what other processes committed to the file; whether there was anything."""
        if self._archive is None:
            return False
        transaction = Transaction(self.state.catalog, 0, False, False)
        self.gate.enter(transaction, wait_s)
        try:
            return self._archive.store.has_changed() and self._merge(self._archive)
        finally:
            self.gate.leave(transaction)

    def _merge(self, archive: Archive) -> bool:
        draft = archive.merge(self.state.catalog)
        self.state.apply(draft.removed, draft.added)
        with self.state.still():
            self._security.update(archive.container_security())
            self.security_generation += 1
        self._announce(0, draft.removed, draft.added)
        return bool(draft.added or draft.removed)

    def commit(self, transaction: Transaction) -> None:
        """Make a transaction's draft the state, on disk first, and tell who listens.  Its turn is over in any case."""
        draft = transaction.draft
        with self._ended_on_failure(transaction):
            self._adapt_exemptions(transaction)
            added = draft.added
            if self._archive is not None and transaction.holds_store:
                added = self._archive.write(draft.removed, added)
                transaction.holds_store = False
            self._keep_book(draft.removed, added)
            self.state.apply(draft.removed, added)
        self.gate.leave(transaction)
        self._announce(transaction.session, draft.removed, added)

    def _keep_book(self, removed: list[Record], added: list[Record]) -> None:
        """Who added which dynamic objects, so that the end of a session need not look at all objects."""
        for record in removed:
            if record.lifetime is Lifetime.DYNAMIC:
                self._dynamic.get(record.session, {}).pop((record.kind, record.item.key), None)
        for record in added:
            if record.lifetime is Lifetime.DYNAMIC:
                self._dynamic.setdefault(record.session, {})[record.kind, record.item.key] = None

    def end_session(self, session: int) -> None:
        """Delete the dynamic objects of a session, when it is their turn."""
        if self._dynamic.get(session):
            with self.implicit(session, None) as transaction:
                for kind, key in list(self._dynamic[session]):
                    record = transaction.draft.find(kind, key)
                    if record is not None:
                        transaction.draft.remove(record)
        self._dynamic.pop(session, None)

    def _adapt_exemptions(self, transaction: Transaction) -> None:
        """Key exchange is let through while there is main mode policy: from its first filter to its last."""
        draft = transaction.draft
        if not any(_is_at_ikeext(record) for record in (*draft.added, *draft.removed)):
            return
        present = [record for key in self._exemptions if (record := draft.find(ObjectKind.FILTER, key)) is not None]
        # Never all filters: sockets come and go, and there may be a hundred thousand others.
        is_wanted = any(_has_main_mode(transaction, record) for record in draft.filters_at(*_IKEEXT))
        if present and not is_wanted:
            for record in present:
                draft.remove(record)
        elif is_wanted and not present:
            records = [self._own_record(draft, item, Lifetime.STATIC) for item in ike_exemptions(self.owner)]
            for record in records:
                draft.add(record)
            self._exemptions = tuple(record.item.key for record in records)

    # -- objects --------------------------------------------------------------------------------------------------

    def add(
        self,
        transaction: Transaction,
        item: PolicyObject,
        lifetime: Lifetime,
        security: SecurityDescriptor | None,
        wait_s: float | None,
    ) -> Record:
        """Put an object into a transaction's draft."""
        if lifetime is Lifetime.PERSISTENT:
            self.need_store(transaction, wait_s)

        def new_id() -> int:
            if lifetime is Lifetime.PERSISTENT and self._archive is not None:
                return self._archive.store.take_id()
            return self._own_id(item)

        record = admit(transaction.draft, item, lifetime, transaction.session, self.new_key, new_id, security)
        transaction.draft.add(record)
        return record

    def remove(self, transaction: Transaction, record: Record, wait_s: float | None) -> None:
        """Take an object out of a transaction's draft; that it may be is checked before."""
        if record.lifetime is Lifetime.PERSISTENT:
            self.need_store(transaction, wait_s)
        transaction.draft.remove(record)

    # -- rights ---------------------------------------------------------------------------------------------------

    def security_of(self, container: str, record: Record | None = None) -> SecurityDescriptor:
        """The descriptor that holds for an object or a container: its own, or what it inherits."""
        if record is not None and record.security is not None:
            return record.security
        return self._security.get(container, self._security["engine"])

    def granted(self, token: Token, container: str, record: Record | None = None) -> Right:
        """The rights of a user on an object, or on a container ("engine", "filter" ...)."""
        granted = self.security_of(container, record).granted(token)
        if container == "engine" and {_ADMINISTRATOR, *self.owner.names} & set(token.names):
            # "members of the built-in administrators group are always granted FWPM_ACTRL_OPEN to the engine object",
            # and can take its ownership, which is to change its descriptor.
            granted |= Right.OPEN | Right.READ_CONTROL | Right.WRITE_DAC
        return granted

    def set_security(
        self, container: str, record: Record | None, new: SecurityDescriptor, wait_s: float | None
    ) -> None:
        """Give a container, or an object, a descriptor of its own, in a transaction of its own."""
        transaction = Transaction(self.state.catalog, 0, False, False)
        self.gate.enter(transaction, wait_s)
        with self._ended_on_failure(transaction):
            changed = None if record is None else replace(record, security=new)
            if record is None or record.lifetime is Lifetime.PERSISTENT:
                self.need_store(transaction, wait_s)
            if self._archive is not None and transaction.holds_store:
                if changed is None:
                    self._archive.store.put_container_security(container, encode_security(new))
                else:
                    changed = self._archive.put(changed)
                self._archive.store.commit()
                transaction.holds_store = False
            with self.state.still():
                if changed is None:
                    self._security[container] = new
                else:
                    self.state.replace(changed)
                self.security_generation += 1
        self.gate.leave(transaction)

    # -- events ---------------------------------------------------------------------------------------------------

    def authorize(self, layer: Layer, slots: Slots) -> Verdict:
        """The verdict on a flow that is about to be let through or not: what is blocked becomes a net event."""
        return self._recorded(self.state.classify(layer, slots), layer, slots)

    def authorize_peer(self, layer: Layer, slots: Slots) -> Verdict:
        """The same for a flow whose peer is known: whom no filter means that lets certain peers in is blocked."""
        verdict = self.state.classify(layer, slots)
        unmet = None if verdict.is_blocked else self.state.unmet_peer_rule(layer, slots)
        if unmet is not None:
            reason = f"filter {unmet.id} {unmet.name!r} lets certain peers in, and none of its kind means this one"
            verdict = Verdict(ActionType.BLOCK, unmet, reason, is_hard=True)
        return self._recorded(verdict, layer, slots)

    def _recorded(self, verdict: Verdict, layer: Layer, slots: Slots) -> Verdict:
        decided_by = verdict.filter
        if verdict.action is not ActionType.BLOCK or decided_by is None or decided_by.flags & FilterFlag.SILENT_MODE:
            return verdict
        vetoed = verdict.vetoed
        drop = ClassifyDrop(decided_by.id, layer, vetoed is not None, 0 if vetoed is None else vetoed.id)
        now = utc_at(self.clock.now(), self.clock.wall_offset_s())
        self.net_events.report(event_of_flow(drop, now, layer.info, slots))
        return verdict

    def listen(
        self, session: int, kind: ObjectKind, is_meant: Callable[[Record], bool], types: tuple[ChangeType, ...]
    ) -> Subscription[Change]:
        """Subscribe to the changes of a container that other sessions make."""
        subscription: Subscription[Change] = Subscription(self._forget)
        with self.state.still():
            self._listeners.append(_Listener(session, kind, is_meant, types, subscription))
        return subscription

    def ring(self, session: int, bell: Callable[[], None]) -> Subscription[Change]:
        """Call ``bell`` after each commit of another session that changed filters."""
        subscription = Bell(self._forget, bell)
        every = ChangeType.ADD, ChangeType.DELETE
        with self.state.still():
            self._listeners.append(_Listener(session, ObjectKind.FILTER, lambda record: True, every, subscription))
        return subscription

    def _forget(self, subscription: Subscription[Change]) -> None:
        with self.state.still():
            self._listeners[:] = [each for each in self._listeners if each.subscription is not subscription]

    def _announce(self, session: int, removed: list[Record], added: list[Record]) -> None:
        with self.state.still():
            listeners = [each for each in self._listeners if each.session != session]
        for listener in listeners:
            for change_type, records in ((ChangeType.DELETE, removed), (ChangeType.ADD, added)):
                if change_type in listener.types:
                    listener.tell(change_type, records)


class _Listener:
    """A subscription, and what it is for."""

    __slots__ = ("_is_meant", "_kind", "session", "subscription", "types")

    def __init__(
        self,
        session: int,
        kind: ObjectKind,
        is_meant: Callable[[Record], bool],
        types: tuple[ChangeType, ...],
        subscription: Subscription[Change],
    ) -> None:
        self.session = session
        self._kind = kind
        self._is_meant = is_meant
        self.types = types
        self.subscription = subscription

    def tell(self, change_type: ChangeType, records: list[Record]) -> None:
        """Queue what is meant."""
        for record in records:
            if record.kind is self._kind and self._is_meant(record):
                item = record.item
                self.subscription.deliver(Change(change_type, record.kind, item.key, item.id, item))


def _default_security(owner: Token) -> SecurityDescriptor:
    """Everything for the owner of the engine and for administrators, opening and asking for everybody."""
    every = [AccessEntry(True, name, Right.GENERIC_ALL) for name in dict.fromkeys((*owner.names, _ADMINISTRATOR))]
    everyone = AccessEntry(True, EVERYONE, Right.OPEN | Right.CLASSIFY)
    return SecurityDescriptor((*every, everyone), owner=owner.names[0] if owner.names else "")


def _is_at_ikeext(record: Record) -> bool:
    return isinstance(record.item, Filter) and record.item.layer in _IKEEXT


def _has_main_mode(transaction: Transaction, record: Record) -> bool:
    item = record.item
    if not isinstance(item, Filter) or item.provider_context is None:
        return False
    context = transaction.draft.find(ObjectKind.PROVIDER_CONTEXT, item.provider_context)
    return context is not None and isinstance(context.item, ProviderContext) and context.item.type in _MAIN_MODE_TYPES


def _after_fork_in_child() -> None:
    for core in list(_cores):
        core.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
