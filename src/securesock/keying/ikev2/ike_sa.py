"""One IKE_SA: its SPIs, keys and message window, and the Encrypted payload in both directions.

RFC 7296 3.14 (Encrypted payload), RFC 5282 (AEAD), RFC 7383 (fragments on datagram carriers).  Knows how to seal and
open
messages; not what they say nor who is on the other end.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ...crypto.kdf import IkeKeys
from ...crypto.message_protection import MessageProtection
from ...crypto.suites import IkeSuite
from ...entropy import Entropy
from ...wire.ikev2.message import Encrypted, write_payloads, write_sk_prefix, write_skf_prefix
from ...wire.ikev2.payloads import Payload
from ...wire.isakmp import HEADER_LENGTH
from ...wire.numbers import HeaderFlag
from ..message_window import MessageWindow
from .attempts import Attempt
from .fragments import MAX_MESSAGE, Reassembly, Whole

if TYPE_CHECKING:
    from .core import Exchange, RequestState
    from .followup import PendingFollowup

__all__ = ["IkeSa"]

MAX_DATAGRAM: Final = 1228
"""Largest IKE message that goes unfragmented where fragments are agreed on, and largest fragment: 1280 (IPv6's minimum
MTU, RFC 7383 2.5.1) less 40 of IPv6, 8 of UDP and 4 of the non-ESP marker."""

_BEFORE_SK_BODY: Final = HEADER_LENGTH + 4
_BEFORE_SKF_BODY: Final = HEADER_LENGTH + 8


class IkeSa:
    """State of one IKE_SA.  ``initiator`` is whether we are its original initiator (RFC 7296 3.1)."""

    __slots__ = (
        "_entropy",
        "_opener",
        "_reply_pieces",
        "_request_pieces",
        "_sealer",
        "abandon_at",
        "attempts",
        "awaiting",
        "awaiting_exchange",
        "closing",
        "expecting",
        "followups",
        "forget_at",
        "fragment_dropped",
        "fragmentation",
        "has_keys",
        "initiator",
        "keys",
        "our_spi",
        "peer_spi",
        "put_off_since",
        "refused",
        "rekey_at",
        "rekey_wanted",
        "replaced",
        "suite",
        "uses_ppk",
        "window",
    )

    def __init__(
        self,
        *,
        initiator: bool,
        our_spi: bytes,
        peer_spi: bytes,
        entropy: Entropy,
        expecting: RequestState,
        retransmit: bool,
        first_message_id: int = 0,
    ) -> None:
        self.initiator = initiator
        self.our_spi = our_spi
        self.peer_spi = peer_spi
        self.window = MessageWindow(
            retransmit=retransmit, first_request_id=first_message_id, expected_request_id=first_message_id
        )
        self.expecting = expecting
        self.awaiting: Exchange | None = None
        self.awaiting_exchange = 0
        self.closing = False
        self.replaced = False
        self.refused = False
        self.put_off_since = math.inf
        self.rekey_at = math.inf
        self.forget_at = self.abandon_at = math.inf
        self.rekey_wanted = False
        self.attempts: list[Attempt[IkeSa]] = []
        self.followups: dict[bytes, PendingFollowup] = {}
        self.fragmentation = False
        self.fragment_dropped = ""
        self.has_keys = False
        self.uses_ppk = False
        self._request_pieces = Reassembly()
        self._reply_pieces = Reassembly()
        self._entropy = entropy

    @property
    def initiator_spi(self) -> bytes:
        """SPIi, 8 bytes."""
        return self.our_spi if self.initiator else self.peer_spi

    @property
    def responder_spi(self) -> bytes:
        """SPIr, 8 bytes."""
        return self.peer_spi if self.initiator else self.our_spi

    @property
    def may_rekey(self) -> bool:
        """Whether we may begin replacing it: nobody is at it, did it, or refused it for good."""
        return not (self.attempts or self.replaced or self.refused or self.closing)

    @property
    def sa_id(self) -> int:
        """Main mode SA id: our 64-bit SPI, which is random and ours alone."""
        return int.from_bytes(self.our_spi, "big")

    @property
    def our_sk_p(self) -> bytes:
        """SK_pi or SK_pr, whichever is ours."""
        return self.keys.sk_pi if self.initiator else self.keys.sk_pr

    @property
    def peer_sk_p(self) -> bytes:
        """SK_pi or SK_pr, whichever is the peer's."""
        return self.keys.sk_pr if self.initiator else self.keys.sk_pi

    def use_keys(self, suite: IkeSuite, keys: IkeKeys) -> None:
        """Seal and open with these from now on (IKE_SA_INIT, and again after each IKE_INTERMEDIATE)."""
        self.has_keys = True
        self.suite = suite
        self.keys = keys
        towards_responder = MessageProtection(suite, keys.sk_ei, keys.sk_ai)
        towards_initiator = MessageProtection(suite, keys.sk_er, keys.sk_ar)
        self._sealer, self._opener = (
            (towards_responder, towards_initiator) if self.initiator else (towards_initiator, towards_responder)
        )

    def prove_with(self, keys: IkeKeys) -> None:
        """What AUTH was over holds from now on: SK_d and SK_p, with a PPK in them or without (RFC 8784 3)."""
        self.uses_ppk = keys.sk_d != self.keys.sk_d
        self.keys = keys

    def seal(
        self, exchange_type: int, message_id: int, payloads: tuple[Payload, ...], *, response: bool
    ) -> tuple[bytes, ...]:
        """The datagrams of one protected message: one, or several fragments."""
        first_payload, inner = write_payloads(payloads)
        flags = (HeaderFlag.INITIATOR if self.initiator else 0) | (HeaderFlag.RESPONSE if response else 0)
        head = (self.initiator_spi, self.responder_spi, exchange_type, flags, message_id)
        if self.fragmentation and len(inner) > self._sealer.room(MAX_DATAGRAM - _BEFORE_SK_BODY):
            return self._seal_fragments(head, first_payload, inner)
        padded = self._sealer.pad(inner)
        prefix = write_sk_prefix(*head, first_payload, len(padded) + self._sealer.overhead)
        return (self._seal(prefix, padded),)

    def _seal_fragments(
        self, head: tuple[bytes, bytes, int, int, int], first_payload: int, inner: bytes
    ) -> tuple[bytes, ...]:
        room = self._sealer.room(MAX_DATAGRAM - _BEFORE_SKF_BODY)
        total = -(-len(inner) // room)
        datagrams = []
        for number in range(1, total + 1):
            padded = self._sealer.pad(inner[(number - 1) * room : number * room])
            prefix = write_skf_prefix(*head, first_payload, len(padded) + self._sealer.overhead, number, total)
            datagrams.append(self._seal(prefix, padded))
        return tuple(datagrams)

    def _seal(self, prefix: bytes, padded: bytes) -> bytes:
        return prefix + self._sealer.seal(padded, prefix, self._sealer.make_iv(self._entropy))

    def open(self, encrypted: Encrypted, datagram: bytes) -> bytes:
        """The inner payloads of an SK, or the piece in an SKF.

        InvalidTag: not authentic.  WireError: authentic, and yet malformed.
        """
        offset = encrypted.offset
        return self._opener.unpad(self._opener.open(datagram[offset:], datagram[:offset]))

    def reassemble(
        self,
        is_reply: bool,
        message_id: int,
        encrypted: Encrypted,
        piece: bytes,
        now: float,
        limit: int = MAX_MESSAGE,
    ) -> Whole | None:
        """Take an authentic fragment; the message once it is complete.  ``fragment_dropped`` says why it was not taken.

        Both directions may be coming in at once.
        """
        pieces = self._reply_pieces if is_reply else self._request_pieces
        number, total = encrypted.fragment_number, encrypted.total_fragments
        whole = pieces.add(message_id, number, total, encrypted.first_payload, piece, now, limit)
        self.fragment_dropped = pieces.dropped
        return whole
