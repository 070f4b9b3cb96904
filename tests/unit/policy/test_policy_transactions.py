"""Transactions: all or nothing, one writer, readers that see one state, waiting and being thrown out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from securesock.policy.access import SecurityDescriptor
from securesock.policy.errors import PolicyCode, PolicyError
from securesock.policy.filter_engine import FilterEngine
from securesock.policy.index import LayerIndex
from securesock.policy.layers import Layer
from securesock.policy.model import ActionType, Filter, Provider, Sublayer
from securesock.policy.store import Store
from securesock.testing.clock import FakeClock

CONNECT = Layer.ALE_AUTH_CONNECT_V4
E = PolicyCode
KEY = UUID(int=99)


def a_filter(name: str = "f", **more: object) -> Filter:
    return Filter(name, **{"layer": CONNECT, "action": ActionType.BLOCK, **more})


def refusal(call: Callable[..., object], *args: object, **more: object) -> PolicyCode:
    with pytest.raises(PolicyError) as refused:
        call(*args, **more)
    return refused.value.code


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["memory", "file"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[FilterEngine]:
    path = ":memory:" if request.param == "memory" else tmp_path / "policy.db"
    with FilterEngine.open(path, transaction_wait_s=0.0, clock=clock) as opened:
        yield opened


def test_a_transaction_is_seen_by_its_session_only_until_it_is_committed(engine: FilterEngine) -> None:
    other = engine.open_session()
    with engine.transaction():
        added = engine.filters.add(a_filter(flags=1))
        assert engine.filters.enumerate() == [added]
        assert engine.filters.find(added.id) == added
        assert other.filters.enumerate() == []
        assert refusal(other.filters.find, added.id) is E.FILTER_NOT_FOUND
        assert engine.classify(CONNECT, {}).action is ActionType.NONE_NO_MATCH
    assert other.filters.enumerate() == [added]
    assert engine.classify(CONNECT, {}).is_blocked


def test_an_exception_leaves_nothing_of_the_transaction(engine: FilterEngine) -> None:
    kept = engine.filters.add(a_filter("kept", flags=1))
    with pytest.raises(ZeroDivisionError), engine.transaction():
        engine.filters.delete(kept)
        engine.filters.add(a_filter())
        engine.sublayers.add(Sublayer("s"))
        assert engine.filters.enumerate() != [kept]
        raise ZeroDivisionError
    assert engine.filters.enumerate() == [kept]
    assert "s" not in [each.name for each in engine.sublayers.enumerate()]
    with engine.transaction():
        pass


def test_a_refused_call_does_not_poison_the_transaction(engine: FilterEngine) -> None:
    """ "If an operation fails during the course of a transaction, it does not affect [its] overall state.\""""
    with engine.transaction():
        first = engine.filters.add(a_filter("first"))
        assert refusal(engine.filters.add, a_filter("")) is E.NULL_DISPLAY_NAME
        second = engine.filters.add(a_filter("second"))
    assert engine.filters.enumerate() == [first, second]


def test_what_is_added_and_deleted_within_one_transaction_never_was(engine: FilterEngine) -> None:
    with engine.transaction():
        provider = engine.providers.add(Provider("p", key=KEY, flags=1))
        engine.filters.delete(engine.filters.add(a_filter(provider=KEY, flags=1)))
        engine.providers.delete(provider)
        again = engine.providers.add(Provider("again", key=KEY, flags=1))
    assert engine.providers.find(KEY) == again
    assert engine.filters.enumerate() == []


def test_an_object_may_be_replaced_within_one_transaction(engine: FilterEngine) -> None:
    old = engine.filters.add(a_filter("old", key=KEY, flags=1))
    with engine.transaction():
        engine.filters.delete(old)
        assert refusal(engine.filters.find, KEY) is E.FILTER_NOT_FOUND
        assert refusal(engine.filters.find, old.id) is E.FILTER_NOT_FOUND
        new = engine.filters.add(a_filter("new", key=KEY, flags=1, action=ActionType.PERMIT))
        assert refusal(engine.filters.add, new) is E.ALREADY_EXISTS
    assert engine.filters.find(KEY).name == "new"
    assert engine.classify(CONNECT, {}).action is ActionType.PERMIT


