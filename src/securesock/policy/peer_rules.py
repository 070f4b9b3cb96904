"""Filters that let certain peers in, and the rule that goes with them: whoever none of them means stays out.

A permit with a condition on ALE_REMOTE_MACHINE_ID or ALE_REMOTE_USER_ID says who may come.  By arbitration alone it
would keep nobody out, as a flow that no filter matches passes; Microsoft's recipe has a blocking filter beside it, and
a recipe that is forgotten leaves the door open.  So a flow for which there is such a permit, but for who its peer is,
is blocked unless one of them is for its peer.

Two indexes answer that without looking at each filter: one with the conditions on peers left out, one with them.  It
must not know layers' verdicts.
"""

from __future__ import annotations

from typing import Final

from .fields import Field
from .index import LayerIndex
from .layers import LayerInfo, Slots
from .model import ActionType, Filter
from .rules import Rule

__all__ = ["PeerRules", "is_about_peers"]

_PEER_FIELDS: Final = (Field.ALE_REMOTE_MACHINE_ID, Field.ALE_REMOTE_USER_ID)
# A block keeps somebody out and says nothing of others; an inspection decides nothing.
_NO_WAY_IN: Final = (ActionType.BLOCK, ActionType.CALLOUT_INSPECTION)


def is_about_peers(rule: Rule, info: LayerInfo) -> bool:
    """Whether a rule lets in whom it names."""
    if rule.filter.action in _NO_WAY_IN:
        return False
    places = _places(info)
    return any(test.place in places for test in rule.tests)


def _places(info: LayerInfo) -> tuple[int, ...]:
    return tuple(info.places[field] for field in _PEER_FIELDS if field in info.places)


class PeerRules:
    """The rules of one layer that let certain peers in."""

    def __init__(self, info: LayerInfo) -> None:
        self._places: Final = _places(info)
        self._whole: Final = LayerIndex(info)
        self._without_peers: Final = LayerIndex(info)
        self._copies: Final[dict[Rule, tuple[Rule, Rule]]] = {}

    def add(self, rule: Rule) -> None:
        """One more.  Rules know their place in one index, so that each index has copies of its own."""
        others = tuple(test for test in rule.tests if test.place not in self._places)
        copies = Rule(rule.filter, rule.tests, rule.sublayer), Rule(rule.filter, others, rule.sublayer)
        self._copies[rule] = copies
        self._whole.add(copies[0])
        self._without_peers.add(copies[1])

    def discard(self, rule: Rule) -> None:
        """One less; nothing happens if it is none of them."""
        copies = self._copies.pop(rule, None)
        if copies is not None:
            self._whole.discard(copies[0])
            self._without_peers.discard(copies[1])

    def covering(self, slots: Slots) -> Filter | None:
        """One that is for the flow, whoever its peer is."""
        best, maybe = self._without_peers.find(slots)
        found = [*best, *maybe]
        return found[0].filter if found else None

    def unmet(self, slots: Slots) -> Filter | None:
        """One that is for the flow, where none is for its peer."""
        covering = self.covering(slots)
        if covering is None:
            return None
        best, maybe = self._whole.find(slots)
        return None if best or maybe else covering
