"""Handles of peers' tokens: each closed once, none used twice, none for nobody, and a count of what is left open."""

from __future__ import annotations

from securesock.identity.tokens import PeerToken, TokenTable
from securesock.policy.access import allow
from securesock.types import Principal

APP = Principal("host/app.example")
ALICE = Principal("alice@example.org", "user", "eap")


def test_a_handle_lives_until_it_is_closed() -> None:
    table = TokenTable()
    first, second = table.open(APP, 8), table.open(ALICE, 4)
    assert table.find(first) == PeerToken(APP, 8)
    assert table.find(second) == PeerToken(ALICE, 4)
    assert table.counts() == {"machine": 1, "user": 1}
    assert table.close(first)
    assert table.find(first) is None
    assert not table.close(first)
    assert table.counts() == {"user": 1}


def test_a_number_is_never_used_again() -> None:
    table = TokenTable()
    handles = []
    for _ in range(5):
        handles.append(table.open(APP, 8))
        table.close(handles[-1])
    assert len(set(handles)) == 5
    assert all(handle > 0 and handle % 4 == 0 for handle in handles)


def test_nobody_has_no_token() -> None:
    table = TokenTable()
    assert table.open(None, 8) == 0
    assert table.open(Principal("anonymous", "machine", "anonymous"), 8) == 0
    assert not table.counts()
    assert not table.close(0)


def test_everything_ends_at_once() -> None:
    table = TokenTable()
    handle = table.open(APP, 8)
    table.close_all()
    assert table.find(handle) is None
    assert not table.counts()


def test_a_security_descriptor_judges_it() -> None:
    token = PeerToken(APP, 8).access_token
    assert allow("host/*.example").admits(token)
    assert not allow("host/*.example.org", "alice@example.org").admits(token)
