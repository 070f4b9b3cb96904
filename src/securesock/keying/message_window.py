"""Message IDs of one IKE_SA: which request is answered, which answer is sent again, what is sent again unanswered.

RFC 7296 2.1 to 2.3 with a window of one: each side has at most one request of its own outstanding, answers requests
in the order
of their IDs, and keeps its last answer to send it again byte for byte.  Knows IDs, bytes and time; not what the
messages say.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

__all__ = ["MessageWindow"]

RETRANSMIT_FIRST_S: Final = 0.5
RETRANSMIT_GROWTH: Final = 1.5
RETRANSMIT_TRIES: Final = 12
"""RFC 7296 2.4: at least a dozen times over at least several minutes; 0.5 s growing 1.5-fold is given up after 129 s.
A socket's own timeout ends a negotiation long before."""


class MessageWindow:
    """One IKE_SA's counters in both directions."""

    __slots__ = (
        "_deadline",
        "_delay_s",
        "_reply",
        "_reply_in_auth",
        "_request",
        "_request_digest",
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
        self._reply_in_auth = False
        self._request_digest = b""
        self._deadline: float | None = None
        self._delay_s = RETRANSMIT_FIRST_S
        self._tries = 0

    # our requests

    @property
    def awaiting_reply(self) -> bool:
        """Whether a request of ours is outstanding."""
        return self._request is not None

    def request_sent(self, datagrams: tuple[bytes, ...], now: float) -> None:
        """Our request went out under ``next_request_id``."""
        self._request = datagrams
        self._tries = 1
        self._delay_s = RETRANSMIT_FIRST_S
        self._deadline = now + self._delay_s if self._retransmit else None

    @property
    def tries(self) -> int:
        """How often the outstanding request was sent."""
        return self._tries

    @property
    def outstanding(self) -> tuple[bytes, ...]:
        """The request that is outstanding, empty when there is none."""
        return self._request or ()

    def is_awaited_reply(self, message_id: int) -> bool:
        """Whether a reply with this ID is the one that we wait for."""
        return self._request is not None and message_id == self.next_request_id

    def reply_received(self) -> None:
        """The awaited reply was authentic: its request is done."""
        self._request = None
        self._deadline = None
        self.next_request_id += 1

    def give_up(self) -> None:
        """Our request, if one is outstanding, is not worth waiting for any more."""
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

    def request_opened(self, datagram: bytes) -> None:
        """The first (or only) datagram of the expected request proved authentic: how a repeat will be known."""
        self._request_digest = hashlib.sha256(datagram).digest()

    def repeated(self, message_id: int, datagram: bytes) -> tuple[bytes, ...]:
        """The stored reply when this is the first datagram of the last request once more, else empty.

        Known by its bytes, not by opening it: IKE_INTERMEDIATE has changed the keys since (RFC 9242 3.3.1).  Of a
        fragmented
        request only the first fragment is answered (RFC 7383 2.6.1).
        """
        if not self.expected_request_id or message_id != self.expected_request_id - 1:
            return ()
        same = hmac.compare_digest(hashlib.sha256(datagram).digest(), self._request_digest)
        return self._reply if same else ()

    def request_answered(self, reply: tuple[bytes, ...], *, in_auth: bool = False) -> None:
        """The expected request was answered with ``reply``; ``in_auth``: in IKE_AUTH."""
        self._reply = reply
        self._reply_in_auth = in_auth
        self.expected_request_id += 1

    def traffic_came(self) -> None:
        """The peer uses the CHILD_SA of IKE_AUTH, whose reply it has read, then: nobody will ask for it again."""
        if self._reply_in_auth:
            self._reply, self._request_digest = (), b""
