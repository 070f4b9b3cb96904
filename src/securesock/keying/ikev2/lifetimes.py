"""When an SA's replacement begins: at half of its time, a little earlier on one end than on the other.

RFC 7296 2.8.1 wants rekeying jittered so that both ends seldom begin at once.
"""

from __future__ import annotations

from typing import Final

from ...entropy import Entropy
from ...types import Lifetimes

__all__ = ["rekey_time", "retry_time"]

SOFT_SHARE: Final = 0.5
JITTER_SHARE: Final = 0.1

RETRY_ON_DATAGRAMS_S: Final = (2.0, 6.0)
"""RFC 7296 2.25: after TEMPORARY_FAILURE wait; a few seconds outlast a peer's exchange with its retransmissions."""

RETRY_ON_STREAM_S: Final = (0.05, 0.25)
"""On a stream nothing is lost, and the peer's exchange is over as soon as both ends have read what is in flight."""


def rekey_time(lifetimes: Lifetimes, entropy: Entropy, now: float) -> float:
    """The moment to begin replacing an SA made now: half its life, less up to a tenth of that."""
    jitter = int.from_bytes(entropy.token(2), "big") / 0x10000
    return now + lifetimes.seconds * SOFT_SHARE * (1 - JITTER_SHARE * jitter)


def retry_time(entropy: Entropy, now: float, took_s: float, *, on_stream: bool) -> float:
    """When to try again what the peer could not do just now, ``took_s`` after it was asked.

    Random, so that two ends in each other's way do not stay there; and over twice the time that a question takes, or
    where much data is on its way each end's next question would always meet the other's.
    """
    shortest, longest = RETRY_ON_STREAM_S if on_stream else RETRY_ON_DATAGRAMS_S
    longest = max(longest, shortest + 2 * took_s)
    return now + shortest + (longest - shortest) * int.from_bytes(entropy.token(2), "big") / 0x10000
