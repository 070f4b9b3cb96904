"""The index and the arbitration against a naive model: every filter looked at, every rule spelled out."""

from __future__ import annotations

import random
from dataclasses import replace
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from securesock.policy.access import AccessEntry, SecurityDescriptor, Token
from securesock.policy.arbitration import Arbitration
from securesock.policy.callouts import CalloutAnswer, CalloutCall
from securesock.policy.classify import Inquiry, classify
from securesock.policy.conditions import Condition, compile_conditions
from securesock.policy.fields import Field
from securesock.policy.index import LayerIndex
from securesock.policy.layers import Layer
from securesock.policy.model import ActionType, Filter, FilterFlag
from securesock.policy.rules import Rule
from securesock.policy.values import DataType, MatchType, Range, V4Mask, V6Mask, Value
from securesock.policy.weights import effective_weight, exact_weight

CALLOUT = UUID(int=77)
PORTS = [0, 1, 2, 3, 7, 8, 443, 444, 0xFFFE, 0xFFFF]
V4 = [0, 1, 0x0A000001, 0x0A000002, 0x0A0000FF, 0x0A010000, 0xC0000201, 0xFFFFFFFF]
V6 = [0, 1, 0x20010DB8 << 96, (0x20010DB8 << 96) + 1, (0x20010DB9 << 96), (1 << 128) - 1]
NAMES = ["host/a.example", "host/b.example", "host/a.b.example", "alice@EXAMPLE", "host/*.example", "host/*.*.example"]
FLAGS = [0, 1, 2, 3, 0x80]
BLOBS = [b"", b"a", b"ab", b"b"]
TEXTS = ["", "db.example", "DB.example", "xdb.example", "straße"]
ORDERED = [
    MatchType.EQUAL,
    MatchType.NOT_EQUAL,
    MatchType.GREATER,
    MatchType.LESS,
    MatchType.GREATER_OR_EQUAL,
    MatchType.LESS_OR_EQUAL,
]


def numbers(field: Field, kind: DataType, values: list[int]) -> st.SearchStrategy[Condition]:
    def typed(number: int) -> Value:
        return Value(kind, number.to_bytes(16) if kind is DataType.BYTE_ARRAY16 else number)

    single = st.builds(
        lambda how, number: Condition(field, how, typed(number)), st.sampled_from(ORDERED), st.sampled_from(values)
    )
    ranged = st.builds(
        lambda a, b: Condition(
            field, MatchType.RANGE, Value(DataType.RANGE, Range(typed(min(a, b)), typed(max(a, b))))
        ),
        st.sampled_from(values),
        st.sampled_from(values),
    )
    return single | ranged


def v4_networks(field: Field) -> st.SearchStrategy[Condition]:
    def network(number: int, length: int, how: MatchType) -> Condition:
        return Condition(
            field, how, Value(DataType.V4_ADDR_MASK, V4Mask(number, (0xFFFFFFFF << 32 - length) & 0xFFFFFFFF))
        )

    return st.builds(
        network, st.sampled_from(V4), st.integers(0, 32), st.sampled_from([MatchType.EQUAL, MatchType.NOT_EQUAL])
    )


def v6_networks(field: Field) -> st.SearchStrategy[Condition]:
    return st.builds(
        lambda number, length: Condition(
            field, MatchType.EQUAL, Value(DataType.V6_ADDR_MASK, V6Mask(number.to_bytes(16), length))
        ),
        st.sampled_from(V6),
        st.integers(0, 128),
    )


def flags(field: Field) -> st.SearchStrategy[Condition]:
    kinds = [MatchType.FLAGS_ALL_SET, MatchType.FLAGS_ANY_SET, MatchType.FLAGS_NONE_SET]
    return st.builds(
        lambda how, mask: Condition(field, how, Value(DataType.UINT32, mask)),
        st.sampled_from(kinds),
        st.sampled_from(FLAGS),
    )


def identities(field: Field) -> st.SearchStrategy[Condition]:
    entry = st.builds(AccessEntry, st.booleans(), st.sampled_from([*NAMES, "*", "group:ops"]))
    return st.lists(entry, min_size=0, max_size=3).map(
        lambda entries: Condition(
            field, MatchType.EQUAL, Value(DataType.SECURITY_DESCRIPTOR, SecurityDescriptor(tuple(entries)))
        )
    )


