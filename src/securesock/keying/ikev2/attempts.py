"""Who wins when both ends replace the same SA at once: the nonce rule of RFC 7296 2.8.1 and 2.8.2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Attempt", "Outcome", "begin_for_peer", "decide", "has_peers_complete"]

_Sa = TypeVar("_Sa")


@dataclass(slots=True, eq=False)
class Attempt(Generic[_Sa]):
    """One exchange that replaces an SA; ``replacement`` is there when its last key exchange is done.

    ``lowest_nonce`` is the lower of the exchange's two nonces, compared octet by octet, the shorter first: bytes'
    own order.
    """

    ours: bool
    lowest_nonce: bytes
    replacement: _Sa | None = None


class Outcome(NamedTuple, Generic[_Sa]):
    """The replacement that stays, who began it, and those of ours that we must delete."""

    kept: _Sa
    we_began: bool
    redundant: tuple[_Sa, ...]
    ours_to_delete: tuple[_Sa, ...]


def has_peers_complete(attempts: list[Attempt[_Sa]]) -> bool:
    """Whether the peer made its replacement and waits for ours: until that is there it has nothing more to begin."""
    return any(not each.ours and each.replacement is not None for each in attempts)


def begin_for_peer(attempts: list[Attempt[_Sa]], lowest_nonce: bytes) -> Attempt[_Sa]:
    """The peer's attempt.  One that it began before and did not finish it has given up (RFC 9370 2.2.4)."""
    attempts[:] = [each for each in attempts if each.ours or each.replacement is not None]
    attempt: Attempt[_Sa] = Attempt(ours=False, lowest_nonce=lowest_nonce)
    attempts.append(attempt)
    return attempt


def decide(attempts: list[Attempt[_Sa]]) -> Outcome[_Sa] | None:
    """The outcome once every attempt is complete (the list is emptied then), None before that.

    The exchange with the lowest of all nonces loses, and whoever began it deletes what it made.
    """
    complete = [(each, each.replacement) for each in attempts if each.replacement is not None]
    if not complete or len(complete) < len(attempts):
        return None
    attempts.clear()
    complete.sort(key=lambda pair: pair[0].lowest_nonce)
    (winner, kept), losers = complete[-1], complete[:-1]
    return Outcome(
        kept,
        winner.ours,
        tuple(each for _, each in losers if each is not None),
        tuple(each for attempt, each in losers if attempt.ours and each is not None),
    )
