"""The library's cipher contexts of the SAs used last: each takes as much memory as all the rest of an idle SA.

An SA that carries packets over datagrams has its context made when a packet needs it, and loses it again when
``MAX_CIPHERS`` others were needed since: the least recently used goes first.  A packet costs nothing for that: its SA
counts it, and whether an SA was used since it came into the queue is seen when it has come to the front.

One queue for all sockets of the process; each SA is used under its own socket's lock.  The queue needs none: threads
that meet in it find each single operation whole, and at worst keep one context more or less for a moment.  A context
that somebody uses when it is let go lives until then.  This module must not know what carries packets.
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


class Ciphers:
    """At most ``most`` SAs with a cipher that is ready.  For any thread."""

    def __init__(self, most: int = MAX_CIPHERS) -> None:
        self._most = most
        self._queue: deque[InboundSa | OutboundSa] = deque()

    def __len__(self) -> int:
        """SAs whose cipher is ready."""
        return len(self._queue)

    def make(self, sa: InboundSa | OutboundSa) -> EspCipher:
        """The cipher of an SA for a packet that is about to be counted."""
        cipher, queue = sa.cipher, self._queue
        sa.queued_at = sa.packets + 1
        queue.append(sa)
        while len(queue) > self._most:
            oldest = queue.popleft()
            if oldest.packets > oldest.queued_at:
                oldest.queued_at = oldest.packets  # used since then: to the end, once for all those packets
                queue.append(oldest)
            else:
                oldest.ready = None
        return cipher

    def drop(self, sa: InboundSa | OutboundSa) -> None:
        """The SA has ended, or is at rest."""
        if sa.ready is not None:
            sa.ready = None
            with contextlib.suppress(ValueError):  # made by somebody else, as a stream's is
                self._queue.remove(sa)


CIPHERS: Final = Ciphers()
