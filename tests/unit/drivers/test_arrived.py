"""What was opened and waits for the application: in order, bounded, and told by a descriptor."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest

from securesock.drivers.arrived import ARRIVED_OVERHEAD, MAX_ARRIVED, Arrived
from securesock.engine.ports import Arrival

PEER = ("192.0.2.1", 7001)


def some(*data: bytes) -> list[Arrival]:
    return [Arrival(each, PEER, None, 0) for each in data]


def data_of(arrivals: list[Arrival]) -> list[bytes]:
    return [each.data for each in arrivals]


def is_readable(arrived: Arrived) -> bool:
    return bool(select.select([arrived.fileno()], [], [], 0)[0])


@pytest.fixture
def arrived() -> Iterator[Arrived]:
    made = Arrived()
    yield made
    made.close()


def test_it_comes_out_in_the_order_that_it_came_in(arrived: Arrived) -> None:
    assert arrived.keep(some(b"one", b"two")) == 0
    assert arrived.keep(some(b"three")) == 0
    assert data_of(arrived.take(2)) == [b"one", b"two"]
    assert data_of(arrived.take(9)) == [b"three"]
    assert arrived.take(9) == []


def test_beyond_its_room_what_is_too_much_is_dropped_and_counted(arrived: Arrived) -> None:
    large = MAX_ARRIVED // 2 - ARRIVED_OVERHEAD
    assert arrived.keep(some(bytes(large), bytes(large), b"x")) == 1
    assert arrived.keep(some(b"y")) == 1
    assert [len(each.data) for each in arrived.take(1)] == [large]
    assert arrived.keep(some(bytes(large + 1), b"fits")) == 1
    assert [len(each.data) for each in arrived.take(9)] == [large, 4]
    assert arrived.keep(some(bytes(large), bytes(large))) == 0, "all of its room is free again"


@pytest.mark.parametrize("made_first", [True, False])
def test_the_descriptor_is_readable_exactly_while_something_waits(arrived: Arrived, made_first: bool) -> None:
    if made_first:
        assert not is_readable(arrived)
    arrived.keep(some(b"one", b"two"))
    assert is_readable(arrived)
    arrived.take(1)
    assert is_readable(arrived)
    arrived.keep(some(b"three"))
    arrived.take(2)
    assert not is_readable(arrived)
    assert arrived.take(1) == []
    arrived.keep(())
    assert not is_readable(arrived)


def test_nobody_has_a_descriptor_who_did_not_ask(arrived: Arrived) -> None:
    arrived.keep(some(b"one"))
    assert not arrived.has_descriptor
    assert arrived.fileno() == arrived.fileno()
    assert arrived.has_descriptor
