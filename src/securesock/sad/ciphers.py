"""The library's cipher contexts of the SAs used last: each takes as much memory as all the rest of an idle SA.

An SA that carries packets over datagrams has its context made when a packet needs it, and loses it again when there are
``MAX_CIPHERS`` and others are needed: the least recently used goes first.  A packet costs nothing for that: its SA
counts it, and whether one was used since it came into the queue is seen when it has come to the front.

Where very many SAs carry a packet now and then, nearly every context is used once, and those that are used again and
again shall not have to go for it.  So whoever can open one packet with a context for it alone looks whether that one is
worth keeping: there is room, or its SA carries more packets in a short time than chance gives (``soon_s``).

One queue for all sockets of the process; each SA is used under its own socket's lock.  The queue needs none: threads
that meet in it find each single operation whole, and at worst keep one context more or less for a moment.  A context
that somebody uses when it is let go lives until then.  This module must not know what carries packets.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import Final, Protocol

from ..crypto.esp_cipher import EspCipher
from .entries import InboundSa, OutboundSa

__all__ = ["CIPHERS", "MAX_CIPHERS", "SPAN", "CipherHolder", "Ciphers"]

MAX_CIPHERS: Final = 4096
"""10 MiB of contexts in a process."""
SPAN: Final = 1024
"""While so many contexts are made for one packet each, one in twenty thousand of a hundred thousand SAs used at random
carries three packets by chance."""


class CipherHolder(Protocol):
    """Who has a cipher."""

    @property
    def ready(self) -> object | None:
        """It, while it is kept."""
        ...

    def was_used(self) -> bool:
        """Whether it has used its cipher since this was asked the last time, or since it has one."""
        ...

    def let_go(self) -> None:
        """Have none any more.  Any thread calls this, so nothing else happens."""
        ...


class Ciphers:
    """At most ``most`` SAs with a cipher that is ready.  For any thread.

    ``soon_s``: how long it took to make the last ``SPAN`` for a packet alone, infinity while there is room.
    """

    def __init__(self, most: int = MAX_CIPHERS) -> None:
        self._most = most
        self._kept: OrderedDict[CipherHolder, None] = OrderedDict()
        self._made_once = 0
        self._measured_at = inf
        self._span_s = -inf
        self.soon_s = inf

    def __len__(self) -> int:
        """SAs whose cipher is ready."""
        return len(self._kept)

    def make(self, sa: InboundSa | OutboundSa) -> EspCipher:
        """The cipher of an SA for a packet that is about to be counted."""
        return self.keep(sa, sa.cipher)

    def keep(self, sa: InboundSa | OutboundSa, cipher: EspCipher) -> EspCipher:
        """The same, of one that was made for it."""
        sa.ready = cipher
        sa.queued_at = sa.packets + 1
        self.enqueue(sa)
        return cipher

    def enqueue(self, holder: CipherHolder) -> None:
        """It was given a cipher."""
        kept = self._kept
        kept[holder] = None
        while len(kept) > self._most:
            oldest, _ = kept.popitem(last=False)
            if oldest.was_used():
                kept[oldest] = None  # once for all its packets since then
            else:
                oldest.let_go()
            self.soon_s = self._span_s

    def drop(self, holder: CipherHolder) -> None:
        """The SA has ended, or is at rest."""
        if holder.ready is not None:
            holder.let_go()
            self._kept.pop(holder, None)  # it is not there where somebody else made the cipher
            self.soon_s = inf

    def note_once(self, now: float) -> None:
        """One was made for a packet alone, and not kept."""
        self._made_once += 1
        if not self._made_once % SPAN:
            self._span_s, self._measured_at = now - self._measured_at, now
            if self.soon_s < inf:
                self.soon_s = self._span_s


CIPHERS: Final = Ciphers()
