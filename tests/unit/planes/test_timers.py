"""Whose moment has come, when."""

from __future__ import annotations

import itertools
from math import inf
from typing import cast

from securesock.keying.contract import KeyingSession, Role
from securesock.planes.userspace.association import Association
from securesock.planes.userspace.peers import Peer
from securesock.planes.userspace.timers import SPAN_S, Timers

START = 100 * SPAN_S
_PORTS = itertools.count(1)


def association() -> Association:
    return Association(Peer(("192.0.2.1", next(_PORTS))), cast(KeyingSession, None), Role.INITIATOR, b"", START)


def taken(timers: Timers, now: float) -> list[Association]:
    found = []
    while (each := timers.take(now)) is not None:
        found.append(each)
    return found


def test_nobody_is_due_who_did_not_ask() -> None:
    timers, one = Timers(), association()
    assert timers.due == inf
    assert not timers.note(one, inf)
    assert timers.take(START) is None


def test_near_and_far_come_in_the_order_of_their_moments_and_not_before() -> None:
    timers, some = Timers(), [association() for _ in range(6)]
    moments = [START + each for each in (0.5, 40 * SPAN_S + 3, 40 * SPAN_S + 1, 3 * SPAN_S, 0.25, 40 * SPAN_S + 2)]
    for one, due in zip(some, moments, strict=True):
        assert timers.note(one, due)
    order = sorted(range(6), key=moments.__getitem__)
    for number in order:
        assert taken(timers, moments[number] - 0.01) == []
        assert taken(timers, moments[number]) == [some[number]]
    assert timers.due == inf


def test_it_is_due_no_later_than_who_is_due_first() -> None:
    timers, near, far = Timers(), association(), association()
    timers.note(near, START + 1)
    timers.note(far, START + 300.5)
    assert timers.due == START + 1
    assert taken(timers, START + 1) == [near]
    assert START + 300.5 - SPAN_S < timers.due <= START + 300.5
    assert taken(timers, timers.due) == []
    assert timers.due == START + 300.5


def test_an_earlier_moment_counts_and_a_later_one_does_not() -> None:
    timers, one = Timers(), association()
    assert timers.note(one, START + 300)
    assert not timers.note(one, START + 400)
    assert timers.note(one, START + 100)
    assert timers.note(one, START + 99)
    assert taken(timers, START + 98) == []
    assert taken(timers, START + 99) == [one]
    assert one.scheduled == inf
    assert taken(timers, START + 500) == []


def test_who_was_taken_may_ask_again() -> None:
    timers, one = Timers(), association()
    for due in (START + 1, START + 2, START + 200, START + 201):
        assert timers.note(one, due)
        assert taken(timers, due) == [one]


def test_what_is_near_after_a_long_silence_is_due_at_its_moment() -> None:
    timers, one = Timers(), association()
    timers.note(association(), START)
    taken(timers, START)
    timers.note(one, START + 1000.5)
    assert taken(timers, START + 1000.4) == []
    assert taken(timers, START + 1000.5) == [one]
