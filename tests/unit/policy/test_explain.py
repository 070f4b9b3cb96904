"""explain(): the account of a classification, in words and as data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import UUID

import pytest

from securesock.policy.access import AccessEntry, SecurityDescriptor, Token
from securesock.policy.callouts import CalloutAnswer
from securesock.policy.conditions import Condition, match
from securesock.policy.explain import describe_condition, describe_value
from securesock.policy.fields import Field, Kind
from securesock.policy.filter_engine import FilterEngine
from securesock.policy.layers import Layer
from securesock.policy.model import ActionType, Callout, Filter, FilterFlag, Sublayer
from securesock.policy.values import DataType, MatchType, Value
from securesock.policy.weights import exact_weight

CONNECT = Layer.ALE_AUTH_CONNECT_V4
FLOW = {Field.IP_REMOTE_ADDRESS: "192.0.2.1", Field.IP_REMOTE_PORT: 443}


@pytest.fixture
def engine() -> Iterator[FilterEngine]:
    with FilterEngine.open(":memory:") as opened:
        yield opened


def test_an_empty_layer(engine: FilterEngine) -> None:
    account = engine.explain(CONNECT, {})
    assert account.text.splitlines() == [
        "ALE_AUTH_CONNECT_V4: nothing known",
        "0 of 0 filters match",
        "verdict: no filter matched",
    ]
    assert account.verdict == engine.classify(CONNECT, {})


def test_the_account_names_who_decided_who_was_hidden_and_who_only_looked(engine: FilterEngine) -> None:
    high = engine.sublayers.add(Sublayer("high", weight=0xF800)).key
    low = engine.sublayers.add(Sublayer("low", weight=0x10)).key
    callout = engine.callouts.add(Callout("c", layer=CONNECT)).key
    engine.register_callout(callout, lambda call: CalloutAnswer(ActionType.BLOCK))
    looks = engine.filters.add(
        Filter(
            "looks",
            layer=CONNECT,
            sublayer=high,
            weight=exact_weight(9),
            action=ActionType.CALLOUT_INSPECTION,
            action_key=callout,
        )
    )
    permit = engine.filters.add(
        Filter(
            "permit",
            layer=CONNECT,
            sublayer=high,
            weight=exact_weight(5),
            flags=FilterFlag.CLEAR_ACTION_RIGHT,
            conditions=(match(Field.IP_REMOTE_PORT, 443),),
        )
    )
    hidden = engine.filters.add(Filter("hidden", layer=CONNECT, sublayer=high, action=ActionType.BLOCK))
    powerless = engine.filters.add(Filter("powerless", layer=CONNECT, action=ActionType.BLOCK))
    veto = engine.filters.add(
        Filter("veto", layer=CONNECT, sublayer=low, action=ActionType.CALLOUT_TERMINATING, action_key=callout)
    )
    miss = engine.filters.add(Filter("miss", layer=CONNECT, conditions=(match(Field.IP_REMOTE_PORT, 80),)))
    account = engine.explain(CONNECT, FLOW, with_misses=True)
    assert account.verdict == engine.classify(CONNECT, FLOW)
    assert [[(each.filter.id, each.did) for each in lane.considered] for lane in account.sublayers] == [
        [
            (looks.id, "looked, and left it to the next"),
            (permit.id, "permits for good"),
            (hidden.id, f"is hidden by filter {permit.id}, which weighs more"),
        ],
        [(powerless.id, "decides its sublayer, and changes nothing: a higher sublayer decided for good")],
        [(veto.id, "blocks by a veto, against a hard permit")],
    ]
    assert [lane.outcome for lane in account.sublayers] == ["hard permit", "hard permit", "hard block"]
    [missed] = account.misses
    assert missed.filter.id == miss.id
    assert missed.why_not == "IP_REMOTE_PORT is 80; it is 443"
    text = account.text
    assert text.startswith("ALE_AUTH_CONNECT_V4: IP_REMOTE_ADDRESS 192.0.2.1, IP_REMOTE_PORT 443\n5 of 6 filters match")
    assert f"  sublayer 'high' (weight {0xF800}): hard permit" in text
    assert f"  filter {miss.id} 'miss' does not match: IP_REMOTE_PORT is 80; it is 443" in text
    assert text.endswith(f"verdict: {account.verdict.reason}")
    data = json.loads(json.dumps(account.to_dict()))
    assert data["action"] == "BLOCK"
    assert data["filter_id"] == veto.id
    assert data["vetoed_filter_id"] == permit.id
    assert data["flow"] == {"IP_REMOTE_ADDRESS": "192.0.2.1", "IP_REMOTE_PORT": "443"}
    assert [lane["sublayer"] for lane in data["sublayers"]] == ["high", "Universal", "low"]
    assert data["misses"][0]["why_not"] == missed.why_not


def test_soft_decisions_say_that_they_are_soft_and_whom_they_override(engine: FilterEngine) -> None:
    low = engine.sublayers.add(Sublayer("low", weight=0x10)).key
    lowest = engine.sublayers.add(Sublayer("lowest", weight=0x1)).key
    callout = engine.callouts.add(Callout("c", layer=CONNECT)).key
    engine.register_callout(callout, lambda call: CalloutAnswer(ActionType.BLOCK))
    engine.filters.add(Filter("permit", layer=CONNECT))
    engine.filters.add(
        Filter("block", layer=CONNECT, sublayer=low, action=ActionType.CALLOUT_UNKNOWN, action_key=callout)
    )
    engine.filters.add(
        Filter("same", layer=CONNECT, sublayer=lowest, action=ActionType.CALLOUT_UNKNOWN, action_key=callout)
    )
    account = engine.explain(CONNECT, FLOW)
    assert [lane.considered[0].did for lane in account.sublayers] == [
        "permits softly",
        "blocks softly, against a higher sublayer",
        "decides its sublayer, and changes nothing",
    ]
    assert [lane.outcome for lane in account.sublayers] == ["soft permit", "soft block", "soft block"]


def test_filters_that_sleep_are_not_considered(engine: FilterEngine) -> None:
    engine.filters.add(Filter("boot", layer=CONNECT, flags=FilterFlag.BOOTTIME, action=ActionType.BLOCK))
    account = engine.explain(CONNECT, FLOW)
    assert account.filters == 0
    assert account.verdict.action is ActionType.NONE_NO_MATCH


def test_only_some_misses_are_listed(engine: FilterEngine) -> None:
    with engine.transaction():
        for number in range(150):
            engine.filters.add(Filter(f"f{number}", layer=CONNECT, conditions=(match(Field.IP_PROTOCOL, 1),)))
    assert len(engine.explain(CONNECT, FLOW, with_misses=True).misses) == 100
    assert engine.explain(CONNECT, FLOW).misses == ()
    assert engine.explain(CONNECT, FLOW, with_misses=True).misses[0].why_not == "IP_PROTOCOL is 1; it is absent"


def test_an_undecided_layer_says_so(engine: FilterEngine) -> None:
    callout = engine.callouts.add(Callout("c", layer=CONNECT)).key
    engine.filters.add(Filter("looks", layer=CONNECT, action=ActionType.CALLOUT_INSPECTION, action_key=callout))
    account = engine.explain(CONNECT, FLOW)
    assert account.sublayers[0].outcome == "undecided"
    assert account.verdict == engine.classify(CONNECT, FLOW)
    assert account.verdict.action is ActionType.NONE


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (match(Field.IP_REMOTE_PORT, 443), "IP_REMOTE_PORT is 443"),
        (match(Field.IP_REMOTE_PORT, 443, MatchType.NOT_EQUAL), "IP_REMOTE_PORT is not 443"),
        (match(Field.IP_REMOTE_PORT, (1, 9), MatchType.RANGE), "IP_REMOTE_PORT is 1 to 9"),
        (match(Field.IP_REMOTE_ADDRESS, "192.0.2.0/24"), "IP_REMOTE_ADDRESS is in 192.0.2.0/24"),
        (match(Field.IP_REMOTE_ADDRESS, "2001:db8::/32"), "IP_REMOTE_ADDRESS is in 2001:db8::/32"),
        (match(Field.IP_REMOTE_ADDRESS, "192.0.2.1"), "IP_REMOTE_ADDRESS is 192.0.2.1"),
        (match(Field.IP_REMOTE_ADDRESS, "2001:db8::1"), "IP_REMOTE_ADDRESS is 2001:db8::1"),
        (match(Field.FLAGS, 6, MatchType.FLAGS_ANY_SET), "FLAGS has one of 0x6"),
        (match(Field.PEER_NAME, "a", MatchType.PREFIX), "PEER_NAME ends with a"),
        (match(Field.PEER_NAME, "a".encode("utf-16-le")), "PEER_NAME is a"),
        (match(Field.ALE_APP_ID, b"\1\2"), "ALE_APP_ID is 0102"),
        (match(Field.ALE_APP_ID, b""), "ALE_APP_ID is empty"),
        (match(Field.IPSEC_POLICY_KEY, UUID(int=0)), "IPSEC_POLICY_KEY is " + "00" * 16),
        (match(Field.ALE_REMOTE_USER_ID, "alice@X"), "ALE_REMOTE_USER_ID is alice@X"),
        (
            match(Field.ALE_REMOTE_USER_ID, SecurityDescriptor((AccessEntry(False, "eve@X"), AccessEntry(True, "*")))),
            "ALE_REMOTE_USER_ID is not eve@X, *",
        ),
        (match(Field.ALE_REMOTE_USER_ID, SecurityDescriptor()), "ALE_REMOTE_USER_ID is nobody"),
        (
            Condition(Field.ALE_USER_ID, MatchType.EQUAL, Value(DataType.SID, "uid:0")),
            "ALE_USER_ID is uid:0",
        ),
    ],
)
def test_conditions_in_words(condition: Condition, words: str) -> None:
    assert describe_condition(condition) == words


def test_values_in_words() -> None:
    assert describe_value(Kind.TOKEN, Token(("a@X",), ("ops",))) == "a@X or group:ops"
    assert describe_value(Kind.TOKEN, Token(())) == "nobody"
    assert describe_value(Kind.BLOB, b"\xff") == "ff"
    assert describe_value(Kind.BLOB, b"") == "empty"
    assert describe_value(Kind.ADDRESS6, 1) == "::1"
    assert describe_value(Kind.NAME, "db") == "db"


@pytest.mark.parametrize(
    ("value", "described"),
    [
        ("/usr/bin/python3".encode("utf-16-le") + bytes(2), "/usr/bin/python3"),
        ("\\device\\jürgen".encode("utf-16-le") + bytes(2), "\\device\\jürgen"),
        ("/usr/bin/python3".encode("utf-16-le"), "/usr/bin/python3".encode("utf-16-le").hex()),
        ("/with\nline".encode("utf-16-le") + bytes(2), ("/with\nline".encode("utf-16-le") + bytes(2)).hex()),
        (b"\x01\x02\0\0", "01020000"),
        (b"/\0\xd8\0\0", "2f00d80000"),
        (bytes(2), "0000"),
        (b"", "empty"),
    ],
)
def test_a_program_is_named_by_its_path_and_other_bytes_are_hex(value: bytes, described: str) -> None:
    assert describe_value(Kind.BLOB, value) == described
    condition = Condition(Field.ALE_APP_ID, MatchType.EQUAL, Value(DataType.BYTE_BLOB, value))
    assert describe_condition(condition) == f"ALE_APP_ID is {described}"
