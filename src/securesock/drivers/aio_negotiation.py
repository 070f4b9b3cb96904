"""One carrier of an event loop on its way to an established connection.

A BufferedProtocol that moves one machine: bytes of the carrier in, messages out, one timer for whatever comes first.
What it means that the negotiation succeeded, failed or took too long is the business of the two ends, which derive from
it.  No application data passes here; what came with the peer's last message stays in the machine for its link.

This module must not know settings, policy, or who is expected.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from time import monotonic
from typing import TYPE_CHECKING, cast

from ..engine.fork import process, refuse_inherited

if TYPE_CHECKING:
    from ..engine.ports import SecuredStream

__all__ = ["AioNegotiation"]


class AioNegotiation(asyncio.BufferedProtocol):
    """Drives ``connection`` from the TCP connection on; one of ``established`` and ``failed`` is called, once.

    ``limit`` is when ``limit_reached`` is called; it may be moved at any time before ``advance`` is called.
    """

    __slots__ = ("_generation", "_loop", "_paused", "_timer", "carrier", "connection", "limit", "over", "received")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._generation = process.generation
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self.carrier: asyncio.Transport | None = None
        self.connection: SecuredStream | None = None
        self.received = memoryview(b"")
        self.limit = 0.0
        self.over = False

    # -- what the two ends say ---------------------------------------------------------------------------------------

    @abstractmethod
    def begin(self, carrier: asyncio.Transport, now: float) -> None:
        """The TCP connection is there."""

    @abstractmethod
    def make_connection(self, carrier: asyncio.Transport, now: float) -> SecuredStream:
        """A machine, started; called when the first bytes come at the latest."""

    @abstractmethod
    def established(self, carrier: asyncio.Transport, connection: SecuredStream) -> None:
        """Both ends are proven; the carrier is handed on, to whoever is set as its protocol."""

    @abstractmethod
    def failed(self, carrier: asyncio.Transport, error: Exception) -> None:
        """It ended otherwise.  The carrier is still open unless it was the carrier that failed."""

    @abstractmethod
    def limit_reached(self, carrier: asyncio.Transport) -> None:
        """Nothing of the above came in time."""

    def spoke_ike(self, now: float) -> None:
        """The peer's first complete message was read."""

    def is_for_machine(self, carrier: asyncio.Transport, data: memoryview) -> bool:
        """Whether the first bytes are to be handed to the machine; False when the carrier went another way."""
        return True

    # -- what the carrier tells --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection is there."""
        # Loops have transports of their own, which are asyncio.Transports by their methods alone.
        carrier = self.carrier = cast(asyncio.Transport, transport)
        # Nothing but zero tells us when the transport has let go of the memory that it was given.
        carrier.set_write_buffer_limits(0, 0)
        self.begin(carrier, monotonic())
        self.set_timer()

    def get_buffer(self, sizehint: int) -> memoryview:
        """The machine's own buffer; a machine is made for those who have something to say."""
        if self._generation != process.generation:
            refuse_inherited("connection")
        connection = self.connection
        if connection is None:
            connection = self.connection = self.make_connection(self._present(), monotonic())
        self.received = connection.inbound_buffer()
        return self.received

    def buffer_updated(self, nbytes: int) -> None:
        """Handle what came."""
        received, self.received = self.received, memoryview(b"")
        connection, carrier = self.connection, self._present()
        if connection is None or self.over or not self.is_for_machine(carrier, received[:nbytes]):
            return
        connection.inbound_received(nbytes, monotonic())
        self.advance(connection)

    def eof_received(self) -> bool | None:
        """The carrier's end before ours: the machine says what that means."""
        connection = self.connection
        if connection is not None and not self.over:
            connection.inbound_received(0, monotonic())
            self.advance(connection)
        return True

    def pause_writing(self) -> None:
        """Messages are small and given away as copies: nothing has to stop."""
        self._paused = True

    def resume_writing(self) -> None:
        """See pause_writing."""
        self._paused = False

    @property
    def paused(self) -> bool:
        """Whether the carrier has said pause_writing."""
        return self._paused

    def connection_lost(self, exc: Exception | None) -> None:
        """The carrier is gone; not by our doing if nothing was decided yet."""
        if self.over:
            return
        connection = self.connection
        error = exc
        if connection is not None:
            if not connection.carrier_ended:
                connection.inbound_received(0, monotonic())
            connection.inbound_release()
            error = exc or connection.error
        self.end()
        self.failed(self._present(), error or ConnectionResetError("the peer closed the connection"))

    # -- moving on ---------------------------------------------------------------------------------------------------

    def advance(self, connection: SecuredStream) -> None:
        """Send what there is to send, and see how things stand."""
        connection.inbound_release()
        carrier = self._present()
        while (waiting := connection.outbound()) is not None:
            carrier.write(bytes(waiting))
            connection.outbound_sent(len(waiting))
        if self.over:
            return
        if connection.peer_speaks_ike:
            self.spoke_ike(monotonic())
        if connection.state == "negotiating":
            self.set_timer()
            return
        self.end()
        if connection.error is not None:
            self.failed(carrier, connection.error)
        else:
            self.established(carrier, connection)

    def end(self) -> None:
        """It is decided: nothing comes of timers any more."""
        self.over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def set_timer(self) -> None:
        """For the limit, or for the machine's deadline if that is earlier."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.over:
            due = self.connection.next_deadline() if self.connection is not None else None
            when = self.limit if due is None else min(due, self.limit)
            self._timer = self._loop.call_later(max(0.0, when - monotonic()), self._time_came)

    def _time_came(self) -> None:
        self._timer = None
        if self.over or self._generation != process.generation:
            return
        now = monotonic()
        connection = self.connection
        if now >= self.limit:
            self.limit_reached(self._present())
            return
        if connection is not None and (due := connection.next_deadline()) is not None and due <= now:
            connection.handle_timeout(now)
            self.advance(connection)
        else:
            self.set_timer()

    def _present(self) -> asyncio.Transport:
        if self.carrier is None:
            raise RuntimeError("no carrier was given to this protocol: connection_made() comes first")
        return self.carrier
