"""The streams of ss.aio: asyncio's, but that an end is an end only if somebody meant it.

The reader delivers what was proven and then raises what ended the stream; asyncio's raises first and forgets what it
holds, and takes no care that a broken stream never looks like one that ended.  And it hands large pieces on as they
came, where asyncio's copies each byte three times more.  It stands on the public methods of asyncio.StreamReader alone,
all of which are here; it is a subclass because StreamWriter and applications ask for one.

Where asyncio closes a connection that nobody closed, because its writer was forgotten or its handler failed, ours is
aborted: the peer must not take half an answer for a whole one.
"""

from __future__ import annotations

import asyncio
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Final, NoReturn, SupportsIndex, TypeAlias

if TYPE_CHECKING:
    from asyncio.streams import _ReaduntilBuffer

__all__ = ["DEFAULT_LIMIT", "ClientConnected", "ProvenStreamProtocol", "ProvenStreamReader", "ProvenStreamWriter"]

ClientConnected: TypeAlias = Callable[
    [asyncio.StreamReader, asyncio.StreamWriter], Coroutine[object, object, None] | None
]

DEFAULT_LIMIT: Final = 1 << 16  # asyncio's own
_SMALL: Final = 4096
"""Pieces below this are put together, so that many of them do not cost more in objects than in bytes."""


class ProvenStreamReader(asyncio.StreamReader):
    """As asyncio.StreamReader; an error of the connection is raised when all that came before it was read.

    Where a call could not get as much as it asked for, the asyncio.IncompleteReadError with the bytes that it did get
    is the cause (``__cause__``) of what is raised.
    """

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit, loop)
        self._most = limit
        self._on = loop
        self._pieces: deque[bytes | bytearray] = deque()
        self._taken = 0  # of the first piece
        self._size = 0
        self._ended = False
        self._broken: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._from: asyncio.ReadTransport | None = None
        self._resting = False

    def __repr__(self) -> str:
        end = " at its end" if self._ended else ""
        return f"<ProvenStreamReader with {self._size} bytes{end}>"

    # -- for the protocol ----------------------------------------------------------------------------------------------

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        """Whose reading is paused while more than twice the limit is held."""
        if isinstance(transport, asyncio.ReadTransport):
            self._from = transport

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """More of the stream."""
        piece = data if isinstance(data, bytes) else bytes(data)
        if not piece:
            return
        pieces = self._pieces
        if len(piece) >= _SMALL:
            pieces.append(piece)
        elif pieces and isinstance(last := pieces[-1], bytearray):
            last += piece
        else:
            pieces.append(bytearray(piece))
        self._size += len(piece)
        self._wake()
        if self._size > 2 * self._most and not self._resting and self._from is not None:
            self._resting = True
            self._from.pause_reading()

    def feed_eof(self) -> None:
        """The end of the stream, as the peer meant it or as our own close brought it."""
        self._ended = True
        self._wake()

    def set_exception(self, exc: Exception) -> None:
        """The stream ended by an error."""
        if self._broken is None and not self._ended:
            self._broken = exc
        self.feed_eof()

    # -- for the application -------------------------------------------------------------------------------------------

    def exception(self) -> Exception | None:
        """What ended the stream, as soon as that is known (StreamWriter.drain raises it)."""
        return self._broken

    def at_eof(self) -> bool:
        """Whether all was read and the end was no error."""
        return self._ended and not self._size and self._broken is None

    async def read(self, n: int = -1) -> bytes:
        """At most ``n`` bytes as soon as there are any, or all of the stream (-1); b"" only at its end."""
        if n == 0:
            return b""
        if n < 0:
            blocks = []
            while block := await self.read(self._most):
                blocks.append(block)
            return b"".join(blocks)
        while not self._size and not self._ended:
            await self._more("read")
        if not self._size and self._broken is not None:
            raise self._broken.with_traceback(None)
        return self._take(min(n, self._size))

    async def readexactly(self, n: int) -> bytes:
        """``n`` bytes; IncompleteReadError with what there was when the stream ended before."""
        if n < 0:
            raise ValueError("readexactly size can not be less than zero")
        while self._size < n:
            if self._ended:
                self._incomplete(n)
            await self._more("readexactly")
        return self._take(n)

    async def readline(self) -> bytes:
        """Up to and with the next newline, or up to the end of the stream; ValueError if that is beyond the limit."""
        try:
            return await self.readuntil(b"\n")
        except asyncio.IncompleteReadError as incomplete:
            return incomplete.partial
        except asyncio.LimitOverrunError as overrun:
            found = self._size > overrun.consumed and self._whole().startswith(b"\n", self._taken + overrun.consumed)
            self._take(overrun.consumed + 1 if found else self._size)
            raise ValueError(overrun.args[0]) from None

    async def readuntil(self, separator: _ReaduntilBuffer | tuple[_ReaduntilBuffer, ...] = b"\n") -> bytes:
        """Up to and with ``separator``, or the first of several.

        IncompleteReadError at the end of the stream; LimitOverrunError, and nothing is taken, beyond the limit.
        """
        separators = [bytes(each) for each in (separator if isinstance(separator, tuple) else (separator,))]
        if not separators or not all(separators):
            raise ValueError("Separator should be at least one-byte string")
        longest = max(map(len, separators))
        searched = 0
        while True:
            whole = self._whole()
            found = ((whole.find(each, self._taken + searched), len(each)) for each in separators)
            ends = [(at + length, -length) for at, length in found if at >= 0]
            if ends:
                end, length = min(ends)  # the shortest result, by the shortest separator
                end -= self._taken
                start = end + length
                if start > self._most:
                    raise asyncio.LimitOverrunError("Separator is found, but chunk is longer than limit", start)
                return self._take(end)
            # What comes may complete a separator that has begun at the end of what is there.
            searched = max(0, self._size + 1 - longest)
            if searched > self._most:
                raise asyncio.LimitOverrunError("Separator is not found, and chunk exceed the limit", searched)
            if self._ended:
                self._incomplete(None)
            await self._more("readuntil")

    # -- inside --------------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def _more(self, name: str) -> None:
        """Until something was fed; a transport that rests is asked for it."""
        if self._waiting is not None:
            raise RuntimeError(f"{name}() called while another coroutine is already waiting for incoming data")
        self._resume()
        self._waiting = self._on.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _resume(self) -> None:
        if self._resting and self._from is not None:
            self._resting = False
            self._from.resume_reading()

    def _whole(self) -> bytes | bytearray:
        """Everything that is held, as one piece (of which ``_taken`` bytes are gone)."""
        pieces = self._pieces
        if len(pieces) > 1:
            whole = pieces.popleft()
            if not isinstance(whole, bytearray):
                whole = bytearray(whole)
            while pieces:
                whole += pieces.popleft()
            pieces.append(whole)
        return pieces[0] if pieces else b""

    def _take(self, count: int) -> bytes:
        """The first ``count`` bytes, which are there."""
        self._size -= count
        pieces = self._pieces
        parts: list[bytes | memoryview] = []
        while count:
            first = pieces[0]
            left = len(first) - self._taken
            if left > count:
                with memoryview(first) as view:
                    parts.append(bytes(view[self._taken : self._taken + count]))
                self._taken += count
                break
            pieces.popleft()
            parts.append(first if not self._taken and isinstance(first, bytes) else memoryview(first)[self._taken :])
            self._taken = 0
            count -= left
        if self._size <= self._most:
            self._resume()
        if len(parts) == 1 and isinstance(parts[0], bytes):
            return parts[0]
        return b"".join(parts)

    def _incomplete(self, expected: int | None) -> NoReturn:
        incomplete = asyncio.IncompleteReadError(self._take(self._size), expected)
        if self._broken is not None:
            raise self._broken.with_traceback(None) from incomplete
        raise incomplete


