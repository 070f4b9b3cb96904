"""Which packets of an inbound SA were seen, on carriers that lose, reorder and repeat (RFC 4303 3.4.3 and appendix A).

Two steps, because only an authentic packet may move the window: ``infer`` turns the 32
bits on the wire into the number to open the packet with, or says that the packet is a
repeat or too old; ``commit`` marks it once it has opened.

The window is one int used as a bitmap.  Packets that come in turn only move ``top``: the bitmap follows when one does
not.  An ordered carrier needs none of this: there the next packet is the last plus one.
"""

from __future__ import annotations

from typing import Final

from ..wire.esp import MAX_SEQUENCE_32, MAX_SEQUENCE_64

__all__ = ["WINDOW_SIZE", "ReplayWindow"]

WINDOW_SIZE: Final = 1024
"""RFC 4303 3.4.3 asks for 32 and prefers 64; batches of 44 packets that overtake each other want room for many."""


class ReplayWindow:
    """``top`` is the highest number committed; 0 before the first.

    Whoever has opened the packet with the very next number, ``top + 1``, may write that to ``top`` instead of calling
    ``commit``: the fast path of nearly every packet.
    """

    __slots__ = ("_esn", "_newest", "_seen", "_size", "top")

    def __init__(self, *, esn: bool, size: int = WINDOW_SIZE) -> None:
        self._esn = esn
        self._size = size
        self._seen = 0  # bit n stands for _newest - n
        self._newest = 0
        self.top = 0

    @property
    def has_gaps(self) -> bool:
        """Whether a number that is not too old was not seen."""
        self._follow()
        return self._seen != (1 << min(self.top, self._size)) - 1

    def infer(self, low: int) -> int | None:
        """The whole sequence number of a packet that carries ``low``; None for a repeat, or one left of the window."""
        sequence = self._nearest(low) if self._esn else low
        if sequence <= 0 or sequence > (MAX_SEQUENCE_64 if self._esn else MAX_SEQUENCE_32):
            return None
        self._follow()
        age = self.top - sequence
        if age >= 0 and (age >= self._size or self._seen >> age & 1):
            return None
        return sequence

    def commit(self, sequence: int) -> None:
        """The packet with this number was authentic."""
        self._follow()
        age = self.top - sequence
        if age < 0:
            self._seen = (self._seen << -age | 1) & ((1 << self._size) - 1) if -age < self._size else 1
            self.top = self._newest = sequence
        else:
            self._seen |= 1 << age

    def _follow(self) -> None:
        """All between the newest in the bitmap and ``top`` came in turn."""
        count = min(self.top - self._newest, self._size)
        if count:
            self._seen = (self._seen << count | (1 << count) - 1) & ((1 << self._size) - 1)
            self._newest = self.top

    def _nearest(self, low: int) -> int:
        """RFC 4303 A2.2: the number with these low 32 bits that is not left of the window, and the least of those."""
        edge = self.top - self._size + 1
        return edge + ((low - edge) & MAX_SEQUENCE_32)
