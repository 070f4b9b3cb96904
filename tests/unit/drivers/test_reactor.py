"""The one daemon thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from securesock.drivers.reactor import Reactor, reactor
from securesock.drivers.waiting import READ, WRITE

_PATIENCE_S = 10.0


@pytest.fixture
def loop() -> Reactor:
    return reactor()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        yield one, other


def test_there_is_one_thread_and_it_is_a_daemon(loop: Reactor) -> None:
    assert reactor() is loop
    seen: list[threading.Thread] = []
    assert loop.run_and_wait(lambda: seen.append(threading.current_thread()), _PATIENCE_S)
    assert seen[0].daemon
    assert seen[0] is not threading.current_thread()


def test_calls_run_in_the_order_in_which_they_were_made(loop: Reactor) -> None:
    order: list[int] = []
    for number in range(50):
        loop.call(lambda number=number: order.append(number))
    assert loop.run_and_wait(lambda: None, _PATIENCE_S)
    assert order == list(range(50))


def test_a_handler_is_called_while_its_descriptor_is_ready(
    loop: Reactor, ends: tuple[socket.socket, socket.socket]
) -> None:
    one, other = ends
    got: list[bytes] = []
    done = threading.Event()

    def handle(mask: int, now: float) -> None:
        assert mask == READ
        got.append(one.recv(1))
        if len(got) == 3:
            loop.forget(one)
            done.set()

    loop.call(lambda: loop.watch(one, READ, handle))
    other.send(b"abc")
    assert done.wait(_PATIENCE_S)
    assert got == [b"a", b"b", b"c"]


def test_a_wish_can_change_and_end(loop: Reactor, ends: tuple[socket.socket, socket.socket]) -> None:
    one, _ = ends
    masks: list[int] = []
    done = threading.Event()

    def handle(mask: int, now: float) -> None:
        masks.append(mask)
        loop.watch(one, 0, handle)
        done.set()

    loop.call(lambda: loop.watch(one, READ, handle))
    loop.call(lambda: loop.watch(one, READ | WRITE, handle))
    assert done.wait(_PATIENCE_S)
    assert loop.run_and_wait(lambda: None, _PATIENCE_S)
    assert masks == [WRITE]


def test_timers_fire_in_the_order_of_their_times_and_not_before(loop: Reactor) -> None:
    fired: list[tuple[str, float]] = []
    done = threading.Event()
    start = monotonic()
    loop.call(lambda: loop.at(start + 0.03, lambda now: (fired.append(("late", now)), done.set())) and None)
    loop.call(lambda: loop.at(start + 0.01, lambda now: fired.append(("early", now))) and None)
    assert done.wait(_PATIENCE_S)
    assert [name for name, _ in fired] == ["early", "late"]
    assert fired[0][1] >= start + 0.01
    assert fired[1][1] >= start + 0.03


def test_a_cancelled_timer_does_not_fire_and_many_of_them_are_forgotten(loop: Reactor) -> None:
    fired: list[float] = []

    def churn() -> None:
        for _ in range(20_000):
            loop.at(monotonic() + 60.0, fired.append).cancel()

    assert loop.run_and_wait(churn, _PATIENCE_S)
    assert len(loop._timers) < 5_000
    assert fired == []


def test_a_handler_with_a_defect_loses_its_descriptor_and_harms_nobody_else(
    loop: Reactor, ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = ends
    reported: list[threading.ExceptHookArgs] = []
    done = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda args: (reported.append(args), done.set()))

    def handle(mask: int, now: float) -> None:
        raise ZeroDivisionError("a defect")

    loop.call(lambda: loop.watch(one, READ, handle))
    other.send(b"x")
    assert done.wait(_PATIENCE_S)
    assert loop.run_and_wait(lambda: None, _PATIENCE_S)
    assert reported[0].exc_type is ZeroDivisionError
    assert one.fileno() == -1


def test_a_call_with_a_defect_harms_nobody_else(loop: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    loop.call(lambda: 1 // 0 and None)
    assert loop.run_and_wait(lambda: None, _PATIENCE_S)
    assert reported[0].exc_type is ZeroDivisionError
