"""Policy documents: everything that can be stored comes back the same, and what is wrong is named with its place."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID

import pytest

from benchmarks.policy_set import filters
from securesock.errors import LocalMisuse
from securesock.policy.access import AccessEntry, Right, SecurityDescriptor
from securesock.policy.builtin import BUILT_IN_OBJECTS, ike_exemptions
from securesock.policy.conditions import Condition, match
from securesock.policy.document import SECTIONS, describe, read_condition, read_document, read_object, write_document
from securesock.policy.fields import Field
from securesock.policy.layers import Layer
from securesock.policy.model import Filter, FilterFlag, PolicyObject, Provider, Sublayer
from securesock.policy.users import local_user
from securesock.policy.values import DataType, MatchType, Range, Value
from securesock.policy.weights import exact_weight, ranged_weight


def again(item: PolicyObject) -> PolicyObject:
    return read_object(type(item), json.loads(json.dumps(describe(item, with_secrets=True))))


@pytest.mark.parametrize("item", [*BUILT_IN_OBJECTS, *ike_exemptions(local_user(7))], ids=lambda item: item.name)
def test_what_is_built_in_comes_back_the_same(item: PolicyObject) -> None:
    assert again(item) == item


def test_ordinary_filters_are_written_as_people_would() -> None:
    for each in filters(500):
        assert again(each) == each
        assert "typed" not in json.dumps(describe(each))


@pytest.mark.parametrize(
    "condition",
    [
        match(Field.IP_REMOTE_ADDRESS, "2001:db8::1"),
        match(Field.IP_REMOTE_ADDRESS, "2001:db8::/32", MatchType.NOT_EQUAL),
        match(Field.IP_REMOTE_ADDRESS, ("10.0.0.1", "10.0.0.9"), MatchType.RANGE),
        match(Field.IPSEC_POLICY_KEY, UUID(int=7)),
        match(Field.PEER_NAME, "db.example", MatchType.EQUAL_CASE_INSENSITIVE),
        match(Field.PEER_NAME, b"d\0b\0"),
        match(Field.ALE_APP_ID, b"\x01\x02", MatchType.PREFIX),
        match(Field.FLAGS, 3, MatchType.FLAGS_ANY_SET),
        match(
            Field.ALE_REMOTE_USER_ID,
            SecurityDescriptor((AccessEntry(False, "eve@X"), AccessEntry(True, "*", Right.GENERIC_ALL))),
        ),
        match(Field.ALE_REMOTE_USER_ID, SecurityDescriptor((AccessEntry(True, "a@X"),), owner="uid:7")),
        Condition(Field.IP_REMOTE_PORT, MatchType.EQUAL, Value(DataType.UINT32, 7)),
        Condition(
            Field.IP_REMOTE_PORT,
            MatchType.RANGE,
            Value(DataType.RANGE, Range(Value(DataType.UINT8, 1), Value(DataType.UINT8, 2))),
        ),
    ],
)
def test_every_kind_of_condition_comes_back_the_same(condition: Condition) -> None:
    item = Filter("f", layer=Layer.ALE_AUTH_CONNECT_V4, conditions=(condition,))
    assert again(item) == item


@pytest.mark.parametrize("weight", [exact_weight(0), exact_weight(1 << 63), ranged_weight(12), Value(DataType.INT8, 3)])
def test_every_weight_comes_back_the_same(weight: Value) -> None:
    item = Filter("f", layer=Layer.ALE_AUTH_CONNECT_V4, weight=weight)
    assert again(item) == item


def test_flags_are_names_and_unknown_bits_numbers() -> None:
    item = Filter("f", layer=Layer.IPSEC_V4, flags=int(FilterFlag.CLEAR_ACTION_RIGHT) | 1 << 20)
    assert describe(item)["flags"] == ["CLEAR_ACTION_RIGHT", 1 << 20]
    assert again(item) == item


def test_what_the_engine_fills_in_is_left_out() -> None:
    item = Filter("f", layer=Layer.IPSEC_V4, id=7, effective_weight=9)
    assert describe(item) == {"name": "f", "layer": "IPSEC_V4"}
    assert again(item) == replace(item, id=0, effective_weight=0)


def test_a_document_has_its_sections_in_the_order_of_references() -> None:
    items: dict[str, list[PolicyObject]] = {"filters": [], "sublayers": [Sublayer("s")], "providers": [Provider("p")]}
    document = write_document(items)
    assert list(document) == ["providers", "sublayers"]
    assert read_document(document) == {section: items.get(section, []) for section in SECTIONS}


FILTER = {"name": "f", "layer": "IPSEC_V4"}


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ([], "is an object with the sections"),
        ({"filter": []}, "unknown section 'filter'"),
        ({"filters": {}}, "filters is a list"),
        ({"filters": [7]}, r"filters\[0\]: a filter is an object"),
        ({"filters": [{}]}, r"filters\[0\]: Filter needs name"),
        ({"filters": [{"name": "f"}]}, "Filter needs layer"),
        ({"filters": [{**FILTER, "id": 7}]}, "unknown field 'id'"),
        ({"filters": [{**FILTER, "name": 7}]}, "name: a text is wanted"),
        ({"filters": [{**FILTER, "layer": "X"}]}, "layer: 'X' is none of"),
        ({"filters": [{**FILTER, "layer": True}]}, "layer: True is none of"),
        ({"filters": [{**FILTER, "layer": 700}]}, "layer: 700 is not a valid Layer"),
        ({"filters": [{**FILTER, "key": "x"}]}, "key: badly formed"),
        ({"filters": [{**FILTER, "flags": ["X"]}]}, "flags: 'X' is none of"),
        ({"filters": [{**FILTER, "flags": 7}]}, "flags: a list is wanted"),
        ({"filters": [{**FILTER, "weight": 7}]}, "weight: a weight is"),
        ({"filters": [{**FILTER, "weight": {"range": "9"}}]}, "weight: a number is wanted"),
        ({"filters": [{**FILTER, "conditions": [7]}]}, r"conditions: \[0\]: a condition is"),
        ({"filters": [{**FILTER, "conditions": [{"field": "X", "value": 1}]}]}, "there is no field 'X'"),
        ({"filters": [{**FILTER, "conditions": [{"field": "FLAGS", "match": "X", "value": 1}]}]}, "'X' is none of"),
        ({"filters": [{**FILTER, "conditions": [{"field": "FLAGS", "value": "x"}]}]}, "TYPE_MISMATCH"),
        ({"filters": [{**FILTER, "conditions": [{"field": "FLAGS", "value": None}]}]}, "has no value None"),
        ({"filters": [{**FILTER, "conditions": [{"field": "FLAGS", "typed": [1]}]}]}, r"\[0\]: "),
        ({"filters": [{**FILTER, "conditions": [{"field": "REMOTE_ID", "value": [7]}]}]}, "who is meant is a name"),
        ({"filters": [{**FILTER, "conditions": [{"field": "REMOTE_ID", "value": {"trustee": 7}}]}]}, "a text is"),
        ({"filters": [{**FILTER, "conditions": [{"field": "REMOTE_ID", "value": {"allow": 7}}]}]}, "true or false"),
        ({"sublayers": [{"name": "s", "weight": "9"}]}, "weight: a number is wanted"),
        ({"provider_contexts": [{"name": "c", "type": "GENERAL"}]}, "ProviderContext needs content"),
        ({"provider_contexts": [{"name": "c", "type": "IKE_MM", "content": {"kind": "X"}}]}, "'X' does not belong"),
        ({"provider_contexts": [{"name": "c", "type": "IKE_MM", "content": {"kind": "IkePolicy"}}]}, "needs methods"),
        ({"provider_contexts": [{"name": "c", "type": "IKE_MM", "content": None}]}, "something is missing"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(document: object, why: str) -> None:
    with pytest.raises(LocalMisuse, match=why):
        read_document(document)


def test_a_range_needs_no_match_and_a_value_none() -> None:
    assert read_condition({"field": "IP_REMOTE_PORT", "value": [1, 9]}) == match(
        Field.IP_REMOTE_PORT, (1, 9), MatchType.RANGE
    )
