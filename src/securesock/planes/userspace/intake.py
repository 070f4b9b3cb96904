"""Where the carrier's bytes stand between arriving and being read: one borrowed buffer, opened in place.

    | opened and unread, in spans | not opened yet | room for more |

The buffer comes from the pool when bytes are to arrive and goes back when the call
ends.  What is left then is kept in exact size: the front part of a frame, and a little
unread data.  It knows nothing of frames, keys or states; who uses it holds the read lock.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ...wire.tcp_encapsulation import MAX_FRAME
from .buffers import BufferPool

__all__ = ["Intake"]

MAX_UNREAD: Final = 1 << 20
"""Bytes kept for an application that does not read while we look for IKE messages, as a kernel's buffer is bounded."""
SMALL_UNREAD: Final = 16384
"""Up to this much is copied out so that the pool's buffer is free again; more is worth a buffer."""


class Intake:
    """``buffer[start:filled]`` is not opened yet; ``spans`` are opened bytes in order, ``unread`` their sum.

    ``kept``: whether anything was left, opened or not, when a call ended (``release``), or a call is under way.
    """

    __slots__ = ("_partial", "_pool", "buffer", "filled", "kept", "spans", "start", "unread")

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self._partial = b""
        self.buffer: memoryview | None = None
        self.start = 0
        self.filled = 0
        self.spans: deque[memoryview] = deque()
        self.unread = 0
        self.kept = False

    # arriving

    def room(self, max_frame: int) -> memoryview:
        """Where the carrier's next bytes go.

        Never so much that more than ``max_frame`` bytes of a stranger, or MAX_UNREAD bytes of the peer, would be kept.
        """
        buffer = self.buffer
        self.kept = True
        if buffer is None:
            buffer = self.buffer = self._pool.take()
            self.start, self.filled = 0, len(self._partial)
            buffer[: self.filled] = self._partial
            self._partial = b""
        elif len(buffer) - self.start < MAX_FRAME:
            self._compact(buffer)
        pending = self.filled - self.start
        bound = max_frame - pending if max_frame < MAX_FRAME else MAX_UNREAD - self.unread - pending
        return buffer[self.filled : max(self.filled, min(len(buffer), self.filled + bound))]

    def full(self) -> bool:
        """Whether as much is kept as may be: ``room`` would be empty."""
        if self.unread <= MAX_UNREAD - MAX_FRAME:
            return False
        pending = len(self._partial) if self.buffer is None else self.filled - self.start
        return self.unread + pending >= MAX_UNREAD

    def release(self) -> None:
        """Give the buffer back, unless much unread data is in it."""
        buffer = self.buffer
        if buffer is not None and self.unread <= SMALL_UNREAD:
            self._move_out()
            self._partial = buffer[self.start : self.filled].tobytes()
            self.buffer = None
            self._pool.give(buffer)
        self.kept = self.unread > 0 or self._partial != b""

    def _compact(self, buffer: memoryview) -> None:
        self._move_out()
        pending = self.filled - self.start
        buffer[:pending] = buffer[self.start : self.filled]
        self.start, self.filled = 0, pending

    def _move_out(self) -> None:
        """Unread bytes leave the buffer."""
        if self.spans:
            kept = memoryview(b"".join(self.spans))
            self.spans.clear()
            self.spans.append(kept)

    def discard(self) -> None:
        """Forget what was not opened; what was stays readable."""
        self.start = self.filled
        self._partial = b""

    # reading

    def read_into(self, target: memoryview, *, peek: bool = False) -> int:
        """Copy unread bytes to the front of ``target``; how many."""
        copied, room = 0, len(target)
        if peek:
            for part in self._front(room):
                target[copied : copied + len(part)] = part
                copied += len(part)
            return copied
        spans = self.spans
        while spans and copied < room:
            span = spans[0]
            size = min(len(span), room - copied)
            if size == len(span):
                target[copied : copied + size] = spans.popleft()
            else:
                target[copied:] = span[:size]
                spans[0] = span[size:]
            copied += size
        self.unread -= copied
        return copied

    def read(self, limit: int, *, peek: bool = False) -> bytes:
        """At most ``limit`` unread bytes."""
        data = b"".join(self._front(limit))
        if not peek:
            self._consume(len(data))
        return data

    def _front(self, limit: int) -> list[memoryview]:
        parts: list[memoryview] = []
        for span in self.spans:
            if limit <= 0:
                break
            parts.append(span[:limit])
            limit -= len(parts[-1])
        return parts

    def _consume(self, count: int) -> None:
        self.unread -= count
        spans = self.spans
        while count:
            span = spans[0]
            if len(span) > count:
                spans[0] = span[count:]
                return
            count -= len(span)
            spans.popleft()
