"""Enumeration templates: what is returned, in which order, and which templates can match nothing."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from securesock.policy import identifiers as ids
from securesock.policy.access import Token, allow
from securesock.policy.conditions import Condition, match
from securesock.policy.enumeration import ContextTemplate, EnumFlag, EnumType, FilterTemplate, ObjectTemplate
from securesock.policy.errors import PolicyCode, PolicyError
from securesock.policy.fields import Field
from securesock.policy.filter_engine import FilterEngine
from securesock.policy.ipsec_numbers import ContextType
from securesock.policy.layers import Layer
from securesock.policy.model import ActionType, Callout, Filter, Provider, ProviderContext, Sublayer
from securesock.policy.values import DataType, MatchType, Value
from securesock.policy.weights import exact_weight

CONNECT, OUT = Layer.ALE_AUTH_CONNECT_V4, Layer.OUTBOUND_TRANSPORT_V4
PORT, ADDRESS, NAME, USER, FLAGS = (
    Field.IP_REMOTE_PORT,
    Field.IP_REMOTE_ADDRESS,
    Field.PEER_NAME,
    Field.ALE_REMOTE_USER_ID,
    Field.FLAGS,
)
CONTAINED, OVERLAPPING = EnumType.FULLY_CONTAINED, EnumType.OVERLAPPING
E = PolicyCode


@pytest.fixture
def engine() -> Iterator[FilterEngine]:
    with FilterEngine.open(":memory:") as opened:
        yield opened


def names(engine: FilterEngine, **template: object) -> list[str]:
    return [each.name for each in engine.filters.enumerate(FilterTemplate(**template))]


def add(engine: FilterEngine, name: str, *conditions: Condition, **more: object) -> Filter:
    return engine.filters.add(Filter(name, **{"layer": CONNECT, "conditions": conditions, **more}))


@pytest.mark.parametrize(
    ("template", "contained", "overlapping"),
    [
        ([], "any one two net range flags named user", "any one two net range flags named user"),
        ([match(PORT, 443)], "any one range", "any one range net flags named user"),
        ([match(PORT, 80)], "any two", "any two net flags named user"),
        ([match(PORT, (400, 500), MatchType.RANGE)], "any range", "any one range net flags named user"),
        ([match(PORT, 443, MatchType.NOT_EQUAL)], "any", "any two range net flags named user"),
        ([match(ADDRESS, "192.0.2.1")], "any net", "any one two net range flags named user"),
        ([match(ADDRESS, "192.0.2.0/25")], "any net", "any one two net range flags named user"),
        ([match(ADDRESS, "192.0.0.0/16")], "any", "any one two net range flags named user"),
        ([match(ADDRESS, "10.0.0.0/8")], "any", "any one two range flags named user"),
        ([match(ADDRESS, "192.0.2.1"), match(PORT, 443)], "any one net range", "any one net range flags named user"),
        ([match(FLAGS, 3)], "any flags", "any one two net range flags named user"),
        ([match(FLAGS, 4)], "any", "any one two net range named user"),
        ([match(FLAGS, 3, MatchType.FLAGS_ALL_SET)], "any", "any one two net range flags named user"),
        ([match(NAME, "db.example")], "any named", "any one two net range flags named user"),
        ([match(NAME, "db.example".encode("utf-16-le"))], "any named", "any one two net range flags named user"),
        ([match(NAME, "example.org")], "any", "any one two net range flags user"),
        ([match(NAME, "a", MatchType.PREFIX)], "any", "any one two net range flags named user"),
        (
            [Condition(USER, MatchType.EQUAL, Value(DataType.SID, "alice@X"))],
            "any user",
            "any one two net range flags named user",
        ),
        (
            [Condition(USER, MatchType.EQUAL, Value(DataType.TOKEN_INFORMATION, Token(("bob@X",))))],
            "any",
            "any one two net range flags named",
        ),
    ],
)
def test_regions(engine: FilterEngine, template: list[Condition], contained: str, overlapping: str) -> None:
    """ "Return only filters that fully contain the enum conditions" - or overlap with them."""
    add(engine, "any")
    add(engine, "one", match(PORT, 443))
    add(engine, "two", match(PORT, 80), match(PORT, 81))
    add(engine, "net", match(ADDRESS, "192.0.2.0/24"))
    add(engine, "range", match(PORT, (400, 500), MatchType.RANGE))
    add(engine, "flags", match(FLAGS, 3, MatchType.FLAGS_ALL_SET))
    add(engine, "named", match(NAME, ".example", MatchType.PREFIX))
    add(engine, "user", match(USER, allow("alice@X")))
    found = names(engine, layer=CONNECT, enum_type=CONTAINED, conditions=tuple(template))
    assert sorted(found) == sorted(contained.split())
    found = names(engine, layer=CONNECT, enum_type=OVERLAPPING, conditions=tuple(template))
    assert sorted(found) == sorted(overlapping.split())


def test_the_look_up_of_the_sample_finds_the_filter_of_a_connection(engine: FilterEngine) -> None:
    """MatchIPsecSAsForConnection: exact 5-tuple, unicast, best terminating match among terminating filters."""
    lane = engine.sublayers.add(Sublayer("high", weight=0xF800))
    callout = {"action": ActionType.CALLOUT_TERMINATING, "action_key": ids.CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4}
    unicast = match(Field.IP_LOCAL_ADDRESS_TYPE, 1)
    add(engine, "everything", layer=OUT, weight=exact_weight(9))
    looking = {**callout, "action": ActionType.CALLOUT_INSPECTION}
    add(engine, "looks", layer=OUT, sublayer=lane.key, **looking)
    add(engine, "low", unicast, layer=OUT, weight=exact_weight(1), sublayer=lane.key, **callout)
    add(engine, "mine", unicast, layer=OUT, weight=exact_weight(5), sublayer=lane.key, **callout)
    add(engine, "other port", match(PORT, 99), layer=OUT, weight=exact_weight(50), sublayer=lane.key, **callout)
    template = FilterTemplate(
        layer=OUT,
        enum_type=CONTAINED,
        flags=EnumFlag.BEST_TERMINATING_MATCH,
        action_mask=0x1000,
        conditions=(
            match(Field.IP_LOCAL_ADDRESS, "192.0.2.1"),
            match(ADDRESS, "192.0.2.2"),
            match(Field.IP_LOCAL_PORT, 40000),
            match(PORT, 7000),
            match(Field.IP_PROTOCOL, 6),
            unicast,
        ),
    )
    [found] = engine.filters.enumerate(template)
    assert found.name == "mine"
    assert found.action_key == ids.CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4


def test_sorted_is_by_sublayer_then_weight_then_age(engine: FilterEngine) -> None:
    high = engine.sublayers.add(Sublayer("high", weight=0xF800)).key
    add(engine, "a", weight=exact_weight(1))
    add(engine, "b", weight=exact_weight(2))
    add(engine, "c", weight=exact_weight(1))
    add(engine, "d", weight=exact_weight(0), sublayer=high)
    assert names(engine) == ["a", "b", "c", "d"]
    assert names(engine, flags=EnumFlag.SORTED) == ["d", "b", "a", "c"]
    assert names(engine, flags=EnumFlag.BEST_TERMINATING_MATCH) == ["d"]


def test_everything_but_the_conditions(engine: FilterEngine) -> None:
    provider = engine.providers.add(Provider("p")).key
    general = engine.provider_contexts.add(
        ProviderContext("g", type=ContextType.GENERAL, content=b"", provider=provider)
    )
    other = engine.provider_contexts.add(ProviderContext("g", type=ContextType.GENERAL, content=b""))
    mine = engine.callouts.add(Callout("c", layer=CONNECT)).key
    add(engine, "plain", provider=provider)
    add(engine, "block", action=ActionType.BLOCK, layer=OUT, action_key=mine)
    add(engine, "ask", action=ActionType.CALLOUT_UNKNOWN, action_key=mine)
    add(engine, "with", provider_context=general.key)
    add(engine, "with other", provider_context=other.key)
    assert names(engine, provider=provider) == ["plain"]
    assert names(engine, layer=OUT) == ["block"]
    assert names(engine, action_mask=0x4000) == ["ask"]
    assert names(engine, action_mask=0x1000) == ["plain", "block", "with", "with other"]
    assert names(engine, callout=mine) == ["ask"]
    assert names(engine, context=ContextTemplate()) == ["with", "with other"]
    assert names(engine, context=ContextTemplate(provider=provider)) == ["with"]
    assert names(engine, context=ContextTemplate(type=ContextType.KEYING)) == []


def test_templates_of_the_other_kinds(engine: FilterEngine) -> None:
    provider = engine.providers.add(Provider("p")).key
    lane = engine.sublayers.add(Sublayer("s", provider=provider))
    mine = engine.callouts.add(Callout("c", layer=CONNECT, provider=provider))
    assert engine.sublayers.enumerate(ObjectTemplate(provider=provider)) == [lane]
    assert engine.callouts.enumerate(ObjectTemplate(provider=provider)) == [mine]
    assert [each.key for each in engine.providers.enumerate(ObjectTemplate(provider=provider))] == [provider]
    at_connect = [each.key for each in engine.callouts.enumerate(ObjectTemplate(layer=CONNECT))]
    assert at_connect == [ids.CALLOUT_IPSEC_ALE_CONNECT_V4, ids.CALLOUT_SET_OPTIONS_AUTH_CONNECT_LAYER_V4, mine.key]
    assert engine.sublayers.enumerate(ObjectTemplate(layer=CONNECT)) == []
    main_modes = engine.provider_contexts.enumerate(ContextTemplate(type=ContextType.AUTHIP_MM))
    assert [each.key for each in main_modes] == [ids.PROVIDER_CONTEXT_SECURE_SOCKET_AUTHIP]
    assert len(engine.provider_contexts.enumerate()) == 4


@pytest.mark.parametrize(
    ("template", "code"),
    [
        (FilterTemplate(enum_type=7), E.INVALID_ENUMERATOR),
        (FilterTemplate(flags=0x20), E.INVALID_FLAGS),
        (FilterTemplate(context=ContextTemplate(type=77)), E.INVALID_ENUMERATOR),
        (FilterTemplate(conditions=(match(PORT, 1),)), E.NULL_POINTER),
        (FilterTemplate(layer=CONNECT, conditions=(match(Field.REMOTE_ID, "a@X"),)), E.CONDITION_NOT_FOUND),
        (FilterTemplate(layer=CONNECT, conditions=(match(PORT, 1), match(PORT, 2))), E.DUPLICATE_CONDITION),
        (
            FilterTemplate(layer=CONNECT, conditions=(Condition(PORT, MatchType.EQUAL, Value(DataType.SID, "a")),)),
            E.TYPE_MISMATCH,
        ),
        (
            FilterTemplate(layer=CONNECT, conditions=(Condition(USER, MatchType.EQUAL, Value(DataType.SID, 7)),)),
            E.TYPE_MISMATCH,
        ),
        (
            FilterTemplate(layer=CONNECT, conditions=(Condition(USER, MatchType.LESS, Value(DataType.SID, "a")),)),
            E.TYPE_MISMATCH,
        ),
        (FilterTemplate(action_mask=0), E.NEVER_MATCH),
        (FilterTemplate(action_mask=0x100), E.NEVER_MATCH),
        (FilterTemplate(action_mask=0x1002, callout=UUID(int=1)), E.NEVER_MATCH),
        (FilterTemplate(layer=Layer.IPSEC_V4, flags=EnumFlag.BOOTTIME_ONLY), E.NEVER_MATCH),
        (FilterTemplate(layer=CONNECT, conditions=(match(PORT, 0, MatchType.LESS),)), E.NEVER_MATCH),
    ],
)
def test_templates_that_cannot_be(engine: FilterEngine, template: FilterTemplate, code: PolicyCode) -> None:
    for call in (engine.filters.enumerate, lambda given: engine.filters.subscribe(template=given)):
        with pytest.raises(PolicyError) as refused:
            call(template)
        assert refused.value.code is code


def test_a_context_template_of_no_type_is_refused(engine: FilterEngine) -> None:
    with pytest.raises(PolicyError) as refused:
        engine.provider_contexts.enumerate(ContextTemplate(type=77))
    assert refused.value.code is E.INVALID_ENUMERATOR
