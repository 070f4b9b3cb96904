"""Reassembly of IKE fragments (RFC 7383): authentic pieces of one message, bounded in number and size.

Holds one message at a time, since the window is one.  A piece is handed in only after its ICV was verified (RFC 7383
2.6).
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["Reassembly", "Whole"]

MAX_FRAGMENTS: Final = 64
"""64 pieces of at least 500 bytes hold any chain that a certificate authority issues; RFC 7383 2.6 asks for a limit."""

MAX_MESSAGE: Final = 65535
"""As large as an unfragmented message can be (UDP)."""


class Whole(NamedTuple):
    """A message that is complete: type of its first payload, and the payloads' bytes."""

    first_payload: int
    inner: bytes


class Reassembly:
    """The pieces of the message that is coming in, requests and responses apart by ``key``."""

    __slots__ = ("_first_payload", "_key", "_pieces", "_size", "_total")

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._key: tuple[bool, int] | None = None
        self._total = 0
        self._pieces: dict[int, bytes] = {}
        self._size = 0
        self._first_payload = 0

    def add(self, key: tuple[bool, int], number: int, total: int, first_payload: int, piece: bytes) -> Whole | None:
        """Take one authentic piece; the message when it was the last missing one.

        ``key`` is (is a response, message id).  Pieces beyond the limits, repeats and those of a smaller total are
        dropped.
        """
        if not 1 <= number <= total <= MAX_FRAGMENTS:
            return None
        if key != self._key or total > self._total:
            # RFC 7383 2.6: a larger total means that the sender began anew with smaller fragments
            self._forget()
            self._key, self._total = key, total
        if total < self._total or number in self._pieces or self._size + len(piece) > MAX_MESSAGE:
            return None
        self._pieces[number] = piece
        self._size += len(piece)
        if number == 1:
            self._first_payload = first_payload
        if len(self._pieces) < self._total:
            return None
        whole = Whole(self._first_payload, b"".join(self._pieces[each] for each in range(1, self._total + 1)))
        self._forget()
        return whole
