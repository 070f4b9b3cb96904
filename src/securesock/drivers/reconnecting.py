"""A connected UDP descriptor whose own address has changed: the kernel is made to choose again.

connect(2) fixes the local address of a UDP socket as well as the peer's.  When that address goes, the kernel refuses to
send, and to connect again, until the association is dissolved: connect() with the family AF_UNSPEC, for which Python
has no call.  It must not know why an address changed, nor what is sent.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from ..types import Address

__all__ = ["FROM_THE_PATH", "NO_WAY", "reconnect"]

NO_WAY: Final = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL)
"""What the kernel says when it has no way from our address to the peer's."""
FROM_THE_PATH: Final = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNRESET)
"""What an ICMP message of anybody makes the kernel say: no reason to end anything, and reported instead of the call."""

_NOWHERE: Final = bytes(28)
"""A sockaddr of family AF_UNSPEC, as long as the longest that is looked at (sockaddr_in6)."""


def reconnect(kernel: socket.socket, peer: Address) -> bool:
    """Connect anew from whatever address leads to ``peer`` now, and from the same port; whether that was possible.

    A socket that was bound to one address keeps it.  False where the system cannot do it, or has no way to ``peer``:
    then the socket is as it was, or not connected.
    """
    if os.name != "posix":
        return False
    try:
        import ctypes  # slow to load, and few sockets meet an address that changes
    except ImportError:
        return False  # the process sees its files no more

    port = kernel.getsockname()[1]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.connect(kernel.fileno(), _NOWHERE, len(_NOWHERE) if kernel.family == socket.AF_INET6 else 16)
    try:
        if kernel.getsockname()[1] != port:
            kernel.bind(("", port))  # a port that the kernel had chosen went with the association
        kernel.connect(peer)
    except OSError:
        return False
    return True
