"""UDP port 500 beside a socket at 4500: where an initiator begins that was not told to begin at 4500 (RFC 7296 2.23).

Messages have no marker there, and only key exchanges begin there: an initiator that sees a translator, as we have it
see one, goes on at 4500.  The port is taken where the process may take it, and done without where not.  It must not
know what is in a message.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from ..types import Address
from ..wire.tcp_encapsulation import NON_ESP_MARKER
from ..wire.udp_encapsulation import IKE_PORT, NAT_TRAVERSAL_PORT

__all__ = ["IkePort", "open_ike_port"]

_BUFFER_SIZE: Final = 65536
MAX_SEEN: Final = 1024
"""Senders that are answered from here: as many as may be in the middle of beginning (semantics "Limits")."""


def open_ike_port(bound: socket.socket) -> socket.socket | None:
    """A non-blocking descriptor at port 500 of the same address; None where ``bound`` is not at 4500, or it may not be
    had: without privilege, or taken by somebody else."""
    address: Address = bound.getsockname()
    if address[1] != NAT_TRAVERSAL_PORT:
        return None
    with contextlib.ExitStack() as on_failure:
        found = on_failure.enter_context(socket.socket(bound.family, socket.SOCK_DGRAM))
        found.setblocking(False)
        try:
            if bound.family == socket.AF_INET6:
                only_6 = bound.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
                found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_6)
            found.bind((address[0], IKE_PORT, *address[2:]))
        except OSError:
            return None
        on_failure.pop_all()
        return found


class IkePort:
    """Who was heard there, and is answered from there."""

    def __init__(self) -> None:
        self._seen: dict[Address, None] = {}

    def marked(self, message: bytes, sender: Address) -> bytes:
        """A message as it would come at port 4500."""
        self._seen.pop(sender, None)
        if len(self._seen) >= MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        self._seen[sender] = None
        return NON_ESP_MARKER + message

    def unmarked(self, packet: bytes | bytearray | memoryview, to: Address) -> bytes | None:
        """The message, where it goes to somebody who was heard at port 500; None for what goes from port 4500."""
        if to not in self._seen or packet[: len(NON_ESP_MARKER)] != NON_ESP_MARKER:
            return None
        return bytes(packet[len(NON_ESP_MARKER) :])

    def read(self, kernel: socket.socket) -> tuple[bytes, Address] | None:
        """The next message as it would come at port 4500, None when there is none."""
        try:
            message, sender = kernel.recvfrom(_BUFFER_SIZE)
        except OSError:  # nothing there, or an ICMP message of anybody's
            return None
        return self.marked(message, sender), sender

    def send(self, kernel: socket.socket, packet: bytes | bytearray | memoryview, to: Address) -> bool:
        """Send what is to go from here; False for what is not.  What the kernel does not take is lost."""
        message = self.unmarked(packet, to)
        if message is None:
            return False
        with contextlib.suppress(OSError):
            kernel.sendto(message, to)
        return True
