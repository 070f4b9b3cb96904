"""The registry of live SAs: weak, ordered, counted, and told of failures."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import cast

import pytest

from securesock.engine.live_sas import KeyingFailure, LiveSa, LiveSas
from securesock.engine.ports import SecuredStream
from securesock.errors import KeyingTimeout
from securesock.keying.contract import Establishment, KeyingConfig

CONFIG = cast(KeyingConfig, SimpleNamespace())


class SimpleStream:
    """Stands for a stream: its identity is all that counts."""


class Source:
    """Keeps an SA with a number, or has ended."""

    def __init__(self, number: int) -> None:
        self.sa: LiveSa | None = LiveSa(1, number, 2, 3, cast(Establishment, SimpleNamespace()), CONFIG, 0)

    def live_sa(self) -> LiveSa | None:
        return self.sa


def failure(was_established: bool = False) -> KeyingFailure:
    return KeyingFailure(CONFIG, KeyingTimeout("nobody answered"), was_established)


def test_what_lives_is_shown_in_the_order_of_its_ids() -> None:
    registry, sources = LiveSas(), [Source(9), Source(3), Source(5)]
    for source in sources:
        registry.add(source)
    assert [sa.quick_mode_sa_id for sa in registry.snapshot()] == [3, 5, 9]


def test_what_has_ended_is_not_shown_and_nothing_is_kept_alive() -> None:
    registry, ended, gone = LiveSas(), Source(1), Source(2)
    registry.add(ended)
    registry.add(gone)
    ended.sa = None
    del gone
    gc.collect()
    assert registry.snapshot() == []


def test_a_stream_that_its_owner_closed_is_not_shown() -> None:
    registry, first, second = LiveSas(), cast(SecuredStream, SimpleStream()), cast(SecuredStream, SimpleStream())
    registry.add(Source(1), first)
    registry.add(Source(2), second)
    registry.leave(first)
    registry.leave(first)
    assert [sa.quick_mode_sa_id for sa in registry.snapshot()] == [2]


def test_counters_are_a_copy() -> None:
    registry = LiveSas()
    registry.count(started=2, sas_added=1)
    seen = registry.counters()
    registry.count(started=1)
    assert (seen.started, seen.sas_added, registry.counters().started) == (2, 1, 3)


def test_a_failure_is_counted_where_nothing_was_established_and_told_in_either_case() -> None:
    registry, heard = LiveSas(), list[KeyingFailure]()
    end = registry.listen(heard.append)
    registry.tell(failure())
    registry.tell(failure(was_established=True))
    end()
    end()
    registry.tell(failure())
    assert [each.was_established for each in heard] == [False, True]
    assert registry.counters().failed == 2


def test_a_child_process_begins_with_nothing() -> None:
    registry, source = LiveSas(), Source(1)
    registry.add(source)
    registry.count(started=1)
    registry.renew()
    assert registry.snapshot() == []
    assert registry.counters().started == 0


def test_an_unknown_counter_is_a_mistake() -> None:
    with pytest.raises(AttributeError):
        LiveSas().count(sas=1)
