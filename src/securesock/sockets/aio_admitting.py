"""The accepting side of ss.aio: what happens between the loop's accept and the application.

Every carrier is an ``AioAdmitting`` until both ends are proven and the client has confirmed it; only then is the
application's protocol made.  Everybody else is refused, counted under the same words as by a blocking listener, and
never seen.  The limits are those of negotiation.py, and the table of half-open connections is the same one.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from ..drivers.aio import AioLink, duplicate
from ..drivers.aio_clear import ClearGuard
from ..drivers.aio_negotiation import AioNegotiation
from ..drivers.aio_transport import SecuredTransport
from ..drivers.closing import Closing, close_now
from ..drivers.reactor import in_reactor, reactor
from ..engine.connect import accepting
from ..engine.half_open import FIRST_MESSAGE_S, HALF_OPEN, NEGOTIATION_S, HalfOpen, source_of
from ..engine.report import clear_info, secured_info
from ..errors import PeerMisbehaved, SecureSocketError
from ..wire.tcp_encapsulation import STREAM_PREFIX
from .negotiation import LAST_WORDS_S, Terms, reason_of
from .planes import stream_plane

if TYPE_CHECKING:
    from ..engine.ports import SecuredStream
    from ..engine.socket_policy import SocketPolicy
    from ..types import Address

__all__ = ["AioAdmitting", "AioDoor"]

_log: Final = logging.getLogger("securesock.listener")


class AioDoor:
    """What all carriers of one server share: its terms, the application's factory, and who was refused."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, terms: Terms, factory: Callable[[], asyncio.BaseProtocol]
    ) -> None:
        self.loop = loop
        self.terms = terms
        self.factory = factory
        self.refusals: Counter[str] = Counter()
        self.pending: set[AioAdmitting] = set()
        self.admitted: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self.closed = False

    def carrier_protocol(self) -> AioAdmitting:
        """For one carrier: the factory that the loop's own server is given."""
        return AioAdmitting(self)

    def close(self) -> None:
        """Nobody who is not in the application's hands yet will be."""
        self.closed = True
        for admitting in tuple(self.pending):
            admitting.cancel()

    def refuse(self, address: Address | None, reason: str, why: str) -> None:
        """One more that was not let in."""
        self.refusals[reason] += 1
        host, port = ("somebody", 0) if address is None else address[:2]
        _log.info("refused %s port %d (%s): %s", host, port, reason, why)


