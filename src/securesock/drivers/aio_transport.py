"""What an application holds: the transports of asyncio, over a secured link or over a carrier in clear.

Both are thin.  ``SecuredTransport`` hands every call to its link; ``ClearTransport`` hands every call to the carrier's
own transport and adds only what SecurityInfo says of it.  Neither decides anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from ..errors import LocalMisuse

if TYPE_CHECKING:
    from ..engine.live_flows import PolicyChange
    from ..policy import Explanation, Subscription
    from ..types import SecurityInfo
    from .aio import AioLink, JudgedFlow
    from .aio_clear import ClearGuard

__all__ = ["ClearTransport", "Data", "SecuredTransport"]

Data: TypeAlias = bytes | bytearray | memoryview


class SecuredTransport(asyncio.Transport):
    """The application's end of a secured connection; see asyncio.Transport for every method.

    ``get_extra_info``: "security" is the SecurityInfo as it stands now; "socket", "peername", "sockname" are the
    carrier's.
    """

    __slots__ = ("__weakref__", "_link")

    def __init__(self, link: AioLink) -> None:
        super().__init__()
        self._link = link

    def __repr__(self) -> str:
        peer = self.get_extra_info("peername")
        return f"<SecuredTransport to {peer} {'closing' if self.is_closing() else 'open'}>"

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Of "security", "socket", "peername", "sockname"; ``default`` for anything unknown."""
        if name == "security":
            return self._link.security()
        return self._link.carrier.get_extra_info(name, default)

    def watch_policy(self, callback: Callable[[PolicyChange], object] | None = None) -> Subscription[PolicyChange]:
        """As SecureSocket.watch_policy(): ``callback`` is called by a daemon thread, outside the loop."""
        return self._judged().subscribe(callback)

    def explain_policy(self) -> tuple[Explanation, ...]:
        """As SecureSocket.explain_policy()."""
        return self._judged().explain()

    def _judged(self) -> JudgedFlow:
        if self._link.live is None:
            raise LocalMisuse("no filtering platform judges this connection: it has to be made under policy=...")
        return self._link.live

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The application's protocol."""
        return self._link.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Deliver to another protocol from now on."""
        self._link.set_protocol(protocol)

    def is_closing(self) -> bool:
        """Whether the connection is being closed, or is over."""
        return self._link.closing

    def close(self) -> None:
        """Send what was written and the authenticated end of the stream, then end; connection_lost(None) follows.

        Nothing that was written is lost if the peer goes on reading: the carrier is kept, outside the loop, until the
        peer has ended its side too or its time (2 s, or SO_LINGER) is over.
        """
        self._link.close()

    def abort(self) -> None:
        """End at once: the peer sees an authenticated reset, what waited to be sent is lost."""
        self._link.abort()

    def is_reading(self) -> bool:
        """Whether data is delivered at the moment."""
        return self._link.is_reading()

    def pause_reading(self) -> None:
        """Deliver nothing until ``resume_reading``; at most 1 MiB is kept meanwhile, then the peer has to wait.

        Only a connection that ends by an error while there is something to send delivers the rest all the same,
        right before connection_lost.
        """
        self._link.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again, from the loop's next turn on."""
        self._link.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When pause_writing and resume_writing are called, in bytes that wait to be sent."""
        self._link.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high)."""
        return self._link.write_buffer_limits

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent, sealed or not."""
        return self._link.write_buffer_size()

    def write(self, data: Data) -> None:
        """Seal and send ``data``, or keep it until that is possible; never waits.

        After the end of the connection it is discarded, as by every transport of asyncio.  RuntimeError after
        write_eof(), LocalMisuse in a process that inherited the connection by fork.
        """
        self._link.write(data)

    def writelines(self, list_of_data: Iterable[Data]) -> None:
        """The same for several pieces, as one."""
        self._link.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Send the authenticated end of our stream after what was written; receiving goes on."""
        self._link.write_eof()

    def can_write_eof(self) -> bool:
        """True: each direction ends for itself."""
        return True


class ClearTransport(asyncio.Transport):
    """The carrier's own transport, for a connection in clear that allow_insecure permitted.

    ``guard`` stands before the application's protocol as long as it is the carrier's.
    """

    __slots__ = ("__weakref__", "_carrier", "_guard", "_info")

    def __init__(self, carrier: asyncio.Transport, info: SecurityInfo, guard: ClearGuard | None = None) -> None:
        super().__init__()
        self._carrier = carrier
        self._info = info
        self._guard = guard

    def __repr__(self) -> str:
        return f"<ClearTransport over {self._carrier!r}>"

    def get_extra_info(self, name: str, default: object = None) -> object:
        """For "security" one that says secured=False and why; everything else is the carrier's."""
        return self._info if name == "security" else self._carrier.get_extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The application's protocol."""
        guard = self._guard
        return guard.protocol if guard is not None and guard.on_guard else self._carrier.get_protocol()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Deliver to another protocol from now on."""
        if self._guard is not None and self._guard.on_guard:
            self._guard.protocol = protocol
        else:
            self._carrier.set_protocol(protocol)

    def is_closing(self) -> bool:
        """As the carrier."""
        return self._carrier.is_closing()

    def close(self) -> None:
        """As the carrier."""
        self._carrier.close()

    def abort(self) -> None:
        """As the carrier."""
        self._carrier.abort()

    def is_reading(self) -> bool:
        """As the carrier."""
        return self._carrier.is_reading()

    def pause_reading(self) -> None:
        """As the carrier."""
        self._carrier.pause_reading()
        if self._guard is not None:
            self._guard.pause_reading()

    def resume_reading(self) -> None:
        """As the carrier."""
        if self._guard is not None:
            self._guard.resume_reading()
        if self._guard is None or not self._guard.ended:  # some loops would read the end once more
            self._carrier.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As the carrier."""
        self._carrier.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """As the carrier."""
        return self._carrier.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """As the carrier."""
        return self._carrier.get_write_buffer_size()

    def write(self, data: Data) -> None:
        """As the carrier."""
        self._carrier.write(data)

    def writelines(self, list_of_data: Iterable[Data]) -> None:
        """As the carrier."""
        self._carrier.writelines(list_of_data)

    def write_eof(self) -> None:
        """As the carrier."""
        self._carrier.write_eof()

    def can_write_eof(self) -> bool:
        """As the carrier."""
        return self._carrier.can_write_eof()
