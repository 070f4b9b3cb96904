"""Effective weights, and blocks of numbers in their tree."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from securesock.policy.conditions import compile_conditions, match
from securesock.policy.errors import PolicyCode, PolicyError
from securesock.policy.fields import Field
from securesock.policy.layers import Layer
from securesock.policy.spans import SpanTree, blocks_of
from securesock.policy.values import DataType, MatchType, Value
from securesock.policy.weights import AUTOMATIC, effective_weight, exact_weight, ranged_weight

INFO = Layer.ALE_AUTH_CONNECT_V6.info
FULL = [
    match(Field.IP_REMOTE_ADDRESS, "2001:db8::1"),
    match(Field.IP_LOCAL_ADDRESS, "2001:db8::2"),
    match(Field.IP_REMOTE_PORT, 443),
    match(Field.IP_LOCAL_PORT, 50000),
    match(Field.IP_PROTOCOL, 6),
    match(Field.ALE_USER_ID, "uid:0"),
    match(Field.ALE_REMOTE_USER_ID, "alice@X"),
    match(Field.ALE_REMOTE_MACHINE_ID, "host/a"),
    match(Field.PEER_NAME, "host/a"),
    match(Field.ALE_APP_ID, b"x"),
    match(Field.FLAGS, 0),
]


def test_an_exact_weight_is_taken_as_it_is() -> None:
    assert effective_weight(exact_weight(7), ()) == 7
    assert effective_weight(exact_weight((1 << 64) - 1), ()) == (1 << 64) - 1


def test_an_automatic_weight_grows_with_every_condition_and_stays_below_two_to_the_sixty() -> None:
    weights = [effective_weight(AUTOMATIC, compile_conditions(INFO, FULL[:count])) for count in range(len(FULL) + 1)]
    assert weights[0] == 0
    assert all(less < more for less, more in pairwise(weights))
    assert weights[-1] < 1 << 60


@pytest.mark.parametrize("index", [0, 1, 12, 15])
def test_a_range_sets_the_four_high_bits(index: int) -> None:
    tests = compile_conditions(INFO, FULL)
    weight = effective_weight(ranged_weight(index), tests)
    assert weight >> 60 == index
    assert weight & (1 << 60) - 1 == effective_weight(AUTOMATIC, tests)


@pytest.mark.parametrize(
    "weight",
    [
        Value(DataType.UINT8, 16),
        Value(DataType.UINT8, -1),
        Value(DataType.UINT64, 1 << 64),
        Value(DataType.UINT64, -1),
        Value(DataType.UINT64, None),
        Value(DataType.UINT32, 1),
        Value(DataType.EMPTY, 1),
    ],
)
def test_other_weights_are_refused(weight: Value) -> None:
    with pytest.raises(PolicyError) as refused:
        effective_weight(weight, ())
    assert refused.value.code is PolicyCode.INVALID_WEIGHT


@pytest.mark.parametrize(
    ("intervals", "bits", "blocks"),
    [
        (((0, 255),), 8, [(0, 0)]),
        (((6, 6),), 8, [(8, 6)]),
        (((0, 127),), 8, [(1, 0)]),
        (((128, 255),), 8, [(1, 1)]),
        (((1, 6),), 8, [(8, 1), (7, 1), (7, 2), (8, 6)]),
        (((4, 7), (9, 9)), 8, [(6, 1), (8, 9)]),
        (((0, (1 << 128) - 1),), 128, [(0, 0)]),
    ],
)
def test_intervals_are_cut_into_blocks(
    intervals: tuple[tuple[int, int], ...], bits: int, blocks: list[tuple[int, int]]
) -> None:
    assert list(blocks_of(intervals, bits, 32)) == blocks


def test_blocks_hold_exactly_the_numbers_or_a_few_more() -> None:
    chance = random.Random(1)
    for _ in range(300):
        ends = sorted(chance.sample(range(256), 4))
        intervals = ((ends[0], ends[1]), (ends[2], ends[3])) if ends[2] - ends[1] > 1 else ((ends[0], ends[3]),)
        wanted = {number for low, high in intervals for number in range(low, high + 1)}
        for limit in (32, 8, 2, 1):
            blocks = blocks_of(intervals, 8, limit)
            held = [number for length, prefix in blocks for number in range(256) if number >> 8 - length == prefix]
            assert len(blocks) <= limit
            assert len(held) == len(set(held))
            assert wanted <= set(held)
            if limit == 32:
                assert wanted == set(held)


@pytest.mark.parametrize("bits", [8, 16, 32, 128])
def test_a_tree_finds_all_blocks_that_hold_a_number_longest_last(bits: int) -> None:
    chance = random.Random(bits)
    tree: SpanTree[str, tuple[str, ...]] = SpanTree(bits, tuple)
    kept: dict[tuple[int, int], str] = {}
    for _ in range(400):
        length = chance.randint(0, bits)
        prefix = chance.getrandbits(length) if chance.random() < 0.3 and length else (1 << length) - 1 >> 1
        if (length, prefix) in kept and chance.random() < 0.7:
            tree.remove((length, prefix))
            del kept[length, prefix]
        else:
            item = f"{length}/{prefix:x}"
            kept[length, prefix] = item
            tree.put((length, prefix), item)
        assert tree.find((length, prefix)) == kept.get((length, prefix))
        number = chance.choice([chance.getrandbits(bits), (1 << bits - 1) - 1, (1 << bits) - 1])
        expected = [item for (size, value), item in kept.items() if number >> bits - size == value]
        found = [item for node in tree.collect(number) for item in node]
        assert sorted(found) == sorted(expected)
        assert bool(tree) is bool(kept)
    for block in list(kept):
        tree.remove(block)
    assert not tree
    assert tree.find((bits, 0)) is None
    assert tree.find((bits - 1, 0)) is None


def test_a_tree_forgets_summaries_of_what_changed() -> None:
    tree: SpanTree[str, list[str]] = SpanTree(16, list)
    tree.put((0, 0), "all")
    tree.put((4, 0xF), "f")
    tree.put((16, 0xFFFF), "one")
    assert tree.collect(0xFFFF) == [["f", "all"], ["one"]]
    tree.put((4, 0xF), "g")
    tree.remove((16, 0xFFFF))
    assert tree.collect(0xFFFF) == [["g", "all"]]
    tree.remove((4, 0xF))
    assert tree.collect(0xFFFF) == [["all"]]
    assert tree.collect(1) == [["all"]]


def test_removing_what_is_not_there_is_a_key_error() -> None:
    tree: SpanTree[str, list[str]] = SpanTree(16, list)
    for block in ((16, 1), (9, 1), (0, 0)):
        with pytest.raises(KeyError):
            tree.remove(block)


def test_a_greater_number_than_any_interval_is_never_lost_to_widening() -> None:
    [test] = compile_conditions(Layer.ALE_AUTH_CONNECT_V4.info, [match(Field.IP_REMOTE_PORT, 5, MatchType.NOT_EQUAL)])
    assert test.intervals is not None
    blocks = blocks_of(test.intervals, 16, 2)
    assert any(0xFFFF >> 16 - length == prefix for length, prefix in blocks)
