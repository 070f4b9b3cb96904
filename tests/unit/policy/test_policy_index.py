"""The index: what it keeps, what it frees, and that large cells change form without losing anything."""

from __future__ import annotations

import random
from collections.abc import Callable

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


# -- beside looking at every rule --------------------------------------------------------------------------------------

USER, FLAGS, LOCAL_PORT, PROTOCOL = Field.ALE_REMOTE_USER_ID, Field.FLAGS, Field.IP_LOCAL_PORT, Field.IP_PROTOCOL
NAMES = ["host/a.example", "host/b.example", "alice@X"]
# What a condition on each field may be; values are few, so that cells fill up and rules hide each other.
MAKERS: dict[Field, Callable[[random.Random], Condition]] = {
    PORT: lambda chance: (
        match(PORT, tuple(sorted(chance.choices(range(0, 40, 3), k=2))), MatchType.RANGE)
        if chance.random() < 0.5
        else match(PORT, chance.randrange(4), chance.choice([MatchType.EQUAL, MatchType.NOT_EQUAL]))
    ),
    # A network is one block; the range has more blocks than are kept of one, so that it is found too often.
    ADDRESS: lambda chance: (
        match(ADDRESS, f"10.0.0.{chance.randrange(4)}/{chance.choice([0, 4, 8, 9, 30, 31, 32])}")
        if chance.random() < 0.8
        else match(ADDRESS, (0x0000_0003, 0x0A00_0000 + chance.randrange(4)), MatchType.RANGE)
    ),
    LOCAL_PORT: lambda chance: match(LOCAL_PORT, chance.randrange(3)),
    PROTOCOL: lambda chance: match(PROTOCOL, chance.choice([6, 17])),
    USER: lambda chance: match(USER, allow(*chance.choices([*NAMES, "*", "host/*.example"], k=2))),
    FLAGS: lambda chance: match(FLAGS, chance.randrange(4), MatchType.FLAGS_ANY_SET),
}


def drawn(chance: random.Random, number: int, fields: list[Field], most: int) -> Rule:
    chosen = chance.sample(fields, chance.randrange(min(most, len(fields)) + 1))
    conditions = [MAKERS[field](chance) for field in sorted(chosen)]
    actions = [ActionType.PERMIT, ActionType.BLOCK, ActionType.PERMIT, ActionType.CALLOUT_UNKNOWN]
    return rule(
        number,
        *conditions,
        sublayer=chance.randrange(1, 4),
        weight=chance.choice([1, 2, 3, 2 * number]),
        action=chance.choice(actions),
    )


def drawn_flow(chance: random.Random, fields: list[Field]) -> dict[Field, object]:
    values = {
        PORT: chance.randrange(40),
        ADDRESS: f"10.0.{chance.choice([0, 0, 1])}.{chance.randrange(5)}",
        LOCAL_PORT: chance.randrange(4),
        PROTOCOL: chance.choice([6, 17]),
        USER: Token(tuple(chance.sample(NAMES, chance.randrange(3)))),
        FLAGS: chance.randrange(4),
    }
    return {field: values[field] for field in fields if chance.random() < 0.9}


def check_beside_every_rule(index: LayerIndex, rules: list[Rule], flow: dict[Field, object]) -> None:
    """The best terminating rule of each sublayer, and every undecided one that comes before it."""
    slots = LAYER.info.slots_of(flow)
    matching = [each for each in rules if each.holds(slots)]
    best: dict[int, Rule] = {}
    for each in matching:
        if each.is_terminating and (each.sublayer not in best or each.rank > best[each.sublayer].rank):
            best[each.sublayer] = each
    open_ones = {
        each
        for each in matching
        if not each.is_terminating and (each.sublayer not in best or each.rank > best[each.sublayer].rank)
    }
    found, maybe = index.find(slots)
    assert sorted(each.filter.id for each in found) == sorted(each.filter.id for each in best.values())
    assert open_ones <= set(maybe) <= set(matching)


@pytest.mark.parametrize(
    ("fields", "most", "count"),
    [
        ([PORT, ADDRESS], 2, 120),
        ([PORT, ADDRESS], 2, 900),
        ([PORT], 1, 300),
        ([ADDRESS], 1, 300),
        ([LOCAL_PORT], 1, 60),
        ([USER, LOCAL_PORT], 2, 60),
        ([USER, FLAGS], 2, 60),
        (list(MAKERS), 3, 250),
        (list(MAKERS), 6, 400),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_looking_at_every_rule_finds(fields: list[Field], most: int, count: int, seed: int) -> None:
    chance = random.Random(seed)
    rules = [drawn(chance, number, fields, most) for number in range(1, count + 1)]
    index = filled(*rules)
    flows = [{}, *[drawn_flow(chance, fields) for _ in range(12)]]
    while rules:
        for flow in flows:
            check_beside_every_rule(index, rules, flow)
        gone = set(chance.sample(rules, (len(rules) + 2) // 3))
        for each in gone:
            index.discard(each)
        rules = [each for each in rules if each not in gone]
    assert len(index) == 0


def test_a_range_of_more_blocks_than_are_kept_is_for_no_address_outside_it() -> None:
    rules = [
        rule(n, match(ADDRESS, (3 + n % 2, 0xFFFF_FF80 + n), MatchType.RANGE), sublayer=n % 3 + 1, weight=n % 7)
        for n in range(1, 60)
    ]
    rules.append(rule(60, sublayer=1, weight=50))  # better than any of them, in one sublayer
    index = filled(*rules)
    for address in (0, 2, 3, 4, 5, 0x0A00_0000, *range(0xFFFF_FF80, 0x1_0000_0000)):
        check_beside_every_rule(index, rules, {ADDRESS: address})


def test_a_cell_of_one_network_goes_on_by_port() -> None:
    rules = [
        rule(n, match(ADDRESS, "10.0.0.0/8"), match(PORT, (n, n + 30), MatchType.RANGE), weight=n % 5)
        for n in range(1, 80)
    ]
    index = filled(*rules)
    for port in (0, 1, 2, 40, 79, 108, 109, 110):
        check_beside_every_rule(index, rules, {ADDRESS: "10.9.9.9", PORT: port})
        check_beside_every_rule(index, rules, {ADDRESS: "11.9.9.9", PORT: port})
