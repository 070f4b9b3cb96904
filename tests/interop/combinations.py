"""Which combinations of features are run: each pair of values of two features at least once, or all with all.

``make interop-full`` sets INTEROP_FULL.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Final

__all__ = ["FULL", "combinations", "pairwise"]

FULL: Final = "INTEROP_FULL"


def combinations(features: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """All of them where INTEROP_FULL is set, a pairwise choice else; the same ones each time."""
    everything = [dict(zip(features, values, strict=True)) for values in itertools.product(*features.values())]
    return everything if os.environ.get(FULL) else pairwise(everything)


def pairwise(everything: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Few of them that hold every pair of values of two features: always the one with the most pairs still missing."""
    missing = set().union(*map(_pairs, everything))
    chosen = []
    while missing:
        best = max(everything, key=lambda each: len(_pairs(each) & missing))
        chosen.append(best)
        missing -= _pairs(best)
    return chosen


def _pairs(combination: dict[str, str]) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    return set(itertools.combinations(combination.items(), 2))
