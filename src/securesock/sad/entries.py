"""Live SAs: a spec, its cipher, and the counts that are held against its limits.

An SA is asked for a successor (soft) at half of a limit and may do nothing more
(hard) at the limit.  Packets and bytes bind both directions; time binds the
sealing side only, because the opening side cannot know when the peer's packet was
sealed.  A packet may pass as long as the counts *before* it are under the limits,
so that both ends with the same limits agree on the last packet.

It knows nothing of IKE, of sockets and of who counts: the plane's loops write
``sequence`` and ``byte_count`` themselves, because a call per packet would cost more.
"""

from __future__ import annotations

from math import inf

from ..crypto.esp_cipher import EspCipher, make_esp_cipher
from ..wire.esp import MAX_SEQUENCE_32, MAX_SEQUENCE_64
from .spec import SaSpec

__all__ = ["InboundSa", "OutboundSa"]


class _LiveSa:
    """Counts and limits, the same in both directions.

    ``sequence`` is the last one used, so also the count of packets.  ``byte_count`` is the plaintext that the cipher
    was applied to, headers and padding included (RFC 4301 4.4.2.1).  The ``check_`` limits are the next ones to look
    at: the soft ones, and after ``ask_once`` the hard ones.
    """

    __slots__ = (
        "_cipher",
        "byte_count",
        "check_bytes",
        "check_packets",
        "check_time",
        "hard_bytes",
        "hard_packets",
        "hard_time",
        "sequence",
        "spec",
        "spi",
    )

    def __init__(self, spec: SaSpec, now: float) -> None:
        self.spec = spec
        self.spi = spec.spi
        self.sequence = 0
        self.byte_count = 0
        self._cipher: EspCipher | None = None
        lifetimes = spec.lifetimes
        last = MAX_SEQUENCE_64 if spec.suite.esn else MAX_SEQUENCE_32
        self.hard_packets = min(lifetimes.max_packets, last)
        self.hard_bytes = lifetimes.max_bytes
        self.hard_time = now + lifetimes.seconds
        self.check_packets = self.hard_packets // 2
        self.check_bytes = self.hard_bytes // 2
        self.check_time = now + lifetimes.seconds / 2

    @property
    def cipher(self) -> EspCipher:
        """Made on first use: an SA that carries nothing in one direction costs no key schedule there."""
        if self._cipher is None:
            self._cipher = make_esp_cipher(self.spec.suite, self.spec.keys)
        return self._cipher

    def due(self, now: float) -> bool:
        """Whether a limit that is to be looked at was reached: soft, then hard ones after ``ask_once``."""
        return self.sequence >= self.check_packets or self.byte_count >= self.check_bytes or now >= self.check_time

    def exhausted(self, now: float) -> bool:
        """Whether a hard limit was reached: not one packet more."""
        return self.sequence >= self.hard_packets or self.byte_count >= self.hard_bytes or now >= self.hard_time

    def ask_once(self) -> bool:
        """True the first time only: from then on ``due`` means the hard limits."""
        if self.check_packets == self.hard_packets and self.check_bytes == self.hard_bytes:
            return False
        self.check_packets, self.check_bytes, self.check_time = self.hard_packets, self.hard_bytes, self.hard_time
        return True


class OutboundSa(_LiveSa):
    """What we seal with."""

    __slots__ = ()


class InboundSa(_LiveSa):
    """What we open with.  ``retired``: the peer was seen to seal with another one since; nothing more may come."""

    __slots__ = ("retired",)

    def __init__(self, spec: SaSpec, now: float) -> None:
        super().__init__(spec, now)
        self.retired = False
        self.hard_time = self.check_time = inf  # time binds the sealing side only
