"""An engine under random histories: what it answers is what a plain list of committed filters would answer."""

from __future__ import annotations

import random
from pathlib import Path
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from securesock.policy.conditions import Condition, match
from securesock.policy.enumeration import EnumFlag, FilterTemplate
from securesock.policy.errors import PolicyError
from securesock.policy.fields import Field
from securesock.policy.filter_engine import FilterEngine
from securesock.policy.layers import Layer
from securesock.policy.model import ActionType, Filter, FilterFlag, Sublayer
from securesock.policy.session import Session
from securesock.policy.values import MatchType

LAYER = Layer.ALE_AUTH_CONNECT_V4
PORTS = (1, 2, 3, 443)
HOSTS = ("192.0.2.1", "192.0.2.2", "198.51.100.1")
FLOWS = [{Field.IP_REMOTE_PORT: port, Field.IP_REMOTE_ADDRESS: host} for port in PORTS for host in HOSTS]


def some_conditions(chance: random.Random) -> tuple[Condition, ...]:
    pool = [
        match(Field.IP_REMOTE_PORT, chance.choice(PORTS)),
        match(Field.IP_REMOTE_PORT, (1, chance.choice(PORTS)), MatchType.RANGE),
        match(Field.IP_REMOTE_ADDRESS, chance.choice(HOSTS)),
        match(Field.IP_REMOTE_ADDRESS, f"192.0.2.0/{chance.choice((0, 8, 24, 31))}"),
    ]
    first, second = chance.choice(pool[:2]), chance.choice(pool[2:])
    return chance.choice(((), (first,), (second,), (first, second)))


def some_filter(chance: random.Random, lanes: list[UUID], flags: int) -> Filter:
    return Filter(
        f"f{chance.randrange(1000)}",
        layer=LAYER,
        sublayer=chance.choice(lanes),
        action=chance.choice((ActionType.PERMIT, ActionType.BLOCK)),
        conditions=some_conditions(chance),
        flags=flags | chance.choice((0, FilterFlag.CLEAR_ACTION_RIGHT)),
    )


def act(session: Session | FilterEngine, chance: random.Random, lanes: list[UUID], flags: int) -> None:
    """One addition or deletion; a session may not delete what it does not own, but may delete what others added."""
    present = session.filters.enumerate()
    if present and chance.random() < 0.45:
        session.filters.delete(chance.choice(present))
    else:
        session.filters.add(some_filter(chance, lanes, flags))


def check(engine: FilterEngine) -> None:
    """The index, the account and the sorted enumeration agree about every flow."""
    ordered = engine.filters.enumerate(FilterTemplate(layer=LAYER, flags=EnumFlag.SORTED))
    for flow in FLOWS:
        verdict = engine.classify(LAYER, flow)
        account = engine.explain(LAYER, flow)
        assert account.verdict == verdict
        listed = [each.filter.id for lane in account.sublayers for each in lane.considered]
        assert listed == [each.id for each in ordered if each.id in set(listed)]
        assert account.filters == len(ordered)
        assert (verdict.filter is None) == (not listed)


@settings(max_examples=150)
@given(st.integers(0, 1 << 32))
def test_histories_of_sessions_and_transactions(seed: int) -> None:
    chance = random.Random(seed)
    with FilterEngine.open(":memory:") as engine:
        lanes = [engine.sublayers.add(Sublayer(f"s{n}", weight=chance.randrange(3))).key for n in range(3)]
        expected = {each.id for each in engine.filters.enumerate()}
        for _ in range(12):
            session = engine.open_session(dynamic=chance.random() < 0.5)
            commits = chance.random() < 0.7
            session.begin()
            for _ in range(chance.randrange(8)):
                act(session, chance, lanes, 0)
            seen_inside = {each.id for each in session.filters.enumerate()}
            assert {each.id for each in engine.filters.enumerate()} == expected
            if commits:
                session.commit()
                expected = seen_inside
            else:
                session.abort()
            assert {each.id for each in engine.filters.enumerate()} == expected
            check(engine)
            if chance.random() < 0.5:
                session.close()
                expected = {each.id for each in engine.filters.enumerate()}
                check(engine)
        for session in engine.sessions[1:]:
            session.close()
        for each in engine.filters.enumerate():
            engine.filters.delete(each)
        for lane in lanes:
            engine.sublayers.delete(lane)
        check(engine)


def test_two_engines_on_one_file_end_with_the_same_policy(tmp_path: Path) -> None:
    for seed in range(4):
        chance = random.Random(seed)
        path = tmp_path / f"{seed}.db"
        with FilterEngine.open(path) as one, FilterEngine.open(path) as two:
            lanes = [one.sublayers.add(Sublayer(f"s{n}", flags=1, weight=n)).key for n in range(2)]
            two.refresh()
            for _ in range(25):
                engine, other = chance.choice(((one, two), (two, one)))
                # What somebody else has deleted meanwhile is refused; the next look is at what is there.
                try:
                    act(engine, chance, lanes, 1)
                except PolicyError:
                    engine.refresh()
                if chance.random() < 0.3:
                    other.refresh()
            one.refresh()
            two.refresh()
            assert sorted(one.filters.enumerate(), key=lambda each: each.id) == sorted(
                two.filters.enumerate(), key=lambda each: each.id
            )
            for flow in FLOWS:
                assert one.classify(LAYER, flow) == two.classify(LAYER, flow)
            check(one)
            check(two)
        with FilterEngine.open(path) as three:
            check(three)