def blobs(field: Field) -> st.SearchStrategy[Condition]:
    kinds = [*ORDERED, MatchType.PREFIX, MatchType.NOT_PREFIX]
    return st.builds(
        lambda how, blob: Condition(field, how, Value(DataType.BYTE_BLOB, blob)),
        st.sampled_from(kinds),
        st.sampled_from(BLOBS),
    )


def texts(field: Field) -> st.SearchStrategy[Condition]:
    kinds = [*ORDERED, MatchType.PREFIX, MatchType.NOT_PREFIX, MatchType.EQUAL_CASE_INSENSITIVE]
    return st.builds(
        lambda how, text: Condition(field, how, Value(DataType.UNICODE_STRING, text)),
        st.sampled_from(kinds),
        st.sampled_from(TEXTS),
    )


V4_FIELDS = {
    Field.IP_REMOTE_ADDRESS: numbers(Field.IP_REMOTE_ADDRESS, DataType.UINT32, V4)
    | v4_networks(Field.IP_REMOTE_ADDRESS),
    Field.IP_LOCAL_ADDRESS: numbers(Field.IP_LOCAL_ADDRESS, DataType.UINT32, V4) | v4_networks(Field.IP_LOCAL_ADDRESS),
    Field.IP_REMOTE_PORT: numbers(Field.IP_REMOTE_PORT, DataType.UINT16, PORTS),
    Field.IP_LOCAL_PORT: numbers(Field.IP_LOCAL_PORT, DataType.UINT16, PORTS),
    Field.IP_PROTOCOL: numbers(Field.IP_PROTOCOL, DataType.UINT8, [6, 17]),
    Field.FLAGS: flags(Field.FLAGS) | numbers(Field.FLAGS, DataType.UINT32, FLAGS),
    Field.ALE_REMOTE_MACHINE_ID: identities(Field.ALE_REMOTE_MACHINE_ID),
    Field.ALE_REMOTE_USER_ID: identities(Field.ALE_REMOTE_USER_ID),
    Field.ALE_APP_ID: blobs(Field.ALE_APP_ID),
    Field.PEER_NAME: texts(Field.PEER_NAME),
}
V6_FIELDS = {
    Field.IP_REMOTE_ADDRESS: numbers(Field.IP_REMOTE_ADDRESS, DataType.BYTE_ARRAY16, V6)
    | v6_networks(Field.IP_REMOTE_ADDRESS),
    Field.IP_REMOTE_PORT: V4_FIELDS[Field.IP_REMOTE_PORT],
}


def conditions(fields: dict[Field, st.SearchStrategy[Condition]]) -> st.SearchStrategy[tuple[Condition, ...]]:
    """A few fields, each with one to three alternatives in a row."""

    def of(chosen: list[Field]) -> st.SearchStrategy[tuple[Condition, ...]]:
        groups = [st.lists(fields[each], min_size=1, max_size=3) for each in chosen]
        return st.tuples(*groups).map(lambda found: tuple(each for group in found for each in group))

    return st.lists(st.sampled_from(sorted(fields)), unique=True, max_size=4).flatmap(of)


def flows(
    fields: dict[Field, st.SearchStrategy[Condition]], addresses: list[int] = V4
) -> st.SearchStrategy[dict[Field, object]]:
    token = st.builds(
        Token, st.lists(st.sampled_from(NAMES[:4]), max_size=2).map(tuple), st.sampled_from([(), ("ops",)])
    )
    known: dict[Field, st.SearchStrategy[object]] = {
        Field.IP_REMOTE_ADDRESS: st.sampled_from(addresses),
        Field.IP_LOCAL_ADDRESS: st.sampled_from(V4),
        Field.IP_REMOTE_PORT: st.sampled_from(PORTS),
        Field.IP_LOCAL_PORT: st.sampled_from(PORTS),
        Field.IP_PROTOCOL: st.sampled_from([6, 17, 1]),
        Field.FLAGS: st.sampled_from(FLAGS),
        Field.ALE_REMOTE_MACHINE_ID: token,
        Field.ALE_REMOTE_USER_ID: token,
        Field.ALE_APP_ID: st.sampled_from(BLOBS),
        Field.PEER_NAME: st.sampled_from(TEXTS),
    }
    return st.fixed_dictionaries({}, optional={each: known[each] for each in fields})


# -- the naive model: written from the documentation, with nothing of the engine but its values ---------------------


