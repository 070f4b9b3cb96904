"""Putting fragments together again: RFC 7383 2.6."""

from __future__ import annotations

import itertools

import pytest

from securesock.keying.ikev2.fragments import MAX_FRAGMENTS, MAX_MESSAGE, REASSEMBLY_S, Reassembly, Whole

FIRST_PAYLOAD = 35
PIECES = (b"one", b"two", b"three")


def add(
    reassembly: Reassembly, number: int, total: int = 3, *, message_id: int = 1, piece: bytes = b"", now: float = 0.0
) -> Whole | None:
    content = piece or PIECES[(number - 1) % len(PIECES)]
    return reassembly.add(message_id, number, total, FIRST_PAYLOAD if number == 1 else 0, content, now)


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
def test_pieces_in_any_order_make_the_message(order: tuple[int, ...]) -> None:
    reassembly = Reassembly()
    *early, last = order
    assert [add(reassembly, number) for number in early] == [None, None]
    # RFC 7383 2.5: only the first fragment says what the first payload is
    assert add(reassembly, last) == Whole(FIRST_PAYLOAD, b"onetwothree")


def test_one_fragment_may_be_everything() -> None:
    assert add(Reassembly(), 1, 1) == Whole(FIRST_PAYLOAD, b"one")


def test_an_empty_piece_is_a_piece() -> None:
    """RFC 7383 2.5.3: in an extreme case the fragment contains no data."""
    reassembly = Reassembly()
    assert reassembly.add(1, 1, 2, FIRST_PAYLOAD, b"", 0.0) is None
    assert reassembly.add(1, 2, 2, 0, b"all", 0.0) == Whole(FIRST_PAYLOAD, b"all")


def test_a_repeated_piece_changes_nothing() -> None:
    reassembly = Reassembly()
    add(reassembly, 1)
    assert add(reassembly, 1, piece=b"other") is None
    assert add(reassembly, 2) is None
    assert add(reassembly, 2) is None
    assert add(reassembly, 3) == Whole(FIRST_PAYLOAD, b"onetwothree")


def test_a_larger_total_begins_anew() -> None:
    """The sender cut the message into smaller pieces; those of the larger cut never mix with them."""
    reassembly = Reassembly()
    add(reassembly, 1, 2, piece=b"LARGE")
    smaller = [add(reassembly, number) for number in (1, 2)]
    assert smaller == [None, None]
    assert add(reassembly, 2, 2, piece=b"LARGE") is None
    assert add(reassembly, 3) == Whole(FIRST_PAYLOAD, b"onetwothree")


def test_a_smaller_total_is_dropped() -> None:
    reassembly = Reassembly()
    add(reassembly, 1)
    add(reassembly, 2)
    assert add(reassembly, 1, 1, piece=b"everything") is None
    assert add(reassembly, 3) == Whole(FIRST_PAYLOAD, b"onetwothree")


@pytest.mark.parametrize(("number", "total"), [(0, 3), (4, 3), (1, 0), (0, 0), (1, MAX_FRAGMENTS + 1)])
def test_impossible_numbers_are_dropped_and_harm_nothing(number: int, total: int) -> None:
    reassembly = Reassembly()
    add(reassembly, 1)
    assert add(reassembly, number, total) is None
    add(reassembly, 2)
    assert add(reassembly, 3) == Whole(FIRST_PAYLOAD, b"onetwothree")


def test_the_next_message_replaces_one_that_never_came_to_an_end() -> None:
    reassembly = Reassembly()
    add(reassembly, 1, message_id=1, piece=b"OLD")
    for number in (2, 3):
        assert add(reassembly, number, message_id=2) is None
    assert add(reassembly, 1, message_id=2) == Whole(FIRST_PAYLOAD, b"onetwothree")


def test_pieces_of_a_message_that_was_complete_begin_anew() -> None:
    reassembly = Reassembly()
    for number in (1, 2, 3):
        add(reassembly, number)
    assert add(reassembly, 3) is None
    assert add(reassembly, 1) is None
    assert add(reassembly, 2) == Whole(FIRST_PAYLOAD, b"onetwothree")


def test_as_many_pieces_as_are_allowed_make_a_message() -> None:
    reassembly = Reassembly()
    for number in range(1, MAX_FRAGMENTS):
        assert add(reassembly, number, MAX_FRAGMENTS, piece=b"x") is None
    assert add(reassembly, MAX_FRAGMENTS, MAX_FRAGMENTS, piece=b"x") == Whole(FIRST_PAYLOAD, b"x" * MAX_FRAGMENTS)


def test_a_message_larger_than_any_datagram_is_never_kept() -> None:
    reassembly = Reassembly()
    half = bytes(MAX_MESSAGE // 2 + 1)
    assert reassembly.add(1, 1, 2, FIRST_PAYLOAD, half, 0.0) is None
    assert reassembly.add(1, 2, 2, 0, half, 0.0) is None
    # what was dropped may still come in a legal size
    assert reassembly.add(1, 2, 2, 0, half[:-1], 0.0) == Whole(FIRST_PAYLOAD, bytes(MAX_MESSAGE))


def test_pieces_that_waited_too_long_are_forgotten() -> None:
    """RFC 7383 2.6: the incomplete message is discarded as if it had never come."""
    reassembly = Reassembly()
    add(reassembly, 1, now=0.0)
    add(reassembly, 2, now=1.0)
    assert add(reassembly, 3, now=REASSEMBLY_S) is None
    add(reassembly, 1, now=REASSEMBLY_S + 1)
    assert add(reassembly, 2, now=2 * REASSEMBLY_S - 1) == Whole(FIRST_PAYLOAD, b"onetwothree")
