"""Net events: what is recorded, how it is found again, and who hears of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from securesock.policy.access import EVERYONE, Token
from securesock.policy.callouts import CalloutAnswer
from securesock.policy.conditions import Condition, match
from securesock.policy.errors import PolicyCode, PolicyError
from securesock.policy.events import (
    ClassifyAllow,
    ClassifyDrop,
    DospDrop,
    EmFailure,
    FailurePoint,
    HeaderFlag,
    KernelDrop,
    MmFailure,
    NetEvent,
    NetEventTemplate,
    NetEventType,
    QmFailure,
)
from securesock.policy.fields import Field
from securesock.policy.filter_engine import FilterEngine
from securesock.policy.layers import Layer
from securesock.policy.model import ActionType, Callout, Filter, FilterFlag, Sublayer
from securesock.policy.values import Direction, MatchType
from securesock.testing.clock import FakeClock

CONNECT = Layer.ALE_AUTH_CONNECT_V4
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FLOW = {
    Field.IP_PROTOCOL: 6,
    Field.IP_LOCAL_ADDRESS: "192.0.2.1",
    Field.IP_REMOTE_ADDRESS: "192.0.2.2",
    Field.IP_LOCAL_PORT: 40000,
    Field.IP_REMOTE_PORT: 7000,
    Field.ALE_APP_ID: b"/bin/app",
    Field.ALE_USER_ID: Token(("uid:7",)),
}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOON)


@pytest.fixture
def engine(clock: FakeClock) -> Iterator[FilterEngine]:
    with FilterEngine.open(":memory:", clock=clock) as opened:
        yield opened


def event(detail: object, minutes: int = 0, **more: object) -> NetEvent:
    return NetEvent(detail, NOON + timedelta(minutes=minutes), **more)


def test_a_block_that_is_enforced_becomes_an_event_with_what_the_layer_knew(engine: FilterEngine) -> None:
    blocking = engine.filters.add(Filter("f", layer=CONNECT, action=ActionType.BLOCK))
    assert engine.classify(CONNECT, FLOW).is_blocked
    assert engine.net_events.enumerate() == []
    assert engine.authorize(CONNECT, FLOW).is_blocked
    [found] = engine.net_events.enumerate()
    assert found.detail == ClassifyDrop(blocking.id, CONNECT)
    assert (found.type, found.time, found.ip_version) == (NetEventType.CLASSIFY_DROP, NOON, 4)
    assert (found.protocol, found.local_port, found.remote_port) == (6, 40000, 7000)
    assert (found.local_address, found.remote_address) == ("192.0.2.1", "192.0.2.2")
    assert (found.app_id, found.user) == (b"/bin/app", "uid:7")
    every = HeaderFlag.IP_PROTOCOL | HeaderFlag.LOCAL_ADDR | HeaderFlag.REMOTE_ADDR | HeaderFlag.LOCAL_PORT
    every |= HeaderFlag.REMOTE_PORT | HeaderFlag.APP_ID | HeaderFlag.USER_ID | HeaderFlag.IP_VERSION
    assert found.flags == every


def test_an_event_of_a_flow_of_which_little_is_known(engine: FilterEngine) -> None:
    engine.filters.add(Filter("f", layer=Layer.ALE_AUTH_CONNECT_V6, action=ActionType.BLOCK))
    engine.authorize(Layer.ALE_AUTH_CONNECT_V6, {})
    engine.authorize(Layer.ALE_AUTH_CONNECT_V6, {Field.IP_REMOTE_ADDRESS: "2001:db8::1"})
    bare, known = engine.net_events.enumerate()
    assert (bare.flags, bare.ip_version) == (HeaderFlag(0), 0)
    assert (known.remote_address, known.ip_version) == ("2001:db8::1", 6)


def test_a_permit_and_a_silent_block_are_no_events(engine: FilterEngine) -> None:
    engine.filters.add(Filter("p", layer=CONNECT))
    silent = FilterFlag.SILENT_MODE
    engine.filters.add(Filter("b", layer=Layer.STREAM_V4, action=ActionType.BLOCK, flags=silent))
    assert engine.authorize(CONNECT, FLOW).action is ActionType.PERMIT
    assert engine.authorize(Layer.STREAM_V4, {}).is_blocked
    assert engine.authorize(Layer.STREAM_V6, {}).action is ActionType.NONE_NO_MATCH
    assert engine.net_events.enumerate() == []


def test_a_veto_is_told_with_the_permit_that_it_overrode(engine: FilterEngine) -> None:
    callout = engine.callouts.add(Callout("veto", layer=CONNECT))
    engine.register_callout(callout.key, lambda call: CalloutAnswer(ActionType.BLOCK))
    high = engine.sublayers.add(Sublayer("high", weight=0xF800))
    permit = engine.filters.add(Filter("hard", layer=CONNECT, sublayer=high.key, flags=FilterFlag.CLEAR_ACTION_RIGHT))
    veto = engine.filters.add(
        Filter("veto", layer=CONNECT, action=ActionType.CALLOUT_TERMINATING, action_key=callout.key)
    )
    heard = engine.net_events.subscribe()
    engine.authorize(CONNECT, FLOW)
    told = heard.poll()
    assert told is not None
    assert told.detail == ClassifyDrop(veto.id, CONNECT, is_veto=True, vetoed_filter_id=permit.id)


@pytest.mark.parametrize(
    ("detail", "kind"),
    [
        (MmFailure(13801, FailurePoint.PEER), NetEventType.IKEEXT_MM_FAILURE),
        (QmFailure(13868), NetEventType.IKEEXT_QM_FAILURE),
        (EmFailure(13801), NetEventType.IKEEXT_EM_FAILURE),
        (ClassifyDrop(1, CONNECT), NetEventType.CLASSIFY_DROP),
        (ClassifyAllow(1, CONNECT), NetEventType.CLASSIFY_ALLOW),
        (KernelDrop(13910, Direction.INBOUND, 0x1000), NetEventType.IPSEC_KERNEL_DROP),
        (DospDrop(13918, Direction.INBOUND, "2001:db8::1", "2001:db8::2"), NetEventType.IPSEC_DOSP_DROP),
    ],
)
def test_types_of_events_have_windows_numbers(engine: FilterEngine, detail: object, kind: NetEventType) -> None:
    engine.net_events.report(event(detail))
    wanted = NetEventTemplate(conditions=(match(Field.NET_EVENT_TYPE, int(kind)),))
    assert [each.detail for each in engine.net_events.enumerate(wanted)] == [detail]
    others = NetEventTemplate(conditions=(match(Field.NET_EVENT_TYPE, int(kind), MatchType.NOT_EQUAL),))
    assert engine.net_events.enumerate(others) == []


@pytest.mark.parametrize(
    ("template", "found"),
    [
        (NetEventTemplate(), [0, 1, 2, 3]),
        (NetEventTemplate(start=NOON + timedelta(minutes=1)), [1, 2, 3]),
        (NetEventTemplate(end=NOON + timedelta(minutes=1)), [0, 1]),
        (NetEventTemplate(NOON, NOON), [0]),
        (NetEventTemplate(conditions=(match(Field.IP_REMOTE_ADDRESS, "192.0.2.0/24"),)), [0]),
        (NetEventTemplate(conditions=(match(Field.IP_REMOTE_ADDRESS, "2001:db8::/32"),)), [1]),
        (
            NetEventTemplate(
                conditions=(match(Field.IP_REMOTE_ADDRESS, ("2001:db8::", "2001:db8::9"), MatchType.RANGE),)
            ),
            [1],
        ),
        (NetEventTemplate(conditions=(match(Field.IP_REMOTE_PORT, 443),)), [0, 1]),
        (NetEventTemplate(conditions=(match(Field.IP_LOCAL_PORT, 1, MatchType.GREATER),)), [2]),
        (NetEventTemplate(conditions=(match(Field.IP_PROTOCOL, 6),)), [2]),
        (NetEventTemplate(conditions=(match(Field.ALE_USER_ID, "uid:7"),)), [3]),
        (NetEventTemplate(conditions=(match(Field.ALE_APP_ID, b"app", MatchType.PREFIX),)), [3]),
        (NetEventTemplate(conditions=(match(Field.ALE_USER_ID, EVERYONE), match(Field.IP_REMOTE_PORT, 443))), []),
    ],
)
def test_templates_of_events(engine: FilterEngine, template: NetEventTemplate, found: list[int]) -> None:
    kept = [
        event(MmFailure(13801), 0, remote_address="192.0.2.9", remote_port=443),
        event(QmFailure(13801), 1, remote_address="2001:db8::7", remote_port=443),
        event(ClassifyDrop(1, CONNECT), 2, local_port=50000, protocol=6),
        event(ClassifyDrop(1, CONNECT), 3, user="uid:7", app_id=b"/bin/app"),
    ]
    heard = engine.net_events.subscribe(template=template)
    for each in kept:
        engine.net_events.report(each)
    assert engine.net_events.enumerate(template) == [kept[number] for number in found]
    assert [heard.poll() for _ in found] == [kept[number] for number in found]
    assert heard.poll() is None
    heard.cancel()
    engine.net_events.report(kept[0])
    assert heard.poll() is None


def test_templates_that_cannot_be(engine: FilterEngine) -> None:
    backwards = NetEventTemplate(NOON, NOON - timedelta(seconds=1))
    unknown = NetEventTemplate(conditions=(match(Field.KM_TYPE, 1),))
    for template, code in ((backwards, PolicyCode.INVALID_INTERVAL), (unknown, PolicyCode.CONDITION_NOT_FOUND)):
        for call in (engine.net_events.enumerate, lambda given: engine.net_events.subscribe(template=given)):
            with pytest.raises(PolicyError) as refused:
                call(template)
            assert refused.value.code is code


def test_nothing_is_recorded_while_events_are_not_collected(engine: FilterEngine) -> None:
    assert engine.net_events.is_collecting
    engine.net_events.is_collecting = False
    engine.net_events.report(event(MmFailure(1)))
    for call in (engine.net_events.enumerate, engine.net_events.subscribe):
        with pytest.raises(PolicyError) as refused:
            call()
        assert refused.value.code is PolicyCode.NET_EVENTS_DISABLED
    engine.net_events.is_collecting = True
    assert engine.net_events.enumerate() == []


def test_the_oldest_events_make_room(engine: FilterEngine) -> None:
    for number in range(5000):
        engine.net_events.report(event(MmFailure(number)))
    kept = engine.net_events.enumerate()
    assert len(kept) == 4096
    assert kept[-1].detail == MmFailure(4999)


def test_a_condition_is_as_typed_as_a_filters() -> None:
    condition = match(Field.IP_REMOTE_PORT, 443)
    assert isinstance(condition, Condition)
    assert NetEventTemplate(conditions=(condition,)).matcher()(event(MmFailure(1), remote_port=443))
