"""The index: what it keeps, what it frees, and that large cells change form without losing anything."""

from __future__ import annotations

import pytest

from securesock.policy.access import Token, allow
from securesock.policy.conditions import Condition, compile_conditions, match
from securesock.policy.fields import Field
from securesock.policy.index import LayerIndex
from securesock.policy.layers import Layer
from securesock.policy.model import ActionType, Filter
from securesock.policy.rules import Rule
from securesock.policy.values import MatchType

LAYER = Layer.ALE_AUTH_CONNECT_V4
PORT, ADDRESS = Field.IP_REMOTE_PORT, Field.IP_REMOTE_ADDRESS


def rule(
    number: int, *conditions: Condition, sublayer: int = 1, weight: int = 5, action: ActionType = ActionType.PERMIT
) -> Rule:
    filter_ = Filter(
        f"f{number}",
        layer=LAYER,
        action=action,
        conditions=conditions,
        id=number,
        effective_weight=weight,
    )
    return Rule(filter_, compile_conditions(LAYER.info, conditions), sublayer)


def ids(index: LayerIndex, flow: dict[Field, object]) -> list[int]:
    best, maybe = index.find(LAYER.info.slots_of(flow))
    return sorted(each.filter.id for each in [*best, *maybe])


def filled(*rules: Rule) -> LayerIndex:
    index = LayerIndex(LAYER.info)
    for each in rules:
        index.add(each)
    return index


def test_an_empty_index_finds_nothing() -> None:
    assert ids(filled(), {PORT: 1}) == []


def test_a_filter_without_conditions_is_for_every_flow() -> None:
    assert ids(filled(rule(1)), {}) == [1]


def test_the_best_of_each_sublayer_is_found() -> None:
    index = filled(
        rule(1, match(PORT, 1)),
        rule(2, match(PORT, 1), weight=6),
        rule(3, match(PORT, 1), sublayer=2),
        rule(4, weight=7),
    )
    assert ids(index, {PORT: 1}) == [3, 4]
    assert ids(index, {PORT: 2}) == [4]


def test_of_equal_weights_the_first_added_wins() -> None:
    assert ids(filled(rule(2, match(PORT, 1)), rule(1, match(PORT, 1))), {PORT: 1}) == [1]


def test_an_impossible_filter_is_not_kept() -> None:
    impossible = rule(1, match(PORT, 0, MatchType.LESS))
    index = filled(impossible)
    assert len(index) == 0
    index.discard(impossible)
    assert ids(index, {PORT: 0}) == []


def test_alternatives_are_found_under_each_value() -> None:
    index = filled(rule(1, match(PORT, 80), match(PORT, 443), match(ADDRESS, "192.0.2.1"), match(ADDRESS, "192.0.2.9")))
    assert ids(index, {PORT: 443, ADDRESS: "192.0.2.9"}) == [1]
    assert ids(index, {PORT: 80, ADDRESS: "192.0.2.2"}) == []
    assert len(index) == 1


def test_very_many_alternatives_are_searched_instead_of_copied() -> None:
    ports = [match(PORT, 2 * each) for each in range(40)]
    names = match(Field.ALE_REMOTE_USER_ID, allow(*[f"user{each}@X" for each in range(60)]))
    index = filled(rule(1, *ports), rule(2, names, *ports, sublayer=2))
    assert ids(index, {PORT: 78, Field.ALE_REMOTE_USER_ID: "user59@X"}) == [1, 2]
    assert ids(index, {PORT: 77, Field.ALE_REMOTE_USER_ID: "user59@X"}) == []
    many = match(Field.ALE_REMOTE_USER_ID, allow(*[f"user{each}@X" for each in range(100)]))
    assert ids(filled(rule(3, many)), {Field.ALE_REMOTE_USER_ID: "user99@X"}) == [3]


def test_what_is_taken_out_is_gone_and_can_come_back() -> None:
    rules = [rule(1, match(PORT, 1)), rule(2, match(ADDRESS, "192.0.2.0/24")), rule(3)]
    index = filled(*rules)
    for each in rules:
        index.discard(each)
        index.discard(each)
    assert len(index) == 0
    assert ids(index, {PORT: 1, ADDRESS: "192.0.2.1"}) == []
    for each in rules:
        index.add(each)
    assert ids(index, {PORT: 1, ADDRESS: "192.0.2.1"}) == [1]


