"""How much may wait in the kernel for a UDP socket whose application is not reading just now.

Linux's default holds 92 datagrams of 1400 bytes, or three runs that the kernel joined: a receiver that was not running
for a millisecond loses the next.  This module must not know who reads the socket, nor how.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final

__all__ = ["RECEIVE_ROOM", "ask_for_room"]

SO_BUF_LOCK: Final = 72
"""Linux 5.16: which of its buffers' sizes an application has set (asm-generic/socket.h)."""
SOCK_RCVBUF_LOCK: Final = 2
RECEIVE_ROOM: Final = 4 << 20
"""Bytes, of which Linux allows twice as many for what it counts beside the data (socket(7)): some 3,600 datagrams of
1400 bytes, or 130 full runs.  No more than net.core.rmem_max."""


def ask_for_room(kernel: socket.socket) -> None:
    """For one UDP descriptor: not where the application has said how much, nor where the kernel cannot tell."""
    with contextlib.suppress(OSError):
        if not kernel.getsockopt(socket.SOL_SOCKET, SO_BUF_LOCK) & SOCK_RCVBUF_LOCK:
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_ROOM)
