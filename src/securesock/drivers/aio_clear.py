"""A carrier of an event loop in clear, which allow_insecure permitted after the peer did not speak IKE.

The application's protocol is put on the carrier's own transport, so that nothing of ours stands in its way.  One rule
of protection is left at the accepting side: a carrier that was taken for clear text stays so.  Until the first bytes
are
known not to begin IKE they are looked at here; if they do, nothing of them is delivered and the connection ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from ..errors import ConnectionBroken
from ..wire.tcp_encapsulation import STREAM_PREFIX
from .aio_transport import ClearTransport

if TYPE_CHECKING:
    from ..types import SecurityInfo

__all__ = ["ClearBegin", "ClearGuard"]


class ClearBegin(asyncio.Protocol):
    """For a connecting end: the loop's protocol until the carrier is there; then the application's is."""

    def __init__(self, protocol: asyncio.BaseProtocol, info: SecurityInfo) -> None:
        self._protocol = protocol
        self._info = info
        self.transport: ClearTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the carrier on."""
        carrier = cast(asyncio.Transport, transport)
        self.transport = ClearTransport(carrier, self._info)
        carrier.set_protocol(self._protocol)
        self._protocol.connection_made(self.transport)


class ClearGuard(asyncio.Protocol):
    """For an accepting end.  ``head``: what was read already.  ``protocol`` is the application's."""

    def __init__(
        self, carrier: asyncio.Transport, protocol: asyncio.BaseProtocol, info: SecurityInfo, head: bytes
    ) -> None:
        self._carrier = carrier
        self._held = head
        self.ended = False
        self._reading_paused = False
        self._broken: ConnectionBroken | None = None
        self.on_guard = True
        self.protocol = protocol
        self.transport = ClearTransport(carrier, info, self)

    def begin(self) -> None:
        """Take the carrier over and tell the application of its connection."""
        self._carrier.set_protocol(self)
        self._carrier.set_write_buffer_limits()  # asyncio's own again
        self.protocol.connection_made(self.transport)
        self.look()

    def data_received(self, data: bytes) -> None:
        """Look at the first bytes."""
        self._held += data
        self.look()

    def eof_received(self) -> bool | None:
        """A stream so short that it cannot be IKE; what the application says to it is done by ``look``."""
        self.ended = True
        self.look()
        return True

    def pause_writing(self) -> None:
        """For the application."""
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        """For the application."""
        self.protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """For the application, with our reason if there is one."""
        self.protocol.connection_lost(self._broken or exc)

    def pause_reading(self) -> None:
        """What is held is held on."""
        self._reading_paused = True

    def resume_reading(self) -> None:
        """In the loop's next turn."""
        self._reading_paused = False
        asyncio.get_running_loop().call_soon(self.look)

    def look(self) -> None:
        """Decide, if that is possible, and leave the carrier to the application with what was held."""
        held = self._held
        if not self.on_guard or self._broken is not None or self._carrier.is_closing():
            return
        if held.startswith(STREAM_PREFIX):
            self._broken = ConnectionBroken(
                "the peer began IKE on a connection that was in clear by then: it is ended, nothing of it is delivered"
            )
            self._carrier.abort()
            return
        decided = self.ended or not STREAM_PREFIX.startswith(held)
        if decided and not self._reading_paused:
            self.on_guard = False
            self._carrier.set_protocol(self.protocol)
            if held:
                _deliver(self.protocol, held)
            if self.ended and not cast(asyncio.Protocol, self.protocol).eof_received():
                self._carrier.close()


def _deliver(protocol: asyncio.BaseProtocol, data: bytes) -> None:
    """Hand ``data`` to a protocol of either kind."""
    if not isinstance(protocol, asyncio.BufferedProtocol):
        cast(asyncio.Protocol, protocol).data_received(data)
        return
    rest = memoryview(data)
    while rest:
        room = memoryview(protocol.get_buffer(len(rest))).cast("B")
        count = min(len(room), len(rest))
        if not count:
            raise RuntimeError("get_buffer() returned an empty buffer")
        room[:count] = rest[:count]
        protocol.buffer_updated(count)
        rest = rest[count:]
