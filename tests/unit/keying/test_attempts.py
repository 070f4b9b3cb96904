"""The nonce rule of RFC 7296 2.8.1 and 2.8.2, apart from what is replaced."""

from __future__ import annotations

import itertools

import pytest

from securesock.keying.ikev2.attempts import Attempt, Outcome, begin_for_peer, decide, has_peers_complete

LOW, HIGH = b"\x01" * 32, b"\x02" * 32


def ours(nonce: bytes, replacement: str | None = "ours") -> Attempt[str]:
    return Attempt(True, nonce, replacement)


def peers(nonce: bytes, replacement: str | None = "peer's") -> Attempt[str]:
    return Attempt(False, nonce, replacement)


def test_alone_an_attempt_decides_as_soon_as_it_is_complete() -> None:
    assert decide([ours(LOW, None)]) is None
    assert decide([ours(LOW)]) == Outcome("ours", True, (), ())
    assert decide([peers(LOW)]) == Outcome("peer's", False, (), ())


def test_nothing_to_decide_decides_nothing() -> None:
    empty: list[Attempt[str]] = []
    assert decide(empty) is None


@pytest.mark.parametrize("order", list(itertools.permutations((0, 1))))
def test_the_exchange_with_the_lowest_nonce_loses_and_its_beginner_deletes(order: tuple[int, ...]) -> None:
    we_lose = [ours(LOW), peers(HIGH)]
    assert decide([we_lose[each] for each in order]) == Outcome("peer's", False, ("ours",), ("ours",))
    we_win = [ours(HIGH), peers(LOW)]
    assert decide([we_win[each] for each in order]) == Outcome("ours", True, ("peer's",), ())


def test_both_ends_come_to_the_same_decision() -> None:
    """What is ours here is the peer's there."""
    for first, second in itertools.permutations((bytes((n,)) * 16 for n in range(5)), 2):
        here = decide([Attempt(True, first, "a"), Attempt(False, second, "b")])
        there = decide([Attempt(False, first, "a"), Attempt(True, second, "b")])
        assert here is not None
        assert there is not None
        assert here.kept == there.kept
        assert here.we_began != there.we_began
        # exactly one of the two deletes what goes
        assert len(here.ours_to_delete) + len(there.ours_to_delete) == 1


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        (b"\x00" * 16, b"\x00" * 15 + b"\x01"),
        (b"\x7f" * 16, b"\x80" + b"\x00" * 15),  # octets are unsigned
        (b"\x05" * 16, b"\x05" * 17),  # RFC 7296 2.8.1: octet by octet, and the shorter one is the lower
        (b"\x05" * 17, b"\x06" * 16),  # a difference comes before the length
    ],
)
def test_nonces_are_compared_octet_by_octet(lower: bytes, higher: bytes) -> None:
    outcome = decide([ours(lower), peers(higher)])
    assert outcome is not None
    assert outcome.kept == "peer's"


def test_nothing_is_decided_before_every_exchange_is_complete() -> None:
    attempts = [ours(HIGH), peers(LOW, None)]
    assert decide(attempts) is None
    assert len(attempts) == 2
    attempts[1].replacement = "peer's"
    assert decide(attempts) == Outcome("ours", True, ("peer's",), ())


def test_what_was_decided_is_forgotten() -> None:
    attempts = [ours(HIGH), peers(LOW)]
    assert decide(attempts) is not None
    assert attempts == []
    assert decide(attempts) is None


def test_a_peer_that_begins_again_gives_up_what_it_had_not_finished() -> None:
    mine, unfinished = ours(LOW, None), peers(LOW, None)
    attempts = [mine, unfinished]
    again = begin_for_peer(attempts, HIGH)
    assert attempts == [mine, again]
    assert (again.ours, again.lowest_nonce, again.replacement) == (False, HIGH, None)


def test_what_the_peer_finished_is_known_and_kept() -> None:
    attempts = [ours(LOW, None)]
    assert not has_peers_complete(attempts)
    unfinished = begin_for_peer(attempts, HIGH)
    assert not has_peers_complete(attempts)
    unfinished.replacement = "peer's"
    assert has_peers_complete(attempts)
    begin_for_peer(attempts, HIGH)
    assert unfinished in attempts
    assert not has_peers_complete([ours(LOW)])
