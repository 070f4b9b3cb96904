"""Limits: when a successor is asked for, and when nothing more may be done."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from securesock.crypto.suites import AES_256_GCM_16, EspSuite
from securesock.keying.contract import Role
from securesock.sad.database import SaDatabase
from securesock.sad.entries import InboundSa, Limits, OutboundSa
from securesock.types import Flow, Lifetimes
from tests.support.pre_keyed import PreKeyedSession

LIMITS = Lifetimes(seconds=100.0, max_bytes=1000, max_packets=10)
SPEC = replace(PreKeyedSession(Role.INITIATOR).spec("outbound"), lifetimes=LIMITS)


@pytest.mark.parametrize(
    ("count", "soft", "hard"), [("packets", 5, 10), ("byte_count", 500, 1000), ("time", 50.0, 100.0)]
)
def test_a_successor_is_due_at_half_of_each_limit_and_all_ends_at_the_limit(
    count: str, soft: float, hard: float
) -> None:
    def meter(value: float) -> tuple[OutboundSa, float]:
        sa = OutboundSa(SPEC, now=7.0)
        if count == "time":
            return sa, 7.0 + value
        setattr(sa, count, value)
        return sa, 7.0

    for value, due, exhausted in (
        (soft - 1, False, False),
        (soft, True, False),
        (hard - 1, True, False),
        (hard, True, True),
    ):
        sa, now = meter(value)
        assert (sa.due(now), sa.exhausted(now)) == (
            due,
            exhausted,
        )


def test_it_asks_once_and_then_looks_at_the_hard_limits() -> None:
    sa = OutboundSa(SPEC, now=0.0)
    sa.packets = 5
    assert sa.due(0.0)
    assert sa.ask_once()
    assert not sa.ask_once()
    assert not sa.due(0.0)
    assert not sa.due(99.9)
    assert sa.due(100.0)


def test_time_does_not_bind_the_opening_side_and_it_asks_later() -> None:
    sa = InboundSa(SPEC, now=0.0)
    assert sa.hard_time == inf
    assert not sa.exhausted(1e12)
    sa.packets = 6
    assert not sa.due(1e12)
    sa.packets = 7
    assert sa.due(0.0)


def test_without_esn_an_sa_ends_with_its_sequence_numbers_whatever_policy_says() -> None:
    generous = Lifetimes(1e9, 1 << 60, 1 << 60)
    short = OutboundSa(replace(SPEC, suite=EspSuite(AES_256_GCM_16, None, esn=False), lifetimes=generous), 0.0)
    long = OutboundSa(replace(SPEC, lifetimes=generous), 0.0)
    assert short.hard_packets == 2**32 - 1
    assert long.hard_packets == 1 << 60
    short.packets = 2**32 - 1
    assert short.exhausted(0.0)


def test_limits_are_reckoned_from_where_running_totals_stood() -> None:
    limits = Limits(LIMITS, 0.0, packets=1000, byte_count=1_000_000)
    assert not limits.due_at(1004, 1_000_499, 49.9)
    assert limits.due_at(1005, 1_000_499, 49.9)
    assert limits.due_at(1004, 1_000_500, 49.9)
    assert limits.due_at(1004, 1_000_499, 50.0)
    assert not limits.exhausted_at(1009, 1_000_999, 99.9)
    assert limits.exhausted_at(1010, 1_000_999, 99.9)


def test_at_a_hard_limit_one_more_question_is_asked() -> None:
    limits = Limits(LIMITS, 0.0)
    assert limits.ask_once()
    assert limits.ask_again()
    assert not limits.ask_again()
    assert not limits.ask_once()


def test_keys_are_in_no_repr() -> None:
    assert SPEC.keys.encryption.hex() not in repr(SPEC)
    assert repr(SPEC.keys.encryption) not in repr(SPEC)


FLOW = Flow(17, "192.0.2.1", 5000, "192.0.2.2", 7000)
OTHER = Flow(17, "192.0.2.1", 5000, "192.0.2.3", 7000)


def test_the_database_finds_by_spi_by_flow_and_by_peer() -> None:
    base = SaDatabase()
    inbound, outbound = InboundSa(replace(SPEC, spi=0x300), 0.0), OutboundSa(replace(SPEC, spi=0x400), 0.0)
    other = InboundSa(replace(SPEC, spi=0x301), 0.0)
    base.install_inbound(inbound, FLOW, "host/a.example")
    base.install_outbound(outbound, FLOW, "host/a.example")
    base.install_inbound(other, OTHER, "host/b.example")
    assert base.by_spi(0x300) is inbound
    assert base.by_spi(0x400) is None
    assert base.by_flow(FLOW) is outbound
    assert base.by_flow(OTHER) is None
    assert base.by_peer("host/a.example") == ((inbound,), (outbound,))
    assert base.by_peer("host/b.example") == ((other,), ())
    assert base.by_peer("host/c.example") == ((), ())
    assert len(base) == 2


def test_the_sa_installed_last_seals_until_it_is_removed() -> None:
    base = SaDatabase()
    old, new = OutboundSa(replace(SPEC, spi=0x400), 0.0), OutboundSa(replace(SPEC, spi=0x401), 0.0)
    base.install_outbound(old, FLOW, "host/a.example")
    base.install_outbound(new, FLOW, "host/a.example")
    assert base.by_flow(FLOW) is new
    base.remove_outbound(0x401, FLOW)
    assert base.by_flow(FLOW) is old
    base.remove_outbound(0x400, FLOW)
    base.remove_outbound(0x400, FLOW)
    assert base.by_flow(FLOW) is None
    assert base.by_peer("host/a.example") == ((), ())


def test_an_spi_is_never_installed_twice_and_is_free_after_its_removal() -> None:
    base = SaDatabase()
    inbound = InboundSa(replace(SPEC, spi=0x300), 0.0)
    base.install_inbound(inbound, FLOW, "host/a.example")
    with pytest.raises(ValueError, match="in use"):
        base.install_inbound(InboundSa(replace(SPEC, spi=0x300), 0.0), OTHER, "host/b.example")
    assert base.by_spi(0x300) is inbound
    base.remove_inbound(0x300)
    base.remove_inbound(0x300)
    assert base.by_spi(0x300) is None
    base.install_inbound(inbound, OTHER, "host/b.example")
    assert base.by_peer("host/b.example") == ((inbound,), ())
