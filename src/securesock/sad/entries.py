"""Live SAs: a spec, its cipher, and the counts that are held against its limits.

An SA is asked for a successor (soft) at a share of a limit and may do nothing more
(hard) at the limit.  Packets and bytes bind both directions; time binds the
sealing side only, because the opening side cannot know when the peer's packet was
sealed.  The sealing side asks at half of a limit.  The opening side, which counts the
same packets, asks at three quarters: it comes into play only when the peer's own
limits are wider, and two ends with the same limits do not ask at the same moment.

A packet may pass as long as the counts *before* it are under the limits, so that both
ends with the same limits agree on the last packet.

It knows nothing of IKE, of sockets and of who counts: the plane's loops write
``packets`` and ``byte_count`` themselves, because a call per packet would cost more.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf
from typing import Final

from ..crypto.esp_cipher import EspCipher, make_esp_cipher
from ..types import Lifetimes
from ..wire.esp import MAX_SEQUENCE_32, MAX_SEQUENCE_64
from .spec import SaSpec

__all__ = ["OPENING_SHARE", "SEALING_SHARE", "InboundSa", "Limits", "OutboundSa"]

SEALING_SHARE: Final = 0.5
OPENING_SHARE: Final = 0.75


@lru_cache(maxsize=64)
def _numbers(lifetimes: Lifetimes, share: float) -> tuple[int, int, int, int]:
    """Hard and soft packets and bytes: the same objects for all SAs of a policy, which may be very many."""
    soft = int(lifetimes.max_packets * share), int(lifetimes.max_bytes * share)
    return lifetimes.max_packets, lifetimes.max_bytes, *soft


@lru_cache(maxsize=64)
def _within_numbers(lifetimes: Lifetimes, esn: bool) -> Lifetimes:
    """A sequence number never cycles (RFC 4303 3.3.3)."""
    last = MAX_SEQUENCE_64 if esn else MAX_SEQUENCE_32
    return lifetimes._replace(max_packets=min(lifetimes.max_packets, last))


class Limits:
    """When to ask for new keys and when to stop: packets, bytes of application data, monotonic seconds.

    Packets and bytes are totals that somebody else counts; the limits are reckoned from where these stood at the
    beginning.  ``check_packets``, ``check_bytes`` and ``check_time`` are the limits to look at next: the soft ones, and
    after ``ask_once`` the hard ones.  A loop may compare them itself.
    """

    __slots__ = (
        "asked",
        "check_bytes",
        "check_packets",
        "check_time",
        "hard_bytes",
        "hard_packets",
        "hard_time",
    )

    def __init__(
        self, lifetimes: Lifetimes, now: float, share: float = SEALING_SHARE, packets: int = 0, byte_count: int = 0
    ) -> None:
        self.asked = 0
        numbers = _numbers(lifetimes, share)
        if packets or byte_count:
            numbers = numbers[0] + packets, numbers[1] + byte_count, numbers[2] + packets, numbers[3] + byte_count
        self.hard_packets, self.hard_bytes, self.check_packets, self.check_bytes = numbers
        self.hard_time = now + lifetimes.seconds
        self.check_time = now + lifetimes.seconds * share

    def due_at(self, packets: int, byte_count: int, now: float) -> bool:
        """Whether a limit to look at next was reached."""
        return packets >= self.check_packets or byte_count >= self.check_bytes or now >= self.check_time

    def exhausted_at(self, packets: int, byte_count: int, now: float) -> bool:
        """Whether a hard limit was reached: not one packet more."""
        return packets >= self.hard_packets or byte_count >= self.hard_bytes or now >= self.hard_time

    def ask_once(self) -> bool:
        """True the first time only: from then on ``due`` means the hard limits."""
        if self.asked:
            return False
        self.asked = 1
        self.check_packets, self.check_bytes, self.check_time = self.hard_packets, self.hard_bytes, self.hard_time
        return True

    def ask_again(self) -> bool:
        """True once more, at a hard limit that no successor came before."""
        self.asked += 1
        return self.asked == 2


class _LiveSa(Limits):
    """One direction of an SA.

    ``packets`` is also the last sequence number used, because they count from 1.  ``ready`` is the cipher where it was
    made already: a loop looks there first.  ``queued_at``: how many packets there were when it came to the end of the
    queue of those whose cipher is kept (ciphers).
    """

    __slots__ = ("byte_count", "packets", "queued_at", "ready", "spec", "spi")

    def __init__(self, spec: SaSpec, now: float, share: float) -> None:
        super().__init__(_within_numbers(spec.lifetimes, spec.suite.esn), now, share)
        self.packets = 0
        self.byte_count = self.queued_at = 0
        self.spec = spec
        self.spi = spec.spi
        self.ready: EspCipher | None = None

    def was_used(self) -> bool:
        """See ciphers.CipherHolder."""
        used = self.packets > self.queued_at
        self.queued_at = self.packets
        return used

    def let_go(self) -> None:
        """See ciphers.CipherHolder."""
        self.ready = None

    def due(self, now: float) -> bool:
        """Whether a limit to look at next was reached."""
        return self.due_at(self.packets, self.byte_count, now)

    def exhausted(self, now: float) -> bool:
        """Whether a hard limit was reached: not one packet more."""
        return self.exhausted_at(self.packets, self.byte_count, now)

    @property
    def cipher(self) -> EspCipher:
        """Made on first use: an SA that carries nothing in one direction costs no key schedule there."""
        if self.ready is None:
            self.ready = make_esp_cipher(self.spec.suite, self.spec.keys)
        return self.ready


class OutboundSa(_LiveSa):
    """What we seal with."""

    __slots__ = ()

    def __init__(self, spec: SaSpec, now: float) -> None:
        super().__init__(spec, now, SEALING_SHARE)


class InboundSa(_LiveSa):
    """What we open with.  ``retired``: the peer was seen to seal with another one since; nothing more may come."""

    __slots__ = ("retired",)

    def __init__(self, spec: SaSpec, now: float) -> None:
        super().__init__(spec, now, OPENING_SHARE)
        self.retired = False
        self.hard_time = self.check_time = inf
