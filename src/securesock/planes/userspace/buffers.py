"""The pool of large buffers that calls borrow, so that an idle connection owns none.

A buffer is taken when a call has bytes to move and given back when they are gone.
The pool keeps a few free ones for the whole process: they stay warm in the cache,
and the rest goes back to the allocator.  It needs no lock, because list.append and
list.pop are atomic, and so it needs nothing after fork.
"""

from __future__ import annotations

from typing import Final

__all__ = ["BUFFERS", "BUFFER_SIZE", "BufferPool"]

BUFFER_SIZE: Final = 1 << 20
"""What one read of the carrier takes at most: measured, half of it costs bulk a tenth more in system calls and waits,
and twice as much gains nothing."""
KEPT_FREE: Final = 8
"""Free buffers kept for the process: a sealing and an opening one for each of a few busy threads."""


class BufferPool:
    """Writable byte views of one size."""

    __slots__ = ("_free", "_kept", "size")

    def __init__(self, size: int = BUFFER_SIZE, kept: int = KEPT_FREE) -> None:
        self.size = size
        self._kept = kept
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        """A view of ``size`` bytes that is the caller's until ``give``; its content is arbitrary."""
        try:
            return self._free.pop()
        except IndexError:
            return memoryview(bytearray(self.size))

    def give(self, buffer: memoryview) -> None:
        """Have it back; the caller keeps no slice of it."""
        if len(self._free) < self._kept:
            self._free.append(buffer)


BUFFERS: Final = BufferPool()
"""The process's pool."""
