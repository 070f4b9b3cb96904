"""Subscriptions and watches: who hears of what, when, and what a full queue says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from uuid import UUID

import pytest

from securesock.policy.changes import Change, ChangeType, Subscription
from securesock.policy.conditions import match
from securesock.policy.enumeration import FilterTemplate
from securesock.policy.errors import PolicyCode, PolicyError
from securesock.policy.fields import Field
from securesock.policy.filter_engine import FilterEngine
from securesock.policy.layers import Layer
from securesock.policy.model import ActionType, Filter, FilterFlag, ObjectKind, Provider, Sublayer
from securesock.policy.weights import exact_weight

CONNECT = Layer.ALE_AUTH_CONNECT_V4
PORT = Field.IP_REMOTE_PORT


@pytest.fixture
def engine() -> Iterator[FilterEngine]:
    with FilterEngine.open(":memory:") as opened:
        yield opened


def a_filter(name: str = "f", **more: object) -> Filter:
    return Filter(name, **{"layer": CONNECT, "action": ActionType.BLOCK, **more})


def drained(subscription: Subscription[Change]) -> list[tuple[ChangeType, str]]:
    found = []
    while (change := subscription.poll()) is not None:
        found.append((change.type, change.item.name))
    return found


def test_others_hear_of_what_was_committed_and_oneself_does_not(engine: FilterEngine) -> None:
    session = engine.open_session()
    theirs, ours = session.filters.subscribe(), engine.filters.subscribe()
    with engine.transaction():
        added = engine.filters.add(a_filter("one", key=UUID(int=5)))
        assert theirs.poll() is None
    change = theirs.poll()
    assert change == Change(ChangeType.ADD, ObjectKind.FILTER, UUID(int=5), added.id, added)
    engine.filters.delete(added)
    assert drained(theirs) == [(ChangeType.DELETE, "one")]
    assert drained(ours) == []
    session.filters.add(a_filter("two"))
    assert drained(ours) == [(ChangeType.ADD, "two")]


def test_what_was_aborted_or_never_was_is_not_told(engine: FilterEngine) -> None:
    heard = engine.open_session().filters.subscribe()
    with pytest.raises(ZeroDivisionError), engine.transaction():
        engine.filters.add(a_filter())
        raise ZeroDivisionError
    with engine.transaction():
        engine.filters.delete(engine.filters.add(a_filter()))
    assert drained(heard) == []


def test_a_subscription_is_for_its_container_its_template_and_its_types(engine: FilterEngine) -> None:
    session = engine.open_session()
    sublayers = session.sublayers.subscribe()
    blocks = session.filters.subscribe(template=FilterTemplate(layer=CONNECT, conditions=(match(PORT, 443),)))
    added, deleted = session.filters.subscribe(delete=False), session.filters.subscribe(add=False)
    engine.sublayers.add(Sublayer("s"))
    one = engine.filters.add(a_filter("one", conditions=(match(PORT, 80),)))
    engine.filters.add(a_filter("two", conditions=(match(PORT, 443),)))
    engine.filters.delete(one)
    assert drained(sublayers) == [(ChangeType.ADD, "s")]
    assert drained(blocks) == [(ChangeType.ADD, "two")]
    assert drained(added) == [(ChangeType.ADD, "one"), (ChangeType.ADD, "two")]
    assert drained(deleted) == [(ChangeType.DELETE, "one")]
    with pytest.raises(PolicyError) as refused:
        session.filters.subscribe(add=False, delete=False)
    assert refused.value.code is PolicyCode.NEVER_MATCH


def test_the_end_of_a_dynamic_session_is_heard(engine: FilterEngine) -> None:
    session = engine.open_session(dynamic=True)
    session.providers.add(Provider("p"))
    heard = engine.providers.subscribe()
    session.close()
    assert drained(heard) == [(ChangeType.DELETE, "p")]


def test_a_cancelled_subscription_hears_nothing_more(engine: FilterEngine) -> None:
    heard = engine.open_session().filters.subscribe()
    engine.filters.add(a_filter("before"))
    heard.cancel()
    heard.cancel()
    engine.filters.add(a_filter("after"))
    assert not heard.is_open
    assert [change.item.name for change in heard] == ["before"]
    assert not heard.wait(10)


def test_closing_a_session_ends_its_subscriptions(engine: FilterEngine) -> None:
    session = engine.open_session()
    heard = session.filters.subscribe()
    session.close()
    assert list(heard) == []


def test_a_full_queue_says_so_once(engine: FilterEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securesock.policy.changes.QUEUE_LIMIT", 2)
    heard = engine.open_session().filters.subscribe()
    with engine.transaction():
        for name in ("one", "two", "three"):
            engine.filters.add(a_filter(name))
    assert heard.wait(0)
    assert [heard.poll().item.name, heard.poll().item.name] == ["one", "two"]
    assert heard.wait(0)
    with pytest.raises(PolicyError) as refused:
        heard.poll()
    assert refused.value.code is PolicyCode.NOTIFICATION_DROPPED
    assert heard.poll() is None
    assert not heard.wait(0)


def test_a_callback_is_called_in_a_thread_of_its_own(engine: FilterEngine) -> None:
    heard: list[str] = []
    enough = threading.Event()

    def note(change: Change) -> None:
        heard.append(f"{change.item.name} in {threading.current_thread().name}")
        if len(heard) == 2:
            enough.set()

    subscription = engine.open_session().filters.subscribe(note)
    engine.filters.add(a_filter("one"))
    engine.filters.add(a_filter("two"))
    assert enough.wait(10)
    subscription.cancel()
    assert heard == [f"{name} in securesock-policy-subscription" for name in ("one", "two")]


def test_a_callback_that_raises_ends_its_subscription_and_nothing_else(
    engine: FilterEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.set())

    def fail(change: Change) -> None:
        raise ZeroDivisionError

    subscription = engine.open_session().filters.subscribe(fail)
    engine.filters.add(a_filter("one"))
    assert reported.wait(10)
    assert not subscription.is_open
    engine.filters.add(a_filter("two"))


# -- "the policy of this socket changed" ----------------------------------------------------------------------------

FLOW = {PORT: 443, Field.IP_REMOTE_ADDRESS: "192.0.2.1"}


def test_a_watch_tells_of_another_verdict_and_only_of_that(engine: FilterEngine) -> None:
    session = engine.open_session()
    watch = session.watch(CONNECT, FLOW)
    assert watch.verdict.action is ActionType.NONE_NO_MATCH
    assert watch.poll() is None
    engine.filters.add(a_filter(layer=Layer.ALE_AUTH_CONNECT_V6))
    engine.filters.add(a_filter(conditions=(match(PORT, 80),)))
    assert watch.poll() is None
    blocking = engine.filters.add(a_filter())
    changed = watch.poll()
    assert changed is not None
    assert changed.is_blocked
    assert watch.poll() is None
    assert watch.verdict is changed
    engine.filters.add(a_filter(weight=exact_weight(0)))
    assert watch.poll() is None
    engine.filters.add(a_filter(action=ActionType.PERMIT, weight=exact_weight(1), flags=FilterFlag.CLEAR_ACTION_RIGHT))
    now = watch.poll()
    assert now is not None
    assert (now.action, now.is_hard) == (ActionType.PERMIT, True)
    engine.filters.delete(blocking)
    assert watch.poll() is None


def test_a_watch_can_be_waited_for(engine: FilterEngine) -> None:
    session = engine.open_session()
    watch = session.watch(CONNECT, FLOW)
    assert watch.wait(0) is None
    thread = threading.Thread(target=lambda: engine.filters.add(a_filter()))
    thread.start()
    changed = watch.wait(10)
    thread.join(10)
    assert changed is not None
    assert changed.is_blocked


def test_a_watch_that_waits_is_not_woken_for_good_by_what_changes_nothing(engine: FilterEngine) -> None:
    watch = engine.watch(CONNECT, FLOW)
    engine.filters.add(a_filter(conditions=(match(PORT, 80),)))
    assert watch.wait(0.01) is None
