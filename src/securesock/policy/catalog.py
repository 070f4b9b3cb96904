"""All objects of an engine, who refers to whom, and what a transaction would make of them.

The catalog is the committed state.  A Draft is a transaction's view: the catalog with its own additions and removals
laid over it.  Both answer the same questions, so that admission does not care which it looks at.  References are
counted, because an object in use cannot be deleted; counting keeps that independent of how many objects there are.
Not thread-safe: the engine's locks are held around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias
from uuid import UUID

from .access import SecurityDescriptor
from .layers import Layer
from .model import Callout, Filter, Lifetime, ObjectKind, PolicyObject, Provider, ProviderContext, Sublayer
from .rules import Rule

__all__ = ["Catalog", "Draft", "Name", "Record", "View", "kind_of", "references_of"]

Name: TypeAlias = tuple[ObjectKind, UUID]
"""What an object is referred to by: keys are unique within a kind only."""


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """An object and what the engine knows of it.

    ``session``: the id of the session that added it.  ``is_system``: the engine made it and takes it away itself.
    ``revision``: of a stored one, for telling what another process changed.  ``rule``: of a filter.
    """

    item: PolicyObject
    lifetime: Lifetime
    session: int = 0
    security: SecurityDescriptor | None = None
    is_system: bool = False
    revision: int = 0
    rule: Rule | None = None

    @property
    def kind(self) -> ObjectKind:
        """The container that it belongs to."""
        return kind_of(self.item)


def kind_of(item: PolicyObject) -> ObjectKind:
    """The container that an object belongs to."""
    return _KINDS[type(item)]


_KINDS: Final[dict[type[PolicyObject], ObjectKind]] = {
    Provider: ObjectKind.PROVIDER,
    ProviderContext: ObjectKind.PROVIDER_CONTEXT,
    Sublayer: ObjectKind.SUBLAYER,
    Callout: ObjectKind.CALLOUT,
    Filter: ObjectKind.FILTER,
}


def references_of(item: PolicyObject) -> list[Name]:
    """Whom an object refers to."""
    found: list[Name] = []
    if not isinstance(item, Provider) and item.provider is not None:
        found.append((ObjectKind.PROVIDER, item.provider))
    if isinstance(item, Filter):
        found.append((ObjectKind.SUBLAYER, item.sublayer))
        if item.action.is_callout:
            found.append((ObjectKind.CALLOUT, item.action_key))
        if item.provider_context is not None:
            found.append((ObjectKind.PROVIDER_CONTEXT, item.provider_context))
    return found


class View(Protocol):
    """What admission and enumeration ask."""

    def find(self, kind: ObjectKind, key: UUID) -> Record | None:
        """The record with a key."""
        ...

    def find_id(self, kind: ObjectKind, number: int) -> Record | None:
        """The record with an id."""
        ...

    def records(self, kind: ObjectKind) -> Iterator[Record]:
        """All records of a kind, in the order in which they were added."""
        ...

    def count(self, kind: ObjectKind) -> int:
        """How many there are of a kind."""
        ...

    def uses(self, kind: ObjectKind, key: UUID) -> int:
        """How many objects refer to this one."""
        ...


class Catalog:
    """The committed objects."""

    def __init__(self) -> None:
        self._by_key: Final[dict[ObjectKind, dict[UUID, Record]]] = {kind: {} for kind in ObjectKind}
        self._by_id: Final[dict[ObjectKind, dict[int, Record]]] = {kind: {} for kind in ObjectKind}
        self._uses: Final[dict[Name, int]] = {}
        self._at_layer: Final[dict[Layer, dict[UUID, Record]]] = {}

    def filters_at(self, layer: Layer) -> Iterator[Record]:
        """The filters of one layer."""
        return iter(self._at_layer.get(layer, {}).values())

    def find(self, kind: ObjectKind, key: UUID) -> Record | None:
        """The record with a key."""
        return self._by_key[kind].get(key)

    def find_id(self, kind: ObjectKind, number: int) -> Record | None:
        """The record with an id."""
        return self._by_id[kind].get(number)

    def records(self, kind: ObjectKind) -> Iterator[Record]:
        """All records of a kind, in the order in which they were added."""
        return iter(self._by_key[kind].values())

    def count(self, kind: ObjectKind) -> int:
        """How many there are of a kind."""
        return len(self._by_key[kind])

    def uses(self, kind: ObjectKind, key: UUID) -> int:
        """How many objects refer to this one."""
        return self._uses.get((kind, key), 0)

    def put(self, record: Record) -> None:
        """Put a record in, in place of one with its key."""
        kind = record.kind
        before = self._by_key[kind].get(record.item.key)
        if before is not None:
            self.remove(before)
        self._by_key[kind][record.item.key] = record
        self._by_id[kind][record.item.id] = record
        if isinstance(record.item, Filter):
            self._at_layer.setdefault(record.item.layer, {})[record.item.key] = record
        for name in references_of(record.item):
            self._uses[name] = self._uses.get(name, 0) + 1

    def remove(self, record: Record) -> None:
        """Take a record out; nothing happens if another one, or none, has its key."""
        kind = record.kind
        if self._by_key[kind].get(record.item.key) is not record:
            return
        del self._by_key[kind][record.item.key]
        del self._by_id[kind][record.item.id]
        if isinstance(record.item, Filter):
            del self._at_layer[record.item.layer][record.item.key]
        for name in references_of(record.item):
            left = self._uses[name] - 1
            if left:
                self._uses[name] = left
            else:
                del self._uses[name]


class Draft:
    """The catalog as it will be when the transaction is committed."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog: Final = catalog
        self._added: Final[dict[Name, Record]] = {}
        self._added_ids: Final[dict[tuple[ObjectKind, int], Record]] = {}
        self._removed: Final[dict[Name, Record]] = {}
        self._uses: Final[dict[Name, int]] = {}

    @property
    def added(self) -> list[Record]:
        """What is new, in the order in which it was added."""
        return list(self._added.values())

    @property
    def removed(self) -> list[Record]:
        """What was committed before and is to go."""
        return list(self._removed.values())

    def find(self, kind: ObjectKind, key: UUID) -> Record | None:
        """The record with a key."""
        name = (kind, key)
        if name in self._added:
            return self._added[name]
        return None if name in self._removed else self._catalog.find(kind, key)

    def find_id(self, kind: ObjectKind, number: int) -> Record | None:
        """The record with an id."""
        added = self._added_ids.get((kind, number))
        if added is not None:
            return added
        record = self._catalog.find_id(kind, number)
        return None if record is None or (kind, record.item.key) in self._removed else record

    def records(self, kind: ObjectKind) -> Iterator[Record]:
        """All records of a kind, in the order in which they were added."""
        for record in self._catalog.records(kind):
            if (kind, record.item.key) not in self._removed:
                yield record
        for record in list(self._added.values()):
            if record.kind is kind:
                yield record

    def filters_at(self, *layers: Layer) -> Iterator[Record]:
        """The filters of some layers, in no particular order."""
        for record in self._added.values():
            if isinstance(record.item, Filter) and record.item.layer in layers:
                yield record
        for layer in layers:
            for record in self._catalog.filters_at(layer):
                if (ObjectKind.FILTER, record.item.key) not in self._removed:
                    yield record

    def count(self, kind: ObjectKind) -> int:
        """How many there are of a kind."""
        added = sum(name[0] is kind for name in self._added)
        return self._catalog.count(kind) + added - sum(name[0] is kind for name in self._removed)

    def uses(self, kind: ObjectKind, key: UUID) -> int:
        """How many objects refer to this one."""
        return self._catalog.uses(kind, key) + self._uses.get((kind, key), 0)

    def add(self, record: Record) -> None:
        """Add a record whose key is free."""
        self._added[record.kind, record.item.key] = record
        self._added_ids[record.kind, record.item.id] = record
        self._count(record, 1)

    def remove(self, record: Record) -> None:
        """Remove a record that this view holds."""
        name = (record.kind, record.item.key)
        if self._added.get(name) is record:
            del self._added[name]
            del self._added_ids[record.kind, record.item.id]
        else:
            self._removed[name] = record
        self._count(record, -1)

    def _count(self, record: Record, change: int) -> None:
        for name in references_of(record.item):
            self._uses[name] = self._uses.get(name, 0) + change
