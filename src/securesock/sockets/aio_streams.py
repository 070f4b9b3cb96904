"""asyncio's streams over a secured connection.

They are asyncio's own, but for one promise: a reader delivers what was proven and then raises what ended the stream.
asyncio's StreamReader raises first and forgets what it holds, and an end without the peer's authenticated end must
never look like one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio.streams import _ReaduntilBuffer

__all__ = ["ProvenStreamReader"]


class ProvenStreamReader(asyncio.StreamReader):
    """As asyncio.StreamReader; an error of the connection is raised when all that came before it was read.

    Where a call could not get as much as it asked for, the asyncio.IncompleteReadError with the bytes that it did get
    is the cause (``__cause__``) of what is raised.
    """

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit, loop)
        self._broken: Exception | None = None

    def exception(self) -> Exception | None:
        """What ended the connection, as soon as that is known (StreamWriter.drain raises it)."""
        return self._broken

    def set_exception(self, exc: Exception) -> None:
        """The connection ended by an error."""
        if self._broken is None:
            self._broken = exc
            self.feed_eof()

    def at_eof(self) -> bool:
        """Whether all was read and the end is the peer's own."""
        return super().at_eof() and self._broken is None

    async def read(self, n: int = -1) -> bytes:
        """See asyncio.StreamReader.read; b"" only at the peer's authenticated end."""
        data = await super().read(n)
        if not data and n != 0 and self._broken is not None:
            raise self._broken
        return data

    async def readexactly(self, n: int) -> bytes:
        """See asyncio.StreamReader.readexactly."""
        try:
            return await super().readexactly(n)
        except asyncio.IncompleteReadError as incomplete:
            if self._broken is not None:
                raise self._broken from incomplete
            raise

    async def readuntil(self, separator: _ReaduntilBuffer = b"\n") -> bytes:
        """See asyncio.StreamReader.readuntil; readline is made of it."""
        try:
            return await super().readuntil(separator)
        except asyncio.IncompleteReadError as incomplete:
            if self._broken is not None:
                raise self._broken from incomplete
            raise
