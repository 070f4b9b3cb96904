"""The connecting side of ss.aio: from an address to a transport that is ready for the application.

The loop makes the TCP connection as it makes any other; ``AioOpening`` negotiates on it, and the application's protocol
hears of the connection only when both ends are proven.  In clear (allow_insecure) it is repeated under the same rules
as in opening.py, which are not repeated here.

Cancelling at any await leaves nothing: a carrier that is not in the application's hands yet is aborted.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import weakref
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic, time
from typing import TYPE_CHECKING, Final, TypeAlias

from ..drivers.aio import AioLink
from ..drivers.aio_clear import ClearBegin
from ..drivers.aio_negotiation import AioNegotiation
from ..drivers.aio_transport import SecuredTransport
from ..drivers.reactor import in_reactor, reactor
from ..engine.connect import connecting
from ..engine.half_open import NEGOTIATION_S
from ..engine.report import Asked, clear_info, secured_info
from ..errors import KeyingTimeout, PeerIncompatible, PeerMisbehaved, SecureSocketError
from .address_book import LocalAddress, numeric_peer
from .opening import SILENCE_S
from .planes import stream_plane

if TYPE_CHECKING:
    from ..engine.asking import ExpectedPeer
    from ..engine.ports import SecuredStream
    from ..types import Address, SecurityInfo

__all__ = ["AioOpening", "Connect", "connect_judged", "open_transport"]

Connect: TypeAlias = Callable[[Callable[[], asyncio.BaseProtocol], tuple[str, int] | None], Awaitable[object]]
"""loop.create_connection with the application's arguments, or to the (host, port) that is given."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class AioOpening(AioNegotiation):
    """Negotiates as initiator.  ``outcome`` is the application's transport, or what ended the negotiation."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, asked: Asked, expected: ExpectedPeer, protocol: asyncio.BaseProtocol
    ) -> None:
        super().__init__(loop)
        self._asked = asked
        self._expected = expected
        self._protocol = protocol
        self._started = 0.0
        self.outcome: asyncio.Future[asyncio.Transport] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self.peer: Address = ("", 0)
        self.why_clear = ""

    def begin(self, carrier: asyncio.Transport, now: float) -> None:
        """The clock runs; the first word is said by ``negotiate``, whose caller is told if that cannot be."""
        self._started = now
        self._set_limit()

    def _set_limit(self) -> None:
        self.limit = self._started + (SILENCE_S if self._asked.may_be_clear else NEGOTIATION_S)

    async def negotiate(self) -> asyncio.Transport:
        """Say the first word and wait for the outcome."""
        if not self.over and self.carrier is not None:
            if self.connection is None:
                self.connection = self.make_connection(self.carrier, self._started)
            self.advance(self.connection)
        return await self.outcome

    def make_connection(self, carrier: asyncio.Transport, now: float) -> SecuredStream:
        """As initiator, towards who is expected."""
        our, self.peer = carrier.get_extra_info("sockname"), carrier.get_extra_info("peername")
        asked = self._asked
        if asked.policy is not None:
            applied = asked.policy.connecting(our, self.peer, self._expected)
            asked = self._asked = replace(asked, applied=applied)
            self._set_limit()
        config = connecting(
            asked.context, asked.settings, self._expected, our, self.peer, time() - now, applied=asked.applied
        )
        connection = stream_plane(asked.context.plane).make_stream(config)
        connection.start(now)
        return connection

    def spoke_ike(self, now: float) -> None:
        """From here on clear text is no answer any more."""
        self.limit = self._started + NEGOTIATION_S

    def established(self, carrier: asyncio.Transport, connection: SecuredStream) -> None:
        """Hand the carrier on, unless whoever waited has gone."""
        establishment = connection.establishment
        if establishment is None:
            self.failed(carrier, PeerMisbehaved("the connection was established with nobody"))
            return
        if self.outcome.done():
            carrier.abort()
            return
        policy, applied = self._asked.policy, self._asked.applied
        if policy is not None and applied is not None:
            try:
                policy.meets(applied, "outbound", self._expected, establishment.peer)
            except SecureSocketError as error:
                connection.abort(monotonic())
                self.failed(carrier, error)
                return
        plane = stream_plane(self._asked.context.plane).name
        info = secured_info(self._asked, establishment, plane, datetime.now(UTC))
        gone = None if policy is None else policy.release
        link = AioLink(self._loop, carrier, connection, info, paused=self.paused, gone=gone)
        if policy is not None and applied is not None:
            link.live = policy.live(applied, "outbound", self._expected, establishment, link.break_off, in_reactor)
        transport = SecuredTransport(link)
        self.outcome.set_result(transport)
        link.begin(self._protocol, transport)

    def failed(self, carrier: asyncio.Transport, error: Exception) -> None:
        """Tell who waits, and whether clear text may follow."""
        if isinstance(error, PeerMisbehaved | PeerIncompatible | KeyingTimeout):
            self._may_fall_back(f"the peer does not speak IKE: {error}")
        elif isinstance(error, OSError) and not isinstance(error, SecureSocketError):
            self._may_fall_back(f"the peer's end broke before it answered IKE: {error}")
        self._end_with(carrier, error)

    def limit_reached(self, carrier: asyncio.Transport) -> None:
        """The peer was silent, or is too slow."""
        self._may_fall_back(f"the peer did not answer IKE within {SILENCE_S:g} s")
        self.end()
        text = f"{self.peer[0]} port {self.peer[1]} did not finish the key exchange within {NEGOTIATION_S:g} s"
        self._end_with(carrier, KeyingTimeout(f"{text}; does it speak IKEv2 on TCP?"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The carrier is closed."""
        super().connection_lost(exc)
        if not self.gone.done():
            self.gone.set_result(None)

    def abandon(self) -> None:
        """Nobody waits any more: whatever there is of it ends."""
        self.end()
        if not self.outcome.done():
            self.outcome.cancel()
        elif not self.outcome.cancelled() and self.outcome.exception() is None:
            self.outcome.result().abort()
        if self.carrier is not None:
            self.carrier.abort()

    def clear_info(self) -> SecurityInfo:
        """What to say of a connection that goes on in clear."""
        return clear_info(self._asked, self.why_clear)

    async def closed(self) -> None:
        """Reset the carrier, so that its address is free, and wait until it is closed."""
        if self.carrier is not None and not self.gone.done():
            self.carrier.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.carrier.abort()
            await self.gone

    def _end_with(self, carrier: asyncio.Transport, error: Exception) -> None:
        policy, applied = self._asked.policy, self._asked.applied
        if policy is not None and not self.why_clear:
            our = carrier.get_extra_info("sockname")
            policy.failed(our, self.peer, error, "outbound", expected=self._expected, applied=applied)
        carrier.close()
        if not self.outcome.done():
            # The connection keeps its own: one instance that is raised would keep its raisers' frames alive.
            self.outcome.set_exception(copy(error) if isinstance(error, SecureSocketError) else error)

    def _may_fall_back(self, why: str) -> None:
        connection = self.connection
        if self._asked.may_be_clear and (connection is None or not connection.peer_speaks_ike):
            self.why_clear = why


