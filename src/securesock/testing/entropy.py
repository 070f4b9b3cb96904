"""Randomness that a test can replay.  Never for keys that protect anything."""

from __future__ import annotations

import random

__all__ = ["SeededEntropy"]


class SeededEntropy:
    """A securesock Entropy whose bytes are a function of ``seed``: predictable, for tests alone."""

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)

    def token(self, length: int) -> bytes:
        """The next ``length`` bytes of the sequence."""
        return self._random.randbytes(length)
