"""Every fuzz target's seeds, exhaustively: each truncation, each flipped bit, junk behind.  Coverage-guided search for
more is `make fuzz`.

A parser that joins fuzz/targets/ with a file of seeds is tested here without another line.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from fuzz.registry import SEEDS, Target, load_targets

TARGETS = load_targets()
WITH_SEEDS = [target for target in TARGETS.values() if target.seeds()]
JUNK = (b"\x00", b"\xff", bytes(4), b"\xff" * 4, bytes(range(16)), b"\xff" * 300)

every_target = pytest.mark.parametrize("target", WITH_SEEDS, ids=[target.name for target in WITH_SEEDS])


@every_target
def test_seeds_are_what_the_parser_is_for(target: Target) -> None:
    assert any(target.run(seed) for seed in target.seeds())


def survives(target: Target, seed: bytes, damaged: Iterable[bytes]) -> bool:
    """Whether ``seed`` parses afterwards as before.  Any exception that is not allowed goes through ``run``."""
    before = target.run(seed)
    for each in damaged:
        target.run(each)
    return target.run(seed) == before


@every_target
def test_every_truncation_parses_or_is_refused(target: Target) -> None:
    for seed in target.seeds():
        assert survives(target, seed, (seed[:length] for length in range(len(seed))))


@every_target
def test_every_flipped_bit_parses_or_is_refused(target: Target) -> None:
    for seed in target.seeds():
        number, length = int.from_bytes(seed, "big"), len(seed)
        assert survives(target, seed, ((number ^ 1 << bit).to_bytes(length, "big") for bit in range(8 * length)))


@every_target
def test_junk_behind_parses_or_is_refused(target: Target) -> None:
    for seed in target.seeds():
        assert survives(target, seed, (seed + junk for junk in JUNK))


def test_every_file_of_seeds_belongs_to_a_target() -> None:
    assert {path.stem for path in SEEDS.iterdir()} <= TARGETS.keys()
