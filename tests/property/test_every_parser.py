"""Every fuzz target's seeds, exhaustively: each truncation, each flipped bit, junk behind.  Coverage-guided search for
more is `make fuzz`.

A parser that joins fuzz/targets/ with a file of seeds is tested here without another line.
"""

from __future__ import annotations

import pytest

from fuzz.registry import SEEDS, Target, load_targets

TARGETS = load_targets()
WITH_SEEDS = [target for target in TARGETS.values() if target.seeds()]
JUNK = (b"\x00", b"\xff", bytes(4), b"\xff" * 4, bytes(range(16)), b"\xff" * 300)

every_target = pytest.mark.parametrize("target", WITH_SEEDS, ids=[target.name for target in WITH_SEEDS])


@every_target
def test_seeds_are_what_the_parser_is_for(target: Target) -> None:
    assert any(target.run(seed) for seed in target.seeds())


@every_target
def test_every_truncation_parses_or_is_refused(target: Target) -> None:
    for seed in target.seeds():
        for length in range(len(seed)):
            target.run(seed[:length])


@every_target
def test_every_flipped_bit_parses_or_is_refused(target: Target) -> None:
    for seed in target.seeds():
        damaged = bytearray(seed)
        for position in range(len(seed)):
            for bit in range(8):
                damaged[position] ^= 1 << bit
                target.run(bytes(damaged))
                damaged[position] ^= 1 << bit


@every_target
def test_junk_behind_parses_or_is_refused(target: Target) -> None:
    for seed in target.seeds():
        for junk in JUNK:
            target.run(seed + junk)


def test_every_file_of_seeds_belongs_to_a_target() -> None:
    assert {path.stem for path in SEEDS.iterdir()} <= TARGETS.keys()
