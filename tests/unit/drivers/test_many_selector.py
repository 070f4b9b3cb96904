"""More descriptors than select() takes at once: all are seen, in time, and waiting ends when it should."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from time import monotonic

import pytest

from securesock.drivers.many_selector import ManySelector

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with ExitStack() as stack:
        made = [socket.socketpair() for _ in range(8)]
        for each in made:
            stack.enter_context(each[0])
            stack.enter_context(each[1])
        yield made


@pytest.fixture
def selector(pairs: list[tuple[socket.socket, socket.socket]]) -> Iterator[ManySelector]:
    with ManySelector(most=3) as made:
        for number, (inbox, _) in enumerate(pairs):
            made.register(inbox, READ, number)
        yield made


def numbers(ready: list[tuple[selectors.SelectorKey, int]]) -> list[tuple[int, int]]:
    return [(key.data, events) for key, events in ready]


@pytest.mark.parametrize("ready", [[0], [2, 3], [7], [0, 4, 7]])
def test_whatever_is_ready_is_seen_in_every_part(
    selector: ManySelector, pairs: list[tuple[socket.socket, socket.socket]], ready: list[int]
) -> None:
    for number in ready:
        pairs[number][1].send(b"x")
    assert numbers(selector.select(0)) == [(number, READ) for number in ready]
    assert numbers(selector.select(None)) == [(number, READ) for number in ready]


def test_what_is_wanted_is_what_is_told(
    selector: ManySelector, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    selector.modify(pairs[5][0], READ | WRITE, 5)
    selector.modify(pairs[6][0], WRITE, 6)
    assert numbers(selector.select(0)) == [(5, WRITE), (6, WRITE)]
    pairs[5][1].send(b"x")
    pairs[6][1].send(b"x")
    assert numbers(selector.select(0)) == [(5, READ | WRITE), (6, WRITE)]


def test_nothing_is_ready_and_the_time_is_over(selector: ManySelector) -> None:
    started = monotonic()
    assert selector.select(0.12) == []
    assert monotonic() - started >= 0.12
    assert selector.select(-1.0) == []


@pytest.mark.parametrize("number", [0, 7])
def test_another_thread_ends_the_wait(
    selector: ManySelector, pairs: list[tuple[socket.socket, socket.socket]], number: int
) -> None:
    never = threading.Event()

    def wake() -> None:
        never.wait(0.02)
        pairs[number][1].send(b"x")

    thread = threading.Thread(target=wake)
    thread.start()
    assert numbers(selector.select(None)) == [(number, READ)]
    thread.join()


def test_few_descriptors_are_selects_own(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    with ManySelector() as few:
        few.register(pairs[0][0], READ, 0)
        assert few.select(0) == []
        pairs[0][1].send(b"x")
        assert numbers(few.select(1)) == [(0, READ)]
