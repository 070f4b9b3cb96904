"""The calls of socket.socket that move bytes or set how long they may take, over a link.

A thin layer on purpose: each call checks its arguments as a socket does and hands on to the link, because a small
message costs little more than the Python steps taken here.  It must not know how a connection came to be.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from ..engine.fork import refuse_inherited
from ..errors import LocalMisuse
from .refused import RefusingSocket, check_no_flags, check_peek

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from ..types import Address
    from .opening import Link

__all__ = ["ReadableFile", "SocketCalls", "readable", "writable"]


class ReadableFile(Protocol):
    """A file opened in binary mode; one that can seek is left behind what was sent."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; b"" at the end."""
        ...


_SENDFILE_CHUNK: Final = 1 << 20  # one sendall's worth: large enough that the file's system calls do not show


class SocketCalls(RefusingSocket):
    """``_connected`` brings the link; everything here works on it."""

    __slots__ = ("_link", "_timeout")

    _link: Link | None
    _timeout: float | None

    def _connected(self) -> Link:
        """The link, after the negotiation that may still be under way; raises where there is none."""
        raise LocalMisuse("not connected")

    # -- receiving ---------------------------------------------------------------------------------------------------

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """At most ``bufsize`` bytes of the peer's stream; b"" only at its authenticated end.

        Raises StreamTruncated or ConnectionBroken after what was proven was delivered, TimeoutError, WantRead.
        """
        link = self._link or self._connected()
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        return link.recv(self, bufsize, self._timeout, bool(flags) and check_peek(flags))

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """As recv(), into ``buffer``; how many bytes."""
        link = self._link or self._connected()
        view = writable(buffer, nbytes)
        return link.recv_into(self, view, self._timeout, bool(flags) and check_peek(flags))

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Address | None]:
        """As recv(); a stream has one peer, so the address is None as for any TCP socket."""
        return self.recv(bufsize, flags), None

    def recvfrom_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Address | None]:
        """As recv_into(), with None for the address."""
        return self.recv_into(buffer, nbytes, flags), None

    def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Address | None]:
        """As recv(); no ancillary data comes out of a protected stream."""
        return self.recv(bufsize, flags), [], 0, None

    def recvmsg_into(
        self, buffers: Iterable[WriteableBuffer], ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[int, list[tuple[int, int, bytes]], int, Address | None]:
        """As recv_into(), into several buffers in turn; waits for the first byte only."""
        link = self._link or self._connected()
        peek = check_peek(flags)
        views = [view for view in (writable(each, 0) for each in buffers) if view]
        room = sum(map(len, views))
        data = link.recv(self, room, self._timeout, peek)
        rest = memoryview(data)
        for view in views:
            count = min(len(view), len(rest))
            view[:count] = rest[:count]
            rest = rest[count:]
        return len(data), [], 0, None

    def pending(self) -> int:
        """Bytes that are opened already: recv() returns them without waiting and without the carrier."""
        link = self._link
        return 0 if link is None else link.pending()

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        """Seal and send; how many bytes were sealed, which may be less than all.

        They are on their way in order, but a non-blocking socket may have to keep the rest of the last packet:
        ``want_write`` says so, and any later call sends it first.
        """
        link = self._link or self._connected()
        if flags:
            check_no_flags(flags)
        return link.send(self, data if type(data) is bytes else readable(data), self._timeout)

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        """Seal and send all of ``data``.  After a TimeoutError it is over: nobody knows how much arrived."""
        link = self._link or self._connected()
        if flags:
            check_no_flags(flags)
        link.sendall(self, data if type(data) is bytes else readable(data), self._timeout)

    def sendmsg(
        self,
        buffers: Iterable[ReadableBuffer],
        ancdata: Iterable[tuple[int, int, ReadableBuffer]] = (),
        flags: int = 0,
        address: tuple[object, ...] | str | ReadableBuffer | None = None,
        /,
    ) -> int:
        """As send(), of several buffers in turn.  LocalMisuse for ancillary data, flags and an address."""
        if list(ancdata):
            raise LocalMisuse("ancillary data would leave the protection: send it as data, or over a local socket")
        if address is not None:
            raise LocalMisuse("a connected stream has one peer: leave the address out")
        return self.send(b"".join(buffers), flags)

    def sendto(self, data: ReadableBuffer, flags_or_address: object, address: object = None, /) -> int:
        """Refused: a stream is connected to one peer."""
        raise LocalMisuse("a connected stream has one peer: use send() or sendall()")

    def send_batch(self, batch: Sequence[ReadableBuffer], address: Address | None = None) -> int:
        """Refused: a stream has no datagrams."""
        raise LocalMisuse("batches are of datagrams: use sendmsg(), which seals several buffers as one stream")

    def recv_batch(self, max_datagrams: int) -> list[tuple[bytes, Address]]:
        """Refused: a stream has no datagrams."""
        raise LocalMisuse("batches are of datagrams: use recv() with a large size")

    def sendfile(self, file: ReadableFile, offset: int = 0, count: int | None = None) -> int:
        """Seal and send a file opened in binary mode, from ``offset``, at most ``count`` bytes; how many were sent.

        The file's position is moved behind what was sent, also after an error.  ValueError for a text file, a count
        that is not positive, and a non-blocking socket.
        """
        if "b" not in getattr(file, "mode", "b"):
            raise ValueError("file should be opened in binary mode")
        if count is not None and count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
        if self._timeout == 0:
            raise ValueError("non-blocking sockets are not supported")
        seek: Callable[[int], object] | None = getattr(file, "seek", None)
        if offset and seek is not None:
            seek(offset)
        sent = 0
        try:
            while count is None or sent < count:
                chunk = file.read(_SENDFILE_CHUNK if count is None else min(_SENDFILE_CHUNK, count - sent))
                if not chunk:
                    break
                self.sendall(chunk)
                sent += len(chunk)
        finally:
            if sent and seek is not None:
                seek(offset + sent)
        return sent

    @property
    def want_write(self) -> bool:
        """Whether sealed bytes still wait for the carrier: wait until it is writable and call send(b"")."""
        link = self._link
        if link is None:
            return False
        if link.inherited:
            refuse_inherited("connection")
        return link.want_write

    # -- time ----------------------------------------------------------------------------------------------------------

    def settimeout(self, value: float | None, /) -> None:
        """Seconds for each call, None to wait for ever, 0 never to wait.  The carrier itself never blocks."""
        if value is not None:
            value = float(value)
            if not value >= 0:
                raise ValueError("Timeout value out of range")
        self._timeout = value

    def gettimeout(self) -> float | None:
        """As settimeout() set it."""
        return self._timeout

    @property
    def timeout(self) -> float | None:
        """As gettimeout()."""
        return self._timeout

    def setblocking(self, flag: bool, /) -> None:
        """settimeout(None) or settimeout(0)."""
        self._timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        """Whether a call may wait at all."""
        return self._timeout != 0

    def get_inheritable(self) -> bool:
        """Always False: see set_inheritable()."""
        descriptor = socket.socket.fileno(self)
        if sys.platform == "win32":
            return os.get_handle_inheritable(descriptor)
        return os.get_inheritable(descriptor)


def readable(data: ReadableBuffer) -> memoryview:
    """The bytes of an application's buffer."""
    view = memoryview(data)
    return view if view.format == "B" and view.ndim == 1 and view.contiguous else view.cast("B")


def writable(buffer: WriteableBuffer, nbytes: int) -> memoryview:
    """Room for ``nbytes`` bytes (0: all there is) in an application's buffer."""
    view = memoryview(buffer)
    if view.readonly:
        raise TypeError("a writable buffer is needed")
    if view.format != "B" or view.ndim != 1:
        view = view.cast("B")
    if nbytes < 0:
        raise ValueError("negative buffersize in recv_into")
    if nbytes > len(view):
        raise ValueError("buffer too small for requested bytes")
    return view[:nbytes] if nbytes else view
