"""The library's cipher contexts of the SAs used last: each takes as much memory as all the rest of an idle SA.

An SA that carries packets over datagrams has its context made when a packet needs it, and loses it again when there are
``MAX_CIPHERS`` and others are needed: the least recently used goes first.  A packet costs nothing for that: its SA
counts it, and whether an SA was used since it came into a queue is seen when it has come to the front.

Two queues: where very many SAs carry a packet now and then, nearly every context is used once, and those that are used
again and again shall not have to go for it.  So a new one is young until some others were made, and once there is no
room any more it goes then; it is still in the processor's cache, and costs half of what an old one costs to let go of.
One that was used again, or is needed again so soon that it would still have been there had all stayed alike, takes the
place of the least recently used of the old.

One pair of queues for all sockets of the process; each SA is used under its own socket's lock.  The queues need none:
threads that meet in them find each single operation whole, and at worst keep one context more or less for a moment.  A
context that somebody uses when it is let go lives until then.  This module must not know what carries packets.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Final

from ..crypto.esp_cipher import EspCipher
from .entries import InboundSa, OutboundSa

__all__ = ["CIPHERS", "Ciphers"]

MAX_CIPHERS: Final = 4096
"""10 MiB of contexts in a process."""
YOUNG_SHARE: Final = 64
"""One in so many is young: the 64 of them take 150 KiB, so that each next one is made of memory that is at hand."""


class Ciphers:
    """At most ``most`` SAs with a cipher that is ready.  For any thread."""

    def __init__(self, most: int = MAX_CIPHERS) -> None:
        self._most = most
        self._most_young = most // YOUNG_SHARE
        self._young: deque[InboundSa | OutboundSa] = deque()
        self._old: deque[InboundSa | OutboundSa] = deque()
        self._full = False  # who is young and was not used again has to go
        self._made = 0

    def __len__(self) -> int:
        """SAs whose cipher is ready."""
        return len(self._young) + len(self._old)

    def make(self, sa: InboundSa | OutboundSa) -> EspCipher:
        """The cipher of an SA for a packet that is about to be counted."""
        return self.keep(sa, sa.cipher)

    def keep(self, sa: InboundSa | OutboundSa, cipher: EspCipher) -> EspCipher:
        """The same, of one that was made for it."""
        self._made += 1
        sa.ready = cipher
        if sa.queued_at < 0 and self._made + sa.queued_at < self._most:
            self._grow_old(sa)
            return cipher
        young = self._young
        sa.queued_at = sa.packets + 1
        young.append(sa)
        if len(young) > self._most_young:
            oldest = young.popleft()
            if self._full and oldest.packets <= oldest.queued_at:
                oldest.ready = None
                oldest.queued_at = -self._made
            else:
                self._grow_old(oldest)
        return cipher

    def _grow_old(self, sa: InboundSa | OutboundSa) -> None:
        """It stays until it is the least recently used of those that do."""
        old = self._old
        sa.queued_at = max(sa.packets, sa.queued_at)
        old.append(sa)
        while len(self) > self._most and old:
            oldest = old.popleft()
            if oldest.packets > oldest.queued_at:
                oldest.queued_at = oldest.packets  # used since then: to the end, once for all those packets
                old.append(oldest)
            else:
                oldest.ready = None
                oldest.queued_at = -self._made
        self._full = len(self) >= self._most and self._most_young > 0

    def drop(self, sa: InboundSa | OutboundSa) -> None:
        """The SA has ended, or is at rest."""
        if sa.ready is not None:
            sa.ready = None
            self._full = False
            for queue in (self._young, self._old):
                with contextlib.suppress(ValueError):  # in the other one, or in none, made by somebody else
                    queue.remove(sa)


CIPHERS: Final = Ciphers()
