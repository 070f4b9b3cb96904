"""The client's way from an address to a usable connection: TCP, the negotiation, and what may follow if it fails.

One object per connect(), moved on by ``advance`` without waiting, so that blocking and non-blocking sockets share it.
Until it is done nothing of the application's is sent.

In clear (allow_insecure) a connection is repeated only if the peer gave no sign of IKE: before a well-formed answer to
our first message it was silent for two seconds, closed, reset, or sent bytes that are not this framing.  After one such
answer, and for every error that is ours, never.  An attacker on the path can always cause this: that is what
allow_insecure means.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic, time
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from ..drivers.blocking import StreamLink
from ..drivers.clear import ClearLink
from ..drivers.linger import reset_on_close
from ..drivers.negotiating import advance
from ..drivers.system_errors import system_error
from ..drivers.waiting import WRITE
from ..engine.connect import connecting
from ..engine.half_open import NEGOTIATION_S
from ..engine.report import Asked, clear_info, secured_info
from ..errors import KeyingTimeout, LocalMisuse, PeerIncompatible, PeerMisbehaved
from .address_book import LocalAddress, numeric_peer
from .planes import stream_plane

if TYPE_CHECKING:
    from ..engine.ports import SecuredStream
    from ..engine.socket_policy import SocketPolicy
    from ..types import Address, SecurityInfo

__all__ = ["Link", "Opened", "Opening", "SocketOptions", "is_connected"]

Link: TypeAlias = StreamLink | ClearLink
SocketOptions: TypeAlias = Mapping[tuple[int, int], tuple[int | bytes | None, int]]
"""What the application set, by level and name: the value, and the length where the value is None."""

SILENCE_S: Final = 2.0
"""How long a peer may be silent before allow_insecure takes it for one that does not speak IKE."""


class Opened(NamedTuple):
    """A connection that may be used, and what to say about it."""

    link: Link
    info: SecurityInfo
    asked: Asked


class Opening:
    """``carrier`` is the application's own socket, non-blocking; it is handed in so that no cycle keeps it alive."""

    __slots__ = ("_asked", "_bound", "_carrier_is_up", "_connection", "_options", "_peer", "_started", "_why")

    def __init__(self, asked: Asked, options: SocketOptions, *, bound: bool) -> None:
        self._asked = asked
        self._options = options
        self._bound = bound
        self._peer: Address | None = None
        self._carrier_is_up = False
        self._connection: SecuredStream | None = None
        self._started = 0.0
        self._why = ""

    def begin(self, carrier: socket.socket, address: tuple[object, ...]) -> None:
        """Start the TCP connection; the system's own errors pass.  PolicyRefused before anything is sent."""
        if self._asked.policy is not None:
            address = self._judge(self._asked.policy, carrier, address)
        _begin_connect(carrier, address)

    def advance(self, carrier: socket.socket, now: float) -> Opened | int:
        """As far as it goes without waiting: the result, or what to wait for.  Raises what ended it."""
        if not self._carrier_is_up:
            if not is_connected(carrier):
                return WRITE
            self._carrier_is_up = True
            if not self._why:
                self._start(carrier, now)
        if self._why:
            return Opened(ClearLink(guarded=False), clear_info(self._asked, self._why), self._asked)
        try:
            return self._negotiate(carrier, now)
        except OSError as error:
            self._report(carrier, error)
            raise

    def _report(self, carrier: socket.socket, error: OSError) -> None:
        asked = self._asked
        if asked.policy is not None and self._peer is not None:
            asked.policy.failed(
                carrier.getsockname(), self._peer, error, "outbound", expected=asked.expected, applied=asked.applied
            )

    def deadline(self) -> float | None:
        """When ``advance`` has something to do even if the carrier is not ready."""
        connection = self._connection
        if connection is None or self._why:
            return None
        limits = [self._started + NEGOTIATION_S]
        if self._may_fall_back(connection):
            limits.append(self._started + SILENCE_S)
        due = connection.next_deadline()
        if due is not None:
            limits.append(due)
        return min(limits)

    # -- policy ------------------------------------------------------------------------------------------------------

    def _judge(self, policy: SocketPolicy, carrier: socket.socket, address: tuple[object, ...]) -> tuple[object, ...]:
        """Hold the flow against policy while nobody has heard of it; the numeric address that was judged.

        The flow is known when its own end is: the carrier is bound now, where the system would do it a moment later.
        """
        peer = numeric_peer(carrier, address)
        if not self._bound:
            ours = LocalAddress(carrier)(peer)
            _socket.socket.bind(carrier, (ours[0], 0, *ours[2:]))
            self._bound = True
        applied = policy.connecting(carrier.getsockname(), peer, self._asked.expected)
        self._asked = replace(self._asked, applied=applied)
        return peer

    # -- the negotiation -----------------------------------------------------------------------------------------------

    def _start(self, carrier: socket.socket, now: float) -> None:
        self._peer = carrier.getpeername()
        config = connecting(
            self._asked.context,
            self._asked.settings,
            self._asked.expected,
            carrier.getsockname(),
            carrier.getpeername(),
            time() - now,
            applied=self._asked.applied,
        )
        self._connection = stream_plane(self._asked.context.plane).make_stream(config)
        self._started = now
        self._connection.start(now)

    def _negotiate(self, carrier: socket.socket, now: float) -> Opened | int:
        connection = self._connection
        if connection is None:
            raise LocalMisuse("the negotiation was not begun")
        try:
            wanted = advance(connection, carrier, now)
        except OSError as error:
            if not self._may_fall_back(connection):
                raise
            return self._repeat_in_clear(carrier, f"the peer's end broke before it answered IKE: {error}")
        if connection.state == "established":
            if wanted:
                return wanted
            return self._established(connection)
        if wanted and now >= self._started + SILENCE_S and self._may_fall_back(connection):
            return self._repeat_in_clear(carrier, f"the peer did not answer IKE within {SILENCE_S:g} s")
        if wanted and now < self._started + NEGOTIATION_S:
            return wanted
        failure = connection.error
        if failure is None:
            raise KeyingTimeout(
                f"the peer did not finish the key exchange within {NEGOTIATION_S:g} s; does it speak IKEv2 on TCP?"
            )
        if isinstance(failure, (PeerMisbehaved, PeerIncompatible, KeyingTimeout)) and self._may_fall_back(connection):
            return self._repeat_in_clear(carrier, f"the peer does not speak IKE: {failure}")
        raise copy(failure)

    def _established(self, connection: SecuredStream) -> Opened:
        establishment = connection.establishment
        if establishment is None:
            raise PeerMisbehaved("the connection was established with nobody")
        asked = self._asked
        if asked.policy is not None and asked.applied is not None:
            asked.policy.meets(asked.applied, "outbound", asked.expected, establishment.peer)
        plane = stream_plane(asked.context.plane).name
        info = secured_info(asked, establishment, plane, datetime.now(UTC))
        return Opened(StreamLink(connection), info, asked)

    # -- in clear, if that is allowed ----------------------------------------------------------------------------------

    def _may_fall_back(self, connection: SecuredStream) -> bool:
        return self._asked.may_be_clear and not connection.peer_speaks_ike

    def _repeat_in_clear(self, carrier: socket.socket, why: str) -> Opened | int:
        """The same descriptor number, options and bound address, another TCP connection, and no IKE on it."""
        bound = carrier.getsockname() if self._bound else None
        peer = self._peer or carrier.getpeername()
        _replace_descriptor(carrier)
        for (level, name), (value, length) in self._options.items():
            if value is None:
                carrier.setsockopt(level, name, None, length)
            else:
                carrier.setsockopt(level, name, value)
        if bound is not None:
            _socket.socket.bind(carrier, bound)
        self._why = why
        self._carrier_is_up = False
        _begin_connect(carrier, peer)
        return self.advance(carrier, monotonic())