def test_use_is_counted_within_the_transaction(engine: FilterEngine) -> None:
    lane = engine.sublayers.add(Sublayer("s"))
    user = engine.filters.add(a_filter(sublayer=lane.key))
    with engine.transaction():
        engine.filters.delete(user)
        engine.filters.delete(engine.filters.add(a_filter(sublayer=lane.key)))
        engine.sublayers.delete(lane)
        assert refusal(engine.filters.add, a_filter(sublayer=lane.key)) is E.SUBLAYER_NOT_FOUND
    assert engine.filters.enumerate() == []


def test_order_of_calls(engine: FilterEngine) -> None:
    session = engine.open_session()
    assert refusal(session.commit) is E.NO_TXN_IN_PROGRESS
    assert refusal(session.abort) is E.NO_TXN_IN_PROGRESS
    session.begin()
    assert refusal(session.begin) is E.TXN_IN_PROGRESS
    assert refusal(session.begin, read_only=True) is E.TXN_IN_PROGRESS
    assert refusal(session.filters.subscribe) is E.TXN_IN_PROGRESS
    assert refusal(session.net_events.subscribe) is E.TXN_IN_PROGRESS
    assert refusal(session.filters.set_security, None, SecurityDescriptor()) is E.TXN_IN_PROGRESS
    assert refusal(session.set_security, SecurityDescriptor()) is E.TXN_IN_PROGRESS
    session.filters.add(a_filter())
    session.abort()
    assert session.filters.enumerate() == []
    session.begin()
    session.filters.add(a_filter())
    session.commit()
    assert len(session.filters.enumerate()) == 1
    assert refusal(session.commit) is E.NO_TXN_IN_PROGRESS


def test_nothing_is_written_in_a_read_only_transaction(engine: FilterEngine) -> None:
    kept = engine.filters.add(a_filter())
    with engine.transaction(read_only=True):
        assert engine.filters.enumerate() == [kept]
        assert refusal(engine.filters.add, a_filter()) is E.INCOMPATIBLE_TXN
        assert refusal(engine.filters.delete, kept) is E.INCOMPATIBLE_TXN
    assert engine.filters.enumerate() == [kept]


def test_readers_go_side_by_side_and_keep_writers_out(engine: FilterEngine) -> None:
    one, two, writer = (engine.open_session(transaction_wait_s=0.0) for _ in range(3))
    one.begin(read_only=True)
    two.begin(read_only=True)
    assert refusal(writer.begin) is E.TIMEOUT
    assert refusal(writer.filters.add, a_filter()) is E.TIMEOUT
    one.commit()
    assert refusal(writer.begin) is E.TIMEOUT
    two.abort()
    writer.begin()
    assert refusal(one.begin, read_only=True) is E.TIMEOUT
    assert refusal(two.begin) is E.TIMEOUT
    assert one.filters.enumerate() == []
    writer.commit()


def test_a_writer_waits_for_its_turn(engine: FilterEngine) -> None:
    holder, waiter = engine.open_session(), engine.open_session(transaction_wait_s=None)
    holder.begin()
    began = threading.Event()

    def wait() -> None:
        waiter.begin()
        began.set()
        waiter.commit()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not began.wait(0.05)
    holder.filters.add(a_filter())
    holder.commit()
    assert began.wait(10)
    thread.join(10)
    assert not thread.is_alive()


def test_the_default_wait_is_15_seconds_and_ends_in_a_timeout(engine: FilterEngine, clock: FakeClock) -> None:
    holder, waiter = engine.open_session(), engine.open_session()
    assert waiter.wait_s == 15.0
    holder.begin()
    refused: list[PolicyError] = []

    def wait() -> None:
        try:
            waiter.begin()
        except PolicyError as error:
            refused.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    clock.advance(14.9)
    _wake(engine)
    thread.join(0.05)
    assert thread.is_alive()
    clock.advance(0.2)
    _wake(engine)
    thread.join(10)
    assert [error.code for error in refused] == [E.TIMEOUT]
    assert isinstance(refused[0], TimeoutError)
    holder.abort()


def _wake(engine: FilterEngine) -> None:
    """Let whoever waits for the gate look at the clock: a reader that comes and is refused does that."""
    with engine._core.gate._free:
        engine._core.gate._free.notify_all()


