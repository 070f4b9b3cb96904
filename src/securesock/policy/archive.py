"""Persistent objects between the store's rows and the engine's records.

Everything here happens while the engine's gate is held for writing.  Another process may have written to the file: what
it did is merged into the memory before anything is written here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar
from uuid import UUID

from .access import SecurityDescriptor
from .admission import with_rule
from .catalog import Catalog, Draft, Record, View
from .codec import decode, decode_security, encode, encode_security
from .errors import PolicyCode, error_for
from .model import (
    Callout,
    CalloutFlag,
    Filter,
    FilterFlag,
    Lifetime,
    ObjectKind,
    PolicyObject,
    Provider,
    ProviderFlag,
)
from .store import Row, Store

__all__ = ["Archive"]

Result = TypeVar("Result")


class Archive:
    """The store, in records.  ``disabled_services``: persistent filters of their providers sleep."""

    def __init__(self, store: Store, disabled_services: frozenset[str]) -> None:
        self.store: Final = store
        self._disabled: Final = disabled_services

    # -- reading --------------------------------------------------------------------------------------------------

    def container_security(self) -> dict[str, SecurityDescriptor]:
        """The descriptors that containers were given."""
        found = self.store.container_security()
        return {container: _read(container, decode_security, text) for container, text in found.items()}

    def load(self, view: View, put: Callable[[Record], None], only: set[int] | None = None) -> None:
        """Read stored objects and ``put`` each; what one refers to stands in ``view`` before it is read."""
        for row in self.store.rows(only):
            put(self._record(row, view))

    def merge(self, catalog: Catalog) -> Draft:
        """What has to change so that the stored part of ``catalog`` is what the file holds.

        What is gone from the file while objects of this process refer to it stays, as a static object of this process.
        """
        draft = Draft(catalog)
        self.store.note_seen()
        stored = self.store.revisions()
        ours = {
            (int(kind), record.item.key): record
            for kind in ObjectKind
            for record in catalog.records(kind)
            if record.lifetime is Lifetime.PERSISTENT
        }
        # Those that refer to others go first.
        for name, record in reversed(ours.items()):
            if name not in stored:
                draft.remove(record)
                if draft.uses(record.kind, record.item.key):
                    draft.add(replace(record, lifetime=Lifetime.STATIC, revision=0))
        current = {name: (record.item.id, record.revision) for name, record in ours.items()}
        fresh = {number for name, (number, revision) in stored.items() if current.get(name) != (number, revision)}
        self.load(draft, lambda record: _supplant(draft, record), fresh)
        return draft

    def _record(self, row: Row, view: View) -> Record:
        kind = ObjectKind(row.kind)
        item = _read(row.key, lambda text: decode(kind.label, text), row.body)
        security = None if row.security is None else _read(row.key, decode_security, row.security)
        record = Record(self._with_state(item, view), Lifetime.PERSISTENT, 0, security, False, row.revision)
        return with_rule(record, view)

    def _with_state(self, item: PolicyObject, view: View) -> PolicyObject:
        """A stored object with its output flags."""
        if isinstance(item, Provider) and item.service_name in self._disabled:
            return replace(item, flags=item.flags | ProviderFlag.DISABLED)
        if isinstance(item, Filter) and item.provider is not None:
            provider = view.find(ObjectKind.PROVIDER, item.provider)
            if provider is not None and provider.item.flags & ProviderFlag.DISABLED:
                return replace(item, flags=item.flags | FilterFlag.DISABLED)
        return item

    # -- writing --------------------------------------------------------------------------------------------------

    def write(self, removed: list[Record], added: list[Record]) -> list[Record]:
        """Write a commit's persistent part, and make it last; the added records, with the revisions that they got.

        The store's lock is held before and given back in any case.
        """
        is_needed = False
        written: list[Record] = []
        for record in removed:
            if record.lifetime is Lifetime.PERSISTENT:
                self.store.remove(int(record.kind), record.item.key)
                is_needed = True
        for record in added:
            if record.lifetime is Lifetime.PERSISTENT:
                record = self.put(record)
                is_needed = True
            written.append(record)
        if is_needed:
            self.store.commit()
        else:
            self.store.rollback()
        return written

    def put(self, record: Record) -> Record:
        """Write one record; what it is afterwards."""
        item = _without_state(record.item)
        security = None if record.security is None else encode_security(record.security)
        revision = self.store.put(int(record.kind), item.key, item.id, encode(item), security)
        return replace(record, revision=revision)


def _supplant(draft: Draft, record: Record) -> None:
    """Put a record in the place of the one with its key, and let its filters follow a sublayer."""
    before = draft.find(record.kind, record.item.key)
    if before is not None:
        draft.remove(before)
    draft.add(record)
    if before is not None and record.kind is ObjectKind.SUBLAYER:
        for each in list(draft.records(ObjectKind.FILTER)):
            if isinstance(each.item, Filter) and each.item.sublayer == record.item.key:
                draft.remove(each)
                draft.add(with_rule(each, draft))


def _without_state(item: PolicyObject) -> PolicyObject:
    if isinstance(item, Filter):
        return replace(item, flags=item.flags & ~FilterFlag.DISABLED)
    if isinstance(item, Provider):
        return replace(item, flags=item.flags & ~ProviderFlag.DISABLED)
    return replace(item, flags=item.flags & ~CalloutFlag.REGISTERED) if isinstance(item, Callout) else item


def _read(what: UUID | str, read: Callable[[str], Result], text: str) -> Result:
    try:
        return read(text)
    except ValueError as error:
        message = f"the policy store holds {what}, which cannot be read: {error}"
        raise error_for(PolicyCode.ERROR_GEN_FAILURE, message) from None
