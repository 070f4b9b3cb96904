"""The library's cipher contexts of the SAs used last: each takes as much memory as all the rest of an idle SA.

An SA that carries packets over datagrams has its context made when a packet needs it, and loses it again when there are
``MAX_CIPHERS`` and others are needed: the least recently used goes first.  A packet costs nothing for that: its SA
counts it, and whether an SA was used since it came into the queue is seen when it has come to the front.

Where very many SAs carry a packet now and then, nearly every context is used once, and those that are used again and
again shall not have to go for it.  So whoever can open one packet without keeping its context looks first whether this
one is worth it: there is room, or one was made for it not long ago (``soon``), and perhaps not for the first time.

One queue for all sockets of the process; each SA is used under its own socket's lock.  The queue needs none: threads
that meet in it find each single operation whole, and at worst keep one context more or less for a moment.  A context
that somebody uses when it is let go lives until then.  This module must not know what carries packets.
"""

from __future__ import annotations

import contextlib
from collections import deque
from math import inf
from typing import Final

from ..crypto.esp_cipher import EspCipher
from .entries import InboundSa, OutboundSa

__all__ = ["CIPHERS", "MAX_CIPHERS", "Ciphers"]

MAX_CIPHERS: Final = 4096
"""10 MiB of contexts in a process."""
SOON_SHARE: Final = 4
"""Of one in so many as are kept: with a hundred thousand SAs used at random one in a hundred is needed soon by chance,
and one in ten thousand twice in succession."""


class Ciphers:
    """At most ``most`` SAs with a cipher that is ready.  For any thread.

    ``made``: how many were made, by anybody.  Who needs one again before ``soon`` others were made had better keep it.
    """

    def __init__(self, most: int = MAX_CIPHERS) -> None:
        self._most = most
        self._kept: deque[InboundSa | OutboundSa] = deque()
        self.made = 0
        self.soon = inf

    def __len__(self) -> int:
        """SAs whose cipher is ready."""
        return len(self._kept)

    def make(self, sa: InboundSa | OutboundSa) -> EspCipher:
        """The cipher of an SA for a packet that is about to be counted."""
        return self.keep(sa, sa.cipher)

    def keep(self, sa: InboundSa | OutboundSa, cipher: EspCipher) -> EspCipher:
        """The same, of one that was made for it."""
        self.made += 1
        sa.ready = cipher
        sa.queued_at = sa.packets + 1
        kept = self._kept
        kept.append(sa)
        while len(kept) > self._most:
            oldest = kept.popleft()
            if oldest.packets > oldest.queued_at:
                oldest.queued_at = oldest.packets  # used since then: to the end, once for all those packets
                kept.append(oldest)
            else:
                oldest.ready = None
            self.soon = self._most // SOON_SHARE
        return cipher

    def drop(self, sa: InboundSa | OutboundSa) -> None:
        """The SA has ended, or is at rest."""
        if sa.ready is not None:
            sa.ready = None
            with contextlib.suppress(ValueError):  # made by somebody else
                self._kept.remove(sa)
            self.soon = inf


CIPHERS: Final = Ciphers()
