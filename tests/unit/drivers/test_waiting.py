"""Waiting for a descriptor, and being woken by another thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securesock.drivers.waiting import READ, WRITE, Waiter, _PollWaiter, _SelectWaiter, this_thread

_DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        yield one, other


@pytest.fixture(params=[_PollWaiter, _SelectWaiter])
def waiter(request: pytest.FixtureRequest) -> Waiter:
    make: Callable[[], Waiter] = request.param
    return make()


def test_a_readable_descriptor_ends_the_wait(waiter: Waiter, ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    assert not waiter.wait(one.fileno(), READ, 0)
    other.send(b"x")
    assert waiter.wait(one.fileno(), READ, 5)


def test_a_writable_descriptor_ends_the_wait(waiter: Waiter, ends: tuple[socket.socket, socket.socket]) -> None:
    one, _ = ends
    assert waiter.wait(one.fileno(), WRITE, 5)
    assert waiter.wait(one.fileno(), READ | WRITE, 5)


def test_what_is_wanted_may_change_between_waits(waiter: Waiter, ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    assert waiter.wait(one.fileno(), WRITE, 5)
    assert not waiter.wait(one.fileno(), READ, 0)
    assert not waiter.wait(one.fileno(), 0, 0)
    assert waiter.wait(other.fileno(), WRITE, 5)
    assert not waiter.wait(one.fileno(), READ, 0)


def test_a_wake_before_the_wait_is_not_lost(waiter: Waiter, ends: tuple[socket.socket, socket.socket]) -> None:
    waiter.wake()
    assert waiter.wait(ends[0].fileno(), READ, 5)
    assert not waiter.wait(ends[0].fileno(), READ, 0)


def test_many_wakes_are_one(waiter: Waiter, ends: tuple[socket.socket, socket.socket]) -> None:
    for _ in range(100_000):
        waiter.wake()
    assert waiter.wait(ends[0].fileno(), READ, 5)
    assert not waiter.wait(ends[0].fileno(), READ, 0)


def test_another_thread_ends_the_wait(waiter: Waiter, ends: tuple[socket.socket, socket.socket]) -> None:
    woken: list[bool] = []
    thread = threading.Thread(target=lambda: woken.append(waiter.wait(ends[0].fileno(), READ, None)))
    thread.start()
    waiter.wake()
    thread.join(10)
    assert woken == [True]


def test_a_hang_up_spins_nobody_who_wants_nothing_of_the_descriptor(
    waiter: Waiter, ends: tuple[socket.socket, socket.socket]
) -> None:
    one, other = ends
    other.close()
    assert waiter.wait(one.fileno(), READ, 5)
    assert not waiter.wait(one.fileno(), 0, 0)


def test_each_thread_has_one_waiter_of_its_own() -> None:
    mine = this_thread()
    assert this_thread() is mine
    others: list[Waiter] = []
    thread = threading.Thread(target=lambda: others.append(this_thread()))
    thread.start()
    thread.join()
    assert others[0] is not mine


def test_a_thread_that_ends_leaves_no_descriptor() -> None:
    before = len(list(_DESCRIPTORS.iterdir()))
    for _ in range(5):
        thread = threading.Thread(target=this_thread)
        thread.start()
        thread.join()
    assert len(list(_DESCRIPTORS.iterdir())) <= before
