"""What passes on the way to a peer: the kernel's knowledge of paths, and what the application said about fragments.

Asked of the kernel with a socket that sends nothing.  It must not know what is sent.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final, Protocol

from ..types import Address

__all__ = ["UNKNOWN_PATH", "KernelPath", "Path"]

# linux/in.h and linux/in6.h: the numbers are the kernel's interface; the socket module names not all of them
IP_MTU_DISCOVER: Final = 10
IP_MTU: Final = 14
IPV6_MTU_DISCOVER: Final = 23
IPV6_MTU: Final = 24
PMTUDISC_DO: Final = 2
_UNTOLD: Final = 1500
"""Ethernet's, where the kernel does not say: the kernel cuts the outer packet then, if it has to."""
_KNOWN_S: Final = 1.0
"""How long an answer of the kernel's is used: when it learns of a narrower path, no more than that is lost on it."""
_MOST_KNOWN: Final = 1024


class Path(Protocol):
    """The way to the peers of one socket."""

    def mtu(self, carrier: Address, now: float) -> int:
        """The longest IP packet that passes to ``carrier`` uncut."""
        ...

    def is_cutting_forbidden(self) -> bool:
        """Whether the application asked for IP_PMTUDISC_DO."""
        ...


class _Unknown:
    """Nothing is known."""

    def mtu(self, carrier: Address, now: float) -> int:
        return _UNTOLD

    def is_cutting_forbidden(self) -> bool:
        return False


UNKNOWN_PATH: Final[Path] = _Unknown()


class KernelPath:
    """What the kernel knows.  ``bound`` is the socket that speaks."""

    __slots__ = ("_bound", "_known")

    def __init__(self, bound: socket.socket) -> None:
        self._bound = bound
        self._known: dict[Address, tuple[float, int]] = {}

    def mtu(self, carrier: Address, now: float) -> int:
        """See Path; 1500 where the kernel does not say."""
        until, found = self._known.get(carrier, (0.0, 0))
        if now >= until:
            found = self._ask(carrier)
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[carrier] = now + _KNOWN_S, found
        return found

    def _ask(self, carrier: Address) -> int:
        ipv4 = self._bound.family == socket.AF_INET or carrier[0].startswith("::ffff:")
        level, option = (socket.IPPROTO_IP, IP_MTU) if ipv4 else (socket.IPPROTO_IPV6, IPV6_MTU)
        with contextlib.suppress(OSError), socket.socket(self._bound.family, socket.SOCK_DGRAM) as probe:
            probe.connect(carrier)
            return probe.getsockopt(level, option)
        return _UNTOLD

    def is_cutting_forbidden(self) -> bool:
        """See Path; False where the kernel has no such option."""
        ipv4 = self._bound.family == socket.AF_INET
        level, option = (socket.IPPROTO_IP, IP_MTU_DISCOVER) if ipv4 else (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER)
        with contextlib.suppress(OSError):
            return self._bound.getsockopt(level, option) == PMTUDISC_DO
        return False
