"""The committed state in memory: the catalog, an index for each layer, and everything that answers a question.

One lock, held for moments: whoever asks sees all of a commit or nothing of it.  Callouts are called under it, so they
must be quick; they may ask the engine themselves.  Knows neither transactions nor files.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from .callouts import BUILT_IN_FUNCTIONS, CalloutFunction
from .catalog import Catalog, Record
from .changes import FlowWatch
from .classify import Inquiry, classify
from .explain import Explanation, explain
from .index import LayerIndex
from .layers import Layer, Slots
from .model import Filter, FilterFlag, ObjectKind, ProviderContext, Sublayer
from .peer_rules import PeerRules, is_about_peers
from .verdicts import NO_MATCH, Verdict

__all__ = ["State"]

_ASLEEP: Final = int(FilterFlag.DISABLED | FilterFlag.BOOTTIME)


class State:
    """What has been committed.  Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self.catalog = Catalog()
        self._indexes: dict[Layer, LayerIndex] = {}
        self._order: dict[int, tuple[int, int]] = {}
        self._functions: Final[dict[UUID, CalloutFunction]] = dict(BUILT_IN_FUNCTIONS)
        self._generations: Final[dict[Layer, int]] = dict.fromkeys(Layer, 0)
        self._peers: dict[Layer, PeerRules] = {}

    def after_fork(self) -> None:
        """In the child: a lock that another thread held at the fork is nobody's."""
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    @contextmanager
    def still(self) -> Iterator[None]:
        """Hold everything still for a look, or for a change that is not a commit."""
        with self._lock:
            yield

    # -- changing -------------------------------------------------------------------------------------------------

    def apply(self, removed: Iterable[Record], added: Iterable[Record]) -> None:
        """Take a commit over.  Interrupted in the middle, all is built anew: a part of a commit is never seen."""
        gone, new = list(removed), list(added)
        with self._lock:
            done = False
            try:
                for record in gone:
                    self._remove(record)
                for record in new:
                    self._put(record)
                done = True
            finally:
                if not done:
                    self._rebuild(gone, new)
                self._changed.notify_all()

    def replace(self, record: Record) -> None:
        """Put a record in the place of the one with its key, where nothing of the object itself is another."""
        with self._lock:
            self.catalog.put(record)

    def _rebuild(self, removed: list[Record], added: list[Record]) -> None:
        gone = {(record.kind, record.item.key) for record in removed}
        new = {(record.kind, record.item.key): record for record in added}
        kept = [
            record
            for kind in ObjectKind
            for record in self.catalog.records(kind)
            if (kind, record.item.key) not in gone and (kind, record.item.key) not in new
        ]
        self.catalog = Catalog()
        self._indexes = {}
        self._peers = {}
        self._order = {}
        for record in (*kept, *added):
            self._put(record)
        for layer in Layer:
            self._generations[layer] += 1

    def _put(self, record: Record) -> None:
        self.catalog.put(record)
        item = record.item
        if isinstance(item, Sublayer):
            self._order[item.id] = (-item.weight, item.id)
        elif isinstance(item, Filter) and record.rule is not None and not item.flags & _ASLEEP:
            index = self._indexes.get(item.layer)
            if index is None:
                index = self._indexes[item.layer] = LayerIndex(item.layer.info)
            index.add(record.rule)
            if is_about_peers(record.rule, item.layer.info):
                peers = self._peers.get(item.layer)
                if peers is None:
                    peers = self._peers[item.layer] = PeerRules(item.layer.info)
                peers.add(record.rule)
            self._generations[item.layer] += 1

    def _remove(self, record: Record) -> None:
        self.catalog.remove(record)
        item = record.item
        if isinstance(item, Sublayer):
            self._order.pop(item.id, None)
        elif isinstance(item, Filter) and record.rule is not None and item.layer in self._indexes:
            self._indexes[item.layer].discard(record.rule)
            if item.layer in self._peers:
                self._peers[item.layer].discard(record.rule)
            self._generations[item.layer] += 1

    def register_callout(self, key: UUID, function: CalloutFunction | None, layer: Layer) -> None:
        """Say what a callout does, or (None) that nobody does it any more.  Filters that name it obey at once."""
        with self._lock:
            if function is None:
                self._functions.pop(key, None)
            else:
                self._functions[key] = function
            self._generations[layer] += 1
            self._changed.notify_all()

    # -- asking ---------------------------------------------------------------------------------------------------

    def classify(self, layer: Layer, slots: Slots) -> Verdict:
        """The verdict on a flow."""
        with self._lock:
            index = self._indexes.get(layer)
            if index is None:
                return NO_MATCH
            inquiry = Inquiry(layer, slots, self._functions, self._context_of)
            return classify(index.find(slots), inquiry, self._order.__getitem__)

    def unmet_peer_rule(self, layer: Layer, slots: Slots) -> Filter | None:
        """A filter that lets certain peers in and is for this flow, where none of those is for this flow's peer."""
        with self._lock:
            peers = self._peers.get(layer)
            return None if peers is None else peers.unmet(slots)

    def names_peers(self, layer: Layer, slots: Slots) -> bool:
        """Whether some filter lets certain peers in and is, but for who the peer is, for this flow."""
        with self._lock:
            peers = self._peers.get(layer)
            return peers is not None and peers.covering(slots) is not None

    def explain(self, layer: Layer, slots: Slots, with_misses: bool) -> Explanation:
        """The account of a classification."""
        with self._lock:
            rules = [
                record.rule
                for record in self.catalog.records(ObjectKind.FILTER)
                if record.rule is not None and isinstance(record.item, Filter) and _is_at(record.item, layer)
            ]
            sublayers = {
                record.item.id: record.item
                for record in self.catalog.records(ObjectKind.SUBLAYER)
                if isinstance(record.item, Sublayer)
            }
            inquiry = Inquiry(layer, slots, self._functions, self._context_of)
            return explain(rules, sublayers, inquiry, with_misses)

    def watch(self, layer: Layer, slots: Slots) -> FlowWatch:
        """A watch over the verdict on a flow."""
        return FlowWatch(
            lambda: self.classify(layer, slots),
            lambda: self._generations[layer],
            lambda seen, timeout_s: self._wait(layer, seen, timeout_s),
        )

    def order_of(self, sublayer: int) -> tuple[int, int]:
        """What sorts sublayers, by id, into their order; an unknown one comes last."""
        return self._order.get(sublayer, (1, sublayer))

    def is_registered(self, callout: UUID) -> bool:
        """Whether somebody does what a callout is for."""
        return callout in self._functions

    def _context_of(self, key: UUID) -> ProviderContext | None:
        record = self.catalog.find(ObjectKind.PROVIDER_CONTEXT, key)
        return record.item if record is not None and isinstance(record.item, ProviderContext) else None

    def _wait(self, layer: Layer, seen: int, timeout_s: float | None) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._generations[layer] != seen, timeout_s)


def _is_at(item: Filter, layer: Layer) -> bool:
    return item.layer is layer and not item.flags & _ASLEEP