def test_taking_out_what_never_was_in_changes_nothing() -> None:
    index = filled(rule(1, match(PORT, 1)))
    index.discard(rule(2, match(PORT, 1)))
    index.discard(rule(3, match(PORT, 2)))
    index.discard(rule(4, match(ADDRESS, "192.0.2.1")))
    index.discard(rule(5, match(PORT, 1), sublayer=4))
    assert ids(index, {PORT: 1}) == [1]
    assert len(index) == 1


@pytest.mark.parametrize("count", [4, 5, 16, 17, 60])
def test_cells_of_every_size_keep_and_lose_their_rules(count: int) -> None:
    rules = [
        rule(n, match(ADDRESS, f"10.0.0.0/{n % 9}"), match(PORT, (n, 60000), MatchType.RANGE))
        for n in range(1, count + 1)
    ]
    index = filled(*rules)
    flow = {PORT: 50000, ADDRESS: "10.0.0.1"}
    for number, each in enumerate(rules, 1):
        assert ids(index, flow) == [number]
        index.discard(each)
    assert ids(index, flow) == []
    assert len(index) == 0


def test_taking_out_of_large_cells_what_is_not_there_changes_nothing() -> None:
    rules = [rule(n, match(ADDRESS, "10.0.0.0/8"), match(PORT, (n, 60000), MatchType.RANGE)) for n in range(1, 40)]
    index = filled(*rules)
    index.discard(rule(90, match(ADDRESS, "11.0.0.0/8"), match(PORT, (1, 60000), MatchType.RANGE)))
    index.discard(rule(91, match(ADDRESS, "10.0.0.0/8"), match(PORT, (1, 3), MatchType.RANGE)))
    same = [rule(n) for n in range(100, 110)]
    for each in same:
        index.add(each)
    index.discard(rule(92))
    index.discard(rule(93, sublayer=9))
    assert len(index) == 49


def test_undecided_rules_in_a_tree_hide_nothing() -> None:
    undecided = [
        rule(n, match(ADDRESS, f"10.0.0.0/{n}"), action=ActionType.CALLOUT_UNKNOWN, weight=50) for n in range(1, 20)
    ]
    index = filled(*undecided, rule(40, match(ADDRESS, "10.0.0.0/8"), weight=1))
    assert ids(index, {ADDRESS: "10.0.0.1"}) == [*range(1, 20), 40]


def test_a_value_that_is_absent_meets_no_condition() -> None:
    index = filled(
        rule(1, match(PORT, 5, MatchType.NOT_EQUAL)),
        rule(2, match(ADDRESS, "0.0.0.0/0"), sublayer=2),
        rule(3, match(Field.ALE_REMOTE_USER_ID, "*"), sublayer=3),
        rule(4, match(Field.FLAGS, 1, MatchType.FLAGS_NONE_SET), sublayer=4),
    )
    assert ids(index, {}) == []
    assert ids(index, {Field.ALE_REMOTE_USER_ID: Token(())}) == []
    assert ids(index, {PORT: 6, ADDRESS: 0, Field.ALE_REMOTE_USER_ID: "a@X", Field.FLAGS: 0}) == [1, 2, 3, 4]


def test_slots_of_sublayers_are_used_again() -> None:
    index = filled()
    for sublayer in range(50):
        only = rule(1, match(PORT, 1), sublayer=sublayer)
        index.add(only)
        assert ids(index, {PORT: 1}) == [1]
        index.discard(only)
    first, second = rule(1, match(PORT, 1), sublayer=7), rule(2, match(PORT, 1), sublayer=8)
    index.add(first)
    index.add(second)
    assert (first.slot, second.slot) == (0, 1)


def test_holds_says_the_same_as_the_index() -> None:
    both = rule(1, match(PORT, (5, 9), MatchType.RANGE), match(ADDRESS, "192.0.2.1"))
    for port in (4, 5, 9, 10, None):
        flow = {ADDRESS: "192.0.2.1", PORT: port}
        assert both.holds(LAYER.info.slots_of(flow)) is bool(ids(filled(both), flow))