def naive_granted(descriptor: SecurityDescriptor, token: Token) -> bool:
    for entry in descriptor.entries:
        if naive_member(entry.trustee, token):
            return entry.allow
    return False


def naive_member(trustee: str, token: Token) -> bool:
    if trustee == "*":
        return bool(token.names)
    if trustee.startswith("group:"):
        return trustee[6:] in token.groups
    for name in token.names:
        if name == trustee:
            return True
        if "*" in trustee and trustee.startswith("host/") and name.startswith("host/"):
            wanted, had = trustee[5:].split("."), name[5:].split(".")
            if len(wanted) == len(had) and all(w in ("*", h) for w, h in zip(wanted, had, strict=True)):
                return True
    return False


def naive_condition(condition: Condition, value: object) -> bool:
    if value is None:
        return False
    how, kind, data = condition.match, condition.value.type, condition.value.data
    if kind is DataType.SECURITY_DESCRIPTOR:
        return naive_granted(data, value)
    if kind is DataType.RANGE:
        return naive_order(data.low.data) <= naive_order(value) <= naive_order(data.high.data)
    if kind is DataType.V4_ADDR_MASK:
        return (value & data.mask == data.address & data.mask) == (how is MatchType.EQUAL)
    if kind is DataType.V6_ADDR_MASK:
        shift = 128 - data.prefix_length
        return value >> shift == int.from_bytes(data.address) >> shift
    ours, bound = naive_order(value), naive_order(data)
    return {
        MatchType.EQUAL: lambda: ours == bound,
        MatchType.NOT_EQUAL: lambda: ours != bound,
        MatchType.GREATER: lambda: ours > bound,
        MatchType.LESS: lambda: ours < bound,
        MatchType.GREATER_OR_EQUAL: lambda: ours >= bound,
        MatchType.LESS_OR_EQUAL: lambda: ours <= bound,
        MatchType.FLAGS_ALL_SET: lambda: value & data == data,
        MatchType.FLAGS_ANY_SET: lambda: bool(value & data),
        MatchType.FLAGS_NONE_SET: lambda: not value & data,
        MatchType.EQUAL_CASE_INSENSITIVE: lambda: value.casefold() == data.casefold(),
        MatchType.PREFIX: lambda: value.endswith(data),
        MatchType.NOT_PREFIX: lambda: not value.endswith(data),
    }[how]()


def naive_order(value: object) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(16)
    if isinstance(value, str):
        return value.encode("utf-16-be")
    return value.rjust(16, b"\0") if isinstance(value, bytes) and len(value) == 16 else value


def naive_matches(filter_: Filter, flow: dict[Field, object]) -> bool:
    for field in {condition.field for condition in filter_.conditions}:
        alternatives = [each for each in filter_.conditions if each.field is field]
        if not any(naive_condition(each, flow.get(field)) for each in alternatives):
            return False
    return True


def naive_answer(filter_: Filter) -> tuple[ActionType, bool, bool] | None:
    """(action, hard, from a callout) of a filter that matches; the callout answers what its raw context says."""
    clear = bool(filter_.flags & FilterFlag.CLEAR_ACTION_RIGHT)
    if filter_.action is ActionType.PERMIT:
        return ActionType.PERMIT, clear, False
    if filter_.action is ActionType.BLOCK:
        return ActionType.BLOCK, True, False
    if filter_.action is ActionType.CALLOUT_INSPECTION:
        return None
    if filter_.action_key != CALLOUT:
        if filter_.flags & FilterFlag.PERMIT_IF_CALLOUT_UNREGISTERED:
            return ActionType.PERMIT, clear, False
        return ActionType.BLOCK, True, False
    said = (ActionType.PERMIT, ActionType.BLOCK, ActionType.CONTINUE)[filter_.raw_context % 3]
    if said is ActionType.CONTINUE:
        return (ActionType.BLOCK, True, True) if filter_.action is ActionType.CALLOUT_TERMINATING else None
    return said, clear or filter_.raw_context >= 3, True