def test_a_transaction_that_is_open_for_an_hour_is_aborted_by_whoever_waits(
    engine: FilterEngine, clock: FakeClock
) -> None:
    holder, other = engine.open_session(), engine.open_session(transaction_wait_s=0.0)
    holder.begin()
    holder.filters.add(a_filter(flags=1))
    clock.advance(3599.0)
    assert refusal(other.filters.add, a_filter()) is E.TIMEOUT
    clock.advance(1.0)
    added = other.filters.add(a_filter("other"))
    assert refusal(holder.filters.add, a_filter()) is E.TXN_ABORTED
    assert engine.filters.enumerate() == [added]
    assert refusal(holder.commit) is E.NO_TXN_IN_PROGRESS
    holder.begin()
    holder.abort()


@pytest.mark.parametrize("call", ["commit", "abort", "begin", "enumerate"])
def test_the_next_call_in_an_expired_transaction_learns_of_it(
    engine: FilterEngine, clock: FakeClock, call: str
) -> None:
    session = engine.open_session()
    session.begin(read_only=call == "enumerate")
    clock.advance(3600.0)
    calls = {"commit": session.commit, "abort": session.abort, "begin": session.begin}
    assert refusal(calls.get(call, session.filters.enumerate)) is E.TXN_ABORTED
    session.begin()
    session.commit()


def test_a_call_that_is_just_being_made_is_not_aborted(engine: FilterEngine, clock: FakeClock) -> None:
    holder, other = engine.open_session(), engine.open_session(transaction_wait_s=None)
    holder.begin()
    transaction = holder._transaction
    assert transaction is not None
    done = threading.Event()

    def wait() -> None:
        other.begin()
        done.set()
        other.abort()

    with engine._core.gate.using(transaction):
        clock.advance(4000.0)
        thread = threading.Thread(target=wait)
        thread.start()
        assert not done.wait(0.15)
        assert not transaction.is_aborted
    assert done.wait(10)
    thread.join(10)
    assert refusal(holder.commit) is E.TXN_ABORTED


def test_closing_a_session_aborts_its_transaction(engine: FilterEngine) -> None:
    session = engine.open_session()
    session.begin()
    session.filters.add(a_filter(flags=1))
    session.close()
    assert engine.filters.enumerate() == []
    engine.filters.add(a_filter(flags=1))


def test_a_classification_sees_all_of_a_commit_or_nothing(engine: FilterEngine) -> None:
    """Two sublayers, always both blocking softly or none: a mixture would be a permit."""
    lanes = [engine.sublayers.add(Sublayer(f"s{n}", weight=n)).key for n in range(1, 4)]
    seen: set[int] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.add(sum(len(each.considered) for each in engine.explain(CONNECT, {}).sublayers))

    thread = threading.Thread(target=look)
    thread.start()
    session = engine.open_session(transaction_wait_s=None)
    for _ in range(60):
        with session.transaction():
            added = [session.filters.add(a_filter(sublayer=lane)) for lane in lanes]
        with session.transaction():
            for each in added:
                session.filters.delete(each)
    stop.set()
    thread.join(10)
    assert seen <= {0, 3}


def test_an_interrupted_commit_is_finished_in_memory(engine: FilterEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C in the middle of taking a commit over: what the file says is what the memory says."""
    old = engine.filters.add(a_filter("old", flags=1))
    calls = 0
    whole = LayerIndex.add

    def interrupted(self: LayerIndex, rule: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        whole(self, rule)

    monkeypatch.setattr(LayerIndex, "add", interrupted)
    with pytest.raises(KeyboardInterrupt), engine.transaction():
        engine.filters.delete(old)
        added = [engine.filters.add(a_filter(f"new{n}", flags=1)) for n in range(3)]
    assert engine.filters.enumerate() == added
    assert engine.explain(CONNECT, {}).verdict == engine.classify(CONNECT, {})
    assert engine.classify(CONNECT, {}).filter == added[0]
    engine.filters.delete(added[0])
    assert engine.classify(CONNECT, {}).filter == added[1]


def test_a_commit_that_the_file_refuses_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "policy.db"
    with FilterEngine.open(path) as engine:
        kept = engine.filters.add(a_filter("kept", flags=1))

        def full(self: Store) -> None:
            self.rollback()
            raise PolicyError(E.ERROR_GEN_FAILURE, "the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(Store, "commit", full)
            with pytest.raises(PolicyError), engine.transaction():
                engine.filters.add(a_filter(flags=1))
                engine.filters.delete(kept)
        assert engine.filters.enumerate() == [kept]
        engine.filters.add(a_filter(flags=1))
    with FilterEngine.open(path) as engine:
        assert len(engine.filters.enumerate()) == 2
