"""Cipher contexts, of which only so many are kept."""

from __future__ import annotations

from math import inf

import pytest

from securesock.crypto import suites
from securesock.crypto.kdf import DirectionKeys
from securesock.crypto.suites import EspSuite
from securesock.sad.ciphers import MAX_CIPHERS, SPAN, Ciphers
from securesock.sad.entries import InboundSa
from securesock.sad.spec import InnerFlow, SaSpec
from securesock.types import Lifetimes

SUITE = EspSuite(suites.AES_128_GCM_16, None)
FLOW = InnerFlow(17, "192.0.2.1", 1, "192.0.2.2", 2)


def sas(count: int) -> list[InboundSa]:
    keys = DirectionKeys(bytes(20), b"")
    lifetimes = Lifetimes(1000.0, 1 << 30, 1 << 20)
    return [InboundSa(SaSpec(256 + each, SUITE, keys, lifetimes, each, FLOW, True), 0.0) for each in range(count)]


def use(kept: Ciphers, sa: InboundSa) -> None:
    """As a packet does."""
    assert sa.ready or kept.make(sa)
    sa.packets += 1


def ready(some: list[InboundSa]) -> list[int]:
    return [number for number, sa in enumerate(some) if sa.ready is not None]


def test_only_so_many_are_ready_and_the_least_recently_used_goes() -> None:
    kept, some = Ciphers(3), sas(6)
    for sa in some[:4]:
        use(kept, sa)
    assert ready(some) == [1, 2, 3]
    use(kept, some[1])
    use(kept, some[4])
    assert ready(some) == [1, 3, 4]
    assert len(kept) == 3


def test_one_that_is_used_all_the_time_stays() -> None:
    kept, some = Ciphers(4), sas(40)
    for sa in some[1:]:
        use(kept, some[0])
        use(kept, sa)
    assert ready(some) == [0, 37, 38, 39]


def test_those_that_are_used_now_take_the_place_of_those_that_were() -> None:
    kept, some = Ciphers(64), sas(200)
    for sa in some[:100]:
        use(kept, sa)
    for _ in range(12):
        for begin in range(100, 156, 4):
            for _ in range(2):
                for sa in some[begin : begin + 4]:
                    use(kept, sa)
    assert set(range(100, 156)) <= set(ready(some))
    assert len(ready(some)) == len(kept) == 64


def test_with_room_each_is_worth_keeping_and_else_those_that_are_needed_often() -> None:
    kept, some = Ciphers(64), sas(66)
    for number in range(2 * SPAN):
        kept.note_once(number / SPAN)
    for sa in some[:64]:
        use(kept, sa)
    assert kept.soon_s == inf
    use(kept, some[64])
    assert kept.soon_s == 1.0  # how long it took to make the last ones
    for _ in range(SPAN):
        kept.note_once(5.0)
    assert kept.soon_s == pytest.approx(5.0 - 2.0, abs=0.01)
    kept.drop(some[64])
    assert kept.soon_s == inf
    use(kept, some[64])
    use(kept, some[65])
    assert kept.soon_s == pytest.approx(3.0, abs=0.01)


def test_before_it_was_measured_how_often_ciphers_are_made_nobody_needs_one_often() -> None:
    kept, some = Ciphers(1), sas(2)
    for sa in some:
        use(kept, sa)
    assert kept.soon_s == -inf


def test_when_all_were_used_one_goes_nevertheless() -> None:
    kept, some = Ciphers(3), sas(4)
    for sa in some[:3]:
        for _ in range(5):
            use(kept, sa)
    use(kept, some[3])
    assert len(ready(some)) == len(kept) == 3


def test_one_whose_sa_ended_is_dropped_at_once() -> None:
    kept, some = Ciphers(3), sas(1)
    use(kept, some[0])
    kept.drop(some[0])
    kept.drop(some[0])
    assert some[0].ready is None
    assert len(kept) == 0


def test_a_process_keeps_4096() -> None:
    assert MAX_CIPHERS == 4096
    kept, some = Ciphers(), sas(MAX_CIPHERS + 2)
    for sa in some:
        use(kept, sa)
    assert len(kept) == MAX_CIPHERS
    assert len(ready(some)) == MAX_CIPHERS