def naive_verdict(filters: list[Filter], flow: dict[Field, object], weights: dict[int, int]) -> tuple[object, ...]:
    """(action, id of the deciding filter, hard?, id of a vetoed filter), by the pseudo code of the documentation."""
    matching = [each for each in filters if naive_matches(each, flow)]
    if not matching:
        return ActionType.NONE_NO_MATCH, None, False, None
    result: tuple[ActionType, int] | None = None
    writable, vetoed = True, None
    for sublayer in sorted(weights, key=lambda each: (-weights[each], each)):
        inside = sorted(
            (each for each in matching if each.sublayer.int == sublayer),
            key=lambda each: (-each.effective_weight, each.id),
        )
        for each in inside:
            decision = naive_answer(each)
            if decision is None:
                continue
            action, hard, from_callout = decision
            if result is None:
                result, writable = (action, each.id), not hard
            elif writable:
                if action is not result[0] or hard:
                    result = (action, each.id)
                writable = not hard
            elif result[0] is ActionType.PERMIT and action is ActionType.BLOCK and from_callout:
                vetoed = result[1]
                result = (ActionType.BLOCK, each.id)
            break
    if result is None:
        return ActionType.NONE, None, False, None
    return result[0], result[1], not writable, vetoed


# -- the engine's side ------------------------------------------------------------------------------------------------


def filters(fields: dict[Field, st.SearchStrategy[Condition]], layer: Layer) -> st.SearchStrategy[Filter]:
    return st.builds(
        Filter,
        st.just("f"),
        layer=st.just(layer),
        action=st.sampled_from(
            [ActionType.PERMIT, ActionType.BLOCK] * 3
            + [ActionType.CALLOUT_TERMINATING, ActionType.CALLOUT_UNKNOWN, ActionType.CALLOUT_INSPECTION]
        ),
        action_key=st.sampled_from([CALLOUT, CALLOUT, UUID(int=1)]),
        conditions=conditions(fields),
        sublayer=st.integers(1, 3).map(lambda number: UUID(int=number)),
        weight=st.sampled_from([Filter("x", layer=layer).weight] * 3 + [exact_weight(0), exact_weight(5)]),
        flags=st.sampled_from([0, 0, FilterFlag.CLEAR_ACTION_RIGHT, FilterFlag.PERMIT_IF_CALLOUT_UNREGISTERED]),
        raw_context=st.integers(0, 5),
    )


def prepared(found: list[Filter]) -> list[tuple[Filter, Rule]]:
    ready = []
    for number, filter_ in enumerate(found, 1):
        tests = compile_conditions(filter_.layer.info, filter_.conditions)
        complete = replace(filter_, id=number, effective_weight=effective_weight(filter_.weight, tests))
        ready.append((complete, Rule(complete, tests, complete.sublayer.int)))
    return ready


def answer(call: CalloutCall) -> CalloutAnswer:
    said = (ActionType.PERMIT, ActionType.BLOCK, ActionType.CONTINUE)[call.filter.raw_context % 3]
    return CalloutAnswer(said, call.filter.raw_context >= 3)


def engine_verdict(
    index: LayerIndex, layer: Layer, flow: dict[Field, object], weights: dict[int, int]
) -> tuple[object, ...]:
    slots = layer.info.slots_of(flow)
    inquiry = Inquiry(layer, slots, {CALLOUT: answer}, lambda key: None)
    verdict = classify(index.find(slots), inquiry, lambda sublayer: (-weights[sublayer], sublayer))
    vetoed = None if verdict.vetoed is None else verdict.vetoed.id
    return verdict.action, None if verdict.filter is None else verdict.filter.id, verdict.is_hard, vetoed


WEIGHTS = st.fixed_dictionaries({1: st.integers(0, 2), 2: st.integers(0, 2), 3: st.integers(0, 2)})
V4_LAYER, V6_LAYER = Layer.ALE_AUTH_CONNECT_V4, Layer.ALE_AUTH_CONNECT_V6


@settings(max_examples=400)
@given(
    st.lists(filters(V4_FIELDS, V4_LAYER), max_size=24),
    st.lists(flows(V4_FIELDS), min_size=1, max_size=6),
    WEIGHTS,
    st.data(),
)
def test_index_and_arbitration_agree_with_the_naive_model(
    found: list[Filter], asked: list[dict[Field, object]], weights: dict[int, int], data: st.DataObject
) -> None:
    ready = prepared(found)
    index = LayerIndex(V4_LAYER.info)
    for _, rule in ready:
        index.add(rule)
    for flow in asked:
        expected = naive_verdict([each for each, _ in ready], flow, weights)
        assert engine_verdict(index, V4_LAYER, flow, weights) == expected
    gone = data.draw(st.lists(st.integers(0, max(len(ready) - 1, 0)), unique=True)) if ready else []
    for number in gone:
        index.discard(ready[number][1])
    left = [each for number, (each, _) in enumerate(ready) if number not in gone]
    for flow in asked:
        assert engine_verdict(index, V4_LAYER, flow, weights) == naive_verdict(left, flow, weights)