def _replace_descriptor(carrier: socket.socket) -> None:
    """Put an unconnected socket in the place of this one; the old connection is reset, so that its address is free."""
    reset_on_close(carrier)
    number = _socket.socket.fileno(carrier)
    replacement = _socket.socket(carrier.family, carrier.type, carrier.proto)
    if os.name == "nt":
        # Windows has no dup2 for sockets: there the object stays and the number changes.
        _socket.close(number)
        _socket.socket.__init__(carrier, carrier.family, carrier.type, carrier.proto, replacement.detach())
    else:
        with_number = os.dup2(replacement.fileno(), number, inheritable=False)
        replacement.close()
        if with_number != number:
            raise OSError(errno.EBADF, "the descriptor could not be replaced")
    _socket.socket.settimeout(carrier, 0.0)


def _begin_connect(carrier: _socket.socket, address: tuple[object, ...]) -> None:
    error = _socket.socket.connect_ex(carrier, address)
    if error and error not in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR):
        raise system_error(error)


def is_connected(carrier: _socket.socket) -> bool:
    """Whether a connect() that was begun is over; raises how it failed."""
    error = carrier.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise system_error(error)
    try:
        _socket.socket.getpeername(carrier)
    except OSError as not_yet:
        if not_yet.errno not in (errno.ENOTCONN, errno.EINVAL):
            raise
        return False
    return True
