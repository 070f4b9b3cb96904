"""Filters that let certain peers in, against the rule in plain words: a flow that one of them is for, but for who its
peer is, is blocked unless one of them is for its peer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from securesock.policy import ActionType, Field, Filter, FilterEngine, Layer, Token, allow, match

LAYER = Layer.ALE_AUTH_RECV_ACCEPT_V4
PORTS = st.sampled_from([1, 2, 3])
NAMES = st.sampled_from(["host/a.example", "host/b.example", "host/a.b.example", "alice@example.org"])
TRUSTEES = st.sampled_from(
    [
        "host/a.example",
        "host/*.example",
        "host/*.*.example",
        "host-like/*a.example",
        "alice@example.org",
        "group:g",
        "*",
    ]
)
FIELDS = st.sampled_from([Field.ALE_REMOTE_MACHINE_ID, Field.ALE_REMOTE_USER_ID])
PEERS = st.dictionaries(FIELDS, st.builds(Token, st.tuples(NAMES), st.sampled_from([(), ("g",)])), max_size=2)
RULES = st.lists(st.tuples(st.none() | PORTS, st.none() | st.tuples(FIELDS, TRUSTEES)), max_size=6)


def _naive_block(rules: list[tuple[int | None, tuple[Field, str] | None]], port: int, peer: dict[Field, Token]) -> bool:
    covering = [who for wanted, who in rules if who is not None and wanted in (None, port)]
    met = [who for who in covering if who[0] in peer and allow(who[1]).admits(peer[who[0]])]
    return bool(covering) and not met


@given(rules=RULES, removed=st.sets(st.integers(0, 5)), port=PORTS, peer=PEERS)
def test_whoever_is_meant_by_none_of_the_permits_for_certain_peers_stays_out(
    rules: list[tuple[int | None, tuple[Field, str] | None]],
    removed: set[int],
    port: int,
    peer: dict[Field, Token],
) -> None:
    with FilterEngine.open() as engine:
        added = []
        for number, (wanted, who) in enumerate(rules):
            conditions = () if wanted is None else (match(Field.IP_LOCAL_PORT, wanted),)
            conditions += () if who is None else (match(who[0], allow(who[1])),)
            added.append(engine.filters.add(Filter(f"{number}", layer=LAYER, conditions=conditions)))
        for number in removed & set(range(len(added))):
            engine.filters.delete(added[number])
        left = [rule for number, rule in enumerate(rules) if number not in removed]
        fields = {Field.IP_LOCAL_PORT: port, **peer}
        verdict = engine.authorize_peer(LAYER, fields)
        assert verdict.is_blocked == _naive_block(left, port, peer)
        if verdict.is_blocked:
            assert verdict.filter is not None
            assert verdict.filter.action is ActionType.PERMIT
            assert engine.net_events.enumerate()[-1].detail.filter_id == verdict.filter.id
        assert engine.names_peers(LAYER, {Field.IP_LOCAL_PORT: port}) == any(
            who is not None and wanted in (None, port) for wanted, who in left
        )
