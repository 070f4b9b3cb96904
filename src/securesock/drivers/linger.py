"""SO_LINGER, in the shape that each system gives it: how long close() waits, and how to reset instead.

It must not know what is carried.
"""

from __future__ import annotations

import _socket
import contextlib
import os
import socket
import struct
from typing import Final

__all__ = ["LINGER_S", "close_at_once", "linger_of", "reset", "reset_on_close"]

LINGER_S: Final = 2.0
"""How long close() waits for the peer's end when SO_LINGER says nothing."""

_LINGER: Final = struct.Struct("hh" if os.name == "nt" else "ii")  # struct linger: winsock2.h, socket(7)
_OFF: Final = _LINGER.pack(0, 0)
_RESET: Final = _LINGER.pack(1, 0)


def linger_of(carrier: _socket.socket) -> float:
    """Seconds that close() may linger: 2, or what SO_LINGER says; 0 asks for a reset, as for any TCP socket."""
    onoff, seconds = _LINGER.unpack(carrier.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size))
    return float(seconds) if onoff else LINGER_S


def reset_on_close(carrier: _socket.socket) -> None:
    """Have the system's close() send a reset.  One that the peer has reset already may refuse options: never mind."""
    with contextlib.suppress(OSError):
        _socket.socket.setsockopt(carrier, socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def reset(carrier: _socket.socket) -> None:
    """Close with a TCP reset; nothing waits."""
    reset_on_close(carrier)
    carrier.close()


def close_at_once(carrier: _socket.socket) -> None:
    """Close; what the kernel holds still goes out.

    With SO_LINGER the system's close() would wait, even for a non-blocking descriptor: we have waited before.
    """
    with contextlib.suppress(OSError):
        carrier.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _OFF)
    carrier.close()