class ProvenStreamWriter(asyncio.StreamWriter):
    """As asyncio.StreamWriter; forgetting it without close() is an abort."""

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        protocol: asyncio.StreamReaderProtocol,
        reader: asyncio.StreamReader,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(transport, protocol, reader, loop)
        self._on = loop

    def __del__(self) -> None:
        if not self.transport.is_closing():
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            if not self._on.is_closed():
                self.transport.abort()


class ProvenStreamProtocol(asyncio.StreamReaderProtocol):
    """Between a transport and a reader; ``connected`` is called with reader and writer, and is a server's."""

    def __init__(
        self, reader: ProvenStreamReader, connected: ClientConnected | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(reader, loop=loop)
        self._on = loop
        self._connected = connected
        self._until_made: ProvenStreamReader | None = None if connected is None else reader
        self._held: tuple[asyncio.StreamWriter, asyncio.Task[None] | None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell the server's application; it holds on to nothing that its connection does not."""
        super().connection_made(transport)
        reader, self._until_made = self._until_made, None
        if self._connected is None or reader is None or not isinstance(transport, asyncio.Transport):
            return
        writer = ProvenStreamWriter(transport, self, reader, self._on)
        self._held = writer, None
        handling = self._connected(reader, writer)
        if asyncio.iscoroutine(handling):
            task = self._on.create_task(handling)
            self._held = writer, task
            task.add_done_callback(lambda done: self._handled(done, transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the reader and whoever waits."""
        super().connection_lost(exc)
        self._held = None

    def _handled(self, task: asyncio.Task[None], transport: asyncio.Transport) -> None:
        """A handler that failed, or was cancelled, has not meant the end that close() would tell the peer."""
        if task.cancelled():
            transport.abort()
        elif (error := task.exception()) is not None:
            self._on.call_exception_handler(
                {
                    "message": "Unhandled exception in client_connected_cb",
                    "exception": error,
                    "transport": transport,
                }
            )
            transport.abort()
