"""Reassembly of IKE fragments (RFC 7383): authentic pieces of one message, bounded in number, size and time.

Holds one message of one direction at a time, since the window is one.  A piece is handed in only after its ICV was
verified (RFC 7383 2.6).
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["MAX_BEFORE_AUTHENTICATION", "MAX_MESSAGE", "Reassembly", "Whole"]

MAX_FRAGMENTS: Final = 64
"""64 pieces of at least 500 bytes hold any chain that a certificate authority issues; RFC 7383 2.6 asks for a limit."""

MAX_MESSAGE: Final = 65535
"""As large as an unfragmented message can be (UDP)."""

MAX_BEFORE_AUTHENTICATION: Final = 16384
"""Semantics "Limits against strangers": whoever has not proven itself makes us keep no more than that; an IKE_AUTH with
four RSA-4096 certificates takes half of it."""

REASSEMBLY_S: Final = 130.0
"""RFC 7383 2.6: about as long as we would retransmit a request of ours (message_window: 129 s)."""


class Whole(NamedTuple):
    """A message that is complete: type of its first payload, and the payloads' bytes."""

    first_payload: int
    inner: bytes


class Reassembly:
    """The pieces of the request, or of the reply, that is coming in.

    ``dropped``: the counted reason why the last piece was not taken, empty when it was.
    """

    __slots__ = ("_first_payload", "_message_id", "_pieces", "_size", "_total", "_until", "dropped")

    def __init__(self) -> None:
        self.dropped = ""
        self._begin(-1, 0, 0.0)

    def _begin(self, message_id: int, total: int, until: float) -> None:
        self._message_id = message_id
        self._total = total
        self._until = until
        self._pieces: dict[int, bytes] = {}
        self._size = 0
        self._first_payload = 0

    def add(
        self,
        message_id: int,
        number: int,
        total: int,
        first_payload: int,
        piece: bytes,
        now: float,
        limit: int = MAX_MESSAGE,
    ) -> Whole | None:
        """Take one authentic piece; the message, of at most ``limit`` bytes, when it was the last missing one.

        Pieces beyond the limits, repeats and those of a smaller total are dropped.
        """
        self.dropped = ""
        if not 1 <= number <= total <= MAX_FRAGMENTS:
            self.dropped = "impossible-fragment"
            return None
        if message_id != self._message_id or total > self._total or now >= self._until:
            # RFC 7383 2.6: a larger total means that the sender began anew with smaller fragments
            self._begin(message_id, total, now + REASSEMBLY_S)
        if total < self._total:
            self.dropped = "fragment-of-smaller-total"
        elif number in self._pieces:
            self.dropped = "repeated-fragment"
        elif self._size + len(piece) > limit:
            self.dropped = "fragments-too-large"
        if self.dropped:
            return None
        self._pieces[number] = piece
        self._size += len(piece)
        if number == 1:
            self._first_payload = first_payload
        if len(self._pieces) < self._total:
            return None
        whole = Whole(self._first_payload, b"".join(self._pieces[each] for each in range(1, self._total + 1)))
        self._begin(-1, 0, 0.0)
        return whole