async def open_transport(
    connect: Connect, asked: Asked, expected: ExpectedPeer, protocol: asyncio.BaseProtocol
) -> asyncio.Transport:
    """A transport whose protocol has heard of its connection; raises what ended the attempt, and nothing is left."""
    with ExitStack() as unless_open:
        if asked.policy is not None:
            unless_open.callback(asked.policy.release)
        opening = AioOpening(asyncio.get_running_loop(), asked, expected, protocol)
        transport: asyncio.Transport | None = None
        try:
            await connect(lambda: opening, None)
            transport = await opening.negotiate()
            unless_open.pop_all()
            return transport
        except OSError:
            if not opening.why_clear:
                raise
            await opening.closed()
        finally:
            if transport is None:
                opening.abandon()
        begin = ClearBegin(protocol, opening.clear_info())
        await connect(lambda: begin, _where(opening.peer))
        if begin.transport is None:
            raise ConnectionResetError("the carrier was lost before it was made")
        if asked.policy is not None:
            # in clear nothing of ours lies between the loop and the application: the filters go with the transport
            weakref.finalize(begin.transport, reactor().call, asked.policy.release)
        unless_open.pop_all()
        return begin.transport


async def connect_judged(
    asked: Asked,
    where: tuple[str | None, int | None],
    hints: tuple[int, int, int],
    local_addr: tuple[str, int] | None,
) -> socket.socket:
    """A connected TCP socket to the first address that policy allows and that answers.

    Each address is judged before anything is sent there, which needs a socket that is bound and not connected yet.
    ``hints``: family, protocol and flags of getaddrinfo().  Raises the last error, a refusal before any other.
    """
    loop = asyncio.get_running_loop()
    family, proto, flags = hints
    found = await loop.getaddrinfo(
        where[0], where[1] or 0, family=family, type=socket.SOCK_STREAM, proto=proto, flags=flags
    )
    errors: list[OSError] = []
    for each_family, kind, each_proto, _, address in found:
        sock = socket.socket(each_family, kind, each_proto)
        with ExitStack() as unless_connected:
            unless_connected.callback(sock.close)
            try:
                sock.setblocking(False)
                peer = numeric_peer(sock, address)
                sock.bind(local_addr or _any_port(LocalAddress(sock)(peer)))
                if asked.policy is not None:
                    asked.policy.connecting(sock.getsockname(), peer, asked.expected)
                await loop.sock_connect(sock, peer)
            except OSError as error:
                errors.append(error)
                continue
            unless_connected.pop_all()
            return sock
    try:
        raise next((each for each in errors if isinstance(each, SecureSocketError)), errors[-1])
    finally:
        errors.clear()  # an error holds its frame, and the frame holds the errors


def _any_port(address: Address) -> Address:
    return (address[0], 0) if len(address) == 2 else (address[0], 0, 0, address[3])


def _where(address: Address) -> tuple[str, int]:
    """The host as getaddrinfo takes it: a link-local address needs its scope."""
    host, port = address[:2]
    return (f"{host}%{address[3]}" if len(address) == 4 and address[3] else host), port
