"""A filter made ready for matching: its tests by place, its rank, and what of it can be looked up.

A Rule never decides; it says whether its filter is for a flow.  The index (index.py) uses ``exact`` and ``spans`` to
find candidates quickly; ``holds`` is the whole truth about one rule, and all that explain() and watches use.
"""

from __future__ import annotations

from itertools import product
from typing import Final

from .conditions import FieldTest, Interval, Key
from .layers import Slots
from .model import ActionType, Filter, FilterFlag
from .verdicts import Verdict, decided

__all__ = ["Rule"]

# More alternatives than these are searched as spans, or looked at one by one, instead of being copied to every key.
_MAX_EXACT_NUMBERS: Final = 8
_MAX_COPIES: Final = 64

# A filter of these actions ends its sublayer whatever it answers; the others may let the next filter be asked.
_PLAIN: Final = (ActionType.PERMIT, ActionType.BLOCK)
_TERMINATING: Final = (*_PLAIN, ActionType.CALLOUT_TERMINATING)


class Rule:
    """One filter at one layer.

    ``is_plain``: it decides by itself; ``is_hard``: what it decides is hard, whatever a callout says.
    ``rank`` orders the rules of a sublayer: higher first, by effective weight, then by who was added first (lower id).
    ``exact``: (place, numbers or keys of which the flow has one).  ``spans``: (place, intervals).  Of a place, at most
    one of the two.  ``checks`` and ``predicates`` together with ``exact`` are everything that must hold.
    """

    __slots__ = (
        "_verdict",
        "checks",
        "exact",
        "filter",
        "is_hard",
        "is_plain",
        "is_possible",
        "is_terminating",
        "places",
        "predicates",
        "rank",
        "slot",
        "spans",
        "sublayer",
        "tests",
    )

    def __init__(self, filter_: Filter, tests: tuple[FieldTest, ...], sublayer: int) -> None:
        self.filter: Final = filter_
        self.tests: Final = tests
        self.sublayer: Final = sublayer
        # Where the index keeps its best of this sublayer; set by the index that the rule is in.
        self.slot = 0
        self._verdict: Verdict | None = None
        self.rank: Final = filter_.effective_weight << 64 | ((1 << 64) - 1 - filter_.id)
        self.is_terminating: Final = filter_.action in _TERMINATING
        # Asked for every classification, so not left to an enum's slow arithmetic.
        self.is_plain: Final = filter_.action in _PLAIN
        clears_right = bool(int(filter_.flags) & int(FilterFlag.CLEAR_ACTION_RIGHT))
        self.is_hard: Final = clears_right or filter_.action is ActionType.BLOCK
        # A field without a value that would pass (LESS than 0, nobody allowed) makes the whole filter impossible.
        self.is_possible: Final = not any(test.intervals == () or test.keys == () for test in tests)
        exact, spans = _sorted_tests(tests if self.is_possible else ())
        self.exact: Final = exact
        self.spans: Final = spans
        self.places: Final = tuple(place for place, _ in exact)
        exact_numbers = {place for place, values in exact if isinstance(values[0], int)}
        single = [test for test in tests if test.intervals is not None and len(test.intervals) == 1]
        self.checks: Final = tuple(
            (test.place, *test.intervals[0])
            for test in single
            if test.intervals is not None and test.place not in exact_numbers
        )
        checked = exact_numbers | {place for place, _, _ in self.checks}
        self.predicates: Final = tuple((test.place, test.predicate) for test in tests if test.place not in checked)

    @property
    def verdict(self) -> Verdict:
        """What a plain rule decides; worded once, when it first does."""
        verdict = self._verdict
        if verdict is None:
            verdict = self._verdict = decided(self.filter.action, self.filter, self.is_hard)
        return verdict

    def copies(self) -> list[tuple[int | Key, ...]]:
        """Every combination of one exact value per exact place."""
        return list(product(*(values for _, values in self.exact)))

    def holds(self, slots: Slots) -> bool:
        """Whether every condition holds; an absent value meets none."""
        for test in self.tests:
            value = slots[test.place]
            if value is None or not test.predicate(value):
                return False
        return True


def _sorted_tests(
    tests: tuple[FieldTest, ...],
) -> tuple[tuple[tuple[int, tuple[int | Key, ...]], ...], tuple[tuple[int, tuple[Interval, ...]], ...]]:
    """The tests that are looked up by exact values, and those that are looked up by runs of numbers, by place."""
    exact: list[tuple[int, tuple[int | Key, ...]]] = []
    spans: list[tuple[int, tuple[Interval, ...]]] = []
    copies = 1
    for test in tests:
        values: tuple[int | Key, ...] = ()
        if test.intervals is not None:
            if len(test.intervals) <= _MAX_EXACT_NUMBERS and all(low == high for low, high in test.intervals):
                values = tuple(low for low, _ in test.intervals)
        elif test.keys is not None:
            values = test.keys
        if values and copies * len(values) <= _MAX_COPIES:
            copies *= len(values)
            exact.append((test.place, values))
        elif test.intervals is not None:
            spans.append((test.place, test.intervals))
    return tuple(sorted(exact, key=lambda each: each[0])), tuple(sorted(spans, key=lambda each: each[0]))