class AioAdmitting(AioNegotiation):
    """One stranger's carrier; see the module."""

    __slots__ = ("__weakref__", "_asked", "_door", "_entry", "_head", "_judged", "_peer", "_started")

    def __init__(self, door: AioDoor) -> None:
        super().__init__(door.loop)
        self._door = door
        self._asked = door.terms.asked
        self._entry: HalfOpen | None = None
        self._peer: Address | None = None
        self._started = 0.0
        self._head = b""
        self._judged = not self._asked.may_be_clear

    # -- the way in --------------------------------------------------------------------------------------------------

    def begin(self, carrier: asyncio.Transport, now: float) -> None:
        """Take a place among the half-open ones and wait for the first bytes."""
        self._started = now
        self.limit = now + FIRST_MESSAGE_S
        self._peer = carrier.get_extra_info("peername")
        if self._peer is None or self._door.closed:
            self._refuse(carrier, "carrier", "it had gone when it was accepted")
            return
        self._entry = HALF_OPEN.admit(source_of(self._peer[0]), self.evict)
        if self._entry is None:
            self._refuse(carrier, "too-many-half-open", "every place is taken by a key exchange under way")
            return
        if self._asked.policy is not None and not self._pass(self._asked.policy, carrier):
            return
        self._door.pending.add(self)

    def _pass(self, policy: SocketPolicy, carrier: asyncio.Transport) -> bool:
        """Hold the flow against policy before a byte of it is read; whether it may go on."""
        try:
            applied = policy.accepting(carrier.get_extra_info("sockname"), carrier.get_extra_info("peername"))
        except SecureSocketError as error:
            self._refuse(carrier, reason_of(error), str(error))
            return False
        self._asked = replace(self._asked, applied=applied)
        self._judged = not self._asked.may_be_clear
        return True

    def make_connection(self, carrier: asyncio.Transport, now: float) -> SecuredStream:
        """As responder."""
        terms, asked = self._door.terms, self._asked
        our: Address = carrier.get_extra_info("sockname")
        peer: Address = carrier.get_extra_info("peername")
        admission = terms.admission
        if asked.policy is not None:
            admission = asked.policy.admission(our, peer, admission)
        config = accepting(
            asked.context,
            asked.settings,
            our,
            peer,
            time() - now,
            admission,
            terms.public_addresses,
            applied=asked.applied,
        )
        connection = stream_plane(asked.context.plane).make_stream(config)
        connection.start(now)
        return connection

    def is_for_machine(self, carrier: asyncio.Transport, data: memoryview) -> bool:
        """Where clear text is allowed, bytes that cannot begin IKE are clear text at once."""
        if self._judged:
            return True
        self._head += data
        if self._head.startswith(STREAM_PREFIX):
            self._judged = True
        elif not STREAM_PREFIX.startswith(self._head):
            self._in_clear(carrier, "the peer's first bytes are not IKE")
            return False
        return True

    def spoke_ike(self, now: float) -> None:
        """Newcomers do not push it out any more, and it has time to finish."""
        if self._entry is not None and self._entry.silent:
            self._entry.speaks_ike()
            self.limit = self._started + NEGOTIATION_S

    def eof_received(self) -> bool | None:
        """An end before the beginning may be a client in clear that has nothing to say."""
        if not self._judged and not self.over:
            guard = self._in_clear(self._present(), "the peer ended its stream before it began IKE")
            return guard.eof_received() if guard is not None else None
        return super().eof_received()

    # -- the ends ----------------------------------------------------------------------------------------------------

    def established(self, carrier: asyncio.Transport, connection: SecuredStream) -> None:
        """Hand the carrier to the application."""
        establishment = connection.establishment
        if establishment is None:
            self.failed(carrier, PeerMisbehaved("the connection was established with nobody"))
            return
        self._leave()
        asked, gone = self._asked, None
        info = secured_info(asked, establishment, stream_plane(asked.context.plane).name, datetime.now(UTC))
        if asked.policy is not None:
            asked.policy.hold()
            gone = asked.policy.release
        link = AioLink(self._loop, carrier, connection, info, paused=self.paused, gone=gone)
        if asked.policy is not None and asked.applied is not None:
            link.live = asked.policy.live(asked.applied, "inbound", None, establishment, link.break_off, in_reactor)
        transport = SecuredTransport(link)
        self._door.admitted.add(transport)
        link.begin(self._door.factory(), transport)

    def _in_clear(self, carrier: asyncio.Transport, why: str) -> ClearGuard | None:
        """Go on in clear; None where policy forbids that."""
        policy = self._asked.policy
        if policy is not None:
            forbidden = policy.why_not_clear(carrier.get_extra_info("sockname"), carrier.get_extra_info("peername"))
            if forbidden is not None:
                self._refuse(carrier, reason_of(forbidden), str(forbidden))
                return None
        self.end()
        self._leave()
        guard = ClearGuard(carrier, self._door.factory(), clear_info(self._asked, why), self._head)
        if policy is not None:
            policy.hold()
            weakref.finalize(guard.transport, reactor().call, policy.release)
        self._door.admitted.add(guard.transport)
        guard.begin()
        return guard

    def failed(self, carrier: asyncio.Transport, error: Exception) -> None:
        """Counted; whoever spoke IKE is left the time to read why, and keeps its place until then."""
        entry, self._entry = self._entry, None
        self._leave()
        self._door.refuse(self._peer, reason_of(error), str(error))
        connection = self.connection
        asked = self._asked
        # of a stranger who never spoke IKE nothing is kept: he could push out what matters
        if asked.policy is not None and connection is not None and connection.peer_speaks_ike:
            our, peer = carrier.get_extra_info("sockname"), carrier.get_extra_info("peername")
            asked.policy.failed(our, peer, error, "inbound", applied=asked.applied)
        done = entry.leave if entry is not None else None
        if connection is None or not connection.peer_speaks_ike or self.paused or carrier.is_closing():
            carrier.abort()
            if done is not None:
                done()
            return
        copy = duplicate(carrier)
        carrier.abort()
        close_now(Closing(connection, copy, LAST_WORDS_S, monotonic(), done=done))

    def limit_reached(self, carrier: asyncio.Transport) -> None:
        """Two seconds to the first complete message, ten in all."""
        connection = self.connection
        if connection is not None and connection.peer_speaks_ike:
            self._refuse(carrier, "timeout", f"the key exchange took longer than {NEGOTIATION_S:g} s")
        elif not self._judged:
            self._in_clear(carrier, f"the peer did not begin IKE within {FIRST_MESSAGE_S:g} s")
        elif connection is not None:
            self._refuse(carrier, "no-first-message", f"no complete message within {FIRST_MESSAGE_S:g} s")
        else:
            self._refuse(carrier, "silent", f"no byte within {FIRST_MESSAGE_S:g} s")

    def evict(self) -> None:
        """Make room for a newcomer; from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._evicted)

    def cancel(self) -> None:
        """The server is being closed."""
        self.end()
        self._leave()
        self._present().abort()

    def _evicted(self) -> None:
        if not self.over:
            self._refuse(self._present(), "evicted", "a newcomer needed the place of one that had said nothing yet")

    def _refuse(self, carrier: asyncio.Transport, reason: str, why: str) -> None:
        self.end()
        self._leave()
        carrier.abort()
        self._door.refuse(self._peer, reason, why)

    def _leave(self) -> None:
        self._door.pending.discard(self)
        if self._entry is not None:
            self._entry.leave()
            self._entry = None
