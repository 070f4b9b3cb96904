"""Message IDs of one IKE_SA: which request is answered, which answer is sent again, what is sent again unanswered.

RFC 7296 2.1 to 2.3 with a window of one: each side has at most one request of its own outstanding, answers requests
in the order
of their IDs, and keeps its last answer to send it again byte for byte.  Knows IDs, bytes and time; not what the
messages say.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MessageWindow"]

RETRANSMIT_FIRST_S: Final = 0.5
RETRANSMIT_GROWTH: Final = 1.8
RETRANSMIT_TRIES: Final = 7
"""0.5 s growing 1.8-fold: the last of 7 is sent after 20 s and given up after about 37 s (RFC 7296 2.4 wants minutes
at most)."""

LAST_MESSAGE_ID: Final = 0xFFFF_FFFF


class MessageWindow:
    """One IKE_SA's counters in both directions."""

    __slots__ = (
        "_deadline",
        "_delay_s",
        "_reply",
        "_request",
        "_retransmit",
        "_tries",
        "expected_request_id",
        "next_request_id",
    )

    def __init__(self, *, retransmit: bool, first_request_id: int = 0, expected_request_id: int = 0) -> None:
        self._retransmit = retransmit
        self.next_request_id = first_request_id
        self.expected_request_id = expected_request_id
        self._request: tuple[bytes, ...] | None = None
        self._reply: tuple[bytes, ...] = ()
        self._deadline: float | None = None
        self._delay_s = RETRANSMIT_FIRST_S
        self._tries = 0

    # our requests

    @property
    def awaiting_reply(self) -> bool:
        """Whether a request of ours is outstanding."""
        return self._request is not None

    @property
    def exhausted(self) -> bool:
        """No message ID is left: the IKE_SA must be closed (RFC 7296 2.2)."""
        return self.next_request_id > LAST_MESSAGE_ID

    def request_sent(self, datagrams: tuple[bytes, ...], now: float) -> None:
        """Our request went out under ``next_request_id``."""
        self._request = datagrams
        self._tries = 1
        self._delay_s = RETRANSMIT_FIRST_S
        self._deadline = now + self._delay_s if self._retransmit else None

    def is_awaited_reply(self, message_id: int) -> bool:
        """Whether a reply with this ID is the one that we wait for."""
        return self._request is not None and message_id == self.next_request_id

    def reply_received(self) -> None:
        """The awaited reply was authentic: its request is done."""
        self._request = None
        self._deadline = None
        self.next_request_id += 1

    def repeat_request_zero(self) -> None:
        """IKE_SA_INIT is asked again under the same ID after COOKIE or INVALID_KE_PAYLOAD (RFC 7296 2.2)."""
        self._request = None
        self._deadline = None

    # retransmission of our requests: only the requester retransmits (RFC 7296 2.1)

    @property
    def deadline(self) -> float | None:
        """When ``retransmission`` is due; None on a reliable carrier (RFC 9329 6)."""
        return self._deadline

    def retransmission(self, now: float) -> tuple[bytes, ...] | None:
        """What to send again now; empty when it is not due; None when the peer is given up."""
        if self._request is None or self._deadline is None or now < self._deadline:
            return ()
        if self._tries >= RETRANSMIT_TRIES:
            self._deadline = None
            return None
        self._tries += 1
        self._delay_s *= RETRANSMIT_GROWTH
        self._deadline = now + self._delay_s
        return self._request

    # the peer's requests

    def repeated(self, message_id: int) -> tuple[bytes, ...]:
        """The stored reply when this request is the last one once more, else empty."""
        return self._reply if self.expected_request_id and message_id == self.expected_request_id - 1 else ()

    def request_answered(self, reply: tuple[bytes, ...]) -> None:
        """The expected request was answered with ``reply``."""
        self._reply = reply
        self.expected_request_id += 1
