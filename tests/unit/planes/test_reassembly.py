"""Inner fragments: whatever order they come in, and whatever a hostile peer makes of them."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from securesock.planes.userspace.reassembly import (
    MAX_BYTES,
    MAX_PACKETS,
    MAX_PIECES,
    REASSEMBLY_S,
    Reassembly,
)
from securesock.wire.inet import Fragment

SOURCE, DESTINATION = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
PIECES = ((0, b"a" * 16, True), (16, b"b" * 8, True), (24, b"c" * 5, False))
WHOLE = b"a" * 16 + b"b" * 8 + b"c" * 5


def add(
    pieces: Reassembly, offset: int, piece: bytes, more: bool, *, identification: int = 1, now: float = 0.0
) -> bytes | None:
    return pieces.add(SOURCE, DESTINATION, Fragment(identification, offset, more), piece, now)


@pytest.mark.parametrize("order", list(itertools.permutations(PIECES)))
def test_pieces_in_any_order_make_the_whole(order: tuple[tuple[int, bytes, bool], ...]) -> None:
    pieces = Reassembly(Counter())
    assert [add(pieces, *each) for each in order] == [None, None, WHOLE]
    assert not pieces.counters
    assert pieces.deadline == float("inf")


def test_an_exact_repeat_harms_nothing() -> None:
    pieces = Reassembly(Counter())
    assert [add(pieces, *PIECES[each]) for each in (2, 0, 2, 0, 1)] == [None, None, None, None, WHOLE]
    assert pieces.counters == {"fragment-repeated": 2}


def test_packets_of_other_senders_and_numbers_are_kept_apart() -> None:
    pieces = Reassembly(Counter())
    add(pieces, *PIECES[0], identification=1)
    add(pieces, *PIECES[1], identification=2)
    assert add(pieces, *PIECES[2], identification=1) is None
    assert pieces.add(DESTINATION, SOURCE, Fragment(1, 16, True), b"b" * 8, 0.0) is None
    assert add(pieces, *PIECES[1], identification=1) == WHOLE


@pytest.mark.parametrize(
    ("offset", "piece"), [(8, b"x" * 8), (0, b"x" * 16), (8, b"x" * 16), (0, b"x" * 24), (0, b"a" * 8)]
)
def test_an_overlap_ends_the_packet(offset: int, piece: bytes) -> None:
    pieces = Reassembly(Counter())
    add(pieces, *PIECES[0])
    assert add(pieces, offset, piece, True) is None
    assert pieces.counters == {"fragment-overlaps": 1}
    # what comes later begins anew, and never becomes whole without what was thrown away
    assert [add(pieces, *PIECES[1]), add(pieces, *PIECES[2])] == [None, None]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (PIECES[2], (32, b"d" * 8, True)),  # beyond the last
        (PIECES[2], (32, b"d" * 8, False)),  # another last
        (PIECES[2], (16, b"d" * 8, False)),  # a last before the last
        (PIECES[1], (8, b"d" * 8, False)),  # a last before what is there
        (PIECES[0], (65528, b"d" * 8, True)),  # beyond what a packet holds
        (PIECES[0], (16, b"d" * 7, True)),  # no whole units of eight, and more to come
        (PIECES[0], (16, b"", True)),  # nothing
    ],
)
def test_a_lie_about_the_total_ends_the_packet(first: tuple[int, bytes, bool], then: tuple[int, bytes, bool]) -> None:
    pieces = Reassembly(Counter())
    assert add(pieces, *first) is None
    assert add(pieces, *then) is None
    assert pieces.counters == {"fragment-lies": 1}
    assert pieces.deadline == float("inf")


def test_what_never_ends_is_forgotten_and_counted() -> None:
    pieces = Reassembly(Counter())
    add(pieces, *PIECES[0], now=5.0)
    assert pieces.deadline == 5.0 + REASSEMBLY_S
    pieces.expire(5.0 + REASSEMBLY_S)
    assert pieces.counters == {"fragments-incomplete": 1}
    assert add(pieces, *PIECES[1], now=40.0) is None


def test_many_beginnings_push_out_the_oldest() -> None:
    pieces = Reassembly(Counter())
    for number in range(MAX_PACKETS + 3):
        add(pieces, *PIECES[0], identification=number)
    assert pieces.counters == {"fragments-too-many": 3}
    assert [add(pieces, *PIECES[each], identification=5) for each in (1, 2)] == [None, WHOLE]


def test_much_data_in_pieces_pushes_out_the_oldest() -> None:
    pieces = Reassembly(Counter())
    for number in range(40):
        add(pieces, 0, bytes(65000), True, identification=number)
    assert pieces.counters["fragments-too-many"] == 40 - MAX_BYTES // 65000


def test_a_packet_in_crumbs_is_given_up() -> None:
    pieces = Reassembly(Counter())
    for number in range(MAX_PIECES + 1):
        add(pieces, 16 * number, bytes(8), True)
    assert pieces.counters == {"fragments-too-many": 1}
