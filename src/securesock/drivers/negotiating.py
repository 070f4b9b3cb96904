"""Moves a negotiation forward as far as its carrier allows without waiting.

The same few steps serve a blocking connect(), a non-blocking do_handshake() and the listeners' thread: each calls
``advance`` whenever the descriptor is ready or a deadline came, and waits in its own way in between.  No application
data passes here.  Whoever calls is the only one who knows the connection, so no locks are taken.

It must not know who waits, nor what is done with a connection that failed.
"""

from __future__ import annotations

import _socket
import socket
from typing import TYPE_CHECKING, Final

from .waiting import READ, WRITE

if TYPE_CHECKING:
    from ..engine.ports import SecuredStream

__all__ = ["DONTWAIT", "advance", "carrier_failed", "flush"]

_recv_into: Final = _socket.socket.recv_into
_send: Final = _socket.socket.send
DONTWAIT: Final = int(getattr(socket, "MSG_DONTWAIT", 0))
"""A call with this flag never waits, whatever the descriptor's mode; 0 where there is none, and the mode decides."""


def advance(connection: SecuredStream, carrier: _socket.socket, now: float) -> int:
    """Send, read and handle what can be without waiting; what to wait for (READ | WRITE), 0 when it is over.

    Over means: established and everything sent, or failed, with a reply to the peer sent as far as the carrier took it.
    OSError: the carrier's own, unchanged, unless the peer had said before why it ended; the connection then counts the
    carrier as ended.
    """
    deadline = connection.next_deadline()
    if deadline is not None and deadline <= now and connection.state == "negotiating":
        connection.handle_timeout(now)
    try:
        flushed = _exchange(connection, carrier, now)
    except OSError:
        explained = connection.state != "negotiating"
        carrier_failed(connection, now)
        if explained:
            return 0
        raise
    if connection.state == "negotiating":
        return READ if flushed else READ | WRITE
    if connection.state == "established" and not flushed:
        return WRITE
    return 0


def _exchange(connection: SecuredStream, carrier: _socket.socket, now: float) -> bool:
    """Write and read until one of them would wait; whether everything was written."""
    broken: OSError | None = None
    flushed = True
    while True:
        try:
            flushed = flush(connection, carrier)
        except OSError as error:
            # The peer may have closed after its last words: read them before complaining.
            broken = error
        if connection.state != "negotiating" or not _read(connection, carrier, now):
            break
    if broken is not None:
        raise broken
    return flushed


def flush(connection: SecuredStream, carrier: _socket.socket) -> bool:
    """Hand ``outbound()`` to the carrier; False when it would have to wait.  OSError passes."""
    try:
        while (waiting := connection.outbound()) is not None:
            connection.outbound_sent(_send(carrier, waiting, DONTWAIT))
    except BlockingIOError:
        return False
    return True


def carrier_failed(connection: SecuredStream, now: float) -> None:
    """Tell the connection that nothing more will come of its carrier."""
    if not connection.carrier_ended:
        connection.inbound_received(0, now)
    connection.inbound_release()


def _read(connection: SecuredStream, carrier: _socket.socket, now: float) -> bool:
    """One read; False when there was nothing."""
    try:
        count = _recv_into(carrier, connection.inbound_buffer())
    except BlockingIOError:
        return False
    else:
        connection.inbound_received(count, now)
        return True
    finally:
        connection.inbound_release()
