"""The table that bounds what strangers may occupy."""

from __future__ import annotations

import pytest

from securesock.engine.half_open import HalfOpenTable, source_of


def _silent(table: HalfOpenTable, source: str, name: str, evicted: list[str]) -> object:
    return table.admit(source, lambda: evicted.append(name))


def test_when_the_table_is_full_the_oldest_silent_one_goes_first() -> None:
    evicted: list[str] = []
    table = HalfOpenTable(max_total=3, max_per_source=3)
    for name in "abc":
        assert _silent(table, name, name, evicted)
    assert _silent(table, "d", "d", evicted)
    assert evicted == ["a"]
    assert _silent(table, "e", "e", evicted)
    assert evicted == ["a", "b"]
    assert len(table) == 3


def test_one_that_spoke_ike_is_never_pushed_out() -> None:
    evicted: list[str] = []
    table = HalfOpenTable(max_total=2, max_per_source=2)
    first = table.admit("a", lambda: evicted.append("a"))
    assert first
    first.speaks_ike()
    assert _silent(table, "b", "b", evicted)
    assert _silent(table, "c", "c", evicted)
    assert evicted == ["b"]


def test_when_all_spoke_ike_the_newcomer_is_refused() -> None:
    evicted: list[str] = []
    table = HalfOpenTable(max_total=2, max_per_source=2)
    for name in "ab":
        entry = table.admit(name, lambda: evicted.append("never"))
        assert entry
        entry.speaks_ike()
    assert table.admit("c", lambda: None) is None
    assert evicted == []
    assert len(table) == 2


def test_a_source_over_its_share_pushes_out_its_own_and_nobody_elses() -> None:
    evicted: list[str] = []
    table = HalfOpenTable(max_total=10, max_per_source=2)
    assert _silent(table, "honest", "honest", evicted)
    for name in ("flood1", "flood2", "flood3", "flood4"):
        assert _silent(table, "flood", name, evicted)
    assert evicted == ["flood1", "flood2"]
    assert len(table) == 3


def test_a_source_whose_share_speaks_ike_is_refused_and_others_are_not() -> None:
    table = HalfOpenTable(max_total=10, max_per_source=1)
    entry = table.admit("busy", lambda: None)
    assert entry
    entry.speaks_ike()
    assert table.admit("busy", lambda: None) is None
    assert table.admit("other", lambda: None)


def test_leaving_frees_the_place_once() -> None:
    table = HalfOpenTable(max_total=1, max_per_source=1)
    entry = table.admit("a", lambda: None)
    assert entry
    entry.speaks_ike()
    entry.leave()
    entry.leave()
    assert len(table) == 0
    assert table.admit("a", lambda: None)
    entry.leave()
    assert len(table) == 1


def test_an_evicted_one_that_speaks_or_leaves_later_changes_nothing() -> None:
    table = HalfOpenTable(max_total=1, max_per_source=1)
    first = table.admit("a", lambda: None)
    second = table.admit("b", lambda: None)
    assert first
    assert second
    first.speaks_ike()
    first.leave()
    assert len(table) == 1


def test_evict_runs_outside_the_lock_so_that_it_may_use_the_table() -> None:
    table = HalfOpenTable(max_total=1, max_per_source=1)
    seen: list[int] = []
    assert table.admit("a", lambda: seen.append(len(table)))
    assert table.admit("b", lambda: None)
    assert seen == [1]


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_source_is_an_ipv4_address_or_an_ipv6_network_of_64(host: str, source: str) -> None:
    assert source_of(host) == source