@settings(max_examples=200)
@given(
    st.lists(filters(V6_FIELDS, V6_LAYER), max_size=24), st.lists(flows(V6_FIELDS, V6), min_size=1, max_size=6), WEIGHTS
)
def test_ipv6_agrees_with_the_naive_model(
    found: list[Filter], asked: list[dict[Field, object]], weights: dict[int, int]
) -> None:
    ready = prepared(found)
    index = LayerIndex(V6_LAYER.info)
    for _, rule in ready:
        index.add(rule)
    for flow in asked:
        expected = naive_verdict([each for each, _ in ready], flow, weights)
        assert engine_verdict(index, V6_LAYER, flow, weights) == expected


def random_spans(chance: random.Random) -> tuple[Condition, ...]:
    """A network and a range of ports, a few of each, so that cells of one block fill up."""
    length = chance.choice([0, 1, 7, 8, 9, 16, 24, 31, 32])
    mask = (0xFFFFFFFF << 32 - length) & 0xFFFFFFFF
    low, high = sorted(chance.sample(PORTS, 2))
    ports = Range(Value(DataType.UINT16, low), Value(DataType.UINT16, high))
    found = [
        Condition(
            Field.IP_REMOTE_ADDRESS, MatchType.EQUAL, Value(DataType.V4_ADDR_MASK, V4Mask(chance.choice(V4), mask))
        ),
        Condition(Field.IP_REMOTE_PORT, MatchType.RANGE, Value(DataType.RANGE, ports)),
    ]
    if chance.random() < 0.2:
        found.append(Condition(Field.FLAGS, MatchType.FLAGS_ANY_SET, Value(DataType.UINT32, 2)))
    return tuple(found)


def random_filter(chance: random.Random) -> Filter:
    actions = [ActionType.PERMIT, ActionType.BLOCK, ActionType.PERMIT, ActionType.BLOCK, ActionType.CALLOUT_UNKNOWN]
    return Filter(
        "f",
        layer=V4_LAYER,
        action=chance.choice(actions),
        action_key=CALLOUT,
        conditions=random_spans(chance),
        sublayer=UUID(int=chance.randint(1, 3)),
        weight=chance.choice([exact_weight(5), Filter("x", layer=V4_LAYER).weight]),
        raw_context=chance.randint(0, 5),
    )


@settings(max_examples=40)
@given(st.integers(0, 1 << 32))
def test_large_cells_agree_with_the_naive_model(seed: int) -> None:
    """Filters of one shape, so many that lists become trees and trees are nested; then most of them go again."""
    chance = random.Random(seed)
    weights = {1: 2, 2: 2, 3: 1}
    ready = prepared([random_filter(chance) for _ in range(240)])
    index = LayerIndex(V4_LAYER.info)
    for _, rule in ready:
        index.add(rule)
    asked = [
        {
            Field.IP_REMOTE_ADDRESS: address,
            Field.IP_REMOTE_PORT: chance.choice(PORTS),
            Field.FLAGS: chance.choice(FLAGS),
        }
        for address in V4
    ]
    while ready:
        for flow in asked:
            expected = naive_verdict([each for each, _ in ready], flow, weights)
            assert engine_verdict(index, V4_LAYER, flow, weights) == expected
        chance.shuffle(ready)
        for _, rule in ready[::2]:
            index.discard(rule)
        ready = ready[1::2]
    assert len(index) == 0


@given(st.lists(st.tuples(st.sampled_from([ActionType.PERMIT, ActionType.BLOCK]), st.booleans(), st.booleans())))
def test_a_right_that_was_taken_away_never_comes_back(decisions: list[tuple[ActionType, bool, bool]]) -> None:
    arbitration = Arbitration()
    filter_ = Filter("f", layer=V4_LAYER)
    was_hard = False
    for action, hard, from_callout in decisions:
        before = arbitration.action
        arbitration.consider(action, hard, from_callout, filter_)
        if was_hard and arbitration.action is not before:
            assert (before, arbitration.action, from_callout) == (ActionType.PERMIT, ActionType.BLOCK, True)
        was_hard = was_hard or hard
        assert arbitration.may_write is not was_hard
